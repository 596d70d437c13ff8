"""What push and pull need of a registry, and the command ci."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.config.defaults import BAKED
from builder.errors import BakeError, UsageError
from builder.program import shell_word
from builder.workflows.images import Different, ImageSelection, rendered
from builder.workflows.session import Session

if TYPE_CHECKING:
    from builder.core.config.types import Config
    from builder.core.images.reference import Target
    from builder.edges.registry.http import Http, StopSignal


@dataclass(frozen=True, kw_only=True)
class PipelineMade:
    """A pipeline for a CI service."""

    service: str
    file: Path
    images: tuple[str, ...]
    text: str
    options: tuple[str, ...]
    """Those that make this plan anywhere, whatever a machine's environment says."""
    folder: str
    """Where the rendered files are committed."""
    written: bool


@dataclass(frozen=True, kw_only=True)
class PipelineCompared:
    """A pipeline and whether the file is the same."""

    pipeline: PipelineMade
    failure: BakeError | None


@dataclass(frozen=True, kw_only=True)
class PipelineOptions:
    """What the command line says of a pipeline."""

    service: str
    out: Path | None
    registry: str | None
    folder: str
    """Where the rendered folder is committed."""
    schedule: str | None = None
    """When images are built anew, as cron writes it."""


def ci(session: Session, selection: ImageSelection, asked: PipelineOptions) -> PipelineMade:
    """A pipeline from the same plan as ``render``'s; written when ``out`` is given."""
    from builder.edges.system import files

    made = _pipeline(session, selection, asked)
    if asked.out is not None:
        files.write_output(
            asked.out, made.text, instead="--out FILE", parents=True
        )  # .github/workflows of a new project
    return made


def compare_ci(session: Session, selection: ImageSelection, asked: PipelineOptions) -> PipelineCompared:
    """Compare a file with the pipeline that would be written."""
    made = _pipeline(session, selection, asked)
    if made.file.is_file() and made.file.read_text(encoding="utf-8", errors="replace") == made.text:
        return PipelineCompared(pipeline=made, failure=None)
    words = _command(selection, made.options, asked)
    hint = shlex.join([*words, "--out", str(made.file)])
    failure = Different("it isn't what is rendered", where=str(made.file), hint=hint)
    return PipelineCompared(pipeline=made, failure=failure)


def target_of(config: Config, registry: str | None) -> Target:
    """The registry that the command line names, else the one of bake.yaml."""
    from builder.core.images import reference

    where = "--registry" if registry else "bake.yaml: defaults.registry"
    return reference.target(registry or config.defaults.registry, where=where)


def connected(
    config: Config, target: Target, *, env: Mapping[str, str], stop: StopSignal, token_servers: Sequence[str]
) -> Http:
    from builder.edges.engine import connection as engines
    from builder.edges.images import site
    from builder.edges.registry import credentials, http

    return http.connect(
        target,
        login=credentials.find(target.keys, env),
        authorities=site.find(config.network, env).authorities,
        insecure=lambda: engines.insecure(target.host, env),
        stop=stop,
        token_servers=[server.lower() for server in token_servers],
    )


# Steps of a pipeline


def _pipeline(session: Session, selection: ImageSelection, asked: PipelineOptions) -> PipelineMade:
    from builder.core.images import ci as pipelines
    from builder.core.images import reference
    from builder.edges.images import rendered as images

    if session.config.root != session.config.shipped:
        raise UsageError(
            "a pipeline runs build.py, and this project doesn't have it",
            where=str(session.config.root),
            expected="a checkout of whisperbake",
        )
    if asked.registry:
        reference.target(asked.registry, where="--registry")
    file = asked.out or Path(pipelines.path_of(asked.service))
    if file.is_dir():
        raise UsageError("this is a folder", where=str(file), hint=f"--out {shell_word(file / 'images.yml')}")
    plan = rendered(session, selection).plan
    options = _options(session.config, selection)
    words = _command(selection, options, asked)
    text = pipelines.pipeline(
        asked.service,
        plan,
        images.templates(session.config),
        command=shlex.join([*words, "--out", file.name if file.is_absolute() else file.as_posix()]),
        choice=shlex.join(options),
        folder=asked.folder,
        registry=asked.registry,
        schedule=asked.schedule,
    )
    return PipelineMade(
        service=asked.service,
        file=file,
        images=tuple(image.name for image in plan.images),
        text=text,
        options=options,
        folder=asked.folder,
        written=asked.out is not None,
    )


def _command(selection: ImageSelection, options: tuple[str, ...], asked: PipelineOptions) -> list[str]:
    """What is typed for this pipeline, without the file that it is written to."""
    target = ["--registry", asked.registry] if asked.registry else []
    when = ["--schedule", asked.schedule] if asked.schedule else []
    words = ["python3", "build.py", "ci", asked.service, *selection.names, *options, *target]
    return [*words, "--rendered", asked.folder, *when]


def _options(config: Config, selection: ImageSelection) -> tuple[str, ...]:
    """The options that make this plan anywhere, whatever that machine's environment says."""
    defaults = config.defaults
    presets = ",".join((defaults.preset, *selection.presets))
    words = ["--mode", defaults.mode.value, "--variant", defaults.variant.value, "--preset", presets]
    words += ["--models", selection.models] if selection.models else []
    words += ["--languages", selection.languages] if selection.languages else []
    words += [] if selection.diarization else ["--no-diarization"]
    words += [] if defaults.weights == BAKED else ["--weights", defaults.weights]
    return tuple(words)
