"""What a job is asked to do: the rules that make a request of options, configuration and machine. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from builder.core import languages
from builder.core.config.types import Config, StageSpec
from builder.core.jobs import formats
from builder.core.jobs.job import Clip, JobInput, JobStage, ModelUse, stage_data
from builder.core.machine import Hardware, Recommendation
from builder.core.terms import Mode, Purpose, Workflow
from builder.core.weights.model import Model, Pin, model_digest, snapshot_path
from builder.errors import UsageError, did_you_mean

DEVICES = ("cpu", "cuda")
"""What a stage computes on."""

CHANNELS = ("mix", "split")
"""What becomes of a recording's channels: one sound, or each is heard on its own and is a speaker."""

TIMES = ("recording", "clip")
"""Whose time the results of a clip have."""

CPU_COMPUTE_TYPE = "int8"
"""Compute type of a job that is moved away from the device that the machine's own settings are for."""


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What the command line asks of a job, as it was typed."""

    models: str | None = None
    """Model ids, separated by commas."""
    start: str | None = None
    """A time, as :func:`parse_time` reads it."""
    end: str | None = None
    speakers: int | None = None
    diarization: bool = True
    device: str | None = None
    threads: int | None = None
    batch_size: int | None = None
    """0: one window after the other."""
    track: str | None = None
    """A number from 1 on, a language, or ``all``; None or ``auto``: the stage chooses."""
    channels: str | None = None
    """One of :data:`CHANNELS`."""
    times: str | None = None
    """One of :data:`TIMES`."""
    formats: str | None = None
    """Names of :data:`builder.core.jobs.formats.FORMATS`, separated by commas, or ``all``."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a job is asked to do, apart from its recordings."""

    workflow: Workflow | None
    variant: str
    preset: str
    models: Mapping[Purpose, tuple[Model, Pin]]
    settings: Mapping[str, Mapping[str, Any]]
    """Stage -> settings that differ from the stage's defaults."""
    clip: Clip | None = None
    diarization: bool = True


def resolve(
    options: JobOptions,
    *,
    config: Config,
    hardware: Hardware,
    advice: Recommendation,
    models: Mapping[Purpose, tuple[Model, Pin]],
) -> Request:
    """The request that options, the configuration's defaults and this machine make together.

    An option wins over a default, a default over what suits the machine.

    Args:
        advice: the settings that suit ``hardware``.
        models: the pinned model for each purpose of the planned stages.

    Raises:
        UsageError: a time that can't be read or a clip that ends before it starts, a number of speakers without
            diarization, an unknown device, or a GPU where there is none.
    """
    defaults = config.defaults
    clip = _clip(options)
    diarization = options.diarization and defaults.diarization
    if options.speakers is not None and not diarization:
        raise UsageError("--speakers needs diarization", hint="leave out --no-diarization")
    device = _device(options.device, mode=defaults.mode, hardware=hardware, advice=advice)
    threads = options.threads or advice.threads

    def where(stage: str) -> dict[str, Any]:
        gains = defaults.variant in config.stages[stage].gpu
        return {"device": device if gains else "cpu", "threads": threads}

    asr = {
        **where("asr"),
        "language": defaults.language,
        "compute_type": advice.compute_type if device == advice.device else CPU_COMPUTE_TYPE,
        "batch_size": advice.batch_size if options.batch_size is None else options.batch_size,
    }
    return Request(
        workflow=defaults.workflow,
        variant=defaults.variant.value,
        preset=defaults.preset,
        models=models,
        settings={
            "demux": {
                "track": _track(options.track),
                "channels": _one_of(options.channels, CHANNELS, "--channels"),
            },
            "asr": asr,
            "align": where("align"),
            "diarize": {**where("diarize"), "speakers": options.speakers},
            "subtitles": {
                "times": _one_of(options.times, TIMES, "--times"),
                **({} if options.formats is None else {"formats": formats.chosen(options.formats)}),
            },
        },
        clip=clip,
        diarization=diarization,
    )


def _clip(options: JobOptions) -> Clip | None:
    """The part of the recordings that is asked for; None for all of them.

    Raises:
        UsageError: a time can't be read, or the clip ends before it starts.
    """
    start, end = parse_time(options.start, "--start"), parse_time(options.end, "--end")
    if end is not None and end <= (start or 0.0):
        raise UsageError("the clip ends before it starts", where="--end", expected=f"more than {start or 0:g} s")
    return None if start is None and end is None else Clip(start=start or 0.0, end=end)


def _track(text: str | None) -> int | str | None:
    """The audio track that is asked for, as the demux stage takes it.

    Raises:
        UsageError: neither a number nor a language.
    """
    if text is None or text == "all":
        return text
    if text.isdecimal() and text.isascii():
        if int(text) < 1:
            raise UsageError("tracks are numbered from 1", where="--track")
        return int(text)
    return languages.require(text, where="--track")


def _one_of(asked: str | None, known: Sequence[str], flag: str) -> str:
    """The first of ``known`` unless another is asked for.

    Raises:
        UsageError: it is not one of them.
    """
    if asked is not None and asked not in known:
        raise UsageError(
            f'"{asked}" is none of its values', where=flag, expected=" or ".join(known), hint=did_you_mean(asked, known)
        )
    return asked or known[0]


def _device(asked: str | None, *, mode: Mode, hardware: Hardware, advice: Recommendation) -> str:
    """Where the stages that gain from a GPU compute: ``cpu`` or ``cuda``.

    Raises:
        UsageError: an unknown device, or a GPU that the images or the machine don't have.
    """
    if asked is not None and asked not in DEVICES:
        raise UsageError(f'"{asked}" is not a device', where="--device", expected="cpu or cuda")
    on_cpu = mode is Mode.DOCKER_CPU
    if on_cpu and asked == "cuda":
        raise UsageError("images of docker-cpu can't use a GPU", where="--device", hint="--mode docker-gpu")
    device = asked or ("cpu" if on_cpu else advice.device)
    if device == "cuda" and not hardware.gpus:
        raise UsageError("this machine has no NVIDIA GPU", where="--device", hint="--device cpu")
    return device


def parse_time(text: str | None, flag: str) -> float | None:
    """Seconds from ``90``, ``1:30``, ``0:01:30.5``.

    Raises:
        UsageError: neither seconds nor ``[hours:]minutes:seconds``.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(?:(?:([0-9]+):)?([0-9]+):)?([0-9]+(?:\.[0-9]+)?)", text.strip())
    if (
        match is None
        or (match[2] is not None and float(match[3]) >= 60)
        or (match[1] is not None and int(match[2]) >= 60)
    ):
        raise UsageError(
            f'"{text}" is not a time', where=flag, expected="seconds or [hours:]minutes:seconds, such as 1:30"
        )
    return int(match[1] or 0) * 3600 + int(match[2] or 0) * 60 + float(match[3])


def plan_stages(specs: Mapping[str, StageSpec], request: Request, *, workflow: Workflow) -> tuple[JobStage, ...]:
    """The stages of a job with their settings and models, in pipeline order."""
    left_out = set() if request.diarization else {"diarize"}
    if workflow is Workflow.TRANSCRIBE:
        left_out.add("mux")
    names = [name for name in specs if name not in left_out]
    stages = []
    for name in names:
        spec = specs[name]
        settings = {**spec.settings, **request.settings.get(name, {})}
        if name == "subtitles":
            settings["models"] = {  # what the result says of them
                purpose.value: {"id": model.id, "digest": model_digest(pin), "revision": pin.revision}
                for purpose, (model, pin) in request.models.items()
            }
        uses = {
            purpose.value: ModelUse(
                id=model.id,
                path=snapshot_path(model, pin),
                digest=model_digest(pin),
                revision=pin.revision,
                languages=tuple(model.languages),
            )
            for purpose, (model, pin) in request.models.items()
            if purpose in spec.uses
        }
        stages.append(
            JobStage(
                name=name,
                needs=tuple(n for n in spec.needs if n in names),
                settings=MappingProxyType(settings),
                models=MappingProxyType(uses),
                optional=spec.optional,
            )
        )
    return tuple(stages)


def request_key(inputs: Sequence[JobInput], stages: Sequence[JobStage], workflow: str) -> str:
    """sha256 over what decides the results: the same request has the same key, whenever and wherever it is made."""
    asked = {
        "inputs": [(i.name, i.sha256, {"start": i.clip.start, "end": i.clip.end} if i.clip else None) for i in inputs],
        "stages": [stage_data(s) for s in stages],
        "workflow": workflow,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
