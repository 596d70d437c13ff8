"""Subtitles of real speech against the rules of their profile, told by ``subtitles check``."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from harness import WORK, build

from speech import corpus, product, sound, sources
from speech.report import Line, Options

PLACE = WORK / "cues"

PROFILES = ("netflix", "bbc", "ebu", "web")

LONGEST = 240
"""Seconds of each talk."""

SPOKEN = "spoken faster than the limit"
"""The rule that no subtitle can keep without dropping words."""


def cues(options: Options) -> list[Line]:
    """The row: for each profile the subtitles that break a rule, and those that are just spoken too fast."""
    lines: list[Line] = []
    made = recordings(final=options.final)[: options.count]
    for profile in PROFILES:
        setup = product.Setup("starter", ("--language", "en", "--profile", profile))
        said = product.heard(f"cues, {profile}", [path for _, path in made], setup)
        files = [srt(f"{profile}-{name}", each) for (name, _), each in zip(made, said, strict=True)]
        lines.append(checked(profile, files))
    return lines


def checked(profile: str, files: list[Path]) -> Line:
    """What the check says of all files together."""
    answer = build("subtitles", "check", *files, "--profile", profile, "--language", "en", "--allow", "100")
    total = sum(one["cues"] for one in answer["files"])
    rules: Counter[str] = Counter()
    fast = 0
    for one in answer["files"]:
        broken = by_cue(one["breaches"])
        fast += sum(names == {SPOKEN} for names in broken.values())
        rules.update(name for names in broken.values() for name in names)
        print(f"{Path(one['file']).stem}: {one['breaking']} of {one['cues']}", file=sys.stderr)
    breaking = sum(one["breaking"] for one in answer["files"])
    percent = 100 * breaking / max(total, 1)
    kinds = ", ".join(f"{name} {n}" for name, n in rules.most_common()) or "none"
    rest = 100 * (breaking - fast) / max(total, 1)
    figure = f"{percent:.1f} % of {total} ({kinds}); without those that are only spoken too fast {rest:.1f} %"
    return Line("cues", f"subtitles that break a rule, {profile}", figure, "≤ 1 %", percent <= 1)


def by_cue(breaches: list[dict[str, Any]]) -> dict[int, set[str]]:
    """Number of a subtitle -> the rules that it breaks."""
    found: dict[int, set[str]] = {}
    for breach in breaches:
        found.setdefault(breach["cue"], set()).add(breach["rule"])
    return found


def srt(name: str, said: dict[str, Any]) -> Path:
    """The subtitles as a file."""
    path = PLACE / f"{name}.srt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(said["srt"])
    return path


def recordings(*, final: bool) -> list[tuple[str, Path]]:
    """Spontaneous talk first: an interview and speeches, a telephone call, then readings."""
    place = sources.folder("talks") / "audio_data"
    speeches = sorted((place / "donald_trump/real").glob("*.mp3"))[1 if final else 0 :: 4]
    talks = [clip(path) for path in ([] if final else [place / "X2zqiX6yL3I.mp3"]) + speeches]
    call = sound.decoded([sources.folder("meetings") / "src/pyannote/audio/sample/sample.wav"])[0]
    readings = [r for r in corpus.readings(final=final) if r.language == "en" and r.kind in ("clean", "telephone")]
    return [*((p.stem, p) for p in talks), ("call", call), *((r.name, r.path) for r in readings[:6])]


def clip(recording: Path) -> Path:
    """The first minutes of a talk."""
    samples = sound.load(recording)[: LONGEST * sound.RATE]
    return sound.write(PLACE / f"{recording.stem}.wav", np.asarray(samples))
