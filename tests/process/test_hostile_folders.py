"""Hostile job folders and every command: the first of those that ``make bench-hostile ARGS=jobs`` tries, and those that hit."""

from __future__ import annotations

import os
from collections.abc import Callable
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


def of_another_user(folder: Path, where: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(folder, jobs.NOBODY, jobs.NOBODY)


def events_with_two_names(folder: Path, where: Path) -> None:
    jobs.hard_link(folder / "events.jsonl", where)


def log_with_two_names(folder: Path, where: Path) -> None:
    jobs.hard_link(folder / "logs/demux.log", where)


def log_elsewhere(folder: Path, where: Path) -> None:
    jobs.link_to("{canary}/secret")(folder / "logs/demux.log", where)


def setting_of_no_stage(folder: Path, where: Path) -> None:
    text = (folder / "job.yaml").read_text()
    (folder / "job.yaml").write_text(text.replace("beam_size: 5", "beam_size: 999999"))


def without_end(folder: Path, where: Path) -> None:
    jobs.deep_folder(folder / "work/asr", where)


def engine_of_noise(folder: Path, where: Path) -> None:
    (folder / ".containers").write_bytes(b"\xff\xfe")


HITS: tuple[tuple[Callable[[Path, Path], None], tuple[str, ...], int], ...] = (
    (of_another_user, ("jobs", "show"), 2),
    (events_with_two_names, ("give",), 2),
    (log_with_two_names, ("native",), 2),
    (log_elsewhere, ("native",), 2),
    (setting_of_no_stage, ("jobs", "show"), 2),
    (without_end, ("jobs", "remove"), 0),
    (engine_of_noise, ("jobs", "remove"), 0),
)
"""What changed files of the host, was believed, or ended as a bug: the command, and its exit code now."""


@pytest.mark.parametrize(("plant", "words", "expected"), HITS, ids=lambda part: getattr(part, "__name__", None))
def test_what_once_hit(
    plant: Callable[[Path, Path], None], words: tuple[str, ...], expected: int, tmp_path: Path
) -> None:
    where, folder = jobs.canary(tmp_path), jobs.plant(tmp_path)
    plant(folder, where)
    before = jobs.state(where)
    code, said = jobs.command([*words, jobs.ID], tmp_path)
    assert code == expected, said
    assert ("this is not a job of this project" in said) is (expected == 2)
    assert jobs.state(where) == before
