"""Libraries as they come from the package index, in an environment of their own, load by name from `models serve`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.edges.system import shell
from tests import small_project
from tests.serving import Serving, serving
from tests.small_project import Small

ROOT = Path(__file__).resolve().parents[2]
AUDIO = ROOT / "examples/dialogue.mp4"

HUB = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1]))
"""

WHISPER = """
import sys
from faster_whisper import WhisperModel
model = WhisperModel("tiny.en", device="cpu", compute_type="int8", cpu_threads=2)
segments, _ = model.transcribe(sys.argv[1], beam_size=1)
print(" ".join(s.text for s in segments))
"""

TRANSFORMERS = """
from transformers import AutoConfig, AutoTokenizer
print(AutoConfig.from_pretrained("org/wav2vec2-tiny").vocab_size, len(AutoTokenizer.from_pretrained("org/wav2vec2-tiny")))
"""


@pytest.fixture(scope="module")
def server(ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """This machine's own store, served, with the float16 that a stranger's client asks for."""
    done = shell.run([sys.executable, str(ROOT / "build.py"), "models", "fetch", "tiny.en"], cwd=ROOT, timeout=300)
    assert done.code == 0, done.err
    with serving(ROOT, logs=tmp_path_factory.mktemp("serve")) as running:
        yield running


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with faster-whisper and what it brings, nothing of ours."""
    return _environment(tmp_path_factory.mktemp("plain") / "venv", "faster-whisper==1.2.1")


def _environment(folder: Path, *packages: str) -> Path:
    """The python of a new environment with packages from the index; this one's pip installs them."""
    assert shell.run([sys.executable, "-m", "venv", "--without-pip", str(folder)]).code == 0
    _install(folder / "bin/python", *packages)
    return folder / "bin/python"


def _install(python: Path, *packages: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    done = shell.run([*pip, "--no-compile", *packages])
    assert done.code == 0, done.err


def run(python: Path, code: str, server: Serving, cache: Path, *words: str) -> str:
    env = {"PATH": os.environ["PATH"], "HF_ENDPOINT": server.address, "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1"}
    done = shell.run([str(python), "-c", code, *words], env=env, timeout=300)
    assert done.code == 0, done.err
    return done.out.strip()


def test_a_plain_hub_client_downloads_by_name(server: Serving, python: Path, tmp_path: Path) -> None:
    """Every byte that the lock names, at the pinned commit."""
    place = Path(run(python, HUB, server, tmp_path, "Systran/faster-whisper-tiny.en"))
    store = ROOT / ".bake/models/hub/models--Systran--faster-whisper-tiny.en/snapshots" / place.name
    assert {p.name: p.read_bytes() for p in place.iterdir()} == {p.name: p.read_bytes() for p in store.iterdir()}


def test_the_hub_client_that_whisperx_needs_downloads_too(server: Serving, tmp_path: Path) -> None:
    """WhisperX holds huggingface_hub below 1.0: another HTTP library, other calls for the list of files."""
    python = _environment(tmp_path / "venv", "huggingface_hub==0.36.2")
    place = Path(run(python, HUB, server, tmp_path / "cache", "Systran/faster-whisper-tiny.en"))
    assert sorted(p.name for p in place.iterdir()) == ["config.json", "model.bin", "tokenizer.json", "vocabulary.txt"]


def test_a_plain_faster_whisper_loads_by_name_and_transcribes(server: Serving, python: Path, tmp_path: Path) -> None:
    """WhisperModel("tiny.en") with nothing set but HF_ENDPOINT; a second start needs only the cache."""
    said = run(python, WHISPER, server, tmp_path, str(AUDIO))
    assert len(said.split()) > 20
    assert "/Systran/faster-whisper-tiny.en/resolve/" in server.log.read_text()
    assert run(python, WHISPER, server, tmp_path, str(AUDIO)) == said


@pytest.mark.heavy  # transformers takes a minute to install
def test_a_plain_transformers_loads_by_name(python: Path, tmp_path: Path) -> None:
    """It probes for a dozen files that a repository may lack; each must be answered as the hub does."""
    letters = {c: k for k, c in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz"])}
    files = {
        "config.json": {"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"], "vocab_size": len(letters)},
        "vocab.json": letters,
        "tokenizer_config.json": {"tokenizer_class": "Wav2Vec2CTCTokenizer"},
    }
    small = Small(entry="hub: org/wav2vec2-tiny", files={n: json.dumps(d).encode() for n, d in files.items()})
    _install(python, "transformers")
    with serving(small_project.make(tmp_path / "project", {"tiny-aligner": small})) as server:
        assert run(python, TRANSFORMERS, server, tmp_path / "cache").split() == ["31", "31"]


def test_our_own_fetch_gets_what_was_converted_too(server: Serving, tmp_path: Path) -> None:
    """Another machine needs no package index: Whisper by commit; ONNX files and int8, which were converted here, by digest."""
    env = {
        "PATH": os.environ["PATH"],
        "HF_ENDPOINT": server.address,
        "HF_HOME": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
        "PIP_INDEX_URL": "http://127.0.0.1:1/simple",
        "PIP_CONFIG_FILE": os.devnull,
    }
    argv = [sys.executable, str(ROOT / "build.py"), "--home", str(tmp_path / "home"), "models"]
    for words, source in (["--preset", "tiny-en"], "models serve"), (["tiny.en"], "hub Systran/faster-whisper-tiny.en"):
        done = shell.run([*argv, "fetch", *words, "--json"], env=env, cwd=ROOT, timeout=300)
        assert done.code == 0, done.err
        assert {f["source"] for f in json.loads(done.out)["fetched"]} == {source}
    assert shell.run([*argv, "verify", "--deep"], env=env, cwd=ROOT, timeout=120).code == 0
