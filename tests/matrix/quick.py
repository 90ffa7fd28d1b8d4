"""The cases of every CI run: each a few seconds under each side."""

import pathlib
import re
import socket
import threading
import time

from . import inputs
from .engine import ROOT, case, children, find

SOURCES = ROOT / "tests" / "programs"


@case("bash", ["bash"])
def bash(run):
    run("bash", SOURCES / "long.sh", status=3)


@case("sort", ["sort"])
def sort(run):
    run("sort", "--parallel=4", "-S", "40M", "-k3,3", "-T", ".", "-o", "sorted", inputs.words(48))
    run.keep("sorted")


@case("gzip", ["gzip"])
def gzip(run):
    # -n: no name and no time in the file
    run("gzip", "-n", "-6", "-c", inputs.words(16))
    run("bash", "-c", f"gzip -n -1 -c {inputs.words(48)} >packed.gz && gzip -d -k packed.gz")
    run.keep("packed.gz", "packed")


@case("xz", ["xz"])
def xz(run):
    run(
        "bash", "-c", f"xz -T2 -1 --block-size=2MiB -c {inputs.words(8)} >packed.xz && xz -T2 -d -k packed.xz"
    )
    run.keep("packed.xz", "packed")


@case("zstd", ["zstd"])
def zstd(run):
    run("zstd", "-q", "-T2", "-9", inputs.words(48), "-o", "packed.zst")
    run("zstd", "-q", "-d", "packed.zst", "-o", "packed")
    run.keep("packed.zst", "packed")


@case("tar", ["tar", "xz"])
def tar(run):
    tree = inputs.tree(1500)
    same = ["tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0"]
    run(*same, "-cf", "tree.tar", "-C", tree.parent, tree.name)
    run("tar", "-xvf", "tree.tar")
    run(*same, "-cJf", "small.tar.xz", f"{tree.name}/dir1", f"{tree.name}/dir2")
    run("tar", "-tvf", "small.tar.xz")
    run.keep("tree.tar", "small.tar.xz")


@case("python3", ["python3"])
def python3(run):
    for malloc in ("malloc", "pymalloc"):
        run("python3", SOURCES / "work.py", env={"PYTHONMALLOC": malloc, "PYTHONHASHSEED": "0"})


# What python's own tests print about this machine and this moment.
MOMENTS = [
    (r"^\d+:\d\d:\d\d load avg: [\d.]+ ", ""),
    (r"^(Total duration|Total tests|Duration): .*\n", ""),
    (r"\d+ ms|\d+\.\d+ sec", "so long"),
    (r"passed in [\d.]+.*", "passed"),
    (r"Using random seed: \d+|-r\d+", ""),
    (r"pid=\d+|0x[0-9a-f]{6,}", ""),
]


def python_tests(run, *modules):
    """The interpreter's own test modules. Debian's package lacks some: the python3 that has most is asked."""
    pythons = [find("python3"), *another_python()]
    have = {p: run.beside(p, "-c", HAVE, *modules, compare=False).decode().split() for p in pythons}
    python = max(pythons, key=lambda p: len(have[p]))
    run.note("modules this python3 does not have", sorted(set(modules) - set(have[python])))
    environment = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}
    # That one fails under glibc, too, in some builds of 3.11.
    ignored = ["-i", "test_import_from_another_thread"]
    run(python, "-m", "test", "-u", "none", *ignored, *have[python], env=environment, forget=MOMENTS)


HAVE = (
    "import importlib.util, sys\n"
    "for name in sys.argv[1:]:\n"
    "    if importlib.util.find_spec('test') and importlib.util.find_spec('test.' + name): print(name)\n"
)


def another_python():
    return sorted(pathlib.Path.home().glob(".pyenv/versions/3*/bin/python3"))


@case("python3's own tests", ["python3"], note="times")
def python3_tests(run):
    python_tests(run, "test_json", "test_dict", "test_gc", "test_bytes")


@case("perl", ["perl"])
def perl(run):
    run("perl", SOURCES / "work.pl", env={"PERL_HASH_SEED": "0", "PERL_PERTURB_KEYS": "0"})


@case("lua", ["lua5.4"])
def lua(run):
    run("lua5.4", SOURCES / "work.lua")


@case("node", ["node"])
def node(run):
    run("node", SOURCES / "work.js")


@case("gcc builds Lua", ["gcc", "ar"])
def gcc(run):
    source = inputs.crate("lua-src") / "lua-5.4.8"
    build = (
        'for f in "$0"/*.c; do echo "$f"; done | xargs -P 2 -n 4 gcc -O1 -g -w -DLUA_USE_POSIX -c && '
        'ar rcD liblua.a l*.o && gcc -O1 -o lua -I "$0" "$1" liblua.a -lm -ldl'
    )
    run("bash", "-c", build, source, SOURCES / "lua_main.c")
    run.keep("liblua.a", "lua")
    run(run.dir / "lua", SOURCES / "work.lua")


@case("g++", ["g++"])
def gxx(run):
    run("g++", "-std=c++17", "-O1", "-w", "-S", "-o", "-", SOURCES / "heavy.cpp")


@case("git", ["git"])
def git(run):
    run("bash", SOURCES / "git.sh")


@case("sqlite3", ["sqlite3"])
def sqlite3(run):
    run("sqlite3", "-batch", "data", stdin=SOURCES / "work.sql")
    script = run.write("more.sql", MORE_SQL)
    run("sqlite3", "-batch", ":memory:", stdin=script)


MORE_SQL = """
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, size INT, note TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 120000)
INSERT INTO item SELECT i, 'name' || (i * 7919 % 100003), i * 31 % 1000, hex(i * 65537) FROM n;
CREATE INDEX by_name ON item(name, size);
SELECT size, count(*), length(group_concat(name, ',')) FROM item GROUP BY size ORDER BY 2 DESC, 1 LIMIT 3;
SELECT count(*) FROM item a JOIN item b ON a.name = b.name AND a.id < b.id;
UPDATE item SET note = note || name || upper(note) WHERE size % 3 = 0;
SELECT count(DISTINCT substr(note, 1, 6)), sum(length(note)) FROM item;
SELECT json_group_array(name) FROM (SELECT name FROM item ORDER BY note DESC LIMIT 50);
DELETE FROM item WHERE size % 2; VACUUM; PRAGMA integrity_check; SELECT count(*) FROM item;
"""


def redis_content():
    """Commands whose outcome does not depend on chance."""
    for i in range(1, 6001):
        yield f"set key:{i} {str(i).rjust(i % 500 + 1, '0')}"
        yield f"rpush list:{i % 50} {i} {i * 7} {i * 11}"
        yield f"hset hash:{i % 40} f{i} v{i * 3}"
        yield f"zadd zset:{i % 30} {i * 31 % 1009} m{i}"
        if i % 3 == 0:
            yield f"del key:{i // 2}"
        if i % 7 == 0:
            yield f"append key:{i} tail"


@case("redis", ["redis-server", "redis-benchmark", "redis-cli"], note="what redis-benchmark measures")
def redis(run, requests=12_000):
    def cli(*words, **options):
        return run.beside("redis-cli", "-s", "socket", *words, **options)

    def ready():
        return (run.dir / "socket").exists() and b"PONG" in cli("ping", compare=False)

    def snapshot():
        cli("bgsave", compare=False)
        while b"rdb_bgsave_in_progress:1" in cli("info", "persistence", compare=False):
            time.sleep(0.05)
        saved = re.search(rb"rdb_last_bgsave_status:\w+", cli("info", "persistence", compare=False))
        run.note("snapshot", saved.group().decode() if saved else "none")

    options = [
        "--port",
        0,
        "--unixsocket",
        "socket",
        "--dir",
        run.dir,
        "--save",
        "",
        "--appendonly",
        "no",
        "--io-threads",
        2,
        "--enable-debug-command",
        "yes",
        "--daemonize",
        "no",
    ]
    stop = lambda: cli("shutdown", "nosave", compare=False)
    with run.server("redis-server", *options, ready=ready, stop=stop, overrule=True):
        load = threading.Thread(target=snapshots_under, args=[run, snapshot])
        load.start()
        run.beside(
            "redis-benchmark",
            "-s",
            "socket",
            "-q",
            "-n",
            requests,
            "-c",
            20,
            "-P",
            8,
            "-r",
            5000,
            "-d",
            200,
            "-t",
            "set,get,incr,lpush,lpop,sadd,hset,zadd,lrange_100",
            compare=False,
        )
        load.join()
        cli("flushall")
        cli(data="\n".join(redis_content()).encode())
        for words in (["debug", "digest"], ["dbsize"]):
            cli(*words)
        snapshot()
    with run.server("redis-server", *options, ready=ready, stop=stop, overrule=True):
        cli("debug", "digest")
        cli("eval", "local t = {} for i = 1, 20000 do t[i] = tostring(i) end return #table.concat(t)", 0)


def snapshots_under(run, snapshot):
    """In a thread of its own: a failure is the run's."""
    try:
        for _ in range(3):
            snapshot()
    except Exception as error:  # noqa: BLE001 - whatever it is, the case has failed
        run.trouble.append(f"snapshot under load: {error}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    def ready():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return ready


NGINX = """
user root; worker_processes 2; daemon off; pid nginx.pid; error_log error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off; gzip on; gzip_min_length 100; gzip_types text/plain application/octet-stream;
    client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
    server {{ listen 127.0.0.1:{port}; root content;
        location /through/ {{ proxy_pass http://127.0.0.1:{port}/; }}
        location /list/ {{ alias content/; autoindex on; autoindex_exact_size on; }} }}
}}
"""


@case("nginx", ["nginx", "wrk"], note="what wrk measures")
def nginx(run, seconds=1):
    port = free_port()
    run.write("nginx.conf", NGINX.format(port=port))
    for number in range(40):
        run.write(f"content/file{number}.txt", "".join(f"line {i} of {number}\n" for i in range(number * 97)))
    # QUIT: workers end what they are at, then in order
    with run.server(
        "nginx", "-p", run.dir, "-c", "nginx.conf", "-e", "error.log", ready=answers(port), stop=3
    ) as pid:
        until = time.monotonic() + 20
        while len(children(pid)) < 2 and time.monotonic() < until:  # it listens before it has them
            time.sleep(0.02)
        run.note("workers", len(children(pid)))
        base = f"http://127.0.0.1:{port}"
        for path in ("/file39.txt", "/through/file38.txt"):
            said = run.beside(
                "wrk",
                "-t",
                2,
                "-c",
                20,
                "-d",
                seconds,
                "-H",
                "Accept-Encoding: gzip",
                base + path,
                compare=False,
            ).decode()
            # A timeout is a busy machine's.
            good = re.search(r"Socket errors: (?!connect 0, read 0, write 0,)|Non-2xx", said) is None
            run.check(good and "requests in" in said, f"wrk: {said}")
        for number in range(0, 40, 3):
            for place in ("", "through/"):
                run.beside(
                    "python3", "-c", FETCH, f"{base}/{place}file{number}.txt", forget=[(f":{port}", "")]
                )
    log = (run.dir / "error.log").read_text()
    run.note(
        "complaints",
        [line for line in log.splitlines() if "[alert]" in line or "[crit]" in line or "signal" in line],
    )


FETCH = (
    "import hashlib, sys, urllib.request as u, zlib\n"
    "r = u.urlopen(u.Request(sys.argv[1], headers={'Accept-Encoding': 'gzip'}))\n"
    "b = r.read()\n"
    "b = zlib.decompress(b, 47) if r.headers['Content-Encoding'] else b\n"
    "print(r.status, r.headers['Content-Type'], len(b), hashlib.sha256(b).hexdigest())\n"
)


@case("memcached", ["memcached"])
def memcached(run, rounds=60):
    port = free_port()
    options = ["-u", "root", "-l", "127.0.0.1", "-p", port, "-U", 0, "-t", 4, "-m", 64]
    with run.server("memcached", *options, ready=answers(port)):
        found = [None] * 4
        clients = [threading.Thread(target=memcached_client, args=[port, i, rounds, found]) for i in range(4)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        for i, what in enumerate(found):
            run.note(f"client {i}", what)


def memcached_client(port, seed, rounds, found):
    """Sets, gets, appends, deletes keys of its own; then says what is there. New connections in between."""
    alive = {}
    try:
        for turn in range(rounds):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
                stream = link.makefile("rwb")
                for i in range(100):
                    key, size = f"k{seed}-{i * 7919 % 300}", (turn * 131 + i * 17) % 6000
                    value = bytes([65 + (turn + i) % 26]) * size
                    stream.write(b"set %s 0 0 %d noreply\r\n%s\r\n" % (key.encode(), size, value))
                    alive[key] = value
                    if i % 5 == 0:
                        gone = f"k{seed}-{(i + turn) % 300}"
                        stream.write(b"delete %s noreply\r\n" % gone.encode())
                        alive.pop(gone, None)
                for key in list(alive)[:: 1 + turn % 7]:
                    stream.write(b"get %s\r\n" % key.encode())
                    stream.flush()
                    head = stream.readline()
                    if (
                        head != b"VALUE %s 0 %d\r\n" % (key.encode(), len(alive[key]))
                        or stream.read(len(alive[key])) != alive[key]
                    ):
                        raise ValueError(f"{key}: {head!r}")
                    stream.readline(), stream.readline()
        found[seed] = f"{len(alive)} keys, all as they were set"
    except (OSError, ValueError) as error:
        found[seed] = f"failed: {error}"


@case("valgrind --tool=none", ["valgrind", "python3"], note="process ids")
def valgrind(run):
    forget = [(r"^==\d+== ?", "")]
    script = (
        "import threading, json\n"
        "work = lambda: json.loads(json.dumps(list(range(20000))))\n"
        "t = [threading.Thread(target=work) for _ in range(4)]\n"
        "[x.start() for x in t]; [x.join() for x in t]; print(sum(range(1000)))"
    )
    run(
        "valgrind",
        "-q",
        "--tool=none",
        find("python3"),
        "-S",
        "-c",
        script,
        env={"PYTHONMALLOC": "malloc"},
        forget=forget,
    )
    run(
        "valgrind",
        "-q",
        "--tool=none",
        find("perl"),
        "-e",
        "my %h; $h{$_ % 997} .= 'x' x ($_ % 60) for 1..20000; print scalar(keys %h), qq(\\n)",
        forget=forget,
    )
