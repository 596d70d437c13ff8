"""diarize, subtitles and mux as programs: the real model, real containers, the example's dialogue.

They run in the native environment that `build.py` makes. Elsewhere: WHISPERBAKE_STAGE_PYTHON names a python that has
the stages' requirements, and BAKE_MODELS the tree of weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_stages_a import said

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/dialogue.mp4"
pytestmark = pytest.mark.e2e

SETTINGS: dict[str, dict[str, Any]] = {
    "demux": {},
    "vad": {"threshold": 0.5, "min_speech_ms": 100, "min_silence_ms": 250, "pad_ms": 60},
    "align": {},
    "diarize": {"speakers": None, "threads": 2},
    "subtitles": {"prefix": True},
    "mux": {},
}
MODELS = {
    "vad": {"vad": {"id": "silero-vad", "path": "onnx/silero-vad", "digest": "sha256:0"}},
    "diarize": {"embedding": {"id": "d-vector", "path": "onnx/d-vector", "digest": "sha256:0"}},
}


@pytest.fixture(scope="module")
def weights() -> Path:
    """The tree of weights, with the d-vector and Silero in it."""
    tree = Path(os.environ.get("BAKE_MODELS", ROOT / ".bake/models"))
    if not (tree / "onnx/d-vector").is_dir():
        if os.environ.get("CI"):
            pytest.fail("no weights: run build.py first")
        pytest.skip("no weights here; next: python3 build.py")
    return tree


def make_job(folder: Path, recording: Path, stages: list[str], **changed: dict[str, Any]) -> Path:
    """A job of one recording, as prepare writes it."""
    (folder / "input").mkdir(parents=True)
    target = folder / "input" / f"01{recording.suffix}"
    target.write_bytes(recording.read_bytes())
    spec = {
        "schema": 1,
        "id": "test",
        "variant": "slim",
        "inputs": [{"id": "01", "name": recording.name, "path": f"input/{target.name}", "output": "talk"}],
        "stages": [
            {"name": s, "needs": [], "settings": SETTINGS[s] | changed.get(s, {}), "models": MODELS.get(s, {})}
            for s in stages
        ],
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(spec))
    if "demux" not in stages:
        put(folder, "demux", {"clock": [], "jumps": []})
    return folder


def run(python: Path, job: Path, stage: str, *, weights: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "BAKE_MODELS": str(weights or "/nowhere"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(python), str(ROOT / f"stages/{stage}/main.py"), "--job", str(job)]
    return subprocess.run(command, env=env, capture_output=True, text=True)


def put(job: Path, stage: str, value: Any) -> None:
    path = job / "work" / stage / "01.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    (path.parent / "manifest.json").write_text("{}")


def events(job: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job / "events.jsonl").read_text().splitlines()]


def cue(start: float, end: float, text: str) -> dict[str, Any]:
    return {"start": start, "end": end, "text": text, "lines": text.split("\n"), "speaker": "S1", "changed": False}


CUES = [cue(1.0, 2.5, "Speaker 1: Good morning"), cue(2.5, 4.0, "two\nlines é 你好"), cue(6.0, 7.5, "‹i›")]

# Runs in the stages' python: the tests' own has no PyAV.
MAKE = """
import sys, av, numpy as np
from fractions import Fraction
path, video, audio, frames = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
with av.open(path, "w") as out:
    v = out.add_stream(video, rate=10)
    v.width, v.height, v.pix_fmt = 160, 120, sys.argv[5]
    a = out.add_stream(audio, rate=48000, layout="mono")
    if video == "libx264":
        v.codec_context.max_b_frames = 2
    out.metadata["title"] = "My film"
    if not path.endswith(".avi"):
        tick = Fraction(1, 1000)
        out.set_chapters([{"id": 1, "start": 0, "end": 3000, "time_base": tick, "metadata": {"title": "One"}}])
    for k in range(frames):
        picture = np.full((120, 160, 3), (k * 3 % 256, 80, 200 - k), dtype=np.uint8)
        picture[40:80, k % 120 : k % 120 + 40] = 255
        out.mux(v.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=sys.argv[5])))
    sound = np.sin(np.arange(frames * 4800) / 20).astype(np.float32)[None] * 0.3
    frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 48000, 0
    out.mux(a.encode(frame))  # converted and cut to the codec's frames there
    out.mux(v.encode(None)); out.mux(a.encode(None))
"""
LOOK = """
import sys, json, hashlib, av
found = {"streams": [], "cues": []}
with av.open(sys.argv[1]) as c:
    found["title"] = dict(c.metadata).get("title")
    found["chapters"] = len(c.chapters())
    kinds = [s for s in c.streams if s.type in ("video", "audio", "subtitle")]
    digests = {s.index: hashlib.sha256() for s in kinds}
    first, count = {}, dict.fromkeys(digests, 0)
    last = kinds[-1].index if kinds[-1].type == "subtitle" else None
    for p in c.demux(kinds):
        if not p.size:
            continue
        i = p.stream.index
        digests[i].update(bytes(p)); count[i] += 1
        first.setdefault(i, float(p.pts * p.time_base))
        if i == last:
            for s in p.decode():
                text = (s.ass or b"").decode().split(",", 8)[-1]
                if text:
                    found["cues"].append([float(p.pts * p.time_base), float(p.duration * p.time_base), text])
    for s in kinds:
        i = s.index
        found["streams"].append([s.type, digests[i].hexdigest(), count[i], first.get(i), s.metadata.get("language")])
print(json.dumps(found))
"""


def look(python: Path, path: Path) -> Any:
    done = subprocess.run([str(python), "-c", LOOK, str(path)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "video", "audio", "pixels", "made"),
    [
        ("film.mp4", "libx264", "aac", "yuv420p", "talk.mp4"),
        # B-frames in Matroska have no decoding time at first: they were once lost, the first key frame among them.
        ("film.mkv", "libx264", "aac", "yuv420p", "talk.mkv"),
        ("film.webm", "libvpx", "libopus", "yuv420p", "talk.mkv"),
        ("film.avi", "mpeg4", "libmp3lame", "yuv420p", "talk.mkv"),
        # MP4 has no place for ProRes: the film must not lose its picture.
        ("film.mov", "prores_ks", "pcm_s16le", "yuv422p10le", "talk.mkv"),
    ],
)
def test_mux_copies_every_packet_and_adds_the_subtitles(
    python: Path, tmp_path: Path, name: str, video: str, audio: str, pixels: str, made: str
) -> None:
    source = tmp_path / name
    subprocess.run([str(python), "-c", MAKE, str(source), video, audio, "80", pixels], check=True, capture_output=True)
    job = make_job(tmp_path / "job", source, ["mux"])
    put(job, "subtitles", {"language": "de", "cues": CUES})
    done = run(python, job, "mux")
    assert done.returncode == 0, done.stderr
    result = job / "output" / made
    assert [p.name for p in (job / "output").iterdir()] == [made]
    before, after = look(python, source), look(python, result)
    # Type, payload, number of packets and time of the first one.
    assert [s[:3] for s in after["streams"][:-1]] == [s[:3] for s in before["streams"]]
    assert [s[3] for s in after["streams"][:-1]] == pytest.approx([s[3] for s in before["streams"]], abs=0.002)
    assert after["streams"][-1][0] == "subtitle"
    assert after["streams"][-1][4] in ("deu", "ger")
    assert after["title"] == before["title"]
    assert after["chapters"] == before["chapters"]
    offset = after["cues"][0][0] - 1.0  # the container's own clock may start a few ms late
    assert abs(offset) < 0.06
    assert [c[0] - offset for c in after["cues"]] == pytest.approx([1.0, 2.5, 6.0], abs=0.002)
    assert [c[1] for c in after["cues"]] == pytest.approx([1.5, 1.5, 1.5], abs=0.002)
    assert [c[2] for c in after["cues"]] == ["Speaker 1: Good morning", r"two\Nlines é 你好", "‹i›"]


def test_mux_makes_the_same_bytes_again(python: Path, tmp_path: Path) -> None:
    """A job killed and run again ends with the same bytes: no date, no chance in the file."""
    digests = set()
    for k in range(2):
        job = make_job(tmp_path / f"{k}", EXAMPLE, ["mux"])
        put(job, "subtitles", {"language": "en", "cues": CUES})
        assert run(python, job, "mux").returncode == 0
        digests.add(hashlib.sha256((job / "output/talk.mp4").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_mux_refuses_what_is_no_media(python: Path, tmp_path: Path) -> None:
    """Exit 2, one sentence with the file's name, nothing half-written."""
    bad = tmp_path / "notes.mp4"
    bad.write_text("not a film")
    job = make_job(tmp_path / "job", bad, ["mux"])
    put(job, "subtitles", {"language": "en", "cues": CUES})
    done = run(python, job, "mux")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("notes.mp4: not a media file")
    assert not (job / "output").exists() or not list((job / "output").iterdir())
    assert events(job)[-1]["event"] == "failed"


def test_diarize_finds_the_two_speakers_of_the_example(python: Path, weights: Path, tmp_path: Path) -> None:
    """The real model on the example: two speakers, called a guess; a true turn is one speaker's."""
    job = make_job(tmp_path / "job", EXAMPLE, ["demux", "vad", "diarize"])
    for stage in ("demux", "vad", "diarize"):
        done = run(python, job, stage, weights=weights)
        assert done.returncode == 0, done.stderr
    found = json.loads((job / "work/diarize/01.json").read_text())
    assert (found["speakers"], found["guess"]) == (2, True)
    names: dict[str, set[str]] = {}
    for line in (ROOT / "examples/dialogue.rttm").read_text().splitlines():
        fields = line.split()
        middle = float(fields[3]) + float(fields[4]) / 2
        said_by = {t["speaker"] for t in found["turns"] if t["start"] <= middle <= t["end"]}
        assert len(said_by) == 1
        names.setdefault(fields[7], set()).update(said_by)
    assert [len(n) for n in names.values()] == [1, 1]
    assert names["S1"] != names["S2"]
    again = make_job(tmp_path / "again", EXAMPLE, ["demux", "vad", "diarize"])
    for stage in ("demux", "vad", "diarize"):
        assert run(python, again, stage, weights=weights).returncode == 0
    assert (again / "work/diarize/01.json").read_bytes() == (job / "work/diarize/01.json").read_bytes()


def test_diarize_says_which_model_is_missing(python: Path, tmp_path: Path) -> None:
    """Exit 5 and a sentence, no traceback."""
    job = make_job(tmp_path / "job", EXAMPLE, ["diarize"])
    put(job, "vad", {"duration": 3.0, "speech": [[0.0, 2.0]]})
    put(job, "demux", {})
    (tmp_path / "tree/onnx/d-vector").mkdir(parents=True)
    done = run(python, job, "diarize", weights=tmp_path / "tree")
    assert done.returncode == 5
    assert said(done) == ["model d-vector: no .onnx file in its folder"]


def test_silence_goes_through_to_empty_valid_files(python: Path, tmp_path: Path) -> None:
    """No speech is a result: every file is there, says so, and mux still makes the film."""
    job = make_job(tmp_path / "job", EXAMPLE, ["align", "diarize", "subtitles", "mux"])
    put(job, "vad", {"duration": 31.2, "speech": []})
    assert run(python, job, "diarize").returncode == 0
    put(job, "align", {"language": "en", "language_probability": 0.5, "duration": 31.2, "segments": []})
    for stage in ("subtitles", "mux"):
        done = run(python, job, stage)
        assert done.returncode == 0, done.stderr
    out = job / "output"
    assert {p.name for p in out.iterdir()} == {f"talk.{s}" for s in ("srt", "vtt", "ass", "txt", "json", "rttm", "mp4")}
    assert (out / "talk.srt").read_bytes() == b""
    assert (out / "talk.vtt").read_text() == "WEBVTT\n"
    assert json.loads((out / "talk.json").read_text())["notes"] == ["no speech found"]
    assert "no speech found" in " ".join(e.get("message", "") for e in events(job))


def test_subtitles_without_alignment_or_speakers(python: Path, tmp_path: Path) -> None:
    """--no-diarization: no labels, no RTTM; the words come from asr when align isn't part of the job."""
    SETTINGS.setdefault("asr", {})
    job = make_job(tmp_path / "job", EXAMPLE, ["asr", "subtitles"])
    words = [{"word": f" {w}", "start": k, "end": k + 0.5, "probability": 1.0} for k, w in enumerate(["Hello", "you."])]
    segment = {"id": 0, "start": 0.0, "end": 1.5, "text": " Hello you.", "words": words}
    put(job, "asr", {"language": "en", "language_probability": 1.0, "duration": 5.0, "segments": [segment]})
    done = run(python, job, "subtitles")
    assert done.returncode == 0, done.stderr
    out = job / "output"
    assert {p.suffix for p in out.iterdir()} == {".srt", ".vtt", ".ass", ".txt", ".json"}
    assert (out / "talk.txt").read_text() == "Hello you.\n"
    assert json.loads((out / "talk.json").read_text())["speakers"] is None
