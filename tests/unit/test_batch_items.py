"""Lines of items.jsonl: what is written is read, and what a stranger wrote is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.node.items import LONGEST_ITEM, Item, compact, from_line, from_lines, item_key, plain_path, to_line

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=30).filter(
    lambda name: name not in (".", "..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
SIZES = st.integers(0, (1 << 63) - 1)
TIMES = st.integers(-(1 << 63), (1 << 63) - 1)


@st.composite
def items(draw: st.DrawFn) -> Item:
    """Any item that a plan may write."""
    path, size = draw(PATHS), draw(SIZES)
    mtime = draw(st.none() | TIMES)
    sha256 = (
        "".join(draw(st.lists(st.sampled_from("0123456789abcdef"), min_size=64, max_size=64)))
        if mtime is None
        else None
    )
    item = Item(
        key=item_key(path, size, str(mtime) if sha256 is None else sha256),
        path=path,
        size=size,
        mtime_ns=mtime,
        sha256=sha256,
        again=draw(st.integers(0, 3)),
    )
    if draw(st.booleans()):
        return item._replace(unreadable=draw(NAMES))
    return item._replace(seconds=draw(st.integers(0, 10**9).map(lambda n: n / 1000)), shard=draw(st.integers(0, 10**6)))


@given(items())
def test_a_line_gives_its_item_again(item: Item) -> None:
    line = to_line(item)
    assert "\n" not in line
    assert line.isascii()
    assert from_line(line.encode()) == from_line(line.encode() + b"\n") == item


@given(items(), st.integers(0, 10**6))
def test_the_quick_way_reads_what_the_parser_reads(item: Item, spaces: int) -> None:
    """A line with a space more is read by the parser."""
    line = to_line(item)
    at = [n for n, sign in enumerate(line) if sign == ","][spaces % line.count(",")] if "," in line else 0
    with_space = f"{line[: at + 1]} {line[at + 1 :]}"
    try:
        assert json.loads(with_space) == json.loads(line)
    except (AssertionError, ValueError):  # the comma was in a text
        return
    assert from_line(with_space.encode()) == item


@given(PATHS, SIZES, TIMES, PATHS, SIZES, TIMES)
def test_a_key_changes_with_path_size_and_identity_and_with_nothing_else(
    path: str, size: int, mtime: int, path2: str, size2: int, mtime2: int
) -> None:
    same = (path, size, mtime) == (path2, size2, mtime2)
    assert (item_key(path, size, str(mtime)) == item_key(path2, size2, str(mtime2))) == same


GOOD = Item(item_key("a/b.wav", 12, "5"), "a/b.wav", 12, 5, None, 1.5, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"path": "../b.wav"}, "leads nowhere below"),
        ({"path": "/etc/passwd"}, "leads nowhere below"),
        ({"path": "a//b"}, "leads nowhere below"),
        ({"path": "a/b\0"}, "leads nowhere below"),
        ({"path": "a/"}, "leads nowhere below"),
        ({"path": 5}, "leads nowhere below"),
        ({"path": "x" * 5000}, "leads nowhere below"),
        ({"path": "a/c.wav"}, "not that of its path"),
        ({"size": 13}, "not that of its path"),
        ({"size": True}, "not a whole number"),
        ({"size": -1}, "not a whole number"),
        ({"size": 1.5}, "not a whole number"),
        ({"mtime_ns": 6}, "not that of its path"),
        ({"key": "x"}, "20 hex digits"),
        ({"key": "../../x"}, "20 hex digits"),
        ({"seconds": -1.0}, "not a length"),
        ({"seconds": "1"}, "not a length"),
        ({"seconds": True}, "not a length"),
        ({"shard": -1}, "not a whole number"),
        ({"shard": 10**8}, "not a whole number"),
        ({"shard": None}, "not a whole number"),
        ({"again": 10**6}, "not a whole number"),
        ({"sha256": "0" * 64}, "its keys are not"),
        ({"more": 1}, "its keys are not"),
        ({"unreadable": "why"}, "its keys are not"),
    ],
)
def test_what_a_stranger_wrote_is_refused_with_the_reason(change: dict[str, object], said: str) -> None:
    data = json.loads(to_line(GOOD)) | change
    with pytest.raises(ValueError, match=said):
        from_line(compact(data).encode())


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b"null", b"{" * 1000, b'{"key":NaN}', b"\xff", b"x" * (LONGEST_ITEM + 1)]
)
def test_what_is_no_object_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_line(line)


@given(st.binary(max_size=300))
def test_no_line_is_a_bug(line: bytes) -> None:
    """Whatever it holds, it is an item or a ValueError."""
    try:
        item = from_line(line)
    except ValueError:
        return
    assert plain_path(item.path)


def test_a_file_says_which_line_is_wrong_and_no_path_stands_twice() -> None:
    good = to_line(GOOD).encode()
    with pytest.raises(ValueError, match="line 2: its path is not after"):
        list(from_lines([good, good]))
    later = Item(item_key("b", 1, "5"), "b", 1, 5, None, 1.0, 0)
    assert list(from_lines([good, to_line(later).encode()])) == [GOOD, later]
    with pytest.raises(ValueError, match="line 1: "):
        list(from_lines([b"{}"]))
