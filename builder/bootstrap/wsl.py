"""What build.cmd starts inside WSL: build.py with the same arguments, their Windows paths translated.

Standard library only: it runs before there is an environment.
"""

from __future__ import annotations

import os
import re
import subprocess  # edges/system/shell.py belongs to the environment that build.py makes
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

FOLDER = "WHISPERBAKE_FOLDER"
"""The folder that build.cmd was called in, as WSL translates it (``/p`` in WSLENV)."""

ABSOLUTE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
"""``C:\\…``, ``C:/…`` or ``\\\\server\\…``."""

OPTION = re.compile(r"(--[a-z][a-z-]*=)(.*)", re.DOTALL)


def translated(word: str) -> str:
    """An argument as build.py understands it: a path, or a path behind ``--option=``; anything else as it is.

    A relative path is one with a backslash that leads somewhere, or to a new name in a folder that is there.
    """
    if option := OPTION.fullmatch(word):
        return option[1] + translated(option[2])
    if ABSOLUTE.match(word):
        return _linux(word)
    turned = word.replace("\\", "/")
    return turned if turned != word and Path(turned).parent.is_dir() else word


def _linux(path: str) -> str:
    """WSL's own translation: it knows where the drives are. The path itself where there is none."""
    try:
        done = subprocess.run(["wslpath", "-u", path], capture_output=True, text=True, check=False)
    except OSError:
        return path
    return done.stdout[:-1] if done.returncode == 0 and done.stdout else path


def main(words: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Become build.py, in the folder of the caller; the exit code is its own."""
    folder = env.get(FOLDER, "")
    if folder:
        try:
            os.chdir(folder)
        except OSError as error:
            sys.stderr.write(f"error: WSL doesn't see the folder {folder} ({error.strerror})\n")
            sys.stderr.write("  next: call build.cmd in a folder of a drive with a letter, such as C:\n")
            raise SystemExit(3) from None
    program = str(Path(__file__).resolve().parents[2] / "build.py")
    others = {name: value for name, value in env.items() if name != FOLDER}
    os.execve(sys.executable, [sys.executable, program, *map(translated, words)], others)


if __name__ == "__main__":
    main(sys.argv[1:], os.environ)
