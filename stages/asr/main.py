"""asr: speech to text with word times. faster-whisper on CTranslate2, no PyTorch."""

from __future__ import annotations

import importlib.util
import sys
import types
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
from contract import RATE, InputFault, ModelFault, Recording, StageJob

WINDOW = 29.0
"""Seconds. Whisper hears 30 s at a time; a second is left for padding."""

PAD = 0.2
"""Seconds of sound around speech that the model gets to hear."""

BRIDGE = 2.0
"""Seconds. Silences up to this stay inside a window; longer ones are never shown to the model, which invents
text for them."""

PIECE = 600.0
"""Seconds of sound whose features are computed at once: memory doesn't grow with the recording."""

HEARD = 30.0
"""Seconds of speech that a language is told from at once: what Whisper hears at a time."""

LISTEN = 4
"""Times that is tried while it leaves a doubt."""

SURE = 0.5
"""Probability from which on a language is no guess: faster-whisper's own threshold."""

SEED = 20_000
"""Where the temperature fallback samples: the same job gives the same text."""


def work(job: StageJob) -> None:
    heard = {r.id: job.load("vad", r) for r in job.inputs}
    with job.timed("imports"):
        stand_in("av", "huggingface_hub", "onnxruntime")
        import ctranslate2
        from faster_whisper import WhisperModel
    model: Any = None
    for recording in job.inputs:
        speech, duration = heard[recording.id]["speech"], heard[recording.id]["duration"]
        path = job.work("demux", f"{recording.id}.wav")
        if not speech:
            job.note(recording, "no speech found: nothing to transcribe")
            job.save(recording, result(job.settings["language"], 0.0, duration, []))
            continue
        if model is None:
            with job.timed("load"):
                folder = job.model("asr")
                # Without it faster-whisper would ask the hub.
                if not (folder / "tokenizer.json").is_file():
                    raise ModelFault(f"model {job.uses['asr']['id']}: no tokenizer.json in its folder")
                try:
                    model = WhisperModel(
                        str(folder),
                        device=job.settings["device"],
                        compute_type=job.settings["compute_type"],
                        cpu_threads=job.settings["threads"],
                        local_files_only=True,
                    )
                except (RuntimeError, ValueError, OSError) as error:
                    raise ModelFault(f"model {job.uses['asr']['id']} can't be loaded: {error}") from error
        with job.timed("work"):
            ctranslate2.set_random_seed(SEED)
            job.save(recording, transcribe(job, recording, model, path, speech, duration))


def transcribe(
    job: StageJob, recording: Recording, model: Any, path: Path, speech: list[list[float]], duration: float
) -> dict[str, Any]:
    """The result of one recording; ``speech`` are regions in seconds."""
    language = job.settings["language"]
    if language is not None and language not in model.supported_languages:
        raise InputFault(
            f"model {job.uses['asr']['id']} does not know the language {language!r}; "
            f"it knows {', '.join(sorted(model.supported_languages)[:12])}…"
            if len(model.supported_languages) > 1
            else f"model {job.uses['asr']['id']} knows English only, not {language!r}"
        )
    chance = 1.0
    if language is None:
        language, chance = spoken_language(model, path, speech)
        if chance < SURE:
            job.note(recording, f"the language is a guess: {language} ({chance:.0%}); --language names it")
    segments: list[dict[str, Any]] = []
    for piece in pieces(windows(speech, duration)):
        offset = piece[0][0]
        sound = read(path, offset, piece[-1][1])
        found = recognise(job, model, sound, [(a - offset, b - offset) for a, b in piece], language)
        for segment in found:
            if not segment.text.strip():
                continue
            segments.append(described(len(segments), segment, offset, duration))
            job.progress(recording, offset + segment.end, duration)
        job.progress(recording, piece[-1][1], duration)
    job.progress(recording, duration, duration)
    return result(language, chance, duration, segments)


def recognise(job: StageJob, model: Any, sound: Any, spans: list[tuple[float, float]], language: str) -> Iterator[Any]:
    """faster-whisper over ``spans`` (seconds) of float32 ``sound``: one after the other, or in batches."""
    options: dict[str, Any] = {
        "language": language,
        "beam_size": job.settings["beam_size"],
        "word_timestamps": True,
        "initial_prompt": job.settings["initial_prompt"],
    }
    if job.settings["batch_size"]:
        from faster_whisper import BatchedInferencePipeline

        chunks = [{"start": a, "end": b} for a, b in spans]
        found, _ = BatchedInferencePipeline(model).transcribe(
            sound, batch_size=job.settings["batch_size"], clip_timestamps=chunks, vad_filter=False, **options
        )
        return found  # type: ignore[no-any-return]
    found, _ = model.transcribe(
        sound,
        clip_timestamps=[edge for span in spans for edge in span],
        # Text of one window in the prompt of the next repeats itself without end once it goes wrong.
        condition_on_previous_text=False,
        **options,
    )
    return found  # type: ignore[no-any-return]


def spoken_language(model: Any, path: Path, speech: list[list[float]]) -> tuple[str, float]:
    """The language of a recording and its probability, from speech alone.

    Half a minute of speech is heard, and more of it while that leaves a doubt; probabilities are averaged. Silence
    and music at the start, which faster-whisper's own detection hears, say nothing about the language.
    """
    if not model.model.is_multilingual:
        return "en", 1.0
    import numpy as np

    total: dict[str, float] = {}
    for count, spans in enumerate(samples(speech), 1):
        sound = np.concatenate([read(path, a, b) for a, b in spans])
        _, _, chances = model.detect_language(audio=sound)
        for language, chance in chances:
            total[language] = total.get(language, 0.0) + float(chance)
        best = max(total, key=lambda name: (total[name], name))
        if total[best] / count >= SURE:
            break
    return best, total[best] / count


def samples(speech: list[list[float]]) -> Iterator[list[tuple[float, float]]]:
    """Up to ``LISTEN`` times half a minute of speech (seconds), from the start on."""
    group: list[tuple[float, float]] = []
    room, groups = HEARD, 0
    for start, end in speech:
        while end - start > 0:
            taken = min(end - start, room)
            group.append((start, start + taken))
            start, room = start + taken, room - taken
            if room <= 0.001:
                yield group
                group, room, groups = [], HEARD, groups + 1
                if groups == LISTEN:
                    return
    if group:
        yield group


def windows(speech: list[list[float]], duration: float) -> list[tuple[float, float]]:
    """Group speech regions into windows of at most ``WINDOW`` seconds that don't overlap.

    Regions less than ``BRIDGE`` apart go together. A region that is longer is cut into equal parts.
    """
    out: list[list[float]] = []
    for start, end in speech:
        parts = max(1, -int(-(end - start) // WINDOW))
        step = (end - start) / parts
        for k in range(parts):
            a, b = start + k * step, start + (k + 1) * step
            if out and k == 0 and a - out[-1][1] < BRIDGE and b - out[-1][0] <= WINDOW:
                out[-1][1] = b
            else:
                out.append([a, b])
    padded: list[tuple[float, float]] = []
    for k, (a, b) in enumerate(out):
        before = out[k - 1][1] if k else 0.0
        after = out[k + 1][0] if k + 1 < len(out) else duration
        # Half of the gap at the most, so that neighbours never overlap.
        padded.append((round(a - min(PAD, (a - before) / 2), 3), round(b + min(PAD, (after - b) / 2), 3)))
    return padded


def pieces(spans: list[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """Consecutive windows, together at most ``PIECE`` seconds long."""
    group: list[tuple[float, float]] = []
    for span in spans:
        if group and span[1] - group[0][0] > PIECE:
            yield group
            group = []
        group.append(span)
    if group:
        yield group


def read(path: Path, start: float, end: float) -> Any:
    """Float32 samples of a part of a WAV file (seconds)."""
    import numpy as np

    with wave.open(str(path), "rb") as wav:
        wav.setpos(min(round(start * RATE), wav.getnframes()))
        data = wav.readframes(round((end - start) * RATE))
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / 32768.0


def described(number: int, segment: Any, offset: float, duration: float) -> dict[str, Any]:
    """A segment as plain data on the recording's timeline."""

    def at(seconds: float) -> float:
        return round(min(max(offset + seconds, 0.0), duration), 3)

    return {
        "id": number,
        "start": at(segment.start),
        "end": at(segment.end),
        "text": segment.text,
        "words": [
            {"word": w.word, "start": at(w.start), "end": at(w.end), "probability": round(float(w.probability), 3)}
            for w in segment.words or []
        ],
    }


def result(language: str | None, chance: float, duration: float, segments: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "language": language,
        "language_probability": round(float(chance), 3),
        "duration": duration,
        "segments": segments,
    }


def stand_in(*names: str) -> None:
    """Empty modules for what faster-whisper imports but a model folder and ready samples never need.

    PyAV, the hub client and ONNX Runtime are 150 MB of an image; only where they are absent.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)


if __name__ == "__main__":
    contract.main("asr", work)
