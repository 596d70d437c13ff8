"""Who translates a text from one language into another: one rule for the builder and the loader. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

TRANSLATE = "translate"
"""The stage; the workflow of a film with translations has its name."""

ANY = "*"
"""A way's source where a backend takes any language that is spoken."""

HEARD, ENGLISH = "whisper", "english"
"""The backend that hears the sound in English, and the setting of asr that makes it do so."""

NEURAL = "nmt"
"""The backend that has a model for translation."""

ALONE = "llm"
"""The backend that is no stage's: what was said stays, until a language model that the builder asks has translated it."""

SPARES = ("apertium",)
"""Backends that the second pass may ask besides the chosen one: they need no model, and no sound."""

MOST_TRANSLATIONS = 10
"""Languages of one job."""

WAYS = "translation"
"""The list of a template of jobs that says what its images translate."""


@dataclass(frozen=True)
class Way:
    """From one language into another, by a backend."""

    source: str
    """Whisper's code, or :data:`ANY`."""
    target: str
    backend: str
    besides: frozenset[str] = frozenset()
    """Of any source: languages that are none."""

    def takes(self, source: str | None, target: str) -> bool:
        """Whether it translates into ``target``; a ``source`` of None is detected, and may be any."""
        return self.target == target and self.source in (ANY, source) and source not in self.besides


def first_backend(source: str | None, target: str, ways: Iterable[Way], wish: str | None = None) -> str | None:
    """Who translates; None where nobody does.

    Args:
        source: the language that is spoken; None: it is detected.
        ways: the better come first.
        wish: the backend that somebody wants.
    """
    able = (way.backend for way in ways if way.takes(source, target))
    return next((backend for backend in able if wish in (None, backend)), None)


def spare_backends(source: str | None, backends: Mapping[str, str], ways: Iterable[Way]) -> dict[str, str]:
    """Target -> another backend than the chosen one, for those that have one.

    Args:
        source: the language that is spoken; None: it is detected, and whether it is one of the way's shows then.
        backends: target -> the chosen one.
    """
    found: dict[str, str] = {}
    for way in ways:
        chosen = backends.get(way.target, way.backend)
        if way.backend in SPARES and way.backend != chosen and source in (None, way.source):
            found.setdefault(way.target, way.backend)
    return {target: found[target] for target in backends if target in found}


def backends_of(setting: Any) -> dict[str, str]:
    """Target -> backend, of a setting such as ``en=whisper,fr=apertium``."""
    return dict(part.split("=", 1) for part in str(setting or "").split(",") if "=" in part)


def backends_text(backends: Mapping[str, str]) -> str:
    """The setting for them."""
    return ",".join(f"{target}={backend}" for target, backend in backends.items())


def ways_as_data(ways: Iterable[Way]) -> list[dict[str, Any]]:
    """Ways as JSON types, in their order: those with one source and backend are a row."""
    rows: dict[tuple[str, str, frozenset[str]], list[str]] = {}
    for way in ways:
        rows.setdefault((way.backend, way.source, way.besides), []).append(way.target)
    return [
        {"backend": backend, "source": source, "besides": sorted(besides), "into": targets}
        for (backend, source, besides), targets in rows.items()
    ]


def ways_of(template: Mapping[str, Any]) -> list[Way]:
    """What a template's images translate; none where it doesn't say.

    Raises:
        KeyError, TypeError, AttributeError: it says it in another form.
    """
    return [
        Way(row["source"], target, row["backend"], frozenset(row["besides"]))
        for row in template.get(WAYS, ())
        for target in row["into"]
    ]
