"""What keeps a batch from being planned again: its results would be of two kinds. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from builder.core.batch.batch_file import Batch

MACHINES = ("threads",)
"""Settings that suit a machine, and change no result."""


def differences(before: Batch, now: Batch) -> list[str]:
    """What differs in words: ``option language: de, now en``; the options first, and what follows from them not again."""
    found = [*_of("option {}", before.options, now.options)]
    for name in ("identity", "mode", "variant", "preset", "workflow"):
        found += _of(name, {"": getattr(before, name)}, {"": getattr(now, name)})
    if found:
        return found
    found += _of("model {}", before.models, now.models)
    found += _of("image of {}", before.images, now.images)
    return found or [*_stages(before.job, now.job), *_of("file {}", before.beside, now.beside)]


def _stages(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    stages = [{stage["name"]: stage for stage in job["stages"]} for job in (before, now)]
    yield from _of("stages", {"": ", ".join(stages[0])}, {"": ", ".join(stages[1])})
    for name in stages[0].keys() & stages[1].keys():
        one, other = (_settings(each[name]) for each in stages)
        yield from _of(f"{name}.{{}}", one, other)


def _settings(stage: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a stage's result. The models' digests are compared as models."""
    kept = {name: value for name, value in stage["settings"].items() if name not in (*MACHINES, "models")}
    return {**kept, "needs": stage["needs"], "uses": {use: model["id"] for use, model in stage["models"].items()}}


def _of(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield f"{what.format(name)}: {_shown(before.get(name))}, now {_shown(now.get(name))}"


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
