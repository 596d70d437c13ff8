"""A voice is added from a part of a recording, and its speaker has the name in every file of the next job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Bake

NAME = "Reader <2> & 愛"


@pytest.fixture
def home(tmp_path: Path, ready: None) -> Path:
    """A state folder of the test's own, with the models and the environment of all tests."""
    folder = tmp_path / "home"
    folder.mkdir()
    for part in ("models", "native"):
        (folder / part).symlink_to(ROOT / ".bake" / part)
    return folder


def test_a_voice_is_known_again(bake: Bake, home: Path, tmp_path: Path) -> None:
    """The job that heard it is gone; with --no-voices, and after it is forgotten, nobody is named."""
    env = {"BAKE_HOME": str(home), "BAKE_PRESET": "starter"}
    recording = ROOT / "examples/dialogue.mp4"
    added = bake("voices", "add", NAME, recording, "--from", "20.8", "--to", "27.0", "--consent", "a test", env=env)
    assert added.code == 0, added.err
    assert list((tmp_path / "jobs").iterdir()) == []
    [file] = (home / "voices").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["consent"] == "a test"
    ran = bake("run", recording, "--preset", "tiny-en", "--models", "campplus", env=env)
    assert ran.code == 0, ran.err
    [job] = (tmp_path / "jobs").iterdir()
    [known] = json.loads((job / "work/diarize/01.json").read_text())["known"]
    assert (known["name"], known["similarity"] >= 0.5) == (NAME, True)
    whole = json.loads((job / "output/dialogue.json").read_text())
    assert NAME in whole["names"].values()
    assert f"{NAME}:" in (job / "output/dialogue.txt").read_text()
    assert "&lt;2&gt; &amp; 愛" in (job / "output/dialogue.vtt").read_text()
    nobody = bake("run", recording, "--preset", "tiny-en", "--models", "campplus", "--no-voices", env=env)
    assert nobody.code == 0, nobody.err
    other = next(folder for folder in (tmp_path / "jobs").iterdir() if folder != job)
    assert not (other / "input/voices.json").exists()
    assert "known" not in json.loads((other / "work/diarize/01.json").read_text())
    assert bake("voices", "remove", NAME, env=env).code == 0
    assert list((home / "voices").iterdir()) == []


def test_too_little_speech_is_refused(bake: Bake, home: Path, tmp_path: Path) -> None:
    env = {"BAKE_HOME": str(home), "BAKE_PRESET": "starter"}
    added = bake("voices", "add", "Ada", ROOT / "examples/dialogue.mp4", "--from", "1", "--to", "3", env=env)
    assert (added.code, "too little to know a voice by" in added.err) == (2, True), added.err
    assert not (home / "voices").exists()
    assert list((tmp_path / "jobs").iterdir()) == []
