"""The cases of --full: what takes long, or needs packages too large for every CI run."""

import os
import pathlib
import pwd
import shutil

from . import inputs, quick
from .engine import Failed, Missing, case
from .quick import SOURCES, python_tests


@case("sort of 1 GB", ["sort"], heavy=True, rounds=1)
def sort(run):
    run("sort", "--parallel=4", "-S", "400M", "-T", ".", "-o", "sorted", inputs.words(1000))
    run.keep("sorted")


@case("more of python3's own tests", ["python3"], heavy=True, rounds=0, note="times")
def python3_tests(run):
    python_tests(
        run,
        *"""test_re test_threading test_sqlite3 test_set test_list test_unicode test_collections test_heapq
        test_generators test_descr test_functools test_itertools test_pickle test_copy test_weakref
        test_memoryview test_array test_struct test_zlib test_bz2 test_lzma test_hashlib test_thread
        test_threading_local test_queue test_ast test_compile test_fork1 test_mmap test_ctypes""".split(),
    )


@case("ruby", ["ruby"], heavy=True)
def ruby(run):
    run("ruby", SOURCES / "work.rb")


@case("gcc builds SQLite", ["gcc"], heavy=True, rounds=1)
def gcc(run):
    source = inputs.crate("libsqlite3-sys") / "sqlite3" / "sqlite3.c"
    run("gcc", "-O1", "-g", "-w", "-DSQLITE_THREADSAFE=2", "-c", source, "-o", "sqlite3.o")
    run.keep("sqlite3.o")


@case("g++ builds HarfBuzz", ["g++"], heavy=True, rounds=1)
def gxx(run):
    source = inputs.crate("harfbuzz-sys") / "harfbuzz" / "src" / "harfbuzz.cc"
    run("g++", "-std=c++17", "-O1", "-w", "-DHAVE_PTHREAD=1", "-c", source, "-o", "harfbuzz.o")
    run.keep("harfbuzz.o")


MAIN_RS = """
fn main() {
    let words = regex::Regex::new(r"\\b(\\w)(\\w*)\\b").unwrap();
    let text = (0..20000).map(|i: u64| format!("word{} ", i * 7919 % 10007)).collect::<String>();
    let threads = (0..4).map(|t| { let (words, text) = (words.clone(), text.clone());
        std::thread::spawn(move || words.replace_all(&text[t * 10..], "$2$1").len()) });
    println!("{:?}", threads.collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>());
}
"""


@case(
    "cargo builds regex",
    ["cargo"],
    heavy=True,
    rounds=1,
    note="how long cargo took, which crate was compiled first",
)
def cargo(run):
    inputs.crate("regex")  # so that cargo has it
    given = inputs.HERE / "crates" / "regex"
    for name in ("Cargo.toml", "Cargo.lock"):
        shutil.copy(given / name, run.dir)
    run.write("src/main.rs", MAIN_RS)
    # Two compilers at once: which starts first is chance; and another cargo may be at work on this machine.
    forget = [(r"in [\dm. ]+s", ""), (r"^ +(Compiling|Blocking) .*\n", "")]
    run("cargo", "build", "--offline", "--release", forget=forget)
    run(run.dir / "target" / "release" / "source")
    run.keep("target/release/source")


@case("a larger git repository", ["git"], heavy=True, rounds=1)
def git(run):
    script = run.write("large.sh", GIT)
    run("bash", script, inputs.tree(1500))


GIT = """
set -eu
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=$PWD
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=c GIT_COMMITTER_EMAIL=c@example.com
git init -q -b main repository
cd repository
git config pack.threads 2
git config gc.auto 0
cp -r "$1"/. .
for i in $(seq 1 8); do
    export GIT_AUTHOR_DATE="$((1700000000 + i * 60)) +0000"
    export GIT_COMMITTER_DATE="$((1700000000 + i * 60)) +0000"
    for f in dir$((i % 37))/sub*/*; do echo "line $i" >>"$f"; done
    git add -A
    git commit -q -m "commit $i"
done
git log -p --stat | cksum
git gc -q
git fsck --full --strict 2>&1
git clone -q --no-local . ../clone
cd ../clone
git rev-list --objects --all | sort | cksum
git log --oneline | cksum
git archive HEAD | cksum
"""


@case(
    "redis, longer",
    ["redis-server", "redis-benchmark", "redis-cli"],
    heavy=True,
    rounds=2,
    note="what redis-benchmark measures",
)
def redis(run):
    quick.redis(run, requests=100_000)


@case("nginx, longer", ["nginx", "wrk"], heavy=True, rounds=1, note="what wrk measures")
def nginx(run):
    quick.nginx(run, seconds=8)


@case("memcached, longer", ["memcached"], heavy=True, rounds=2)
def memcached(run):
    quick.memcached(run, rounds=400)


@case("PostgreSQL", ["pgbench"], heavy=True, rounds=1, note="what pgbench measures")
def postgres(run):
    homes = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not homes:
        raise Missing("postgresql is not installed (scripts/setup --programs-full)")
    programs, data = homes[-1].parent, run.dir / "data"
    as_user = []
    if os.geteuid() == 0:  # it refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(run.dir, user.pw_uid, user.pw_gid)
        as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    run(
        *as_user,
        programs / "initdb",
        "-D",
        data,
        "--no-sync",
        "-E",
        "UTF8",
        "--locale=C",
        "-U",
        "test",
        "--auth=trust",
        forget=[(r"^selecting (default|dynamic).*\n", "")],
    )
    socket = ["-h", run.dir, "-U", "test"]

    def ready():
        return (run.dir / ".s.PGSQL.5432").exists() and answered(
            run, [programs / "pg_isready", "-q", *socket]
        )

    options = [
        "-D",
        data,
        "-k",
        run.dir,
        "-c",
        "listen_addresses=",
        "-c",
        "fsync=off",
        "-c",
        "max_parallel_workers=4",
    ]
    with run.server(*as_user, programs / "postgres", *options, ready=ready, stop=2):  # SIGINT: fast shutdown
        run("pgbench", *socket, "-i", "-q", "-s", 4, "postgres", compare=False)
        run("pgbench", *socket, "-c", 4, "-j", 2, "-t", 500, "--random-seed=1", "postgres", compare=False)
        for query in QUERIES:
            run(programs / "psql", *socket, "-X", "-At", "-c", query, "postgres")


QUERIES = [
    "select count(*), sum(abalance), md5(string_agg(aid || ':' || abalance, ',' order by aid)) "
    "from pgbench_accounts",
    "select sum(bbalance), count(*) from pgbench_branches",
    "select count(*), sum(delta) from pgbench_history",
    "create table t as select i, md5(i::text) as m, i % 1000 as g from generate_series(1, 300000) i",
    "select g, count(*), max(m), length(string_agg(m, ',' order by i)) from t group by g order by g limit 20",
    "select md5(json_agg(t order by i)::text) from t where g < 30",
    "select count(*) from t a join t b on a.m = b.m join pgbench_accounts p on p.aid = a.i",
    "create index on t (m); select m from t order by m desc limit 5",
]


def answered(run, argv):
    try:
        run.beside(*argv, compare=False)
    except Failed:
        return False
    return True


@case("ImageMagick", ["convert"], heavy=True, rounds=2)
def imagemagick(run):
    run("convert", "-seed", 7, "-size", "1600x1100", "plasma:fractal", "-strip", "source.ppm")
    run(
        "convert",
        "source.ppm",
        "-blur",
        "0x4",
        "-resize",
        "60%",
        "-rotate",
        11,
        "-colors",
        200,
        "-strip",
        "worked.ppm",
    )
    run("convert", "source.ppm", "-resize", "25%", "-strip", "-quality", 85, "small.jpg")
    run("convert", "source.ppm", "-crop", "200x200", "-delay", 5, "-strip", "moving.gif")
    run.keep("source.ppm", "worked.ppm", "small.jpg", "moving.gif")


@case("ffmpeg", ["ffmpeg"], heavy=True, rounds=1)
def ffmpeg(run):
    clip = [
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=640x360:rate=25:duration=8",
        "-f",
        "lavfi",
        "-i",
        "sine=frequency=440:duration=8",
    ]
    exact = ["-threads", 2, "-flags", "+bitexact", "-fflags", "+bitexact", "-map_metadata", -1]
    quiet = ["-hide_banner", "-nostats", "-loglevel", "error", "-nostdin"]
    run("ffmpeg", *quiet, *clip, "-c:v", "libx264", "-preset", "medium", "-c:a", "aac", *exact, "clip.mkv")
    run(
        "ffmpeg",
        *quiet,
        "-i",
        "clip.mkv",
        "-vf",
        "scale=320:-1",
        "-c:v",
        "mpeg4",
        "-c:a",
        "libmp3lame",
        *exact,
        "clip.avi",
    )
    run.keep("clip.mkv", "clip.avi")


@case("Chromium", ["chromium"], heavy=True, rounds=1, note="stderr")
def chromium(run):
    flags = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run
        --disable-background-networking --disable-component-update --disable-sync --disable-dev-shm-usage
        --hide-scrollbars --window-size=900,1400 --force-device-scale-factor=1
        --virtual-time-budget=3000""".split()
    page = SOURCES / "page.html"
    run(
        "chromium",
        *flags,
        f"--user-data-dir={run.dir / 'profile'}",
        f"--screenshot={run.dir / 'page.png'}",
        f"file://{page}",
        env={"HOME": run.dir},
        forget=[(r"(?s).*", "")],
        patience=120,
    )
    run.keep("page.png")


@case("OpenJDK", ["javac", "java"], heavy=True, rounds=1)
def java(run):
    for number in range(120):
        methods = "\n".join(
            f"  public static int m{i}(java.util.List<Integer> l) "
            f"{{ return l.stream().map(x -> x * {i}).reduce({number}, Integer::sum); }}"
            for i in range(25)
        )
        run.write(f"src/C{number}.java", f"public class C{number} {{\n{methods}\n}}\n")
    run(
        "bash",
        "-c",
        'javac -d classes src/*.java "$0" && (cd classes && cat $(ls *.class) | cksum)',
        SOURCES / "Work.java",
    )
    run("java", "-Xmx256m", "-cp", "classes", "Work")


@case("stress-ng", ["stress-ng"], heavy=True, rounds=1, note="times and process ids")
def stress_ng(run):
    forget = [
        (r"\[\d+\]", "[]"),
        (r"in [\d.]+.*", "in so long"),
        (r".*(for a \d+|setting to|dispatching).*\n", ""),
    ]
    run(
        "stress-ng",
        "--malloc",
        2,
        "--malloc-ops",
        60_000,
        "--malloc-bytes",
        "8M",
        "--seed",
        1,
        "--verify",
        forget=forget,
    )
    run(
        "stress-ng",
        "--malloc",
        1,
        "--malloc-pthreads",
        4,
        "--malloc-ops",
        60_000,
        "--malloc-bytes",
        "4M",
        "--seed",
        1,
        "--verify",
        forget=forget,
    )
    run(
        "stress-ng",
        "--fork",
        2,
        "--fork-ops",
        3000,
        "--vfork",
        1,
        "--vfork-ops",
        1000,
        "--seed",
        1,
        forget=forget,
    )
