"""``push`` and ``ci`` as they are typed, where no engine is needed."""

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

ROOT = Path(__file__).resolve().parents[2]


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
        settings = json.dumps({"config": {"Labels": labels}, "rootfs": {"type": "layers", "diff_ids": []}}).encode()
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
