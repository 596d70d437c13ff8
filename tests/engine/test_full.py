"""The full variant, built and run: WhisperX hears the example on CUDA's wheels, on a processor."""

from __future__ import annotations

import json
from typing import Any

import pytest
from metrics import diarization_error, read_rttm, word_errors

from tests.engine.conftest import ROOT, Engine

pytestmark = pytest.mark.heavy

EXAMPLE = ROOT / "examples/dialogue.mp4"


@pytest.fixture(scope="module")
def job(engine: Engine) -> Any:
    """The example's job in full images, built from the package index when they are missing (7 GB of packages)."""
    if engine.store != "containerd":
        pytest.skip("one store is enough for 20 GB")
    done = engine.bake("run", EXAMPLE, "--mode", "docker-cpu", "--variant", "full", "--language", "en", "--json")
    assert done.code == 0, done.err
    return done.data


def test_the_example_is_heard_in_full_images(engine: Engine, job: Any) -> None:
    """The same job format, the same files; errors as low as slim's promise."""
    output = engine.home / "jobs" / job["job"] / "output"
    errors, count = word_errors((ROOT / "examples/dialogue.txt").read_text(), (output / "dialogue.txt").read_text())
    assert errors / count <= 0.15
    heard = json.loads((output / "dialogue.json").read_text())
    assert heard["segments"][0]["words"][0]["start"] >= 0
    truth, found = read_rttm(ROOT / "examples/dialogue.rttm"), read_rttm(output / "dialogue.rttm")
    assert diarization_error(truth, found) <= 0.15


def test_the_words_came_from_whisperx(engine: Engine, job: Any) -> None:
    """Not from slim's backend in a larger image: only the full one imports PyTorch."""
    manifest = json.loads((engine.home / "jobs" / job["job"] / "work/asr/manifest.json").read_text())
    assert manifest["outputs"]
    tag = f"{engine.prefix}/asr:full-cpu"
    labels = engine.client.images.get(tag).labels
    assert labels["io.whisperbake.variant"] == "full"
    done = engine.docker("run", "--rm", "--network", "none", "--read-only", "--entrypoint", "python3", tag, "-c",
                         "import torch, whisperx; print(torch.__version__)")  # fmt: skip
    assert done.out.startswith("2.8.0"), done.err
