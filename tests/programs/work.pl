# What perl does with memory. Prints the same everywhere.
use strict;
use warnings;
my $seed = 42;
sub next_number { $seed = ($seed * 1103515245 + 12345) % 2147483648; return $seed; }
my (%count, @list);
for my $i (1 .. 60000) {
    my $key = sprintf "k%05d", next_number() % 7000;
    push @{$count{$key}}, $i;
    push @list, join '-', map { $_ % 97 } $i .. $i + 3;
}
my $sum = 0;
for my $key (sort keys %count) { $sum = ($sum * 31 + @{$count{$key}}) % 1000000007; }
print "hash $sum\n";
my $text = join ' ', @list;
my $changed = ($text =~ s/(\d+)-(\d+)/$2+$1/g);
$text =~ tr/0-9/a-j/;
print "text ", length $text, " $changed ", unpack('%32C*', $text), "\n";
my @sorted = sort { length $a <=> length $b || $a cmp $b } @list;
print "sorted $sorted[0] $sorted[-1] $sorted[20000]\n";
my @closures = map { my $n = $_; sub { return $n * shift } } 1 .. 20000;
my $total = 0;
$total += $closures[$_]->($_) for 0 .. $#closures;
print "closures $total\n";
my %tree;
for my $i (1 .. 20000) {
    my $node = \%tree;
    $node = $node->{$_} ||= {} for split //, $i;
}
sub depth {
    my $n = shift;
    my $d = 0;
    for (values %$n) { my $e = 1 + depth($_); $d = $e if $e > $d }
    return $d;
}
print "tree ", depth(\%tree), "\n";
undef %tree;
my $string = '';
for my $i (1 .. 200000) {
    $string .= chr(65 + $i % 26);
    $string = substr $string, 50000 if length $string > 100000;
}
print "string ", length $string, "\n";
local $_ = 'x' x 3_000_000;
print "large ", tr/x//, "\n";
if (my $pid = fork) {
    waitpid $pid, 0;
    print "child $?\n";
} else {
    my @a = map { "a$_" } 1 .. 10000;
    exit(@a == 10000 ? 0 : 1);
}
