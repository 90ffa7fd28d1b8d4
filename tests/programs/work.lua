-- What lua does with memory: tables, strings, closures, coroutines, the collector. It prints the same under
-- every allocator.
local function lcg(seed)
    return function(n)
        seed = (seed * 1103515245 + 12345) % 2147483648
        return seed % n + 1
    end
end
local random = lcg(42)
local words, count = {}, {}
for i = 1, 60000 do
    local word = "w" .. random(5000) .. ("x"):rep(random(30))
    words[#words + 1] = word
    count[word] = (count[word] or 0) + 1
end
table.sort(words)
local parts = {}
for word, n in pairs(count) do parts[#parts + 1] = word .. "=" .. n end
table.sort(parts)
local text = table.concat(parts, ",")
print(#text, text:sub(1000, 1060))
local replaced = text:gsub("w(%d+)x*=(%d+)", function(a, b) return b .. ":" .. a end)
print(#replaced, replaced:sub(-60))
local function tree(depth) return depth == 0 and {} or { tree(depth - 1), tree(depth - 1), depth = depth } end
local function size(t) return t[1] and 1 + size(t[1]) + size(t[2]) or 1 end
local total = 0
for _ = 1, 12 do total = total + size(tree(14)) end
print(total)
local weak = setmetatable({}, { __mode = "v" })
for i = 1, 20000 do weak[i] = { i, tostring(i) } end
collectgarbage()
collectgarbage()
print(next(weak))
local producers = {}
for i = 1, 300 do
    producers[i] = coroutine.wrap(function()
        for j = 1, 50 do coroutine.yield((tostring(i * j)):rep(5)) end
    end)
end
local bytes = 0
for _ = 1, 50 do
    for _, produce in ipairs(producers) do bytes = bytes + #produce() end
end
print(bytes)
local s = ""
for i = 1, 3000 do s = s .. i .. ";" end
print(#s, s:sub(-20))
