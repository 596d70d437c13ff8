"""The full variant, built and run: WhisperX hears the example on CUDA's wheels, on a processor.

wav2vec2's and pyannote's weights are gated or on a hub: their loaders run on random ones in the same formats.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from metrics import diarization_error, read_rttm, word_errors
from onnx.reference import ReferenceEvaluator

from builder.edges.weights.convert import converter
from tests.engine.conftest import ROOT, Engine
from tests.engine.small_weights import LETTERS

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
    done = engine.docker(
        "run",
        "--rm",
        "--network",
        "none",
        "--read-only",
        "--entrypoint",
        "python3",
        tag,
        "-c",
        "import torch, whisperx; print(torch.__version__)",
    )
    assert done.out.startswith("2.8.0"), done.err


OFFLINE = ("run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--user", "12345:0")


def make(engine: Engine, tag: str, kind: str, out: Path) -> None:
    """Random weights by the libraries of an image, in ``out/small`` (small_weights.py)."""
    out.mkdir(mode=0o777)
    out.chmod(0o777)
    script = Path(__file__).with_name("small_weights.py")
    volumes = ("--volume", f"{script}:/small_weights.py:ro", "--volume", f"{out}:/out")
    made = engine.docker(*OFFLINE, *volumes, "--entrypoint", "python3", tag, "/small_weights.py", kind, "/out/small")
    assert made.code == 0, made.err


def test_wav2vec2_as_onnx_hears_what_pytorch_hears(engine: Engine, job: Any, tmp_path: Path) -> None:
    """Checkpoints of torchaudio and of Transformers, of both kinds, converted by the builder, which has neither."""
    make(engine, f"{engine.prefix}/align:full-cpu", "wav2vec2", tmp_path / "models")
    assert differences(tmp_path / "models/small") == {
        f"{library}-{kind}": pytest.approx(0, abs=1e-4)
        for library in ("torchaudio", "transformers")
        for kind in ("base", "large")
    }


def differences(folder: Path) -> dict[str, float]:
    """How far the logarithms of probabilities are off at most, by checkpoint."""
    labels = " ".join(["<blank>", *LETTERS[1:]])
    sound, found = np.load(folder / "sound.npy"), {}
    kept = [k for k, label in enumerate(labels.split()) if label == "<blank>" or len(label) == 1]
    for source in folder.glob("*.pt"):
        result = folder.parent / f"{source.stem}.onnx"
        converter("wav2vec2-onnx", labels)(source, result)
        (scores,) = ReferenceEvaluator(str(result)).run(None, {"sound": sound})
        wanted = np.load(source.with_suffix(".npy"))[..., kept]
        assert scores.shape == wanted.shape
        ours, theirs = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (scores, wanted))
        found[source.stem] = float(np.abs(ours - theirs).max())
    return found


@pytest.mark.parametrize(
    ("stage", "purpose", "kind", "languages"),
    [("align", "alignment", "alignment", ["en"]), ("diarize", "diarization", "pipeline", [])],
)
def test_whole_models_are_loaded_and_used_offline(
    engine: Engine, job: Any, tmp_path: Path, stage: str, purpose: str, kind: str, languages: list[str]
) -> None:
    """wav2vec2 by WhisperX and a pipeline by pyannote.audio, from a folder, without network, on a read-only root."""
    tag = f"{engine.prefix}/{stage}:full-cpu"
    place, models = tmp_path / "job", tmp_path / "models"
    shutil.copytree(engine.home / "jobs" / job["job"], place)
    for path in [place, *place.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    make(engine, tag, kind, models)
    spec = yaml.safe_load((place / "job.yaml").read_text())
    asked = next(s for s in spec["stages"] if s["name"] == stage)
    asked["models"] = {
        purpose: {"id": "small", "path": "small", "digest": "sha256:0", "revision": "1", "languages": languages}
    }
    (place / "job.yaml").write_text(yaml.safe_dump(spec))
    shutil.rmtree(place / "work" / stage)
    done = engine.docker(
        *OFFLINE, "--volume", f"{place}:/job", "--volume", f"{models}:/models:ro", tag, "--job", "/job"
    )
    assert done.code == 0, done.err
    found = json.loads((place / "work" / stage / "01.json").read_text())
    if stage == "align":
        words = [w for s in found["segments"] for w in s["words"]]
        assert {w["source"] for w in words} - {"whisper"}, "no word has the aligner's time"
        assert all(0 <= w["start"] <= w["end"] <= found["duration"] for w in words)
    else:
        assert found["turns"], "random weights hear somebody"
        assert all(t["start"] < t["end"] for t in found["turns"])
