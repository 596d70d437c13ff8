"""Speakers compared with known voices: who is whom, what is heard of them, and files that may be anybody's."""

from __future__ import annotations

import hashlib
import json
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract import Recording, StageJob

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "stages/diarize"))

import known


def unit(k: int, other: int = 0, share: float = 0.0) -> list[float]:
    """The k-th axis, turned towards another."""
    vector = [0.0] * known.DIMENSIONS
    vector[k] = float(np.sqrt(1 - share**2))
    if share:
        vector[other] = share
    return vector


def people(*entries: tuple[str, list[float]], threshold: float = 0.6) -> bytes:
    voices = [{"name": name, "vector": vector} for name, vector in entries]
    return json.dumps({"schema": 1, "threshold": threshold, "voices": voices}).encode()


TWO = people(("Ada", unit(0)), ("Charles", unit(1)))


def test_each_person_is_one_speaker_and_the_likeliest_pair_comes_first() -> None:
    told = known.parsed(TWO)
    voices = {
        "S1": np.array(unit(0, 5, 0.7)),
        "S2": np.array(unit(0, 5, 0.1)),
        "S3": np.array(unit(1, 5, 0.9)),
        "S10": np.array(unit(1)),
    }
    found = known.matched(voices, told)
    assert [(entry["speaker"], entry["name"]) for entry in found] == [("S2", "Ada"), ("S10", "Charles")]
    assert found[0]["similarity"] == pytest.approx(0.995, abs=0.001)


def test_who_is_like_nobody_stays_a_number() -> None:
    assert known.matched({"S1": np.array(unit(0, 5, 0.9))}, known.parsed(TWO)) == []
    assert known.matched({"S1": np.full(known.DIMENSIONS, np.nan)}, known.parsed(TWO)) == []
    assert known.matched({}, known.parsed(TWO)) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        people(),
        people(("Ada", [1.0])),
        people(("Ada", [0.0] * 192)),
        people(("Ada", [float("nan"), *[0.0] * 191])),
        people(("", unit(0))),
        people(("x" * 61, unit(0))),
        people(("Ada", unit(0)), threshold=-1.0),
        people(("Ada", unit(0)), threshold=float("nan")),
        people(*[("Ada", unit(0))] * (known.MOST + 1)),
        TWO.replace(b'"schema": 1', b'"schema": 2'),
        TWO.replace(b'"vector"', b'"victor"'),
    ],
)
def test_a_file_of_voices_that_is_none_is_said(tmp_path: Path, data: bytes) -> None:
    """A job folder may be somebody else's: its stage goes on without names."""
    job, recording = made(tmp_path, data)
    assert known.told(job, recording) is None
    assert "damaged" in job.notes[0]


def test_a_file_that_the_job_was_not_made_with_names_nobody(tmp_path: Path) -> None:
    job, recording = made(tmp_path, TWO)
    (tmp_path / "input/voices.json").write_bytes(people(("Mallory", unit(0))))
    assert known.told(job, recording) is None
    (tmp_path / "input/voices.json").unlink()
    assert known.told(job, recording) is None
    (tmp_path / "elsewhere.json").write_bytes(TWO)
    (tmp_path / "input/voices.json").symlink_to(tmp_path / "elsewhere.json")
    assert known.told(job, recording) is None
    assert len(job.notes) == 3
    assert all("not the one that this job was made with" in note for note in job.notes)


def test_the_file_of_the_job_is_taken(tmp_path: Path) -> None:
    job, recording = made(tmp_path, TWO)
    told = known.told(job, recording)
    assert told is not None
    assert told.names == ["Ada", "Charles"]
    assert job.manifest()["inputs"].keys() == {"input/voices.json"}


def test_without_voices_a_result_stays_as_it_is(tmp_path: Path) -> None:
    """No model is loaded: there is none here."""
    job, recording = made(tmp_path, TWO)
    job.settings["voices"] = None
    result = {"speakers": 1, "guess": False, "turns": [{"start": 0.0, "end": 9.0, "speaker": "S1"}]}
    assert known.described(job, recording, result) == result
    job.settings["voices"] = hashlib.sha256(TWO).hexdigest()
    silent: dict[str, Any] = {"speakers": 0, "guess": False, "turns": []}
    assert known.described(job, recording, silent) == silent


def test_only_what_a_speaker_says_alone_is_heard() -> None:
    turns = [
        {"start": 0.0, "end": 4.0, "speaker": "S1"},
        {"start": 3.0, "end": 6.0, "speaker": "S2"},
        {"start": 3.5, "end": 5.0, "speaker": "S2"},
        {"start": 8.0, "end": 9.0, "speaker": "S1"},
    ]
    spans = known.alone(turns)
    assert joined(spans["S1"]) == [(0.0, 3.0), (8.0, 9.0)]
    assert joined(spans["S2"]) == [(4.0, 6.0)]
    apart = known.alone(turns, apart=True)
    assert joined(apart["S1"]) == [(0.0, 4.0), (8.0, 9.0)]
    assert joined(apart["S2"]) == [(3.0, 6.0)]


def joined(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for start, end in spans:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def test_the_longest_spans_are_read_within_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(np.arange(16_000 * 100, dtype="<i4").astype("<i2").tobytes())
    assert len(known.read(path, [(0.0, 1.0), (2.0, 5.0)])) == 4 * 16_000
    assert len(known.read(path, [(0.0, 99.0)])) == known.SOUND
    assert len(known.read(path, [(99.0, 200.0)])) == 16_000, "no more than there is"
    assert len(known.read(path, [])) == 0
    first = known.read(path, [(0.0, 1.0), (2.0, 5.0)])
    assert first[0] * 32768 == np.int16(32_000)


def made(folder: Path, data: bytes) -> tuple[StageJob, Recording]:
    """A job that was made with these voices."""
    (folder / "input").mkdir()
    (folder / "input/voices.json").write_bytes(data)
    job = StageJob(
        root=folder,
        stage="diarize",
        variant="slim",
        settings={"voices": hashlib.sha256(data).hexdigest(), "enrol": False},
        uses={},
        inputs=(),
        stages=("demux", "vad", "diarize"),
    )
    return job, Recording(id="01", name="talk.wav", path=folder / "input/01.wav", output="talk")
