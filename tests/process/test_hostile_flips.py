"""Single bits of a signed bundle: the first of those that ``make bench-hostile`` flips by the thousand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import bundles
from tests.hostile import effect, flips

KINDS = 18
FIRST = 6 * KINDS


def test_every_kind_of_file_comes_in_turn() -> None:
    kinds = set(flips.places())
    assert kinds >= {*flips.BESIDE, *flips.EXTRAS, "code", "weights", "config", "manifest", "header", "zeros"}
    assert len(kinds) >= KINDS
    assert bundles.damaged(flips.good()) == []


@pytest.mark.parametrize("first", range(0, FIRST, KINDS))
def test_a_flipped_bit_is_caught_and_named(first: int, tmp_path: Path) -> None:
    """By the sender's command and by the loader: the file, and what in it; one of each kind."""
    missed = [effect(flips.attempt(k), tmp_path / str(k)) for k in range(first, first + KINDS)]
    assert [text for text in missed if text] == []
