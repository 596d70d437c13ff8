"""compare on a real recording: figures against a reference, Ctrl-C, and what is done isn't done again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import Bake
from tests.shared import EXAMPLE, ROOT


def test_a_comparison_that_is_interrupted_goes_on(bake: Bake, tmp_path: Path) -> None:
    """One recording is done when Ctrl-C comes: its figures are shown, and the next command takes them from its job."""
    for name in ("first.mp4", "second.mp4"):
        shutil.copy(EXAMPLE, tmp_path / name)
    for suffix in ("txt", "rttm"):
        shutil.copy(EXAMPLE.with_suffix(f".{suffix}"), tmp_path / f"first.reference.{suffix}")
    page = tmp_path / "compared.html"
    words = ["compare", "first.mp4", "second.mp4", "--presets", "tiny-en", "--json", "--page", str(page)]
    running = subprocess.Popen(
        [sys.executable, str(ROOT / "build.py"), *words],
        env={**os.environ, "BAKE_JOBS": str(tmp_path / "jobs")},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    for line in running.stderr:
        if re.match(r"second-\w+ demux: begins", line):
            running.send_signal(signal.SIGINT)
            break
    out, err = running.communicate(timeout=120)
    assert running.returncode == 130, err
    found = json.loads(out)
    assert found["error"]["code"] == "interrupted"
    assert "the same command continues" in found["error"]["hint"]
    [tiny] = found["presets"]
    assert tiny["heard"] == 1
    assert tiny["words"]["total"] == 84
    assert tiny["words"]["rate"] < 0.2
    assert tiny["speakers"]["rate"] < 0.1
    assert 40_000_000 < tiny["model_bytes"] < 60_000_000
    assert tiny["seconds"] > 0 < tiny["cpu_seconds"]
    assert tiny["peak_bytes"] > 50_000_000
    first, second = found["recordings"]
    assert (first["words_file"], first["speakers_file"]) == ("first.reference.txt", "first.reference.rttm")
    assert first["presets"][0]["failure"] is None
    assert second["presets"][0]["failure"]
    assert "Good morning, and welcome to the radio hour." in page.read_text()

    again = bake("compare", tmp_path / "first.mp4", "--json", "--presets", "tiny-en")
    assert again.code == 0, again.err
    assert again.data["recordings"] == [first]
    assert len(list((tmp_path / "jobs").glob("*-first-*"))) == 1
