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
    subprocess.run(
        [find("cc"), "-static", "-I", ROOT / "preload" / "include", "-o", program, source], check=True
    )
    return program


def set_user_id():
    for path in ("/usr/bin/passwd", "/usr/bin/su", "/usr/bin/mount", "/usr/bin/sudo"):
        if pathlib.Path(path).exists() and os.stat(path).st_mode & 0o6000:
            return path
    raise Missing("no set-user-ID program on this machine")


def own_malloc():
    """rustc itself, not the rustup that may stand before it: its jemalloc exports malloc."""
    home = subprocess.run([find("rustc"), "--print", "sysroot"], capture_output=True, text=True, env=plain())
    path = pathlib.Path(home.stdout.strip()) / "bin" / "rustc"
    if not path.exists():
        raise Missing("no rustc on this machine")
    return path


def source():
    TARGET.mkdir(parents=True, exist_ok=True)
    path = TARGET / "empty.rs"
    path.write_text("pub fn nothing() {}\n")
    return ["--summary", "--crate-type", "lib", "--emit", "metadata", "-o", TARGET / "empty.rmeta", path]


# program, how to find it, arguments, why, what scripts/run says, exit status
CASES = [
    (
        "a statically linked program",
        static_binary,
        list,
        "the loader is not asked: there is no malloc to replace",
        "it is statically linked",
        125,
    ),
    (
        "a set-user-ID program",
        set_user_id,
        lambda: ["--help"],
        "the loader ignores LD_PRELOAD in it",
        "it is set-user-ID or set-group-ID",
        125,
    ),
    (
        "a program that exports a malloc of its own: rustc",
        own_malloc,
        source,
        "its own definition is found before a preloaded one; both live side by side",
        "blocks given out, taken back  0, 0",
        0,
    ),
]


def seen_by_user(text, says):
    """The line that tells the user, or the last one."""
    lines = text.strip().splitlines()
    return next((line.strip() for line in lines if says in line), lines[-1] if lines else "")


def check():
    environment = plain() | {"RCUMALLOC_NO_SETUP": "1", "CARGO_TARGET_DIR": str(TARGET.parent)}
    rows = []
    for program, where, arguments, why, says, status in CASES:
        try:
            path, words = where(), arguments()
        except Missing as reason:
            rows.append({"program": program, "why": why, "seen": "", "problem": str(reason)})
            continue
        summary = [word for word in words if word == "--summary"]
        line = [
            ROOT / "scripts" / "run",
            *summary,
            "--",
            path,
            *(word for word in words if word not in summary),
        ]
        done = subprocess.run(
            [str(a) for a in line], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        seen = seen_by_user(done.stderr, says).replace(f"{ROOT}/", "")
        good = done.returncode == status and says in seen
        problem = "" if good else f"status {done.returncode}, said {seen!r}"
        rows.append(
            {"program": program, "why": why, "seen": f"`{seen}`, exit status {status}", "problem": problem}
        )
    return rows
