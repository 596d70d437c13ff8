"""A batch of real recordings here: planned, two shards at once, killed, ended, and the same as ``run`` makes of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import pytest

from builder.core.batch.tally import DONE
from builder.edges.batch.following import BatchFollower
from builder.node.results.publish import digest_of
from tests.e2e.conftest import Bake
from tests.shared import ROOT, SAME

OPTIONS = ("--preset", "tiny-en", "--workflow", "transcribe", "--no-diarization", "--language", "en", *SAME)

RATE = 16_000


def clips(sound: Path, folder: Path, count: int) -> list[Path]:
    """Pieces of 3 to 5 s of the example's sound."""
    folder.mkdir()
    with wave.open(str(sound)) as whole:
        data = whole.readframes(whole.getnframes())
    made = []
    for number in range(count):
        begin, seconds = 1.9 * number, 3 + number % 3
        made.append(folder / f"clip {number}.wav")
        with wave.open(str(made[-1]), "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(RATE)
            wav.writeframes(data[int(begin * RATE) * 2 : int((begin + seconds) * RATE) * 2])
    return made


@pytest.fixture
def batch(bake: Bake, transcribed: Path, tmp_path: Path) -> Path:
    """Six recordings in two shards."""
    clips(transcribed / "work/demux/01.wav", tmp_path / "tapes", 6)
    words = ("tapes", "--out", "B", "--shard-minutes", "0.2", *OPTIONS)
    done = bake("batch", "plan", *words, env={"DOCKER_HOST": "unix:///nowhere.sock"})
    assert done.code == 0, done.said
    return tmp_path / "B"


def items(batch: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (batch / "items.jsonl").read_text().splitlines()]


def start(batch: Path, shard: int) -> subprocess.Popen[str]:
    """A shard in a process of its own."""
    words = [sys.executable, str(ROOT / "build.py"), "-q", "batch", "run", str(batch), "--shard", str(shard)]
    scratch = ["--scratch", str(batch.parent / "scratch")]
    return subprocess.Popen(
        [*words, *scratch], env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(run: subprocess.Popen[str]) -> int:
    _, err = run.communicate(timeout=300)
    assert "Traceback" not in err, err
    return run.returncode


def digests(batch: Path) -> dict[str, str]:
    """Recording -> digest of its published result."""
    found = [json.loads(path.read_text()) for path in (batch / "results").glob("??/*/result.json")]
    return {one["name"]: one["digest"] for one in found}


def digest_of_job(folder: Path) -> str:
    """The same of a job that ``run`` made."""
    files = [path for part in ("output", "work") for path in (folder / part).rglob("*") if path.is_file()]
    return digest_of({str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files})


def stage_begins(batch: Path, stage: str) -> None:
    """Wait until a shard's stage is at work: its first event is there."""
    files = f"{batch.parent}/scratch/batch-*[1-9a-f]*/jobs/*/events.jsonl"
    watch = f'until grep -qs \'"stage": "{stage}"\' {files}; do sleep 0.05; done'
    subprocess.run(["bash", "-c", watch], check=True, timeout=200)


def test_two_shards_at_once_make_what_run_makes(bake: Bake, batch: Path, tmp_path: Path) -> None:
    """Byte for byte; nothing is computed twice, and nothing is left."""
    assert {item["shard"] for item in items(batch)} == {0, 1}
    runs = [start(batch, shard) for shard in (0, 1, 1)]
    assert [ended(run) for run in runs] == [0, 0, 0]
    tapes = sorted((tmp_path / "tapes").iterdir())
    done = bake("run", *tapes, "--parallel", "1", *OPTIONS, env={"DOCKER_HOST": "unix:///nowhere.sock"})
    assert done.code == 0, done.said
    jobs = {path.parent: path for path in (tmp_path / "jobs").glob("*/input/*.wav")}
    names = {hashlib.sha256(path.read_bytes()).hexdigest(): path.name for path in tapes}
    made = {
        names[hashlib.sha256(path.read_bytes()).hexdigest()]: digest_of_job(path.parents[1]) for path in jobs.values()
    }
    assert digests(batch) == made
    told = BatchFollower(batch).looked()
    assert {told.state_of(item["key"]) for item in items(batch)} == {DONE}
    assert min(told.took) > 0
    assert list((batch / "results").glob(".tmp-*")) == []
    assert list((tmp_path / "scratch").glob("batch-*")) == []
    before = sorted((batch / "results").glob("journal/*"))
    assert ended(start(batch, 0)) == 0
    fresh = (set((batch / "results").glob("journal/*")) - set(before)).pop()
    assert all('"kept":true' in line for line in fresh.read_text().splitlines() if '"done"' in line)


def test_killed_ended_and_run_again(batch: Path, tmp_path: Path) -> None:
    """kill -9 in one stage, SIGTERM in the next: the third run makes all of it, and a damaged recording fails alone."""
    first = next(item for item in items(batch) if item["shard"] == 0)
    victim = tmp_path / "tapes" / first["path"]
    time = victim.stat().st_mtime_ns
    victim.write_bytes(b"\0" * first["size"])  # as a disk damages it: neither its size nor its time tells
    os.utime(victim, ns=(time, time))
    run = start(batch, 0)
    stage_begins(batch, "asr")
    run.kill()
    run.communicate()
    assert digests(batch) == {}
    (killed,) = (tmp_path / "scratch").glob("batch-*")
    killed.rename(tmp_path / "scratch" / f"batch-{'0' * 12}")
    run = start(batch, 0)
    stage_begins(batch, "vad")
    run.send_signal(signal.SIGTERM)
    assert ended(run) == 143
    assert digests(batch) == {}
    assert list((tmp_path / "scratch").glob("batch-*")) == []
    assert ended(start(batch, 0)) == 8
    shard = {item["path"]: item for item in items(batch) if item["shard"] == 0}
    assert set(digests(batch)) == set(shard) - {first["path"]}
    why = json.loads((batch / "results" / first["key"][:2] / f"{first['key']}.failed.json").read_text())
    assert (why["kind"], why["stage"]) == ("recording", "demux")


def test_what_cannot_be_run(bake: Bake, batch: Path) -> None:
    """Said at once, with a code that tells whether to try again."""
    done = bake("batch", "run", batch, "--shard", "7", "--json")
    assert (done.code, "there is no shard 7" in done.said) == (2, True)
    done = bake("batch", "run", batch)
    assert (done.code, "no shard is named" in done.said) == (2, True)
    done = bake("batch", "run", batch / "results", "--shard", "0")
    assert done.code == 2
    file = batch / "batch.yaml"
    usual = file.read_text()
    file.write_text(usual.replace('"version": "', '"version": "9.'))
    done = bake("batch", "run", batch, "--shard", "0")
    assert (done.code, "planned this batch" in done.said) == (2, True)
    data = json.loads(usual)
    data["models"] = dict.fromkeys(data["models"], "sha256:" + "0" * 64)
    file.write_text(json.dumps(data))
    assert bake("batch", "run", batch, "--shard", "0").code == 5
    file.write_text(usual)
    shutil.rmtree(batch.parent / "tapes")
    done = bake("batch", "run", batch, "--shard", "0")
    assert (done.code, "can't be read here" in done.said) == (3, True)
