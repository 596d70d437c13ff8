"""Hostile job folders and every command: the first of those that ``make bench-hostile ARGS=jobs`` tries."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile import effect, jobs

GROUPS, SIZE = 3, 8
"""How many are tried here, in groups that two workers share."""


@pytest.mark.parametrize("group", range(GROUPS))
def test_a_hostile_job_has_no_effect_outside(group: int, tmp_path: Path) -> None:
    numbers = range(group * SIZE, (group + 1) * SIZE)
    found = [effect(jobs.attempt(number), tmp_path / str(number)) for number in numbers]
    assert [line for line in found if line is not None] == []
