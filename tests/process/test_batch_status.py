"""batch status and batch collect as whole commands, on folders that strangers write in and on what strangers send."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.edges.batch.following import BatchFollower
from builder.node.results.folder import folder_of
from tests import batch_folders as made
from tests.batch_folders import BatchFolder, alive, begin, done, end, failed, item

ROOT = Path(__file__).resolve().parents[2]

A, B, C = item("a.wav", seconds=60), item("b.wav", seconds=30), item("c.wav", seconds=10, shard=1)


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[BatchFolder]:
    """Three recordings in two shards, and one that can't be read."""
    found = BatchFolder(tmp_path / "tapes").plan(A, B, C, item("d.txt", unreadable="it is not media"))
    yield found
    shutil.rmtree(found.folder / "arrived", ignore_errors=True)  # tests/canaries.py would read a terabyte in it


def command(*words: object, code: int = 0) -> Any:
    """What ``batch …`` prints as JSON."""
    ran = subprocess.run(
        [sys.executable, str(ROOT / "build.py"), "batch", *map(str, words), "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DOCKER_HOST": "unix:///nowhere"},
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    return json.loads(ran.stdout)


def counts(found: Any) -> list[int]:
    return [found[name] for name in ("items", "done", "failed", "unreadable", "running", "missing")]


# ---- status


def test_a_batch_from_beginning_to_end(batch: BatchFolder) -> None:
    """Nothing yet; one shard runs; all over."""
    assert counts(command("status", batch.folder)) == [4, 0, 0, 1, 0, 3]
    batch.journal(0, begin(0), done(A), alive())
    found = command("status", batch.folder)
    assert counts(found) == [4, 1, 0, 1, 1, 1]
    assert [(shard["shard"], shard["state"]) for shard in found["by_shard"]] == [(0, "running"), (1, "waiting")]
    batch.journal(0, begin(0), done(A), failed(B), end(8))
    batch.journal(1, begin(1), done(C), end())
    found = command("status", batch.folder)
    assert counts(found) == [4, 2, 1, 1, 0, 0]
    assert found["hours_left"] == 0
    assert found["failures"] == [{"kind": "recording", "stage": "demux", "reason": "it has no sound", "items": 1}]


def test_what_strangers_leave_in_the_folder_of_journals(batch: BatchFolder, tmp_path: Path) -> None:
    """A torn line, lines and files of any kind and size: what is a journal counts as far as it is one."""
    folder = batch.results / "journal"
    batch.journal(0, begin(0), done(A), torn='{"event":"done","key":"' + B.key)
    elsewhere = tmp_path / "elsewhere.jsonl"
    elsewhere.write_text(json.dumps(done(B)) + "\n")
    (folder / "0-link-1-aaaaaaaa.jsonl").symlink_to(elsewhere)
    (folder / "0-name-1-aaaaaaaa.txt").write_text(json.dumps(done(B)) + "\n")
    (folder / "..jsonl").write_text(json.dumps(done(B)) + "\n")
    (folder / "0-folder-1-aaaaaaaa.jsonl").mkdir()
    os.mkfifo(folder / "0-fifo-1-aaaaaaaa.jsonl")
    with (folder / "0-hole-1-aaaaaaaa.jsonl").open("wb") as hole:
        hole.truncate(1 << 22)
        hole.seek(1 << 22)
        hole.write(b"\n" + json.dumps(done(C)).encode() + b"\n")
    found = command("status", batch.folder)
    assert counts(found)[:3] == [4, 2, 0]
    batch.journal(9999999, begin(9999999, host="\x1b[2J"), alive(1e300))
    assert counts(command("status", batch.folder)) == counts(found)


def test_a_link_in_place_of_the_journals_is_not_followed(batch: BatchFolder, tmp_path: Path) -> None:
    batch.journal(0, done(A))
    (batch.results / "journal").rename(tmp_path / "moved")
    (batch.results / "journal").symlink_to(tmp_path / "moved")
    assert counts(command("status", batch.folder))[1] == 0
    (batch.results / "journal").unlink()
    batch.results.rmdir()
    assert counts(command("status", batch.folder))[1] == 0


def test_no_batch_and_other_batches(batch: BatchFolder, tmp_path: Path) -> None:
    """Each says what is wrong and what to do."""
    (tmp_path / "empty").mkdir()
    assert command("status", tmp_path / "empty", code=2)["error"]["what"] == "no batch here"
    items = batch.folder / "items.jsonl"
    whole = items.read_text()
    items.write_text(whole + "{}\n")
    error = command("status", batch.folder, code=2)["error"]
    assert error["where"] == f"{items}:5"
    items.unlink()
    assert "can't be read" in command("status", batch.folder, code=3)["error"]["what"]
    items.write_text(whole)
    text = (batch.folder / "batch.yaml").read_text()
    (batch.folder / "batch.yaml").write_text(text.replace('"schema": 1', '"schema": 7', 1))
    for verb in ("status", "collect"):
        assert "another version" in command(verb, batch.folder, code=2)["error"]["what"]


def test_only_what_is_new_is_read(batch: BatchFolder) -> None:
    """A journal that grows is read from where it ended; one that is another is read anew; a new plan counts from the start."""
    file = batch.journal(0, begin(0), done(A), torn='{"event":"done",')
    follower = BatchFollower(batch.folder)
    assert follower.look()
    assert not follower.look()
    with file.open("a") as out:
        out.write(json.dumps(done(B)).removeprefix('{"event": "done",') + "\n")
    assert follower.look()
    assert list(follower.tally.states) == [1, 1, 0, 3]
    other = file.with_name("other")
    other.write_text(json.dumps(failed(C)) + "\n")
    other.replace(file)
    assert follower.look()
    assert list(follower.tally.states) == [1, 1, 2, 3]
    batch.plan(*batch.items, item("0.wav"))
    assert follower.look()
    assert list(follower.tally.states) == [0, 0, 0, 2, 3]


def test_watch_tells_each_change_and_ends_with_the_batch(batch: BatchFolder) -> None:
    watching = subprocess.Popen(
        [sys.executable, str(ROOT / "build.py"), "batch", "status", str(batch.folder), "--watch", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    assert counts(json.loads(watching.stdout.readline()))[1] == 0
    batch.journal(0, begin(0), done(A), done(B), end())
    assert counts(json.loads(watching.stdout.readline()))[1] == 2
    batch.journal(1, begin(1), failed(C), end(8))
    assert counts(json.loads(watching.stdout.readline()))[2] == 1
    assert watching.stdout.readline() == ""
    assert watching.wait(timeout=20) == 0


# ---- collect


def test_pages_are_written_once(batch: BatchFolder) -> None:
    """One beside each result, and links to them from the batch's; a second collect touches none."""
    batch.publish(A)
    batch.publish(B, said={"segments": "what a stranger says"})
    batch.journal(0, begin(0), done(A), done(B), end())
    batch.journal(1, begin(1), done(C), end())  # and its result is gone
    found = command("collect", batch.folder)
    assert (found["pages"], found["pages_failed"]) == (1, 2)
    page = folder_of(batch.results, A.key) / "report.html"
    assert "Good" in page.read_text()
    assert f'1,"{A.key}","a.wav"]' in Path(found["page"]).read_text()
    assert not list(batch.folder.rglob("*.tmp"))
    page.write_text("as it was")
    assert command("collect", batch.folder)["pages"] == 0
    assert page.read_text() == "as it was"
    (batch.folder / "pages.txt").unlink()
    page.unlink()
    assert command("collect", batch.folder, "--no-pages")["pages"] == 0
    assert not page.exists()


def test_collecting_removes_what_dead_runs_left(batch: BatchFolder) -> None:
    """On whatever machine they died, when none of the batch runs there any more; what may be at work stays."""
    dead, living = (batch.results / f".tmp-elsewhere-{number}-0123abcd" for number in (1, 2))
    for folder in (dead, living):
        (folder / "x").mkdir(parents=True)
    os.utime(dead, (0, 0))
    command("collect", batch.folder)
    assert list(batch.results.glob(".tmp-*")) == [living]
    batch.results.rename(batch.folder.parent / "large")
    batch.results.symlink_to(batch.folder.parent / "large")
    os.utime(living, (0, 0))
    command("collect", batch.folder)
    assert list(batch.results.glob(".tmp-*")) == []


def test_pages_stay_in_the_results(batch: BatchFolder, tmp_path: Path) -> None:
    """Links in the folder of results lead nowhere, a job that isn't the item's is not shown, and nothing else is written."""
    outside = tmp_path / "outside"
    batch.publish(A, results=outside)
    (batch.results / A.key[:2]).symlink_to(outside / A.key[:2])
    target = tmp_path / "target.html"
    folder = batch.publish(B)
    (folder / "report.html").symlink_to(target)
    batch.publish(C)
    job = (folder_of(batch.results, C.key) / "job.yaml").read_text()
    (folder_of(batch.results, C.key) / "job.yaml").write_text(job.replace(C.key, A.key))
    batch.journal(0, done(A), done(B), done(C))
    found = command("collect", batch.folder)
    assert (found["pages"], found["pages_failed"]) == (1, 2)
    assert not target.exists()
    assert not (folder / "report.html").is_symlink()
    assert not list(outside.rglob("report.html"))


def arrive(batch: BatchFolder, data: bytes, name: str = "shard-00000.tar") -> Path:
    (batch.folder / "arrived").mkdir(exist_ok=True)
    file = batch.folder / "arrived" / name
    file.write_bytes(data)
    return file


def sent(batch: BatchFolder, tmp_path: Path) -> dict[str, bytes]:
    """What a node sends of shard 0: a result, a failure, its journal."""
    node = BatchFolder(tmp_path / "node")
    node.results.mkdir(parents=True)
    (node.results / "journal").mkdir()
    batch.publish(A, results=node.results)
    (node.results / B.key[:2]).mkdir(exist_ok=True)
    why = {"key": B.key, "name": B.path, "kind": "recording", "stage": "demux", "reason": "it has no sound"}
    (node.results / B.key[:2] / f"{B.key}.failed.json").write_text(json.dumps(why))
    node.journal(0, begin(0), done(A), failed(B), end(8))
    return made.members_of(node.results)


def test_what_a_node_sent_is_published(batch: BatchFolder, tmp_path: Path) -> None:
    """As on a shared disk; the tar goes, and another one of the same changes nothing."""
    members = sent(batch, tmp_path)
    file = arrive(batch, made.tar(members))
    found = command("collect", batch.folder)
    assert (found["taken"], found["published"], found["refused"]) == (["shard-00000.tar"], 1, [])
    assert counts(found["status"]) == [4, 1, 1, 1, 0, 1]
    assert not file.exists()
    there = made.members_of(batch.results)
    assert {name: data for name, data in there.items() if not name.endswith("report.html")} == members
    assert list(batch.results.glob(".tmp-*")) == []
    arrive(batch, made.tar(members))
    found = command("collect", batch.folder)
    assert (found["taken"], found["published"]) == (["shard-00000.tar"], 0)
    assert made.members_of(batch.results) == there


def test_a_second_result_that_differs_is_told(batch: BatchFolder, tmp_path: Path) -> None:
    """The first one stays."""
    members = sent(batch, tmp_path)
    first = batch.publish(A, said={**made.SAID, "language": "de"})
    before = made.members_of(first)
    arrive(batch, made.tar(members))
    found = command("collect", batch.folder, "--no-pages")
    assert (found["published"], found["status"]["differing"]) == (0, 1)
    assert made.members_of(first) == before


def test_a_node_says_nothing_of_what_it_doesn_t_bring(batch: BatchFolder, tmp_path: Path) -> None:
    """A journal that claims results of others isn't believed; a result of no plan is passed over."""
    members = sent(batch, tmp_path)
    name = next(name for name in members if name.startswith("journal/"))
    stranger = item("unknown.wav")
    batch.publish(stranger, results=tmp_path / "stranger")
    members |= made.members_of(tmp_path / "stranger")
    members[name] = b"".join(
        json.dumps(one).encode() + b"\n" for one in (begin(0), done(A), done(C), failed(C), done(B))
    )
    arrive(batch, made.tar(members))
    found = command("collect", batch.folder, "--no-pages")
    assert found["published"] == 1
    assert counts(found["status"]) == [4, 1, 0, 1, 0, 2]
    assert not folder_of(batch.results, stranger.key).exists()


def odd(name: str, kind: bytes, **more: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in more.items():
        setattr(info, key, value)
    return info


def _changed(members: dict[str, bytes], name: str, data: bytes) -> dict[str, bytes]:
    full = next(full for full in members if full.endswith(name))
    return {**members, full: data}


ATTACKS: dict[str, tuple[Callable[[dict[str, bytes]], bytes], str]] = {
    "a path that leads out": (lambda m: made.tar({**m, "../../evil": b"x"}), "is no file of a shard's results"),
    "an absolute path": (lambda m: made.tar({**m, "/tmp/evil": b"x"}), "is no file of a shard's results"),
    "a path that leads out of a result": (
        lambda m: made.tar({**m, f"{A.key[:2]}/{A.key}/output/../../x": b"x"}),
        "is no file of a shard's results",
    ),
    "a page of its own": (
        lambda m: made.tar({**m, f"{A.key[:2]}/{A.key}/report.html": b"<script>"}),
        "is no file of a shard's results",
    ),
    "a key in another's folder": (lambda m: made.tar({**m, f"00/{A.key}/job.yaml": b"x"}), "is no file of"),
    "a link": (
        lambda m: made.tar(m, odd=[odd(f"{A.key[:2]}/{A.key}/output", tarfile.SYMTYPE, linkname="/etc")]),
        "neither a file nor a folder",
    ),
    "a hard link": (
        lambda m: made.tar(m, odd=[odd("journal/x", tarfile.LNKTYPE, linkname="/etc/passwd")]),
        "neither a file nor a folder",
    ),
    "a device": (lambda m: made.tar(m, odd=[odd("journal/x", tarfile.CHRTYPE)]), "neither a file nor a folder"),
    "a FIFO": (lambda m: made.tar(m, odd=[odd("journal/x", tarfile.FIFOTYPE)]), "neither a file nor a folder"),
    "a sparse file": (
        lambda m: made.tar(m, odd=[odd("journal/x", tarfile.GNUTYPE_SPARSE)]),
        "neither a file nor a folder",
    ),
    "a header of any size": (
        lambda m: odd("x", tarfile.GNUTYPE_LONGNAME, size=1 << 40).tobuf(tarfile.GNU_FORMAT) + bytes(1024),
        "not a tar",
    ),
    "a terabyte": (
        lambda m: odd(f"{A.key[:2]}/{A.key}/output/x", tarfile.REGTYPE, size=1 << 40).tobuf(tarfile.GNU_FORMAT),
        "cut short",
    ),
    "cut short": (lambda m: made.tar(m)[:3000], "cut short"),
    "cut between two files": (lambda m: made.tar(m, end=b""), "has no end.json"),
    "nothing": (lambda m: b"", "cut short"),
    "no tar": (lambda m: b"x" * 2048, "not a tar"),
    "a wrong sum": (lambda m: made.tar(_changed(m, "talk.txt", b"other"), said=_sums(m)), "is not what end.json says"),
    "one file more": (lambda m: made.tar({**m, f"{A.key[:2]}/{A.key}/output/x": b""}, said=_sums(m)), "end.json says"),
    "one file less": (lambda m: made.tar(dict([*m.items()][1:]), said=_sums(m)), "end.json says"),
    "an end that is no object": (lambda m: made.tar(m, end=b"[]"), "end.json is not what"),
    "an end that is nested": (lambda m: made.tar(m, end=b"[" * 100_000), "end.json is not JSON"),
    "an end of another version": (lambda m: made.tar(m, end=b'{"schema":2,"members":{}}'), "end.json is not what"),
    "other bytes than its digest": (
        lambda m: made.tar(_changed(m, "talk.txt", b"other")),
        "not what its result.json says",
    ),
    "another's result": (
        lambda m: made.tar({name.replace(A.key, A.key[:-1] + "0"): data for name, data in m.items()}),
        "not what its result.json says",
    ),
    "a failure without a reason": (lambda m: made.tar(_changed(m, ".failed.json", b"{}")), "doesn't say why"),
    "a reason of a megabyte": (lambda m: made.tar(_changed(m, ".failed.json", b"x" * (1 << 20))), "too large"),
}


def _sums(members: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}


def test_what_an_attacker_sends_is_refused(batch: BatchFolder, tmp_path: Path) -> None:
    """Each for its own reason; nothing of it is published, it stays where it is, and what is right beside it is taken."""
    members = sent(batch, tmp_path)
    for number, (attack, _) in enumerate(ATTACKS.values()):
        arrive(batch, attack(members), f"shard-{number:05}.tar")
    (batch.folder / "arrived" / "shard-99998.tar").symlink_to("/dev/zero")
    os.mkfifo(batch.folder / "arrived" / "shard-99997.tar")
    before = {path for path in tmp_path.rglob("*") if "arrived" not in path.parts}
    found = command("collect", batch.folder, "--no-pages", code=5)
    refused = {each["file"]: each["reason"] for each in found["refused"]}
    for number, (what, (_, reason)) in enumerate(ATTACKS.items()):
        assert reason in refused[f"shard-{number:05}.tar"], what
    assert len(refused) == len(ATTACKS) + 2
    assert (found["taken"], found["published"]) == ([], 0)
    after = {path for path in tmp_path.rglob("*") if "arrived" not in path.parts}
    assert {path.name for path in after - before} == {"report.html", ".collect.lock"}
    assert not Path("/tmp/evil").exists()
    arrive(batch, made.tar(members), "shard-99999.tar")
    assert command("collect", batch.folder, "--no-pages", code=5)["taken"] == ["shard-99999.tar"]


def test_names_of_any_length_and_script_arrive(batch: BatchFolder, tmp_path: Path) -> None:
    members = sent(batch, tmp_path)
    long = f"{A.key[:2]}/{A.key}/logs/{'ü' * 120}.log"
    members[long] = b"said"
    arrive(batch, made.tar(members))
    assert command("collect", batch.folder, "--no-pages")["published"] == 1
    assert (batch.results / long).read_bytes() == b"said"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_can_t_be_written(batch: BatchFolder) -> None:
    batch.folder.chmod(0o555)
    try:
        assert command("collect", batch.folder, code=3)["error"]["kind"] == "missing"
    finally:
        batch.folder.chmod(0o755)


def test_collecting_can_be_interrupted(batch: BatchFolder) -> None:
    """What is there is whole, and the next collect goes on from it."""
    items = [item(f"{k:03}.wav") for k in range(150)]
    batch.plan(*items)
    for one in items:
        batch.publish(one)
    batch.journal(0, *(done(one) for one in items))
    ran = subprocess.Popen(
        [sys.executable, str(ROOT / "build.py"), "batch", "collect", str(batch.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    ends = time.monotonic() + 60
    while len(list(batch.results.rglob("report.html"))) < 20:
        assert time.monotonic() < ends
        assert ran.poll() is None, ran.stderr
    ran.send_signal(signal.SIGINT)
    assert ran.wait(timeout=20) == 130
    pages = list(batch.results.rglob("report.html"))
    assert 20 <= len(pages) < 150
    assert all(page.read_text().rstrip().endswith("</html>") for page in [*pages, batch.folder / "report.html"])
    assert not list(batch.folder.rglob("*.tmp"))
    noted = (batch.folder / "pages.txt").read_text().split()
    assert 150 - len(noted) == command("collect", batch.folder)["pages"]
    assert len(list(batch.results.rglob("report.html"))) == 150
