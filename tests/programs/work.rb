# What ruby does with memory: strings, hashes, objects, threads, fibers, the collector. Prints the same
# everywhere.
require "digest"
require "json"
require "zlib"

seed = 42
random = ->(n) { (seed = (seed * 1103515245 + 12345) % 2147483648) % n }
words = Array.new(60_000) { "w#{random.(5000)}#{"x" * random.(30)}" }
puts Digest::SHA256.hexdigest(words.tally.sort.map { |word, n| "#{word}=#{n}" }.join(","))
document = (1..5000).to_h { |i| ["k#{i}", [i, i / 7.0, { "v" => "t" * (i % 50) }, nil, true]] }
text = JSON.generate(document)
unpacked = Zlib::Inflate.inflate(Zlib::Deflate.deflate(text, 6))
raise "not what was packed" unless JSON.parse(unpacked) == document
puts Digest::SHA256.hexdigest(text)
Node = Struct.new(:value, :links)
total = 0
20.times do
  nodes = Array.new(3000) { Node.new(random.(1000), []) }
  nodes.each { |node| 3.times { node.links << nodes[random.(3000)] } }
  total += nodes.sum { |node| node.links.sum(&:value) }
end
GC.start
puts total
threads = (1..8).map { |t| Thread.new { (1..2000).map { |i| (i * t).to_s * (i % 40) }.sum(&:length) } }
puts threads.map(&:value).inspect
fibers = (1..300).map { |f| Fiber.new { 20.times { |i| Fiber.yield("#{f * i}" * 9) } } }
puts 20.times.sum { fibers.sum { |fiber| fiber.resume.length } }
200.times { Thread.new { "z" * 100_000 }.join }
puts IO.popen(["echo", "a child"], &:read)
