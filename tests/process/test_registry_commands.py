"""``push``, ``pull`` and ``ci`` as they are typed, without a real engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from builder.core.images import oci, render
from builder.core.terms import Mode
from builder.edges.images.layout import Layout
from builder.edges.machine import project
from builder.workflows.images import planner
from tests.process.registry_server import registry as run_registry
from tests.small_engine import small_engine

ROOT = Path(__file__).resolve().parents[2]
PLATFORM = {"architecture": "amd64", "os": "linux"}
NO_LAYERS: dict[str, object] = {"type": "layers", "diff_ids": []}


def typed(*words: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(ROOT / "build.py"), *map(str, words)]
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_a_pipeline_is_written_and_compared(tmp_path: Path) -> None:
    """``--check`` finds one changed line, says what to type, and what it says makes it whole."""
    path = tmp_path / "images.yml"
    choice = ("ci", "github", "subtitles", "--mode", "docker-cpu", "--registry", "localhost:5000/x", "--out", path)
    done = typed(*choice, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["jobs"] == ["base", "subtitles"]
    text = path.read_text()
    assert typed(*choice, "--check").returncode == 0
    path.write_text(text.replace("base", "bass", 1))
    other = typed(*choice, "--check")
    assert other.returncode == 1
    words = other.stderr.split("next: python3 build.py ")[1].split()
    assert typed(*words).returncode == 0
    assert path.read_text() == text
    assert typed("ci", "github", "subtitles", "--mode", "docker-cpu", "--registry", "localhost:5000/x").stdout != text


def test_what_cant_be_pushed_is_said_before_a_registry_is_asked(tmp_path: Path) -> None:
    """No registry named: exit 2. Nothing built: exit 3, with what to type."""
    env = {"BAKE_HOME": str(tmp_path)}
    none = typed("push", env=env)
    assert none.returncode == 2
    assert "names no registry" in none.stderr
    empty = typed("push", "--mode", "docker-cpu", "--registry", "localhost:9/x", "--json", env=env)
    assert empty.returncode == 3
    assert "base-ml" in json.loads(empty.stdout)["error"]["what"]
    assert "build.py build --mode docker-cpu" in json.loads(empty.stdout)["error"]["hint"]
    assert typed("push", "nope", "--registry", "localhost:9/x", env=env).returncode == 2


def assembled(home: Path) -> None:
    """The layout of a state folder, with images that say that they are of today's plan; their layers are empty."""
    config = project.load(ROOT, env={"BAKE_HOME": str(home)}, overrides={"mode": "docker-cpu", "preset": "starter"})
    layout = Layout(config.paths.layout, config.paths.models)
    today = planner(config)(Mode.DOCKER_CPU, config.defaults.variant, replace(config.base, kind="debian", reference=""))
    for image in today.plan.images:
        labels = {**render.plain_labels(today.files, image), **today.expected(image)}
        settings = json.dumps({**PLATFORM, "config": {"Labels": labels}, "rootfs": NO_LAYERS}).encode()
        layout.put(settings)
        manifest = layout.put(oci.manifest(oci.describe(oci.CONFIG, settings), []))
        layout.record(image.tag, {"manifest": manifest})


def test_images_of_another_model_are_not_pushed(tmp_path: Path) -> None:
    """After another model is chosen, push names the image that a build would replace, and why."""
    home = tmp_path / "home"
    assembled(home)
    with run_registry(tmp_path / "registry") as server:
        words = ("push", "--mode", "docker-cpu", "--registry", f"{server.host}/x", "--dry-run", "--json")
        env = {"BAKE_HOME": str(home), "BAKE_PRESET": "starter"}
        current = typed(*words, env=env)
        assert current.returncode == 0, current.stderr
        assert {i["state"] for i in json.loads(current.stdout)["images"]} == {"would be pushed"}
        other = typed(*words, "--models", "tiny.en", env=env)
    assert other.returncode == 3
    error = json.loads(other.stdout)["error"]
    assert error["what"] == "asr: not of today's code, models and settings"
    assert error["detail"][0].startswith("asr has changed: ")
    assert "models" in error["detail"][0]
    assert "build.py build" in error["hint"]


def test_the_weights_image_goes_with_all_images_or_alone(tmp_path: Path) -> None:
    """With all of a mode; by its name; not with others that are named. A GPU's has a tag of its own."""
    home = tmp_path / "home"
    assembled(home)
    env = {"BAKE_HOME": str(home), "BAKE_PRESET": "starter"}
    both = ["weights:starter", "weights:starter-modelpack"]
    with run_registry(tmp_path / "registry") as server:

        def planned(*names: str) -> list[str]:
            words = ("push", *names, "--mode", "docker-cpu", "--registry", f"{server.host}/x", "--dry-run", "--json")
            done = typed(*words, env=env)
            assert done.returncode == 0, done.stderr
            return [image["reference"].rpartition("/")[2] for image in json.loads(done.stdout)["images"]]

        assert planned()[-2:] == both
        assert planned("weights") == both
        assert planned("asr") == ["asr:slim-cpu"]
        assert planned("asr", "weights") == ["asr:slim-cpu", *both]


def test_a_pull_needs_an_engine_and_a_registry(tmp_path: Path) -> None:
    """Exit 2 where none is named, 3 without an engine, 4 where nobody answers: each says what to do."""
    env = {"BAKE_HOME": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    words = ("pull", "--mode", "docker-cpu")
    none = typed(*words, env=env)
    assert none.returncode == 2
    assert "names no registry" in none.stderr
    engineless = typed(*words, "--registry", "localhost:9/x", "--json", env=env)
    assert engineless.returncode == 3
    assert "no container engine" in json.loads(engineless.stdout)["error"]["what"]
    with small_engine(tmp_path) as engine:
        nobody = typed(*words, "--registry", "localhost:9/x", "--json", env={**env, "DOCKER_HOST": engine.host})
        assert nobody.returncode == 4, nobody.stderr


def test_what_is_pulled_is_of_this_project(tmp_path: Path) -> None:
    """Images of today's plan come and are named as a build names them; with another model chosen they are refused before
    a layer comes. Nobody can push or bundle from here what only the engine has."""
    home, other = tmp_path / "home", tmp_path / "other"
    assembled(home)
    chosen = ("--mode", "docker-cpu", "--registry")
    with run_registry(tmp_path / "registry") as server, small_engine(tmp_path) as engine:
        env = {"BAKE_PRESET": "starter", "DOCKER_HOST": engine.host}
        names = ("asr", "vad")
        done = typed("push", *names, *chosen, f"{server.host}/x", env={**env, "BAKE_HOME": str(home)})
        assert done.returncode == 0, done.stderr
        there = {**env, "BAKE_HOME": str(other)}
        refused = typed("pull", "asr", *chosen, f"{server.host}/x", "--models", "tiny.en", "--json", env=there)
        assert refused.returncode == 3
        assert "not of this project's code, models and settings" in json.loads(refused.stdout)["error"]["what"]
        assert engine.held == {}
        pulled = typed("pull", *names, *chosen, f"{server.host}/x", "--json", env=there)
        assert pulled.returncode == 0, pulled.stderr
        assert [image["state"] for image in json.loads(pulled.stdout)["images"]] == ["pulled", "pulled"]
        assert set(engine.names) == {"whisperbake/asr:slim-cpu", "whisperbake/vad:slim-cpu"}
        again = typed("push", *names, *chosen, f"{server.host}/y", "--json", env=there)
        assert again.returncode == 3
