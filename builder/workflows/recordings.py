"""From the words of ``run`` to jobs: which recordings they mean, a job of each group, and where copies of results go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.core import translation
from builder.core.config.types import Config
from builder.core.jobs import naming
from builder.core.jobs.job import Job, JobStage
from builder.core.jobs.naming import CopyOptions, Place, Wanted
from builder.core.jobs.request import Request
from builder.core.languages import spoken
from builder.core.progress import OnProgress, Progress
from builder.core.terms import Workflow
from builder.edges.jobs import sources as reading
from builder.edges.jobs.sources import InputOptions, Source
from builder.errors import InputError, UsageError

if TYPE_CHECKING:
    from builder.edges.jobs.prepare import Media


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What the words of a command mean."""

    groups: tuple[tuple[Source, ...], ...]
    """Each becomes a job."""
    skipped: tuple[str, ...]
    """Files of folders that are no recordings, by their names."""
    places: Mapping[Source, Place]
    """Where copies of the results go; empty when none are wanted."""


def gather(words: Sequence[str], options: InputOptions, delivery: CopyOptions | None, *, apart: bool) -> Gathered:
    """What words mean. Files, patterns, standard input and addresses are one job, each file of a folder is its own.

    Args:
        apart: each recording is a job of its own.

    Raises:
        InputError: there is no such file, or no recording in a folder.
        UsageError: an address that isn't allowed, or results beside what lies nowhere.
    """
    found = reading.read(words, options)
    groups = [(source,) for source in found.named] if apart else [found.named] if found.named else []
    every = [*found.named, *found.found]
    places: Mapping[Source, Place] = {}
    if delivery is not None:
        nowhere = next((source for source in every if source.path is None), None)
        if delivery.folder is None and nowhere is not None:
            raise UsageError("beside this there is no folder", where=nowhere.word, hint="--output DIR")
        chosen = naming.places(delivery, [(s.name, s.path and s.path.absolute()) for s in every])
        places = dict(zip(every, chosen, strict=True))
    return Gathered(groups=(*groups, *((source,) for source in found.found)), skipped=found.skipped, places=places)


def look_first(gathered: Gathered, delivery: CopyOptions, request: Request, config: Config) -> None:
    """Refuse before any work what copies of results would be refused for after it.

    Raises:
        UsageError: results are there already, or two would have one name.
        MissingError: a folder can't be written.
    """
    from builder.edges.jobs import delivery as copies

    kinds = naming.expected(
        str(_setting(config, request.settings["subtitles"], "subtitles", "formats")),
        speakers=request.diarization,
        film=request.workflow is not Workflow.TRANSCRIBE,
        languages=_languages(request.settings),
        names=request.names,
    )
    language = _language(request.settings["asr"])
    copies.look_first(
        delivery,
        [
            Wanted(
                place=gathered.places[source],
                kinds=kinds,
                number=f"{number:02}",
                language=language,
                preset=request.preset,
            )
            for group in gathered.groups
            for number, source in enumerate(group, 1)
        ],
    )


def _setting(config: Config, settings: Mapping[str, Any], stage: str, name: str) -> Any:
    return settings.get(name, config.stages[stage].defaults.get(name))


def _language(settings: Mapping[str, Any]) -> str | None:
    """The language of the text, by the settings of asr; None: it is detected."""
    return "en" if settings.get("task") == "translate" else spoken(settings.get("language"))


def _languages(settings: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Those of the text, where it is translated; one that is detected isn't among them."""
    told = translation.listed(settings.get(translation.STAGE, {}))
    heard = _language(settings.get("asr", {}))
    return (*([heard] if heard else []), *told) if told else ()


def places_of(config: Config, queue: Sequence[Job], delivery: CopyOptions) -> Mapping[str, tuple[Place, ...]]:
    """Where copies of finished jobs' results go: job -> a place for each recording.

    Raises:
        UsageError: where a job's recordings lay nobody knows; or as :func:`look_first`.
        MissingError: the folder can't be written.
    """
    from builder.edges.jobs import delivery as copies

    if delivery.folder is None:
        raise UsageError("where a job's recordings lay is not noted", where="--beside", hint="--output DIR")
    every = [(job.id, entry) for job in queue for entry in job.inputs]
    chosen = naming.places(delivery, [(entry.name, None) for _, entry in every])
    found: dict[str, tuple[Place, ...]] = {}
    for (job, _), place in zip(every, chosen, strict=True):
        found[job] = (*found.get(job, ()), place)
    copies.look_first(delivery, [wanted for job in queue for wanted in _of_job(config, job, found[job.id])])
    return found


def _of_job(config: Config, job: Job, places: Sequence[Place]) -> list[Wanted]:
    """The copies that a job's results will have."""
    settings = {stage.name: stage.settings for stage in job.stages}
    kinds = naming.expected(
        str(_setting(config, settings.get("subtitles", {}), "subtitles", "formats")),
        speakers="diarize" in settings,
        film="mux" in settings,
        languages=_languages(settings),
        names="names" in settings,
    )
    language = _language(settings.get("asr", {}))
    return [
        Wanted(place=place, kinds=kinds, number=entry.id, language=language, preset=job.preset)
        for entry, place in zip(job.inputs, places, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class Made:
    """Jobs that were made, or found unfinished."""

    jobs: tuple[Job, ...]
    places: Mapping[str, tuple[Place, ...]]
    """Job -> a place for each recording; empty when no copies are wanted."""
    skipped: tuple[str, ...]
    """Files of folders that are no recordings, by their names."""


def make(
    config: Config,
    gathered: Gathered,
    request: Request,
    options: InputOptions,
    *,
    media: Media,
    on_progress: OnProgress,
    accept: Callable[[Sequence[JobStage]], None],
    informed: Callable[[Request, Sequence[Path]], Request] = lambda request, _: request,
) -> Made:
    """A job of each group, or an unfinished one of the same recordings and settings.

    Args:
        accept: raises what speaks against a job of these stages.
        informed: makes the request of one job of the one of all, by its recordings.

    Raises:
        InputError: a recording that was named can't be used, or none in a folder.
    """
    from builder.edges.jobs import prepare

    jobs, places, skipped = [], {}, list(gathered.skipped)
    for group in gathered.groups:
        with reading.brought(group, config.jobs, options, on_progress=on_progress) as paths:
            try:
                mine = [paths[source] for source in group]
                job = prepare.prepare(
                    config,
                    mine,
                    informed(request, mine),
                    media=media,
                    on_progress=on_progress,
                    resume=True,
                    accept=accept,
                )
            except InputError:
                if not group[0].found:
                    raise
                skipped.append(group[0].name)
                continue
        jobs.append(job)
        if gathered.places:
            places[job.id] = tuple(gathered.places[source] for source in group)
    if not jobs:
        raise InputError("no file there is a recording", where=gathered.groups[0][0].word, detail=skipped[:10])
    if skipped:
        few = ", ".join(skipped[:5]) + (" …" if len(skipped) > 5 else "")
        note = f"{len(skipped)} file{'s' if len(skipped) > 1 else ''}, no recordings: {few}"
        on_progress(Progress(what="skipped", note=note, finished=True))
    return Made(jobs=tuple(jobs), places=places, skipped=tuple(skipped))
