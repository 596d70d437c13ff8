"""What a language model corrected in a translation: beside the recordings, where the builder wrote it (docs/job-format.md)."""

from __future__ import annotations

import json
from typing import Any

from sentences import clean

FILE = "corrected.json"
"""Beside the recordings."""

ALONE = "llm"
"""The backend of a translation whose lines are what was said, until a language model has translated them."""


def apply(result: dict[str, Any], data: bytes | None, recording: str) -> list[str]:
    """Put corrected lines in their drafts' places, and return what a person is told.

    Args:
        result: of the stage translate, which is changed. A draft that isn't the one that was corrected stays.
        data: the file; None where there is none.
        recording: its number in the job.
    """
    found = {} if data is None else json.loads(data)
    notes = []
    for language, entry in (found.get(recording) or {}).items():
        translation = result["translations"].get(language)
        if translation is None:
            continue
        texts = {_key(line, line["before"]): clean(line["after"]) for line in entry["lines"]}
        count = 0
        for line in translation["lines"]:
            text = texts.get(_key(line, line["text"]))
            if text:
                line["text"] = text
                count += 1
        alone = translation["backend"] == ALONE
        if count:
            translation["backend"] += f", {'by' if alone else 'corrected by'} {entry['model']}"
        left = "".join(
            f"; {many} {'not translated' if alone else 'as they were'}: {why}"
            for why, many in sorted(entry["kept"].items())
        )
        did = "translated" if alone else "corrected"
        notes.append(f"{language}: {entry['model']} {did} {count} of {entry['asked']} lines{left}")
    silent = [language for language, each in result["translations"].items() if each["backend"] == ALONE]
    notes += [
        f"{language}: nothing is translated: no language model was asked"
        for language in silent
        if language not in (found.get(recording) or {})
    ]
    return notes


def _key(line: dict[str, Any], text: str) -> tuple[float, float, int, str]:
    return round(line["start"], 3), round(line["end"], 3), line.get("channel") or 0, text
