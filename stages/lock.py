"""Write the stages' hash-locked requirements: ``.venv/bin/python stages/lock.py`` (make lock).

Each lock names just what the stage imports (installed with --no-deps), for Python 3.10 and later on every platform.
All stages are resolved together first, so that a package has one version in all of them.
"""

from __future__ import annotations

import re
import subprocess  # a developer's script, no part of the builder
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMPILE = (
    "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.10", "--no-deps", "--generate-hashes",
    "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links",
)  # fmt: skip
HEADER = "# Written by stages/lock.py from {name}; installed with --no-deps --require-hashes.\n"


def lock(variant: str, *, upgrade: bool) -> None:
    """Make ``requirements-<variant>.txt`` beside every ``requirements-<variant>.in``."""
    wanted = sorted(HERE.glob(f"*/requirements-{variant}.in"))
    with tempfile.TemporaryDirectory() as folder:
        together = Path(folder) / "all.txt"
        known = "".join(p.with_suffix(".txt").read_text() for p in wanted if p.with_suffix(".txt").exists())
        if known and not upgrade:
            pins = Path(folder) / "pins.txt"
            pins.write_text("\n".join(sorted(set(re.findall(r"^[^\s#]+==\S+(?: ; [^\\\n]+)?", known, re.M)))))
            keep = ["--constraints", str(pins)]
        else:
            keep = []
        run([*COMPILE, *keep, "--output-file", str(together), *map(str, wanted)])
        for source in wanted:
            target = source.with_suffix(".txt")
            made = Path(folder) / "one.txt"
            run([*COMPILE, "--constraints", str(together), "--output-file", str(made), str(source)])
            target.write_text(HEADER.format(name=source.name) + made.read_text())
            made.unlink()


def run(argv: list[str]) -> None:
    subprocess.run([sys.executable, "-m", *argv], check=True)


if __name__ == "__main__":
    for each in [a for a in sys.argv[1:] if not a.startswith("-")] or ["slim"]:
        lock(each, upgrade="--upgrade" in sys.argv)
