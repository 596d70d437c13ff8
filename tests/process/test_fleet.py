"""Sites in different states load one bundle, each with its own load.py run against an engine's API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builder.core.bundle import contents
from builder.edges.bundle import folder as edge
from tests import bundles
from tests.small_engine import SmallEngine, small_engine


@dataclass
class Site:
    """A machine without a network."""

    folder: Path
    engine: SmallEngine

    def load(self, bundle: Path, *words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-I", str(bundle / "load.py"), "--allow-unsigned", "--no-accept", *words],
            env={"PATH": os.environ["PATH"], "DOCKER_HOST": self.engine.host, "HOME": str(self.folder)},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    @property
    def inventory(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "whisperbake/inventory.json").read_bytes()))

    @property
    def state(self) -> dict[str, Any]:
        """All that counts: what the inventory says (but for the bundle's name), the engine's names, the files."""
        top = self.folder / "whisperbake"
        files = {
            p.relative_to(top).as_posix(): p.read_bytes() for f in ("licences", "job") for p in (top / f).rglob("*")
        }
        names = {name: id_ for name, id_ in self.engine.names.items() if ":previous-" not in name}
        return {"inventory": {**self.inventory, "base": ""}, "names": names, "files": files}


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[list[Site]]:
    """Two for each state, and one that has nothing."""
    with ExitStack() as stack:
        made = []
        for name in ("a1", "a2", "b1", "b2", "c1", "c2", "new"):
            (tmp_path / name).mkdir()
            made.append(Site(tmp_path / name, stack.enter_context(small_engine(tmp_path / name))))
        yield made


def test_each_site_ends_as_with_a_bundle_of_its_own(tmp_path: Path, sites: list[Site]) -> None:
    *known, new = sites
    states = {
        "a": (bundles.three(weights=4000), {"licences/a.md": b"old"}),
        "b": (bundles.three(weights=4000, code=b"print(3)\n"), {"licences/a.md": b"MIT\n"}),
        "c": (bundles.three(weights=5000), {"licences/b.md": b"other"}),
    }
    for name, (made, files) in states.items():
        made.write(tmp_path / name / "", extras=files)
    now, extras = bundles.three(weights=5000, code=b"print(3)\n"), {"licences/a.md": b"MIT\n"}
    for k, site in enumerate(known):
        assert site.load(tmp_path / "abc"[k // 2]).returncode == 0
    bases = [contents.base_of(site.inventory) for site in known]
    now.write(tmp_path / "fleet", extras=extras, bases=bases)
    raw, told = edge.read_inventory(tmp_path / "fleet"), []
    assert len(raw["bases"]) == 3
    for one, other, base in zip(known[::2], known[1::2], bases[::2], strict=True):
        own = tmp_path / f"own-{one.folder.name}"
        now.write(own, extras=extras, bases=[base])
        assert one.load(own).returncode == 0
        done = other.load(tmp_path / "fleet")
        assert done.returncode == 0, done.stderr
        assert other.state == one.state
        told.append(done.stderr)
    assert told[0] != told[1], "each took what it lacked"
    done = new.load(tmp_path / "fleet")
    assert done.returncode == 3
    assert "it is for 3 other states than this machine's" in done.stderr
    assert "code of base, asr, vad" in done.stderr, "the lowest layer, which all sites have"
    assert new.engine.names == {}
