"""The mix: redis and memcached under load with snapshots by fork, a program whose threads come and go, and
now and then something else on the machine that wants memory.

Each program runs under the library with tests/programs/soak_probe.c beside it, which writes its figures
several times a second. Loads run until the time is up; the first that fails ends the soak.
"""

import json
import os
import pathlib
import signal
import subprocess
import threading
import time

from matrix.engine import ROOT, TARGET, find, plain
from matrix.quick import answers, free_port, memcached_client

SOURCES = ROOT / "tests" / "programs"
# Seconds between snapshots of redis, between two hogs, and that a hog lasts.
SNAPSHOT, HOG, HOG_LASTS = 5, 60, 15
# The hog takes this share of what is available, and never more bytes than this.
HOG_SHARE, HOG_MOST = 0.4, 4 << 30
HOG_SCRIPT = (
    "import sys, time; b = bytearray(int(sys.argv[1])); b[::4096] = b'x' * len(b[::4096]); "
    "time.sleep(float(sys.argv[2]))"
)


class Trouble(Exception):
    """Something did not go as it should; the reason is for the verdict."""


class Soak:
    def __init__(self, library, seconds, scratch):
        self.library, self.seconds, self.scratch = library, seconds, scratch
        self.figures = scratch / "figures"
        self.figures.mkdir(parents=True)
        self.trouble, self.phases, self.servers, self.done = [], [], {}, {}
        self.start, self.stop = time.monotonic(), threading.Event()
        self.probe = self.compile("soak_probe", "soak_probe.so", "-shared", "-fPIC", "-ldl")
        self.churn = self.compile("soak_churn", "soak_churn")

    def compile(self, source, output, *flags):
        made = self.scratch / output
        line = [
            find("cc"),
            "-O1",
            "-g",
            "-pthread",
            "-fno-builtin",
            "-D_GNU_SOURCE",
            "-I",
            ROOT / "preload" / "include",
        ]
        subprocess.run([*map(str, line), "-o", str(made), str(SOURCES / f"{source}.c"), *flags], check=True)
        return made

    def now(self):
        return time.monotonic() - self.start

    def environment(self):
        return plain() | {"LD_PRELOAD": f"{self.probe}:{self.library}", "PROBE_FIGURES": str(self.figures)}

    def begin(self, name, *argv):
        log = open(self.scratch / f"{name}.log", "wb")
        process = subprocess.Popen(
            [str(a) for a in argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self.scratch,
            env=self.environment(),
        )
        self.servers[name] = process
        return process

    def run(self, progress):
        """Runs the mix until the time is up; what went wrong is in `trouble`."""
        work = [self.redis, self.memcached, self.threads, self.hog]
        workers = [threading.Thread(target=self.guarded, args=[one]) for one in work]
        for worker in workers:
            worker.start()
        try:
            while self.now() < self.seconds and not self.stop.wait(1):
                progress(self.now())
        finally:
            self.stop.set()
            for worker in workers:
                worker.join()
            self.end_all()

    def guarded(self, work):
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the soak has failed
            self.trouble.append(f"{work.__name__}: {error}")
            self.stop.set()

    def end_all(self):
        for name, process in self.servers.items():
            if process.poll() is None and name != "soak_churn":
                process.send_signal(signal.SIGTERM)
            try:
                status = process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                self.trouble.append(f"{name} did not end")
                continue
            if status != 0:
                self.trouble.append(f"{name} ended with {status}")
            said = (self.scratch / f"{name}.log").read_text(errors="replace")
            self.trouble += [
                f"{name} said: {line}" for line in said.splitlines() if line.startswith("rcumalloc: ")
            ]

    def until_it_answers(self, process, ready):
        for _ in range(500):
            if process.poll() is not None:
                raise Trouble(f"does not start: status {process.returncode}")
            if ready():
                return
            time.sleep(0.05)
        raise Trouble("does not answer")

    # ---- the parts of the mix ---------------------------------------------------------------

    def client(self, *argv):
        done = subprocess.run(
            [str(a) for a in argv], cwd=self.scratch, env=plain(), capture_output=True, text=True, timeout=300
        )
        if done.returncode:
            raise Trouble(f"{argv[0]} ended with {done.returncode}: {done.stderr.strip()[-200:]}")
        return done.stdout

    def redis(self):
        cli = [find("redis-cli"), "-s", "socket"]
        server = self.begin(
            "redis-server",
            find("redis-server"),
            "--port",
            0,
            "--unixsocket",
            "socket",
            "--save",
            "",
            "--io-threads",
            2,
            "--maxmemory",
            "200mb",
            "--maxmemory-policy",
            "allkeys-random",
        )
        self.until_it_answers(server, (self.scratch / "socket").exists)
        snapshots = threading.Thread(target=self.guarded, args=[self.snapshots])
        snapshots.start()
        load = [
            find("redis-benchmark"),
            "-s",
            "socket",
            "-q",
            "-n",
            60_000,
            "-c",
            20,
            "-P",
            8,
            "-r",
            20_000,
            "-d",
            300,
            "-t",
            "set,get,incr,lpush,lpop,sadd,spop,hset,zadd,zpopmin",
        ]
        rounds = 0
        while not self.stop.is_set():
            self.client(*load)
            # What only grows would hide what the allocator does.
            self.client(*cli, "del", "mylist", "myset", "myhash", "myzset", "myset:__rand_int__")
            rounds += 1
        snapshots.join()
        self.done["rounds of redis-benchmark"] = rounds

    def snapshots(self):
        cli = [find("redis-cli"), "-s", "socket"]
        count = 0
        while not self.stop.wait(SNAPSHOT):
            self.client(*cli, "bgsave")
            while "rdb_bgsave_in_progress:1" in (info := self.client(*cli, "info", "persistence")):
                time.sleep(0.1)
            if "rdb_last_bgsave_status:ok" not in info:
                raise Trouble("a snapshot failed")
            count += 1
        self.done["snapshots by fork"] = count

    def memcached(self):
        port = free_port()
        server = self.begin(
            "memcached",
            find("memcached"),
            "-u",
            "root",
            "-l",
            "127.0.0.1",
            "-p",
            port,
            "-U",
            0,
            "-t",
            4,
            "-m",
            64,
        )
        self.until_it_answers(server, answers(port))
        rounds = 0
        while not self.stop.is_set():
            found = [None] * 4
            clients = [threading.Thread(target=memcached_client, args=[port, i, 20, found]) for i in range(4)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            bad = [what for what in found if not what or "failed" in what]
            if bad:
                raise Trouble(f"memcached's content: {bad[0]}")
            with_nothing_left(port)
            rounds += 1
        self.done["rounds of memcached's clients"] = rounds

    def threads(self):
        # A little less than the rest, so that it ends by itself.
        process = self.begin("soak_churn", self.churn, max(1, int(self.seconds - self.now())))
        while not self.stop.wait(0.5):
            if process.poll() not in (None, 0):
                raise Trouble(f"soak_churn ended with {process.returncode}")
        if self.now() < self.seconds:  # somebody else failed
            process.kill()
        process.wait(60)
        for line in (self.scratch / "soak_churn.log").read_text().splitlines():
            name, _, value = line.partition(" ")
            if value.isdigit():
                self.done[f"soak_churn: {name}"] = int(value)

    def hog(self):
        """Something else wants memory: caches of the kernel go, whatever watches pressure has its turn."""
        while not self.stop.wait(min(HOG, self.seconds / 6)):
            lasts = min(HOG_LASTS, self.seconds / 12)
            begin = self.now()
            hog = subprocess.Popen(
                [find("python3"), "-c", HOG_SCRIPT, str(hog_bytes()), str(lasts)], env=plain()
            )
            pathlib.Path(f"/proc/{hog.pid}/oom_score_adj").write_text("1000")  # it goes first
            hog.wait()
            self.phases.append((begin, self.now()))


def hog_bytes():
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    return min(int(available * HOG_SHARE), HOG_MOST)


def with_nothing_left(port):
    """The next clients expect to find only what they set."""
    import socket

    with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
        link.sendall(b"flush_all\r\n")
        link.recv(100)


def read_figures(directory):
    """{program: [(seconds, RSS KiB, deferred, budget, live, periods, age ms, bad calls), ...]}"""
    series = {}
    for path in sorted(directory.iterdir()):
        rows = [
            tuple(map(int, line.split())) for line in path.read_text().splitlines() if line.count(" ") == 7
        ]
        series[path.name.rsplit(".", 1)[0]] = [(row[0] / 1000, *row[1:]) for row in rows]
    return series


def save(path, soak, series, judged, about):
    text = {
        "about": about,
        "done": soak.done,
        "trouble": soak.trouble,
        "hogs": soak.phases,
        "judged": judged,
        "series": {name: rows[:: max(1, len(rows) // 600)] for name, rows in series.items()},
    }
    path.write_text(json.dumps(text) + "\n")


def target():
    return pathlib.Path(os.environ.get("SOAK_SCRATCH", TARGET.parent / "soak"))
