"""What was built when: kept over kill -9 and full disks, and a person is told of images that grew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder.core.images.history import BuildRecord, grown, line, parsed, predecessors
from builder.edges.images.past import history
from builder.views.past.images import HISTORY
from builder.workflows import images

ONE = BuildRecord(
    at="2026-11-20T10:00:00Z",
    tag="wb/asr:slim-cpu",
    id="sha256:1",
    state="built",
    seconds=9.5,
    size_bytes=400,
    sent_bytes=9,
)
TWO = replace(ONE, at="2026-11-21T10:00:00Z", id="sha256:2", size_bytes=480)
OTHER = replace(ONE, tag="wb/vad:slim-cpu", id="sha256:3", size_bytes=1)


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    history.note(file, [ONE, OTHER])
    history.note(file, [TWO])
    assert history.read(file) == (ONE, OTHER, TWO)
    assert history.read(tmp_path / "none") == ()


@pytest.mark.parametrize(
    "cut", [b"", b'{"at": "2026', b"\x00\xff", b"[" * 100_000, b'{"at": 1}', b"null", b'{"seconds": 1e999}']
)
def test_a_line_that_was_cut_short_spoils_no_other(tmp_path: Path, cut: bytes) -> None:
    file = tmp_path / "history.jsonl"
    history.note(file, [ONE])
    with file.open("ab") as out:
        out.write(cut)
    history.note(file, [TWO])
    assert history.read(file) == (ONE, TWO)


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST", 5)
    file = tmp_path / "history.jsonl"
    for number in range(30):
        history.note(file, [replace(ONE, id=str(number))])
    kept = [int(record.id) for record in history.read(file)]
    assert kept == list(range(kept[0], 30))
    assert 5 <= len(kept) <= 11


def test_each_is_compared_with_the_image_that_it_replaced() -> None:
    """Not with itself: the same image is assembled again after a prune."""
    records = (ONE, OTHER, replace(ONE, state="assembled"), TWO, replace(TWO, state="assembled"))
    assert [before and before.id for before in predecessors(records)] == [None, None, None, "sha256:1", "sha256:1"]
    assert parsed([line(ONE).encode()]) == (ONE,)


@pytest.mark.parametrize(
    ("before", "after", "times"), [(400, 440, None), (400, 441, 1.1025), (0, 9, None), (400, 1, None)]
)
def test_more_than_a_tenth_is_a_growth(before: int, after: int, times: float | None) -> None:
    assert grown(replace(ONE, size_bytes=before), replace(TWO, size_bytes=after)) == times
    assert grown(None, TWO) is None


def test_a_build_writes_down_what_changed_and_tells_of_what_grew(tmp_path: Path) -> None:
    config: Any = SimpleNamespace(paths=SimpleNamespace(history=tmp_path / "history.jsonl"))

    def build(id_: str, size: int, state: str = "built") -> dict[str, BuildRecord]:
        one: Any = SimpleNamespace(tag="wb/asr:slim-cpu", state=state, seconds=1.0, sent=0)
        return images._note(config, [one], {one.tag: SimpleNamespace(id=id_, size_bytes=size)})  # type: ignore[dict-item]

    assert build("1", 400) == {}
    assert build("1", 400, "up to date") == {}
    assert [one.size_bytes for one in build("2", 480).values()] == [400]
    assert build("3", 481) == {}
    past = images.past(SimpleNamespace(config=config))  # type: ignore[arg-type]
    assert [record.id for record in past.records] == ["3", "2", "1"]
    lines = HISTORY.text(past).splitlines()
    assert len(lines) == 4
    assert "+20.0%" in lines[2]
