"""Signed images of a real build: cosign at the registry, verify here, and a job in containers from its subtitle to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.engine.conftest import Engine
from tests.process.registry_server import registry as run_registry
from tests.process.test_signatures import cosign, made_pair
from tests.shared import EXAMPLE, SAME

MODE = ("--mode", "docker-cpu")


def links(found: Any, kind: str) -> dict[str, str]:
    return {link["of"]: link["verdict"] for link in found["links"] if link["kind"] == kind}


def named(engine: Engine) -> list[str]:
    return sorted(engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").out.split())


def test_from_a_subtitle_to_a_signed_image(engine: Engine, built: Any, tmp_path: Path) -> None:
    """All that the images of a job are made of is verified offline; a second run in them makes the same bytes."""
    private, public = made_pair(tmp_path, "sender")
    with run_registry(tmp_path / "registry") as server:
        done = engine.bake("push", *MODE, "--registry", f"{server.host}/wb", "--sign", private, "--json")
        assert done.code == 0, done.err
        assert {image["signature"] for image in done.data["images"]} == {"signed"}
        for image in done.data["images"]:
            words = ("verify", "--key", public, "--private-infrastructure=true", "--allow-insecure-registry")
            assert cosign(*words, image["reference"], home=tmp_path).returncode == 0, image
    found = engine.bake("verify", "asr", "--key", public, "--json")
    assert found.code == 0, found.err
    assert {link["verdict"] for link in found.data["links"]} == {"holds"}, found.data
    assert any(of.startswith("weights ") for of in links(found.data, "layer"))

    ran = engine.job(EXAMPLE, "--preset", "tiny-en", *SAME)
    assert ran.code == 0, ran.err
    before = engine.left() | {"names": named(engine)}
    found = engine.bake("verify", ran.data["job"], "--key", public, "--replay", "--json")
    assert found.code == 0, found.err
    assert {link["verdict"] for link in found.data["links"]} == {"holds"}, found.data
    stages = {stage["name"] for stage in ran.data["stages"]}
    assert set(links(found.data, "image")) == stages
    assert set(links(found.data, "code")) == stages
    assert len(links(found.data, "signature")) > 1
    assert links(found.data, "replay")["output/dialogue.srt"] == "holds"
    assert engine.left() | {"names": named(engine)} == before
    assert not (engine.home / "cache/replay").exists()
    _, stranger = made_pair(tmp_path, "stranger")
    found = engine.bake("verify", ran.data["job"], "--key", stranger, "--json")
    assert found.code == 5
    assert set(links(found.data, "signature").values()) == {"broken"}
