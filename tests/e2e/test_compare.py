"""compare on a real recording: figures against a reference, Ctrl-C, and what is done isn't done again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import Bake
from tests.shared import EXAMPLE, ROOT


def test_a_comparison_that_is_interrupted_goes_on(bake: Bake, tmp_path: Path) -> None:
    """One preset is done when Ctrl-C comes: its figures are shown, and the next command takes them from its job."""
    film = tmp_path / "dialogue.mp4"
    shutil.copy(EXAMPLE, film)
    for suffix in ("txt", "rttm"):
        shutil.copy(EXAMPLE.with_suffix(f".{suffix}"), tmp_path / f"dialogue.reference.{suffix}")
    page = tmp_path / "compared.html"
    words = [sys.executable, str(ROOT / "build.py"), "compare", str(film), "--json", "--page", str(page)]
    running = subprocess.Popen(
        [*words, "--presets", "tiny-en,starter"],
        env={**os.environ, "BAKE_JOBS": str(tmp_path / "jobs")},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    seen = False
    for line in running.stderr:
        seen = seen or line.startswith("preset starter: 2 of 2")
        if seen and "demux: begins" in line:
            running.send_signal(signal.SIGINT)
            break
    out, err = running.communicate(timeout=120)
    assert running.returncode == 130, err
    found = json.loads(out)
    assert found["error"]["code"] == "interrupted"
    assert "the same command continues" in found["error"]["hint"]
    tiny, starter = found["presets"]
    assert (tiny["heard"], starter["heard"], starter["words"]) == (1, 0, None)
    assert tiny["words"]["total"] == 84
    assert tiny["words"]["rate"] < 0.2
    assert tiny["speakers"]["rate"] < 0.1
    assert tiny["model_bytes"] > 78_000_000
    assert 0 < tiny["seconds"] < tiny["cpu_seconds"] + 60
    assert tiny["peak_bytes"] > 50_000_000
    [recording] = found["recordings"]
    assert (recording["words_file"], recording["speakers_file"]) == (
        "dialogue.reference.txt",
        "dialogue.reference.rttm",
    )
    done, stopped = recording["presets"]
    assert stopped["failure"]
    assert "Good morning, and welcome to the radio hour." in page.read_text()

    again = bake("compare", film, "--json", "--presets", "tiny-en")
    assert again.code == 0, again.err
    assert again.data["recordings"][0]["presets"] == [done]
    assert len(list((tmp_path / "jobs").glob("*-dialogue-*"))) == 2
