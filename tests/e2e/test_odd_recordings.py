"""Recordings of the kinds that break other programs, through the real stages, each with its right value.

tests/odd_recordings.py makes them; ``make bench-media`` tries the whole set. What needs no media is in tests/unit.
"""

from __future__ import annotations

import json
import re
import subprocess
import wave
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_stages_a import EXAMPLE, bursts, clip, load, make_job, notes, ok, run
from tests.shared import ROOT

pytestmark = pytest.mark.e2e

TONES = [0, 1, 2, 3, 4, 5]

CUES = [{"start": 0.5, "end": 1.5, "text": "Good morning"}, {"start": 3.0, "end": 3.9, "text": "สวัสดี"}]

LOOK = """
import json, sys
import av
av.logging.set_level(av.logging.PANIC)
found = {"streams": [], "cues": []}
with av.open(sys.argv[1], metadata_errors="surrogateescape") as film:
    found["title"] = film.metadata.get("title")
    rows = {s.index: {"type": s.type, "codec": s.codec_context and s.codec_context.name, "packets": 0, "dts": [],
                      "default": bool(s.disposition & av.stream.Disposition.default),
                      "tag": s.codec_context and s.type == "video" and s.codec_context.codec_tag} for s in film.streams}
    for packet in film.demux():
        if packet.size:
            rows[packet.stream.index]["packets"] += 1
            rows[packet.stream.index]["dts"].append(float(packet.dts * packet.time_base))
            if packet.stream.type == "subtitle" and packet.stream.index == max(rows) and packet.size > 2:
                found["cues"].append(float(packet.pts * packet.time_base))
    found["start"] = (film.start_time or 0) / 1e6
    found["streams"] = list(rows.values())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def odd(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make recordings of the set by their names: ``odd("late.mkv")`` is the path."""
    folder = tmp_path_factory.mktemp("odd")

    def make(name: str) -> Path:
        if not (folder / name).exists():
            command = [str(python), str(ROOT / "tests/odd_recordings.py"), str(folder), name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        return folder / name

    return make


def film(python: Path, path: Path) -> Any:
    """What is in a film."""
    done = subprocess.run([str(python), "-c", LOOK, str(path)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def muxed(python: Path, job: Path) -> Path | None:
    """The film with subtitles of a job whose sound was heard."""
    (job / "work/subtitles").mkdir(parents=True)
    (job / "work/subtitles/01.json").write_text(json.dumps({"language": "th", "cues": CUES}))
    done = run(python, job, "mux")
    assert done.returncode == 0, done.stderr
    return next(iter((job / "output").glob("*")), None) if (job / "output").is_dir() else None


def samples(job: Path, name: str = "01.wav") -> Any:
    with wave.open(str(job / "work/demux" / name)) as wav:
        return memoryview(wav.readframes(wav.getnframes())).cast("h").tolist()


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("inverted.m4a", "its channels cancel each other"),
        ("half.flac", "its channels cancel each other"),
        ("lower.wav", "its channels cancel each other"),
        ("hum.mka", ""),
        ("last.wav", ""),
        ("third-of-24.wav", "its channels would drown"),
        ("centre.flac", ""),
    ],
)
def test_channels(python: Path, tmp_path: Path, odd: Any, name: str, note: str) -> None:
    """C01: whatever channels do to each other, what one of them says is heard at its level."""
    job = make_job(tmp_path / "job", odd(name))
    ok(python, job, "demux")
    if name != "hum.mka":  # the tones stand in the hum
        assert bursts(job) == pytest.approx(TONES, abs=0.06)
    assert max(map(abs, samples(job))) > 0.5 * 0.35 * 32768
    assert note in notes(job, "demux")
    assert bool(notes(job, "demux")) == bool(note)


@pytest.mark.parametrize(
    ("name", "track", "note"),
    [
        ("tracks-sT.mkv", None, "2 audio tracks"),
        ("tracks-nT.mov", None, "2 audio tracks"),
        ("tracks-stss.mov", None, "4 audio tracks"),
        ("tracks-sst.mkv", 3, ""),
        ("tracks-ssT.mkv", "all", ""),
    ],
)
def test_the_track_with_the_speech_is_heard(
    python: Path, tmp_path: Path, odd: Any, name: str, track: Any, note: str
) -> None:
    """C02: the default one, else the one that sounds like speech; and whichever is asked for."""
    job = make_job(tmp_path / "job", odd(name), demux={"track": track})
    ok(python, job, "demux")
    assert bursts(job) == pytest.approx(TONES, abs=0.06)
    assert note in notes(job, "demux")


def test_a_track_that_is_not_there_is_refused(python: Path, tmp_path: Path, odd: Any) -> None:
    """And the tracks that there are, named."""
    done = run(python, make_job(tmp_path / "job", odd("tracks-sT.mkv"), demux={"track": "fr"}), "demux")
    assert done.returncode == 2
    assert 'it has no audio track in "fr"' in done.stderr


@pytest.mark.parametrize(
    ("name", "tones", "note"),
    [
        ("late.mp4", [t + 2 for t in TONES], ""),
        ("twelve.ts", [t + 12 for t in TONES], ""),
        ("gap.mkv", [0, 1, 2, 5, 6, 7], "2.0 s of sound are missing at"),
        ("hour.mkv", TONES, ""),
        ("hour.ts", TONES, ""),
        ("ten.nut", TONES, ""),
        ("ahead-aac.ts", TONES, "its timestamps jump at"),
        ("two-aac.ts", [*TONES, *(t + 6 for t in TONES)], "its timestamps jump at 6."),
        ("two.ogg", [*TONES, *(t + 6 for t in TONES)], "its timestamps jump at 6."),
    ],
)
def test_clocks(python: Path, tmp_path: Path, odd: Any, name: str, tones: list[int], note: str) -> None:
    """C03, C04, C05, C09: sound stands where the picture has it, and the film is whole."""
    source = odd(name)
    job = make_job(tmp_path / "job", source)
    ok(python, job, "demux")
    assert bursts(job) == pytest.approx(tones, abs=0.1)
    assert note in notes(job, "demux")
    assert bool(notes(job, "demux")) == bool(note), notes(job, "demux")
    result = muxed(python, job)
    assert result is not None
    before, after = film(python, source), film(python, result)
    kinds = ("audio", "video")
    assert [s["packets"] for s in after["streams"] if s["type"] in kinds] == [
        s["packets"] for s in before["streams"] if s["type"] in kinds
    ]
    for stream in after["streams"]:
        assert all(a <= b for a, b in pairwise(stream["dts"])), "a decoding time goes back"
    assert [c - after["start"] for c in after["cues"]] == pytest.approx([0.5, 3.0], abs=0.05)


@pytest.mark.parametrize("name", ["two-aac.ts", "two.vob", "ahead-aac.ts"])
def test_a_cut_behind_a_jump_of_the_clock(python: Path, tmp_path: Path, odd: Any, name: str) -> None:
    """C04, C16: times of a cut are those that the whole recording's results have, also where its clock began anew."""
    source = odd(name)
    begin = 4.5 if "ahead" in name else 8.5
    cut = clip(python, source, tmp_path / f"cut{source.suffix}", "--start", str(begin), "--end", str(begin + 3))
    assert cut.returncode == 0, cut.stderr
    found = json.loads(cut.stdout)
    job = make_job(tmp_path / "job", tmp_path / f"cut{source.suffix}")
    ok(python, job, "demux")
    here = [at + found["start"] - found["lead"] for at in bursts(job)]
    there = [at for at in (5.0, 9.0, 10.0, 11.0) if begin < at < begin + 1.4]
    assert here[: len(there)] == pytest.approx(there, abs=0.1)


def test_a_clock_that_stands_still(python: Path, tmp_path: Path, odd: Any) -> None:
    """C03: all of the sound, though every packet says 0."""
    job = make_job(tmp_path / "job", odd("still.ra"))
    ok(python, job, "demux")
    assert load(job, "demux/01.json")["duration"] == pytest.approx(6, abs=0.1)
    assert bursts(job) == pytest.approx(TONES, abs=0.1)


def test_tags_of_other_encodings(python: Path, tmp_path: Path, odd: Any) -> None:
    """C06: an old camera's title in Latin-1 doesn't end the job, and can be read."""
    job = make_job(tmp_path / "job", odd("Café à la crème.avi"))
    ok(python, job, "demux")
    result = muxed(python, job)
    assert result is not None
    assert film(python, result)["title"] == "Café à la crème"


@pytest.mark.parametrize(
    ("name", "suffix", "copied"),
    [
        ("wmv-wmv2-wmav2.wmv", ".mkv", ["wmv2", "wmav2"]),
        ("avi-rawvideo-pcm_u8.avi", ".mkv", ["rawvideo", "pcm_u8"]),
        ("mov-qtrle-adpcm_ima_qt.mov", None, []),
        ("nelly.flv", ".mka", ["nellymoser"]),
        ("rm-rv20-ac3.rm", ".mkv", ["rv20", "ac3"]),
    ],
)
def test_codecs_that_few_containers_take(
    python: Path, tmp_path: Path, odd: Any, name: str, suffix: str | None, copied: list[str]
) -> None:
    """C07: copied where a container takes them, else there is no film and a note; the job never ends for it."""
    job = make_job(tmp_path / "job", odd(name))
    ok(python, job, "demux")
    result = muxed(python, job)
    if result is None:
        assert "no copy with the subtitles inside" in notes(job, "mux")
        return
    assert suffix in (None, result.suffix)
    found = [s["codec"] for s in film(python, result)["streams"] if s["type"] != "subtitle"]
    assert suffix is None or found == copied


@pytest.mark.parametrize("name", ["hvc1.mp4", "hev1.mp4", "hvc1.mov"])
def test_the_codecs_tag_stays(python: Path, tmp_path: Path, odd: Any, name: str) -> None:
    """C08: Apple's players take hvc1 only; in a cut, too."""
    source = odd(name)
    job = make_job(tmp_path / "job", source)
    ok(python, job, "demux")
    result = muxed(python, job)
    assert result is not None
    assert film(python, result)["streams"][0]["tag"] == name[:4]
    cut = clip(python, source, tmp_path / f"cut{source.suffix}", "--start", "1", "--end", "4")
    assert cut.returncode == 0, cut.stderr
    assert film(python, tmp_path / f"cut{source.suffix}")["streams"][0]["tag"] == name[:4]


@pytest.mark.parametrize("name", ["mov-prores_ks-pcm_s16le.mov", "mp4-libx264-aac.mp4", "mkv-ffv1-flac.mkv"])
def test_the_only_subtitle_track_is_the_default(python: Path, tmp_path: Path, odd: Any, name: str) -> None:
    """C18: players show no other by themselves."""
    job = make_job(tmp_path / "job", odd(name))
    ok(python, job, "demux")
    result = muxed(python, job)
    assert result is not None
    assert [s["default"] for s in film(python, result)["streams"] if s["type"] == "subtitle"] == [True]


@pytest.mark.parametrize("name", ["faint.flac", "fainter.wav", "fainter.mka"])
def test_a_faint_recording_is_raised(python: Path, tmp_path: Path, odd: Any, name: str) -> None:
    """C20: before it has 16 bits, which have no room for it."""
    job = make_job(tmp_path / "job", odd(name))
    ok(python, job, "demux")
    assert "very quiet: raised by" in notes(job, "demux")
    assert bursts(job, loud=1500) == pytest.approx(TONES, abs=0.06)


@pytest.mark.parametrize(
    "name",
    [
        "cut.mp3",
        "cut.mkv",
        "cut.avi",
        "zeros.flac",
        "zeros.avi",
        "tail.wav",
        "tail.ogg",
        "tail.flv",
        "cut.wav",
        "cut.flv",
        "body.aac",
    ],
)
def test_damage(python: Path, tmp_path: Path, odd: Any, name: str) -> None:
    """What can be read is heard, and what is missing named in seconds; the film ends where the file does."""
    job = make_job(tmp_path / "job", odd(name))
    ok(python, job, "demux")
    found = load(job, "demux/01.json")
    assert found["duration"] > 2.5
    if found["duration"] - found["silence"] < 5.7:
        assert " s" in notes(job, "demux")
    muxed(python, job)


# With the example's voices

CUT = """
import sys, wave
import av, numpy as np
source, target, kind = sys.argv[1:4]
spans = [tuple(map(float, span.split("-"))) for span in sys.argv[4:]]
with av.open(source) as film:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=16000)
    sound = np.concatenate([p.to_ndarray()[0] for f in film.decode(audio=0) for p in resampler.resample(f)])
parts = [sound[round(a * 16000) : round(b * 16000)] for a, b in spans]
if kind == "apart":
    size = max(map(len, parts))
    data = np.stack([np.pad(p, (0, size - len(p))) for p in parts], axis=1)
else:
    data = np.concatenate(parts)[:, None]
with wave.open(target, "wb") as out:
    out.setnchannels(data.shape[1]); out.setsampwidth(2); out.setframerate(16000)
    out.writeframes(np.ascontiguousarray(data).astype("<i2").tobytes())
"""


def spoken() -> list[tuple[float, float, str]]:
    """The example's turns: from, to, speaker."""
    fields = [line.split() for line in (ROOT / "examples/dialogue.rttm").read_text().splitlines()]
    return [(float(f[3]), float(f[3]) + float(f[4]), f[7]) for f in fields]


def cut_example(python: Path, path: Path, kind: str, *spans: tuple[float, float]) -> Path:
    """A WAV file of parts of the example, one after the other, or on channels apart."""
    words = [f"{a}-{b}" for a, b in spans]
    done = subprocess.run(
        [str(python), "-c", CUT, str(EXAMPLE), str(path), kind, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return path


def text_of(job: Path, channel: int | None = None) -> list[str]:
    """The words that were heard, in lower case without marks."""
    segments = load(job, "asr/01.json")["segments"]
    text = " ".join(s["text"] for s in segments if channel in (None, s.get("channel")))
    return "".join(c for c in text.lower() if c.isalnum() or c.isspace()).split()


def test_two_who_talk_at_once_on_two_channels(python: Path, tmp_path: Path) -> None:
    """C15: heard together they are mush and a note; apart, each has all words, and is a speaker."""
    turns = spoken()
    one = next(t for t in turns if t[2] == "S1" and t[1] - t[0] > 2)
    two = next(t for t in turns if t[2] == "S2" and t[1] - t[0] > 2)
    source = cut_example(python, tmp_path / "call.wav", "apart", one[:2], two[:2])
    mixed = make_job(tmp_path / "mixed", source)
    ok(python, mixed, "demux")
    assert "--channels split hears each on its own" in notes(mixed, "demux")
    job = make_job(tmp_path / "job", source, demux={"channels": "split"})
    ok(python, job, "demux", "vad", "asr")
    alone = {}
    for number, span in enumerate((one, two), 1):
        single = make_job(tmp_path / f"{number}", cut_example(python, tmp_path / f"{number}.wav", "one", span[:2]))
        ok(python, single, "demux", "vad", "asr")
        alone[number] = text_of(single)
    assert {number: text_of(job, number) for number in alone} == alone
    assert notes(job, "demux") == ""


def test_channels_that_are_the_same_are_not_heard_twice(python: Path, tmp_path: Path, odd: Any) -> None:
    """Else every word is there twice, by two speakers."""
    job = make_job(tmp_path / "job", odd("wav-s16le.wav"), demux={"channels": "split"})
    ok(python, job, "demux")
    assert load(job, "demux/01.json")["voices"] == 0
    assert "its channels carry the same sound" in notes(job, "demux")
    assert sorted(p.name for p in (job / "work/demux").glob("*.wav")) == ["01.wav"]


def test_speech_without_a_pause_has_each_word_once(python: Path, tmp_path: Path) -> None:
    """C19: longer than the model hears at once, so it is cut; not in a word, which would be heard twice or not at all."""
    turns = [t for t in spoken() if t[1] - t[0] > 1]
    closely = [(a + 0.05, b - 0.05) for a, b, _ in turns]
    source = cut_example(python, tmp_path / "nonstop.wav", "one", *closely, *closely)
    job = make_job(tmp_path / "job", source)
    ok(python, job, "demux", "vad", "asr")
    heard, half = text_of(job), make_job(tmp_path / "half", cut_example(python, tmp_path / "half.wav", "one", *closely))
    ok(python, half, "demux", "vad", "asr")
    assert abs(len(heard) - 2 * len(text_of(half))) <= 0.06 * len(heard)
    words = [w for s in load(job, "asr/01.json")["segments"] for w in s["words"]]
    assert all(a["end"] <= b["start"] + 0.05 for a, b in pairwise(words))


@pytest.mark.parametrize("name", ["zeros.aac", "zeros.mp3", "zeros.flac"])
def test_a_hole_in_frames_without_a_container_is_named_by_its_length(
    python: Path, tmp_path: Path, odd: Any, name: str
) -> None:
    """2.5 % of six seconds: FFmpeg takes the hole for one packet of a frame's length, or passes over it unsaid."""
    job = make_job(tmp_path / "job", odd(name))
    ok(python, job, "demux")
    [seconds] = re.findall(r"\((?:about )?([0-9.]+) s", notes(job, "demux"))
    assert 0.1 < float(seconds) < 0.5


def test_a_few_bytes_that_last_for_a_day_become_no_gigabytes(python: Path, tmp_path: Path, odd: Any) -> None:
    """The clock of the second half says 30 hours: 3.5 GB of silence. The words stay, their place is lost, and that is said."""
    job = make_job(tmp_path / "job", odd("day.mka"))
    ok(python, job, "demux")
    assert (job / "work/demux/01.wav").stat().st_size < 1_000_000
    assert len(bursts(job)) == len(TONES)
    assert "its timestamps jump at 2.5 s" in notes(job, "demux")
