"""One command's session: its configuration and display, and the steps that several commands share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import ui
from builder.core.config import selection as choice
from builder.core.config.types import Config
from builder.core.progress import OnProgress
from builder.core.terms import Purpose
from builder.core.weights.catalog import LANGUAGES
from builder.core.weights.model import Model, Pin
from builder.edges.machine import environment as native
from builder.edges.machine import project
from builder.edges.weights.store import Store
from builder.errors import BakeError, UsageError, did_you_mean

if TYPE_CHECKING:
    from builder.core.jobs.job import Job
    from builder.core.machine import Hardware, Recommendation
    from builder.edges.images.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a command found or did: ``data`` for scripts, ``text`` for people, and what failed."""

    data: Any
    text: str = ""
    failure: BakeError | None = None


@dataclass(frozen=True, kw_only=True)
class Session:
    """One command's configuration, environment and progress display."""

    config: Config
    env: Mapping[str, str]
    on_progress: OnProgress
    live: ui.Live
    quiet: bool = False


@contextlib.contextmanager
def open_session(
    *, home: Path | None, quiet: bool, env: Mapping[str, str], start: Path, overrides: Mapping[str, object]
) -> Iterator[Session]:
    """Read the project's files and show progress until the block ends."""
    config = project.load(
        project.find_root(start),
        env=env,
        home=home,
        overrides={name: value for name, value in overrides.items() if value is not None},
    )
    with ui.Live(quiet=quiet) as live:
        yield Session(config=config, env=env, on_progress=live.on_progress, live=live, quiet=quiet)


def store_of(session: Session) -> Store:
    return Store(session.config.paths.models)


def layout_of(session: Session) -> Layout:
    from builder.edges.images.layout import Layout

    return Layout(session.config.paths.layout, store_of(session).root)


def model_named(config: Config, name: str) -> Model:
    if name not in config.models:
        raise UsageError(f'no model "{name}"', hint=did_you_mean(name, config.models) or "models list shows all")
    return config.models[name]


def pinned(session: Session, ids: Sequence[str]) -> list[tuple[Model, Pin]]:
    models = [model_named(session.config, name) for name in ids]
    pins = choice.require_pins(session.config, models)
    return [(m, pins[m.id]) for m in models]


def chosen_models(
    session: Session, *, models: str | None = None, diarization: bool = True
) -> dict[Purpose, tuple[Model, Pin]]:
    """The pinned model for each purpose of the planned stages."""
    config = session.config
    speakers = diarization and config.defaults.diarization
    chosen = choice.choose(
        config,
        preset=config.defaults.preset,
        variant=config.defaults.variant,
        stages=[name for name in config.stages if speakers or name != "diarize"],
        models=[m.strip() for m in models.split(",") if m.strip()] if models else (),
        diarization=speakers,
        language=config.defaults.language,
    )
    pins = choice.require_pins(config, chosen.values())
    return {purpose: (model, pins[model.id]) for purpose, model in chosen.items()}


def image_models(
    session: Session, *, models: str | None = None, languages: str | None = None, diarization: bool = True
) -> tuple[tuple[Model, Pin], ...]:
    """The pinned models that images carry: one for each purpose, of alignment one for each language, in that order.

    Raises:
        UsageError: no language of that name.
    """
    asked = [code.strip() for code in (languages or "").split(",") if code.strip()]
    for code in asked:
        if code not in LANGUAGES:
            raise UsageError(
                f'"{code}" is no language',
                where="--languages",
                expected="ISO 639-1 codes: en,es",
                hint=did_you_mean(code, LANGUAGES),
            )
    found: dict[str, tuple[Model, Pin]] = {}
    every: Sequence[str | None] = asked or [session.config.defaults.language]
    for language in every:
        config = replace(session.config, defaults=replace(session.config.defaults, language=language))
        chosen = chosen_models(replace(session, config=config), models=models, diarization=diarization)
        found |= {model.id: (model, pin) for model, pin in chosen.values()}
    return tuple(found.values())


def fetch_missing(
    session: Session, wanted: Sequence[tuple[Model, Pin]], folders: Sequence[Path] = (), *, skip_gated: bool = False
) -> tuple[Any, ...]:
    """Bring models into the store; none that is there already, and then without a network.

    Args:
        skip_gated: leave out gated models that the hub would not give out; else they are an error, before any download.
    """
    store = store_of(session)
    missing = [(model, pin) for model, pin in wanted if store.missing(model, pin)]
    if not missing:
        return ()
    from builder.edges.weights import access as gates
    from builder.edges.weights import fetch as hub

    config = session.config
    places = [*folders, *(Path(p) for p in config.defaults.sources)]
    token = gates.find_token(session.env, config.home)
    if closed := gates.closed(missing, token=token, env=session.env, places=places):
        if not skip_gated:
            raise gates.refusal(closed, token=token, home=config.home, way_out="models fetch --skip-gated")
        names = {gate.model.id for gate in closed}
        missing = [(model, pin) for model, pin in missing if model.id not in names]
    env = {**session.env, "HF_TOKEN": token.value} if token else session.env
    return tuple(hub.fetch(store, missing, folders=places, env=env, on_progress=session.on_progress))


def native_python(session: Session, *, force: bool = False) -> Path:
    """The native environment's python, made when it is missing."""
    stages = tuple(session.config.stages.values())
    if not force and (there := native.ready(session.config, stages)):
        return there
    return native.ensure(session.config, stages, env=session.env, on_progress=session.on_progress, force=force)


def hardware_of(session: Session, *, refresh: bool = False) -> tuple[Hardware, Recommendation]:
    from builder.core.machine import recommend
    from builder.edges.machine import hardware as probe

    found = probe.hardware(session.config.paths.hardware, refresh=refresh)
    return found, recommend(found)


def existing_jobs(config: Config, words: Sequence[str]) -> list[Job]:
    """The jobs that ``run``'s words name; none when they are recordings. A file wins over an id.

    Raises:
        UsageError: some are jobs, some recordings.
    """
    from builder.edges.jobs import listing

    def is_job(word: str) -> bool:
        path = Path(word).expanduser()
        return not path.is_file() and (listing.is_id(word) or (path / "job.yaml").is_file())

    named = [word for word in words if is_job(word)]
    if named and len(named) < len(words):
        other = next(word for word in words if word not in named)
        raise UsageError(f"{named[0]} is a job, {other} is none", hint="run jobs and recordings apart")
    return [listing.find(config, word) for word in named]
