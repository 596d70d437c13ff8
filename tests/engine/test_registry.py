"""A base from a registry: a real one, Debian's docker-registry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import ONE_STORE, Engine, copy_project
from tests.process import registry_server
from tests.shared import state_folder

TAG = "python:3.11-slim-bookworm"


@pytest.fixture(scope="module")
def registry(engine: Engine, built: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a registry that has an image with Python: the root that ``built`` stands on."""
    with registry_server.registry(tmp_path_factory.mktemp("registry")) as server:
        reference = f"{server.host}/{TAG}"
        imported = engine.docker("import", engine.home / "images/docker-cpu-slim/rootfs.tar", reference)
        assert imported.code == 0, imported.err
        pushed = engine.docker("push", reference)
        assert pushed.code == 0, pushed.err
        engine.docker("rmi", reference)
        yield server.host


def project_on(folder: Path, reference: str, kind: str = "auto") -> Path:
    project = copy_project(folder)
    bake = project / "bake.yaml"
    bake.write_text(
        re.sub(r"  kind: .*\n  reference: .*\n", f"  kind: {kind}\n  reference: {reference}\n", bake.read_text())
    )
    assert reference in bake.read_text()
    return project


@ONE_STORE
def test_auto_takes_the_registry_that_answers_and_pins_what_it_gave(
    engine: Engine, registry: str, tmp_path: Path
) -> None:
    """The digest is in the label, in the Dockerfile, and said so that it can be pinned."""
    project = project_on(tmp_path, f"{registry}/{TAG}")
    env = {"BAKE_HOME": str(state_folder(project / "home")), "BAKE_REGISTRY": f"{engine.prefix}-registry"}
    done = engine.bake("build", "subtitles", "--mode", "docker-cpu", "--json", root=project, env=env)
    assert done.code == 0, done.err
    digest = done.data["base"]["digest"]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
    assert f"{registry}/{TAG}" in done.said
    labels = engine.client.images.get(f"{engine.prefix}-registry/subtitles:slim-cpu").labels
    assert labels["org.opencontainers.image.base.digest"] == digest
    assert labels["org.opencontainers.image.base.name"] == f"{registry}/{TAG}"
    rendered = project / "home/images/docker-cpu-slim/Dockerfile"
    assert f"FROM {registry}/{TAG}@{digest} AS root" in rendered.read_text()
    shown = engine.docker("run", "--rm", "--network", "none", f"{engine.prefix}-registry/subtitles:slim-cpu", "--help")
    assert shown.code == 0, shown.err
    for image in engine.client.images.list(filters={"label": "io.whisperbake.inputs"}):
        for tag in image.tags:
            if tag.startswith(f"{engine.prefix}-registry/"):
                engine.client.images.remove(tag, force=True)


@ONE_STORE
def test_a_registry_that_is_not_there_is_given_up_and_said(engine: Engine, tmp_path: Path) -> None:
    """``kind: registry`` doesn't quietly become something else: exit 4."""
    project = project_on(tmp_path, "127.0.0.1:9/python:3.11-slim-bookworm", "registry")
    done = engine.bake("build", "base", "--mode", "docker-cpu", root=project, env={"BAKE_HOME": str(project / "home")})
    assert done.code == 4
    assert "no registry gives 127.0.0.1:9/python" in done.said
