"""Hearing a sound: windows in batches, and again what no word covers or nobody can have said."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from types import ModuleType
from typing import Any

import guards
from contract import StageJob
from glossary import Term
from hints import Hints
from sounding import letters
from windows import PAD, WINDOW, Window, read
from words import NEAR, Span, Word, filled, joined, merged, segments, snapped, uncovered, without

AGAIN = 1.2
"""Seconds of speech without a word from which it is heard again."""

NAMED = 0.5
"""Seconds of speech without a word from which the result names it."""

CONTEXT = 2.0
"""Seconds of sound around such a part that are heard with it: a model that hears a part of a sentence guesses."""

TEMPERATURE = 0.4
"""At which texts are sampled where the likeliest was wrong. What is heard again has no prompt: lost models repeat it."""

MUTE = 0.6
"""The model's own probability of silence from which it says that there is no speech: Whisper's threshold."""

Reason = tuple[float, float, str]
"""Start and end of a part in seconds, and why it has no words."""


@dataclass(kw_only=True)
class Ear:
    """A model with what it is asked for."""

    job: StageJob
    backend: ModuleType
    model: Any
    terms: tuple[Term, ...] = ()
    """Of the glossary."""
    hints: Hints = field(init=False)

    def __post_init__(self) -> None:
        self.hints = Hints(self.job, self.model, self.terms)

    @property
    def batch(self) -> int:
        """Windows that are heard at once."""
        return int(self.job.settings["batch_size"]) or int(getattr(self.backend, "BATCH", 1))

    def hear(self, encoded: Any, languages: Sequence[str], **how: Any) -> list[Any]:
        """The backend's hearings of one batch, in order, whatever the windows' languages."""
        heard: list[Any] = [None] * len(languages)
        for language in dict.fromkeys(languages):
            which = [k for k, other in enumerate(languages) if other == language]
            mine = self.backend.part(self.model, encoded, which)
            told = {"terms": self.hints.text(language)} | how if self.hints.terms else how
            for k, one in zip(which, self.backend.hear(self.job, self.model, mine, language, **told), strict=True):
                heard[k] = one
        return heard

    def nearer(self, encoded: Any, languages: Sequence[str], heard: list[Any]) -> list[Any]:
        """The hearings of a batch; a window is heard again where it may have terms that the model wasn't told of.

        What it hears then counts if one of them is in it.
        """
        for k, language in enumerate(languages):
            if not (wanted := self.hints.beyond(language, heard[k].words)):
                continue
            one = self.backend.part(self.model, encoded, [k])
            again = self.hear(one, [language], terms=self.hints.with_(language, wanted))[0]
            text = letters("".join(w["word"] for w in again.words))
            if any(letters(term) in text for term in wanted) and not guards.suspicious(again.words, again.likelihood):
                heard[k] = again
        return heard

    def english(self, encoded: Any, languages: Sequence[str]) -> list[Any]:
        """The windows' hearings in English; None for each whose language that is, and for all where nobody asked.

        The encoder, half of the cost, has run already. The job's prompt is in the spoken language, so there is none.
        """
        told: list[Any] = [None] * len(languages)
        which = [k for k, language in enumerate(languages) if language != "en"]
        if not which or not self.job.settings.get("english"):
            return told
        mine, how = self.backend.part(self.model, encoded, which), {"prompt": False, "doing": "translate"}
        found = self.hear(mine, [languages[k] for k in which], **how)
        for k, hearing in zip(which, found, strict=True):
            if guards.suspicious(hearing.words, hearing.likelihood):
                one = self.backend.part(self.model, encoded, [k])
                again = self.hear(one, [languages[k]], temperature=TEMPERATURE, **how)[0]
                if guards.better(again.words, hearing.words, (again.likelihood, hearing.likelihood)):
                    hearing = again
            told[k] = hearing
        return told


@dataclass(kw_only=True)
class Heard:
    """A window with what was heard in it."""

    window: Window
    language: str
    words: list[Word]
    likelihood: float
    silence: float
    english: list[Word] | None = None
    """What is said, in English; None: ``words`` are, or nobody asked."""


@dataclass(kw_only=True)
class Account:
    """All words of a sound, and where there are none."""

    words: list[Word] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    """``start``, ``end`` and ``why``."""


def timed(window: Window, hearing: Any, language: str) -> list[Word]:
    """A hearing's words on the recording's timeline, none beyond the window's end."""
    found = []
    for w in hearing.words:
        if w["word"].strip():
            start, end = window.span(w["start"], w["end"])
            sure = round(float(w["probability"]), 3)
            found.append({"word": w["word"], "start": start, "end": end, "probability": sure, "language": language})
    return found


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Consecutive items, ``size`` at a time."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def first(
    ear: Ear, encoded: Iterable[tuple[list[Window], Any]], languages: Callable[[Any], list[str]]
) -> Iterator[Heard]:
    """Each window, heard for the first time.

    Args:
        encoded: batches of windows, each with the backend's encoding.
        languages: the windows' languages, of an encoding.
    """
    for windows, states in encoded:
        spoken = languages(states)
        told = ear.english(states, spoken)
        heard = ear.nearer(states, spoken, ear.hear(states, spoken))
        for window, language, hearing, english in zip(windows, spoken, heard, told, strict=True):
            yield Heard(
                window=window,
                language=language,
                words=timed(window, hearing, language),
                likelihood=hearing.likelihood,
                silence=hearing.silence,
                english=None if english is None else timed(window, english, "en"),
            )


def in_english(heard: Sequence[Heard], speech: Sequence[Sequence[float]]) -> list[Word]:
    """The words of all windows in English, but for those that nobody can have said."""
    told = [one if one.english is None else replace(one, words=one.english) for one in heard]
    return sifted(stitched(told), speech)[0]


def account(ear: Ear, path: Path, heard: Sequence[Heard], speech: Sequence[Sequence[float]]) -> Account:
    """The words of all windows; what is missing, and what nobody can have said, is heard again.

    Args:
        path: the sound.
        heard: its windows, in order.
        speech: regions in seconds, in order.
    """
    again = Again(ear, path, heard, speech)
    again.windows()
    words, dropped = sifted(stitched(heard), speech)
    words = snapped(again.parts(words), speech)
    return Account(words=_marked(words, speech), gaps=_gaps(words, speech, dropped, again.reasons))


def sifted(words: Sequence[Word], speech: Sequence[Sequence[float]]) -> tuple[list[Word], list[Reason]]:
    """Words without the segments that nobody can have said, and where these were and why."""
    kept: list[Word] = []
    dropped: list[Reason] = []
    for group in segments(words):
        why = guards.impossible(group) or (guards.INVENTED if guards.phantom(group, speech) else None)
        wrong = [True] * len(group) if why else guards.bursts(group)
        for left_out, pairs in groupby(zip(group, wrong, strict=True), key=lambda pair: pair[1]):
            part = [word for word, _ in pairs]
            if left_out:
                dropped.append((part[0]["start"], part[-1]["end"], why or guards.QUICK))
            else:
                kept += part
    return kept, dropped


def stitched(heard: Sequence[Heard]) -> list[Word]:
    """Words of windows in order, each once where windows overlap."""
    words: list[Word] = []
    end = 0.0
    for one in heard:
        begin = one.window.start
        near = len(words)
        while begin < end and near and words[near - 1]["end"] > begin - NEAR:
            near -= 1
        words[near:] = joined(words[near:], one.words, begin, end) if begin < end else one.words
        end = max(end, one.window.end)
    return words


class Again:
    """Hears windows and parts of a sound for a second time."""

    def __init__(self, ear: Ear, path: Path, heard: Sequence[Heard], speech: Sequence[Sequence[float]]) -> None:
        self.ear, self.path, self.heard, self.speech = ear, path, heard, speech
        self.reasons: list[Reason] = []
        """Why parts that were heard again have no words."""
        self._starts = [one.window.start for one in heard]
        self._ends = [b for _, b in speech]

    def _hear(self, windows: Sequence[Window], languages: Sequence[str], temperature: float) -> list[Any]:
        states = self.ear.backend.encode(self.ear.model, [read(self.path, w) for w in windows])
        return self.ear.hear(states, languages, prompt=False, temperature=temperature)

    def windows(self) -> None:
        """Hear windows whose text is suspicious at another temperature; the better hearing is kept, and marked if need be."""
        doubtful = [one for one in self.heard if guards.suspicious(one.words, one.likelihood)]
        for batch in batches(doubtful, self.ear.batch):
            found = self._hear([one.window for one in batch], [one.language for one in batch], TEMPERATURE)
            for one, hearing in zip(batch, found, strict=True):
                new = timed(one.window, hearing, one.language)
                if guards.better(new, one.words, (hearing.likelihood, one.likelihood)):
                    one.words, one.likelihood, one.silence = new, hearing.likelihood, hearing.silence
                if guards.suspicious(one.words, one.likelihood):
                    one.words = [w | {"unsure": True} for w in one.words]

    def parts(self, words: list[Word]) -> list[Word]:
        """The words with those of parts that none covered: heard alone, and once more where that failed."""
        parts = uncovered(words, self.speech, AGAIN)
        for temperature in (0.0, TEMPERATURE):
            failed: list[Reason] = []
            for batch in batches(parts, self.ear.batch):
                windows = [self._around(hole, CONTEXT if not temperature else CONTEXT / 2) for hole in batch]
                languages = [self.heard[max(bisect_right(self._starts, hole[0]) - 1, 0)].language for hole in batch]
                found = self._hear(windows, languages, temperature)
                for hole, window, language, hearing in zip(batch, windows, languages, found, strict=True):
                    new = timed(window, hearing, language)
                    why = self._fault(new, hearing)
                    fuller = words if why else filled(words, new, hole, CONTEXT)
                    if fuller is words:
                        failed.append((*hole, why or (guards.SILENCE if hearing.silence > MUTE else guards.NOTHING)))
                    words = fuller
            self.reasons += failed
            parts = [(a, b) for a, b, why in failed if why != guards.SILENCE]
        return words

    def _fault(self, words: Sequence[Word], hearing: Any) -> str | None:
        """Why a second hearing isn't taken."""
        if why := guards.suspicious(words, hearing.likelihood):
            return why
        return guards.INVENTED if words and guards.phantom(words, self.speech) else None

    def _around(self, hole: Span, wide: float) -> Window:
        """What is heard for a part: it begins and ends elsewhere than before, in a pause where there is one near."""
        a, b = hole[0] - wide, hole[1] + wide
        k = bisect_left(self._ends, a)
        while k < len(self.speech) and self.speech[k][0] < hole[0]:
            if self.speech[k][0] - PAD >= a:
                a = self.speech[k][0] - PAD
            k += 1
        k = max(bisect_left(self._ends, hole[1]), 0)
        if k < len(self.speech) and self.speech[k][1] + PAD <= b:
            b = self.speech[k][1] + PAD
        a = max(a, self.heard[0].window.start)
        return Window(start=round(a, 3), end=round(min(b, self.heard[-1].window.end, a + WINDOW), 3))


def _marked(words: list[Word], speech: Sequence[Sequence[float]]) -> list[Word]:
    """Words that nothing supports are marked ``unsure``."""
    ends = [b for _, b in speech]
    vague = iter(guards.vague(words))
    for group in segments(words):
        near = speech[bisect_left(ends, group[0]["start"] - 1) : bisect_right(ends, group[-1]["end"]) + 1]
        mostly = 2 * sum([next(vague) for _ in group]) > len(group) and guards.confidence(group) < guards.FIRM
        whole = mostly or guards.packs("".join(w["word"] for w in group)) > guards.RATIO
        for word, alone in zip(group, guards.unsupported(group, near), strict=True):
            if whole or alone:
                word["unsure"] = True
    return words


def _gaps(
    words: Sequence[Word],
    speech: Sequence[Sequence[float]],
    dropped: Sequence[Reason],
    reasons: Sequence[Reason],
) -> list[dict[str, Any]]:
    """Detected speech that no word accounts for, and what was dropped, each with its reason."""
    said = merged((w["start"], w["end"]) for w in words)
    left = [hole for a, b, _ in dropped for hole in without([(a, b)], said)]
    known = sorted([*dropped, *reasons], key=lambda r: (r[2] in (guards.NOTHING, guards.SILENCE), r[0], r[1]))
    gaps = []
    for a, b in merged([*uncovered(words, speech, NAMED), *left]):
        why = next((why for x, y, why in known if x < b and a < y), guards.NOTHING)
        gaps.append({"start": round(a, 3), "end": round(b, 3), "why": why})
    return gaps
