"""What was said, with the names in it as the stage names spells them."""

from __future__ import annotations

from typing import Any

from contract import Recording, StageJob


def spoken(job: StageJob, recording: Recording) -> dict[str, Any]:
    """A recording's words: of align, else of asr, with what the stage names has spelt anew."""
    result: dict[str, Any] = job.load("align" if job.has("align") else "asr", recording)
    if job.has("names"):
        apply(result["segments"], job.load("names", recording)["changes"])
    return result


def kept(job: StageJob, recording: Recording) -> list[str]:
    """Names that a translation leaves as they are."""
    return [str(name) for name in job.load("names", recording)["keep"]] if job.has("names") else []


def apply(segments: list[dict[str, Any]], changes: list[dict[str, Any]]) -> None:
    """Change words where they stand; a change that doesn't fit the text is left out."""
    touched = set()
    for change in changes:
        segment, word = change["segment"], change["word"]
        if not (0 <= segment < len(segments) and 0 <= word < len(segments[segment]["words"])):
            continue
        entry = segments[segment]["words"][word]
        if entry["word"].strip() == change["before"]:
            entry["word"] = entry["word"].replace(change["before"], change["after"], 1)
            touched.add(segment)
    for segment in touched:
        segments[segment]["text"] = "".join(entry["word"] for entry in segments[segment]["words"]).strip()
