"""translate: the text in other languages, line by line, each with the span of what it translates."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import again
import contract
import fitting
import glossary
import handed
import lines
import respelt
from contract import InputFault, ModelFault, Recording, StageJob
from enforced import Enforced
from lines import Line
from loading import carried

HEARD = "whisper"
"""The backend without a module of its own: asr has heard the sound in English (``work/asr/<in>.english.json``)."""

NEURAL = "nmt"
"""The backend that has the job's model for translation."""

ALONE = "llm"
"""The backend that is none of this stage: lines stay as they were said, and the program that runs the job asks a model."""

BACKENDS = ("apertium", NEURAL)
"""Modules here that translate text."""

BATCH = 64
"""Lines that a backend gets at once; between two batches the stage tells how far it is."""

NAMED = 20
"""Lost terms that a note names."""

SELF = "same language"
"""What a result names in a backend's place where the text is in the language that was asked for."""


class Translator(Protocol):
    """What a backend's ``load(settings, models)`` returns."""

    def translate(self, lines: Sequence[str], *, source: str, target: str) -> list[str]:
        """The same number of lines in the same order; raises InputFault or ModelFault, which the user reads."""


def named(setting: Any) -> dict[str, str]:
    """Target -> backend, of a setting such as ``es=apertium,en=whisper``."""
    return dict(entry.split("=", 1) for entry in str(setting or "").split(",") if "=" in entry)


def wanted(settings: dict[str, Any]) -> dict[str, str]:
    """Target -> backend, in the order in which they were asked for.

    Raises:
        InputFault: a target has no backend, or one that is no module here.
    """
    backends = named(settings.get("backends"))
    found = {}
    for target in filter(None, str(settings.get("to") or "").split(",")):
        backend = backends.get(target, "")
        if backend not in (HEARD, ALONE, *BACKENDS):
            raise InputFault(f"nothing here translates into {target!r}: {backend or 'no backend'}")
        found[target] = backend
    return found


def work(job: StageJob) -> None:
    targets = wanted(job.settings)
    loaded: dict[str, Translator] = {}
    terms = glossary.told(job)
    for recording in job.inputs:
        heard = respelt.spoken(job, recording)
        turns = job.load("diarize", recording)["turns"] if job.has("diarize") else None
        task = Task(job, recording, lines.cut(heard["segments"], turns), heard["language"], heard["duration"], loaded)
        names = respelt.kept(job, recording)
        task.enforced = {target: Enforced(terms, target, names) for target in targets} if terms or names else {}
        made = {target: task.into(target, backend, len(targets)) for target, backend in targets.items()}
        job.save(recording, {"language": heard["language"], "duration": heard["duration"], "translations": made})
        job.progress(recording, heard["duration"], heard["duration"])


@dataclass
class Task:
    """One recording's lines, to be translated."""

    job: StageJob
    recording: Recording
    said: list[Line]
    spoken: str
    """The recording's language; a line's own comes first."""
    duration: float
    """Seconds."""
    loaded: dict[str, Translator]
    """Backends by name; what isn't there is loaded."""
    enforced: dict[str, Enforced] = field(default_factory=dict)
    """The glossary's terms by target; empty without a glossary."""
    done: float = 0.0
    """Seconds of the recording, as far as progress tells of them."""

    def language(self, line: Line) -> str:
        return line.language or self.spoken

    def into(self, target: str, backend: str, parts: int) -> dict[str, Any]:
        """A language's entry of ``work/translate/<in>.json``.

        Args:
            parts: languages in all.
        """
        if all(self.language(line) == target for line in self.said):
            if self.said:
                self.job.note(self.recording, f"{target} is what is spoken: its text is not translated")
            backend, told = SELF, self.said
        elif backend == ALONE:
            told = self.said
        elif backend == HEARD:
            told = self.heard()
        else:
            told = self.translated(target, backend, self.duration / parts)
        if self.said and not told:
            self.job.note(self.recording, f"nothing was translated into {target}")
        changes: list[dict[str, Any]] = []
        if backend not in (SELF, ALONE) and self.job.settings.get("second_pass", "off") != "off":
            told, changes = self.again(told, target, backend)
        made = {"backend": backend, "lines": [line.data() for line in told], "changes": changes}
        return made | self.terms(target, backend, told)

    def again(self, told: list[Line], target: str, backend: str) -> tuple[list[Line], list[dict[str, Any]]]:
        """A translation's lines after the second pass, and what it changed."""
        spare = named(self.job.settings.get("others")).get(target)
        texts = [name for name in (backend, spare) if name in BACKENDS]
        second = again.Pass(
            language=self.language,
            ways=[again.Way(name=name, texts=self.by(name, target), context=name == backend) for name in texts],
            back=self.backwards(texts[0], target) if texts else None,
            every=self.job.settings["second_pass"] == "back",
            check=self.lacking(target),
        )
        with self.job.timed("again"):
            better = second.better(self.said, told)
        if second.doubted:
            self.job.note(self.recording, f"{target}: {second.summary()}")
        return better, second.changes

    def by(self, backend: str, target: str) -> Callable[[list[str], str], list[str]]:
        """A backend as the second pass asks it: where it doesn't have the pair, nothing comes of it."""

        def texts(asked: list[str], language: str) -> list[str]:
            with suppress(InputFault, ModelFault):
                self.load(backend)
                return [lines.clean(text) for text in self.texts(backend, asked, language, target)]
            return [""] * len(asked)

        return texts

    def backwards(self, backend: str, target: str) -> Callable[[list[str], str], list[str] | None]:
        """A backend that translates what it made into the language that was spoken; None where it can't."""

        def texts(asked: list[str], language: str) -> list[str] | None:
            with suppress(InputFault, ModelFault):
                self.load(backend)
                return self.texts(backend, asked, target, language)
            return None

        return texts

    def lacking(self, target: str) -> Callable[[str, str], dict[str, float]]:
        """What the second pass has against a translation that lacks terms."""
        enforced = self.enforced.get(target)
        return (lambda said, told: enforced.lacking(said, told, self.spoken)) if enforced else (lambda said, told: {})

    def terms(self, target: str, backend: str, told: list[Line]) -> dict[str, Any]:
        """``{"terms": …}``: what became of the glossary's terms, where there is a glossary; a note tells of lost ones."""
        if target not in self.enforced or not self.enforced[target].glossary or backend in (SELF, ALONE):
            return {}
        account = self.enforced[target].account(self.said, told, self.language)
        if account["lost"]:
            names = ", ".join(list(dict.fromkeys(entry["wanted"] for entry in account["lost"]))[:NAMED])
            self.job.note(self.recording, f"terms that are not in the translation into {target}: {names}")
        return {"terms": account}

    def heard(self) -> list[Line]:
        """The lines in English, as asr heard them."""
        name = f"{self.recording.id}.english.json"
        self.job.work("asr", name)
        told = handed.load(self.job.root, f"work/asr/{name}")["segments"]
        with self.job.timed("work"):
            return fitting.fitted(self.said, lines.cut(told, None))

    def translated(self, target: str, backend: str, share: float) -> list[Line]:
        """The lines in another language, by a backend that translates text.

        Args:
            share: seconds of the recording as which this language counts for progress.
        """
        self.load(backend)
        told: list[Line] = []
        for language, group in groupby(self.said, key=self.language):
            mine = list(group)
            for first in range(0, len(mine), BATCH):
                part = mine[first : first + BATCH]
                with self.job.timed("work"):
                    texts = self.texts(backend, [line.text for line in part], language, target)
                told += [line.told(text) for line, text in zip(part, texts, strict=True) if text.strip()]
                self.done += share * len(part) / len(self.said)
                self.job.progress(self.recording, self.done, self.duration)
        return told

    def load(self, name: str) -> None:
        """Have a backend ready; raises what its ``load`` raises."""
        if name not in self.loaded:
            self.loaded[name] = carried(self.job, name, lambda: self.opened(name))

    def opened(self, name: str) -> Translator:
        """A backend; raises what its ``load`` raises."""
        module, models = importlib.import_module(name), Path(os.environ.get("BAKE_MODELS", "/models"))
        if name != NEURAL:  # nothing to tell of a model
            found: Translator = module.load(self.job.settings, models)
            return found
        folder = self.job.model("translation")
        with self.job.timed("load"):
            found = module.load(self.job.settings, folder)
        return found

    def texts(self, backend: str, texts: list[str], language: str, target: str) -> list[str]:
        """Texts of one language in another.

        Raises:
            RuntimeError: the backend returned another number of them.
        """
        if language == target:
            return texts

        def translate(given: list[str]) -> Sequence[str]:
            return self.loaded[backend].translate(given, source=language, target=target)

        enforced = self.enforced.get(target)
        made = enforced.translated(texts, language, translate) if enforced else translate(texts)
        if len(made) != len(texts):
            raise RuntimeError(f"{backend} made {len(made)} lines of {len(texts)}")
        return made


if __name__ == "__main__":
    contract.main("translate", work)
