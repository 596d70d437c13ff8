"""The backend ``apertium``: rule-based translation by Debian's packages, as processes of their own (GPL; nothing is linked).

A language pair is a file ``modes/<from>-<to>.mode`` that names a chain of programs. They are started here, one piped into the
next and without a shell, and read Apertium's stream format: a NUL ends a text, ``[…]`` passes as it is, and ``\\`` stands
before what has a meaning of its own (https://wiki.apertium.org/wiki/Apertium_stream_format).
"""

from __future__ import annotations

import re
import resource
import shlex
import shutil
import subprocess  # the programs are Debian's; what they read comes by a file, never as an argument
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pairs
import terms
from contract import InputFault, ModelFault

DATA = Path("/usr/share/apertium")
"""Where Debian's packages have the languages."""

PROGRAMS = "/usr/bin:/bin"
"""Where their programs are."""

MEMORY = 1 << 30
"""Bytes of address space for each program; the largest pair takes a quarter."""

WRITTEN = 64 << 20
"""Bytes that a chain may write."""

PATIENCE, PACE = 60.0, 200
"""Seconds that a chain has to start, and letters for which it gets one second more: 30 times what an idle processor needs."""

SPECIAL = re.compile(r"([\[\]{}\\/^$<>@])")
"""What has a meaning in the stream."""

APART = re.compile(r" +(?=[,.](?:\s|$))")

ENDS = (".", "!", "?", "…", ":", ";", "¡", "¿")
"""Marks after which a text needs no full stop of ours. Without one the tagger guesses worse."""


@dataclass(frozen=True, kw_only=True)
class Apertium:
    """The pairs of one folder of languages."""

    data: Path

    def translate(self, lines: Sequence[str], *, source: str, target: str) -> list[str]:
        """Each line's translation. A line that the programs fail at stays as it is.

        Args:
            lines: texts without line breaks; placeholders are runs of characters of private use (U+E000 to U+F8FF).
            source, target: ISO 639-1, as Whisper has them.

        Raises:
            InputFault: there is no such pair; those that there are from ``source`` are named.
            ModelFault: a program of the chain isn't installed.
        """
        known = pairs.apertium(self.data)
        if (source, target) not in known:
            there = ", ".join(sorted(b for a, b in known if a == source)) or "nothing"
            raise InputFault(f"Apertium here translates from {source} into {there}, not into {target}")
        chain = commands((self.data / "modes" / known[source, target]).read_text(encoding="utf-8"))
        for program in {command[0] for command in chain}:
            if shutil.which(program, path=PROGRAMS) is None:
                raise ModelFault(f"{program} isn't installed: {pairs.INSTALL}")
        return _translated(chain, list(lines))


def load(settings: Mapping[str, Any], models: Path) -> Apertium:
    """The pairs that are installed. Apertium's languages are Debian's packages and no weights: ``models`` isn't read.

    Raises:
        ModelFault: none is installed.
    """
    if not pairs.apertium(DATA):
        raise ModelFault(f"Apertium has no languages here: {pairs.INSTALL}")
    return Apertium(data=DATA)


def commands(mode: str) -> list[list[str]]:
    """The chain of a mode file, each program with its arguments.

    ``-z``: a NUL flushes. ``$1`` is the generator's option, here ``-n``: unknown words and forms bear no mark. ``$2`` is
    the tagger's, and empty.
    """
    chain: list[list[str]] = [[]]
    for word in shlex.split(mode, comments=True):
        if word == "|":
            chain.append([])
        elif word != "$2":
            chain[-1].append("-n" if word == "$1" else word)
    return [[command[0], "-z", *command[1:]] for command in chain if command]


def _translated(chain: list[list[str]], lines: list[str]) -> list[str]:
    """The lines' translations. Where a chain fails, its lines are halved until the one that it fails at is alone."""
    if not lines:
        return []
    codes = [_code(line) for line in lines]
    made = _run(chain, [text for text, _ in codes])
    if made is None:
        if len(lines) == 1:
            return lines
        half = len(lines) // 2
        return _translated(chain, lines[:half]) + _translated(chain, lines[half:])
    found = [_restore(text, held) for text, (_, held) in zip(made, codes, strict=True)]
    return [_closed(text, line) for text, line in zip(found, lines, strict=True)]


def _closed(text: str, line: str) -> str:
    """The text without spaces before a comma or a full stop, where the line has none: rules that move words leave some."""
    return text if APART.search(line) else APART.sub("", text)


def _code(line: str) -> tuple[str, list[str]]:
    """A line for the stream, and its placeholders in order: in the line they are words that no dictionary has."""
    return terms.coded(SPECIAL.sub(r"\\\1", " ".join(line.replace("\0", " ").split())))


def _restore(text: str, held: Sequence[str]) -> str:
    """A text out of the stream: placeholders again, marks without ``\\``, single spaces."""
    return " ".join(re.sub(r"\\(.)", r"\1", terms.decoded(text, held)).split())


def _run(chain: list[list[str]], texts: Sequence[str]) -> list[str] | None:
    """What the chain makes of the texts; None where a program fails, or the texts don't come out one by one."""
    ends = ["" if text.endswith(ENDS) else "." for text in texts]
    stream = "".join(f"{text}{end}[{k}]\0" for k, (text, end) in enumerate(zip(texts, ends, strict=True)))
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as taken:
        given.write(stream.encode("utf-8", "replace"))
        given.seek(0)
        if not _piped(chain, given, taken, PATIENCE + len(stream) / PACE):
            return None
        taken.seek(0)
        parts = taken.read().decode("utf-8", "replace").split("\0")
    made = []
    for k, (end, part) in enumerate(zip(ends, parts, strict=False)):
        text = part.removesuffix(f"[{k}]")
        if text == part:
            return None
        made.append(text.removesuffix(end))
    return made if len(made) == len(texts) and not "".join(parts[len(texts) :]).strip() else None


def _piped(chain: list[list[str]], given: IO[bytes], taken: IO[bytes], seconds: float) -> bool:
    """Run the chain from a file into a file; whether all of it ended well and in time."""
    running: list[subprocess.Popen[bytes]] = []
    until = time.monotonic() + seconds
    before: IO[bytes] = given
    try:
        for k, command in enumerate(chain):
            running.append(
                subprocess.Popen(
                    command,
                    stdin=before,
                    stdout=taken if k == len(chain) - 1 else subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={"PATH": PROGRAMS, "LC_ALL": "C.UTF-8"},
                    preexec_fn=_limits,
                )
            )
            if before is not given:
                before.close()
            before = running[-1].stdout or taken
        return not any(process.wait(max(until - time.monotonic(), 0.1)) for process in running)
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        for process in running:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _limits() -> None:
    """In the child: what a text can make it take."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (WRITTEN, WRITTEN))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
