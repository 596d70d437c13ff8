"""A batch as a plan: shards of even length, rounds, batch.yaml, and what keeps it from being planned again."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.batch.batch_file import Batch, Round, from_text, require_version, to_text, typed
from builder.core.batch.differences import differences
from builder.core.batch.rounds import settled, waiting, with_round
from builder.core.batch.shards import length, share
from builder.errors import ConfigError, UsageError
from builder.node.items import Item, item_key

LENGTHS = st.lists(st.floats(0, 20_000), min_size=1, max_size=200).map(
    lambda every: [(seconds, f"{number:04}.wav") for number, seconds in enumerate(every)]
)


@given(LENGTHS, st.floats(6, 100_000))
def test_shards_are_even(lengths: list[tuple[float, str]], wanted: float) -> None:
    """No shard is emptied, and none has more than the least one and its own last recording."""
    shares = share(lengths, wanted)
    assert len(shares) == len(lengths)
    loads: dict[int, float] = defaultdict(float)
    last: dict[int, float] = {}
    for (seconds, _), shard in zip(lengths, shares, strict=True):
        loads[shard] += seconds
        last[shard] = min(seconds, last.get(shard, seconds))
    assert sorted(loads) == list(range(len(loads)))
    for shard, load in loads.items():
        assert load - last[shard] <= min(loads.values()) + 1e-6 * (1 + load)
    total = sum(seconds for seconds, _ in lengths)
    assert len(loads) <= max(1, total / wanted + 1)


@given(LENGTHS, st.floats(6, 100_000), st.randoms(use_true_random=False))
def test_the_order_of_recordings_changes_no_shard(lengths: list[tuple[float, str]], wanted: float, chance: Any) -> None:
    mixed = lengths.copy()
    chance.shuffle(mixed)
    one, other = (dict(zip([path for _, path in each], share(each, wanted), strict=True)) for each in (lengths, mixed))
    assert one == other


def test_a_recording_without_a_known_length_counts_by_its_size() -> None:
    assert length(None, 16_000_000) == 1000.0
    assert length(61.23456, 5) == 61.235


TEMPLATE = {
    "schema": 1,
    "workflow": "transcribe",
    "mode": "native",
    "variant": "slim",
    "preset": "tiny-en",
    "stages": [
        {"name": "demux", "needs": [], "settings": {"track": None}, "models": {}, "optional": False},
        {
            "name": "asr",
            "needs": ["demux"],
            "settings": {"language": "en", "threads": 2},
            "models": {
                "asr": {"id": "tiny.en", "path": "hub/x", "digest": "sha256:1", "revision": "r", "languages": ["en"]}
            },
            "optional": False,
        },
    ],
}
BATCH = Batch(
    version="0.1.0",
    created="2026-11-27T23:02:37Z",
    root="/archive/täpes 😀\u202e",
    identity="mtime",
    shard_minutes=30.0,
    options={"preset": "tiny-en", "set": ["subtitles.lines=1"]},
    mode="native",
    variant="slim",
    preset="tiny-en",
    workflow="transcribe",
    images={"asr": "sha256:2"},
    models={"tiny.en": "sha256:1"},
    job=TEMPLATE,
    rounds=(Round(first=0, shards=2), Round(first=2, shards=1)),
    beside={"cast.json": "0" * 64},
)


def test_batch_yaml_gives_the_batch_again() -> None:
    text = to_text(BATCH)
    assert "\u202e" not in text
    assert from_text(text, "batch.yaml") == BATCH
    assert BATCH.shards == 3


@given(st.text(max_size=20), st.text(max_size=20))
def test_batch_yaml_takes_any_text(folder: str, value: str) -> None:
    """Whatever a folder and an option are called; halves of surrogates are refused before."""
    batch = replace(BATCH, root=f"/{folder}", options={"prompt": value})
    assert from_text(to_text(batch), "batch.yaml") == batch


def test_a_person_may_write_it_as_yaml() -> None:
    import yaml

    plain = replace(BATCH, root="/archive")
    assert from_text(yaml.safe_dump(from_yaml(to_text(plain))), "batch.yaml") == plain


def from_yaml(text: str) -> Any:
    import yaml

    return yaml.safe_load(text)


@pytest.mark.parametrize(
    ("change", "said", "where"),
    [
        (('"schema": 1', '"schema": 2'), "another version", "batch.yaml:2"),
        (('"schema": 1', '"schema": "x"'), "another version", "batch.yaml:2"),
        (('"identity": "mtime"', '"identity": "name"'), "identity", "batch.yaml:6"),
        (('"shard_minutes": 30.0', '"shard_minutes": 0'), "shard_minutes", "batch.yaml:7"),
        (('"version": "0.1.0"', '"version": 1'), "version", "batch.yaml:3"),
        (('"version": "0.1.0",', ""), '"version" is missing', "batch.yaml"),
        (('"version": "0.1.0",', '"version": "0.1.0", "more": 1,'), 'unknown key "more"', "batch.yaml:3"),
        (('"first": 2', '"first": 1'), "two rounds have the same shards", "batch.yaml"),
        (('"first": 2', '"first": -2'), "first", "batch.yaml"),
        (('"cast.json"', '"../cast.json"'), "beside/", "batch.yaml"),
        (('"cast.json"', '".hidden"'), "beside/", "batch.yaml"),
        (("{", "["), "not YAML", "batch.yaml"),
    ],
)
def test_another_batch_yaml_is_refused_with_its_line(change: tuple[str, str], said: str, where: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_text(to_text(BATCH).replace(*change, 1), "batch.yaml")
    assert said in refused.value.what
    assert str(refused.value.where).startswith(where)


@pytest.mark.parametrize("text", ["", "null", "[]", "5", "schema: 1", "{" * 3000, "a: &x 1\nb: *x", "\0"])
def test_what_is_no_batch_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        from_text(text, "batch.yaml")


def test_another_version_of_the_program_makes_other_results() -> None:
    require_version(BATCH, "0.1.0", "B")
    with pytest.raises(UsageError, match=r"whisperbake 0\.1\.0 planned this batch, and this is 0\.2\.0"):
        require_version(BATCH, "0.2.0", "B")


def stage(name: str, **settings: Any) -> dict[str, Any]:
    """The template with other settings of a stage."""
    stages = [
        {**each, "settings": {**each["settings"], **settings}} if each["name"] == name else each
        for each in TEMPLATE["stages"]  # type: ignore[attr-defined]
    ]
    return {**TEMPLATE, "stages": stages}


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({}, []),
        ({"shard_minutes": 5.0, "rounds": (), "created": "later"}, []),
        ({"job": stage("asr", threads=8)}, []),
        ({"options": {"preset": "tiny-en"}}, ["option set: ['subtitles.lines=1'], now none"]),
        ({"identity": "sha256"}, ["identity: mtime, now sha256"]),
        ({"models": {"tiny.en": "sha256:9"}}, ["model tiny.en: sha256:1, now sha256:9"]),
        ({"images": {}}, ["image of asr: sha256:2, now none"]),
        ({"job": stage("asr", language="de")}, ["asr.language: en, now de"]),
        ({"beside": {}}, [f"file cast.json: {'0' * 59}…, now none"]),
    ],
)
def test_what_differs_is_said(now: dict[str, Any], said: list[str]) -> None:
    assert differences(BATCH, replace(BATCH, **now)) == said


def test_options_are_words_again() -> None:
    options = {"preset": "tiny-en", "no_diarization": True, "set": ["a.b=1", "c.d=x y"], "speakers": 2}
    assert " ".join(typed(options)) == "--preset tiny-en --no-diarization --set a.b=1 --set 'c.d=x y' --speakers 2"


def planned(count: int, *, unreadable: int = 0) -> list[Item]:
    found = [Item(item_key(f"{n:03}", n, "1"), f"{n:03}", n, 1, None, 60.0 + n) for n in range(count)]
    return [item._replace(unreadable="x", seconds=0.0) if n < unreadable else item for n, item in enumerate(found)]


NEW = replace(BATCH, rounds=(), shard_minutes=5.0)


@given(st.integers(1, 60), st.integers(0, 5))
def test_every_readable_item_is_in_exactly_one_shard_of_the_round(count: int, unreadable: int) -> None:
    plan = with_round(NEW, planned(count + unreadable, unreadable=unreadable), lambda item: True)
    assert plan.round is not None
    assert plan.round.first == 0
    shards = Counter(item.shard for item in plan.items)
    assert shards.pop(None, 0) == unreadable
    assert sorted(shards) == list(range(plan.round.shards))  # type: ignore[type-var]
    assert all(settled(plan.batch, item) for item in plan.items if not item.unreadable)


def test_a_later_round_moves_only_what_is_left() -> None:
    first = with_round(NEW, planned(20), lambda item: True)
    left = {item.key for item in first.items[::3]}
    second = with_round(first.batch, first.items, lambda item: item.key in left)
    assert second.round == Round(first=first.batch.shards, shards=second.batch.shards - first.batch.shards)
    for before, after in zip(first.items, second.items, strict=True):
        if after.key in left:
            assert after.shard is not None
            assert after.shard >= first.batch.shards
        else:
            assert after == before
    assert waiting(second.batch, second.items, left)
    assert not waiting(second.batch, second.items, left - {min(left)})
    assert not waiting(first.batch, first.items, left)


def test_nothing_left_makes_no_round() -> None:
    plan = with_round(NEW, planned(3), lambda item: False)
    assert (plan.round, plan.batch) == (None, NEW)


def test_a_plan_that_was_killed_between_its_files_gives_no_number_twice() -> None:
    """items.jsonl had shards that batch.yaml never knew."""
    torn = with_round(NEW, planned(20), lambda item: True).items
    assert not any(settled(NEW, item) for item in torn)
    plan = with_round(NEW, torn, lambda item: True)
    assert plan.round is not None
    assert plan.round.first == 1 + max(item.shard for item in torn if item.shard is not None)
