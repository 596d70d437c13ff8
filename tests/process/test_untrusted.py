"""What stages, containers and strangers leave in a job's folder: nothing is read through a link, waited for, or read whole.

Each kind of thing stands in the place of each file that a command reads. The commands go on, and what isn't a file of the job
counts as not there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.core.config.types import Config
from builder.core.jobs.page import render
from builder.edges.jobs import edits, folder, listing, outcome, page
from builder.edges.jobs.hosts import compose
from builder.edges.jobs.record.log import END, MOST, StageLog
from builder.edges.machine import project
from builder.edges.system import shell
from builder.errors import BakeError
from builder.receiver.jobs import run as loader
from builder.receiver.jobs.kept import named_images
from builder.receiver.jobs.untrusted import (
    append_below,
    names_below,
    open_below,
    parse_json,
    read_below,
    sha256_below,
    size_below,
)
from builder.views.jobs import LIST, LOGS, SHOW
from builder.workflows import jobs
from tests import small_project
from tests.process.test_hostile_jobs import ID, bake, made, write
from tests.process.test_hostile_jobs import root as root

CANARY = "c4n4ry"
"""What stands in a file elsewhere: no command shows it."""

PATIENCE = 60
"""Seconds that all commands together may take: most take a hundredth of it."""


def link(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere)


def fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def device(path: Path, _: Path) -> None:
    path.symlink_to("/dev/zero")


def plug(path: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end, contextlib.chdir(path.parent):
        end.bind(path.name)


def directory(path: Path, _: Path) -> None:
    path.mkdir()


def hole(path: Path, _: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def deep(path: Path, _: Path) -> None:
    path.write_text('{"schema": 1, "segments": ' + "[" * 200_000)


def line(path: Path, _: Path) -> None:
    path.write_bytes(b'{"event": "end", "t": 1, "message": "')
    os.truncate(path, 100 << 20)


def nonsense(path: Path, _: Path) -> None:
    path.write_text(
        '{"schema": 1, "event": ["end"], "stage": {}, "t": 1e999, "outputs": ["output/../../x"], "notes": 7, "duration": "x",'
        ' "streams": 7, "timings": {"total": "NaN"}, "segments": [{"words": {"a": 1}}], "inputs": null}\n'
    )


KINDS: tuple[Callable[[Path, Path], None], ...] = (link, fifo, device, plug, directory, hole, deep, line, nonsense)

FILES = (
    "events.jsonl",
    ".containers",
    "compose.yaml",
    "input/edits.json",
    "edits/0001.json",
    "logs/asr.log",
    "work/demux/manifest.json",
    "work/demux/01.json",
    "work/demux/01.wav",
    "work/subtitles/01.transcript.json",
    "output/talk.json",
    "output/talk.srt",
    "output/talk.mp4",
)
"""What commands read of a job."""


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """An error after :data:`PATIENCE` seconds, also in a system call that waits for ever."""

    def end(*_: object) -> None:
        raise AssertionError("it waits for ever")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def looked_at(config: Config, place: Path) -> str:
    """All that the commands that look at a job say of it; errors that they name are words, too."""
    listed = str(LIST.text(jobs.list_jobs(config)))
    try:
        job = listing.find(config, place.name)
    except BakeError as error:  # containers can't have put that there: it isn't a job of ours
        assert "broken" in listed
        return f"{listed} {error.what}"

    def shown() -> str:
        return str(SHOW.text(jobs.show(config, place.name)))

    def logged() -> str:
        return "\n".join(str(LOGS.text(each)) for each in jobs.logs(config, place.name, None, follow=False))

    def paged() -> str:
        made = page.gather(config, job, out=place / "report.html", limit=10_000_000)
        return render(made, page.templates(small_project.ROOT))

    def edited() -> str:
        return f"{edits.read(place)} {edits.transcripts(job, place)}"

    def judged() -> str:
        collected = outcome.collect(job, place, stages=(), seconds=0)
        whys = [outcome.unfinished(config, job, place, stage) for stage in job.stages]
        assert None not in whys  # nothing that was left there is a result of ours
        return f"{collected} {whys} {outcome.failure(place, 'asr', 1, since=0)} {folder.failed_before(place)}"

    said = [listed]
    for look in (shown, logged, paged, edited, judged):
        try:
            said.append(look())
        except BakeError as error:
            said.append(f"{error.what} {error.detail}")
    said += [str(named_images(place.parent)), str(loader.StageEvents(place).progress("asr"))]
    said += [str(loader.results_of(place)), str(names_below(place, "output"))]
    return "\n".join(said)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_is_no_file_of_the_job_is_not_there(
    root: Path, tmp_path: Path, kind: Callable[[Path, Path], None]
) -> None:
    """In the place of each file that a command reads."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(f'{CANARY}\n{{"schema": 1, "segments": [], "message": "{CANARY}", "notes": ["{CANARY}"]}}\n')
    config = project.load(root, env={})
    job = made(root)
    for name in FILES:
        place = write(root, job)
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        kind(place / name, elsewhere)
        with patience():
            said = looked_at(config, place)
            if name == "edits/0001.json" and kind not in (deep, nonsense, line):
                assert not edits.undo(place)
            if name == ".containers" and kind is not directory:
                compose.clean(place)
        assert CANARY not in said, name
        assert "root:" not in said
        shutil.rmtree(place)
    assert elsewhere.read_text().startswith(CANARY)


@pytest.mark.parametrize("name", ["work/demux", "work/subtitles"])
def test_a_folder_in_the_place_of_a_folder_is_not_entered_through_a_link(root: Path, tmp_path: Path, name: str) -> None:
    """Only the last part of a path was looked at: ``work/demux`` led anywhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for leaf in ("manifest.json", "01.json", "01.transcript.json", "asr.log", "0001.json", "01.wav"):
        (elsewhere / leaf).write_text(json.dumps({"schema": 1, "notes": [CANARY], "segments": [], "text": CANARY}))
    place = write(root, made(root))
    (place / name).symlink_to(elsewhere)
    with patience():
        assert CANARY not in looked_at(project.load(root, env={}), place)
        assert size_below(place, f"{name}/manifest.json") is None
        assert names_below(place, name) == []
        with pytest.raises(OSError, match=name):
            append_below(place, f"{name}/asr.log")


def manifest(config: Config, place: Path, **changes: Any) -> dict[str, Any]:
    """What demux would write of a job that it has done."""
    stage = made(config.root).stage("demux")
    (place / "work/demux").mkdir(exist_ok=True)
    data = {
        "schema": 1,
        "code": outcome.code_digest(config.shipped / "stages", "demux"),
        "settings": dict(stage.settings),
        "models": {},
        "inputs": {},
        "outputs": {},
        "notes": [],
        "timings": {"total": 1.0},
    }
    return {**data, **changes}


PASSWD = "sha256:" + (sha256_below(Path("/etc"), "passwd", 1 << 20) or "")

WRONG: tuple[dict[str, Any], ...] = (
    {"outputs": ["output/talk.mp4"]},
    {"outputs": {"output/talk.mp4": None}},
    {"outputs": {"../../../../etc/passwd": PASSWD}},
    {"outputs": {"output/../../../../../../../../etc/passwd": PASSWD}},
    {"outputs": {"/etc/passwd": PASSWD}},
    {"outputs": {"output/..": PASSWD}},
    {"outputs": {"output/a\u001b[2Jb": PASSWD}},
    {"outputs": {"work/asr/01.json": PASSWD}},
    {"outputs": {"output/talk\u0000.srt": PASSWD}},
    {"inputs": {"/etc/passwd": PASSWD}},
    {"inputs": 7},
    {"notes": "abc"},
    {"notes": [{"a": 1}]},
    {"timings": {"total": "1"}},
    {"timings": [1]},
    {"peak_bytes": "many"},
    {"peak_bytes": -1},
    {"cpu_seconds": -1},
    {"cpu_seconds": "many"},
    {"schema": 2},
    {"models": []},
    {"settings": []},
)


def test_a_manifest_is_what_a_stage_writes_or_is_not_there(root: Path) -> None:
    """Another shape, or a path that leads out of what the stage may write: the stage runs again, and no file is named."""
    config = project.load(root, env={})
    place, job = write(root, made(root)), made(root)
    path = place / "work/demux/manifest.json"
    good = manifest(config, place)
    path.write_text(json.dumps(good))
    assert outcome.unfinished(config, job, place, job.stage("demux")) is None
    for change in WRONG:
        path.write_text(json.dumps({**good, **change}))
        assert outcome.unfinished(config, job, place, job.stage("demux")) == "not run yet", change
        shown = jobs.show(config, ID)
        assert (shown.files, shown.notes, shown.stages[0].done) == ((), (), False)


@pytest.mark.parametrize(
    "text", ["1e999", "NaN", "-Infinity", "1" * 5000, '{"a": 1, "a": 2}', '"\\ud800"', "[" * 70 + "]" * 70]
)
def test_json_that_is_not_what_it_seems_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text.encode())


def test_results_larger_than_recordings_can_make_are_not_read(root: Path) -> None:
    """A hole of a terabyte takes nothing on the disk, and ten minutes to read: it isn't a result."""
    config = project.load(root, env={})
    place, job = write(root, made(root)), made(root)
    vast = f"sha256:{'0' * 64}"
    (place / "work/demux").mkdir()
    hole(place / "work/demux/01.wav", place)
    text = json.dumps(manifest(config, place, outputs={"work/demux/01.wav": vast}))
    (place / "work/demux/manifest.json").write_text(text)
    with patience():
        assert outcome.unfinished(config, job, place, job.stage("demux")) == "work/demux/01.wav is gone"


def test_a_broken_job_is_one_row_that_says_so(root: Path) -> None:
    """And takes no other with it: not for people, not for programs."""
    good = write(root, made(root))
    ids = [f"20261123-200312-talk-{number:04x}" for number in range(1, 8)]
    places = [write(root, made(root, id_), id_) for id_ in ids]
    (places[0] / "job.yaml").write_text("[" * 5000)
    (places[1] / "job.yaml").write_bytes(b"\xff\xfe")
    (places[2] / "job.yaml").unlink()
    os.mkfifo(places[2] / "job.yaml")
    (places[3] / "job.yaml").unlink()
    (places[4] / "job.yaml").write_text("id: \x1b]0;owned\x07\n")
    (places[5] / "events.jsonl").unlink(missing_ok=True)
    (places[5] / "events.jsonl").symlink_to("/dev/zero")
    (places[6] / "events.jsonl").write_text('{"a":' * 100_000 + "\n" + '{"t": 1, "event": "end"}\n')
    (root / "jobs/mine").mkdir()
    done = bake(root, "--json", "jobs", "list")
    assert done.code == 0, done.err
    rows = {row["id"]: row for row in json.loads(done.out)}
    assert set(rows) == {good.name, *ids}
    assert [rows[id_]["state"] for id_ in ids] == ["broken"] * 6 + ["done"]
    assert all(rows[id_]["problem"] for id_ in ids[:6])
    assert rows[good.name] == rows[good.name] | {"state": "prepared", "inputs": ["talk.mp4"]}
    assert "problem" not in rows[good.name]
    table = bake(root, "jobs", "list").out
    assert len(table.splitlines()) == 9
    assert "\x1b" not in table


def test_a_log_is_bounded_where_it_is_written_and_where_it_is_read(tmp_path: Path) -> None:
    """A stage that prints without end: the beginning stays, and the end, which says why it failed."""
    (tmp_path / "logs").mkdir()
    log = StageLog(tmp_path, "logs/asr.log")
    process = shell.start(["sh", "-c", "yes 0123456789 | head -c 50000000; echo; echo the reason"], piped=True)
    assert shell.drain(process, log.add) == 0
    log.close()
    size = (tmp_path / "logs/asr.log").stat().st_size
    assert MOST < size < MOST + END + 200
    assert outcome._lines(tmp_path, "asr", 0)[-1] == "the reason"
    pieces, offset, before = 0, 0, -1
    while offset != before:
        before = offset
        lines, offset = folder.log_lines(tmp_path, "asr", before, whole=False)
        assert sum(map(len, lines)) <= folder.LOG_AT_ONCE
        pieces += 1
    assert (offset, pieces > 8) == (size, True)


def test_a_process_that_leaves_children_behind_ends_all_the_same() -> None:
    """They hold the pipe open; what they print is nobody's."""
    heard: list[bytes] = []
    process = shell.start(["sh", "-c", "sleep 60 & echo here"], piped=True)
    with patience():
        assert shell.drain(process, heard.append) == 0
    assert heard == [b"here\n"]
    os.killpg(process.pid, signal.SIGKILL)


def test_what_a_program_prints_is_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The container that looks into a recording may be the recording's."""
    monkeypatch.setattr(shell, "MOST", 1000)
    done = shell.run(["sh", "-c", "yes | head -c 1000000; yes n | head -c 1000000 >&2"], timeout=30)
    assert (len(done.out), len(done.err), done.code) == (1000, 1000, 0)
    assert shell.run(["cat"], stdin=b"abc").out == "abc"
    assert shell.run(["sh", "-c", "echo a; exec sleep 60"], timeout=0.5) == shell.Done(code=-9, out="a\n", err="")


def test_events_without_end_are_read_at_both_ends(root: Path) -> None:
    """The orchestrator's last word is at the end of the file, whatever a stage wrote before it."""
    place = write(root, made(root))
    noise = json.dumps({"t": 2, "stage": "asr", "event": "text", "text": "x" * 400}).encode() + b"\n"
    with (place / "events.jsonl").open("wb") as out:
        out.write(b'{"t": 1, "stage": "demux", "event": "start"}\n{"t": 1, "event": "begin"}\n')
        out.write(noise * (64_000_000 // len(noise)))
        out.write(b'\n{"t": 9, "event": "fail", "message": "flooded"}\n')
    with patience():
        assert folder.state(place) == "failed"
        assert len(list(folder.events(place))) < 50_000


def test_the_door_itself(tmp_path: Path) -> None:
    """Paths that lead out, and what stands in the place of a file or of a folder on the way."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("text")
    (tmp_path / "a/link").symlink_to("b")
    (tmp_path / "a/out").symlink_to("/etc")
    assert read_below(tmp_path, "a/b/file", 4) == b"text"
    assert read_below(tmp_path, "a/b/file", 3) is None
    for name in (
        "a/../a/b/file",
        "/etc/passwd",
        "a/link/file",
        "a/out/passwd",
        "",
        ".",
        "..",
        "a//b/file",
        "a/b",
        "x\0y",
    ):
        assert size_below(tmp_path, name) is None, name
        assert sha256_below(tmp_path, name, 1 << 20) is None
        with pytest.raises(OSError, match=r".+"):
            open_below(tmp_path, name)
        with pytest.raises(OSError, match=r".+"):
            append_below(tmp_path, name)
    (tmp_path / "a/b/file").unlink()
    os.mkfifo(tmp_path / "a/b/file")
    with patience(), pytest.raises(OSError, match=r".+"):
        append_below(tmp_path, "a/b/file")
    (tmp_path / "jobs").symlink_to("a")
    assert names_below(tmp_path / "jobs") == []
    assert names_below(tmp_path, "a") == ["b", "link", "out"]
