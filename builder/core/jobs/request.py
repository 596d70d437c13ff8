"""What a job is asked to do: the rules that make a request of options, configuration and machine. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from builder.core import languages, translation
from builder.core.config.settings import LISTED, checked, expected
from builder.core.config.types import Config, StageSpec
from builder.core.jobs import formats
from builder.core.jobs.job import Clip, JobInput, JobStage, ModelUse, stage_data
from builder.core.machine import Hardware, Recommendation
from builder.core.terms import MUSIC, SEPARATION, Mode, Purpose, Workflow
from builder.core.translation import Pair
from builder.core.weights.model import Model, Pin, model_digest, snapshot_path
from builder.errors import MissingError, UsageError, did_you_mean
from builder.program import command
from builder.receiver.jobs.languages import EACH
from builder.receiver.jobs.naming import key_of

DEVICES = ("cpu", "cuda")
"""What a stage computes on."""

CPU_COMPUTE_TYPE = "int8"
"""Compute type of a job that is moved away from the device that the machine's own settings are for."""


OFF, AUTO = "off", "auto"
"""The settings ``mode`` of the stage :data:`SEPARATION` with which nothing is done, and with which the sound decides."""

AFTER = {SEPARATION: (MUSIC,)}
"""Stages that a stage waits for in jobs that have them; the order of all stages is as without."""

KEEP = "keep"
"""The setting ``lyrics`` of the stage :data:`MUSIC` with which nobody looks for music."""


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What the command line asks of a job, as it was typed."""

    models: str | None = None
    """Model ids, separated by commas."""
    start: str | None = None
    """A time, as :func:`parse_time` reads it."""
    end: str | None = None
    speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None
    diarization: bool = True
    device: str | None = None
    threads: int | None = None
    batch_size: int | None = None
    """0: one window after the other."""
    track: str | None = None
    """A number from 1 on, a language, or ``all``; None or ``auto``: the stage chooses."""
    channels: str | None = None
    """``mix`` or ``split``."""
    times: str | None = None
    """``recording`` or ``clip``: whose time the results of a clip have."""
    burn: bool = False
    """Draw the subtitles into the picture of a second film, too."""
    formats: str | None = None
    """Names of :data:`builder.core.jobs.formats.FORMATS`, separated by commas, or ``all``."""
    task: str | None = None
    """``transcribe`` or ``translate``."""
    prompt: str | None = None
    """What every window of sound seems to follow."""
    hotwords: str | None = None
    """Words that are likely to be said."""
    voices: bool = True
    """Speakers whose voices are known get their names."""
    to: str | None = None
    """Languages that the text is translated into, separated by commas."""
    names: bool = False
    """Names are looked for."""
    cast: str | None = None
    """A file with names that the text is spelt by; they are looked for then."""
    glossary: str = "none"
    """A file of terms, or one of the words of :mod:`builder.core.glossary`."""
    metadata: str | None = None
    """``cached`` or ``online``: whose word counts about what the recordings are."""
    separate: str | None = None
    """``auto``, ``on`` or ``off``: whether noise is taken out of the sound."""
    lyrics: str | None = None
    """``keep``, ``mark`` or ``drop``: what becomes of words that are sung."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a job is asked to do, apart from its recordings."""

    workflow: Workflow | None
    variant: str
    preset: str
    models: Mapping[Purpose, tuple[Model, Pin]]
    settings: Mapping[str, Mapping[str, Any]]
    """Stage -> settings that somebody chose, or that suit the machine."""
    clip: Clip | None = None
    diarization: bool = True
    voices: bytes = b""
    """What the job's folder gets as :data:`builder.core.voices.known.FILE`; a setting has its digest. Empty: no file."""
    glossary: bytes = b""
    """What the job's folder gets as :data:`builder.core.glossary.FILE`, in the same way."""
    warning: str = ""
    """What a person should know before the job begins."""
    names: bool = False
    """Names are looked for."""
    cast: bytes = b""
    """What the job's folder gets as :data:`builder.core.voices.cast.FILE`; a setting has its digest. Empty: no file."""
    metadata: bool = False
    """It is told what the recordings are."""
    about: bytes = b""
    """What the job's folder gets as :data:`builder.core.metadata.about.FILE`, in the same way."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that the text is translated into."""
        return translation.listed(self.settings.get(translation.STAGE, {}))

    @property
    def left_out(self) -> frozenset[str]:
        """Stages that nothing is asked of, whatever the recording."""
        mode = self.settings.get(SEPARATION, {}).get("mode", OFF)
        marked = self.settings.get(MUSIC, {}).get("lyrics", KEEP) != KEEP
        wanted = {
            "diarize": self.diarization,
            translation.STAGE: bool(self.languages),
            "names": self.names,
            "metadata": self.metadata,
            SEPARATION: mode != OFF,
            MUSIC: marked or (mode == AUTO and Purpose.VOCALS in self.models),
        }
        return frozenset(stage for stage, asked in wanted.items() if not asked)

    def stages(self, config: Config) -> set[str]:
        """Those that a job may have."""
        return {name for name in config.stages if name not in self.left_out}

    @property
    def on_gpu(self) -> bool:
        """Whether a stage is to compute on a GPU."""
        return any(settings.get("device") == "cuda" for settings in self.settings.values())


def separation(options: JobOptions, config: Config) -> bool:
    """Whether the stage that takes noise out of the sound is part of the job, and needs its model."""
    return _mode(options, config) != OFF


def _mode(options: JobOptions, config: Config) -> str:
    chosen = config.settings.get(SEPARATION, {}).get("mode")
    return options.separate or (str(chosen.value) if chosen else OFF)


def tagging(options: JobOptions, config: Config, models: Collection[Purpose]) -> bool:
    """Whether the stage that looks for music is part of the job, and needs its model.

    For lyrics; or for voices that are to be taken out of music, where a model for that is chosen and the sound decides.

    Args:
        models: what the job has models for.
    """
    chosen = config.settings.get(MUSIC, {}).get("lyrics")
    voices = Purpose.VOCALS in models and _mode(options, config) == AUTO
    return voices or (options.lyrics or (chosen.value if chosen else KEEP)) != KEEP


def resolve(
    options: JobOptions,
    *,
    config: Config,
    hardware: Hardware,
    advice: Recommendation,
    models: Mapping[Purpose, tuple[Model, Pin]],
    pairs: Sequence[Pair] = (),
) -> Request:
    """The request that options, the configuration and this machine make together.

    An option wins over a setting, a setting over what suits the machine.

    Args:
        advice: the settings that suit ``hardware``.
        models: the pinned model for each purpose of the planned stages.
        pairs: languages that can be translated here, the better first.

    Raises:
        UsageError: a time that can't be read or a clip that ends before it starts, settings that contradict each
            other, a number of speakers without diarization, an unknown device, a GPU for images that can't use one,
            or a translation by a model that knows one language.
        MissingError: the mode, an option or a setting wants a GPU, and this machine has none.
    """
    defaults = config.defaults
    diarization = options.diarization and defaults.diarization
    settings = _chosen(options, config)
    _require_speakers(options, settings["diarize"], diarization=diarization)
    _require_durations({**config.stages["subtitles"].defaults, **settings["subtitles"]})
    if settings["asr"].get("task") == "translate":
        _require_translation(models[Purpose.ASR][0])
    _require_spoken(models[Purpose.ASR][0], defaults.language)
    if defaults.language == EACH:
        _require_many(models[Purpose.ASR][0], defaults.variant.value)
    if "formats" in settings["subtitles"]:
        settings["subtitles"]["formats"] = formats.chosen(settings["subtitles"]["formats"])
    if "track" in settings["demux"]:
        settings["demux"]["track"] = _track(settings["demux"]["track"])
    for stage in ("asr", "align", "diarize"):
        gains = defaults.variant in config.stages[stage].gpu
        chosen = config.settings.get(stage, {}).get("device")
        if options.device is not None or chosen is None:
            settings[stage]["device"] = (
                _device(options.device, mode=defaults.mode, hardware=hardware, advice=advice) if gains else "cpu"
            )
        elif chosen.value == "cuda" and not gains:
            raise UsageError(f"stage {stage} gains nothing from a GPU in this variant", where=chosen.where)
        else:
            asked = str(chosen.value)
            _device(asked, mode=defaults.mode, hardware=hardware, advice=advice, where=chosen.where)
    for stage in ("asr", "align", "diarize", translation.STAGE):
        settings[stage].setdefault("threads", advice.threads)
        if options.threads is not None:
            settings[stage]["threads"] = options.threads
    if defaults.workflow is Workflow.TRANSLATE and options.to is None:
        raise UsageError("the workflow translate needs a language", where="--workflow", hint="--to en")
    translation.settle(settings, options.to, source=languages.spoken(defaults.language), pairs=pairs)
    asr = settings["asr"]
    asr["language"] = defaults.language
    asr.setdefault("compute_type", advice.compute_type if asr["device"] == advice.device else CPU_COMPUTE_TYPE)
    asr.setdefault("batch_size", advice.batch_size)
    return Request(
        workflow=defaults.workflow,
        variant=defaults.variant.value,
        preset=defaults.preset,
        models=translation.loaded(models, settings, [word.strip() for word in (options.models or "").split(",")]),
        settings=settings,
        clip=_clip(options),
        diarization=diarization,
        names=options.names,
        metadata=options.metadata is not None,
    )


def _chosen(options: JobOptions, config: Config) -> dict[str, dict[str, Any]]:
    """Stage -> settings that the configuration or an option chose.

    Raises:
        UsageError: an option's value is not one, or ``--set`` says something of the same setting.
    """
    settings = {
        stage: {name: chosen.value for name, chosen in config.settings.get(stage, {}).items()}
        for stage in config.stages
    }
    typed = [
        ("demux", "track", options.track),
        ("demux", "channels", options.channels),
        (SEPARATION, "mode", options.separate),
        (MUSIC, "lyrics", options.lyrics),
        ("asr", "task", options.task),
        ("asr", "initial_prompt", options.prompt),
        ("asr", "hotwords", options.hotwords),
        ("asr", "batch_size", options.batch_size),
        ("diarize", "speakers", options.speakers),
        ("diarize", "min_speakers", options.min_speakers),
        ("diarize", "max_speakers", options.max_speakers),
        ("subtitles", "times", options.times),
        ("subtitles", "formats", options.formats),
        ("mux", "burn", options.burn or None),
    ]
    for stage, name, value in typed:
        if value is None:
            continue
        setting, other = config.stages[stage].settings[name], config.settings.get(stage, {}).get(name)
        if other is not None and other.where.startswith("--set"):
            raise UsageError(f"{setting.option} and {other.where} set the same", hint="leave one of them out")
        try:
            settings[stage][name] = checked(setting, value)
        except ValueError as error:
            near = did_you_mean(str(value), setting.choices)
            raise UsageError(str(error), where=setting.option, expected=expected(setting), hint=near) from None
    return settings


def _require_speakers(options: JobOptions, settings: dict[str, Any], *, diarization: bool) -> None:
    """What is typed of the number of speakers takes the place of what the configuration says, and is consistent.

    Raises:
        UsageError: it isn't.
    """
    count = options.speakers
    bounds = [f for f, v in (("--min-speakers", options.min_speakers), ("--max-speakers", options.max_speakers)) if v]
    flags = (["--speakers"] if count is not None else []) + bounds
    if flags and not diarization:
        raise UsageError(f"{flags[0]} needs diarization", hint="leave out --no-diarization")
    if count is not None and bounds:
        raise UsageError(f"--speakers says how many: {bounds[0]} adds nothing", hint="leave one of them out")
    if count is not None:
        settings |= {"min_speakers": None, "max_speakers": None}
    elif bounds:
        settings["speakers"] = None
    least, most = settings.get("min_speakers"), settings.get("max_speakers")
    if settings.get("speakers") is not None and (least is not None or most is not None):
        raise UsageError("diarize.speakers says how many: min_speakers and max_speakers add nothing", hint=LISTED)
    if least is not None and most is not None and least > most:
        raise UsageError(f"at least {least} speakers and at most {most} can't be", where="--min-speakers")


def _require_durations(settings: Mapping[str, Any]) -> None:
    """Raises UsageError when a subtitle's shortest duration is longer than its longest."""
    least, most = settings["min_duration"], settings["max_duration"]
    if least > most:
        raise UsageError(
            f"subtitles last at least {least:g} s and at most {most:g} s: that can't be",
            where="subtitles.min_duration",
            hint=f"{command('settings subtitles')} lists both",
        )


def _require_translation(model: Model) -> None:
    """Raises UsageError when a model for speech writes the languages that it knows, and no other."""
    if model.languages and not model.translates:
        raise UsageError(
            f'model "{model.id}" knows {", ".join(model.languages)} only: it can\'t translate',
            where="--task translate",
            hint="--preset starter, or another model of many languages",
        )


def _require_many(model: Model, variant: str) -> None:
    """Raises UsageError when a model for speech can't hear several languages, or tell them apart."""
    if model.languages:
        raise UsageError(
            f'model "{model.id}" knows {", ".join(model.languages)} only: it can\'t hear a language in each part',
            where=f"--language {EACH}",
            hint="--preset starter, or another model of many languages",
        )


def _require_spoken(model: Model, language: str | None) -> None:
    """Raises UsageError when nobody says which of a model's languages is spoken, and it can't tell."""
    if model.engine and language not in model.languages and (language is not None or len(model.languages) > 1):
        raise UsageError(
            f'model "{model.id}" can\'t tell which language is spoken',
            where="--language",
            expected=", ".join(model.languages),
            hint=f"--language {model.languages[0]}",
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


def _device(
    asked: str | None, *, mode: Mode, hardware: Hardware, advice: Recommendation, where: str = "--device"
) -> str:
    """Where the stages that gain from a GPU compute: ``cpu`` or ``cuda``.

    Raises:
        UsageError: an unknown device, or a GPU for images that can't use one.
        MissingError: this machine has no GPU, and the mode or an option wants one.
    """
    if asked is not None and asked not in DEVICES:
        raise UsageError(f'"{asked}" is not a device', where=where, expected="cpu or cuda")
    on_cpu = mode is Mode.DOCKER_CPU
    if on_cpu and asked == "cuda":
        raise UsageError("images of docker-cpu can't use a GPU", where=where, hint="--mode docker-gpu")
    device = asked or {Mode.DOCKER_CPU: "cpu", Mode.DOCKER_GPU: "cuda"}.get(mode, advice.device)
    if device == "cuda" and not hardware.gpus:
        raise no_gpu(mode, where=where if asked or mode is not Mode.DOCKER_GPU else "--mode")
    return device


def no_gpu(mode: Mode, *, where: str = "--device", hint: str = "") -> MissingError:
    """The error of what wants a GPU on a machine without one.

    Args:
        hint: what to type; by default a job's way out.
    """
    other = ", or --mode docker-cpu, whose images are smaller" if mode is Mode.DOCKER_GPU else ""
    return MissingError("this machine has no NVIDIA GPU", where=where, hint=hint or f"--device cpu{other}")


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
    """The stages of a job with their settings and models, in pipeline order.

    Raises:
        UsageError: subtitles are to be drawn, and there is no picture.
    """
    left_out = set(request.left_out)
    if workflow is Workflow.TRANSCRIBE:
        if request.settings.get("mux", {}).get("burn"):
            raise UsageError("there is no picture to draw the subtitles into", where="--burn", hint="leave out --burn")
        left_out.add("mux")
    names = [name for name in specs if name not in left_out]
    stages = []
    for name in names:
        spec = specs[name]
        settings = {**spec.defaults, **request.settings.get(name, {})}
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
                needs=tuple(n for n in (*spec.needs, *AFTER.get(name, ())) if n in names),
                settings=MappingProxyType(settings),
                models=MappingProxyType(uses),
                optional=spec.optional,
            )
        )
    return tuple(stages)


def request_key(inputs: Sequence[JobInput], stages: Sequence[JobStage], workflow: str) -> str:
    """sha256 over what decides the results: the same request has the same key, whenever and wherever it is made."""
    asked = [(i.name, i.sha256, {"start": i.clip.start, "end": i.clip.end} if i.clip else None) for i in inputs]
    return key_of(asked, [stage_data(s) for s in stages], workflow)
