"""The subtitles stage's own check of subtitle files, as a process: the rules are in one place, and what others wrote is read in
none of ours."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.edges.system import shell
from builder.errors import InputError
from builder.receiver.jobs.untrusted import parse_json

PATIENCE, PACE = 30.0, 20.0
"""Seconds that a check may take, and those for each file; one of 100 000 subtitles takes two."""


def check(
    stages: Path, files: Sequence[Path], rules: Mapping[str, Any], language: str | None
) -> list[Mapping[str, Any]]:
    """What stages/subtitles/check.py says of each file, in their order.

    Args:
        stages: the folder of the stages' code.
        rules: the settings of the stage subtitles.
        language: the text's, by its code; None: it isn't known.

    Raises:
        InputError: a file can't be read as subtitles, or checking took too long.
    """
    request = {"files": [str(path) for path in files], "rules": dict(rules), "language": language}
    program = stages / "subtitles" / "check.py"
    # -I: neither the caller's variables nor the current folder decide what is imported.
    words = [sys.executable, "-I", str(program)]
    done = shell.run(words, stdin=json.dumps(request).encode(), timeout=PATIENCE + PACE * len(files))
    if done.code != 0:
        raise InputError(
            "the subtitles could not be checked",
            where=str(files[0]) if len(files) == 1 else "",
            detail=done.err.splitlines()[-5:],
            hint="check one file at a time",
        )
    answers: list[Mapping[str, Any]] = parse_json(done.out.encode())
    for path, answer in zip(files, answers, strict=True):
        if "error" in answer:
            raise InputError(str(answer["error"]), where=str(path), expected="SubRip (.srt) or WebVTT (.vtt)")
    return answers
