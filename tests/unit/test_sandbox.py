"""How much a container may use: the arithmetic of its memory, and what the loader gets of the rights."""

from __future__ import annotations

import json

import pytest

from builder.core.jobs import sandbox

GB = 1_000_000_000


def test_memory_is_what_was_seen_with_the_models_and_half_as_much_again() -> None:
    assert sandbox.memory_wish(seen=400, models=0) == 600
    assert sandbox.memory_wish(seen=0, models=1000) == 1500
    assert sandbox.memory_wish(seen=1, models=2) == 4


def test_a_recording_of_unknown_length_counts_as_a_long_one() -> None:
    assert sandbox.lengths([10.0, None, 0.0]) == [10.0, sandbox.UNKNOWN, 0.0]


@pytest.mark.parametrize(
    ("wish", "machine", "limit"),
    [
        (GB, 10 * GB, GB),
        (10 * GB, 10 * GB, 9 * GB),
        (1, 10 * GB, 64_000_000),
        (10 * GB, 1_000_000, 64_000_000),
    ],
)
def test_a_limit_lies_between_the_least_and_most_of_the_machine(wish: int, machine: int, limit: int) -> None:
    assert sandbox.memory_limit(wish, machine) == limit


def test_a_look_into_a_recording_has_a_limit_of_its_own() -> None:
    assert sandbox.look_memory(64 * GB) == 1_500_000_000
    assert sandbox.look_memory(GB) == 900_000_000


def test_the_default_is_enough_for_the_largest_model() -> None:
    """2 GB seen in the full variant, 4 GB of weights, four hours of sound; and half as much again."""
    assert sandbox.DEFAULT_MEMORY == 3 * GB + 6 * GB + 6_480_000_000


def test_nobody_is_root() -> None:
    assert sandbox.user(0, 0) == sandbox.user(0, 100) == "65532:0"
    assert sandbox.user(1000, 0) == "1000:0"


def test_the_loader_gets_plain_json() -> None:
    data = sandbox.as_data()
    assert json.loads(json.dumps(data)) == data
    assert data["memory"] == {"default": 15_480_000_000, "least": 64_000_000, "share": 0.9, "look": 1_500_000_000}
    assert data["cap_drop"] == ["ALL"]
    assert data["security"] == ["no-new-privileges"]
    assert data["user_beside_root"] == "65532:0"
    assert [(m["target"], m["writable"]) for m in data["mounts"]] == [
        ("/job/job.yaml", False),
        ("/job/input", False),
        ("/job/work", True),
        ("/job/output", True),
        ("/job/events.jsonl", True),
    ]
