#!/usr/bin/env python3
"""The demonstration: real work on real data, under glibc's malloc and under rcumalloc.

The work: every module of this Python's standard library is read, parsed, compiled, searched and
compressed by four threads; the result is one JSON document whose digest is printed. PYTHONMALLOC=malloc
sends every object through malloc.

    demo.py                         do the work once, print the digest
    demo.py --compare LIBRARY       do it in turn with and without LIBRARY and compare (scripts/run)
"""

import argparse
import ast
import collections
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import zlib

THREADS = 4


def examine(path):
    """What one module is made of."""
    source = path.read_bytes()
    try:
        tree = ast.parse(source)
        code = compile(tree, path.name, "exec")
    except (SyntaxError, ValueError):
        return {"module": path.name, "unreadable": True}
    kinds = collections.Counter(type(node).__name__ for node in ast.walk(tree))
    words = collections.Counter(re.findall(rb"[A-Za-z_]\w+", source))
    return {
        "module": path.name,
        "nodes": dict(sorted(kinds.items())),
        "words": [word.decode() for word, _ in sorted(words.items(), key=lambda w: (-w[1], w[0]))[:50]],
        "names": sorted(code.co_names),
        "packed": hashlib.sha256(zlib.compress(source, 6)).hexdigest(),
    }


def work():
    library = pathlib.Path(sysconfig.get_paths()["stdlib"])
    modules = sorted(p for p in library.rglob("*.py") if "site-packages" not in p.parts)[:600]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(examine, modules))
    document = json.dumps(results, sort_keys=True, indent=1)
    assert json.loads(document) == results
    print(
        f"{len(modules)} modules, {len(document)} bytes, "
        f"sha256 {hashlib.sha256(document.encode()).hexdigest()}"
    )


def peak_rss_kib():
    """VmHWM: ru_maxrss would be inherited from whoever forked us."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+)", status, re.M).group(1))


def run(library, scratch):
    """One run in a process of its own: its output, wall and CPU seconds, peak RSS in KiB, figures."""
    figures = scratch / "figures"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LD_PRELOAD", "RCUMALLOC_"))}
    environment |= {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0", "DEMO_RSS": str(scratch / "rss")}
    if library:
        environment |= {"LD_PRELOAD": library, "RCUMALLOC_STATS": str(figures)}
    before = os.times()
    started = time.monotonic()
    done = subprocess.run([sys.executable, __file__], env=environment, stdout=subprocess.PIPE)
    wall = time.monotonic() - started
    after = os.times()
    if done.returncode:
        sys.exit(f"demo: the work ended with status {done.returncode} under {library or 'glibc'}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    if library and not figures.exists():
        sys.exit(f"demo: {library} did not take effect")
    counted = json.loads(figures.read_text()) if library else {}
    return done.stdout, wall, cpu, int((scratch / "rss").read_text()), counted


def compare(library, rounds):
    sides = {"glibc": None, "rcumalloc": library}
    runs = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(rounds + 1):  # the first is the warm-up
            for name, lib in sides.items():
                if sys.stderr.isatty():
                    print(f"\rround {number} of {rounds}: {name}      ", end="", file=sys.stderr)
                result = run(lib, pathlib.Path(scratch))
                if number:
                    runs[name].append(result)
    if sys.stderr.isatty():
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    outputs = {result[0] for side in runs.values() for result in side}
    print(outputs.pop().decode(), end="")
    if outputs:
        print("OUTPUTS DIFFER:", *(o.decode() for o in outputs))
        return 1
    print("same output under both\n")

    median = {n: [statistics.median(r[i] for r in runs[n]) for i in (1, 2, 3)] for n in runs}
    print(f"{'':24}{'glibc':>10}{'rcumalloc':>12}{'ratio':>8}")
    for i, (label, scale) in enumerate([("wall, s", 1), ("CPU, s", 1), ("peak RSS, MiB", 1024)]):
        ours, theirs = median["rcumalloc"][i] / scale, median["glibc"][i] / scale
        print(f"{label:24}{theirs:10.2f}{ours:12.2f}{ours / theirs:8.2f}")
    counted = runs["rcumalloc"][-1][4]
    print(f"(medians of {rounds} alternating rounds)\n")
    print(f"blocks given out        {counted['blocks_loaded'] + counted['large_allocated']:>12,}")
    print(f"deferred at most        {counted['deferred_peak_bytes'] / 2**20:>12.1f} MiB")
    print(
        f"grace periods           {counted['periods_completed']:>12,}, "
        f"{counted['periods_expedited']:,} expedited"
    )
    return 0


def main():
    parser = argparse.ArgumentParser(description="work for a malloc")
    parser.add_argument("--compare", metavar="LIBRARY")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.compare:
        sys.exit(compare(options.compare, options.rounds))
    work()
    if path := os.environ.get("DEMO_RSS"):
        pathlib.Path(path).write_text(str(peak_rss_kib()))


if __name__ == "__main__":
    main()
