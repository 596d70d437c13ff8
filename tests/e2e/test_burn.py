"""Subtitles drawn into the picture: there while they are said, in the film's own shape, with its sound untouched."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Bake
from tests.e2e.test_stages_b import CUES, EXAMPLE, cue, events, make_job, put, run

FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(not FONT.is_file(), reason="apt-get install fonts-dejavu-core")]

MAKE = """
import sys, av, numpy as np
from fractions import Fraction
path, shape = sys.argv[1], Fraction(sys.argv[2])
with av.open(path, "w") as out:
    v = out.add_stream("libx264", rate=10)
    v.width, v.height, v.pix_fmt = 320, 180, "yuv420p"
    v.codec_context.sample_aspect_ratio = shape
    a = out.add_stream("aac", rate=48000, layout="mono")
    for k in range(80):
        out.mux(v.encode(av.VideoFrame.from_ndarray(np.full((180, 320, 3), 60, np.uint8), format="rgb24")))
    sound = np.sin(np.arange(80 * 4800) / 20).astype(np.float32)[None] * 0.3
    frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 48000, 0
    out.mux(a.encode(frame)); out.mux(v.encode(None)); out.mux(a.encode(None))
"""
LOOK = """
import sys, json, hashlib, av, numpy as np
found = {"bright": [], "columns": 0}
with av.open(sys.argv[1]) as film:
    v, a = film.streams.video[0], film.streams.audio[0]
    found |= {"order": [s.type for s in film.streams], "size": [v.width, v.height], "codec": v.codec_context.name}
    found["shape"] = str(v.codec_context.sample_aspect_ratio)
    sound = hashlib.sha256()
    for packet in film.demux(v, a):
        if packet.stream is a:
            sound.update(bytes(packet))
            continue
        for frame in packet.decode():
            light = frame.to_ndarray(format="gray")
            bright = light > 180
            found["bright"].append([round(frame.time, 2), int(bright[: light.shape[0] // 2].sum()), int(bright.sum())])
            columns = np.flatnonzero(bright.any(axis=0))
            if len(columns):
                found["columns"] = max(found["columns"], int(columns[-1] - columns[0]))
    found["sound"] = sound.hexdigest()
print(json.dumps(found))
"""


def stages(python: Path, script: str, *words: str | Path) -> str:
    done = subprocess.run([python, "-c", script, *words], check=True, capture_output=True, text=True)
    return done.stdout


def look(python: Path, film: Path) -> Any:
    return json.loads(stages(python, LOOK, film))


def burned(python: Path, folder: Path, film: Path, cues: list[dict[str, Any]], *, font: bool = True) -> Path:
    """A job of mux alone, with its cues, run."""
    job = make_job(folder, film, ["demux", "subtitles", "mux"], mux={"burn": True})
    if font:
        shutil.copy(FONT, job / "input/font-01.ttf")
    put(job, "demux", {"jumps": []})
    put(job, "subtitles", {"language": "en", "cues": cues})
    done = run(python, job, "mux")
    assert done.returncode == 0, done.stderr
    return job


def test_words_are_in_the_picture_while_they_are_said(python: Path, tmp_path: Path) -> None:
    """At the bottom, from a cue's start to its end; the sound's packets are the recording's own; the same bytes again."""
    film = tmp_path / "film.mp4"
    stages(python, MAKE, film, "1")
    cues = [CUES[0], cue(2.5, 4.0, "two\nlines é"), cue(3.0, 4.0, "at once")]
    job = burned(python, tmp_path / "job", film, cues)
    found = look(python, job / "output/talk.burned.mp4")
    assert (found["order"], found["codec"], found["size"]) == (["video", "audio"], "h264", [320, 180])
    assert len(found["bright"]) == 80
    assert found["sound"] == look(python, film)["sound"]
    for at, above, everywhere in found["bright"]:
        assert above == 0
        assert (everywhere > 0) == (1.0 <= at < 4.0), at
    three, two = (next(b for at, _, b in found["bright"] if at == t) for t in (3.5, 2.7))
    assert three > two  # both are shown
    again = burned(python, tmp_path / "again", film, cues)
    assert (again / "output/talk.burned.mp4").read_bytes() == (job / "output/talk.burned.mp4").read_bytes()
    assert {p.name for p in (job / "output").iterdir()} == {"talk.mp4", "talk.burned.mp4"}


def test_letters_keep_their_shape_where_pixels_are_not_square(python: Path, tmp_path: Path) -> None:
    """Shown at twice the width, a line takes half as many columns."""
    widths = []
    for shape in ("1", "2"):
        film = tmp_path / f"film{shape}.mp4"
        stages(python, MAKE, film, shape)
        job = burned(python, tmp_path / f"job{shape}", film, [cue(0, 8, "Good morning")])
        found = look(python, job / "output/talk.burned.mp4")
        assert found["shape"] == shape
        widths.append(found["columns"])
    assert widths[1] == pytest.approx(widths[0] / 2, rel=0.15)


def test_what_cannot_be_drawn_is_a_note_and_the_other_film_is_there(python: Path, tmp_path: Path) -> None:
    """Letters that are in no font, and a job without any font."""
    film = tmp_path / "film.mp4"
    stages(python, MAKE, film, "1")
    for name, text, font, why in (
        ("script", "你好", True, "no font of this job has CJK UNIFIED IDEOGRAPH-4F60"),
        ("none", "hello", False, "the job has no font"),
    ):
        job = burned(python, tmp_path / name, film, [cue(1, 2, text)], font=font)
        assert {p.name for p in (job / "output").iterdir()} == {"talk.mp4"}
        assert any(why in e.get("message", "") for e in events(job) if e["event"] == "note")


def test_a_job_draws_with_this_machine_s_fonts(bake: Bake, tmp_path: Path) -> None:
    """From the command to the film; and where there is no picture, it is refused at once."""
    ran = bake("run", EXAMPLE, "--preset", "tiny-en", "--burn", "--formats", "srt", "--end", "8", "--json")
    assert ran.code == 0, ran.err
    names = {Path(f).name for f in ran.data["files"]}
    assert names == {"dialogue.srt", "dialogue.mp4", "dialogue.burned.mp4"}
    (job,) = (tmp_path / "jobs").iterdir()
    assert (job / "input/font-01.ttf").stat().st_size > 10_000
    refused = bake("run", job / "work/demux/01.wav", "--burn")
    assert refused.code == 2
    assert "no picture" in refused.said
