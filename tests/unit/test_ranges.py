"""How far a file's ranges have come survives any death, and never says more than is there."""

from __future__ import annotations

import email.utils
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.edges.system import http
from builder.edges.weights.download.ranges import Ranges, forget

SIZE, CHUNK = 1000, 64

PIECES = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 200)), max_size=30)


def write(target: Path, ranges: Ranges, start: int, stop: int) -> None:
    """As a connection does: bytes first, then the note. Each byte says where it belongs."""
    with target.open("r+b") as out:
        for a, b in ranges.lacking(start, stop):
            out.seek(a)
            out.write(bytes(i % 251 + 1 for i in range(a, b)))
            out.flush()
            ranges.add(b)


@given(pieces=PIECES, cut=st.integers(0, 30), begun=st.integers(0, SIZE))
def test_what_is_noted_is_there_after_a_restart_at_any_time(
    pieces: list[tuple[int, int]], cut: int, begun: int
) -> None:
    """Pieces in any order, over each other, with a restart in between: noted bytes are right, and none is written twice."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "x.part"
        target.write_bytes(bytes(i % 251 + 1 for i in range(begun)))
        ranges = Ranges(target, SIZE, CHUNK)
        for number, (start, length) in enumerate(pieces):
            if number == cut:
                ranges.close()
                before = list(ranges.done)
                ranges = Ranges(target, SIZE, 2 * CHUNK)  # another size of chunks: the noted one counts
                assert ranges.done == before
            write(target, ranges, start, min(start + length, SIZE))
        data = target.read_bytes()
        for index, done in enumerate(ranges.done):
            base = index * ranges.chunk
            assert data[base : base + done] == bytes(i % 251 + 1 for i in range(base, base + done))
        edge = ranges.edge()
        assert edge >= begun
        assert data[:edge] == bytes(i % 251 + 1 for i in range(edge))
        assert list(ranges.lacking(0, edge)) == []
        ranges.close()


@pytest.mark.parametrize("spoilt", [b"", b"ranges 1", b"ranges 9" + bytes(200), b"ranges 1" + bytes(16)])
def test_notes_that_are_no_notes_are_not_believed(tmp_path: Path, spoilt: bytes) -> None:
    """Holes must not pass for bytes: all is begun anew."""
    target = tmp_path / "x.part"
    target.write_bytes(bytes(SIZE))
    target.with_suffix(".ranges").write_bytes(spoilt)
    ranges = Ranges(target, SIZE, CHUNK)
    assert ranges.edge() == 0
    ranges.close()


def test_notes_never_say_more_than_the_file_holds(tmp_path: Path) -> None:
    """A part file that was cut, lost, or is of another file."""
    target = tmp_path / "x.part"
    target.touch()
    ranges = Ranges(target, SIZE, CHUNK)
    write(target, ranges, 0, SIZE)
    ranges.close()
    with target.open("r+b") as out:
        out.truncate(100)
    cut = Ranges(target, SIZE, CHUNK)
    assert (cut.edge(), sum(cut.done)) == (100, 100)
    cut.close()
    target.write_bytes(bytes(SIZE + 1))
    longer = Ranges(target, SIZE + 5, CHUNK)
    assert longer.edge() == 0
    longer.close()
    forget(target)
    assert list(tmp_path.iterdir()) == []


def test_retry_after_is_seconds_or_a_date() -> None:
    """RFC 9110, 10.2.3; whatever else stands there is no reason to wait."""
    assert [http.retry_after(v) for v in ("7", " 0 ", "1.5", "", "soon", "-3", "nan", "1e9")] == [
        7,
        0,
        1.5,
        0,
        0,
        0,
        0,
        0,
    ]
    assert 50 < http.retry_after(email.utils.formatdate(time.time() + 60, usegmt=True)) <= 61
    assert http.retry_after("Fri, 31 Dec 1999 23:59:59 GMT") == 0


def test_a_token_belongs_to_scheme_host_and_port() -> None:
    """Not to a host that looks alike, nor to the same one without TLS."""
    assert (
        http.origin("https://hub.example/a?b")
        == http.origin("https://me:pw@hub.example:443/")
        == "https://hub.example:443"
    )
    assert http.origin(http.origin("http://[::1]:1/x")) == "http://[::1]:1"
    assert len({http.origin(u) for u in ("https://a.b", "http://a.b", "https://a.b:8443", "https://a.b.c")}) == 4
