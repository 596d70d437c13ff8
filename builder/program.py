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
    return command(words) if name() != LAUNCHER else f"python3 {shell_word(PurePath(sys.argv[0]))} {words}"


def shell_word(value: object) -> str:
    """A value as one word of a line that a person is to type: a shell reads exactly it, and a terminal shows all of it."""
    text = str(value)
    if isinstance(value, PurePath) and text.startswith("-"):  # else it is an option
        text = f"./{text}"
    if text.isprintable():
        return shlex.quote(text)
    plain = "".join(f"\\{c}" if c in "\\'" else c if c.isprintable() else _bytes(c) for c in text)
    return f"$'{plain}'"


def _bytes(character: str) -> str:
    """A character as $'…' reads it; one of half a surrogate is a byte of a file's name that is no text."""
    undecodable = "\udc80" <= character <= "\udcff"
    raw = character.encode(errors="surrogateescape" if undecodable else "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in raw)


def command(words: str, *values: object) -> str:
    """A line to type: this program, its arguments as they are, then values that a shell takes as one word each."""
    return " ".join([name(), words, *map(shell_word, values)])
