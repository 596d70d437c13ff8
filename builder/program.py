"""This program's name as the user typed it, for the lines that say what to type next."""

from __future__ import annotations

import shlex
import sys
from pathlib import PurePath

LAUNCHER = "python3 build.py"
"""The name in a checkout; texts that are written down, such as the help's, have this one."""


def name() -> str:
    """``python3 build.py``, ``whisperbake`` where pip or uv installed it, or ``python3 -m builder``."""
    typed = PurePath(sys.argv[0])
    if typed.parts[-2:] == ("builder", "__main__.py"):
        return "python3 -m builder"
    return "whisperbake" if typed.name == "whisperbake" else LAUNCHER


def elsewhere(words: str) -> str:
    """The same, to be typed in another folder than this one."""
    return command(words) if name() != LAUNCHER else f"python3 {shlex.quote(sys.argv[0])} {words}"


def command(words: str) -> str:
    """A line to type: this program and its arguments."""
    return f"{name()} {words}"
