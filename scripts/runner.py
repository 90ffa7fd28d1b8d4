"""Runs a program under the library and ends with a summary on stderr (scripts/run).

    runner.py LIBRARY PATH NAME [ARGS...]

Signals sent to the runner reach the program; those that the terminal sends reach it anyway. The
program's exit status, or the signal it died of, becomes the runner's.
"""

import json
import os
import pathlib
import signal
import sys
import tempfile

PASSED_ON = {
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCONT,
    signal.SIGWINCH,
}


def run(path, argv, environment):
    """The wait status of the program and its process id."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON | {signal.SIGCHLD})
    # posix_spawn and not subprocess: nothing of ours may hold a lock or run in the child.
    restored = {signal.SIGPIPE, signal.SIGXFSZ}  # Python ignores these
    child = os.posix_spawn(path, argv, environment, setsigmask=mask, setsigdef=restored)
    while True:
        caught = signal.sigwaitinfo(PASSED_ON | {signal.SIGCHLD})
        if caught.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status, child
        elif caught.si_code <= 0:  # sent by a process; the terminal's own reach the program anyway
            os.kill(child, caught.si_signo)


def summary(figures):
    def mib(name):
        return f"{figures[name] / 2**20:.1f} MiB"

    yield "rcumalloc:"
    yield (
        f"  blocks given out, taken back  {figures['blocks_loaded'] + figures['large_allocated']:,}, "
        f"{figures['blocks_retired']:,} (by magazines; reuse inside one is not counted)"
    )
    yield f"  deferred at most              {mib('deferred_peak_bytes')} of a budget of {mib('budget_bytes')}"
    yield (
        f"  grace periods                 {figures['periods_completed']:,}, "
        f"of which {figures['periods_expedited']:,} expedited"
    )
    if figures["periods_completed"]:
        p50, p99 = figures["period_p50_ns"] / 1000, figures["period_p99_ns"] / 1000
        yield f"  grace-period latency          p50 {p50:,.1f} us, p99 {p99:,.1f} us"
    solo = "" if figures["concurrent"] else " (solo: freed blocks are reused at once)"
    yield f"  threads at most               {figures['threads_peak']}{solo}"
    yield f"  peak RSS                      {mib('peak_rss_bytes')}"


def main():
    library, path, *argv = sys.argv[1:]
    environment = dict(os.environ)
    environment["LD_PRELOAD"] = ":".join(filter(None, [library, os.environ.get("LD_PRELOAD")]))
    with tempfile.TemporaryDirectory() as scratch:
        environment.setdefault("RCUMALLOC_STATS", f"{scratch}/%p")
        try:
            status, child = run(path, argv, environment)
        except OSError as error:
            print(f"run: '{argv[0]}' does not start: {error.strerror}", file=sys.stderr)
            sys.exit(125)
        try:
            lines = summary(json.loads(pathlib.Path(scratch, str(child)).read_text()))
        except (OSError, ValueError):
            lines = [
                "run: no figures: the program was killed, left by _exit, or RCUMALLOC_STATS names a place"
            ]
        print(*lines, sep="\n", file=sys.stderr)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
