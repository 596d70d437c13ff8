"""Write images/wheels.txt, the names of the wheels that images may have: ``.venv/bin/python requirements/wheels.py`` (make lock).

A lock has the hashes of all files of a release, without names. The papers of an image say which one it has (docs/papers.md), by
the names. Those of other systems and Pythons are left out, and whatever no lock has.
"""

from __future__ import annotations

import re
import subprocess  # a developer's script, not part of the builder
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("stages/*/requirements-*.txt", "images/requirements-*.txt")
TARGET = ROOT / "images" / "wheels.txt"
COMPILE = ("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.10", "--no-deps", "--no-header")
WHEEL = re.compile(r'url = "[^"]*/([^"/]+\.whl)".*?sha256 = "([0-9a-f]{64})"')
HASH = re.compile(r"sha256:([0-9a-f]{64})")
OURS = re.compile(
    r".+-(py3|py2\.py3|cp3[2-9](\.cp3\d+)*|cp31[0-4](\.cp3\d+)*)-(none|abi3|cp31[0-4])-(any|(linux|manylinux)\w*_(x86_64|aarch64)(\.\w+)*)\.whl"
)
"""Of Linux on the two machines, for Python 3.10 to 3.14."""

HEADER = "# Written by requirements/wheels.py: sha256 and name of the wheels in the stages' locks, for Linux.\n"


def names(lock: Path) -> dict[str, str]:
    """Name -> hex sha256 of every wheel of a lock's packages, as the package index has them."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "pylock.toml"
        words = [sys.executable, "-m", *COMPILE, "--format", "pylock.toml", "--output-file", str(target), str(lock)]
        subprocess.run(words, check=True)
        return {unquote(name): sha256 for name, sha256 in WHEEL.findall(target.read_text())}


def main() -> None:
    locks = sorted(path for pattern in LOCKS for path in ROOT.glob(pattern))
    locked = {found for path in locks for found in HASH.findall(path.read_text())}
    known = {name: sha256 for path in locks for name, sha256 in names(path).items() if sha256 in locked}
    lines = [f"{sha256}  {name}\n" for name, sha256 in sorted(known.items()) if OURS.fullmatch(name)]
    TARGET.write_text(HEADER + "".join(lines))


if __name__ == "__main__":
    main()
