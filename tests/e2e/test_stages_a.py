"""demux (with clip.py), vad, asr and align as programs: real containers, the real models, the example's dialogue.

WHISPERBAKE_STAGE_PYTHON names a python that has the stages' requirements, and BAKE_MODELS a tree of weights with
Silero and tiny.en; else the command itself sets both up.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import wave
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from metrics import word_errors

from tests.e2e.conftest import write_wav

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/dialogue.mp4"
TREE = Path(os.environ.get("BAKE_MODELS", ROOT / ".bake/models"))

WHISPER = "ctranslate2/tiny.en-int8"

SETTINGS: dict[str, dict[str, Any]] = {
    "demux": {"track": None},
    "vad": {"threshold": 0.5, "min_speech_ms": 100, "min_silence_ms": 250, "pad_ms": 60},
    "asr": {
        "language": None,
        "device": "cpu",
        "compute_type": "int8",
        "threads": 2,
        "batch_size": 0,
        "beam_size": 5,
        "initial_prompt": None,
    },
    "align": {},
    "mux": {},
}


def make_job(folder: Path, *recordings: Path, **changed: dict[str, Any]) -> Path:
    """A job as prepare writes it, with one input per recording."""
    (folder / "input").mkdir(parents=True)
    inputs = []
    for number, recording in enumerate(recordings, 1):
        path = f"input/{number:02}{recording.suffix}"
        (folder / path).write_bytes(recording.read_bytes())
        inputs.append({"id": f"{number:02}", "name": recording.name, "path": path, "output": recording.stem})
    there = (TREE / WHISPER).is_dir()
    models = {"vad": {"vad": "onnx/silero-vad"}, "asr": {"asr": WHISPER}} if there else {}
    stages = [
        {
            "name": name,
            "needs": [],
            "settings": settings | changed.get(name, {}),
            "models": {p: {"id": "tiny.en", "path": m, "digest": "sha256:0"} for p, m in models.get(name, {}).items()},
        }
        for name, settings in SETTINGS.items()
    ]
    (folder / "job.yaml").write_text(
        yaml.safe_dump({"schema": 1, "id": "test", "variant": "slim", "inputs": inputs, "stages": stages})
    )
    return folder


def command(python: Path, job: Path, stage: str) -> list[str]:
    return [str(python), str(ROOT / f"stages/{stage}/main.py"), "--job", str(job)]


def run(python: Path, job: Path, stage: str, *, tree: Path = TREE) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "BAKE_MODELS": str(tree), "OMP_NUM_THREADS": "2"}
    return subprocess.run(command(python, job, stage), env=env, capture_output=True, text=True, check=False)


def ok(python: Path, job: Path, *stages: str) -> None:
    for stage in stages:
        done = run(python, job, stage)
        assert done.returncode == 0, done.stderr


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What a stage says to the user: the lines of its standard error that are not its log."""
    return [line for line in done.stderr.splitlines() if not re.match(r"\d\d:\d\d:\d\d \w+: ", line)]


def load(job: Path, path: str) -> Any:
    return json.loads((job / "work" / path).read_text())


def notes(job: Path, stage: str) -> str:
    return " ".join(load(job, f"{stage}/manifest.json")["notes"])


# Runs in the stages' python: the tests' own has no PyAV. A tone bursts for 0.1 s at every full second.
MAKE = """
import sys, av, numpy as np
from fractions import Fraction
path, codec, rate, layout, seconds, late, jump = sys.argv[1:8]
rate, seconds, late, jump = int(rate), int(seconds), float(late), float(jump)
with av.open(path, "w") as out:
    picture = path.endswith((".mkv", ".mp4", ".ts"))
    if picture:
        v = out.add_stream("libx264", rate=10, options={"g": "20"})
        v.width, v.height, v.pix_fmt = 64, 48, "yuv420p"
    a = out.add_stream(codec, rate=rate, layout=layout)
    t = np.arange(seconds * rate) / rate
    tone = np.where(t % 1 < 0.1, np.sin(t * 5000) * 0.5, 0).astype(np.float32)
    width = {"mono": 1, "stereo": 2}[layout]
    for k in range(seconds):
        for n in range(10 if picture else 0):
            out.mux(v.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), k * 10 + n, np.uint8), format="rgb24")))
        part = np.repeat(tone[k * rate : (k + 1) * rate][None], width, axis=0)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout=layout)
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = k * rate + int(late * rate)
        for packet in a.encode(frame) + (a.encode(None) if k == seconds - 1 else []):
            if packet.pts * packet.time_base >= late + 4.5:
                packet.pts += int(jump / packet.time_base)
                packet.dts = packet.pts
            out.mux(packet)
    if picture:
        out.mux(v.encode(None))
"""


def make(
    python: Path,
    path: Path,
    codec: str,
    *,
    rate: int = 44_100,
    layout: str = "stereo",
    seconds: int = 10,
    late: float = 0.0,
    jump: float = 0.0,
) -> Path:
    """A recording whose tone sounds at every full second; from 4.5 s on ``jump`` later, all of it ``late`` seconds."""
    words = [str(python), "-c", MAKE, str(path), codec, str(rate), layout, str(seconds), str(late), str(jump)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path


def bursts(job: Path, *, loud: int = 3000) -> list[float]:
    """When the tones of demux's first result begin, in seconds: samples beyond ``loud``."""
    with wave.open(str(job / "work/demux/01.wav")) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (16_000, 1, 2)
        data = memoryview(wav.readframes(wav.getnframes())).cast("h")
    found, quiet = [], 10_000
    for at, value in enumerate(data):
        if abs(value) > loud:
            if quiet > 4000:
                found.append(at / 16_000)
            quiet = 0
        else:
            quiet += 1
    return found


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout"),
    [
        ("a.wav", "pcm_s16le", 16_000, "mono"),
        ("a.flac", "flac", 44_100, "stereo"),
        ("a.mp3", "libmp3lame", 22_050, "mono"),
        ("a.ogg", "libopus", 48_000, "stereo"),
        ("a.mkv", "ac3", 48_000, "stereo"),
        ("a.mp4", "aac", 44_100, "stereo"),
        ("a b 'ü\"\n.wav", "pcm_s16le", 8_000, "mono"),
    ],
)
def test_demux_reads_it(python: Path, tmp_path: Path, name: str, codec: str, rate: int, layout: str) -> None:
    """16 kHz mono, every tone at its second, whatever it was."""
    job = make_job(tmp_path / "job", make(python, tmp_path / name, codec, rate=rate, layout=layout))
    ok(python, job, "demux")
    assert bursts(job) == pytest.approx(range(10), abs=0.03)
    found = load(job, "demux/01.json")
    assert found["duration"] == pytest.approx(10, abs=0.1)
    assert found["video"] is name.endswith((".mkv", ".mp4"))
    assert notes(job, "demux") == ""


@pytest.mark.parametrize(
    ("late", "jump", "expected"),
    [(2.0, 0.0, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]), (0.0, 3.0, [0, 1, 2, 3, 4, 8, 9, 10, 11, 12])],
    ids=["sound begins after the picture", "a hole in the sound"],
)
def test_sound_keeps_the_pictures_time(
    python: Path, tmp_path: Path, late: float, jump: float, expected: list[int]
) -> None:
    """Else every subtitle after it would be early."""
    job = make_job(tmp_path / "job", make(python, tmp_path / "a.mkv", "ac3", rate=48_000, late=late, jump=jump))
    ok(python, job, "demux")
    assert bursts(job) == pytest.approx(expected, abs=0.03)


def test_a_format_that_changes_in_the_middle(python: Path, tmp_path: Path) -> None:
    """Joined files: another rate and another number of channels, and the sound goes on."""
    parts = [
        make(python, tmp_path / "a.mp3", "libmp3lame", rate=16_000, layout="mono", seconds=5),
        make(python, tmp_path / "b.mp3", "libmp3lame", rate=44_100, layout="stereo", seconds=5),
    ]
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(b"".join(p.read_bytes() for p in parts))
    job = make_job(tmp_path / "job", joined)
    ok(python, job, "demux")
    found = bursts(job)
    assert len(found) == 10
    assert [b - a for a, b in pairwise(found)] == pytest.approx([1.0] * 9, abs=0.15)


@pytest.mark.parametrize("name", ["cut.mkv", "cut.mp3", "cut.flac"])
def test_a_truncated_file_gives_what_is_there(python: Path, tmp_path: Path, name: str) -> None:
    """And a note says how much of it."""
    codec = {"mkv": "aac", "mp3": "libmp3lame", "flac": "flac"}[name[4:]]
    whole = make(python, tmp_path / name, codec).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    job = make_job(tmp_path / "job", tmp_path / name)
    ok(python, job, "demux")
    assert len(bursts(job)) in (4, 5, 6)
    assert f"{name}: the file is cut short" in notes(job, "demux")


def test_broken_packets_are_left_out_with_a_note(python: Path, tmp_path: Path) -> None:
    """What comes after them stays where it was."""
    path = make(python, tmp_path / "a.mkv", "aac", rate=48_000, seconds=20)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    for k in range(middle, middle + 3000, 7):
        data[k] ^= 0x5A
    path.write_bytes(data)
    job = make_job(tmp_path / "job", path)
    ok(python, job, "demux")
    found = bursts(job)
    assert len(found) > 15
    assert found[-1] == pytest.approx(19, abs=0.15)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("empty.mp4", b"", "the file is empty (zero bytes)"),
        ("notes.mp4", b"This is no film. " * 500, "not a media file that can be read"),
        (
            "list.m3u8",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/hostname\n#EXT-X-ENDLIST\n",
            "not a media file",
        ),
        ("-x.mp4", b"\0" * 5000, "not a media file that can be read"),
        ("old.mp4", None, "not a media file that can be read"),
    ],
)
def test_what_is_no_recording(python: Path, tmp_path: Path, name: str, data: bytes | None, reason: str) -> None:
    """Exit 2 and one sentence from the stage and from the probe; no result."""
    path = tmp_path / name
    if data is None:  # cut before its index, which stands at the end
        whole = make(python, path, "aac").read_bytes()
        data = whole[: len(whole) // 2]
    path.write_bytes(data)
    job = make_job(tmp_path / "job", path)
    done = run(python, job, "demux")
    assert done.returncode == 2, done.stderr
    (sentence,) = said(done)
    assert sentence.startswith(f"{name}: {reason}")
    assert list((job / "work/demux").iterdir()) == []
    probed = clip(python, "--probe", "--", path)
    assert probed.returncode == 2
    assert probed.stderr.startswith(reason)


def test_a_video_without_sound(python: Path, tmp_path: Path) -> None:
    """Said so, not a crash."""
    path = tmp_path / "mute.mkv"
    mute = """
import sys, av, numpy as np
with av.open(sys.argv[1], "w") as out:
    v = out.add_stream("libx264", rate=10)
    v.width, v.height, v.pix_fmt = 64, 48, "yuv420p"
    for frame in [av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")] * 10 + [None]:
        out.mux(v.encode(frame))
"""
    subprocess.run([str(python), "-c", mute, str(path)], check=True)
    done = run(python, make_job(tmp_path / "job", path), "demux")
    assert (done.returncode, said(done)) == (2, ["mute.mkv: no audio stream"])


def test_a_full_disk_is_the_reason(python: Path, tmp_path: Path) -> None:
    """Not the recording's fault: exit 1, nothing half-written. (A limit on file size stands for the disk.)"""
    job = make_job(tmp_path / "job", make(python, tmp_path / "a.mp3", "libmp3lame", seconds=20))
    line = f"ulimit -f 200; trap '' XFSZ; exec {' '.join(command(python, job, 'demux'))}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "File too large"
    assert list((job / "work/demux").iterdir()) == []


def clip(python: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    words = [str(python), str(ROOT / "stages/demux/clip.py"), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "codec", "key"),
    [
        ("a.mkv", "ac3", 2.0),
        ("a.mp4", "aac", 2.0),
        ("a.ts", "aac", 2.0),
        ("a.mp3", "libmp3lame", 0.05),
        ("a.flac", "flac", 0.2),
        ("a.bin", "aac", 2.0),
    ],
)
def test_a_cut_keeps_its_times(python: Path, tmp_path: Path, name: str, codec: str, key: float) -> None:
    """Its sound begins at the start, its picture at the key frame before it; and its tones stand where they stood."""
    source = make(python, tmp_path / name.replace(".bin", ".mp4"), codec, rate=48_000, seconds=20)
    source = source.rename(tmp_path / name)
    done = clip(python, source, tmp_path / f"cut{source.suffix}", "--start", "7.5", "--end", "12.2")
    assert done.returncode == 0, done.stderr
    cut = json.loads(done.stdout)
    if key > 1:
        assert cut["start"] == 7.5
        assert 0 < cut["lead"] <= key
    else:
        assert (cut["start"], cut["lead"]) == (pytest.approx(7.5, abs=key), 0)
    assert 12.1 <= cut["end"] <= 12.5
    job = make_job(tmp_path / "job", tmp_path / f"cut{source.suffix}")
    ok(python, job, "demux")
    whole = make_job(tmp_path / "whole", source)
    ok(python, whole, "demux")
    there = [t for t in bursts(whole) if 7.6 < t < 11.9]
    here = [t + cut["start"] - cut["lead"] for t in bursts(job)]
    assert [min(here, key=lambda h: abs(h - t)) for t in there] == pytest.approx(there, abs=0.07)
    assert min(here) > 7.4, "what was said before the start is heard"
    assert notes(job, "demux") == ""


def test_a_cut_behind_the_end_is_refused(python: Path, tmp_path: Path) -> None:
    """And leaves no file."""
    source = make(python, tmp_path / "a.mkv", "ac3", rate=48_000, seconds=5)
    done = clip(python, source, tmp_path / "cut.mkv", "--start", "60", "--end", "70")
    assert done.returncode == 2
    assert "nothing to cut" in done.stderr
    assert not (tmp_path / "cut.mkv").exists()


def word_error_rate(job: Path) -> float:
    """Of asr's first result, which is the example."""
    truth = (ROOT / "examples/dialogue.txt").read_text().splitlines()
    text = " ".join(s["text"] for s in load(job, "asr/01.json")["segments"])
    wrong, count = word_errors(" ".join(line.split(":", 1)[-1] for line in truth), text)
    return wrong / count


@pytest.fixture(scope="module")
def heard(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example and eight seconds of silence, through all four stages."""
    folder = tmp_path_factory.mktemp("heard")
    job = make_job(folder / "job", EXAMPLE, write_wav(folder / "silence.wav", 8.0))
    ok(python, job, "demux", "vad", "asr", "align")
    return job


def test_the_text_is_right(heard: Path) -> None:
    """tiny.en on the example: at most 15 % of the words wrong."""
    assert word_error_rate(heard) <= 0.15


def test_words_are_in_order_and_inside_speech(heard: Path) -> None:
    """Every word has a time and says where it is from; segments follow their words."""
    for stage in ("asr", "align"):
        result = load(heard, f"{stage}/01.json")
        assert result["language"] == "en"
        words = [w for s in result["segments"] for w in s["words"]]
        assert len(words) > 60
        assert all(0 <= w["start"] <= w["end"] <= result["duration"] for w in words)
        starts = [w["start"] for w in words]
        assert starts == sorted(starts)
    sources = [w["source"] for w in words]
    assert sources.count("acoustic") > 0.8 * len(sources)
    assert all((s["start"], s["end"]) == (s["words"][0]["start"], s["words"][-1]["end"]) for s in result["segments"])


def test_silence_is_an_empty_result_that_says_so(heard: Path) -> None:
    """No text is invented for it."""
    assert load(heard, "vad/02.json") == {"duration": 8.0, "speech": [], "doubts": []}
    for stage in ("asr", "align"):
        assert load(heard, f"{stage}/02.json")["segments"] == []
    assert "silence.wav: no speech found" in notes(heard, "asr")


def test_silence_alone_loads_no_model(python: Path, tmp_path: Path) -> None:
    """Nor needs one."""
    job = make_job(tmp_path / "job", write_wav(tmp_path / "silence.wav", 3.0))
    ok(python, job, "demux", "vad")
    done = run(python, job, "asr", tree=tmp_path / "nothing")
    assert done.returncode == 0, done.stderr
    assert "load" not in load(job, "asr/manifest.json")["timings"]


def test_the_same_job_gives_the_same_bytes(python: Path, heard: Path) -> None:
    """A job that was killed and run again ends the same."""
    before = (heard / "work/asr/01.json").read_bytes()
    ok(python, heard, "asr")
    assert (heard / "work/asr/01.json").read_bytes() == before


def test_batches_hear_the_same_words(python: Path, tmp_path: Path) -> None:
    """batch_size makes it quicker on long recordings, not different."""
    job = make_job(tmp_path / "job", EXAMPLE, asr={"batch_size": 4})
    ok(python, job, "demux", "vad", "asr")
    assert word_error_rate(job) <= 0.15


@pytest.mark.parametrize(("odd", "batch"), [(1, 2), (9, 2), (9, 0)])
def test_speech_to_the_last_sample(python: Path, heard: Path, tmp_path: Path, odd: int, batch: int) -> None:
    """A length that is no whole millisecond: the last window ended behind the samples, and batches crashed."""
    with wave.open(str(heard / "work/demux/01.wav")) as wav:
        spoken = [w for s in load(heard, "asr/01.json")["segments"] for w in s["words"]]
        end = round(next(w["end"] for w in spoken if w["end"] > 6) * 16) * 16 - 1000  # inside a word
        start = round(spoken[0]["start"] * 16_000) + 1000
        wav.setpos(start)
        sound = wav.readframes(end - start + odd)
    cut = tmp_path / "nonstop.wav"
    with wave.open(str(cut), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(sound)
    job = make_job(tmp_path / "job", cut, asr={"batch_size": batch})
    ok(python, job, "demux", "vad")
    duration = load(job, "demux/01.json")["duration"]
    # One region over all of it, whatever the detector thinks of its edges.
    (job / "work/vad/01.json").write_text(json.dumps({"duration": duration, "speech": [[0.0, duration]]}))
    ok(python, job, "asr")
    assert sum(len(s["words"]) for s in load(job, "asr/01.json")["segments"]) > 5


def test_a_language_that_the_model_does_not_know(python: Path, tmp_path: Path) -> None:
    """Exit 2 and what it knows."""
    job = make_job(tmp_path / "job", EXAMPLE, asr={"language": "fr"})
    ok(python, job, "demux", "vad")
    done = run(python, job, "asr")
    assert (done.returncode, said(done)) == (2, ["model tiny.en knows English only, not 'fr'"])


@pytest.mark.parametrize(
    ("stage", "spoil"), [("vad", "empty"), ("vad", "garbage"), ("asr", "empty"), ("asr", "garbage")]
)
def test_a_broken_model_is_named(python: Path, heard: Path, tmp_path: Path, stage: str, spoil: str) -> None:
    """Exit 5, one sentence, and no question to a hub."""
    job = make_job(tmp_path / "job", EXAMPLE)
    ok(python, job, "demux", *(["vad"] if stage == "asr" else []))
    spec = yaml.safe_load((job / "job.yaml").read_text())
    folder = tmp_path / "tree" / next(s for s in spec["stages"] if s["name"] == stage)["models"][stage]["path"]
    folder.mkdir(parents=True)
    if spoil == "garbage":
        for name in ("silero.onnx", "model.bin", "config.json", "tokenizer.json", "vocabulary.txt"):
            (folder / name).write_text("{}")
    done = run(python, job, stage, tree=tmp_path / "tree")
    assert done.returncode == 5, done.stderr
    (sentence,) = said(done)
    assert sentence.startswith("model tiny.en")


def test_stopped_in_the_middle(python: Path, heard: Path, tmp_path: Path) -> None:
    """SIGTERM: exit 143 soon, no manifest; run again, it is done."""
    job = make_job(tmp_path / "job", EXAMPLE)
    ok(python, job, "demux", "vad")
    env = {"PATH": os.environ["PATH"], "BAKE_MODELS": str(TREE)}
    process = subprocess.Popen(command(python, job, "asr"), env=env, stderr=subprocess.PIPE)
    until = time.monotonic() + 30
    while '"asr", "event": "start"' not in (job / "events.jsonl").read_text():
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert list((job / "work/asr").iterdir()) == []
    ok(python, job, "asr")
    assert (job / "work/asr/01.json").read_bytes() == (heard / "work/asr/01.json").read_bytes()
