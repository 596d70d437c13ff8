"""The section of bench/results.md: a row keeps its place until the same row is measured again."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import ROOT, machine

from speech import kept

HEAD = "| bench-speech | figure | bar | peer, in the same run | measured |"


@dataclass(frozen=True)
class Options:
    """How much is measured, and on what."""

    count: int | None
    """Recordings (windows: hours; hour, memory and diarization: minutes; other costs: runs); None: all."""
    final: bool


@dataclass(frozen=True)
class Line:
    """One figure."""

    row: str
    """The row of the benchmark that measures it."""
    what: str
    figure: str
    bar: str = ""
    met: bool | None = None
    """Whether the bar is met; None where there is none."""
    peer: str = ""


def written(line: Line, setting: str) -> str:
    """The line in the table: a missed bar says so."""
    figure = line.figure if line.met is not False else f"{line.figure}, **missed**"
    return f"| {line.row}: {line.what} | {figure} | {line.bar} | {line.peer} | {setting} |"


def section(before: Sequence[str], lines: Sequence[Line], setting: str) -> list[str]:
    """The rows of the table: those measured now in the place of the same row's old ones.

    Args:
        before: rows that are there, as they stand.
        setting: when, where and of which commit the new ones are.
    """
    rows = list(dict.fromkeys(line.row for line in lines))
    found: list[str] = []
    done: set[str] = set()
    for old in before:
        row = old.removeprefix("| ").partition(":")[0]
        if row not in rows:
            found.append(old)
        elif row not in done:
            found += [written(line, setting) for line in lines if line.row == row]
            done.add(row)
    return found + [written(line, setting) for line in lines if line.row not in done]


def publish(lines: Sequence[Line], *, save: bool, note: str = "") -> None:
    """Print what was measured; with ``save``, put it into bench/results.md."""
    setting = f"{time.strftime('%Y-%m-%d')}, {kept.commit()}, {machine()}" + (f", {note}" if note else "")
    print(*(written(line, setting) for line in lines), sep="\n")
    if save:
        store(ROOT / "bench" / "results.md", lines, setting)


def store(results: Path, lines: Sequence[Line], setting: str) -> None:
    """Replace the section in a file of results."""
    text = results.read_text()
    there = re.search(r"\n## bench-speech\n(.*?)(?=\n## |\Z)", text, flags=re.S)
    before = [line for line in (there[1] if there else "").splitlines() if re.match(r"\| [a-z-]+: ", line)]
    table = "\n".join([HEAD, "|---|---|---|---|---|", *section(before, lines, setting)])
    rest = text[: there.start()] + text[there.end() :] if there else text
    results.write_text(f"{rest.rstrip()}\n\n## bench-speech\n\n{table}\n")
