"""A line of ``items.jsonl``: one recording of a batch. Pure, for the builder and for nodes.

    {"key":"4f…","mtime_ns":17…,"path":"tape/1.wav","seconds":61.2,"shard":0,"size":1958444}
    {"key":"90…","mtime_ns":17…,"path":"tape/2.wav","size":12,"unreadable":"it is not media"}

Whoever writes in the batch's folder may have written anything: a line is bounded, and every value is checked.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from builder.receiver.jobs.untrusted import parse_json

LONGEST_ITEM = 20_000
"""Bytes of a line: a path has at most 4096, and JSON makes six of one."""

MOST_ITEMS = 1_000_000
"""Lines that are read."""

MOST_SHARDS = 10_000_000
"""Shard numbers are below this."""

MOST_TRIES = 1000
"""An item is taken up again less often."""

MOST_SECONDS = 1e9
"""Seconds of sound; no recording is as long."""

KEY = re.compile(r"[0-9a-f]{20}")
"""What :func:`item_key` makes."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_USUAL = re.compile(
    rb'\{"key":"([0-9a-f]{20})","mtime_ns":(0|[1-9][0-9]{0,18}),"path":"([ -!#-\[\]-~]+)",'
    rb'"seconds":([0-9]{1,9}\.[0-9]{1,6}),"shard":(0|[1-9][0-9]{0,6}),"size":(0|[1-9][0-9]{0,17})\}'
)
"""A line as it mostly is, read without a parser: a hundred thousand of them in a second."""


class Item(NamedTuple):
    """One recording of a batch."""

    key: str
    """20 hex digits: :func:`item_key`."""
    path: str
    """From the batch's root, with slashes."""
    size: int
    """Bytes."""
    mtime_ns: int | None = None
    """Nanoseconds since 1970, where this tells that a recording changed; else ``sha256`` does."""
    sha256: str | None = None
    """Hex."""
    seconds: float = 0.0
    """Of sound, as its header says, or guessed from its size; 0 where it is unreadable."""
    shard: int | None = None
    """Number of the shard that it is in; None where it is unreadable."""
    unreadable: str = ""
    """Why it can't be read; empty: it can."""
    again: int = 0
    """How often ``batch retry --failed`` took it up: a failure of fewer times counts no longer."""

    @property
    def name(self) -> str:
        """The recording's file name."""
        return self.path.rpartition("/")[2]


def item_key(path: str, size: int, identity: str) -> str:
    """The key of a recording: another path, size or identity is another item.

    Args:
        path: from the batch's root.
        identity: ``mtime_ns`` as decimal digits, or the hex sha256.
    """
    return hashlib.sha256(f"{path}\0{size}\0{identity}".encode()).hexdigest()[:20]


def compact(value: Any) -> str:
    """JSON on one line, the same for the same value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def to_line(item: Item) -> str:
    """A line of items.jsonl, without its end."""
    data: dict[str, Any] = {"key": item.key, "path": item.path, "size": item.size}
    if item.mtime_ns is not None:
        data["mtime_ns"] = item.mtime_ns
    if item.sha256 is not None:
        data["sha256"] = item.sha256
    if item.unreadable:
        data["unreadable"] = item.unreadable
    else:
        data["seconds"], data["shard"] = float(item.seconds), item.shard
    if item.again:
        data["again"] = item.again
    return compact(data)


def from_line(line: bytes) -> Item:
    """Read a line of items.jsonl, with or without its end.

    Raises:
        ValueError: it is not one that :func:`to_line` makes.
    """
    line = line.rstrip(b"\n")
    usual = _USUAL.fullmatch(line) if len(line) <= LONGEST_ITEM else None
    if usual:
        path = usual[3].decode("ascii")
        if plain_path(path) and len(path) <= 4096:
            item = Item(
                usual[1].decode("ascii"), path, int(usual[6]), int(usual[2]), None, float(usual[4]), int(usual[5])
            )
            return _keyed(item)
    if len(line) > LONGEST_ITEM:
        raise ValueError("the line is too long")
    data = parse_json(line)
    if not isinstance(data, dict):
        raise ValueError("it is not an object")
    return _keyed(_item(data))


def from_lines(lines: Iterable[bytes]) -> Iterator[Item]:
    """The items of a file, one after the other, by paths in order.

    Raises:
        ValueError: a line is none, two have one key, or there are too many; with the line's number.
    """
    before = ""
    for number, line in enumerate(lines, 1):
        try:
            item = from_line(line)
            if number > MOST_ITEMS:
                raise ValueError("there are too many items")
            if item.path <= before:
                raise ValueError("its path is not after the one before it")
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        before = item.path
        yield item


def plain_path(path: str) -> bool:
    """Whether a path stays below the folder that it begins in, and can be written as UTF-8."""
    if not path or "\0" in path or path[0] == "/":
        return False
    if "//" in path or "." in path:
        return not {"", ".", ".."} & set(path.split("/"))
    return path[-1] != "/"


def _keyed(item: Item) -> Item:
    identity = str(item.mtime_ns) if item.sha256 is None else item.sha256
    if item.key != item_key(item.path, item.size, identity):
        raise ValueError("its key is not that of its path, size and identity")
    return item


def _item(data: dict[str, Any]) -> Item:
    unreadable = "unreadable" in data
    identity = "sha256" if "sha256" in data else "mtime_ns"
    wanted = {"key", "path", "size", identity, *(("unreadable",) if unreadable else ("seconds", "shard"))}
    if set(data) - {"again"} != wanted:
        raise ValueError(f"its keys are not {', '.join(sorted(wanted))}")
    path, seconds = data["path"], data.get("seconds", 0.0)
    if not isinstance(path, str) or len(path.encode("utf-8", "replace")) > 4096 or not plain_path(path):
        raise ValueError("its path leads nowhere below the root")
    if not isinstance(data["key"], str) or not KEY.fullmatch(data["key"]):
        raise ValueError("its key is not 20 hex digits")
    if identity == "sha256" and not (isinstance(data["sha256"], str) and _SHA256.fullmatch(data["sha256"])):
        raise ValueError("its sha256 is not one")
    if unreadable and not (isinstance(data["unreadable"], str) and 0 < len(data["unreadable"]) <= 1000):
        raise ValueError("why it is unreadable is not said")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= MOST_SECONDS:
        raise ValueError("its seconds are not a length")
    return Item(
        key=data["key"],
        path=path,
        size=_whole(data, "size", 1 << 63),
        mtime_ns=_whole(data, "mtime_ns", 1 << 63, least=-(1 << 63)) if identity == "mtime_ns" else None,
        sha256=data.get("sha256"),
        seconds=float(seconds),
        shard=None if unreadable else _whole(data, "shard", MOST_SHARDS),
        unreadable=data.get("unreadable", ""),
        again=_whole(data, "again", MOST_TRIES) if "again" in data else 0,
    )


def _whole(data: dict[str, Any], name: str, below: int, least: int = 0) -> int:
    value = data[name]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < below:
        raise ValueError(f"its {name} is not a whole number below {below}")
    return value
