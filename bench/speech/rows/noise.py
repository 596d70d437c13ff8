"""Word error rates of speech in noise, with and without the stage that takes noise out."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from speech import corpus, product, sound, sources
from speech.report import Line, Options
from speech.rows import words

RATIOS = (0, 5, 10)
"""dB of speech above noise."""

MODES = ("off", "auto")
"""Values of ``--separate``."""

WORSE = 0.5
"""Points of word error rate that ``auto`` may cost."""


def noise(options: Options) -> list[Line]:
    """The row: English recordings as they are, and with pink and recorded noise under them."""
    clean = [r for r in corpus.readings(final=options.final) if r.language == "en" and r.kind == "clean"]
    readings = list(noisy(clean[: options.count]))
    lines: list[Line] = []
    for model, preset in words.MODELS.items():
        scores = {mode: words.scored(readings, heard(model, preset, mode, readings)) for mode in MODES}
        words.show(model, readings, {"ours": scores["auto"], "off": scores["off"]})
        for kind in dict.fromkeys(r.kind for r in readings):
            chosen = [k for k, r in enumerate(readings) if r.kind == kind]
            off, auto = (words.total(scores[mode], chosen) for mode in MODES)
            lowest = kind.endswith(f" {RATIOS[0]} dB")
            held = auto.rate < off.rate if lowest else auto.rate <= off.rate + WORSE
            aim = "less than off" if lowest else f"≤ off + {WORSE}"
            lines.append(
                Line(
                    "noise",
                    f"{model}, {kind}",
                    f"{auto.rate:.2f} % of {auto.count} words",
                    aim,
                    held,
                    f"off {off.rate:.2f} %",
                )
            )
    return lines


def noisy(clean: list[corpus.Reading]) -> Iterator[corpus.Reading]:
    """The recordings, and each with every noise."""
    recorded = sorted((sources.folder("sentences") / "tests/samples/noise").glob("*.wav"))
    for number, one in enumerate(clean):
        samples = sound.read(one.path)
        yield one
        for ratio in RATIOS:
            pink = sound.coloured("pink", len(samples), np.random.default_rng(100 * number + ratio))
            for name, other in (("pink", pink), ("recorded", sound.load(recorded[number % len(recorded)]))):
                path = one.path.parent / f"{one.name}-{name}-{ratio}.wav"
                sound.write(path, sound.under(samples, other, ratio))
                yield corpus.Reading(path.stem, "en", one.text, path, f"{name} noise at {ratio} dB")


def heard(model: str, preset: str, mode: str, readings: list[corpus.Reading]) -> list[str]:
    """What a preset makes of the recordings with a value of ``--separate``."""
    setup = product.Setup(preset, ("--language", "en", "--no-diarization", "--separate", mode))
    said = product.heard(f"noise, {model}, {mode}", [r.path for r in readings], setup)
    for reading, one in zip(readings, said, strict=True):
        print(f"{reading.name:32} {one.get('separate', {}).get('why', '')}", file=sys.stderr)
    return [product.text(one) for one in said]
