"""Make dialogues whose text, speakers and turns are known: the example, and sets for benchmarks.

    PYTHON examples/make.py                              examples/dialogue.{mp4,txt,rttm}
    PYTHON examples/make.py --many DIR --count 10        DIR/NN.{wav,txt,rttm}, two to four voices

PYTHON needs PyAV and NumPy; the native environment's has them (.bake/native/*/bin/python). Needs espeak-ng, too: the
committed files come from version 1.51.
"""

from __future__ import annotations

import argparse
import io
import random
import shutil
import subprocess  # examples are not part of the builder
import sys
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RATE = 22_050
"""Samples a second of espeak-ng's sound."""

VOICES = (
    ("en-us+m3", 155, 38),
    ("en-gb+f2", 150, 62),
    ("en-us+f4", 160, 75),
    ("en-gb+m7", 145, 22),
    ("en-gb-scotland+m1", 150, 50),
    ("en-us+f5", 150, 45),
)
"""espeak-ng's voice, words a minute, and pitch (0–99)."""

EXAMPLE = (
    (0, "Good morning, and welcome to the radio hour. Today we talk about the old harbor."),
    (1, "Thank you. It is a pleasure to be here with you this morning."),
    (0, "When did you first come to the city?"),
    (1, "I came here twenty years ago, when the fish market was still open every day."),
    (0, "What has changed since that time?"),
    (1, "Almost everything. The market is now a museum, but the people are still very friendly."),
    (0, "That is good to hear. We will be back after the news."),
)

LINES = (
    "I think the meeting went very well yesterday.",
    "Could you send me the report before the end of the week?",
    "The train was late again, so I had to wait for an hour.",
    "My sister is moving to a new house near the river.",
    "We should talk about the budget for next year.",
    "It was raining all day and nobody wanted to go outside.",
    "The doctor said that everything looks fine.",
    "Have you read the book that I gave you last summer?",
    "They opened a small restaurant across the street.",
    "I would like to learn how to play the piano.",
    "The children were playing in the garden until it was dark.",
    "Nobody knows why the lights went out last night.",
    "We drove through the mountains and stopped at a lake.",
    "Please remember to close the window before you leave.",
    "The new machine is much faster than the old one.",
    "He told me a story about his time in the navy.",
    "Do you want to come with us to the theater on Friday?",
    "The water in the lake is too cold for swimming.",
    "She works in a hospital on the other side of town.",
    "I have never seen so many people in one place.",
)


@dataclass(frozen=True)
class Turn:
    """What one voice says; times in seconds, trimmed to the sound."""

    speaker: int
    text: str
    start: float
    end: float


def speak(text: str, voice: tuple[str, int, int]) -> Any:
    """Float32 samples of espeak-ng saying ``text``, trimmed to what is audible."""
    name, speed, pitch = voice
    done = subprocess.run(
        ["espeak-ng", "-v", name, "-s", str(speed), "-p", str(pitch), "--stdout", text], capture_output=True, check=True
    )
    with wave.open(io.BytesIO(done.stdout), "rb") as wav:
        assert wav.getframerate() == RATE
        data = wav.readframes(1 << 30)
    sound = np.frombuffer(data, dtype="<i2").astype(np.float32) / 32768.0
    loud = np.flatnonzero(np.abs(sound) > 0.01)
    return sound[loud[0] : loud[-1] + 1]


def say(
    lines: list[tuple[int, str]], voices: list[tuple[str, int, int]], chance: random.Random
) -> tuple[Any, list[Turn]]:
    """A dialogue's float32 samples and turns, with pauses of 0.35–0.8 s between the turns."""
    parts = [np.zeros(RATE // 2, dtype=np.float32)]
    at, turns = 0.5, []
    for speaker, text in lines:
        sound = speak(text, voices[speaker])
        sound = sound * (0.25 / max(float(np.sqrt(np.mean(sound**2))) * 2, 1e-6))
        turns.append(Turn(speaker, text, round(at, 3), round(at + len(sound) / RATE, 3)))
        pause = np.zeros(int(chance.uniform(0.35, 0.8) * RATE), dtype=np.float32)
        parts += [sound, pause]
        at += (len(sound) + len(pause)) / RATE
    whole = np.concatenate(parts)
    # A little noise: no real recording has digital silence.
    noise = np.random.default_rng(7).standard_normal(len(whole)).astype(np.float32) * 0.0005
    return np.clip(whole + noise, -1, 1), turns


def write_truth(turns: list[Turn], target: Path) -> None:
    """``<target>.txt`` (a line a turn) and ``<target>.rttm``."""
    target.with_suffix(".txt").write_text("".join(f"Speaker {t.speaker + 1}: {t.text}\n" for t in turns))
    target.with_suffix(".rttm").write_text(
        "".join(
            f"SPEAKER {target.stem} 1 {t.start:.3f} {t.end - t.start:.3f} <NA> <NA> S{t.speaker + 1} <NA> <NA>\n"
            for t in turns
        )
    )


def write_wav(sound: Any, path: Path) -> None:
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(RATE)
        wav.writeframes((sound * 32767).astype("<i2").tobytes())


def write_video(sound: Any, turns: list[Turn], path: Path) -> None:
    """Write H.264 and AAC: the picture has two heads, and the speaker's is lit."""
    import av

    width, height, rate = 320, 180, 10
    with av.open(str(path), "w", options={"fflags": "+bitexact", "movflags": "+faststart"}) as out:
        video = out.add_stream("libx264", rate=rate, options={"crf": "30", "preset": "slow", "threads": "1"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = out.add_stream("aac", rate=RATE, layout="mono")
        audio.bit_rate = 48_000
        for stream in (video, audio):
            stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for index in range(int(len(sound) / RATE * rate)):
            now = next((t.speaker for t in turns if t.start <= index / rate <= t.end), None)
            picture = av.VideoFrame.from_ndarray(draw(width, height, now), format="rgb24")
            for packet in video.encode(picture):
                out.mux(packet)
        for packet in video.encode(None):
            out.mux(packet)
        for start in range(0, len(sound), 1024):
            part = sound[start : start + 1024]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part[None]), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = RATE, start
            for packet in audio.encode(frame):
                out.mux(packet)
        for packet in audio.encode(None):
            out.mux(packet)


def draw(width: int, height: int, speaking: int | None) -> Any:
    """An RGB picture [height, width, 3]: a head and shoulders for each of two speakers."""
    image = np.full((height, width, 3), (24, 28, 38), dtype=np.uint8)
    y, x = np.mgrid[:height, :width]
    for who, (centre, colour) in enumerate(((width // 4, (235, 160, 70)), (3 * width // 4, (80, 170, 230)))):
        shade = 1.0 if speaking == who else 0.35
        body = ((x - centre) ** 2 + (y - 70) ** 2 < 32**2) | (((x - centre) / 60) ** 2 + ((y - 180) / 70) ** 2 < 1)
        image[body] = (np.array(colour) * shade).astype(np.uint8)
    return image


def dialogue(count: int, chance: random.Random) -> tuple[Any, list[Turn]]:
    """Eight to twelve turns of ``count`` voices, one or two sentences each."""
    voices = chance.sample(VOICES, count)
    texts = chance.sample(LINES, len(LINES))
    order = [k % count for k in range(chance.randint(8, 12))]
    for k in range(count, len(order)):
        order[k] = chance.choice([s for s in range(count) if s != order[k - 1]])
    lines = []
    for who in order:
        lines.append(
            (who, " ".join(texts.pop() for _ in range(min(chance.randint(1, 2), max(len(texts), 1))) if texts))
        )
    return say([(w, t) for w, t in lines if t], voices, chance)


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--many", type=Path, help="folder for a set of dialogues")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        print("espeak-ng is not on this machine; next: apt-get install espeak-ng", file=sys.stderr)
        return 3
    if options.many:
        options.many.mkdir(parents=True, exist_ok=True)
        for number in range(options.count):
            chance = random.Random(options.seed * 1000 + number)
            sound, turns = dialogue(2 + number % 3, chance)
            target = options.many / f"{number + 1:02}"
            write_wav(sound, target.with_suffix(".wav"))
            write_truth(turns, target)
        return 0
    target = Path(__file__).resolve().parent / "dialogue"
    sound, turns = say(list(EXAMPLE), [VOICES[0], VOICES[1]], random.Random(1))
    write_video(sound, turns, target.with_suffix(".mp4"))
    write_truth(turns, target)
    return 0


if __name__ == "__main__":
    sys.exit(run())
