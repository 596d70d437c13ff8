"""Speakers are named and words are changed in a finished job: every file says so, and nothing takes it back but undo."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import ROOT, Bake
from tests.shared import Ran, native_python

ALL = "srt,vtt,words.vtt,ass,karaoke.ass,ttml,scc,txt,docx,csv,tsv,json,rttm"

READ_DOCX = """
import sys, docx
print("\\n".join(p.text for p in docx.Document(sys.argv[1]).paragraphs))
"""
"""Runs in the stages' python: the tests' own has no python-docx."""

READ_SCC = """
import sys, pathlib
from ttconv import model
from ttconv.scc import reader
body = reader.to_model(pathlib.Path(sys.argv[1]).read_text()).get_body()
print("".join(e.get_text() if isinstance(e, model.Text) else " " for e in body.dfs_iterator()))
"""

READ_TRACK = """
import sys, av
with av.open(sys.argv[1]) as film:
    track = next(s for s in film.streams if s.type == "subtitle")
    sys.stdout.buffer.write(b"\\n".join(bytes(p) for p in film.demux(track)))
"""


def in_stages(script: str, file: Path) -> bytes:
    return subprocess.run([native_python(), "-c", script, file], check=True, capture_output=True).stdout


@pytest.fixture
def job(bake: Bake, transcribed: Path, tmp_path: Path) -> Path:
    """The finished example with all formats, in a folder of the test's own."""
    folder = tmp_path / "jobs" / transcribed.name
    shutil.copytree(transcribed, folder)
    spec = yaml.safe_load((folder / "job.yaml").read_text())
    next(s for s in spec["stages"] if s["name"] == "subtitles")["settings"]["formats"] = ALL
    (folder / "job.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    ran = bake("run", folder.name)
    assert ran.code == 0, ran.err
    return folder


def files(job: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((job / "output").iterdir())}


def whole(job: Path) -> Any:
    return json.loads((job / "output/dialogue.json").read_text())


def text_of(job: Path) -> dict[str, str]:
    """Each format as text."""
    read: dict[str, Callable[[Path], bytes]] = {
        ".scc": lambda p: in_stages(READ_SCC, p),
        ".docx": lambda p: in_stages(READ_DOCX, p),
        ".mp4": lambda p: in_stages(READ_TRACK, p),
    }
    return {p.name: read.get(p.suffix, Path.read_bytes)(p).decode() for p in (job / "output").iterdir()}


def script(tmp_path: Path, *changes: str) -> dict[str, str]:
    """An editor that changes the text with sed."""
    path = tmp_path / "editor.sh"
    words = " ".join(f"-e {shlex.quote(change)}" for change in changes)
    path.write_text(f'sed -i {words} "$1"\n')
    return {"VISUAL": f"sh '{path}'", "EDITOR": "false", "TMPDIR": str(tmp_path)}


def test_names_reach_every_file_and_undo_takes_them_back(bake: Bake, job: Path) -> None:
    """Also the track in the film; the bytes before come back."""
    before = files(job)
    ran = bake("jobs", "name", job.name, "S1=Ada Lovelace", "--json")
    assert ran.code == 0, ran.err
    assert ran.data["names"] == {"01": {"S1": "Ada Lovelace"}}
    assert sorted(Path(f).name for f in ran.data["files"]) == sorted(before)
    for name, text in text_of(job).items():
        assert ("Ada_Lovelace" if name.endswith(".rttm") else "Ada Lovelace") in text, name
        assert name.endswith((".json", ".rttm")) or "Speaker 1" not in text, name
    assert bake("run", job.name).code == 0  # a resume loses nothing
    assert "Ada Lovelace: " in text_of(job)["dialogue.srt"]
    assert bake("jobs", "undo", job.name).code == 0
    assert files(job) == before
    again = bake("jobs", "undo", job.name)
    assert again.code == 2
    assert "was not changed by hand" in again.said


def test_an_edited_word_reaches_every_file_and_the_others_keep_their_times(
    bake: Bake, job: Path, tmp_path: Path
) -> None:
    before = [w for s in whole(job)["segments"] for w in s["words"]]
    place = next(k for k, w in enumerate(before) if w["word"] == " pleasure")
    ran = bake("jobs", "edit", job.name, "--json", env=script(tmp_path, "s/ pleasure/ <great> joy/"))
    assert ran.code == 0, ran.err
    assert ran.data["edited"] == ["01"]
    after = [w for s in whole(job)["segments"] for w in s["words"]]
    assert after[:place] == before[:place]
    assert after[place + 2 :] == before[place + 1 :]
    new = after[place : place + 2]
    assert [w["word"] for w in new] == [" <great>", " joy"]
    assert before[place]["start"] == new[0]["start"] <= new[0]["end"] <= new[1]["start"] <= new[1]["end"]
    for name, text in text_of(job).items():
        assert name.endswith(".rttm") or "joy" in text, name
        assert name.endswith(".rttm") or "pleasure" not in text, name
    rows = list(csv.DictReader(io.StringIO((job / "output/dialogue.csv").read_text("utf-8-sig"))))
    assert any("<great> joy" in row["text"] for row in rows)
    assert list(tmp_path.glob("whisperbake-*")) == []  # what the editor had is gone
    edit = json.loads((job / "input/edits.json").read_text())
    assert len(edit["recordings"]["01"]["turns"]) > 2
    assert bake("run", job.name, "--from", "asr").code == 0  # heard anew, and still as a person has it
    assert [w["word"] for s in whole(job)["segments"] for w in s["words"]] == [w["word"] for w in after]


def test_a_bad_edit_changes_nothing_and_is_kept(bake: Bake, job: Path, tmp_path: Path) -> None:
    """Empty, or a time that is not the transcript's: exit 2, the line, the file; mended, it is read from there."""
    before = files(job)
    for change, why in (("d", "recording 01 is gone"), ("s/^.0:00:/[7:00:/", "is not a time of this transcript")):
        ran = bake("jobs", "edit", job.name, env=script(tmp_path, change))
        assert ran.code == 2
        assert why in ran.said
        (kept,) = tmp_path.glob("whisperbake-*")
        assert f"jobs edit {job.name} --from {kept}" in ran.said
        text = kept.read_text()
        kept.unlink()
    assert files(job) == before
    assert not (job / "input/edits.json").exists()
    fixed = tmp_path / "fixed.txt"
    fixed.write_text(text.replace("[7:00", "[0:00").replace("morning", "evening"))
    ran = bake("jobs", "edit", job.name, "--from", str(fixed))
    assert ran.code == 0, ran.err
    assert "evening" in (job / "output/dialogue.txt").read_text()
    assert fixed.exists()  # a person's own file stays
    ran = bake(
        "jobs",
        "edit",
        job.name,
        env=script(tmp_path, "s/xyzzy//"),
    )
    assert (ran.code, ran.out) == (0, "nothing was changed\n")


def test_an_edit_that_was_killed_is_there_at_the_next_run(bake: Bake, job: Path) -> None:
    """kill -9 while the files are written again: what was recorded is not lost."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "build.py"), "jobs", "name", job.name, "S2=Charles"],
        env={**os.environ, "BAKE_JOBS": str(job.parent)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 60
    while not (job / "input/edits.json").exists():
        assert time.monotonic() < end
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    ran = bake("run", job.name, "--json")
    assert ran.code == 0, ran.err
    assert "Charles: " in (job / "output/dialogue.srt").read_text()


def test_a_job_without_a_transcript_or_one_that_runs_is_left_alone(bake: Bake, job: Path) -> None:
    def refused(*words: str) -> Ran:
        ran = bake("jobs", *words)
        assert ran.code == 2
        return ran

    assert "nobody is called" in refused("name", job.name, "S7=Ada").said
    assert "no name is given" in refused("name", job.name).said
    assert "names nobody" in refused("name", job.name, "Ada").said
    (job / "work/subtitles/01.transcript.json").unlink()
    (job / "output/dialogue.json").unlink()
    assert "no transcript yet" in refused("name", job.name, "S1=Ada").said
    (job / "work/subtitles/01.transcript.json").symlink_to("/etc/hostname")  # a link counts as not there
    assert "no transcript yet" in refused("edit", job.name).said
