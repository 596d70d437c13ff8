"""align with a CTC model as ONNX, on weights of our own making: loaded, run and told of as its files are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from builder.edges.weights.convert import wav2vec2
from tests.e2e.conftest import ROOT
from tests.unit.test_wav2vec2 import state

LABELS = ["<blank>", "<pad>", "</s>", "<unk>", *"aienoutsrmkldghybpwcvjzf'qx"]


def make(folder: Path) -> None:
    """A model of one convolution, with the files, inputs and outputs of the catalogue's."""
    (folder / "onnx").mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({label: k for k, label in enumerate(LABELS)}))
    kernel = np.random.default_rng(1).standard_normal((len(LABELS), 1, 400)).astype(np.float32)
    nodes = [
        helper.make_node("Unsqueeze", ["input_values", "one"], ["x"]),
        helper.make_node("Conv", ["x", "kernel"], ["y"], strides=[320], kernel_shape=[400]),
        helper.make_node("Transpose", ["y"], ["logits"], perm=[0, 2, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "ctc",
        [helper.make_tensor_value_info("input_values", TensorProto.FLOAT, ["b", "n"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "t", len(LABELS)])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(np.array([1], np.int64), "one")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(folder / "onnx/model_int8.onnx"))


@pytest.fixture
def job(transcribed: Path, tmp_path: Path) -> Path:
    """The example's job before align, for the small model."""
    folder = tmp_path / "jobs" / transcribed.name
    shutil.copytree(transcribed, folder, ignore=shutil.ignore_patterns("align", "subtitles", "mux", "output"))
    make(tmp_path / "models/hub/ctc")
    return folder


def convert(folder: Path) -> None:
    """A wav2vec2 as the builder converts it: its letters are in the file alone."""
    shutil.rmtree(folder)
    folder.mkdir()
    labels = " ".join(["<blank>", "<pad>", "</s>", "<unk>", "|", *LABELS[4:]])
    pieces = wav2vec2.aligner_pieces(state(early=False, labels=labels), labels)
    (folder / "small.onnx").write_bytes(b"".join(pieces))


def align(job: Path, python: Path, threads: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The words that the stage writes with the small model, and its notes."""
    (job / "job.yaml").chmod(0o644)
    spec = yaml.safe_load((job / "job.yaml").read_text())
    [stage] = [stage for stage in spec["stages"] if stage["name"] == "align"]
    stage["settings"] |= {"threads": threads}
    stage["models"] = {
        "alignment": {"id": "small", "path": "hub/ctc", "revision": "1", "digest": "sha256:0", "languages": ["en"]}
    }
    (job / "job.yaml").write_text(yaml.safe_dump(spec))
    ran = subprocess.run(
        [str(python), str(ROOT / "stages/align/main.py"), "--job", str(job)],
        env={**os.environ, "BAKE_MODELS": str(job.parents[1] / "models")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads((job / "work/align/01.json").read_text())
    notes = json.loads((job / "work/align/manifest.json").read_text())["notes"]
    return [word for segment in result["segments"] for word in segment["words"]], notes


@pytest.mark.parametrize("converted", [False, True], ids=["of the hub", "converted"])
def test_words_are_aligned_the_same_with_any_number_of_threads(job: Path, python: Path, converted: bool) -> None:
    """What random weights hear may be far off: such words keep Whisper's times. They stay in order."""
    if converted:
        convert(job.parents[1] / "models/hub/ctc")
    words, notes = align(job, python, threads=2)
    assert notes == []
    assert {word["source"] for word in words} == {"acoustic", "whisper"}
    assert all(a["end"] <= b["start"] for a, b in pairwise(words))
    assert align(job, python, threads=1)[0] == words


def test_a_model_that_cannot_be_loaded_is_a_note(job: Path, python: Path) -> None:
    """Another processor, or a file that is cut short: Whisper's times are a result."""
    (job.parents[1] / "models/hub/ctc/onnx/model_int8.onnx").write_bytes(b"no model")
    words, notes = align(job, python, threads=1)
    assert {word["source"] for word in words} == {"whisper"}
    assert len(notes) == 1
    assert "word times are Whisper's own: model small can't be loaded: " in notes[0]
