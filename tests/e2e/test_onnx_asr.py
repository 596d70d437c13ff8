"""asr by the library onnx-asr: each kind of model loaded, heard and told of as its files are, on weights of our own making."""

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

from tests.conftest import stage_module
from tests.e2e import onnx_asr_models

ROOT = Path(__file__).resolve().parents[2]
KINDS = tuple(stage_module("asr", "onnxasr").KINDS)
CANARY = "nemo-conformer-aed"


@pytest.fixture
def job(transcribed: Path, tmp_path: Path) -> Path:
    """The example's job before asr, for a small model."""
    folder = tmp_path / "jobs" / transcribed.name
    shutil.copytree(transcribed, folder, ignore=shutil.ignore_patterns("asr", "align", "subtitles", "mux", "output"))
    return folder


def asr(
    job: Path, python: Path, kind: str = "nemo-conformer-tdt", *, known: list[str], **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Run the stage on the job with the small model of a kind."""
    model = job.parents[1] / "models/hub/small"
    if not model.exists():
        onnx_asr_models.make(model, kind)
    (job / "job.yaml").chmod(0o644)
    spec = yaml.safe_load((job / "job.yaml").read_text())
    [stage] = [stage for stage in spec["stages"] if stage["name"] == "asr"]
    stage["settings"] |= settings
    stage["models"]["asr"] |= {"id": "small", "path": "hub/small", "digest": "sha256:0", "languages": known}
    (job / "job.yaml").write_text(yaml.safe_dump(spec))
    return subprocess.run(
        [str(python), str(ROOT / "stages/asr/main.py"), "--job", str(job)],
        env={**os.environ, "BAKE_MODELS": str(job.parents[1] / "models")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def heard(job: Path) -> dict[str, Any]:
    """The stage's result."""
    found: dict[str, Any] = json.loads((job / "work/asr/01.json").read_text())
    return found


def notes(job: Path) -> str:
    """What the stage said of the job."""
    return "\n".join(json.loads((job / "work/asr/manifest.json").read_text())["notes"])


@pytest.mark.parametrize("kind", KINDS)
def test_words_with_times_and_probabilities(job: Path, python: Path, kind: str) -> None:
    """Greedy tokens become words, in order, within the speech that vad found; on one thread it is the same."""
    ran = asr(job, python, kind, known=["en", "de"], language="de")
    assert ran.returncode == 0, ran.stderr
    found = heard(job)
    assert (found["language"], found["duration"]) == (
        "de",
        json.loads((job / "work/vad/01.json").read_text())["duration"],
    )
    words = [word for segment in found["segments"] for word in segment["words"]]
    assert len(words) > 5
    assert all(word["word"].startswith(" ") and word["word"].strip() for word in words)
    assert all(a["start"] <= b["start"] for a, b in pairwise(found["segments"]))
    assert all(
        0 <= word["start"] <= word["end"] <= found["duration"] and 0 < word["probability"] <= 1 for word in words
    )
    said = "small doesn't say when a word is spoken" if kind == CANARY else "de can't be forced"
    assert said in notes(job)
    if kind == KINDS[0]:
        assert asr(job, python, known=["en", "de"], language="de", threads=1).returncode == 0
        assert heard(job) == found


def test_canary_writes_the_language_that_it_is_told(job: Path, python: Path) -> None:
    """Both of them: what is spoken, and what is written."""
    texts = set()
    for language, task in (("en", "transcribe"), ("de", "transcribe"), ("de", "translate")):
        ran = asr(job, python, CANARY, known=["en", "de"], language=language, task=task)
        assert ran.returncode == 0, ran.stderr
        found = heard(job)
        assert found["language"] == ("en" if task == "translate" else language)
        assert found.get("spoken_language") == (language if task == "translate" else None)
        texts.add("".join(segment["text"] for segment in found["segments"]))
    assert len(texts) == 3


def test_one_language_needs_no_word(job: Path, python: Path) -> None:
    """The result says which it is."""
    ran = asr(job, python, "gigaam-v3-e2e-rnnt", known=["ru"], language=None)
    assert ran.returncode == 0, ran.stderr
    assert (heard(job)["language"], notes(job)) == ("ru", "")


@pytest.mark.parametrize(
    ("kind", "known", "settings", "said"),
    [
        (KINDS[0], ["en", "de"], {"language": None}, "can't tell which language is spoken: --language en, de"),
        (KINDS[0], ["en"], {"language": "fr"}, "does not know the language 'fr'"),
        (KINDS[0], ["en"], {"language": "auto-segments"}, "does not know the language 'auto-segments'"),
        (KINDS[0], ["en", "de"], {"language": "de", "task": "translate"}, "can't translate"),
        (CANARY, ["en", "de"], {"language": None}, "can't tell which language is spoken: --language en, de"),
        (CANARY, ["en", "fr"], {"language": "fr"}, "has no token '<|fr|>'"),
    ],
)
def test_what_it_cannot_do_is_refused(
    job: Path, python: Path, kind: str, known: list[str], settings: dict[str, Any], said: str
) -> None:
    """Never the wrong language in silence."""
    ran = asr(job, python, kind, known=known, **settings)
    assert ran.returncode == 2, ran.stderr
    assert said in ran.stderr.splitlines()[-1]


def test_broken_weights_are_the_models_fault(job: Path, python: Path) -> None:
    """Exit code 5, with the model's name."""
    model = onnx_asr_models.make(job.parents[1] / "models/hub/small")
    (model / "encoder-model.int8.onnx").write_bytes(b"nothing")
    ran = asr(job, python, known=["en"], language=None)
    assert ran.returncode == 5
    assert "model small can't be loaded" in ran.stderr.splitlines()[-1]
