"""batch plan and batch retry as commands: what they make, and what becomes of bad input, kills and two at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import pytest

from builder.edges.system import files
from builder.node.items import compact, item_key
from tests.shared import ROOT, Ran, native_python, state_folder

JOB = ("--preset", "tiny-en", "--no-diarization")
"""Of a job whose models are small."""

PERMITTED = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder for these tests; it knows none of their recordings."""
    native_python()
    return state_folder(tmp_path_factory.mktemp("state") / "home")


def recordings(folder: Path, *seconds: float) -> Path:
    """Silent recordings of so many seconds; every second one in a folder below."""
    for number, length in enumerate(seconds):
        path = folder / ("sub" if number % 2 else ".") / f"c{number:03}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(8000)
            out.writeframes(bytes(int(length * 16000)))
    return folder


def command(home: Path) -> tuple[list[str], dict[str, str]]:
    mine = {k: v for k, v in os.environ.items() if not k.startswith(("BAKE_", "HF_"))}
    # Without an engine: whether recordings are looked at in containers is tested elsewhere.
    env = {**mine, "DOCKER_HOST": "unix:///nowhere.sock", "BAKE_HOME": str(home)}
    return [sys.executable, str(ROOT / "build.py"), "batch"], env


def bake(home: Path, *words: str | Path, stdin: bytes = b"", code: int = 0, cwd: Path | None = None) -> Ran:
    argv, env = command(home)
    done = subprocess.run(
        [*argv, *map(str, words)], env=env, cwd=cwd, input=stdin, capture_output=True, check=False, timeout=200
    )
    ran = Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert ran.code == code, f"{ran.code}: {ran.out}{ran.err}"
    return ran


def plan(home: Path, *words: str | Path, **options: Any) -> Any:
    return bake(home, "plan", *words, *JOB, "--json", **options).data


def lines(batch: Path) -> dict[str, dict[str, Any]]:
    """The items of a batch by their paths."""
    found = [json.loads(line) for line in (batch / "items.jsonl").read_text().splitlines()]
    assert [item["path"] for item in found] == sorted(item["path"] for item in found)
    return {item["path"]: item for item in found}


END = {"event": "end", "code": 8, "t": 2.0}
"""A run's last line: without it a journal that has just been written is of one that lives."""


def journal(batch: Path, name: str, *events: dict[str, Any]) -> None:
    """What a node tells."""
    (batch / "results/journal" / name).write_text("".join(f"{compact(event)}\n" for event in events))


def done(item: dict[str, Any]) -> dict[str, Any]:
    return {"event": "done", "key": item["key"], "seconds": item["seconds"], "took": 1.0}


def failed(item: dict[str, Any], again: int = 0) -> dict[str, Any]:
    return {"event": "failed", "key": item["key"], "kind": "stage", "stage": "asr", "reason": "x", "again": again}


def test_a_folder_is_planned_and_planned_again(home: Path, tmp_path: Path) -> None:
    """What has a result stays; what is new or changed gets shards; what is the same gets none."""
    folder, batch = recordings(tmp_path / "tapes", 1, 2, 3, 4, 5, 6), tmp_path / "B"
    (folder / "notes.txt").write_text("no recording")
    (folder / "torn.mp3").write_bytes(b"no sound")
    (folder / "empty.wav").touch()
    first = plan(home, folder, "--out", batch, "--shard-minutes", "0.1")
    assert (first["items"], first["new"], first["unreadable"], first["seconds"]) == (8, 6, 2, 21.0)
    assert (first["first"], first["shards"]) == (0, 4)
    items = lines(batch)
    assert {path: item["seconds"] for path, item in items.items() if "seconds" in item} == {
        "c000.wav": 1.0,
        "sub/c001.wav": 2.0,
        "c002.wav": 3.0,
        "sub/c003.wav": 4.0,
        "c004.wav": 5.0,
        "sub/c005.wav": 6.0,
    }
    assert "media" in items["torn.mp3"]["unreadable"]
    assert "empty" in items["empty.wav"]["unreadable"]
    status = (folder / "c000.wav").stat()
    assert items["c000.wav"]["key"] == item_key("c000.wav", status.st_size, str(status.st_mtime_ns))
    about = json.loads((batch / "batch.yaml").read_text())
    assert (about["root"], about["images"], sorted(about["models"])) == (
        str(folder),
        {},
        ["silero-vad", "tiny.en-int8"],
    )
    assert [stage["name"] for stage in about["job"]["stages"]][:3] == ["demux", "vad", "asr"]

    before = (batch / "items.jsonl").read_bytes(), (batch / "batch.yaml").read_bytes()
    same = plan(home, folder, "--out", batch, "--shard-minutes", "0.1")
    assert (same["new"], same["first"], same["shards"]) == (0, None, 0)
    assert before == ((batch / "items.jsonl").read_bytes(), (batch / "batch.yaml").read_bytes())

    kept, changed, gone = items["c000.wav"], items["c002.wav"], items["c004.wav"]
    journal(batch, "0-node-1-aa.jsonl", done(kept), done(changed), failed(items["sub/c001.wav"]))
    recordings(tmp_path / "other", 1, 1, 2.5)
    (tmp_path / "other/c002.wav").replace(folder / "c002.wav")
    (tmp_path / "other/c000.wav").replace(folder / "new.wav")
    (folder / "c004.wav").unlink()
    again = plan(home, folder, "--out", batch, "--shard-minutes", "0.1")
    assert (again["done"], again["failed"], again["new"], again["gone"]) == (1, 1, 2, 1)
    assert again["first"] == 4
    after = lines(batch)
    assert after["c000.wav"] == kept
    assert after["c002.wav"]["key"] != changed["key"]
    assert "c004.wav" not in after
    assert gone["path"] == "c004.wav"
    moved = {path for path, item in after.items() if item.get("shard", -1) >= 4}
    assert moved == {"c002.wav", "new.wav", "sub/c003.wav", "sub/c005.wav"}
    assert json.loads((batch / "batch.yaml").read_text())["rounds"] == [
        {"first": 0, "shards": 4},
        {"first": 4, "shards": again["shards"]},
    ]


def test_lists_of_paths(home: Path, tmp_path: Path) -> None:
    """A line each with comments, NULs between them, standard input; what is missing is told of, and stops nothing."""
    folder = recordings(tmp_path / "tapes", 1, 2)
    odd = folder / "new\nline.wav"
    (folder / "c000.wav").rename(odd)
    unwritable = os.fsencode(folder) + b"/\xff.wav"
    (tmp_path / "list.txt").write_bytes(b"# tapes\r\ntapes/sub/c001.wav\r\n\r\ntapes/gone.wav\r\n" + unwritable + b"\n")
    found = plan(home, tmp_path / "list.txt", "--out", "B", cwd=tmp_path)
    assert (found["root"], found["items"], found["new"], found["unreadable"]) == (str(folder), 3, 1, 2)
    assert found["reasons"] == [
        {"path": "\\xff.wav", "reason": "its name is not UTF-8: rename it"},
        {"path": "gone.wav", "reason": "no such file"},
    ]
    named = b"\0".join([os.fsencode(odd), b"tapes/sub/c001.wav", b"tapes/sub", b""])
    found = plan(home, "-", "--out", "B0", cwd=tmp_path, stdin=named)
    assert (found["items"], found["new"]) == (3, 2)
    assert set(lines(tmp_path / "B0")) == {"new\nline.wav", "sub", "sub/c001.wav"}


def test_identity_by_bytes(home: Path, tmp_path: Path) -> None:
    """A recording that was only touched is the same."""
    folder, batch = recordings(tmp_path / "tapes", 1), tmp_path / "B"
    plan(home, folder, "--out", batch, "--identity", "sha256")
    item = lines(batch)["c000.wav"]
    assert item["sha256"] == files.sha256(folder / "c000.wav")
    os.utime(folder / "c000.wav", ns=(1, 1))
    assert plan(home, folder, "--out", batch, "--identity", "sha256")["new"] == 0
    assert lines(batch)["c000.wav"] == item


def test_files_that_jobs_read_lie_beside(home: Path, tmp_path: Path) -> None:
    """A list of names travels with the batch, and one that changed is another batch's."""
    folder, batch, cast = recordings(tmp_path / "tapes", 1), tmp_path / "B", tmp_path / "cast.txt"
    cast.write_text("Holmes\nWatson\n")
    bake(home, "plan", folder, "--out", batch, *JOB, "--cast", cast)
    assert "Holmes" in (batch / "beside/cast.json").read_text()
    beside = json.loads((batch / "batch.yaml").read_text())["beside"]
    assert beside == {"cast.json": files.sha256(batch / "beside/cast.json")}
    cast.write_text("Moriarty\n")
    said = bake(home, "plan", folder, "--out", batch, *JOB, "--cast", cast, code=2).said
    assert "planned otherwise: names.cast" in said


def test_retry_makes_shards_of_what_is_left(home: Path, tmp_path: Path) -> None:
    folder, batch = recordings(tmp_path / "tapes", 1, 2, 3, 4), tmp_path / "B"
    plan(home, folder, "--out", batch)
    items = lines(batch)
    first, second, third, fourth = (items[path] for path in ("c000.wav", "sub/c001.wav", "c002.wav", "sub/c003.wav"))
    waiting = bake(home, "retry", batch, "--json").data
    assert (waiting["first"], waiting["missing"], waiting["written"]) == (0, 4, False)
    journal(batch, "0-node-1-aa.jsonl", done(first), failed(second), END)
    dry = bake(home, "retry", batch, "--dry-run", "--json").data
    assert (dry["first"], dry["missing"], dry["failed"], dry["written"]) == (1, 2, 1, False)
    assert lines(batch) == items
    left = bake(home, "retry", batch, "--json").data
    assert (left["first"], left["shards"], left["missing"], left["written"]) == (1, 1, 2, True)
    now = lines(batch)
    assert {path for path, item in now.items() if item["shard"] == 1} == {third["path"], fourth["path"]}
    journal(batch, "1-node-1-bb.jsonl", done(third), done(fourth), END)
    assert bake(home, "retry", batch, "--json").data["first"] is None
    failures = bake(home, "retry", batch, "--failed")
    assert "1 recording, 1 of which failed before" in failures.out
    assert lines(batch)[second["path"]] == {**now[second["path"]], "again": 1, "shard": 2}
    journal(batch, "2-node-1-cc.jsonl", failed(second, again=1), END)
    assert bake(home, "retry", batch, "--failed", "--json").data["again"] == 1
    assert lines(batch)[second["path"]]["again"] == 2


def test_what_a_shard_works_on_stays_in_it(home: Path, tmp_path: Path) -> None:
    """A journal whose last line is new is of a run that lives."""
    folder, batch = recordings(tmp_path / "tapes", 60, 60), tmp_path / "B"
    assert plan(home, folder, "--out", batch, "--shard-minutes", "1")["shards"] == 2
    now = (batch / "batch.yaml").stat().st_mtime
    begin = {"event": "begin", "shard": 0, "host": "n", "pid": 1, "t": now + 3600, "items": 1}
    journal(batch, "0-n-1-aa.jsonl", begin)
    found = bake(home, "retry", batch, "--json").data
    assert (found["missing"], found["running"], found["first"]) == (1, 1, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "no such folder, and no such list"),
        (["empty"], "no recordings there"),
        (["texts"], "no recordings there"),
        (["bad"], "none of the files can be read"),
        (["tapes/c000.wav"], "this is not a list of recordings"),
        (["list.txt"], "no recordings there"),
        (["tapes", "--start", "5"], "a batch is of whole recordings"),
        (["tapes", "--end", "5"], "a batch is of whole recordings"),
        (["tapes", "--metadata", "cached"], "asks nobody"),
        (["tapes", "--identity", "name"], "tells nothing of a recording"),
        (["tapes", "--shard-minutes", "nan"], "--shard-minutes"),
        (["tapes", "--burn"], "no picture"),
        (["tapes", "--out", "tapes"], "something else than a batch"),
        (["tapes", "--out", "list.txt"], "not a folder"),
    ],
)
def test_bad_input_has_its_reason_and_leaves_nothing(home: Path, tmp_path: Path, words: list[str], said: str) -> None:
    recordings(tmp_path / "tapes", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").touch()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.wav").write_bytes(b"no sound")
    (tmp_path / "list.txt").write_text("# nothing\n\n")
    out = [] if "--out" in words else ["--out", "B"]
    ran = bake(home, "plan", *words, *out, *JOB, code=2, cwd=tmp_path)
    assert said in ran.err
    assert "next: " in ran.err or "expected: " in ran.err or "bad" in words
    assert not (tmp_path / "B/batch.yaml").exists()
    assert not (tmp_path / "tapes/batch.yaml").exists()


def test_other_options_make_another_batch(home: Path, tmp_path: Path) -> None:
    folder, batch = recordings(tmp_path / "tapes", 1), tmp_path / "B"
    plan(home, folder, "--out", batch)
    text = (batch / "batch.yaml").read_text()
    ran = bake(home, "plan", folder, "--out", batch, *JOB, "--formats", "txt", code=2)
    assert "planned otherwise: option formats: none, now txt" in ran.err
    assert "--preset tiny-en --no-diarization, or --out another folder" in ran.err
    elsewhere = recordings(tmp_path / "elsewhere", 1)
    assert "not below the batch's folder" in bake(home, "plan", elsewhere, "--out", batch, *JOB, code=2).err
    assert (batch / "batch.yaml").read_text() == text
    for change, said in (
        (('"schema": 1', '"schema": 7'), ("another version", "another version")),
        (
            ('"version": "', '"version": "9.'),
            ("planned this batch, and this is", "planned this batch, and this is"),
        ),
    ):
        (batch / "batch.yaml").write_text(text.replace(*change, 1))
        assert said[0] in bake(home, "plan", folder, "--out", batch, *JOB, code=2).err
        assert said[1] in bake(home, "retry", batch, code=2).err
    (batch / "batch.yaml").write_text(text)
    (batch / "items.jsonl").write_text("{}\n")
    assert "line 1: its keys are not" in bake(home, "retry", batch, code=2).err
    assert "no batch here" in bake(home, "retry", folder, code=2).err


def test_a_plan_that_is_killed_is_begun_again_where_it_was(tmp_path: Path) -> None:
    """kill -9 in the midst of the looks: there is no batch yet, and no recording is looked into twice."""
    native_python()
    home = state_folder(tmp_path / "home")
    folder, batch = recordings(tmp_path / "tapes", *([1.0] * 12)), tmp_path / "B"
    argv, env = command(home)
    words = [*argv, "plan", str(folder), "--out", str(batch), *JOB]
    with subprocess.Popen(words, env=env, stderr=subprocess.PIPE, start_new_session=True) as process:
        assert process.stderr is not None
        assert any(b"looking at recordings: " in line for line in process.stderr)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (batch / "batch.yaml").exists()
    looked = (home / "cache/probes.jsonl").read_bytes().count(b"\n")
    assert looked >= 1
    found = plan(home, folder, "--out", batch)
    assert (found["new"], found["unreadable"]) == (12, 0)
    assert (home / "cache/probes.jsonl").read_bytes().count(b"\n") == 12


def test_two_plans_at_once(home: Path, tmp_path: Path) -> None:
    folder, batch = recordings(tmp_path / "tapes", 1), tmp_path / "B"
    batch.mkdir()
    with files.locked(batch / ".lock"):
        assert "another process plans this batch" in bake(home, "plan", folder, "--out", batch, *JOB, code=2).err
    plan(home, folder, "--out", batch)
    with files.locked(batch / ".lock"):
        assert "another process plans this batch" in bake(home, "retry", batch, code=2).err


@PERMITTED
def test_a_folder_that_can_not_be_written(home: Path, tmp_path: Path) -> None:
    folder, above = recordings(tmp_path / "tapes", 1), tmp_path / "above"
    above.mkdir(mode=0o500)
    assert "can't be written" in bake(home, "plan", folder, "--out", above / "B", *JOB, code=3).err


def test_a_place_where_nothing_can_be_made(home: Path, tmp_path: Path) -> None:
    """Whoever runs this, nobody makes a folder in /proc."""
    folder = recordings(tmp_path / "tapes", 1)
    ran = bake(home, "plan", folder, "--out", "/proc/whisperbake", *JOB, code=3)
    assert "can't be written" in ran.err
    assert "--out a folder that can" in ran.err


def test_many_recordings_are_looked_into_by_one_process(home: Path, tmp_path: Path) -> None:
    """Each gets its own answer, also beside one that is no recording, and after one that ends the process."""
    from builder.edges.batch import found as finding
    from builder.edges.batch import probes
    from builder.edges.machine import environment, project

    config = project.load(ROOT, env={}, home=home)
    folder = recordings(tmp_path / "tapes", 1, 2, 3)
    (folder / "bad.wav").write_bytes(b"no sound")
    each = environment.media_each(config, native_python(), os.environ)
    one = environment.media(config, native_python(), os.environ)
    paths = [folder / "c000.wav", folder / "bad.wav", folder / "c002.wav"]
    said = each(paths)
    for path, done_ in zip(paths, said, strict=True):
        alone = one(["--probe"], path, None)
        assert (done_.code, done_.out.strip()) == (alone.code, alone.out.strip())
        assert done_.code == 0 or done_.err.strip() == alone.err.strip()

    listed = finding.looked(sorted(map(str, folder.rglob("*.wav"))), str(folder), lambda n: None)
    known = probes.look(
        listed,
        root=str(folder),
        media=one,
        media_each=lambda paths: each(paths)[:1],
        cache=probes.ProbeCache(tmp_path / "probes.jsonl"),
        hashed=False,
        workers=1,
        on_done=lambda done, total: None,
    )
    keys = {entry.path: probes.file_key(str(folder), entry) for entry in listed}
    assert {path: known.seconds.get(key) for path, key in keys.items()} == {
        "bad.wav": None,
        "c000.wav": 1.0,
        "c002.wav": 3.0,
        "sub/c001.wav": 2.0,
    }
    assert "media" in known.unreadable[keys["bad.wav"]]
