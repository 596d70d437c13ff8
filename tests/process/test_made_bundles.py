"""Prepared bundles, sticks and folders: the first of those that ``make bench-hostile`` tries by the hundred."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.hostile import effect, made_bundles

FIRST = 24


@pytest.mark.parametrize("number", range(FIRST))
def test_a_prepared_bundle_changes_nothing(number: int, tmp_path: Path) -> None:
    assert effect(made_bundles.attempt(number), tmp_path / "place") is None


def test_the_bundle_that_they_begin_with_is_loaded(tmp_path: Path) -> None:
    """Else all of them could be refused for another reason."""

    def nothing(scene: made_bundles.Scene) -> tuple[str, tuple[str, ...]]:
        scene.may_load = True
        return "good", ("--key", str(scene.key))

    found = made_bundles.tried(nothing, random.Random(0), tmp_path / "place")
    assert found is None
    assert (tmp_path / "place/home/whisperbake/inventory.json").is_file()
