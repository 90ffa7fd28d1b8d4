"""Programs that cannot run under a preloaded library, or only beside it: the reason, and what the user sees.

What the user sees is asked of scripts/run each time, so the list cannot grow stale.
"""

import os
import pathlib
import subprocess

from .engine import ROOT, TARGET, Missing, find, plain


def static_binary():
    program = TARGET / "static"
    source = ROOT / "tests" / "programs" / "preload_took_effect.c"
    subprocess.run([find("cc"), "-static", "-I", ROOT / "preload" / "include", "-o", program, source], check=True)
    return program


def set_user_id():
    for path in ("/usr/bin/passwd", "/usr/bin/su", "/usr/bin/mount", "/usr/bin/sudo"):
        if pathlib.Path(path).exists() and os.stat(path).st_mode & 0o6000:
            return path
    raise Missing("no set-user-ID program on this machine")


def own_malloc():
    return find("rustc")


# program, how to find it, arguments, why, what scripts/run says, exit status
CASES = [
    ("a statically linked program", static_binary, [], "the loader is not asked: there is no malloc to replace",
     "it is statically linked", 125),
    ("a set-user-ID program", set_user_id, ["--help"], "the loader ignores LD_PRELOAD in them",
     "it is set-user-ID or set-group-ID", 125),
]  # fmt: skip


def check(library):
    environment = plain() | {"RCUMALLOC_NO_SETUP": "1", "CARGO_TARGET_DIR": str(TARGET.parent)}
    rows = []
    for program, where, arguments, why, says, status in CASES:
        try:
            path = where()
        except Missing as reason:
            rows.append({"program": program, "why": why, "seen": "", "problem": str(reason)})
            continue
        line = [ROOT / "scripts" / "run", "--", path, *arguments]
        done = subprocess.run([str(a) for a in line], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        seen = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
        good = done.returncode == status and says in seen
        problem = "" if good else f"status {done.returncode}, said {seen!r}"
        rows.append({"program": program, "why": why, "seen": f"`{seen}`, exit status {status}", "problem": problem})
    return rows
