"""How far a batch is: what its plan and its journals say together, whatever else stands in them; and its page."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.core.batch import page as pages
from builder.core.batch.page import BatchSummary
from builder.core.batch.tally import (
    DONE,
    FAILED,
    MOST_REASONS,
    OPEN,
    UNREADABLE,
    BatchTally,
    MissingResult,
    ShardJournal,
    latest,
)
from builder.node.items import Item, compact, from_line, to_line
from builder.node.jobs import CHANGED
from builder.views import schemas
from builder.views.batch import status as views
from builder.workflows.batch import status as batches
from tests.batch_folders import alive, begin, done, end, failed, item
from tests.unit.test_report import HOSTILE, Tags

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = {name: (ROOT / "templates/batch" / name).read_text() for name in pages.TEMPLATES}

A, B, C = item("a.wav", seconds=60), item("b.wav", seconds=30, shard=1), item('c "q" \\ ü.wav', seconds=10, shard=1)
BROKEN = item("d.txt", unreadable="it is not media")


def tally(*items: Item, **journals: list[Any]) -> BatchTally:
    """A tally of a plan and of journals: ``j0=[events…]`` is one of shard 0; an event may be a line as it stands."""
    found = BatchTally()
    assert found.add_items("".join(f"{to_line(one)}\n" for one in items).encode()) is None
    for name, events in journals.items():
        journal = found.journal(f"{name[1:].split('_')[0]}-node-1-{name}.jsonl", changed=1000.0)
        lines = [event if isinstance(event, str) else compact(event) for event in events]
        found.add_events(journal, "".join(f"{line}\n" for line in lines).encode())
    return found


def states(found: BatchTally) -> list[int]:
    return list(found.states)


def test_states_of_items() -> None:
    """Done, failed, unreadable, or nothing is known; whatever the name of a recording is."""
    found = tally(A, B, C, BROKEN, j0=[begin(0), done(A), end()], j1=[begin(1), failed(C)])
    assert states(found) == [DONE, OPEN, FAILED, UNREADABLE]
    assert list(found.by_reason(FAILED)) == [(MissingResult("recording", "demux", "it has no sound"), 1)]
    assert list(found.by_reason(UNREADABLE)) == [(MissingResult("plan", "", "it is not media"), 1)]
    assert (found.sound(DONE), found.sound(OPEN)) == (60.0, 30.0)


def test_a_result_is_for_ever_and_a_failure_is_not() -> None:
    """A later failure takes no result away; a result takes a failure away; a retry takes failures of before."""
    assert states(tally(A, j0=[done(A), failed(A)])) == [DONE]
    assert states(tally(A, j0=[failed(A)], j0_2=[done(A)])) == [DONE]
    again = item("a.wav", again=1)
    assert states(tally(again, j0=[failed(A)])) == [OPEN]
    assert states(tally(again, j0=[failed(A), failed(A, again=1)])) == [FAILED]
    assert states(tally(BROKEN, j0=[failed(BROKEN)])) == [UNREADABLE]


def test_lines_that_say_nothing_are_passed_over() -> None:
    """Not JSON, another shape, keys of other plans, numbers that are none: nothing of it counts, nothing raises."""
    odd = [
        "",
        "{",
        "[]",
        "null",
        '"done"',
        "[" * 5000,
        '{"event":"done"}',
        '{"event":"done","key":5}',
        '{"event":"done","key":"../../etc/passwd000"}',
        compact({"event": "done", "key": "0" * 20, "seconds": 1.0}),
        '{"event":"begin","t":"x","host":7}',
        '{"event":"begin","t":1e999}',
        '{"event":"alive","t":-5}',
        '{"event":"end","code":"zero"}',
        compact({"event": "failed", "key": A.key, "reason": {"a": [1]}, "stage": [], "again": True}),
    ]
    found = tally(A, B, j0=odd)
    assert states(found) == [FAILED, OPEN]
    assert list(found.by_reason(FAILED)) == [(MissingResult("stage", "", ""), 1)]
    [journal] = found.journals.values()
    assert (journal.host, journal.code) == ("", 1)
    assert math.isnan(journal.begin)


def test_a_done_line_in_another_spelling_counts_too() -> None:
    """The regular expression is for speed only."""
    spaced = json.dumps(done(A))
    turned = json.dumps(dict(reversed(done(B, kept=True).items())))
    found = tally(A, B, j0=[spaced, turned])
    assert states(found) == [DONE, DONE]
    assert (found.took[0], list(found.fresh)) == (2.5, [1, 0])


def test_reasons_are_short_and_few() -> None:
    """Whoever writes journals can fill neither memory nor a screen."""
    items = [item(f"{k:05}.wav") for k in range(MOST_REASONS + 50)]
    found = tally(*items, j0=[failed(one, f"{k} " + "x\n\x1b" * 4000) for k, one in enumerate(items)])
    assert len(found.reasons) == MOST_REASONS + 1
    assert found.reasons[-1].text == "other reasons"
    assert max(len(reason.text) for reason in found.reasons) <= 300
    assert not any("\n" in reason.text for reason in found.reasons)


def test_a_line_that_is_no_item_has_a_number() -> None:
    good = to_line(A).encode() + b"\n"
    for odd in (b"{}\n", b"x\n", b'{"key":"00000000000000000000","path":5}\n', good.replace(b'"seconds":60.0,', b"")):
        assert BatchTally().add_items(good + odd) == 2
    twice = BatchTally()
    assert twice.add_items(good + good) is None
    assert len(twice.states) == 1


@given(
    st.text(min_size=1, max_size=30).filter(
        lambda t: "\0" not in t and t.isprintable() and "/" not in t and t[0] != "."
    ),
    st.floats(min_value=0, max_value=1e6).map(lambda s: round(s, 3)),
    st.integers(0, 10**6),
    st.integers(0, 3),
)
@settings(max_examples=50)
def test_items_are_read_as_nodes_read_them(name: str, seconds: float, shard: int, again: int) -> None:
    """Both readers agree on every line that the plan writes."""
    line = to_line(item(name, seconds=seconds, shard=shard, again=again)).encode()
    known, found = from_line(line), BatchTally()
    assert found.add_items(line + b"\n") is None
    assert list(found.numbers) == [known.key.encode()]
    assert (found.seconds[0], found.shards[0], found.again[0]) == (known.seconds, known.shard, known.again)


EVENTS = [done(A), done(A, kept=True), failed(A), done(B), failed(B), failed(B, again=1), alive(5.0)]


@given(st.lists(st.sampled_from(EVENTS)), st.randoms())
def test_the_order_of_journals_changes_nothing(events: list[dict[str, Any]], chance: random.Random) -> None:
    """Nodes write at the same time: done is done, and the last try counts, in whatever order their journals are read."""
    one, other = tally(A, B, j0=events), tally(A, B, j0=chance.sample(events, len(events)))
    assert [one.state_of(item.key) == DONE for item in (A, B)] == [
        any(e["event"] == "done" and e["key"] == item.key for e in events) for item in (A, B)
    ]
    assert (one.states, one.fresh, one.took[0] == one.took[0]) == (
        other.states, other.fresh, other.took[0] == other.took[0],
    )  # fmt: skip
    assert one.state_of(B.key) != FAILED or one.tries_of(B.key) == other.tries_of(B.key)


def test_what_failed_can_be_tried_again_whatever_a_journal_says() -> None:
    """The number of tries stays one that a plan can have."""
    for again in (0, 3, 998, 999, 1000, 10**9):
        told = tally(A, j0=[failed(A, again=again)])
        if told.state_of(A.key) == FAILED:
            assert told.tries_of(A.key) == again
            assert from_line(to_line(A._replace(again=again + 1)).encode()).again == again + 1
        else:
            assert again >= 999


def test_who_runs() -> None:
    """No end, and a word or a change of the file within a minute; clocks may be ahead as much."""
    now = 10_000.0
    known = {"shard": 0, "begin": 1.0}
    assert ShardJournal(**known, last=now - 59).alive(now)
    assert ShardJournal(**known, last=now + 59).alive(now)
    assert ShardJournal(**known, last=1.0, changed=now - 5).alive(now)
    assert not ShardJournal(**known, last=now - 61, changed=now - 61).alive(now)
    assert not ShardJournal(**known, last=now, code=0).alive(now)
    assert not ShardJournal(**known, last=now + 3600).alive(now)
    assert latest([]) is None


def test_pace_is_of_the_time_in_which_something_ran() -> None:
    """Shards at the same time count once, pauses not at all; results that were found aren't of this pace."""
    found = tally(
        A,
        B,
        C,
        j0=[begin(0, t=1000), done(A), end(t=1020)],
        j1=[begin(1, t=1010), done(B), done(C, kept=True), end(t=1030)],
        j1_2=[begin(1, t=9000), end(t=9015)],
    )
    assert found.worked() == 45.0
    assert found.real_time_factor() == 2.0
    assert tally(A, j0=[begin(0), done(A, kept=True), end()]).real_time_factor() is None


def status(found: BatchTally, now: float = 1030.0) -> batches.BatchStatus:
    return batches.of_tally(Path("/b"), found, now)


def test_what_is_printed() -> None:
    found = status(
        tally(
            A,
            B,
            C,
            BROKEN,
            item("e.wav", shard=2, seconds=5),
            item("f.wav", shard=3, seconds=7),
            j0=[begin(0, t=1000), done(A), end(t=1030)],
            j1=[begin(1, t=1000), failed(C, "it\x1b[31m is\u202e cut"), alive(1030.0)],
            j2=[begin(2, t=1), end(3, t=2)],
        )
    )
    assert (found.running, found.missing, found.running_shards, found.over) == (1, 2, 1, False)
    assert views.STATUS.text(found).splitlines() == [
        "6 recordings: 1 done, 1 failed, 1 unreadable, 1 running in 1 shard, 2 missing",
        "sound: 1:00 done, 0:42 left; 1.9 times as fast as it is played, 0.0 hours left",
        "",
        "RECORDINGS  STAGE  REASON",
        "1           demux  it\\x1b[31m is\\u202e cut",
        "1           plan   it is not media",
        "",
        "SHARD  STATE         DONE    FAILED  SOUND  MACHINE",
        "0      done          1 of 1  0       1:00   node",
        "1      running       0 of 2  1       0:40   node",
        "2      ended with 3  0 of 1  0       0:05   node",
        "3      waiting       0 of 1  0       0:07   -",
    ]
    data: Any = views.STATUS.data(found)
    schemas.adapter(views.STATUS.shape).validate_python(data)
    assert data["items"] == sum(data[name] for name in ("done", "failed", "unreadable", "running", "missing"))
    over = status(tally(A, B, j0=[done(A), failed(B)]))
    assert views.STATUS.text(over).splitlines()[-2:] == [
        "next: python3 build.py batch retry /b --failed",
        "next: python3 build.py batch collect /b",
    ]
    changed = status(tally(A, B, j0=[done(A), failed(B, CHANGED)]))
    assert views.STATUS.text(changed).splitlines()[-2:] == [
        "next: python3 build.py batch plan … --out /b",
        "next: python3 build.py batch collect /b",
    ]
    many = status(tally(*(item(f"{k:03}.wav", shard=k) for k in range(100))))
    assert not many.listed
    assert many.hours_left is None
    assert many.shards == 100


def page(text: str) -> str:
    """A page on which a folder, a recording, a stage and a reason are this text."""
    summary = BatchSummary(
        name=text,
        version="1",
        moment="2026-11-24 08:00",
        items=2,
        counts=tuple((state, 1) for state in pages.STATES),
        done_sound=1.0,
        left_sound=2.0,
        pace=3.0,
        differing=1,
        reasons=((text, text, 1),),
        unshown=1,
    )
    found = tally(A, B, j0=[done(A), failed(B)])
    rows = [pages.row(found, at, text, key=one.key, running=False, paged=True) for at, one in enumerate((A, B))]
    return "".join(pages.render(summary, rows, [MissingResult("stage", text, text)], TEMPLATES))


PLAIN = Tags(page("plain")).tags


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_names(text: str) -> None:
    """None of them adds a tag or an attribute, and the data reads back."""
    found = Tags(page(text))
    assert found.tags == PLAIN
    written = text.encode("utf-8", "replace").decode()
    assert [row[-1] for row in json.loads(found.blocks["data"])] == [written, written]
    assert json.loads(found.blocks["reasons"]) == [[written, written]]


def test_the_page_asks_for_nothing() -> None:
    """Its own script and style by hash are all that the policy allows."""
    text = page("plain")
    found = Tags(text)
    for name in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(found.blocks[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in found.policy
    assert "default-src 'none'" in found.policy
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not [name for _, names in found.tags for name in names if name == "style" or name.startswith("on")]


def test_a_row_says_what_is_known() -> None:
    """A link for what has a result; why there is none; nothing where nothing is known."""
    found = tally(A, B, C, BROKEN, j0=[done(A)], j1=[failed(B)])
    rows = [
        json.loads(pages.row(found, at, one.path, key=one.key, running=at == 2, paged=at == 0))
        for at, one in enumerate((A, B, C, BROKEN))
    ]
    assert rows == [
        [4, 0, 60.0, 2.5, -1, 1, A.key, "a.wav"],
        [0, 1, 30.0, None, 1, 0, "", "b.wav"],
        [2, 1, 10.0, None, -1, 0, "", C.path],
        [1, -1, 0.0, None, 0, 0, "", "d.txt"],
    ]
