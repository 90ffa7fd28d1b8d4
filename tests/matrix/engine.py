"""Running one case under one side, and what of it is compared.

A *case* is a function that runs one or more programs through a `Run`. A *side* is glibc or the library in a
mode. Every run of a case starts in an empty directory of the same name, so that outputs which name their
directory are the same. What a program prints, how it ends, and the files a case keeps are its *record*: the
record under the library must equal the one under glibc, byte for byte. Where a program prints times or
process ids the case says which words to forget, and the table says that it does.

Programs are started by bench/malloc/launch.c, static and small, which is not itself under the library and
reports what the whole tree of processes cost: CPU time, wall-clock time, and the greatest peak RSS of one
process. Clients and checkers run beside it, unmeasured, under glibc.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "programs"
GLIBC = "glibc"
MODES = ["all", "api", "strict"]
# Nothing ever ends a grace period in strict mode while a thread sleeps: memory grows as long as the program
# runs. Bytes of data a program may have then, so that it fails and not the machine.
STRICT_DATA = 8 << 30
# Seconds one program may take.
PATIENCE = 900
SYSTEM = ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"]

CASES = {}


class Missing(Exception):
    """A program or input is not to be had; the reason is for the table."""


class Failed(Exception):
    """What a case was told to expect did not come true."""


@dataclasses.dataclass
class Case:
    name: str
    make: object
    heavy: bool
    rounds: int
    note: str
    needs: list


def case(name, needs=(), heavy=False, rounds=99, note=""):
    """Registers a case. `rounds` is the most timed rounds it is worth; `note` says what is not compared."""

    def register(make):
        CASES[name] = Case(name, make, heavy, rounds, note, list(needs))
        return make

    return register


def find(program):
    """The system's own program is preferred to what a version manager put first in PATH."""
    path = shutil.which(program, path=":".join(SYSTEM)) or shutil.which(program)
    if not path:
        raise Missing(f"{program} is not installed (scripts/setup --programs)")
    return path


def glibc_itself():
    """libc.so.6. Debian links redis-server with jemalloc, which a preloaded libc overrules, too."""
    words = pathlib.Path("/proc/self/maps").read_text().split()
    return next(word for word in words if word.endswith("/libc.so.6"))


def digest(path):
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else _digest(file)
        )


def _digest(file):
    total = hashlib.sha256()
    while piece := file.read(1 << 20):
        total.update(piece)
    return total.hexdigest()


@dataclasses.dataclass
class Cost:
    cpu: float = 0.0
    wall: float = 0.0
    peak_kib: int = 0

    def add(self, report):
        try:
            cpu, wall, peak, _, status = report.read_text().split()
        except (OSError, ValueError):
            return None
        self.cpu += float(cpu)
        self.wall += float(wall)
        self.peak_kib = max(self.peak_kib, int(peak))
        return int(status)


class Run:
    """One run of a case under one side."""

    def __init__(self, library, launcher, mode, directory, figures):
        self.library, self.launcher, self.mode, self.dir = library, launcher, mode, directory
        self.figures = figures  # a directory for RCUMALLOC_STATS, or None
        self.cost, self.record, self.trouble = Cost(), [], []
        self.counter = 0

    # ---- what a case calls ------------------------------------------------------------------

    def __call__(
        self, *argv, stdin=None, env=None, forget=(), cwd=None, compare=True, status=0, patience=PATIENCE
    ):
        """Runs a program under this side to its end and compares what it says. Returns its output."""
        argv = [find(argv[0]) if "/" not in str(argv[0]) else argv[0], *argv[1:]]
        label = " ".join(map(str, argv))[:200]
        out, err, report = (self.scratch(kind) for kind in ("out", "err", "cost"))
        with open(stdin or os.devnull, "rb") as given, open(out, "wb") as o, open(err, "wb") as e:
            line = [str(a) for a in (self.launcher, report, "-n", 1, *argv)]
            child = subprocess.Popen(
                line,
                stdin=given,
                stdout=o,
                stderr=e,
                cwd=cwd or self.dir,
                start_new_session=True,
                env=self.environment(env),
                preexec_fn=self.limits(),
            )
            late = False
            try:
                child.wait(patience)
            except subprocess.TimeoutExpired:
                late = True
            finally:
                kill_group(child)
        ended = self.cost.add(report)
        if late:
            raise Failed(f"hung: ended after {patience} s: {label}")
        ended = os.waitstatus_to_exitcode(ended) if ended is not None else "unknown"
        if ended != status:
            self.trouble.append(f"{how(ended)}: {label}: {tail(err)}")
        if compare:
            self.record.append((f"$ {label}", f"{how(ended)}"))
            self.record.append((f"stdout of {label}", forgotten(out, forget)))
            self.record.append((f"stderr of {label}", forgotten(err, forget)))
        return out.read_bytes() if out.stat().st_size < 1 << 26 else b""

    def beside(
        self, *argv, stdin=None, env=None, compare=True, forget=(), status=0, patience=PATIENCE, data=None
    ):
        """Runs a client or checker under glibc, unmeasured."""
        argv = [find(argv[0]) if "/" not in str(argv[0]) else argv[0], *argv[1:]]
        # Without the arguments: some name a port that is another each time.
        label = f"{pathlib.Path(argv[0]).name}, number {len(self.record)}"
        given = {"input": data} if data is not None else {"stdin": open(stdin or os.devnull, "rb")}
        try:
            done = subprocess.run(
                [str(a) for a in argv],
                cwd=self.dir,
                env=plain() | {k: str(v) for k, v in (env or {}).items()},
                capture_output=True,
                timeout=patience,
                **given,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"hung: ended after {patience} s: {label}") from None
        if done.returncode != status:
            raise Failed(
                f"{how(done.returncode)}: {label}: {done.stderr[-300:].decode(errors='replace').strip()}"
            )
        if compare:
            self.record.append((f"stdout of {label}", without(done.stdout, forget)))
        return done.stdout

    @contextlib.contextmanager
    def server(self, *argv, env=None, ready, stop=signal.SIGTERM, status=0, overrule=False, patience=60):
        """Runs a server under this side while the body lasts. `ready()` is true when it answers; `stop` is a
        signal or a function. Its own output is not compared, but how it ends is."""
        argv = [find(argv[0]) if "/" not in str(argv[0]) else argv[0], *argv[1:]]
        label = pathlib.Path(argv[0]).name
        log, report = self.scratch("log"), self.scratch("cost")
        environment = self.environment(env)
        if overrule and self.mode == GLIBC:
            environment["LD_PRELOAD"] = glibc_itself()
        with open(log, "wb") as output:
            line = [str(a) for a in (self.launcher, report, "-n", 1, *argv)]
            child = subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.dir,
                start_new_session=True,
                env=environment,
                preexec_fn=self.limits(),
            )
        try:
            until = time.monotonic() + patience
            while not ready():
                if child.poll() is not None or time.monotonic() > until:
                    raise Failed(f"does not answer: {label}: {tail(log)}")
                time.sleep(0.02)
            pid = children(child.pid)[0]
            if self.mode != GLIBC and str(self.library) not in pathlib.Path(f"/proc/{pid}/maps").read_text():
                raise Failed(f"the library is not in it: {label}")
            yield pid
            if callable(stop):
                stop()
            else:
                os.kill(pid, stop)
            try:
                child.wait(patience)
            except subprocess.TimeoutExpired:
                raise Failed(f"does not end: {label}: {tail(log)}") from None
        except Failed:
            raise
        except (OSError, IndexError) as error:
            raise Failed(f"{label}: {error}: {tail(log)}") from None
        finally:
            kill_group(child)
        ended = self.cost.add(report)
        ended = os.waitstatus_to_exitcode(ended) if ended is not None else "unknown"
        if ended != status:
            self.trouble.append(f"{how(ended)}: {label}: {tail(log)}")
        said = [
            line for line in log.read_text(errors="replace").splitlines() if line.startswith("rcumalloc: ")
        ]
        self.trouble += said
        self.record.append((f"end of {label}", how(ended)))

    def keep(self, *paths):
        """The content of these files is compared, too."""
        for path in paths:
            self.record.append((f"content of {path}", digest(self.dir / path)))

    def note(self, name, value):
        """Compares a value that the case found."""
        self.record.append((name, str(value)))

    def check(self, condition, what):
        if not condition:
            raise Failed(what)

    def write(self, name, text):
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    # ---- inside -----------------------------------------------------------------------------

    def scratch(self, kind):
        self.counter += 1
        place = self.dir.parent / "said"
        place.mkdir(exist_ok=True)
        return place / f"{self.counter}.{kind}"

    def environment(self, extra):
        environment = plain() | {k: str(v) for k, v in (extra or {}).items()}
        if self.mode != GLIBC:
            environment |= {"LD_PRELOAD": str(self.library), "RCUMALLOC_DEFER": self.mode}
            if self.figures:
                environment["RCUMALLOC_STATS"] = f"{self.figures}/%p"
        return environment

    def limits(self):
        if self.mode != "strict":
            return None
        return lambda: resource.setrlimit(resource.RLIMIT_DATA, (STRICT_DATA, STRICT_DATA))


def plain():
    """The environment without what would change an allocator or a message."""
    dropped = (
        "LD_PRELOAD",
        "RCUMALLOC_",
        "PYTHON",
        "MALLOC_",
        "GLIBC_TUNABLES",
        "CARGO_",
        "RUST",
        "LC_",
        "LANG",
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    kept |= {k: os.environ[k] for k in ("CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN") if k in os.environ}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def kill_group(child):
    """Whatever is left of the program's process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def children(pid):
    return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def how(code):
    if isinstance(code, str):
        return code
    if code < 0:
        return f"died of {signal.Signals(-code).name}"
    return f"exit status {code}"


def tail(path):
    try:
        lines = path.read_bytes()[-2000:].decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return " | ".join(lines[-3:])


def forgotten(path, forget):
    if not forget and path.stat().st_size > 1 << 20:
        return f"{path.stat().st_size} bytes, sha256 {digest(path)}"
    return without(path.read_bytes(), forget)


def without(text, forget):
    text = text.decode(errors="backslashreplace")
    for pattern, instead in forget:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return text


# ---- one case under every side --------------------------------------------------------------


@dataclasses.dataclass
class Result:
    name: str
    note: str
    verdicts: dict = dataclasses.field(default_factory=dict)  # side -> "same", or what is wrong
    costs: dict = dataclasses.field(default_factory=dict)  # side -> [Cost of each round]
    processes: dict = dataclasses.field(default_factory=dict)  # mode -> processes that reported figures
    retired: dict = dataclasses.field(default_factory=dict)  # mode -> blocks that went through a turn
    missing: str = ""  # why there is nothing to compare
    is_broken: bool = False  # because the case itself is at fault, not what is installed


def run_case(case, modes, rounds, library, launcher, progress):
    """Runs the case under glibc and each mode: once with figures, compared, then `rounds` timed ones."""
    result = Result(case.name, case.note)
    sides = [GLIBC, *modes]
    timed = min(rounds, case.rounds)
    wanted = None
    for number in range(timed + 1):
        for side in list(sides):
            progress(f"{side}, round {number} of {timed}" if timed else side)
            work = TARGET / "run" / case.name
            shutil.rmtree(work, ignore_errors=True)
            directory, figures = work / "dir", work / "figures"
            directory.mkdir(parents=True)
            figures.mkdir()
            figures.chmod(0o1777)
            counted = number == 0 and side != GLIBC
            run = Run(library, launcher, side, directory, figures if counted else None)
            try:
                case.make(run)
            except Missing as reason:
                result.missing = str(reason)
                return result
            except Failed as reason:
                run.trouble.append(str(reason))
            if side == GLIBC and number == 0:
                wanted = run.record
                if run.trouble:
                    result.missing, result.is_broken = f"fails under glibc: {'; '.join(run.trouble)}", True
                    return result
            if run.trouble:
                verdict = "; ".join(run.trouble)
            else:
                verdict = difference(run.record, wanted) or "same"
            if result.verdicts.setdefault(side, verdict) == "same":
                result.verdicts[side] = verdict
            if verdict != "same":
                keep_evidence(case.name, side, work, run.record, wanted)
                sides.remove(side)
                if side == GLIBC:  # it does not repeat itself: there is nothing to compare with
                    result.missing, result.is_broken = f"not the same twice under glibc: {verdict}", True
                    return result
                continue
            if counted:
                count(result, side, figures)
            if number > 0 or timed == 0:
                result.costs.setdefault(side, []).append(run.cost)
    shutil.rmtree(TARGET / "run" / case.name, ignore_errors=True)
    return result


def count(result, mode, figures):
    files = list(figures.iterdir())
    retired = 0
    for file in files:
        with contextlib.suppress(ValueError, KeyError):
            retired += json.loads(file.read_text())["blocks_retired"]
    result.processes[mode], result.retired[mode] = len(files), retired


def difference(got, wanted):
    """What is different first, or nothing."""
    for (name, ours), (expected, theirs) in zip(got, wanted):
        if name != expected:
            return f"differs: did {name!r} where glibc did {expected!r}"
        if ours != theirs:
            ours, theirs = ours.splitlines(), theirs.splitlines()
            at = next(
                (i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs))
            )
            pick = lambda lines: lines[at][:160] if at < len(lines) else "(nothing)"
            return f"differs: {name}, line {at + 1}: {pick(ours)!r}, under glibc {pick(theirs)!r}"
    return "" if len(got) == len(wanted) else "differs: did less or more than under glibc"


def keep_evidence(name, side, work, got, wanted):
    """Leaves the whole records of a side that failed for somebody to look at."""
    place = TARGET / "failed" / f"{name}-{side}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for who, record in (("ours", got), ("glibc", wanted or [])):
        (place / who).write_text("\n".join(f"== {what}\n{text}" for what, text in record))
    if (work / "said").exists():
        shutil.copytree(work / "said", place / "said", ignore=shutil.ignore_patterns("*.out"))
