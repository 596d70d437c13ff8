"""The converted speaker models compute what PyTorch computes, and diarization with them is the same on any machine."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.e2e import test_stages_b as stages
from tests.e2e.test_stages_b import EXAMPLE, ROOT, make_job, run

pytestmark = pytest.mark.e2e

MODELS = {
    "embedding": {"id": "campplus", "path": "onnx/campplus", "digest": "sha256:0"},
    "segmentation": {"id": "segmentation-3.0", "path": "onnx/segmentation-3.0", "digest": "sha256:0"},
}

CAMPPLUS = [
    [-1.195948600769043, -0.8091949820518494, 0.8555954098701477, -1.2573240995407104, -0.37546613812446594],
    [-1.0194870233535767, -0.7512486577033997, 0.9520906805992126, -1.0840736627578735, -0.4784286618232727],
]
"""PyTorch 2.13's first five numbers of 192, of the network of 3D-Speaker with these weights."""

SEGMENTATION = {
    0: [0.0143323727, 0.0001358432, 0.9760426283, 0.0021467283, 0.0008100196, 0.0000128595, 0.0065195407],
    300: [0.0002762020, 0.0000011291, 0.9984008670, 0.0001925676, 0.0000212582, 0.0000000145, 0.0011079398],
    588: [0.0018115898, 0.0000213621, 0.9684374332, 0.0016461068, 0.0009635955, 0.0000018530, 0.0271179490],
}
"""PyTorch 2.13's probabilities of the seven classes in three frames, of pyannote.audio's network with these weights."""

COMPUTE = """
import json, sys
import numpy as np, onnxruntime
feats = (np.random.default_rng(3).standard_normal((2, 200, 80)) * 3).astype(np.float32)
sound = (np.random.default_rng(5).standard_normal((1, 1, 160000)) * 0.1).astype(np.float32)
t = np.arange(160000) / 16000
sound[0, 0] += (0.3 * np.sin(2 * np.pi * 180 * t) * (np.sin(2 * np.pi * 3 * t) > 0)).astype(np.float32)
def out(path, **inputs):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)[0]
tree = sys.argv[1]
voice = out(f"{tree}/campplus/campplus.onnx", feats=feats)
classes = np.exp(out(f"{tree}/segmentation-3.0/segmentation.onnx", sound=sound)[0])
print(json.dumps([voice[:, :5].tolist(), {k: classes[k].tolist() for k in (0, 300, 588)}]))
"""


@pytest.fixture(scope="module")
def weights() -> Path:
    """The tree of weights, with both models in it."""
    tree = Path(os.environ.get("BAKE_MODELS", ROOT / ".bake/models"))
    if not (tree / "onnx/campplus").is_dir() or not (tree / "onnx/segmentation-3.0").is_dir():
        if os.environ.get("CI"):
            pytest.fail("no weights: run build.py first")
        pytest.skip("no weights here; next: python3 build.py models fetch campplus segmentation-3.0")
    return tree


def test_the_converted_models_compute_what_pytorch_computes(python: Path, weights: Path) -> None:
    """Within 1e-4 of what PyTorch computed of the same numbers from the checkpoints that they are made from."""
    done = subprocess.run([python, "-c", COMPUTE, weights / "onnx"], capture_output=True, text=True, check=True)
    voice, classes = json.loads(done.stdout)
    assert np.abs(np.array(voice) - CAMPPLUS).max() < 1e-4
    for frame, wanted in SEGMENTATION.items():
        assert np.abs(np.array(classes[str(frame)]) - wanted).max() < 1e-4


def test_the_same_turns_with_any_number_of_threads(
    python: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example's two speakers, byte for byte the same on one, two and five threads; everyone who speaks is named."""
    monkeypatch.setitem(stages.MODELS, "diarize", MODELS)
    found = []
    for threads in (1, 2, 5):
        job = make_job(tmp_path / str(threads), EXAMPLE, ["demux", "vad", "diarize"], diarize={"threads": threads})
        for stage in ("demux", "vad", "diarize"):
            done = run(python, job, stage, weights=weights)
            assert done.returncode == 0, done.stderr
        found.append((job / "work/diarize/01.json").read_bytes())
    assert found[0] == found[1] == found[2]
    result = json.loads(found[0])
    assert (result["speakers"], result["guess"]) == (2, True)
    names: dict[str, set[str]] = {}
    for line in (ROOT / "examples/dialogue.rttm").read_text().splitlines():
        fields = line.split()
        middle = float(fields[3]) + float(fields[4]) / 2
        said_by = {t["speaker"] for t in result["turns"] if t["start"] <= middle <= t["end"]}
        names.setdefault(fields[7], set()).update(said_by)
    assert [len(n) for n in names.values()] == [1, 1]
    assert names["S1"] != names["S2"]
