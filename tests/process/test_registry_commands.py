"""``push`` and ``ci`` as they are typed, where no engine is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
