"""The node program's own rules: what it is told, what it takes from stages, what it says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from builder import __version__
from builder.core.jobs import job_file
from builder.node.faults import DIFFERS, MACHINE, WRONG, NodeFault
from builder.node.items import Item, item_key, to_line
from builder.node.jobs import BegunItem, job_text
from builder.node.results.folder import FailedItem, failed, note_failed, place, published, write_result
from builder.node.results.publish import Unusable, checked, digest_of
from builder.node.scratch import Scratch
from builder.node.shard import (
    NodeStep,
    NodeSteps,
    ShardBatch,
    read_batch,
    read_items,
    read_steps,
    require_same,
    require_shard,
    shard_number,
)
from builder.node.steps import StageEnds

STAGE: dict[str, Any] = {
    "name": "asr",
    "needs": [],
    "settings": {"threads": 2, "beam": 1.5},
    "models": {"asr": {"id": "m", "path": "p", "digest": "sha256:1", "revision": "r", "languages": []}},
    "optional": False,
}
JOB: dict[str, Any] = {"schema": 1, "workflow": "transcribe", "mode": None, "variant": "slim", "preset": "p"}
JOB["stages"] = [STAGE]


def batch(**changes: Any) -> ShardBatch:
    values: dict[str, Any] = {
        "folder": Path("/b"),
        "root": Path("/r"),
        "identity": "mtime",
        "created": "2026-01-01T00:00:00Z",
        "job": JOB,
        "models": {"m": "sha256:1"},
        "rounds": ((0, 3), (3, 1)),
        "beside": {},
    }
    return ShardBatch(**{**values, **changes})


def item(path: str, **changes: Any) -> Item:
    return Item(item_key(path, 5, "7"), path, 5, 7, None, 2.5, 0)._replace(**changes)


def steps(**changes: Any) -> NodeSteps:
    values = {"job": JOB, "models": {"m": "sha256:1"}, "steps": (NodeStep("asr", ("x",), {}),)}
    return NodeSteps(**{**values, **changes})


@pytest.mark.parametrize(
    ("given", "first", "env", "number"),
    [
        (4, 0, {}, 4),
        (4, 3, {"SLURM_ARRAY_TASK_ID": "9"}, 7),
        (None, 3, {"SLURM_ARRAY_TASK_ID": "9"}, 12),
        (None, 0, {"JOB_COMPLETION_INDEX": "1", "SLURM_ARRAY_TASK_ID": "9"}, 1),
        (None, 0, {"JOB_COMPLETION_INDEX": "", "AWS_BATCH_JOB_ARRAY_INDEX": "2"}, 2),
    ],
)
def test_which_shard(given: int | None, first: int, env: dict[str, str], number: int) -> None:
    assert shard_number(given, first, env) == number


@pytest.mark.parametrize("env", [{}, {"SLURM_ARRAY_TASK_ID": "x"}, {"SLURM_ARRAY_TASK_ID": "-1"}])
def test_nobody_says_which_shard(env: dict[str, str]) -> None:
    with pytest.raises(NodeFault, match="no shard is named") as caught:
        shard_number(None, 0, env)
    assert caught.value.code == WRONG


def test_shards_that_were_never_planned() -> None:
    for number in (0, 2, 3):
        require_shard(batch(), number)
    for number in (4, -1):
        with pytest.raises(NodeFault, match=f"there is no shard {number}: this batch has the shards 0 to 3"):
            require_shard(batch(), number)
    with pytest.raises(NodeFault, match="there is no shard 0: it has none"):
        require_shard(batch(rounds=()), 0)
    with pytest.raises(NodeFault, match="there is no shard 1: this batch has shard 0"):
        require_shard(batch(rounds=((0, 1),)), 1)


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"models": {"m": "sha256:2"}}, DIFFERS, "the models here are not the batch's: m"),
        ({"models": {}}, DIFFERS, "the models here are not the batch's: m"),
        ({"job": {**JOB, "variant": "full"}}, WRONG, "those of another plan"),
        ({"steps": ()}, WRONG, "not those of the batch"),
        ({"steps": (NodeStep("vad", ("x",), {}),)}, WRONG, "not those of the batch"),
    ],
)
def test_stages_of_another_plan(changes: dict[str, Any], code: int, reason: str) -> None:
    require_same(batch(), steps())
    with pytest.raises(NodeFault, match=reason) as caught:
        require_same(batch(), steps(**changes))
    assert caught.value.code == code


def test_files_that_are_not_what_they_seem(tmp_path: Path) -> None:
    """Wrong content is the batch's fault, a folder that isn't here the machine's."""
    with pytest.raises(NodeFault) as caught:
        read_batch(tmp_path / "nowhere")
    assert caught.value.code == MACHINE
    with pytest.raises(NodeFault, match=r"there is no .*batch\.yaml") as caught:
        read_batch(tmp_path)
    assert caught.value.code == WRONG
    file = tmp_path / "batch.yaml"
    for text, reason in {
        "x: 1": "is damaged",
        "[]": "is no batch",
        '{"schema": 1}': "is of version None",
        '{"schema": 9}': "has schema 9",
        json.dumps({"schema": 1, "version": __version__}): "not what plan writes: no 'rounds'",
        json.dumps({"schema": 1, "version": __version__, "rounds": 5}): "not what plan writes",
    }.items():
        file.write_text(text)
        with pytest.raises(NodeFault, match=reason) as caught:
            read_batch(tmp_path)
        assert caught.value.code == WRONG
    (tmp_path / "steps.json").write_text('{"schema": 1, "job": {}, "models": {}, "steps": [{"stage": "x"}]}')
    with pytest.raises(NodeFault, match="not what render writes: no 'argv'"):
        read_steps(tmp_path / "steps.json")


def test_the_recordings_of_a_shard(tmp_path: Path) -> None:
    """Lines of other shards are not even looked at; one of this that is damaged is told by its number."""
    file = tmp_path / "items.jsonl"
    mine, other = item("a"), item("b", shard=10)
    unreadable = item("c", shard=None, seconds=0.0, unreadable="it is not media")
    file.write_text("".join(to_line(one) + "\n" for one in (mine, other, unreadable)))
    assert read_items(file, 0) == (mine,)
    assert read_items(file, 1) == ()
    assert read_items(file, 10) == (other,)
    file.write_text(to_line(mine) + "\n" + to_line(mine._replace(key="0" * 20)) + "\n")
    with pytest.raises(NodeFault, match=r"line 2 of .*its key is not"):
        read_items(file, 0)
    file.write_text((to_line(mine) + "\n") * 2)
    with pytest.raises(NodeFault, match="names a recording twice"):
        read_items(file, 0)


@pytest.mark.parametrize(
    "name",
    [
        "talk.mp4",
        "Ärger 中文.WAV",
        'a"b\\c: {x} #.mp3',
        "bell\x07 nel\x85 bom\ufeff ls\u2028 bidi\u202e.wav",
        "😀\U000e0041.wav",
        ".mp4",
        "x.",
    ],
)
def test_job_yaml_is_read_as_it_was_written(name: str) -> None:
    """JSON, which YAML's own parser reads alike, whatever a recording is called."""
    begun = BegunItem(item(f"tape 1/{name}"), "ab" * 32)
    job = job_file.from_yaml(job_text(batch(), begun), "job.yaml")
    assert json.loads(job_text(batch(), begun))["inputs"][0]["name"] == name
    (one,) = job.inputs
    assert (one.name, one.sha256, one.size, one.duration, one.path) == (name, "ab" * 32, 5, 2.5, begun.input)
    assert (job.id, job.key, job.created) == (begun.item.key, begun.item.key, "2026-01-01T00:00:00Z")
    assert [stage.name for stage in job.stages] == ["asr"]
    assert "/" not in one.output


def manifest(**changes: Any) -> bytes:
    said = {
        "schema": 1,
        "stage": "asr",
        "settings": STAGE["settings"],
        "models": {"asr": "sha256:1"},
        "outputs": {"work/asr/01.json": "sha256:" + "0" * 64, "output/x.srt": "sha256:" + "1" * 64},
        "cpu_seconds": 2.5,
    }
    return json.dumps({**said, **changes}).encode()


def test_what_a_manifest_names() -> None:
    assert checked(manifest(), STAGE) == ({"work/asr/01.json": "0" * 64, "output/x.srt": "1" * 64}, 2.5)
    assert checked(manifest(cpu_seconds=None), STAGE)[1] == 0.0


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": "vad"},
        {"settings": {"threads": 3}},
        {"models": {"asr": "sha256:2"}},
        {"models": {}},
        {"cpu_seconds": -1},
        {"cpu_seconds": "5"},
        {"outputs": []},
        {"outputs": {"work/asr/01.json": "0" * 64}},
        {"outputs": {"work/asr/01.json": None}},
        {"outputs": {f"output/{n}": "sha256:" + "0" * 64 for n in range(1001)}},
        *(
            {"outputs": {path: "sha256:" + "0" * 64}}
            for path in (
                "work/vad/01.json",
                "work/asr/../../x",
                "output/..",
                "output/a/b",
                "/etc/passwd",
                "job.yaml",
                "result.json",
                "output/\u202e.srt",
                "output/a\nb",
                "work/asr/manifest.json",
            )
        ),
    ],
)
def test_manifests_that_no_stage_of_ours_wrote(changes: dict[str, Any]) -> None:
    with pytest.raises(Unusable, match="its manifest is not one for this job"):
        checked(manifest(**changes), STAGE)
    for data in (b"", b"null", b"[1]", b"\xff", b'{"outputs": 1}'):
        with pytest.raises(Unusable):
            checked(data, STAGE)


def test_what_two_runs_have_alike() -> None:
    """Results and the stages' own, not manifests, notes or sound."""
    files = {"output/a.srt": "1", "work/asr/01.json": "2"}
    alike = digest_of(files)
    assert alike == digest_of({**files, "work/asr/manifest.json": "x", "work/demux/01.wav": "y", "report.html": "z"})
    assert alike == hashlib.sha256(b"1  output/a.srt\n2  work/asr/01.json\n").hexdigest()
    assert digest_of({"output/a.srt": "1", "work/asr/02.json": "2"}) != alike
    assert digest_of({"output/a.srt": "1"}) != alike


def test_what_a_stage_says_of_jobs(tmp_path: Path) -> None:
    """Whole lines about known jobs; the last one counts. Whoever took the stage over may say anything."""
    scratch = Scratch(tmp_path, "batch")
    scratch.jobs.mkdir()
    ends = StageEnds(scratch, "asr", frozenset({"a", "b"}))
    ends.update()
    assert ends.jobs == {}
    file = scratch.jobs / "ended-asr.jsonl"
    lines = [
        {"job": "a", "code": 2, "message": "damaged " * 1000},
        {"job": "c", "code": 0, "message": ""},
        {"job": "b", "code": True, "message": ""},
        {"job": "b", "code": 1, "message": 5},
        {"job": ["b"], "code": 1},
        {"code": 1},
        None,
        7,
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"job": "b", "code"')
    ends.update()
    assert set(ends.jobs) == {"a"}
    assert (ends.jobs["a"].code, len(ends.jobs["a"].message)) == (2, 500)
    with file.open("a") as out:
        out.write(': 1, "message": "x"}\n{"job": "a", "code": 0, "message": ""}\n')
    ends.update()
    assert {key: end.code for key, end in ends.jobs.items()} == {"a": 0, "b": 1}


def test_a_result_is_published_once(tmp_path: Path) -> None:
    """The first stays; another run of the same learns that it is the same, or that it differs."""
    one = item("a")

    def made(name: str, digest: str) -> str:
        folder = tmp_path / name
        folder.mkdir()
        write_result(folder, key=one.key, name=one.path, seconds=1.0, digest=digest)
        return place(folder, tmp_path, one.key, digest)

    assert published(tmp_path, one.key) == {}
    note_failed(tmp_path, tmp_path, one, FailedItem("stage", "asr", "no luck"))
    assert failed(tmp_path, one) == FailedItem("stage", "asr", "no luck")
    assert failed(tmp_path, one._replace(again=1)) is None
    note_failed(tmp_path, tmp_path, one._replace(again=1), FailedItem("recording", "", "gone"))
    assert failed(tmp_path, one._replace(again=1)) == FailedItem("recording", "", "gone")
    assert [made("1", "x"), made("2", "x"), made("3", "y")] == ["new", "same", "differs"]
    assert published(tmp_path, one.key)["digest"] == "x"
    assert failed(tmp_path, one) is None, "a result takes its place"
