"""Known voices on the disk: for their owner alone, and in a job no more than it is to know."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from builder.core.config.types import Config
from builder.core.jobs.job import Job
from builder.core.jobs.request import JobOptions, Request
from builder.core.progress import silent
from builder.core.terms import Purpose
from builder.core.voices import known
from builder.core.weights.model import model_digest
from builder.edges.bundle.acceptance import Acceptance, with_voices
from builder.edges.jobs import folder as jobs
from builder.edges.jobs import prepare as preparing
from builder.edges.machine import project, voices
from builder.errors import UsageError
from builder.receiver.jobs import job as loader_job
from builder.receiver.jobs import recordings
from builder.receiver.parts import Bundle
from builder.receiver.unpack import unpack
from builder.receiver.writing import Incoming
from builder.workflows import bundle, host
from builder.workflows.images import ImageSelection
from builder.workflows.voices import commands
from tests import small_project
from tests.process.test_hostile_jobs import asked
from tests.process.test_job_modes import media
from tests.unit.test_voices import voice


@pytest.fixture
def config(tmp_path: Path) -> Config:
    small_project.make(tmp_path / "project", {}, fill=False)
    return project.load(tmp_path / "project", env={})


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_voice_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask is, and however the name is spelled: no path leads out of the folder."""
    folder = tmp_path / "voices"
    before = os.umask(0)
    try:
        for name in ("../../etc/passwd", "a/b", "愛\u202e", "-rf", ".", "x" * 60):
            path = voices.put(folder, voice(name))
            assert path.parent == folder
            assert mode(path) == 0o600
    finally:
        os.umask(before)
    assert mode(folder) == 0o700
    assert len(voices.read(folder).voices) == 6


def test_the_same_name_replaces_and_another_model_is_beside(tmp_path: Path) -> None:
    voices.put(tmp_path, voice("Ada", seconds=10.0))
    voices.put(tmp_path, voice("ADA", seconds=20.0))
    voices.put(tmp_path, voice("Ada", digest="sha256:2"))
    assert [(v.name, v.seconds) for v in voices.read(tmp_path).voices] == [("ADA", 20.0), ("Ada", 30.0)]


def test_what_is_no_voice_is_shown_and_never_taken(tmp_path: Path) -> None:
    """Nor is a file that has another's name: each voice can be found by its name."""
    folder = tmp_path / "voices"
    path = voices.put(folder, voice("Ada"))
    (folder / "broken.json").write_text("{")
    (folder / "copy.json").write_bytes(path.read_bytes())
    (folder / "notes.txt").write_text("mine")
    (tmp_path / "elsewhere.json").write_text(known.to_json(voice("Mallory")))
    (folder / voice("Mallory").file).symlink_to(tmp_path / "elsewhere.json")
    os.mkfifo(folder / "pipe.json")
    found = voices.read(folder)
    assert [v.name for v in found.voices] == ["Ada"]
    assert {p.name for p in found.strange} == {"broken.json", "copy.json", voice("Mallory").file, "pipe.json"}


def test_names_are_removed_together_or_not_at_all(config: Config) -> None:
    for name in ("Ada", "Charles"):
        voices.put(config.paths.voices, voice(name))
    voices.put(config.paths.voices, voice("Ada", digest="sha256:2"))
    with pytest.raises(UsageError, match='no voice of "Adda"') as caught:
        commands.remove(config, ["Charles", "Adda"], dry_run=False)
    assert caught.value.hint == 'did you mean "Ada"?'
    assert len(commands.remove(config, ["ada"], dry_run=True).voices) == 2
    assert len(voices.read(config.paths.voices).voices) == 3
    assert len(commands.remove(config, ["ada"], dry_run=False).voices) == 2
    assert [v.name for v in commands.list_voices(config).voices] == ["Charles"]


def test_names_steer_no_terminal(config: Config) -> None:
    voices.put(config.paths.voices, voice("Eve\u202e", consent="by \u202email"))
    done = small_project.bake(config.root, "voices", "list")
    assert done.code == 0, done.err
    assert "\u202e" not in done.out
    assert "Eve\\u202e" in done.out
    listed = json.loads(small_project.bake(config.root, "voices", "list", "--json").out)
    assert [entry["name"] for entry in listed["voices"]] == ["Eve\u202e"]
    removed = small_project.bake(config.root, "voices", "remove", "Eve\u202e")
    assert (removed.code, "\u202e" in removed.out) == (0, False)


def prepared(config: Config, folder: Path, request: Request, *, resume: bool = False) -> Job:
    talk = folder / "talk.mp4"
    talk.write_bytes(b"film" * 100)
    return preparing.prepare(config, [talk], request, media=media, on_progress=silent, resume=resume)


def knowing(request: Request, name: str) -> Request:
    """A request that has a voice, whatever its embedding."""
    data = known.for_job([voice(name)])
    settings = {"voices": "0" * 63 + str(len(name) % 10)}
    return replace(request, voices=data, settings={**request.settings, "diarize": settings})


def test_a_job_gets_the_voices_in_a_file_of_its_own(config: Config, tmp_path: Path) -> None:
    """Names and vectors, for the owner; a job that knows others is another job."""
    job = prepared(config, tmp_path, knowing(asked(config), "Ada"))
    path = jobs.folder(config, job) / known.FILE
    assert mode(path) == 0o600
    assert [entry["name"] for entry in json.loads(path.read_bytes())["voices"]] == ["Ada"]
    assert b"consent" not in path.read_bytes()
    assert jobs.read(config, jobs.folder(config, job)).id == job.id
    again = prepared(config, tmp_path, knowing(asked(config), "Ada"), resume=True)
    assert again.id == job.id
    other = prepared(config, tmp_path, knowing(asked(config), "Charles"), resume=True)
    assert other.id != job.id
    without = prepared(config, tmp_path, asked(config), resume=True)
    assert not (jobs.folder(config, without) / known.FILE).exists()


def test_a_bundle_says_nothing_of_whom_this_machine_knows(tmp_path: Path) -> None:
    """Its example is run by the sender, and its recipe travels."""
    config = project.load(Path(__file__).resolve().parents[2], env={}, home=tmp_path, overrides={"preset": "starter"})
    models = host.resolve(config, JobOptions()).models
    voices.put(config.paths.voices, voice("Ada", model_digest(models[Purpose.EMBEDDING][1])))
    assert b"Ada" in host.resolve(config, JobOptions()).voices
    for options in (
        bundle._example_options(config, ImageSelection()),
        JobOptions(voices=False),
        JobOptions(diarization=False),
    ):
        quiet = host.resolve(config, options)
        assert (quiet.voices, quiet.warning) == (b"", "")
        assert "voices" not in quiet.settings["diarize"]


def test_a_bundle_carries_voices_only_when_asked(tmp_path: Path) -> None:
    """And is refused where nothing in it would know them, before an image is built."""
    config = project.load(Path(__file__).resolve().parents[2], env={}, home=tmp_path, overrides={"preset": "starter"})
    options = bundle.BundleOptions(out=tmp_path / "out")
    asked_for = replace(options, voices=True)
    with pytest.raises(UsageError, match="no voice is known"):
        bundle._voices(config, ImageSelection(), asked_for)
    models = host.resolve(config, JobOptions()).models
    voices.put(config.paths.voices, voice("Ada", model_digest(models[Purpose.EMBEDDING][1])))
    assert bundle._voices(config, ImageSelection(), options) == b""
    carried = bundle._voices(config, ImageSelection(), asked_for)
    assert [entry["name"] for entry in json.loads(carried)["voices"]] == ["Ada"]
    for wrong in (replace(asked_for, example=False), replace(asked_for, models_only=True)):
        with pytest.raises(UsageError, match="nothing in this bundle would know a voice"):
            bundle._voices(config, ImageSelection(), wrong)
    example = Acceptance(paths={"job": "job/job.json"}, files={"job/job.json": b"{}"})
    made = with_voices(example, carried)
    assert made is not None
    assert made.paths["voices"] == "job/voices.json"
    assert made.files["job/voices.json"] == carried
    assert with_voices(example, b"") == example
    with pytest.raises(UsageError, match="not those of a whole job"):
        with_voices(None, carried)


def test_the_loader_gives_a_job_the_bundles_voices(tmp_path: Path) -> None:
    """As prepare does: the file for its owner alone, and its digest in the settings of the stage that compares."""
    data = known.for_job([voice("Ada")])
    (tmp_path / "job").mkdir()
    (tmp_path / "job/voices.json").write_bytes(data)
    mine = {"acceptance": {"voices": "job/voices.json"}}
    assert recordings._voices(mine, tmp_path) == data
    assert recordings._voices({"acceptance": {}}, tmp_path) is None
    assert recordings._voices({"acceptance": None}, tmp_path) is None
    stages = [{"name": "demux", "settings": {}}, {"name": "diarize", "settings": {"voices": None, "speakers": 2}}]
    digest = hashlib.sha256(data).hexdigest()
    assert loader_job.knowing(stages, data)[1]["settings"] == {"voices": digest, "speakers": 2}
    assert loader_job.knowing(stages, data)[0] == stages[0]
    assert loader_job.knowing(stages, None) == stages
    loader_job.make_parts(tmp_path / "new")
    loader_job.write_voices(tmp_path / "new", data)
    assert mode(tmp_path / "new" / known.FILE) == 0o600
    (tmp_path / "job/voices.json").unlink()
    (tmp_path / "job/voices.json").symlink_to(tmp_path / "new" / known.FILE)
    assert recordings._voices(mine, tmp_path) is None


def test_the_loader_unpacks_voices_for_their_owner_alone(tmp_path: Path) -> None:
    """What else a bundle has beside its images may be read by all."""
    files = {"job/voices.json": b"{}", "job/job.json": b"{}"}
    inventory = {"acceptance": {"job": "job/job.json", "voices": "job/voices.json"}, "layers": {}}
    entries = {path: {"size": 2, "sha256": hashlib.sha256(data).hexdigest()} for path, data in files.items()}
    bundle = SimpleNamespace(files=entries, inventory=inventory, open=lambda path: iter([files[path]]))
    incoming = Incoming(tmp_path)
    unpack(cast(Bundle, bundle), incoming)
    incoming.place()
    assert mode(tmp_path / "job/voices.json") == 0o600
    assert mode(tmp_path / "job/job.json") & 0o444 == 0o444
