"""A shard on a node: with real processes, the node program as nodes run it, and stages that are small scripts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from builder import __version__
from builder.core.batch.tally import DONE, FAILED, BatchTally
from builder.core.jobs import job_file
from builder.edges.batch.following import BatchFollower
from builder.node.items import Item, item_key, to_line
from builder.node.results import record
from builder.node.results.folder import LONGEST_SILENCE, host_name, open_results, sign_of_life
from builder.node.results.record import RunJournal
from builder.workflows.batch.status import status

ROOT = Path(__file__).resolve().parents[2]

STAGE = """\
import os, sys, json, signal
from pathlib import Path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import contract

def reached(name):
    if (fifo := Path(os.environ["FIFOS"], name)).exists():
        fifo.write_text("reached")   # waits until the test reads
        fifo.with_suffix(".go").read_text()   # and until it lets go

def work(job):
    for recording in job.inputs:
        with job.reading(recording) as path:
            text = path.read_text()
        with open(os.environ["COUNT"], "a") as count:
            count.write("{name} " + text.split()[0] + chr(10))
        reached("{name}-" + text.split()[0])
        words = dict(word.split("=") for word in text.split()[1:])
        if act := words.get("{name}"):
            exec(Path(os.environ["ACTS"], act).read_text())
        for need in filter(job.has, {needs}):
            text += job.load(need, recording)
        job.write_bytes("01.wav", b"RIFF sound")
        job.write("01.json", json.dumps(text + "{name};"))
        if "{name}" == "last":
            job.write(recording.output + ".srt", text, output=True)

contract.main("{name}", work)
"""

NEEDS: dict[str, list[str]] = {"first": [], "middle": ["first"], "last": ["middle"]}

ACTS = {
    "damaged": "raise contract.InputFault('it is damaged')",
    "bug": "raise RuntimeError('no such luck')",
    "crash": "os.kill(os.getpid(), signal.SIGKILL)",
    "killed": "os.kill(os.getppid(), signal.SIGKILL); signal.pause()",
    "full": "raise OSError(28, 'No space left on device')",
    "model": "raise contract.ModelFault('model m is broken')",
}
"""What a recording makes a stage do, by the word that it holds: ``first=damaged``."""


@dataclass
class Shard:
    """A batch of text files, its three stages, and the node program."""

    folder: Path
    batch: dict[str, Any]
    items: list[Item] = field(default_factory=list)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def recordings(self) -> Path:
        return self.folder / "recordings"

    @property
    def results(self) -> Path:
        return self.folder / "B/results"

    @property
    def count(self) -> list[str]:
        """Stages with the recordings that they worked on."""
        file = self.folder / "count"
        return file.read_text().splitlines() if file.exists() else []

    def add(self, name: str, *words: str, shard: int = 0, again: int = 0) -> Item:
        """A recording of the batch that makes stages do something."""
        file = self.recordings / f"{name}.txt"
        file.write_text(" ".join((name, *words)))
        found = file.stat()
        key = item_key(file.name, found.st_size, str(found.st_mtime_ns))
        item = Item(key, file.name, found.st_size, found.st_mtime_ns, None, 1.5, shard, "", again)
        self.items = sorted([*(i for i in self.items if i.key != key), item], key=lambda i: i.path)
        return item

    def write(self, **changes: Any) -> None:
        """The batch's files."""
        (self.folder / "B/items.jsonl").write_text("".join(to_line(item) + "\n" for item in self.items))
        (self.folder / "B/batch.yaml").write_text(json.dumps({**self.batch, **changes}))

    def steps(self, **changes: Any) -> Path:
        """steps.json."""
        variables = {name.upper(): str(self.folder / name) for name in ("count", "fifos", "acts")}
        variables |= {"BAKE_PARENT": "{pid}", "BAKE_MODELS": str(self.folder), "HOME": "{scratch}/home"}
        steps = [
            {
                "stage": name,
                "argv": [sys.executable, str(self.folder / "stages" / name / "main.py"), "--jobs", "{list}"],
                "env": variables,
            }
            for name in NEEDS
        ]
        data = {"schema": 1, "job": self.batch["job"], "models": self.batch["models"], "steps": steps, **changes}
        (self.folder / "steps.json").write_text(json.dumps(data))
        return self.folder / "steps.json"

    def start(self, *words: str | Path, do: str = "run", env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        self.write()
        return self.begin(do, *("--shard", "0", *words), env=env)

    def begin(self, do: str, *words: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start the node program; it prints into pipes."""
        argv = [sys.executable, "-m", "builder.node.main", do, self.folder / "B", "--steps", self.steps()]
        if "--scratch" not in words:
            argv += ["--scratch", self.folder / "scratch"]
        process = subprocess.Popen(
            [*map(str, argv), *map(str, words)],
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *words: str | Path, do: str = "run", code: int = 0, env: Mapping[str, str] | None = None) -> str:
        """Run the node program to its end; what it says."""
        process = self.start(*words, do=do, env=env)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, out + err
        assert not any(line.startswith("Traceback") for line in err.splitlines()), err
        return err

    def fifo(self, name: str) -> Path:
        """A stage that comes to a recording waits there: ``first-a``."""
        path = self.folder / "fifos" / name
        os.mkfifo(path)
        os.mkfifo(path.with_suffix(".go"))
        return path

    def without_fifos(self) -> None:
        shutil.rmtree(self.folder / "fifos")
        (self.folder / "fifos").mkdir()

    def act(self, name: str, text: str) -> None:
        (self.folder / "acts" / name).write_text(text)

    def folder_of(self, item: Item) -> Path:
        return self.results / item.key[:2] / item.key

    def done(self) -> set[str]:
        """Names of the recordings that have results."""
        return {
            item.path.removesuffix(".txt") for item in self.items if (self.folder_of(item) / "result.json").exists()
        }

    def failed(self, item: Item) -> dict[str, Any]:
        return dict(json.loads((self.results / item.key[:2] / f"{item.key}.failed.json").read_text()))

    def leftovers(self) -> list[str]:
        """What is half-published, or left in the scratch folder."""
        scratch = self.folder / "scratch"
        left = [p.name for p in scratch.iterdir() if p.name.startswith("batch-")] if scratch.exists() else []
        return [p.name for p in self.results.glob(".tmp-*")] + left

    def told(self) -> BatchTally:
        """What all journals say together."""
        return BatchFollower(self.folder / "B").looked()

    def told_failed(self) -> set[str]:
        """Keys of what failed, as the journals say it."""
        told = self.told()
        return {item.key for item in self.items if told.state_of(item.key) == FAILED}


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    for shared in (ROOT / "stages").glob("*.py"):
        (tmp_path / "stages").mkdir(exist_ok=True)
        shutil.copy(shared, tmp_path / "stages")
    for name, needs in NEEDS.items():
        (tmp_path / "stages" / name).mkdir()
        (tmp_path / "stages" / name / "main.py").write_text(STAGE.format(name=name, needs=needs))
    for name in ("recordings", "B", "fifos", "acts"):
        (tmp_path / name).mkdir()
    stages = [
        {"name": name, "needs": needs, "settings": {}, "models": {}, "optional": False} for name, needs in NEEDS.items()
    ]
    about = {"workflow": "transcribe", "mode": "native", "variant": "slim", "preset": "p"}
    batch = {
        "schema": 1,
        "version": __version__,
        "created": "2026-01-01T00:00:00Z",
        "root": str(tmp_path / "recordings"),
        "identity": "mtime",
        "rounds": [{"first": 0, "shards": 2}],
        "models": {},
        "job": {"schema": 1, **about, "stages": stages},
    }
    made = Shard(tmp_path, batch)
    for name, text in ACTS.items():
        made.act(name, text)
    yield made
    for process in made.started:  # of a test that failed
        process.kill()


def digests(shard: Shard) -> dict[str, str]:
    return {i.path: json.loads((shard.folder_of(i) / "result.json").read_text())["digest"] for i in shard.items}


def test_each_recording_has_its_result_once(shard: Shard) -> None:
    """Whole folders, without sound; a second run computes nothing."""
    a, b = shard.add("a"), shard.add("b")
    shard.add("c", shard=1)
    said = shard.run()
    assert "2 of 2 recordings have results" in said
    assert shard.count == [f"{stage} {name}" for stage in NEEDS for name in ("a", "b")], "stage by stage"
    found = {str(p.relative_to(shard.folder_of(a))) for p in shard.folder_of(a).rglob("*") if p.is_file()}
    works = {f"work/{stage}/{name}" for stage in NEEDS for name in ("01.json", "manifest.json")}
    assert found == {"job.yaml", "events.jsonl", "result.json", "output/a.srt", *works}
    job = job_file.from_yaml((shard.folder_of(b) / "job.yaml").read_text(), "job.yaml")
    assert (job.id, job.inputs[0].name, job.inputs[0].output) == (b.key, "b.txt", "b")
    assert job.inputs[0].sha256 == hashlib.sha256((shard.recordings / "b.txt").read_bytes()).hexdigest()
    told = shard.told()
    assert [told.state_of(key) == DONE for key in (a.key, b.key)] == [True, True]
    assert told.sound(DONE) == 3.0
    assert told.took[0] > 0
    shard.run()
    assert len(shard.count) == 6
    assert shard.leftovers() == []


def test_two_runs_of_a_shard_at_once_make_it_once(shard: Shard) -> None:
    for name in ("a", "b", "c"):
        shard.add(name)
    runs = [shard.start("--scratch", shard.folder / f"scratch{n}") for n in range(3)]
    said = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], said
    assert shard.done() == {"a", "b", "c"}
    assert shard.told().differing == set()
    assert shard.leftovers() == []


def test_a_result_that_differs_is_told_of_and_the_first_stays(shard: Shard) -> None:
    """What an earlier run published is never replaced."""
    a, b = shard.add("a"), shard.add("b")
    fifo = shard.fifo("last-b")
    run = shard.start()
    fifo.read_text()
    shard.folder_of(a).mkdir(parents=True)
    (shard.folder_of(a) / "result.json").write_text('{"digest": "other", "key": "k"}')
    fifo.with_suffix(".go").write_text("go")
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 5, said
    assert "1 came out differently" in said
    assert json.loads((shard.folder_of(a) / "result.json").read_text())["digest"] == "other"
    assert shard.told().differing == {a.key.encode()}
    assert (shard.folder_of(b) / "result.json").exists()


def test_what_is_wrong_with_one_recording_fails_it_alone(shard: Shard) -> None:
    """Each with its reason; and a second run tries none of them again, until somebody asks for it."""
    shard.add("good")
    damaged, bug, crash = shard.add("d", "middle=damaged"), shard.add("x", "first=bug"), shard.add("y", "last=crash")
    changed, gone = shard.add("changed"), shard.add("gone")
    (shard.recordings / "changed.txt").write_text("something else")
    (shard.recordings / "gone.txt").unlink()
    said = shard.run(code=8)
    assert "1 of 6 recordings have results, 5 failed" in said
    assert shard.done() == {"good"}
    common = {"name": "d.txt", "key": damaged.key}
    assert shard.failed(damaged) == {**common, "kind": "recording", "stage": "middle", "reason": "it is damaged"}
    assert shard.failed(bug)["kind"] == "stage"
    assert shard.failed(bug)["reason"] == "RuntimeError: no such luck"
    assert "killed" in shard.failed(crash)["reason"]
    assert shard.count.count("last y") == 2, "it may have been the machine: it is tried twice"
    reason = "the recording changed after the plan; plan again"
    assert shard.failed(changed) | {"key": ""} == {
        "key": "", "name": "changed.txt", "kind": "recording", "stage": "", "reason": reason,
    }  # fmt: skip
    assert "gone" in shard.failed(gone)["reason"]
    before = shard.count
    shard.run(code=8)
    assert shard.count == before
    assert shard.told().reason_of(bug.key).kind == "stage"

    shard.act("bug", "pass")
    shard.items = [item._replace(again=1) if item.key == bug.key else item for item in shard.items]
    shard.run(code=8)
    assert shard.done() == {"good", "x"}
    assert not (shard.results / bug.key[:2] / f"{bug.key}.failed.json").exists()


@pytest.mark.parametrize("where", ["first-b", "middle-a", "last-b"])
def test_a_node_that_is_killed_leaves_nothing_half_done(shard: Shard, where: str) -> None:
    """kill -9 of the node program: its stages end with it, and the next run makes the rest and clears up."""
    for name in ("a", "b"):
        shard.add(name)
    fifo = shard.fifo(where)
    run = shard.start()
    fifo.read_text()
    run.kill()
    run.communicate(timeout=60)
    assert shard.done() == set()
    assert len(shard.leftovers()) == 2
    shard.without_fifos()
    shard.run()
    assert shard.done() == {"a", "b"}
    assert shard.leftovers() == []


def test_sigterm_publishes_what_is_finished(shard: Shard) -> None:
    for name in ("a", "b", "c"):
        shard.add(name)
    fifo = shard.fifo("last-b")
    run = shard.start()
    fifo.read_text()
    run.send_signal(signal.SIGTERM)
    said = run.communicate(timeout=30)[1]
    assert run.returncode == 143, said
    assert shard.done() == {"a"}
    assert "2 are left" in said
    assert shard.leftovers() == []
    shard.without_fifos()
    before = len(shard.count)
    shard.run()
    assert shard.done() == {"a", "b", "c"}
    assert len(shard.count) == before + 6, "what is published isn't computed again"


def test_a_stage_that_is_killed_goes_on_behind_the_recording_that_kills_it(shard: Shard) -> None:
    """The whole stage, as the kernel ends a container."""
    for name in ("a", "c"):
        shard.add(name)
    bad = shard.add("b", "middle=killed")
    shard.run(code=8)
    assert shard.done() == {"a", "c"}
    assert "killed at it, twice (signal 9" in shard.failed(bad)["reason"]


@pytest.mark.parametrize(
    ("act", "code", "reason"),
    [("full", 3, "No space left on device"), ("model", 5, "model m is broken")],
)
def test_what_is_not_the_recordings_fault_fails_none(shard: Shard, act: str, code: int, reason: str) -> None:
    shard.add("a")
    shard.add("b", f"middle={act}")
    assert reason in shard.run(code=code)
    assert shard.done() == set()
    assert shard.told_failed() == set()
    shard.act(act, "pass")
    shard.run()
    assert shard.done() == {"a", "b"}


def test_a_stage_that_fails_everywhere_is_the_machines_fault(shard: Shard) -> None:
    for name in ("a", "b", "c"):
        shard.add(name, "first=bug")
    assert "stage first fails at every recording: RuntimeError" in shard.run(code=3)
    assert shard.told_failed() == set()


def test_a_batch_that_is_wrong_is_not_tried_again(shard: Shard) -> None:
    shard.add("a")
    shard.write()
    cases: list[tuple[dict[str, Any], dict[str, Any], Sequence[str], int, str]] = [
        ({}, {}, ["--shard", "2"], 2, "there is no shard 2: this batch has the shards 0 to 1"),
        ({"version": "9"}, {}, [], 2, f"is of version 9, and this program is {__version__}"),
        ({"schema": 2}, {}, [], 2, "has schema 2; this program reads 1"),
        ({"models": {"tiny": "sha256:1"}}, {}, [], 5, "the models here are not the batch's: tiny"),
        (
            {"job": {**shard.batch["job"], "variant": "full"}},
            {},
            [],
            2,
            "the stages' commands are those of another plan",
        ),
        ({"root": "/nowhere"}, {}, [], 3, "can't be read here"),
    ]
    usual = dict(shard.batch)
    for changes, env, words, code, reason in cases:
        shard.write(**changes)
        shard.steps()
        run = shard.begin("run", *(words or ["--shard", "0"]), env=env)
        said = run.communicate(timeout=60)[1]
        assert (run.returncode, reason in said) == (code, True), said
        shard.batch = dict(usual)
    (shard.folder / "B/items.jsonl").write_text('{"shard":0}\n')
    shard.write()
    (shard.folder / "B/items.jsonl").write_text('{"shard":0}\n')
    run = shard.begin("run", "--shard", "0")
    assert "line 1 of" in run.communicate(timeout=60)[1]
    assert run.returncode == 2


@pytest.mark.parametrize("variable", ["JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID", "AWS_BATCH_JOB_ARRAY_INDEX"])
def test_engines_count_shards(shard: Shard, variable: str) -> None:
    """From the first of a round on."""
    shard.add("a", shard=1)
    shard.write()
    run = shard.begin("run", "--first", "1", env={variable: "0"})
    assert run.wait(60) == 0
    assert shard.done() == {"a"}


def test_results_that_cannot_be_written(shard: Shard) -> None:
    """Exit code 3 before anything is computed."""
    shard.add("a")
    (shard.folder / "B/results").write_text("a file")
    assert "the folder of results can't be used" in shard.run(code=3)
    assert shard.count == []


def mounted(place: Path, size: str) -> None:
    place.mkdir(exist_ok=True)
    if os.system(f"mount -t tmpfs -o size={size} tmpfs {place} 2>/dev/null"):
        pytest.skip("a file system of its own takes root's rights")


def test_a_full_disk_of_results_loses_nothing(shard: Shard) -> None:
    """What was published stays, what doesn't fit is made again where there is room."""
    small = shard.results
    mounted(small, "256k")
    try:
        for number in range(6):
            shard.add(f"r{number}", "last=large")
        shard.act("large", "job.write(recording.output + '.vtt', 'x' * 70_000, output=True)")
        said = shard.run(code=3)
        assert "the disk of the folder of results is full" in said
        assert len(shard.done()) < 6
        assert shard.leftovers() == []
        os.system(f"mount -o remount,size=16m {small}")
        shard.run()
        assert len(shard.done()) == 6
        os.system(f"mount -o remount,ro {small}")
        shard.add("late")
        assert "can't be used (Read-only file system)" in shard.run(code=3)
    finally:
        os.system(f"umount {small}")


def test_a_scratch_folder_without_room(shard: Shard) -> None:
    shard.add("a")
    mounted(shard.folder / "scratch", "1m")
    try:
        assert "free, and the shard takes" in shard.run(code=3)
    finally:
        os.system(f"umount {shard.folder / 'scratch'}")


ATTACKS = {
    "recipe": "(other / 'job.yaml').write_text('{}')",
    "recording": "(other / 'input/01.txt').write_text('other words')",
    "link": "import shutil; shutil.rmtree(other / 'output'); (other / 'output').symlink_to(victim.parent)",
    "file link": "(other / 'work/first/01.json').unlink(); (other / 'work/first/01.json').symlink_to(victim)",
    "fifo": "(other / 'work/first/01.json').unlink(); os.mkfifo(other / 'work/first/01.json')",
    "manifest": "(other / 'work/first/manifest.json').unlink(); os.mkfifo(other / 'work/first/manifest.json')",
    "hole": "os.truncate(other / 'work/first/01.json', 1 << 30)",
    "words": "(other / 'work/first/01.json').write_text('lies')",
    "list": "(jobs / 'list').unlink(); (jobs / 'list').symlink_to(victim)",
    "list folder": "(jobs / 'list').unlink(); (jobs / 'list').mkdir(); (jobs / 'list/x').write_text('x')",
    "ends": "(jobs / 'ended-last.jsonl').symlink_to(victim)",
    "lines": "(jobs / 'ended-first.jsonl').open('a').write(chr(10).join(['null', '[]', '{\"job\": 1}', 'x' * 9999, '']))",
}
"""What a recording that has taken the first stage over does to another, or to the shard."""


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_a_recording_that_took_a_stage_over(shard: Shard, attack: str) -> None:
    """Whatever it leaves, nothing outside of its shard changes, and nothing of another is published that isn't its own."""
    shard.add("a")
    # Natively a stage writes where a link leads, as whoever took another one over could by itself.
    other, evil = shard.add("b"), shard.add("c", "last=evil" if attack == "link" else "first=evil")
    victim = shard.folder / "victim" / "file"
    victim.parent.mkdir()
    victim.write_text("precious")
    here = f"jobs = job.root.parent; other = jobs / {other.key!r}; victim = Path({str(victim)!r})\n"
    shard.act("evil", here + ATTACKS[attack])
    run = shard.start()
    said = run.communicate(timeout=60)[1]
    assert run.returncode in (0, 3, 8), said
    assert victim.read_text() == "precious"
    assert [p.name for p in victim.parent.iterdir()] == ["file"]
    published = [p for p in shard.results.rglob("*") if not p.is_dir()]
    assert all(p.is_file() and not p.is_symlink() and p.stat().st_size < 1 << 20 for p in published)
    if run.returncode != 3:
        assert "a" in shard.done()
    if "b" in shard.done():
        assert "lies" not in (shard.folder_of(other) / "work/first/01.json").read_text()
        assert (shard.folder_of(other) / "output/b.srt").read_text().startswith("b")
    shard.act("evil", "pass")
    shard.items = [item._replace(again=1) for item in shard.items]
    shard.run()
    assert shard.done() == {"a", "b", "c"}
    assert shard.told().state_of(evil.key) == DONE


def test_what_is_packed_is_what_was_published(shard: Shard) -> None:
    """For engines that carry files: results, reasons and the journal, and at the end what belongs to it."""
    a, bad = shard.add("a"), shard.add("b", "first=damaged")
    packed = shard.folder / "shard-00000.tar"
    shard.run("--pack", packed, code=8)
    assert not shard.results.exists(), "there is no shared folder"
    with tarfile.open(packed) as archive:
        found = {m.name: archive.extractfile(m).read() for m in archive.getmembers()}  # type: ignore[union-attr]
    assert list(found)[-1] == "end.json"
    end = json.loads(found.pop("end.json"))
    assert (end["shard"], end["code"]) == (0, 8)
    assert end["members"] == {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}
    assert f"{a.key[:2]}/{a.key}/result.json" in found
    assert json.loads(found[f"{bad.key[:2]}/{bad.key}.failed.json"])["reason"] == "it is damaged"
    journal = next(data for name, data in found.items() if name.startswith("journal/0-"))
    assert b'"event":"end"' in journal.splitlines()[-1]
    shard.write(version="9")
    packed.unlink()
    assert shard.begin("run", "--shard", "0", "--pack", packed).wait(60) == 2
    with tarfile.open(packed) as archive:
        assert archive.getnames() == ["end.json"]


def test_the_two_halves_of_a_run(shard: Shard) -> None:
    """Kubernetes starts the stages itself, between them."""
    a, bad = shard.add("a"), shard.add("b", "middle=damaged")
    gone = shard.add("gone")
    (shard.recordings / "gone.txt").unlink()
    scratch = shard.folder / "pod"
    scratch.mkdir()
    shard.run("--scratch", scratch, do="begin")
    [begun] = status(shard.folder / "B").listed[:1]
    assert (begun.number, begun.state) == (0, "begun"), "nothing is heard of its stages"
    for step in json.loads(shard.steps().read_text())["steps"]:
        words = [word.replace("{list}", str(scratch / "jobs/list")) for word in step["argv"]]
        env = {name: value for name, value in step["env"].items() if name != "BAKE_PARENT"}
        assert subprocess.run(words, env=env, capture_output=True, check=False).returncode == 0
    shard.run("--scratch", scratch, do="publish", code=8)
    assert shard.done() == {"a"}
    assert {shard.failed(bad)["stage"], shard.failed(gone)["stage"]} == {"middle", ""}
    assert shard.told().sound(DONE) == a.seconds


def test_what_dead_runs_left_is_removed(shard: Shard) -> None:
    """At once where it was this host's; another's once no sign of life came for long, by the clock of the disk."""
    shard.add("a")
    dead = subprocess.Popen(["true"])
    dead.wait()
    folders = {
        f".tmp-{host_name()}-{dead.pid}-0123abcd": 0.0,
        f".tmp-{host_name()}-{os.getpid()}-0123abcd": LONGEST_SILENCE + 60,  # another process got its number
        f".tmp-elsewhere-{dead.pid}-0123abcd": LONGEST_SILENCE + 60,
        f".tmp-{host_name()}-{os.getpid()}-89abcdef": 0.0,
        f".tmp-elsewhere-{dead.pid}-89abcdef": LONGEST_SILENCE - 60,
        f".tmp-elsewhere-{os.getpid()}-89abcdef": 0.0,
    }
    for name, silent in folders.items():
        (shard.results / name / "x").mkdir(parents=True)
        os.utime(shard.results / name, (time.time() - silent,) * 2)
    shard.run()
    assert sorted(shard.leftovers()) == sorted(name for name in folders if name.endswith("-89abcdef"))


def test_results_may_be_a_link_to_a_larger_disk(shard: Shard) -> None:
    """Nothing of a run is left there, and what a dead one left goes."""
    shard.add("a")
    (shard.folder / "large").mkdir()
    shard.results.symlink_to(shard.folder / "large")
    dead = shard.results / ".tmp-elsewhere-1-0123abcd"
    dead.mkdir()
    os.utime(dead, (0, 0))
    shard.run()
    assert shard.done() == {"a"}
    assert shard.leftovers() == []


def test_a_run_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder in the results is young, however long a stage works on one recording."""
    shown = threading.Event()

    def sign(made: Path) -> None:
        sign_of_life(made)
        shown.set()

    monkeypatch.setattr(record, "EVERY", 0.01)
    monkeypatch.setattr(record, "sign_of_life", sign)
    temporary = open_results(tmp_path / "results")
    journal = RunJournal(tmp_path / "results", 0, temporary)
    os.utime(temporary, (0, 0))
    journal.begin(1)
    assert shown.wait(30)
    assert temporary.stat().st_mtime > time.time() - 60
    journal.end(0)
