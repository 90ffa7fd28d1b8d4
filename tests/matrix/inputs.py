"""What the programs work on: made once, in the target directory, the same on every machine."""

import functools
import json
import os
import pathlib
import random
import subprocess

from .engine import TARGET, Missing, find, plain

HERE = TARGET / "inputs"
# Sources from crates.io, pinned. lua-src: Lua 5.4; libsqlite3-sys: the SQLite amalgamation; harfbuzz-sys:
# HarfBuzz, C++.
CRATES = {"lua-src": "548.1.1", "libsqlite3-sys": "0.39.1", "harfbuzz-sys": "0.8.0", "regex": "1.13.1"}


def made(name, make):
    """The path of an input; `make(path)` makes it, under another name until it is complete."""
    path = HERE / name
    if not path.exists():
        HERE.mkdir(parents=True, exist_ok=True)
        unfinished = HERE / f"{name}.{os.getpid()}"
        make(unfinished)
        unfinished.rename(path)
    return path


def words(mib):
    """So many MiB of lines of words. Each piece of a few MiB is the first with its digits exchanged."""

    def make(path):
        source = random.Random(1)
        lines = []
        for _ in range(200_000):
            number = source.getrandbits(31)
            lines.append(b"%x %d word%d\n" % (number, number % 10007, number % 97))
        piece, digits = b"".join(lines), bytearray(b"0123456789abcdef")
        with open(path, "wb") as out:
            while out.tell() < mib << 20:
                out.write(piece.translate(bytes.maketrans(b"0123456789abcdef", bytes(digits))))
                source.shuffle(digits)

    return made(f"words-{mib}", make)


def tree(files):
    """A directory of so many files of a few KiB."""

    def make(path):
        source = random.Random(files)
        text = words(8).read_bytes()
        for number in range(files):
            place = path / f"dir{number % 37}" / f"sub{number % 11}"
            place.mkdir(parents=True, exist_ok=True)
            start = source.randrange(len(text) - 70_000)
            (place / f"file{number}.txt").write_bytes(text[start : start + source.randrange(1, 60_000)])

    return made(f"tree-{files}", make)


@functools.cache
def crate(name):
    """The source directory of a crate of crates.io, as cargo has unpacked it."""
    folder = HERE / "crates" / name
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src" / "lib.rs").write_text("")
    (folder / "Cargo.toml").write_text(
        f'[package]\nname = "source"\nversion = "0.0.0"\nedition = "2021"\n'
        f'[dependencies]\n{name} = "={CRATES[name]}"\n[workspace]\n'
    )
    here = ["--target", "x86_64-unknown-linux-gnu"]
    ask = ["metadata", "--format-version", "1", "--offline", "--filter-platform", here[1]]
    fetched = subprocess.run(
        [find("cargo"), "fetch", *here], cwd=folder, env=plain(), capture_output=True, text=True
    )
    asked = subprocess.run([find("cargo"), *ask], cwd=folder, env=plain(), capture_output=True, text=True)
    if fetched.returncode or asked.returncode:
        raise Missing(f"crates.io did not give {name} {CRATES[name]}: {fetched.stderr.strip()[-200:]}")
    packages = json.loads(asked.stdout)["packages"]
    return next(pathlib.Path(p["manifest_path"]).parent for p in packages if p["name"] == name)
