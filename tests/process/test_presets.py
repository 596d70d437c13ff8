"""``preset: auto`` as a session decides it: by the machine, the store, and what a hub says that is asked once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.core.machine import GB, Gpu, Hardware
from builder.core.terms import Purpose
from builder.edges.machine import hardware, project
from builder.edges.system import files
from builder.edges.weights.store import Store
from builder.workflows.session import Session, chosen_models, open_session
from tests import loopback, small_project

ASR = {"fast": "tiny", "starter": "base", "balanced": "small", "high": "medium", "premium": "large-v3"}
SHARED = ("silero-vad", "campplus", "segmentation-3.0")


class Hub:
    """What a hub has, by repository, and what it was asked."""

    def __init__(self) -> None:
        self.has: set[str] = set()
        self.asked: list[str] = []
        self.address = ""


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(loopback.Handler):
        def do_HEAD(self) -> None:
            state.asked.append(self.path)
            self.reply(200 if self.path == "/" or any(f"/{repo}/" in self.path for repo in state.has) else 404)

    server = loopback.server_of(Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    with loopback.answering(server):
        yield state


def machine(root: Path, *, cores: int = 4, gpu: int = 0) -> None:
    """hardware.json as a look at such a machine leaves it."""
    gpus = (Gpu(name="GPU", memory=gpu * GB, driver="570", cuda="12.8"),) if gpu else ()
    found = Hardware(system="Linux", machine="x86_64", cpu="c", cores=cores, threads=cores, memory=16 * GB, gpus=gpus)
    config = project.load(root, env={})
    files.write_json(config.paths.hardware, {"at": time.time(), "hardware": dataclasses.asdict(found)})


def have(root: Path, *presets: str) -> None:
    """Put files of the pinned sizes into the store: their bytes are not looked at."""
    stocked(root, *SHARED, *(ASR[preset] for preset in presets))


def stocked(root: Path, *models: str) -> None:
    """Put files of models' pinned sizes into the store."""
    config = project.load(root, env={})
    store = Store(config.paths.models)
    for name in models:
        for file in config.pins[name].files:
            path = store.path(config.models[name], config.pins[name], file)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as out:
                out.truncate(file.size)


def opened(root: Path, hub: Hub, *, may_ask: bool = True, **overrides: object) -> Session:
    env = {"HF_ENDPOINT": hub.address}
    with open_session(home=None, quiet=True, env=env, start=root, overrides=overrides, may_ask=may_ask) as session:
        return session


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hardware, "within_limits", lambda found: found)  # the machine that runs this may be smaller
    return small_project.make(tmp_path, {}, fill=False)


def test_an_aligner_decides_no_preset(root: Path, hub: Hub) -> None:
    """Who asks for French has the preset whose other models are here, not another one of half a gigabyte."""
    machine(root, cores=8)
    hub.has = {"faster-whisper-small"}
    have(root, "starter")
    session = opened(root, hub, language="fr")
    assert session.config.defaults.preset == "starter"
    assert Purpose.ALIGNMENT in chosen_models(session.config)
    assert Purpose.ALIGNMENT not in chosen_models(opened(root, hub).config), "it is not fetched for a language unknown"
    stocked(root, "cmusphinx-fr")
    assert Purpose.ALIGNMENT in chosen_models(opened(root, hub).config)


def test_a_machine_with_models_asks_nobody(root: Path, hub: Hub) -> None:
    """The largest that suits it and is here; one that is too large for it is left."""
    machine(root, cores=8)
    hub.has = {"faster-whisper-small"}
    have(root, "fast", "starter", "premium")
    session = opened(root, hub)
    assert session.config.defaults.preset == "starter"
    assert session.preset_reason.startswith(
        "balanced is recommended (8 cores keep up with small): python3 build.py models fetch"
    )
    have(root, "balanced")
    session = opened(root, hub)
    assert (session.config.defaults.preset, session.preset_reason) == (
        "balanced",
        "recommended: 8 cores keep up with small",
    )
    machine(root, gpu=24)
    assert opened(root, hub).config.defaults.preset == "premium"
    assert hub.asked == []


def test_a_machine_without_models_takes_what_the_hub_has(root: Path, hub: Hub) -> None:
    """Up to 600 MB; without a hub, or where it may not be asked, the starter, which needs none."""
    machine(root, cores=8)
    assert opened(root, hub).config.defaults.preset == "starter"
    hub.has = {"faster-whisper-small", "faster-whisper-large-v3"}
    assert opened(root, hub, may_ask=False).config.defaults.preset == "starter"
    assert opened(root, hub).config.defaults.preset == "balanced"
    machine(root, gpu=24)
    session = opened(root, hub)
    assert session.config.defaults.preset == "balanced"
    assert "build.py models fetch --preset premium gets it, 3.1 GB" in session.preset_reason
    hub.address = "http://127.0.0.1:9"
    assert opened(root, hub).config.defaults.preset == "starter"


def test_a_preset_by_name_is_not_decided(root: Path, hub: Hub) -> None:
    """Nothing is looked at, and there is no reason to give."""
    session = opened(root, hub, preset="high")
    assert (session.config.defaults.preset, session.preset_reason) == ("high", "")
    assert hub.asked == []


def test_deciding_makes_no_state_folder(root: Path, hub: Hub) -> None:
    """Commands that only ask decide too."""
    opened(root, hub, may_ask=False)
    assert not (root / ".bake").exists()


@pytest.mark.parametrize("preset", ["high", "premium"])
def test_a_gated_pipeline_without_a_token_gives_way_to_the_presets_embedding(root: Path, hub: Hub, preset: str) -> None:
    """Said with the reason; with a token, or with its files here, it is taken. Slim never names it."""

    def purposes(**env: str) -> tuple[set[Purpose], str]:
        env |= {"HF_ENDPOINT": hub.address, "HOME": str(root)}
        overrides = {"preset": preset, "variant": "full"}
        with open_session(home=None, quiet=True, env=env, start=root, overrides=overrides) as session:
            return set(chosen_models(session.config)), session.preset_reason

    chosen, reason = purposes()
    assert Purpose.EMBEDDING in chosen
    assert Purpose.DIARIZATION not in chosen
    assert reason.startswith("pyannote-community-1 wants a hub token")
    chosen, reason = purposes(HF_TOKEN="hf_something")
    assert Purpose.EMBEDDING not in chosen
    assert Purpose.DIARIZATION in chosen
    assert not reason
    stocked(root, "pyannote-community-1")
    assert purposes() == (chosen, "")
    assert Purpose.DIARIZATION not in chosen_models(opened(root, hub, preset=preset).config)
    assert hub.asked == []


def test_a_configured_folder_that_has_the_pipeline_stands_for_a_token(root: Path, hub: Hub, tmp_path: Path) -> None:
    """Its files are recognised by their sizes; the fetch checks their bytes."""
    folder = tmp_path / "stick"
    config = project.load(root, env={})
    for file in config.pins["pyannote-community-1"].files:
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        with (folder / file.path).open("wb") as out:
            out.truncate(file.size)
    env = {"HF_ENDPOINT": hub.address, "HOME": str(root)}
    overrides = {"preset": "high", "variant": "full", "sources": (str(folder),)}
    with open_session(home=None, quiet=True, env=env, start=root, overrides=overrides) as session:
        assert Purpose.DIARIZATION in chosen_models(session.config)
        assert not session.preset_reason
