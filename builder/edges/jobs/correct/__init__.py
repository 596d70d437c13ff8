"""A job's translation is corrected by a language model, between the stages translate and subtitles.

The stage makes the draft, in a container without a network where there are images. This process asks, and has no weights. What it
writes lies beside the recordings, where containers can't change it: results of stages stay as they are.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from builder.core import correction, translation
from builder.core.config.types import Config
from builder.core.jobs.job import Job
from builder.core.progress import OnProgress, Progress
from builder.edges.jobs.correct import endpoint
from builder.edges.jobs.correct.endpoint import Asker, Endpoint, NoMore
from builder.edges.system import files
from builder.edges.weights import access
from builder.receiver.jobs.translating import ALONE
from builder.receiver.jobs.untrusted import json_below, object_below

GIVE_UP = 3
"""Questions in a row without an answer after which no more are asked."""


def correct(job: Job, folder: Path, asker: Asker, *, on_progress: OnProgress, stopped: Callable[[], bool]) -> None:
    """Ask about all translations of a job, and write what came of it (docs/job-format.md).

    Args:
        stopped: whether to ask no more; what was answered so far counts.
    """
    made: dict[str, Any] = {}
    for entry in job.inputs:
        result = object_below(folder, f"work/{translation.STAGE}/{entry.id}.json")
        translations = result.get("translations")
        heard = object_below(folder, f"work/align/{entry.id}.json") or object_below(folder, f"work/asr/{entry.id}.json")
        turns = object_below(folder, f"work/diarize/{entry.id}.json").get("turns")
        for target, each in translations.items() if isinstance(translations, dict) else ():
            try:
                alone = each.get("backend") == ALONE
                lines = correction.lines(each["lines"], heard["segments"], turns, drafted=not alone)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            if each.get("backend") == "same language" or not lines:
                continue
            source = str(result.get("language"))[:20]
            run = _Run(asker, source, str(target)[:20], on_progress, stopped)
            found = run.over(lines)
            made.setdefault(entry.id, {})[str(target)[:20]] = found | ({"translated": True} if alone else {})
    before = json_below(folder, correction.FILE)
    if made != before and (made or before is not None):
        files.write_json(folder / correction.FILE, made)
    endpoint.prune(asker.cache)


class _Run:
    """The questions about one translation."""

    def __init__(
        self, asker: Asker, source: str, target: str, on_progress: OnProgress, stopped: Callable[[], bool]
    ) -> None:
        self.asker, self.source, self.target = asker, source, target
        self.on_progress, self.stopped = on_progress, stopped
        self.kept: Counter[str] = Counter()
        """Why lines stay as they are -> how many."""
        self.changed: list[dict[str, Any]] = []

    def over(self, lines: list[correction.Line]) -> dict[str, Any]:
        """What came of all questions, for one language of a recording."""
        asked = correction.questions(lines)
        failed, over = 0, ""
        self.kept["too long to ask about"] = len(lines) - sum(len(one.lines) for one in asked)
        for k, question in enumerate(asked):
            if over or self.stopped():
                self.kept[over or "the job was stopped"] += len(question.lines)
                continue
            self._tell(k, len(asked))
            try:
                self._take(question)
                failed = 0
            except (ValueError, NoMore) as error:
                self.kept[str(error)] += len(question.lines)
                failed += 1
                over = str(error) if isinstance(error, NoMore) or failed == GIVE_UP else ""
        self._tell(len(asked), len(asked))
        return {
            "model": self.asker.endpoint.model,
            "asked": len(lines),
            "lines": self.changed,
            "kept": {why: count for why, count in sorted(self.kept.items()) if count},
        }

    def _take(self, question: correction.Question) -> None:
        answer = self.asker.ask(question, self.source, self.target)
        self.kept.update(answer.refused.values())
        for k, text in answer.texts.items():
            line = question.lines[k]
            if text != line.draft:
                entry = {"start": line.start, "end": line.end, "before": line.draft, "after": text}
                self.changed.append(entry if line.channel is None else entry | {"channel": line.channel})

    def _tell(self, done: int, total: int) -> None:
        step = Progress(what=f"llm {self.target}", done=done, total=total, unit="questions", finished=done == total)
        with contextlib.suppress(BrokenPipeError):
            self.on_progress(step)


def endpoint_of(job: Job) -> Endpoint | None:
    """Who corrects a job's translation; raises as :func:`builder.edges.jobs.correct.endpoint.endpoint`."""
    found = next((stage for stage in job.stages if stage.name == translation.STAGE), None)
    return None if found is None else endpoint.endpoint(found.settings)


def asker(config: Config, found: Endpoint, env: Mapping[str, str], halt: threading.Event) -> Asker:
    """An asker with the key and the answers of this state folder.

    Args:
        halt: set when the job is to stop.

    Raises:
        ConfigError: the key can't be read, or others can read it.
    """
    secret = access.secret(env, config.home, endpoint.KEY)
    key = endpoint.key(secret, str(access.secrets_file(env, config.home)))
    return Asker(endpoint=found, key=key, cache=config.paths.llm, env=env, halt=halt)


def needed(job: Job) -> bool:
    """Whether nobody else translates into one of a job's languages."""
    found = next((stage.settings for stage in job.stages if stage.name == translation.STAGE), {})
    return ALONE in translation.wishes(found.get(translation.BACKENDS)).values()


def unasked(found: Endpoint) -> str:
    """What a person is told where a job's model may not be asked."""
    return f"{found.model} is not asked to correct the translation: --allow-network {found.host} allows it"
