"""Language pairs of Apertium on this machine: the stage's own program says them, since stages and builder share no code."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from builder.edges.system import shell

SECONDS = 10.0
"""How long the program may take; it lists one folder."""

PAIR = re.compile(r"[a-z]{2,3} [a-z]{2,3}")


def pairs(stages: Path) -> tuple[tuple[str, str], ...]:
    """(source, target), by Whisper's codes and sorted; none where Apertium isn't installed.

    Args:
        stages: the folder of the stages, ``config.shipped / "stages"``.
    """
    done = shell.run([sys.executable, "-I", str(stages / "translate/pairs.py")], timeout=SECONDS)
    lines = done.out.splitlines() if done.code == 0 else []
    found = [line.split(" ") for line in lines if PAIR.fullmatch(line)]
    return tuple((source, target) for source, target in found)
