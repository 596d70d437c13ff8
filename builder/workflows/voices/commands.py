"""The commands about known voices: voices add, list, remove."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from builder.core.config.types import Config
from builder.core.jobs import request as requests
from builder.core.jobs.job import Job
from builder.core.jobs.request import JobOptions
from builder.core.terms import Purpose, Workflow
from builder.core.voices import known as spec
from builder.core.voices.known import Voice
from builder.core.weights.model import model_digest
from builder.edges.jobs import folder as jobs
from builder.edges.jobs import listing
from builder.edges.machine import voices as kept
from builder.errors import InputError, UsageError, did_you_mean
from builder.program import command
from builder.receiver.jobs.untrusted import object_below
from builder.workflows import host as hosts
from builder.workflows.run import RunOptions, run
from builder.workflows.session import Session, chosen_models, hardware_of

STAGES = ("demux", "vad", spec.STAGE)
"""What hears a voice."""

LARGEST = 1 << 20
"""Bytes of what the stage wrote."""

ALONE = 0.9
"""The part of the speech that is the person's at least."""


@dataclass(frozen=True, kw_only=True)
class VoicesListed:
    """The known voices, by their names."""

    voices: tuple[Voice, ...]
    strange: tuple[Path, ...]
    """Files among them that are no voices."""
    folder: Path


@dataclass(frozen=True, kw_only=True)
class VoiceAdded:
    """A voice that jobs know from now on."""

    voice: Voice
    file: Path
    replaced: bool
    """There was one of this name and model."""


@dataclass(frozen=True, kw_only=True)
class VoicesRemoved:
    """Voices that were forgotten, or would be."""

    voices: tuple[Voice, ...]
    dry_run: bool


def list_voices(config: Config) -> VoicesListed:
    """The known voices."""
    found = kept.read(config.paths.voices)
    return VoicesListed(voices=found.voices, strange=found.strange, folder=config.paths.voices)


def add(
    session: Session, name: str, recording: Path, *, start: str | None, end: str | None, consent: str
) -> VoiceAdded:
    """Keep the voice of the one person who speaks in a recording, or in a part of it.

    A job hears it, in the mode that jobs run in, and is removed again.

    Args:
        start, end: times, as for a clip.
        consent: a note of what the person agreed to.

    Raises:
        UsageError: the name or a time can't be one, or this project has no embedding for voices.
        InputError: the recording can't be used, several people speak in it, or hardly anybody.
    """
    person, note = spec.checked_name(name), spec.checked_consent(consent)
    job = _prepared(session, recording, JobOptions(start=start, end=end, voices=False))
    try:
        run(session, [job.id], JobOptions(), RunOptions(mode=job.mode))
        voice = _heard(session.config, job, person, note, str(recording))
    finally:
        listing.remove(session.config, [job.id], dry_run=False)
    folder = session.config.paths.voices
    replaced = any(voice.file == other.file for other in kept.read(folder).voices)
    return VoiceAdded(voice=voice, file=kept.put(folder, voice), replaced=replaced)


def _prepared(session: Session, recording: Path, options: JobOptions) -> Job:
    """A job of the stages that hear a voice."""
    from builder.edges.jobs import prepare

    config = session.config
    small = replace(config, stages={name: config.stages[name] for name in STAGES})
    models, every = chosen_models(small), chosen_models(config)
    if Purpose.EMBEDDING not in models or models[Purpose.EMBEDDING][0].id not in spec.MODELS:
        raise UsageError(
            f'preset "{config.defaults.preset}" has no embedding that voices are known by',
            where="--preset",
            expected=f"one with {' or '.join(spec.MODELS)}",
            hint="--preset starter",
        )
    hardware, advice = hardware_of(config)
    asked = requests.resolve(options, config=config, hardware=hardware, advice=advice, models=every)
    settings = {**asked.settings, spec.STAGE: {**asked.settings[spec.STAGE], spec.ENROL: True}}
    asked = replace(asked, settings=settings, models=models, workflow=Workflow.TRANSCRIBE)
    host = hosts.choose(session, gpu=False)
    return prepare.prepare(small, [recording], asked, media=host.media, on_progress=session.on_progress)


def _heard(config: Config, job: Job, name: str, consent: str, where: str) -> Voice:
    """The voice that a job heard.

    Raises:
        InputError: several people speak, or hardly anybody does.
    """
    heard = object_below(jobs.folder(config, job), f"work/{spec.STAGE}/{job.inputs[0].id}.voice.json", LARGEST)
    embedding = job.stage(spec.STAGE).models[Purpose.EMBEDDING.value]
    pin = config.pins[embedding.id]
    part = "name a part in which one person speaks: --from 0:10 --to 0:40"
    try:
        seconds, alone = float(heard["seconds"]), float(heard["alone"])
        vector = spec.vector_of(heard["vector"]) if seconds >= spec.SHORTEST else ()
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("no voice was heard", where=where, hint=part) from error
    if alone < ALONE:
        raise InputError(
            "more than one person speaks", where=where, expected=f"one, for {spec.SHORTEST:.0f} s or more", hint=part
        )
    if not vector:
        raise InputError(
            f"{seconds:.1f} s of speech are too little to know a voice by",
            where=where,
            expected=f"{spec.SHORTEST:.0f} s or more; 30 s are better",
        )
    return Voice(
        name=name,
        model=embedding.id,
        digest=model_digest(pin),
        vector=vector,
        seconds=round(seconds, 1),
        added=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        consent=consent,
    )


def remove(config: Config, names: list[str], *, dry_run: bool) -> VoicesRemoved:
    """Forget people's voices, of all models: all of them, or none.

    Raises:
        UsageError: nobody has that name.
    """
    folder = config.paths.voices
    every = kept.read(folder).voices
    known = {spec.same(voice.name): voice.name for voice in every}
    wanted = {spec.same(spec.checked_name(name)): name for name in names}
    for plain, name in wanted.items():
        if plain not in known:
            hint = did_you_mean(name, known.values()) or f"{command('voices list')} shows all"
            raise UsageError(f'no voice of "{spec.checked_name(name)}" is known', hint=hint)
    gone = tuple(voice for voice in every if spec.same(voice.name) in wanted)
    if not dry_run:
        kept.remove(folder, gone)
    return VoicesRemoved(voices=gone, dry_run=dry_run)
