"""The figures of a comparison: each preset against the truth, and against the others. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from builder.core.compare.heard import Heard
from builder.core.compare.reference import NO_REFERENCE, Reference
from builder.core.compare.speakers import SpeakerErrors, speaker_errors
from builder.core.compare.words import Agreement, Edit, SpokenWord, WordErrors, agreement_of, edits_between, errors_of


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One recording with one preset."""

    preset: str
    job: str
    """Its id; empty where none could be made."""
    heard: Heard | None = None
    failure: str = ""
    """Why nothing was heard."""
    words: WordErrors | None = None
    """Against the reference; None without one."""
    speakers: SpeakerErrors | None = None


@dataclass(frozen=True, kw_only=True)
class RecordingCompared:
    """One recording with every preset."""

    name: str
    reference: Reference = NO_REFERENCE
    attempts: tuple[Attempt, ...]
    agreements: Mapping[tuple[str, str], Agreement] = field(default_factory=lambda: MappingProxyType({}))
    """Two presets, in the order of the presets -> how far they agree."""
    base: str | None = None
    """The preset whose words :attr:`edits` begin from; None: the reference's."""
    edits: Mapping[str, tuple[Edit, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Preset -> what is different from the base."""

    @property
    def base_words(self) -> tuple[SpokenWord, ...]:
        """What the edits begin from."""
        if self.base is None:
            return self.reference.words or ()
        return next(a.heard.words for a in self.attempts if a.preset == self.base and a.heard is not None)


@dataclass(frozen=True, kw_only=True)
class PresetFigures:
    """One preset over all recordings that it has heard."""

    preset: str
    models: tuple[str, ...]
    """Ids."""
    model_bytes: int
    heard: int
    """Recordings."""
    sound: float = 0.0
    """Seconds of them."""
    seconds: float = 0.0
    """Of work, as a clock counts."""
    cpu_seconds: float | None = None
    peak_bytes: int | None = None
    words: WordErrors | None = None
    """Over the recordings that have a reference; None: none has."""
    speakers: SpeakerErrors | None = None
    agreement: Agreement | None = None
    """With all other presets together."""


def compared(name: str, reference: Reference, attempts: Sequence[Attempt]) -> RecordingCompared:
    """One recording's attempts with their errors and agreements."""
    heard = [(a.preset, a.heard) for a in attempts if a.heard is not None]
    keys = {preset: [word.key for word in one.words] for preset, one in heard}
    base = None if reference.words is not None else next((preset for preset, _ in heard), None)
    truth = [word.key for word in reference.words or ()]
    edits = {preset: edits_between(truth if base is None else keys[base], keys[preset]) for preset, _ in heard}
    agreements = {}
    for one, other in itertools.combinations(keys, 2):
        between = edits[other] if one == base else edits_between(keys[one], keys[other])
        agreements[one, other] = agreement_of(between)
    return RecordingCompared(
        name=name,
        reference=reference,
        attempts=tuple(_scored(a, reference, edits.get(a.preset)) for a in attempts),
        agreements=MappingProxyType(agreements),
        base=base,
        edits=MappingProxyType(edits),
    )


def _scored(attempt: Attempt, reference: Reference, edits: tuple[Edit, ...] | None) -> Attempt:
    if attempt.heard is None:
        return attempt
    turns = attempt.heard.turns
    return replace(
        attempt,
        words=errors_of(edits) if reference.words is not None and edits is not None else None,
        speakers=speaker_errors(reference.turns, turns) if reference.turns is not None and turns is not None else None,
    )


def figures(
    recordings: Sequence[RecordingCompared], preset: str, *, models: tuple[str, ...], model_bytes: int
) -> PresetFigures:
    """A preset over all recordings."""
    attempts = [a for r in recordings for a in r.attempts if a.preset == preset and a.heard is not None]
    heard = [a.heard for a in attempts if a.heard is not None]
    spent = [one.cost.cpu_seconds for one in heard]
    known = [seconds for seconds in spent if seconds is not None]
    words = [a.words for a in attempts if a.words is not None]
    speakers = [a.speakers for a in attempts if a.speakers is not None]
    agreements = [agreed for r in recordings for pair, agreed in r.agreements.items() if preset in pair]
    return PresetFigures(
        preset=preset,
        models=models,
        model_bytes=model_bytes,
        heard=len(heard),
        sound=round(sum(one.duration for one in heard), 3),
        seconds=round(sum(one.cost.seconds for one in heard), 3),
        cpu_seconds=round(sum(known), 3) if known and len(known) == len(spent) else None,
        peak_bytes=max((one.cost.peak_bytes for one in heard if one.cost.peak_bytes is not None), default=None),
        words=sum(words, WordErrors()) if words else None,
        speakers=sum(speakers, SpeakerErrors()) if speakers else None,
        agreement=sum(agreements, Agreement()) if agreements else None,
    )


def pairs(recordings: Sequence[RecordingCompared]) -> dict[tuple[str, str], Agreement]:
    """Every two presets -> how far they agree, over all recordings that both have heard."""
    found: dict[tuple[str, str], Agreement] = {}
    for recording in recordings:
        for pair, agreed in recording.agreements.items():
            found[pair] = found.get(pair, Agreement()) + agreed
    return found
