"""diarize: who speaks when. A speaker embedding for every 0.4 s of speech, then clustering; or a pipeline (full)."""

from __future__ import annotations

import collections
import importlib
import itertools
import os
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
import known
from contract import RATE, Recording, StageJob
from loading import carried

WAYS = {"diarization": "pipeline", "segmentation": "voices"}
"""Modules by the model that a job has besides an embedding."""

SPAN = 1.6
"""Seconds that an embedding hears: 160 frames, what the d-vector was trained on."""

HOP = 0.4
"""Seconds between embeddings."""

PAD = 0.12
"""Seconds by which a turn grows into silence on each side: speech detection clips soft starts and ends."""

PAUSE = 0.5
"""Seconds without speech up to which one speaker's turn goes on: a breath."""

BATCH = 64
"""Windows that are embedded at once."""

PIECE = 60.0
"""Seconds of a region that are handled at once: the spectrum takes 30 MB. Speech can go on for hours without a pause."""


def work(job: StageJob) -> None:
    heard = {r.id: job.load("vad", r) for r in job.inputs}
    # A pipeline does everything; with a segmentation, overlap is found too; a d-vector works by itself.
    name = next((module for use, module in WAYS.items() if use in job.uses), job.variant)
    if name != WAYS["diarization"]:
        # Batches have threads of their own. NumPy's would wait for each other's next product at full speed: a quarter of the
        # stage's processor time. A pipeline's PyTorch may compute by the same library, and needs them.
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
    backend = importlib.import_module(name)
    model: Any = None
    for recording in job.inputs:
        speech, duration = heard[recording.id]["speech"], heard[recording.id]["duration"]
        channels = heard[recording.id].get("channels")
        if speech and channels is not None:
            apart = by_channel([channel["speech"] for channel in channels])
            found = {"speakers": len({t["speaker"] for t in apart}), "guess": False, "turns": apart}
            job.save(recording, known.described(job, recording, found))
            continue
        if not speech:
            job.note(recording, "no speech found: no speakers")
            job.save(recording, {"speakers": 0, "guess": False, "turns": []})
            continue
        if model is None:
            model = carried(job, "model", lambda: backend.load(job))
        with job.timed("work"):
            diarize = clustered if name == job.variant else backend.diarize
            diarized = diarize(job, recording, model, speech, duration)
            expected, count = job.settings["speakers"], len({turn["speaker"] for turn in diarized})
            if (note := remark(job.settings, count)) is not None:
                job.note(recording, note)
            found = {"speakers": count, "guess": expected is None, "turns": diarized}
            job.save(recording, known.described(job, recording, found))


def remark(settings: dict[str, Any], count: int) -> str | None:
    """What to say of the number of speakers that was found."""
    for name in ("speakers", "min_speakers"):
        if (asked := settings.get(name)) is not None and count < asked:
            return f"{count} speakers found, not {asked} as --{name.replace('_', '-')} says"
    if settings["speakers"] is None and count > 1:
        return f"{count} speakers: a best guess; --speakers N is more exact"
    return None


def by_channel(channels: list[list[list[float]]]) -> list[dict[str, Any]]:
    """Turns where each channel is one speaker, named by its number; they may overlap.

    Args:
        channels: the regions of each, in seconds.
    """
    regions = [(a, b, number) for number, speech in enumerate(channels, 1) for a, b in speech]
    return [{"start": a, "end": b, "speaker": f"S{number}"} for a, b, number in sorted(regions)]


def clustered(
    job: StageJob, recording: Recording, encoder: Any, speech: list[list[float]], duration: float
) -> list[dict[str, Any]]:
    """Turns by embeddings and clustering; ``speech`` are regions in seconds."""
    import cluster

    parts = pieces(speech)
    spans, vectors = embed(job, recording, encoder, parts, duration)
    many = collections.Counter(index for index, _ in spans)
    seconds = [(parts[index][1] - parts[index][0]) / many[index] for index, _ in spans]
    labels = cluster.cluster(
        vectors,
        speakers=job.settings["speakers"],
        least=job.settings.get("min_speakers"),
        most=job.settings.get("max_speakers"),
        seconds=seconds,
    )
    return turns(spans, [int(label) for label in labels], parts, duration)


def pieces(speech: list[list[float]]) -> list[tuple[float, float]]:
    """Regions cut into equal parts of at most ``PIECE`` seconds."""
    cuts: list[tuple[float, float]] = []
    for start, end in speech:
        parts = max(1, -int(-(end - start) // PIECE))
        edges = [start + (end - start) * k / parts for k in range(parts)] + [end]
        cuts += itertools.pairwise(edges)
    return cuts


def embed(
    job: StageJob, recording: Recording, encoder: Any, speech: list[tuple[float, float]], duration: float
) -> tuple[list[tuple[int, float]], Any]:
    """Embeddings over all speech.

    Returns:
        for each embedding the index of its region and its centre in seconds; and the vectors [n, d] of unit length, each
        averaged with its neighbours in the region.
    """
    import numpy as np
    from cluster import units

    spans: list[tuple[int, float]] = []

    def batches() -> Iterator[Any]:
        waiting: list[Any] = []
        for index, at, window in featured(job, recording, encoder, speech, duration):
            spans.append((index, at))
            waiting.append(window)
            if len(waiting) == BATCH:
                yield np.stack(waiting)
                waiting.clear()
        if waiting:
            yield np.stack(waiting)

    raw = np.concatenate(list(encoder.embed(batches())))
    owner = np.array([index for index, _ in spans])
    same = (owner[1:] == owner[:-1])[:, None]
    smooth = raw.copy()
    smooth[1:] += np.where(same, raw[:-1], 0.0)
    smooth[:-1] += np.where(same, raw[1:], 0.0)
    job.progress(recording, duration, duration)
    return spans, units(smooth)


def featured(
    job: StageJob, recording: Recording, encoder: Any, speech: list[tuple[float, float]], duration: float
) -> Iterator[tuple[int, float, Any]]:
    """What is embedded: for each window its region, its centre in seconds, and its features [frames, …]."""
    import numpy as np

    frames = round(SPAN * 100)
    with wave.open(str(job.work("demux", f"{recording.id}.wav")), "rb") as wav:
        for index, (start, end) in enumerate(speech):
            wav.setpos(min(round(start * RATE), wav.getnframes()))
            data = wav.readframes(round((end - start) * RATE))
            sound = np.frombuffer(data, dtype="<i2").astype(np.float32) / 32768.0
            if len(sound) < SPAN * RATE:  # a short word is repeated until the window is full
                sound = np.resize(sound, round(SPAN * RATE)) if len(sound) else np.zeros(round(SPAN * RATE), np.float32)
            energy = encoder.features(sound)
            last = max(0, len(energy) - frames)
            for first in [*range(0, last, round(HOP * 100)), last] if last else [0]:
                window = energy[first : first + frames]
                at = min(start + first / 100 + SPAN / 2, end) if last else (start + end) / 2
                yield index, at, np.pad(window, ((0, frames - len(window)), (0, 0)))
            job.progress(recording, end, duration)


def turns(
    spans: list[tuple[int, float]], labels: list[int], speech: list[tuple[float, float]], duration: float
) -> list[dict[str, Any]]:
    """Speaker turns from labelled embeddings: each moment of a region belongs to the region's nearest embedding.

    Turns grow by ``PAD`` into silence, but not into each other; neighbours of one speaker become one over a ``PAUSE``.
    """
    centres: list[list[tuple[float, int]]] = [[] for _ in speech]
    for (owner, centre), label in zip(spans, labels, strict=True):
        centres[owner].append((centre, label))
    raw: list[list[Any]] = []
    for (start, end), mine in zip(speech, centres, strict=True):
        at = start
        for k, (centre, label) in enumerate(mine):
            until = end if k + 1 == len(mine) else (centre + mine[k + 1][0]) / 2
            if raw and raw[-1][2] == label and raw[-1][1] == at:
                raw[-1][1] = until
            elif until > at:
                raw.append([at, until, label])
            at = until
    grown: list[list[Any]] = []
    for k, (start, end, label) in enumerate(raw):
        before = raw[k - 1][1] if k else 0.0
        after = raw[k + 1][0] if k + 1 < len(raw) else duration
        left = start - min(PAD, (start - before) / 2)
        right = end + min(PAD, (after - end) / 2)
        if grown and grown[-1][2] == label and left - grown[-1][1] <= PAUSE:
            grown[-1][1] = right
        else:
            grown.append([left, right, label])
    names: dict[int, str] = {}
    return [
        {"start": round(a, 3), "end": round(b, 3), "speaker": names.setdefault(label, f"S{len(names) + 1}")}
        for a, b, label in grown
    ]


if __name__ == "__main__":
    contract.main("diarize", work)
