"""The command compare: the same recordings with several presets, and what each made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from builder.core.compare import page as pages
from builder.core.compare.figures import Attempt, PresetFigures, RecordingCompared, compared, figures, pairs
from builder.core.compare.words import Agreement
from builder.core.config.types import Config
from builder.core.jobs.job import Job
from builder.core.jobs.request import JobOptions, Request
from builder.core.languages import spoken
from builder.core.progress import OnProgress, Progress
from builder.core.text import format_size
from builder.core.weights.model import Model, Pin
from builder.edges.jobs import folder as jobs
from builder.edges.jobs import prepare, sources
from builder.edges.jobs.outcome import Outcome
from builder.edges.jobs.record import heard
from builder.edges.jobs.sources import InputOptions, Source
from builder.edges.system import files
from builder.errors import BakeError, InputError, Interrupted, MissingError, UsageError, did_you_mean
from builder.program import command
from builder.workflows import host as hosts
from builder.workflows.host import JobHost
from builder.workflows.run import QueueContext, RunOptions, budget_of, run_several
from builder.workflows.session import Session, chosen_models, fetch_missing, hardware_of, store_of


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """What is compared, apart from what jobs are asked to do."""

    presets: str | None = None
    """Names, separated by commas; None: all whose models are here."""
    page: Path | None = None
    """Where a page with the differences goes."""
    recursive: bool = False
    """Of a folder, the folders in it too."""
    build: bool = True
    """Build images that are missing; else they are an error."""


@dataclass(frozen=True, kw_only=True)
class PresetsCompared:
    """Recordings, each with several presets."""

    presets: tuple[PresetFigures, ...]
    """In the order in which they were named."""
    pairs: Mapping[tuple[str, str], Agreement]
    """Two presets -> how far they agree."""
    recordings: tuple[RecordingCompared, ...]
    skipped: tuple[str, ...] = ()
    """Files of folders that are no recordings, by their names."""
    page: Path | None = None
    failure: BakeError | None = None
    """Ctrl-C, else why the first job failed."""


@dataclass(frozen=True, kw_only=True)
class _Rival:
    """One preset, ready to run."""

    config: Config
    models: tuple[tuple[Model, Pin], ...]
    request: Request
    host: JobHost

    @property
    def preset(self) -> str:
        return self.config.defaults.preset


def compare(session: Session, words: Sequence[str], asked: JobOptions, options: CompareOptions) -> PresetsCompared:
    """Run each preset over the recordings and compare what they heard. What is done already isn't done again.

    Args:
        words: files and folders.
        asked: what each job is asked to do.

    Raises:
        UsageError: an unknown preset, one that can't do what is asked, or a place for the page that isn't one.
        MissingError: models aren't here: nothing is fetched.
        InputError: a recording or a reference can't be used.
    """
    chosen = _chosen(session, options.presets, asked)
    if options.page is not None:
        _require_place(options.page)
    found = sources.read(words, InputOptions(recursive=options.recursive))
    recordings = _recordings([*found.named, *found.found])
    for path in recordings.values():
        heard.beside(
            path, spoken(session.config.defaults.language)
        )  # what is wrong with it is said before hours of work
    rivals = [_rival(session, name, models, asked, build=options.build) for name, models in chosen.items()]
    for warning in dict.fromkeys(rival.host.warning for rival in rivals):
        if warning:
            session.on_progress(Progress(what="warning", note=warning, finished=True))
    made, skipped = _prepared(rivals, recordings, session.on_progress)
    results = _run(session, rivals, made)
    return _result(session.config, options, rivals, made, results, (*found.skipped, *skipped))


def _chosen(session: Session, names: str | None, asked: JobOptions) -> dict[str, tuple[tuple[Model, Pin], ...]]:
    """Preset -> its models, which are all here."""
    config = session.config
    wanted = list(dict.fromkeys(name.strip() for name in (names or "").split(",") if name.strip()))
    if names is not None and not wanted:
        raise UsageError("no preset is named", where="--presets", expected=", ".join(config.presets))
    for name in wanted:
        if name not in config.presets:
            raise UsageError(
                f'no preset "{name}"',
                where="--presets",
                expected=", ".join(config.presets),
                hint=did_you_mean(name, config.presets),
            )
    store = store_of(config)
    here: dict[str, tuple[tuple[Model, Pin], ...]] = {}
    lacking: dict[str, int] = {}
    unable: UsageError | MissingError | None = None
    for name in wanted or config.presets:
        try:
            models = tuple(chosen_models(_with(config, name), diarization=asked.diarization).values())
            hosts.resolve(_with(config, name), asked)
        except (UsageError, MissingError) as error:  # of a preset that nobody named: it can't do what is asked here
            if wanted:
                raise
            unable = unable or error
            continue
        size = sum(file.size for model, pin in models for file in store.missing(model, pin))
        if size:
            lacking[name] = size
        else:
            here[name] = models
    if lacking and (wanted or not here):
        raise MissingError(
            "models are not here: " + ", ".join(f"{name} lacks {format_size(size)}" for name, size in lacking.items()),
            where="--presets",
            hint="; ".join(command(f"models fetch --preset {name}") for name in lacking),
        )
    if not here:
        raise unable or UsageError("there is no preset", where="bake.yaml")
    if len(here) == 1 and not wanted:
        note = f"only {next(iter(here))} has its models here: {command('models fetch --preset NAME')} gets others"
        session.on_progress(Progress(what="warning", note=note, finished=True))
    return here


def _with(config: Config, preset: str) -> Config:
    return replace(config, defaults=replace(config.defaults, preset=preset))


def _require_place(page: Path) -> None:
    """Raises UsageError where a page can't be written, before the work that it would show."""
    place = files.expanded(page)
    if place.is_dir():
        raise UsageError("this is a folder", where=str(place), hint="--page FILE.html")
    if not place.absolute().parent.is_dir():
        raise UsageError("there is no such folder", where=str(place.absolute().parent), hint="--page FILE.html")


def _recordings(every: Sequence[Source]) -> dict[Source, Path]:
    """The recordings, each once.

    Raises:
        UsageError: standard input: what can be read once can't be compared.
    """
    recordings: dict[Source, Path] = {}
    for source in every:
        if source.path is None:
            raise UsageError("recordings that are compared are files", where=source.word, hint=command("compare FILE…"))
        if not any(path == source.path for path in recordings.values()):
            recordings[source] = source.path
    return recordings


def _rival(
    session: Session, preset: str, models: tuple[tuple[Model, Pin], ...], asked: JobOptions, *, build: bool
) -> _Rival:
    config = _with(session.config, preset)
    request = hosts.resolve(config, asked)
    host = hosts.choose(replace(session, config=config), stages=request.stages(config), gpu=request.on_gpu, build=build)
    fetch_missing(config, models, env=session.env, on_progress=session.on_progress)  # all are here: it tidies up
    return _Rival(config=config, models=models, request=request, host=host)


Made = dict[Source, dict[str, Job]]
"""Recording -> preset -> its job."""


def _prepared(
    rivals: Sequence[_Rival], recordings: Mapping[Source, Path], on_progress: OnProgress
) -> tuple[Made, tuple[str, ...]]:
    """A job of each recording with each preset, an earlier one where it is the same; and what is no recording.

    Raises:
        InputError: a recording that was named can't be used, or none in a folder.
    """
    made: Made = {}
    skipped = []
    for source, path in recordings.items():
        try:
            made[source] = {
                rival.preset: prepare.prepare(
                    rival.config,
                    [path],
                    rival.request,
                    media=rival.host.media,
                    on_progress=on_progress,
                    resume=True,
                    done_too=True,
                )
                for rival in rivals
            }
        except InputError:
            if not source.found:
                raise
            skipped.append(source.name)
    if not made:
        raise InputError("no file there is a recording", where=next(iter(recordings)).word, detail=skipped[:10])
    return made, tuple(skipped)


def _run(session: Session, rivals: Sequence[_Rival], made: Made) -> dict[str, Outcome | BakeError]:
    """What came out of each job, one after the other, so that none takes time from another; a preset after the other."""
    hardware, _ = hardware_of(session.config)
    results: dict[str, Outcome | BakeError] = {}
    for number, rival in enumerate(rivals, 1):
        session.on_progress(Progress(what=f"preset {rival.preset}", note=f"{number} of {len(rivals)}", finished=True))
        context = QueueContext(
            config=rival.config,
            env=session.env,
            on_progress=session.on_progress,
            host=rival.host,
            hardware=hardware,
            budget=budget_of(rival.config, memory=rival.host.memory or hardware.memory, gpus=len(hardware.gpus)),
            options=RunOptions(),
        )
        queue = {job.id: job for jobs_of in made.values() if (job := jobs_of[rival.preset]).id not in results}
        try:
            results |= {job.id: result for job, result in run_several(context, list(queue.values())).results}
        except KeyboardInterrupt:  # before the first began, or behind the last
            results |= {name: Interrupted("not begun") for name in queue if name not in results}
        if any(isinstance(result, Interrupted) for result in results.values()):
            break
    return results


def _result(
    config: Config,
    options: CompareOptions,
    rivals: Sequence[_Rival],
    made: Made,
    results: Mapping[str, Outcome | BakeError],
    skipped: tuple[str, ...],
) -> PresetsCompared:
    """What the finished jobs say."""
    recordings = []
    for source, by_preset in made.items():
        attempts = [_attempt(config, preset, job, results.get(job.id)) for preset, job in by_preset.items()]
        language = next((a.heard.language for a in attempts if a.heard is not None), None)
        assert source.path is not None
        recordings.append(compared(source.name, heard.beside(source.path, language), attempts))
    of_presets = tuple(
        figures(
            recordings,
            rival.preset,
            models=tuple(model.id for model, _ in rival.models),
            model_bytes=sum(file.size for _, pin in rival.models for file in pin.files),
        )
        for rival in rivals
    )
    failures = [result for result in results.values() if isinstance(result, BakeError)]
    stopped = next((failure for failure in failures if isinstance(failure, Interrupted)), None)
    if stopped is not None:
        stopped = Interrupted("interrupted", hint="the same command continues: what is done is kept")
    result = PresetsCompared(
        presets=of_presets,
        pairs=pairs(recordings),
        recordings=tuple(recordings),
        skipped=skipped,
        failure=stopped or next(iter(failures), None),
    )
    if options.page is None or not any(one.heard for one in of_presets):
        return result
    return replace(result, page=_write(config, options.page, result, made))


def _attempt(config: Config, preset: str, job: Job, result: Outcome | BakeError | None) -> Attempt:
    if isinstance(result, Outcome):
        return Attempt(preset=preset, job=job.id, heard=heard.of_job(config, job))
    return Attempt(preset=preset, job=job.id, failure="not begun" if result is None else result.what)


def _write(config: Config, place: Path, result: PresetsCompared, made: Made) -> Path:
    """Write the page; it is as open as the least open of the recordings."""
    folder = config.shipped / "templates" / "compare"
    templates = {name: (folder / name).read_text(encoding="utf-8") for name in pages.TEMPLATES}
    text = pages.render(result.presets, result.recordings, templates)
    mode = 0o777
    for by_preset in made.values():
        for job in by_preset.values():
            mode &= jobs.result_mode(job, jobs.folder(config, job))
    return files.write_output(place, text.encode(), instead="--page FILE.html", mode=mode)
