"""Language runtimes that bring a world of their own (collectors, coroutines, plug-ins, signal handlers), and
programs with something else in the process: an interposed clock, a debugger. `heavy` where the packages are
large."""

import os
import pathlib

from .engine import TARGET, case, find
from .heavy import answered

PHP = r"""<?php
error_reporting(E_ALL);
for ($i = 0; $i < 60000; $i++) { $words["k" . md5((string) $i)] = str_repeat(chr(97 + $i % 26), $i % 200); }
ksort($words);
echo count($words), " ", md5(implode(",", $words)), "\n";
echo mb_strtoupper("größer"), " ", preg_replace_callback('/\d+/', fn($m) => $m[0] * 2, "a1b22c333"), "\n";
$document = new DOMDocument();
$root = $document->appendChild($document->createElement("r"));
for ($i = 0; $i < 3000; $i++) {
    $root->appendChild($document->createElement("e", "t$i"))->setAttribute("n", (string) $i);
}
echo md5($document->saveXML()), " ", (new DOMXPath($document))->query("//e[@n mod 7 = 3]")->length, "\n";
$base = new PDO("sqlite::memory:");
$base->exec("create table t (a integer, b text)");
$insert = $base->prepare("insert into t values (?, ?)");
for ($i = 0; $i < 5000; $i++) { $insert->execute([$i % 97, "row $i"]); }
$groups = $base->query("select a, count(*), max(b) from t group by a order by a limit 5");
echo json_encode($groups->fetchAll(PDO::FETCH_NUM)), "\n";
function numbers() { for ($i = 0; $i < 20000; $i++) { yield [$i, "x$i"]; } }
echo array_sum(array_map(fn($pair) => strlen($pair[1]), iterator_to_array(numbers()))), "\n";
class Node { public ?Node $other = null; public string $text = ""; }
for ($i = 0; $i < 30000; $i++) {
    $a = new Node(); $b = new Node(); $a->other = $b; $b->other = $a; $a->text = str_repeat("n", $i % 50);
}
echo gc_collect_cycles() >= 0 ? "collected" : "", "\n";
$collator = new Collator("de_DE");
$list = ["Zebra", "Äpfel", "apfel", "ähnlich"];
$collator->sort($list);
echo implode(" ", $list), "\n";
"""


@case("php with extensions", ["php"], note="addresses")
def php(run):
    run("php", "-m")
    run("php", run.write("work.php", PHP))


FAKED = """
import queue, threading, time
assert time.gmtime().tm_year == 2020, time.gmtime()
line, done = queue.Queue(), []
def work(n):
    while (item := line.get()) is not None:
        words = [str(3 * i) for i in range(item)]
        done.append((item, len("".join(words)) > item, time.gmtime().tm_year))
threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 5)]
for t in threads: t.start()
for i in range(400): line.put(i * 7 + 1)
for _ in threads: line.put(None)
for t in threads: t.join()
print(sorted(done)[:5], len(done), {year for _, _, year in done})
"""


@case("faketime before threads", ["faketime", "python3"])
def faketime(run):
    # -m: the library for programs with threads. It joins what is preloaded already. No wait with a time
    # limit: those it breaks itself.
    run("faketime", "-m", "2020-02-03 04:05:06", find("python3"), run.write("faked.py", FAKED))


SLEEPER = """
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void *churn(void *p) {
    for (;;) {
        char *block = malloc(1 + rand() % 5000);
        memset(block, 1, 1);
        free(block);
        usleep(100);
    }
    return p;
}
int main(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, churn, NULL);
    free(malloc(100));
    fclose(fopen("ready", "w"));
    for (;;) pause();
}
"""


@case("gdb attaching", ["gdb", "cc"], note="process ids, addresses")
def gdb(run):
    run.beside("cc", "-g", "-pthread", "-o", "sleeper", run.write("sleeper.c", SLEEPER))
    ready = (run.dir / "ready").exists
    with run.server(run.dir / "sleeper", ready=ready, stop=lambda: None, status=-9) as pid:
        settings = ["set print thread-events off", "set width 0", "set confirm off"]
        asks = ['print (int)strlen("abcdef")', 'print $_strlen("abc")', 'print *(char (*)[6])strdup("hello")']
        script = run.write("ask.gdb", "\n".join([*settings, *asks, "info threads", "kill"]))
        said = run.beside("gdb", "-nx", "-q", "-batch", "-p", pid, "-x", script, compare=False)
        said = said.decode(errors="replace")
        run.note("what gdb says", [line for line in said.splitlines() if line.startswith("$")])
    # The debugger itself, in C++ and Python, with the library in it and in what it debugs.
    python = "python print(len(gdb.selected_inferior().threads()), sum(range(10**6)))"
    asks = ["break churn", "run", asks[0], "info line main", "ptype struct _IO_FILE", python, "kill"]
    commands = [word for ask in asks for word in ("-ex", ask)]
    forget = [(r"0x[0-9a-f]+", "0x"), (r"process \d+|LWP \d+", "")]
    run("gdb", "-nx", "-q", "-batch", *commands, run.dir / "sleeper", forget=forget)


RUBY = """
require "digest"
results = (1..6).map do |i|
  reader, writer = IO.pipe
  child = fork do
    reader.close
    threads = (1..4).map { |j| Thread.new { (1..3000).map { |k| "#{i}-#{j}-#{k}" * (k % 7) }.join } }
    writer.write(Digest::SHA256.hexdigest(threads.map(&:value).join))
    writer.close
    grandchild = fork { Thread.new { Array.new(20_000) { |k| k.to_s }.sort }.join; exit!(7) }
    exit!(Process.wait2(grandchild)[1].exitstatus)
  end
  Thread.new { 5000.times.map { |k| { k => k.to_s } } }
  writer.close
  [reader.read, Process.wait2(child)[1].exitstatus]
end
puts results.map(&:inspect)
puts `echo child of a shell`, system("true").inspect
fiber = Fiber.new { 10_000.times { |k| Fiber.yield("f#{k}") }; nil }
puts 10_000.times.sum { fiber.resume.size }
def deep(n) = deep(n + 1) + 1
begin
  deep(0)
rescue SystemStackError
  puts "caught an overflow"
end
GC.start
GC.compact if GC.respond_to?(:compact)
puts ObjectSpace.respond_to?(:count_objects)
"""


@case("ruby with fork and threads", ["ruby"], heavy=True, rounds=2)
def ruby(run):
    run("ruby", run.write("forks.rb", RUBY))


PANDAS = """
import concurrent.futures, io
import numpy as np, pandas as pd
r = np.random.default_rng(1)
names = [f"s{i % 977}" for i in range(200_000)]
d = pd.DataFrame({"k": r.integers(0, 100, 200_000), "v": r.integers(0, 10**6, 200_000), "s": names})
print(d.groupby("k").v.agg(["sum", "max", "count"]).head())
print(d.merge(d.groupby("s").v.max().rename("m"), on="s").m.sum())
print(d.pivot_table(index="k", columns=d.v % 5, values="v", aggfunc="max").sum().to_string())
text = d.head(50_000).to_csv()
print(pd.read_csv(io.StringIO(text)).v.sum(), d.s.str.upper().str.replace("S1", "x").nunique())
def work(seed):
    a = np.random.default_rng(seed).integers(0, 50, (300, 300))
    return int((a @ a.T).trace()), int(np.sort(a, axis=None)[::1000].sum()), np.unique(a @ a).size
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(list(pool.map(work, range(12))))
m = np.random.default_rng(3).random((400, 400))
print(np.allclose(np.linalg.inv(m) @ m, np.eye(400)), np.linalg.matrix_rank(m))
minutes = pd.date_range("2020-01-01", periods=100_000, freq="min")
print(minutes.tz_localize("UTC").tz_convert("Europe/Berlin")[-1])
"""


@case("numpy with pandas", ["python3"], heavy=True, rounds=2)
def pandas(run):
    run("python3", run.write("work.py", PANDAS))


GO = """
package main

/*
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
static char *twice(const char *s) {
    size_t n = strlen(s);
    char *p = malloc(2 * n + 1);
    memcpy(p, s, n);
    memcpy(p + n, s, n + 1);
    return p;
}
static void *run(void *p) {
    for (int i = 0; i < 1000; i++) free(malloc(i * 3 + 1));
    return p;
}
static int threads(int n) {
    int done = 0;
    for (int i = 0; i < n; i++) {
        pthread_t t;
        void *r;
        if (pthread_create(&t, 0, run, &t) == 0 && pthread_join(t, &r) == 0) done += r == &t;
    }
    return done;
}
*/
import "C"

import (
    "fmt"
    "os/exec"
    "strings"
    "sync"
    "unsafe"
)

func main() {
    var wait sync.WaitGroup
    sums := make([]int, 32)
    for g := range sums {
        wait.Add(1)
        go func(g int) {
            defer wait.Done()
            for i := 0; i < 2000; i++ {
                s := C.CString(strings.Repeat("x", (g*i)%500))
                t := C.twice(s)
                sums[g] += len(C.GoString(t))
                C.free(unsafe.Pointer(s))
                C.free(unsafe.Pointer(t))
            }
            sums[g] += int(C.threads(5))
        }(g)
    }
    wait.Wait()
    out, err := exec.Command("echo", "child").Output()
    fmt.Println(sums, string(out), err)
}
"""


@case("Go with cgo", ["go", "cc"], heavy=True, rounds=2)
def go(run):
    environment = {"GOCACHE": TARGET / "go", "GO111MODULE": "off", "CGO_ENABLED": 1, "HOME": run.dir}
    run.beside("go", "build", "-o", "program", run.write("main.go", GO), env=environment, compare=False)
    run(run.dir / "program")


SQL = """
create table t (i int primary key, m char(32), g int, index (m), index (g)) engine=InnoDB;
insert into t select seq, md5(seq), seq % 1000 from seq_1_to_100000;
select g, count(*), max(m), length(group_concat(m)) from t group by g order by g limit 20;
select count(*), sum(a.i) from t a join t b on a.m = b.m and b.g < 100;
create table u engine=Aria select m, json_object('i', i, 'g', g) as j from t where g < 50;
select md5(group_concat(j order by m)), count(*) from u;
update t set m = reverse(m) where g % 3 = 0;
delete from t where g % 5 = 1;
select count(*), md5(max(m)), sum(crc32(m)) from t;
alter table t add column s varchar(100) default 'x', add fulltext (s);
select table_name, engine from information_schema.tables where table_schema = 'test' order by 1;
"""


# No space in the name: its script does not quote.
@case(
    "MariaDB",
    ["mariadbd", "mariadb", "mysqlslap", "mariadb-install-db"],
    heavy=True,
    rounds=1,
    note="what mysqlslap measures",
)
def mariadb(run):
    data, socket = run.dir / "data", pathlib.Path(f"/tmp/rcumalloc-matrix-{os.getpid()}.sock")
    own = ["--no-defaults", f"--datadir={data}", f"--socket={socket}"]
    new = ["--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"]
    run.beside("mariadb-install-db", *own[:2], *new, compare=False)
    client = ["--no-defaults", f"--socket={socket}", "-u", "root"]
    options = [
        "--user=root",
        "--skip-networking",
        f"--pid-file={run.dir / 'pid'}",
        "--innodb-buffer-pool-size=64M",
        "--innodb-flush-log-at-trx-commit=0",
        "--group-concat-max-len=10000000",
        "--thread-handling=pool-of-threads",
    ]
    try:
        ping = ["mariadb-admin", *client, "ping"]
        with run.server("mariadbd", *own, *options, ready=lambda: answered(run, ping)):
            load = ["--concurrency=8", "--auto-generate-sql", "--number-of-queries=4000"]
            mixed = [
                "--auto-generate-sql-load-type=mixed",
                "--number-char-cols=4",
                "--number-int-cols=3",
                "--auto-generate-sql-add-autoincrement",
            ]
            run.beside("mysqlslap", *client, *load, *mixed, compare=False)
            run.beside("mariadb", *client, "-e", "create database test", compare=False)
            # The client is a program of its own, and runs under this side, too.
            work = run.write("work.sql", SQL)
            run("mariadb", *client, "-t", "test", stdin=work, forget=[(r"^.*sock.*$", "")])
            run.beside("mysqlslap", *client, *load, "--auto-generate-sql-load-type=read", compare=False)
    finally:
        socket.unlink(missing_ok=True)


R = """
set.seed(1)
m <- matrix(sample(1:50, 90000, TRUE), 300)
print(sum(m %*% t(m)))
l <- lapply(1:30000, function(i) paste0("a", i, collapse = "-"))
print(length(unique(unlist(l))))
d <- data.frame(g = sample(letters, 50000, TRUE), v = sample(1000, 50000, TRUE))
print(head(aggregate(v ~ g, d, sum)))
print(coef(summary(lm(mpg ~ wt + hp, mtcars))))
s <- strsplit(paste(rep("the quick brown fox", 5000), collapse = " "), " ")[[1]]
print(sort(table(s)))
f <- function(n) if (n < 2) n else f(n - 1) + f(n - 2)
print(f(18))
for (i in 1:20) { x <- numeric(1e6); x[i] <- i }
print(gsub("([a-z]+)([0-9]+)", "\\\\2\\\\1", l[[12345]]))
p <- parallel::mclapply(1:4, function(i) sum(sort(sample(1e5))), mc.cores = 2)
print(unlist(p))
r <- tryCatch(f2 <- (function(n) sys.function()(n + 1))(1), error = function(e) "deep")
print(r)
print(nchar(capture.output(print(1:2000))[100]))
"""


@case("GNU R", ["Rscript"], heavy=True, rounds=2)
def r(run):
    run("Rscript", "--vanilla", run.write("work.R", R))


OCTAVE = """
a = magic(150); printf("%d %d\\n", trace(a), rank(a));
x = cellfun(@(x) sprintf("%d", x), num2cell(1:5000), "UniformOutput", false);
printf("%d\\n", numel(strjoin(x, ",")));
s = struct(); for i = 1:3000, s.(sprintf("f%d", i)) = ones(1, mod(i, 50)); end
printf("%d\\n", sum(structfun(@numel, s)));
m = containers.Map(); for i = 1:2000, m(sprintf("k%d", mod(i * 7919, 1009))) = i; end
printf("%d %d\\n", m.Count, m("k7"));
b = sparse(1:1000, mod((1:1000) * 7, 1000) + 1, 1:1000); printf("%d %d\\n", nnz(b * b'), full(sum(sum(b))));
c = regexprep(repmat("ab12 ", 1, 2000), '([a-z]+)(\\d+)', '$2$1'); printf("%d %s\\n", numel(c), c(1:10));
try, zeros(1e6, 1e6, 1e3); catch e, disp(e.identifier); end
try, ones(1e5, 1e5)(1); catch e, disp(e.message); end
function r = f(n), if n < 2, r = n; else r = f(n - 1) + f(n - 2); end, end
printf("%d\\n", f(12));
"""


@case("Octave", ["octave-cli"], heavy=True, rounds=2)
def octave(run):
    run("octave-cli", "--no-init-file", "--no-history", run.write("work.m", "1;\n" + OCTAVE))


ERLANG = """
-module(work).
-export([main/0]).
tree(0) -> leaf;
tree(N) -> {node, N, tree(N - 1), tree(N - 1)}.
count(leaf) -> 1;
count({node, _, L, R}) -> count(L) + count(R).
main() ->
    Self = self(),
    Work = fun(I) -> Self ! {self(), count(tree(12)), erlang:phash2(lists:seq(1, I * 100))} end,
    Pids = [spawn(fun() -> Work(I) end) || I <- lists:seq(1, 200)],
    io:format("~p~n", [lists:sum([receive {P, C, H} -> C + H end || P <- Pids])]),
    T = ets:new(t, [public, {write_concurrency, true}]),
    Row = fun(W, I) -> {{W, I}, <<I:32, 0:(I rem 700)/unit:8>>} end,
    Write = fun(W) -> [ets:insert(T, Row(W, I)) || I <- lists:seq(1, 3000)] end,
    Writers = [spawn_monitor(fun() -> Write(W) end) || W <- lists:seq(1, 8)],
    [receive {'DOWN', R, process, _, normal} -> ok end || {_, R} <- Writers],
    io:format("~p ~p~n", [ets:info(T, size), erlang:md5(term_to_binary(lists:sort(ets:tab2list(T))))]),
    B = binary:copy(<<"0123456789">>, 300000),
    io:format("~p ", [byte_size(zlib:uncompress(zlib:compress(B)))]),
    io:format("~p~n", [length(binary:matches(B, <<"789">>))]),
    io:format("~s", [os:cmd("echo child")]),
    ets:delete(T),
    halt(0).
"""


@case("Erlang", ["erl", "erlc"], heavy=True, rounds=2)
def erlang(run):
    run.write("work.erl", ERLANG)
    run("erlc", "work.erl", env={"HOME": run.dir})
    run("erl", "-noshell", "-s", "work", "main", env={"HOME": run.dir})
