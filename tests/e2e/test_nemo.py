"""asr with a transducer of NeMo's: loaded, searched and told of as its files are, on weights of our own making."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import nemo_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def job(transcribed: Path, tmp_path: Path) -> Path:
    """The example's job before asr, for the small model."""
    folder = tmp_path / "jobs" / transcribed.name
    shutil.copytree(transcribed, folder, ignore=shutil.ignore_patterns("asr", "align", "subtitles", "mux", "output"))
    nemo_model.make(tmp_path / "models/hub/nemo")
    return folder


def asr(job: Path, python: Path, *, known: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run the stage on the job with the small model."""
    (job / "job.yaml").chmod(0o644)
    spec = yaml.safe_load((job / "job.yaml").read_text())
    [stage] = [stage for stage in spec["stages"] if stage["name"] == "asr"]
    stage["settings"] |= settings
    stage["models"]["asr"] |= {"id": "small", "path": "hub/nemo", "digest": "sha256:0", "languages": known}
    (job / "job.yaml").write_text(yaml.safe_dump(spec))
    return subprocess.run(
        [str(python), str(ROOT / "stages/asr/main.py"), "--job", str(job)],
        env={**os.environ, "BAKE_MODELS": str(job.parents[1] / "models")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_words_with_times_and_probabilities(job: Path, python: Path) -> None:
    """Greedy tokens become words, in order, within the speech that vad found; a second run gives the same."""
    ran = asr(job, python, known=["en", "de"], language="de")
    assert ran.returncode == 0, ran.stderr
    heard = json.loads((job / "work/asr/01.json").read_text())
    assert (heard["language"], heard["duration"]) == (
        "de",
        json.loads((job / "work/vad/01.json").read_text())["duration"],
    )
    words = [word for segment in heard["segments"] for word in segment["words"]]
    assert len(words) > 5
    assert all(word["word"].startswith(" ") for word in words)
    assert all(a["start"] <= b["start"] for a, b in pairwise(heard["segments"]))
    assert all(
        0 <= word["start"] <= word["end"] <= heard["duration"] and 0 < word["probability"] <= 1 for word in words
    )
    manifest = json.loads((job / "work/asr/manifest.json").read_text())
    assert any("writes the language that it hears: de can't be forced" in note for note in manifest["notes"])
    again = asr(job, python, known=["en", "de"], language="de", threads=1)
    assert again.returncode == 0
    assert json.loads((job / "work/asr/01.json").read_text()) == heard


@pytest.mark.parametrize(
    ("known", "settings", "said"),
    [
        (["en", "de"], {"language": None}, "can't tell which language is spoken: --language en, de"),
        (["en"], {"language": "fr"}, "does not know the language 'fr'"),
        (["en"], {"language": "auto-segments"}, "does not know the language 'auto-segments'"),
        (["en", "de"], {"language": "de", "task": "translate"}, "can't translate"),
    ],
)
def test_what_it_cannot_do_is_refused(
    job: Path, python: Path, known: list[str], settings: dict[str, Any], said: str
) -> None:
    """Never the wrong language in silence."""
    ran = asr(job, python, known=known, **settings)
    assert ran.returncode == 2, ran.stderr
    assert said in ran.stderr.splitlines()[-1]


def test_broken_weights_are_the_models_fault(job: Path, python: Path) -> None:
    """Exit code 5, with the model's name."""
    (job.parents[1] / "models/hub/nemo/encoder-model.int8.onnx").write_bytes(b"nothing")
    ran = asr(job, python, known=["en"], language=None)
    assert ran.returncode == 5
    assert "model small can't be loaded" in ran.stderr.splitlines()[-1]
