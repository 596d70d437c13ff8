"""What a machine has, what is recommended for it, and which variables a stage gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builder.core.machine import GB, Gpu, Hardware, recommend
from builder.core.stage_env import stage_environment
from builder.edges.machine import hardware as probe


def machine(cores: int = 4, memory: float = 16, gpu: float = 0, mps: bool = False) -> Hardware:
    gpus = (Gpu(name="GPU", memory=int(gpu * GB), driver="1", cuda="13.0"),) if gpu else ()
    return Hardware(
        system="Linux",
        machine="x86_64",
        cpu="c",
        cores=cores,
        threads=cores * 2,
        memory=int(memory * GB),
        gpus=gpus,
        mps=mps,
    )


@pytest.mark.parametrize(
    ("hardware", "preset", "device", "compute_type"),
    [
        (machine(memory=1), "fast", "cpu", "int8"),
        (machine(), "starter", "cpu", "int8"),
        (machine(cores=8), "balanced", "cpu", "int8"),
        (machine(gpu=4), "balanced", "cuda", "int8_float16"),
        (machine(gpu=8), "high", "cuda", "int8_float16"),
        (machine(gpu=24), "premium", "cuda", "float16"),
        (machine(mps=True), "starter", "cpu", "int8"),
    ],
)
def test_the_recommendation_follows_the_hardware(
    hardware: Hardware, preset: str, device: str, compute_type: str
) -> None:
    """The largest preset at a bearable speed, with the reason in words."""
    found = recommend(hardware)
    assert (found.preset, found.device, found.compute_type) == (preset, device, compute_type)
    assert 1 <= found.threads <= hardware.cores
    assert found.reason


def test_hardware_is_looked_at_once_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cached, refreshed, and a broken cache is no failure."""
    looks: list[int] = []
    monkeypatch.setattr(probe, "look", lambda: (looks.append(1), machine(gpu=8))[1])
    monkeypatch.setattr(probe, "within_limits", lambda found: found)
    cache = tmp_path / "hardware.json"
    assert probe.hardware(cache, now=1000.0) == machine(gpu=8)
    assert probe.hardware(cache, now=1000.0 + 3599) == machine(gpu=8)
    assert len(looks) == 1
    probe.hardware(cache, now=1000.0 + 3601)
    probe.hardware(cache, now=1000.0 + 3602, refresh=True)
    assert len(looks) == 3
    cache.write_text('{"at": 4700, "hardware": {"odd": 1, "gpus": []}}')
    assert probe.hardware(cache, now=4701.0) == machine(gpu=8)
    cache.write_text("{")
    probe.hardware(cache, now=4702.0)
    assert json.loads(cache.read_text())["at"] == 4702.0


def test_this_machine_can_be_looked_at() -> None:
    """Real numbers, whatever this runs on."""
    found = probe.look()
    assert 1 <= found.cores <= found.threads
    assert found.memory > 100_000_000


def test_a_stages_environment_is_as_documented() -> None:
    """docs/offline.md is the list; nothing else of the caller's gets in."""
    caller = {"PATH": "/bin", "LC_ALL": "C", "HF_TOKEN": "x", "HTTPS_PROXY": "x", "PYTHONPATH": "x", "HF_ENDPOINT": "x"}
    found = stage_environment(models="/models", scratch="/tmp/s", threads=3, inherit=caller)
    page = (Path(__file__).resolve().parents[2] / "docs/offline.md").read_text()
    documented = {
        n.strip() for line in page.splitlines() if line.startswith("| ") for n in line.split("|")[1].split(",")
    }
    assert set(found) - {"PATH", "LC_ALL"} == documented - {"variable"}
    assert "x" not in found.values()
    assert found["HF_HUB_OFFLINE"] == "1"
    assert found["HF_HUB_CACHE"] == "/models/hub"
