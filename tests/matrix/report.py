"""The table of the matrix, and the same as JSON."""

import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess

from .engine import GLIBC, ROOT


def machine(command):
    def first(path, name):
        return next((line.split(":")[1].strip() for line in open(path) if line.startswith(name)), "?")

    commit = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True
    )
    return {
        "command": command,
        "commit": commit.stdout.strip(),
        "processor": first("/proc/cpuinfo", "model name"),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "glibc": platform.libc_ver()[1],
        "system": first_line("/etc/os-release"),
        "load before": load(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def first_line(path):
    try:
        return pathlib.Path(path).read_text().splitlines()[0].split("=")[-1].strip('"')
    except OSError:
        return "?"


def load():
    return [round(value, 2) for value in os.getloadavg()]


def ratios(ours, theirs, what):
    """Median, least and greatest ratio within the rounds."""
    each = [getattr(a, what) / max(getattr(b, what), 1e-9) for a, b in zip(ours, theirs)]
    return [statistics.median(each), min(each), max(each)] if each else None


def row(result):
    """One case as plain values."""
    if result.missing:
        return {"name": result.name, "missing": result.missing, "broken": result.is_broken}
    theirs = result.costs.get(GLIBC, [])
    modes = {}
    for mode, verdict in result.verdicts.items():
        if mode == GLIBC:
            continue
        ours = result.costs.get(mode, [])
        modes[mode] = {
            "verdict": verdict,
            "processes": result.processes.get(mode),
            "blocks_retired": result.retired.get(mode),
            **{what: ratios(ours, theirs, what) for what in ("cpu", "wall", "peak_kib")},
        }
    middle = lambda what: statistics.median(getattr(cost, what) for cost in theirs) if theirs else None
    glibc = {what: middle(what) for what in ("cpu", "wall", "peak_kib")}
    return {
        "name": result.name,
        "not compared": result.note,
        "rounds": len(theirs),
        "glibc": glibc,
        "modes": modes,
    }


def cell(figures):
    if figures["verdict"] != "same":
        return figures["verdict"].split(":")[0].upper()
    loaded = "" if figures["processes"] else " (no figures)"
    if not figures["cpu"]:
        return f"same{loaded}"
    return f"same {figures['cpu'][0]:.2f} {figures['peak_kib'][0]:.2f}{loaded}"


def table(rows, modes):
    """Markdown. A cell is the verdict, the ratio of CPU time and that of peak RSS."""
    head = ["program", "glibc: CPU s, MiB", *modes, "not compared"]
    lines = []
    for each in rows:
        if "missing" in each:
            lines.append([each["name"], f"not run: {each['missing']}", *[""] * (len(modes) + 1)])
            continue
        glibc = each["glibc"]
        cost = f"{glibc['cpu']:.2f}, {glibc['peak_kib'] / 1024:.0f}" if glibc["cpu"] is not None else ""
        cells = [cell(each["modes"][mode]) if mode in each["modes"] else "" for mode in modes]
        lines.append([each["name"], cost, *cells, each["not compared"]])
    widths = [
        max(len(line[i]) for line in [head, *lines] if not line[1].startswith("not run"))
        for i in range(len(head))
    ]
    show = lambda cells: "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths)) + " |"
    return "\n".join([show(head), "|" + "|".join("-" * (w + 2) for w in widths) + "|", *map(show, lines)])


def wrong(rows, may_miss):
    """What is not as under glibc, a line each; also what could not be compared, unless it `may_miss`."""
    for each in rows:
        if each.get("missing") and (each["broken"] or not may_miss):
            yield f"{each['name']}: not run: {each['missing']}"
        for mode, figures in each.get("modes", {}).items():
            if figures["verdict"] != "same":
                yield f"{each['name']}, {mode}: {figures['verdict']}"


def write_json(path, about, rows, refusals):
    text = json.dumps({"about": about, "results": rows, "cannot": refusals}, indent=1) + "\n"
    if str(path) == "-":
        print(text, end="")
    else:
        pathlib.Path(path).write_text(text)


def page(about, rows, modes, refusals):
    """The whole report as Markdown."""
    parts = [
        "# Real programs under rcumalloc\n",
        *(f"- {name}: {value}" for name, value in about.items()),
        "",
        EXPLAINED,
    ]
    parts += [table(rows, modes), ""]
    if refusals:
        parts += ["## What cannot run under a preloaded malloc, or only beside it", ""]
        parts += ["| program | why | what the user sees | as expected |", "|---|---|---|---|"]
        parts += [
            f"| {r['program']} | {r['why']} | {r['seen']} | {r['problem'] or 'yes'} |" for r in refusals
        ]
        parts.append("")
    return "\n".join(parts)


EXPLAINED = """A cell: the verdict, CPU time as a ratio to glibc, peak RSS as a ratio to glibc (medians of the
rounds). `same`: output, exit status and files are those under glibc, byte for byte, but for what the last
column names.
"""
