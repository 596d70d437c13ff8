"""Attacks by the hundred: ``attempt(number)`` of each module makes one of its kind, the same from the same number.

Tests try the first of each kind, ``make bench-hostile`` as many as its bar names (bench/hostile.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attack."""

    name: str
    """What is tried, with its number: enough to make it again."""
    run: Callable[[Path], str | None]
    """Try it in an empty folder. None when it had no effect; else the effect, in one line."""


def effect(attempt: Attempt, folder: Path) -> str | None:
    """Try an attack in a new folder; its name and its effect, when it had one."""
    folder.mkdir()
    found = attempt.run(folder)
    return None if found is None else f"{attempt.name}: {found}"
