"""Faults at random points, the first of them; ``make bench-hostile ARGS=faults`` tries as many as the bar names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile import effect, faults
from tests.hostile.faults import tried

pytestmark = pytest.mark.xdist_group("hostile faults")


@pytest.mark.parametrize("number", [3, 4, 6, 8, 9, 10, 11, 14, 15, 27, 31])
def test_whatever_is_struck_the_next_run_ends_right(number: int, tmp_path: Path) -> None:
    """Works that need no server and no second process; the heavy tests try the others, too."""
    assert effect(faults.attempt(number), tmp_path / "place") is None


@pytest.mark.parametrize(
    ("work", "kind", "part"),
    [
        ("render", "kill", 0.5),  # the folder was not known as one of ours: the next run refused it
        ("layout", "kill", 0.7),  # an export, likewise
        ("fetch", "kill", 0.9),  # behind the last file: the revision's name never came
        ("project_", "kill", 0.72),  # a temporary file stayed beside the user's own for good
    ],
)
def test_faults_that_had_an_effect(work: str, kind: str, part: float, tmp_path: Path) -> None:
    """Each was found by a number."""
    assert effect(tried("again", work, kind, "changes", part), tmp_path / "place") is None


@pytest.mark.heavy
@pytest.mark.parametrize("first", range(0, 2500, 100))
def test_all_faults(first: int, tmp_path: Path) -> None:
    """2500 of them: 0 wrong, 0 lost."""
    found = [effect(faults.attempt(number), tmp_path / f"{number}") for number in range(first, first + 100)]
    assert [wrong for wrong in found if wrong] == []
