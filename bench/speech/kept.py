"""What was measured of a file is kept by everything that it depends on, so that a run resumes where it ended."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from harness import ROOT, WORK

PLACE = WORK / "kept"

PRODUCT = ("bake.yaml", "models.lock", "models.yaml", "builder", "stages")
"""What a job's result depends on."""


@cache
def tree() -> str:
    """Hex sha256 of the product's own files as they are, committed or not."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *PRODUCT]
    names = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    total = hashlib.sha256()
    for name in sorted(set(filter(None, names.split("\0")))):
        path = ROOT / name
        if path.is_file():
            total.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


@cache
def commit() -> str:
    """The commit, with a + where the product's files differ from it."""
    words = ["git", "-C", str(ROOT)]
    head = subprocess.run([*words, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    changed = subprocess.run([*words, "status", "--short", *PRODUCT], capture_output=True, text=True, check=True)
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def digest(path: Path) -> str:
    """Hex sha256 of a recording."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def key(*parts: object) -> str:
    """One name for everything that a result depends on."""
    return hashlib.sha256(json.dumps([str(p) for p in parts]).encode()).hexdigest()


def get(name: str) -> Any:
    """What was kept under a key, or None."""
    path = PLACE / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def put(name: str, value: Any) -> None:
    """Keep it; a reader never sees half of it."""
    PLACE.mkdir(parents=True, exist_ok=True)
    part = PLACE / f"{name}.{os.getpid()}.part"
    part.write_text(json.dumps(value))
    part.replace(PLACE / f"{name}.json")


def once(name: str, make: Callable[[], Any], file: Path | None = None) -> Any:
    """What is kept under a key; made when nothing is, or when the file that was made with it is gone."""
    found = get(name)
    if found is None or (file is not None and not file.exists()):
        found = make()
        put(name, found)
    return found


@cache
def recipe(module: str, *pins: str) -> str:
    """Hex sha256 of how recordings are made: a module of this package, what it does with sound, the sources' digests."""
    here = Path(__file__).parent
    code = [(here / name).read_bytes() for name in ("sound.py", module)]
    return hashlib.sha256(b"".join([*code, *(pin.encode() for pin in pins)])).hexdigest()


def progress(what: str, done: int, total: int, old: int = 0) -> None:
    """How far a row is, on standard error."""
    print(f"{what}: {done} of {total}" + (f" ({old} kept)" if old else ""), file=sys.stderr, flush=True)
