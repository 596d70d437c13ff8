"""Stages over a list of jobs with the real small models: each result has the bytes that it has alone."""

from __future__ import annotations

import json
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.conftest import write_wav
from tests.e2e.test_stages_a import EXAMPLE, ROOT, TREE, make_job, ok

STAGES = ("demux", "vad", "asr", "align")

RATE = 16_000

NOISY = ((1, 1.3, 5.0, 3000), (3, 3.9, 4.0, 2000), (13, 16.9, 5.0, 3000))
"""Seed, begin and seconds of speech with so much noise that it is heard again, and sampled."""


def write(path: Path, samples: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(RATE)
        wav.writeframes(np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def recordings(python: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recordings")
    job = make_job(folder / "job", EXAMPLE)
    ok(python, job, "demux")
    with wave.open(str(job / "work/demux/01.wav")) as wav:
        sound = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").astype(np.float64)
    found = [write(folder / "clean.wav", sound[: 6 * RATE])]
    for seed, begin, seconds, level in NOISY:
        part = sound[round(begin * RATE) : round((begin + seconds) * RATE)]
        noise = np.random.default_rng(seed).normal(size=len(part)) * level
        found.append(write(folder / f"noisy{seed}.wav", part * 0.3 + noise))
    (folder / "broken.wav").write_bytes(b"no sound")
    return [*found, write_wav(folder / "silence.wav", 3), folder / "broken.wav"]


def results(job: Path) -> dict[str, bytes]:
    """All that stages wrote but the manifests, which have times."""
    work = sorted((job / "work").rglob("*"))
    return {str(p.relative_to(job)): p.read_bytes() for p in work if p.is_file() and p.name != "manifest.json"}


def listed(python: Path, folder: Path, names: list[str]) -> None:
    """Have each stage do a list of jobs."""
    (folder / "list").write_text("".join(f"{name}\n" for name in names))
    for stage in STAGES:
        words = [str(python), str(ROOT / f"stages/{stage}/main.py"), "--jobs", str(folder / "list")]
        env = {"PATH": "/usr/bin:/bin", "BAKE_MODELS": str(TREE), "OMP_NUM_THREADS": "2"}
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_list_gives_each_recording_what_it_gets_alone(python: Path, recordings: list[Path], tmp_path: Path) -> None:
    """Also where texts are sampled: what is drawn doesn't depend on the recordings before, nor on their order."""
    alone = {path.stem: make_job(tmp_path / f"alone/{path.stem}", path) for path in recordings}
    for name, job in alone.items():
        if name != "broken":
            ok(python, job, *STAGES)
    loads = {}
    for way, order in (("there", list(alone)), ("back", list(reversed(alone)))):
        for path in recordings:
            make_job(tmp_path / way / path.stem, path)
        listed(python, tmp_path / way, order)
        for name, job in alone.items():
            assert results(tmp_path / way / name) == results(job), (way, name)
            events = (tmp_path / way / name / "events.jsonl").read_text().splitlines()
            loads[way, name] = [e["stage"] for e in map(json.loads, events) if e["event"] == "load"].count("asr")
        ended = (tmp_path / way / "ended-demux.jsonl").read_text().splitlines()
        assert {e["job"]: e["code"] for e in map(json.loads, ended)} == dict.fromkeys(alone, 0) | {"broken": 2}
        assert "broken" not in (tmp_path / way / "ended-asr.jsonl").read_text()
    assert sum(loads["there", name] for name in list(alone)[1:]) > 0, "nothing was sampled twice"
    assert sum(loads.values()) < len(loads), "weights are loaded again for each recording"
