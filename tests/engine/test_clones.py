"""Images depend on the commit alone: not on where a clone lies, when it builds, what a cache has, or what images are called."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import ROOT, Engine
from tests.shared import state_folder

NAMES = ("base", "subtitles")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a copy, no clone")
def test_two_clones_make_the_same_images(engine: Engine, built: Any, tmp_path: Path) -> None:
    """One takes what BuildKit kept, the other builds every step anew: the same ids under other names."""
    ids: list[dict[str, str]] = []
    for name, how in (("one", ()), ("two", ("--no-cache",))):
        root, prefix = tmp_path / name / "whisperbake", f"{engine.prefix}-{name}"
        subprocess.run(["git", "clone", "-q", ROOT, root], check=True)
        env = {"BAKE_HOME": str(state_folder(root / "home")), "BAKE_REGISTRY": prefix}
        done = engine.bake("build", "subtitles", "--mode", "docker-cpu", *how, "--json", root=root, env=env)
        try:
            assert done.code == 0, done.err
            ids.append({image: engine.client.images.get(f"{prefix}/{image}:slim-cpu").id for image in NAMES})
        finally:
            for image in engine.client.images.list():
                for tag in image.tags:
                    if tag.startswith(f"{prefix}/"):
                        engine.client.images.remove(tag, force=True)
    assert ids[0] == ids[1]
