"""What is rendered, byte for byte. ``python -m tests.golden.project`` writes the files anew; read the diff."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder.core.terms import Mode, Variant
from tests.golden import report
from tests.golden.project import CASES, DEBIAN, FILES, ROOT, rendered


@pytest.mark.parametrize("case", CASES)
def test_the_dockerfile_and_the_bake_file_are_as_they_were(case: str) -> None:
    """A change of a template shows here, in the words that BuildKit will read."""
    made = rendered(*CASES[case])
    for name in ("Dockerfile", "docker-bake.json"):
        assert made[name] == (FILES / f"{case}.{name}").read_text(), f"{case}: {name}"


def test_the_page_of_a_job_is_as_it_was() -> None:
    """Every part of it: transcript, player, files, stages, models, settings."""
    assert report.rendered() == (FILES / "report.html").read_text()


def test_rendering_is_a_function_of_its_inputs(tmp_path: Path) -> None:
    """Another process with another hash seed renders the same bytes."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tests.golden.project import *\n"
        "sys.stdout.reconfigure(newline='')\n"
        "print(list(rendered(*CASES['docker-cpu-full']).items()), end='')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)],
        env={**os.environ, "PYTHONHASHSEED": "4000000000" if os.environ.get("PYTHONHASHSEED") != "4000000000" else "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == repr(list(rendered(*CASES["docker-cpu-full"]).items()))


def test_modes_that_share_an_image_agree_on_it() -> None:
    """Building native after docker-cpu must not find base, demux and mux out of date."""
    prints = []
    for mode in (Mode.NATIVE, Mode.DOCKER_CPU):
        bake = json.loads(rendered(mode, Variant.SLIM, DEBIAN)["docker-bake.json"])
        prints.append({n: bake["target"][n]["labels"]["io.whisperbake.inputs"] for n in ("base", "demux", "mux")})
    assert prints[0] == prints[1]
