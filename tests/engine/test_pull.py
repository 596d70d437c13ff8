"""The way back from a registry: an engine that has nothing gets what was pushed, and runs jobs without a build or a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.engine import private_engine
from tests.engine.conftest import Engine, copy_project, results
from tests.process.registry_server import registry as run_registry
from tests.shared import EXAMPLE, SAME

MODE = ("--mode", "docker-cpu")


def test_a_machine_that_builds_nothing_pulls_and_runs(engine: Engine, built: Any, native: Path, tmp_path: Path) -> None:
    """Both stores: each layer comes once, the ids are those of the engine that built, and a job gives native's bytes."""
    if why := private_engine.why_not():
        assert os.environ.get("CI", "").lower() not in ("1", "true"), why
        pytest.skip(why)
    home = tmp_path / "home"
    with (
        run_registry(tmp_path / "registry") as server,
        private_engine.engine(engine.store, tmp_path / "engine") as host,
    ):
        registry = ("--registry", f"{server.host}/wb", "--json")
        pushed = engine.bake("push", *MODE, *registry)
        assert pushed.code == 0, pushed.err
        other = Engine(host, engine.store, engine.prefix, home)
        planned = other.bake("pull", *MODE, *registry, "--dry-run")
        assert planned.code == 0, planned.err
        pulled = other.bake("pull", *MODE, *registry)
        assert pulled.code == 0, pulled.err
        assert pulled.data["fetched_bytes"] == planned.data["fetched_bytes"]
        digests = {i["name"]: i["digest"] for i in pushed.data["images"] if i["name"] != "weights"}
        assert {i["name"]: i["digest"] for i in pulled.data["images"]} == digests
        for image in pulled.data["images"]:
            assert other.client.images.get(image["tag"]).id == engine.client.images.get(image["tag"]).id
        configs = 200_000  # and the artifact's
        assert pushed.data["sent_bytes"] - pulled.data["fetched_bytes"] < configs, "more or less came than was sent"
        left = [path for path in (home / "layout").rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in left) < configs, "blobs stay that the engine has"
        server.stop()
        done = other.job(EXAMPLE, *SAME)
        assert done.code == 0, done.err
        found = results(home / "jobs" / done.data["job"])
        assert found == results(native)
        assert not any((home / "models").rglob("*.bin")), "a model was fetched that the images have"
        server.start()
        again = other.bake("pull", *MODE, *registry)
        assert {i["state"] for i in again.data["images"]} == {"up to date"}
        assert again.data["fetched_bytes"] == 0
        project = copy_project(tmp_path)
        main = project / "stages/asr/main.py"
        main.write_text(main.read_text() + "\n# changed\n")
        stale = other.bake("pull", *MODE, *registry, root=project)
        assert stale.code == 3, stale.said
        assert "asr: not of this project's code, models and settings" in stale.said
