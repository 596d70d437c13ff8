"""What parts of a bundle consist of: each byte in one piece, each piece with a sha256 or with no choice."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.bundle import contents
from builder.receiver import inventory as checking
from builder.receiver.checking.pieces import PartCheck, TarMap
from builder.receiver.inventory import LoaderError
from builder.receiver.tar import END, header, padding
from tests import bundles

SIZES = st.lists(st.integers(0, 1500), max_size=6)


def tar_of(sizes: list[int]) -> tuple[bytes, list[dict[str, Any]]]:
    """A tar of files of these sizes, one with a long name, and the inventory's rows of them."""
    raw, rows = b"", []
    for k, size in enumerate(sizes):
        path = f"native/{'n' * 120 if k == 1 else 'n'}{k}"
        data = bundles.noise(size, k + 1)
        raw += header(path, size)
        rows.append({"path": path, "at": len(raw), "size": size, "sha256": hashlib.sha256(data).hexdigest()})
        raw += data + bytes(padding(size))
    return raw + bytes(END), rows


def ranges(size: int, part: int) -> list[tuple[int, int]]:
    return [(begin, min(begin + part, size)) for begin in range(0, size, part)]


def checked(raw: bytes, tar: TarMap, begin: int, end: int, cuts: list[str], step: int) -> PartCheck:
    check = PartCheck(tar, begin, end, cuts)
    for at in range(begin, end, step):
        check.feed(memoryview(raw)[at : min(at + step, end)])
    return check


def hashes(raw: bytes, tar: TarMap, begin: int, end: int) -> list[str]:
    return [hashlib.sha256(raw[c.begin : c.end]).hexdigest() for c in tar.cuts(begin, end)]


@given(sizes=SIZES, part=st.integers(200, 4000), step=st.integers(50, 700), flipped=st.integers(0, 1 << 30))
def test_a_flip_is_found_in_its_own_part_alone_and_named(sizes: list[int], part: int, step: int, flipped: int) -> None:
    """However a tar is cut, and however it is read: whole it has no fault; a flipped bit is in one piece."""
    raw, rows = tar_of(sizes)
    tar, at = TarMap(rows), flipped // 8 % len(raw)
    bad = bytearray(raw)
    bad[at] ^= 1 << flipped % 8
    for begin, end in ranges(len(raw), part):
        pieces = list(tar.pieces(begin, end))
        assert [begin, *(p.end for p in pieces)] == [*(p.begin for p in pieces), end], "no gap, nothing twice"
        assert len(tar.cuts(begin, end)) <= 2
        cuts = hashes(raw, tar, begin, end)
        assert checked(raw, tar, begin, end, cuts, step).finish() == []
        wrong = checked(bytes(bad), tar, begin, end, cuts, step).finish()
        assert [(p.begin <= at < p.end) for p in wrong] == ([True] if begin <= at < end else [])
        assert PartCheck(tar, begin, end, cuts).finish() == pieces, "what did not come is wrong"


def test_an_inventory_has_a_hash_for_each_cut_file_and_no_more() -> None:
    made = bundles.planned(bundles.three(), part_size=1_000_000)
    data = json.loads(bundles.finished(made))
    assert sum(len(p["cuts"]) for p in data["parts"]) == 3, "weights of 2.5 MB lie in three parts"
    for change in ([], ["0" * 64] * 3, ["x"], "0" * 64, None):
        parts = [{**data["parts"][0], "cuts": change}, *data["parts"][1:]]
        with pytest.raises(LoaderError, match=r"whisperbake\.tar\.000|not an inventory"):
            checking.check_inventory(contents.dump({**data, "parts": parts}))


def test_a_loader_of_before_says_which_loader_to_use() -> None:
    """And this one says the same of what comes after it."""
    data = json.loads(bundles.finished(bundles.planned(bundles.three())))
    for schema in (0, 3, True, "2", None):
        with pytest.raises(LoaderError) as stop:
            checking.check_inventory(contents.dump({**data, "schema": schema}))
        assert stop.value.do == "use the load.py beside it"
