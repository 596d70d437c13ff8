"""Voices by two models: segmentation says who of a window's voices speaks when, CAM++ makes a vector of each stretch."""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kaldi
import numpy as np
import people
import powerset
import talk
from cluster import units
from contract import RATE, ModelFault, Recording, StageJob
from powerset import FRAMES, HOP, LOCAL, SAMPLES, STEP, Heard
from slim import Batched, open_session

LONGEST = 200
"""Feature frames of a stretch at most: what the embedding takes (2 s)."""

ENOUGH = 150
"""Feature frames that a stretch is filled up to, from what the same voice says near it."""

SHORTEST = 25
"""Feature frames of a stretch at least (0.25 s): less is too little to know a voice by. Lengths are multiples of it."""

BREAK = 0.25
"""Seconds of silence that end a stretch: people change at pauses, and a window may take two for one voice."""

BATCH = 8
"""Stretches that are embedded at once."""


MIDDLES = np.arange((FRAMES * STEP + powerset.FIRST) // kaldi.HOP) * kaldi.HOP + kaldi.WINDOW // 2
OWNERS = np.floor((MIDDLES - powerset.FIRST) / STEP + 0.5).astype(np.int64)
"""The window's frame that each feature frame (10 ms) lies in."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Speech of one voice alone, within one window."""

    window: int
    frames: Any
    """int16 [n]: the feature frames to embed, counted from the window's begin."""
    part: Any
    """int16 [m]: the window's frames that it stands for."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """The two models of a job."""

    segmentation: Batched
    embedding: Batched


def load(job: StageJob) -> Models:
    """The job's models.

    Raises:
        ModelFault: one is missing or broken, or takes other inputs.
    """
    models = {purpose: open_session(job, purpose) for purpose in ("segmentation", "embedding")}
    for purpose, wanted in (("segmentation", "sound"), ("embedding", "feats")):
        if models[purpose].input != wanted:
            raise ModelFault(f"model {job.uses[purpose]['id']}: it takes {models[purpose].input}, not {wanted}")
    return Models(**models)


def diarize(
    job: StageJob, recording: Recording, models: Models, speech: list[list[float]], duration: float
) -> list[dict[str, Any]]:
    """Turns, which may overlap; ``speech`` are regions in seconds."""
    path = job.work("demux", f"{recording.id}.wav")

    def shown(start: float, share: float) -> Callable[[float], None]:
        return lambda done: job.progress(recording, (start + share * done) * duration, duration)

    heard = hear(path, models.segmentation, speech, shown(0.0, 0.45))
    parts = stretches(heard)
    vectors = embed(path, models.embedding, parts, shown(0.45, 0.55))
    labels = people.grouped(
        vectors,
        np.array([len(part.part) for part in parts]) * STEP / RATE,
        speakers=job.settings["speakers"],
        least=job.settings.get("min_speakers"),
        most=job.settings.get("max_speakers"),
    )
    speaking = talk.speaking(heard, [(part.window, part.part) for part in parts], labels)
    job.progress(recording, duration, duration)
    return talk.turns(talk.with_speech(speaking, speech), duration)


def hear(path: Path, model: Batched, speech: list[list[float]], on_progress: Callable[[float], None]) -> Heard:
    """What each window of a WAV file hears.

    Args:
        speech: regions in seconds, in order; a window without any of it is silent.
        on_progress: called with the share of the windows that are done.
    """
    with wave.open(str(path), "rb") as wav:
        total = wav.getnframes()
        begins = list(powerset.starts(total))
        # The first region that ends after a window's begin, by search: hours have thousands of both.
        regions = np.searchsorted([b for _, b in speech], np.array(begins) / RATE, side="right")
        reached = (
            k < len(speech) and speech[k][0] * RATE < at + SAMPLES for k, at in zip(regions, begins, strict=True)
        )
        wanted = [w for w, is_reached in enumerate(reached) if is_reached]
        classes = np.zeros((len(begins), FRAMES), dtype=np.uint8)
        chances = np.zeros((2, len(begins), FRAMES), dtype=np.uint8)
        groups = [wanted[k : k + powerset.BATCH] for k in range(0, len(wanted), powerset.BATCH)]
        batches = (np.stack([_sound(wav, begins[w]) for w in group])[:, None] for group in groups)
        for group, out in zip(groups, model.over(batches), strict=True):
            classes[group] = out.argmax(axis=2)
            alone, both = 1 - np.exp(out[:, :, 0]), np.exp(out[:, :, powerset.PAIRS :]).sum(axis=2)
            chances[:, group] = np.clip(np.rint(np.stack([alone, both]) * 255), 0, 255)
            on_progress(group[-1] / len(begins))
    return Heard(classes=classes, chances=chances, frames=powerset.frames_of(total))


def _sound(wav: Any, at: int) -> Any:
    """A window's samples, with silence behind the recording's end."""
    wav.setpos(min(at, wav.getnframes()))
    found = np.frombuffer(wav.readframes(SAMPLES), dtype="<i2").astype(np.float32) / 32768.0
    return np.pad(found, (0, SAMPLES - len(found)))


def stretches(heard: Heard) -> list[Stretch]:
    """What is embedded: of each window's tile, what each voice says alone between pauses, in parts of at most 2 s."""
    found: list[Stretch] = []
    for window in range(len(heard.classes)):
        active = heard.active(window)
        left = heard.frames - window * HOP
        active[max(0, left) :] = False
        alone = active & (active.sum(axis=1, keepdims=True) == 1)
        tile = powerset.tile(window, len(heard.classes))
        for local in range(LOCAL):
            every = np.flatnonzero(alone[:, local])
            mine = every[(every >= tile.start) & (every < tile.stop)]
            if not len(mine):
                continue
            for run in np.split(mine, np.flatnonzero(np.diff(mine) * STEP >= BREAK * RATE) + 1):
                parts = np.array_split(run, max(1, -(-len(_features(run)) // LONGEST)))
                found += [s for part in parts if (s := _stretch(window, part, every)) is not None]
    return found


def _stretch(window: int, part: Any, every: Any) -> Stretch | None:
    """A part of a tile, with more of the same voice from around it where it is short; None: too little is said."""
    frames = _features(part)
    if len(frames) < ENOUGH:
        middle = part[len(part) // 2]
        nearest = every[np.argsort(np.abs(every - middle), kind="stable")]
        more = _features(np.sort(nearest[: round(ENOUGH * kaldi.HOP / STEP)]))
        frames = np.union1d(frames, more)[:LONGEST]
    length = len(frames) // SHORTEST * SHORTEST
    if not length:
        return None
    return Stretch(window=window, frames=frames[:length].astype(np.int16), part=part.astype(np.int16))


def _features(frames: Any) -> Any:
    """The feature frames (10 ms) that lie within frames of a window (16.875 ms), in order."""
    return np.flatnonzero(np.isin(OWNERS, frames))


def embed(path: Path, model: Batched, parts: list[Stretch], on_progress: Callable[[float], None]) -> Any:
    """A vector of unit length for each stretch, float32 [n, d].

    Those of a batch have one length, so that none is padded.
    """
    by_length: dict[int, list[int]] = {}
    for k, part in enumerate(parts):
        by_length.setdefault(len(part.frames), []).append(k)
    groups = [group[k : k + BATCH] for _, group in sorted(by_length.items()) for k in range(0, len(group), BATCH)]
    vectors = np.zeros((len(parts), 1), dtype=np.float32)
    done = 0
    with wave.open(str(path), "rb") as wav:
        batches = (np.stack([_bank(wav, parts[k]) for k in group]) for group in groups)
        for group, out in zip(groups, model.over(batches), strict=True):
            if vectors.shape[1] != out.shape[1]:
                vectors = np.zeros((len(parts), out.shape[1]), dtype=np.float32)
            vectors[group] = units(out)
            done += len(group)
            on_progress(done / len(parts))
    return vectors


def _bank(wav: Any, stretch: Stretch) -> Any:
    """The features [frames, 80] of a stretch, without their mean over time, as in training."""
    first, last = int(stretch.frames[0]), int(stretch.frames[-1])
    wav.setpos(min(stretch.window * HOP * STEP + first * kaldi.HOP, wav.getnframes()))
    wanted = (last - first) * kaldi.HOP + kaldi.WINDOW
    sound = np.frombuffer(wav.readframes(wanted), dtype="<i2").astype(np.float32) / 32768.0
    rows = kaldi.framed(np.pad(sound, (0, wanted - len(sound))))[stretch.frames - first]
    bank = kaldi.filterbank(rows)
    return bank - bank.mean(axis=0, keepdims=True)
