"""load.py --rollback on an engine: images of the version before are there, under names that no prune takes away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import bundles
from tests.engine.conftest import Engine
from tests.hostile import bundles as hostile_bundles

ASR = f"{bundles.REGISTRY}/asr:slim-cpu"
SECONDS = 10.0
"""Of a whole --rollback on a machine that does other things, too; alone it takes less than one (docs/air-gap.md)."""


@pytest.fixture
def clean(engine: Engine) -> Iterator[None]:
    """No image of a bundle, before and after."""
    for again in (False, True):
        for name in {t for i in engine.client.images.list() for t in i.tags if t.startswith(f"{bundles.REGISTRY}/")}:
            engine.client.images.remove(name, force=True)
        if not again:
            yield


def test_back_forward_and_a_prune_between(engine: Engine, clean: None, tmp_path: Path) -> None:
    """Ids, the inventory and the engine's dangling images; a third bundle gives up the first."""
    ids, inventories, target = [], [], tmp_path / "target"
    for k in range(3):
        made = bundles.three(mark="rollback", code=f"print({k})\n".encode())
        made.write(tmp_path / str(k), extras={"licences/models.md": str(k).encode()})
        if k == 2:
            break
        done = hostile_bundles.load(engine.host, tmp_path / str(k))
        assert done.returncode == 0, done.stderr
        ids.append(engine.client.images.get(ASR).id)
        inventories.append((target / "inventory.json").read_bytes())
    assert engine.docker("image", "prune", "--force").code == 0
    for k in (0, 1):
        began = time.monotonic()
        done = hostile_bundles.load(engine.host, tmp_path / "1", "--rollback")
        took = time.monotonic() - began
        assert done.returncode == 0, done.stderr
        assert engine.client.images.get(ASR).id == ids[k]
        assert (target / "inventory.json").read_bytes() == inventories[k]
        assert (target / "licences/models.md").read_bytes() == str(k).encode()
        assert took < SECONDS
        assert engine.docker("images", "--filter", "dangling=true", "--quiet").out == ""
    assert hostile_bundles.load(engine.host, tmp_path / "2").returncode == 0
    there = {i.id for i in engine.client.images.list()}
    assert (ids[0] in there, ids[1] in there) == (False, True)
