"""One short function a command; each reads like the picture in the README.

Recording and choices go in on the left, effects happen in ``edges``, a :class:`Result` comes out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import ui
from builder.core import choice, job as jobspec
from builder.core.progress import Report
from builder.core.types import Config, Mode, Model, Pin, Purpose, StageSpec, Workflow
from builder.edges import project
from builder.errors import BakeError, InputError, UsageError, did_you_mean

if TYPE_CHECKING:
    from builder.core.recommend import Hardware, Recommendation


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
    report: Report
    live: ui.Live


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the command line asks of a job, as it was typed."""

    models: str | None = None
    start: str | None = None
    end: str | None = None
    speakers: int | None = None
    diarization: bool = True
    device: str | None = None
    threads: int | None = None
    batch_size: int | None = None


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
        yield Session(config=config, env=env, report=live.report, live=live)


def _planned(session: Session, *, diarization: bool, workflow: Workflow | None) -> tuple[StageSpec, ...]:
    """The stages a job may have, in pipeline order; mux only where subtitles go into a video."""
    left_out = set() if diarization else {"diarize"}
    if workflow is Workflow.TRANSCRIBE:
        left_out.add("mux")
    return tuple(s for s in session.config.stages.values() if s.name not in left_out)


def _chosen(
    session: Session, stages: Sequence[StageSpec], *, models: str | None, diarization: bool
) -> dict[Purpose, tuple[Model, Pin]]:
    """The pinned model for each purpose of the planned stages."""
    config = session.config
    chosen = choice.choose(
        config,
        preset=config.defaults.preset,
        variant=config.defaults.variant,
        stages=[s.name for s in stages],
        models=[m.strip() for m in models.split(",") if m.strip()] if models else (),
        diarization=diarization,
        language=config.defaults.language,
    )
    pins = choice.require_pins(config, chosen.values())
    return {purpose: (model, pins[model.id]) for purpose, model in chosen.items()}


def _fetch(session: Session, wanted: Sequence[tuple[Model, Pin]], folders: Sequence[Path] = ()) -> tuple[Any, ...]:
    """Bring models into the store; none that is there already, and then without a network."""
    from builder.edges.store import Store

    store = Store(session.config.home / "models")
    missing = [(model, pin) for model, pin in wanted if store.missing(model, pin)]
    if not missing:
        return ()
    from builder.edges import hub

    places = [*folders, *(Path(p) for p in session.config.defaults.sources)]
    return tuple(hub.fetch(store, missing, folders=places, env=session.env, report=session.report))


def _python(session: Session, *, force: bool = False) -> Path:
    """The native environment's python, made when it is missing."""
    from builder.edges import native

    stages = tuple(session.config.stages.values())
    if not force and (ready := native.ready(session.config, stages)):
        return ready
    return native.ensure(session.config, stages, env=session.env, report=session.report, force=force)


def _hardware(session: Session, *, refresh: bool = False) -> tuple[Hardware, Recommendation]:
    from builder.core.recommend import recommend
    from builder.edges import probe

    found = probe.hardware(session.config.home / "cache" / "hardware.json", refresh=refresh)
    return found, recommend(found)
