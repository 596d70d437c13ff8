"""Write the stages' hash-locked requirements: ``.venv/bin/python stages/lock.py`` (make lock).

Each lock names just what the stage imports (installed with --no-deps), for Python 3.10 and later on every platform.
All stages are resolved together first, so that a package has one version in all of them.
"""

from __future__ import annotations

import re
import subprocess  # a developer's script, no part of the builder
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMPILE = (
    "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.10", "--no-deps", "--generate-hashes",
    "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links",
)  # fmt: skip
APART = ("tokenizers",)
"""What differs between the variants: Transformers 4 takes an older one."""

HEADER = "# Written by stages/lock.py from {name}; installed with --no-deps --require-hashes.\n"


def lock(variant: str, *, upgrade: bool) -> None:
    """Make ``requirements-<variant>.txt`` beside every ``requirements-<variant>.in``."""
    wanted = sorted(HERE.glob(f"*/requirements-{variant}.in"))
    with tempfile.TemporaryDirectory() as folder:
        together = Path(folder) / "all.txt"
        known = set() if upgrade else pins(p.with_suffix(".txt") for p in wanted)
        if variant != "slim":
            slim = pins(HERE.glob("*/requirements-slim.txt"))
            known |= {pin for pin in slim if pin.split("==")[0] not in APART}
        constraints = Path(folder) / "pins.txt"
        constraints.write_text("\n".join(sorted(known)))
        keep = ["--constraints", str(constraints)]
        run([*COMPILE, *keep, "--output-file", str(together), *map(str, wanted)])
        for source in wanted:
            target = source.with_suffix(".txt")
            made = Path(folder) / "one.txt"
            run([*COMPILE, "--constraints", str(together), "--output-file", str(made), str(source)])
            target.write_text(HEADER.format(name=source.name) + made.read_text())
            made.unlink()


def pins(locks: Iterable[Path]) -> set[str]:
    """``name==version ; marker`` of everything in the locks that exist."""
    text = "".join(path.read_text() for path in locks if path.exists())
    return set(re.findall(r"^[^\s#]+==\S+(?: ; [^\\\n]+)?", text, re.M))


def run(argv: list[str]) -> None:
    subprocess.run([sys.executable, "-m", *argv], check=True)


if __name__ == "__main__":
    for each in [a for a in sys.argv[1:] if not a.startswith("-")] or ["slim", "slim-gpu", "full"]:
        lock(each, upgrade="--upgrade" in sys.argv)
