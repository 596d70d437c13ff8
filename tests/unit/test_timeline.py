"""Clocks: no sound is left out whatever its clock says, and no packet of a copy goes back in time."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import retiming
from hypothesis import example, given
from hypothesis import strategies as st

from tests.conftest import stage_module

timeline = stage_module("demux", "timeline")

RATE = 16_000
FRAME = 0.1


def heard(times: list[float], *, whole: float = 0.0, size: int = 0, joined: bool = False, covered: bool = False) -> Any:
    """The timeline after frames of 0.1 s at these times."""
    line = timeline.Timeline(whole=whole, size=size, joined=joined)
    for time in times:
        line.position += line.place(time, covered=covered)
        line.position += round(FRAME * RATE)
    return line


def steady(count: int, *, start: float = 0.0, speed: float = 1.0) -> list[float]:
    return [start + k * FRAME * speed for k in range(count)]


def test_a_clock_that_runs_evenly_says_nothing() -> None:
    line = heard(steady(100), whole=10.0)
    assert (line.position, line.silence, line.clock(), line.jumps) == (160_000, 0, [], [])
    assert line.notes(10.0) == []


def test_sound_that_begins_late_or_pauses_leaves_silence() -> None:
    """The first sample is the recording's start, so that subtitles fit the picture."""
    line = heard([*steady(20, start=2.0), *steady(20, start=7.0)])
    assert (line.position / RATE, line.silence / RATE) == (pytest.approx(9.0), pytest.approx(5.0))
    assert line.notes(None) == ["3.0 s of sound are missing at 4.0 s: there is silence"]


def test_short_holes_are_named_too_and_many_of_them_together() -> None:
    """Bad reception loses words in holes of which none is long."""
    one = heard([*steady(20), *steady(20, start=2.2)])
    assert one.notes(None) == ["0.2 s of sound are missing at 2.0 s: there is silence"]
    many = heard([time for k in range(12) for time in steady(20, start=k * 2.5)])
    *named, rest = many.notes(None)
    assert len(named) == 3
    assert rest == "4.0 s of sound are missing in 8 more places"


def test_a_clock_that_stands_still_leaves_no_sound_out() -> None:
    """C03: only the sound itself is left to count by."""
    line = heard([0.0] * 100)
    assert line.position / RATE == pytest.approx(10.0)
    assert line.clock() == []
    assert line.notes(None) == ["its clock runs slow: by 9.8 s in 10.0 s: times are counted from the sound itself"]


def test_a_slow_clock_is_followed_back() -> None:
    """What is heard at 98 s stands at 96.04 s in the film."""
    line = heard(steady(1000, speed=0.98))
    assert line.position / RATE == pytest.approx(100.0)
    last = line.clock()[-1]
    assert last[0] == pytest.approx(100.0)
    assert last[1] == pytest.approx(98.0, abs=0.2)
    assert line.notes(None) == ["its clock runs slow: by 1.9 s in 100.0 s"]


def test_a_clock_that_begins_anew_goes_on_from_the_sound() -> None:
    """C04: two pieces joined; times of the second are moved by the length of the first."""
    line = heard([*steady(50), *steady(50)])
    assert line.position / RATE == pytest.approx(10.0)
    assert line.jumps == [(pytest.approx(5.0), pytest.approx(5.0))]
    assert "its timestamps jump at 5.0 s" in line.notes(None)[0]


def test_a_jump_ahead_is_a_hole_unless_the_format_can_jump() -> None:
    """In a broadcast a quarter of an hour without packets of any stream is a cut; in a film it is silence."""
    times = [*steady(50), *steady(50, start=905.0)]
    cut = heard(times, joined=True)
    assert (cut.position / RATE, cut.jumps[0][1]) == (pytest.approx(10.0), pytest.approx(-900.0))
    for film in (heard(times), heard(times, joined=True, covered=True)):
        assert film.position / RATE == pytest.approx(910.0)
        assert film.jumps == []


def test_no_silence_beyond_the_end_of_the_file() -> None:
    """A damaged time must not make hours of silence."""
    line = heard([*steady(50), *steady(50, start=90_000.0)], whole=10.0)
    assert line.position / RATE == pytest.approx(10.0)


def test_silence_is_bounded_by_the_sound_and_the_files_size() -> None:
    """Two packets of a few bytes whose clock says 30 hours: 3.5 GB of silence. The place is lost, and named."""
    bomb = heard([0.0, 108_000.0], whole=108_000.1)
    assert bomb.position / RATE == pytest.approx(0.2)
    assert bomb.notes(None) == ["its timestamps jump at 0.1 s: later times are counted from the sound itself"]
    late = heard([108_000.0], whole=108_000.1)
    assert (late.position / RATE, late.jumps[0][0]) == (pytest.approx(0.1), 0.0)
    drop = heard([k * 1000.0 for k in range(1000)], whole=1e6)
    assert drop.silence / RATE < 1801 + 30 * 100


@pytest.mark.parametrize(
    ("times", "size"),
    [
        ([*steady(6000), *steady(600, start=7_800.0)], 0),  # a broadcast of two pieces, two hours apart
        (steady(600, start=1_700.0), 0),  # sound that begins late
        ([*steady(10), *steady(3000, start=7_200.0)], 30_000_000),  # and two hours after a word, in a film
        (
            [k * 2.0 for k in range(5400)],
            0,
        ),  # three hours in which nobody speaks, in a codec that sends a twentieth then
    ],
)
def test_honest_holes_stay_as_long_as_they_are(times: list[float], size: int) -> None:
    line = heard(times, whole=times[-1] + FRAME, size=size)
    assert line.jumps == []
    assert line.position / RATE == pytest.approx(times[-1] + FRAME)


def test_a_file_that_is_cut_short_says_so() -> None:
    assert heard(steady(50)).notes(60.0) == ["the file is cut short: it has 5.0 s of 60.0 s of sound"]
    assert heard(steady(50)).notes(5.5) == []


@example([-1.0, 19.0], 0.0, False, False)
@example([0.0, -0.5, 12.0], 0.0, False, False)
@given(st.lists(st.floats(-10, 1e5), max_size=60), st.floats(0, 1e5), st.booleans(), st.booleans())
def test_all_sound_is_there_whatever_the_clock_says(
    times: list[float], whole: float, joined: bool, covered: bool
) -> None:
    """Each sample once, and silence beside; the clock's pairs rise."""
    line = heard(times, whole=whole, joined=joined, covered=covered)
    assert line.position - line.silence == len(times) * round(FRAME * RATE)
    assert 0 <= line.silence <= (1800 + 30 * len(times) * FRAME) * RATE
    for (a, b), (c, d) in pairwise(line.clock()):
        assert a < c
        assert b <= d


@dataclass
class Packet:
    """What of a packet retiming looks at."""

    index: int
    dts: int
    pts: int | None
    duration: int = 100
    time_base: Fraction = Fraction(1, 1000)

    @property
    def stream(self) -> Any:
        return SimpleNamespace(index=self.index)


def mended(packets: list[Packet], *, whole: float = 0.0, shifts: tuple[float, ...] = ()) -> list[Packet]:
    clock = retiming.Retiming(origin=0.0, whole=whole, shifts=shifts)
    for packet in packets:
        clock.mend(packet)
    return packets


def test_packets_that_are_in_order_stay_as_they_are() -> None:
    """B-frames are shown in another order than they are decoded in."""
    packets = [Packet(0, k * 100, k * 100 + 200 * (k % 2)) for k in range(20)]
    before = [(p.dts, p.pts) for p in packets]
    assert [(p.dts, p.pts) for p in mended(packets, whole=2.0)] == before


def test_picture_and_sound_jump_together() -> None:
    """At a joint both are moved as the sound was, though their packets reach it one after the other."""
    film = []
    for start in (0, 0):
        for k in range(50):
            film += [Packet(0, start + k * 100, start + k * 100), Packet(1, start + k * 100, start + k * 100)]
    mended(film, whole=5.0, shifts=(5.0,))
    for index in (0, 1):
        assert [p.dts for p in film if p.index == index] == [k * 100 for k in range(100)]


def test_a_joined_clock_jumps_ahead_where_no_stream_goes_on() -> None:
    """Nobody has listened yet: a pause of one stream is none of the recording's."""
    clock = retiming.Retiming(origin=0.0, whole=1010.0, shifts=(), joined=True)
    both = [Packet(k, at, at) for at in (*range(0, 1000, 100), *range(900_000, 901_000, 100)) for k in (0, 1)]
    for packet in both:
        clock.mend(packet)
    assert [p.dts for p in both if p.index == 1] == list(range(0, 2000, 100))
    clock = retiming.Retiming(origin=0.0, whole=100.0, shifts=(), joined=True)
    pause = [Packet(0, at, at) for at in range(0, 40_000, 100)] + [Packet(1, 0, 0), Packet(1, 39_000, 39_000)]
    for packet in sorted(pause, key=lambda p: p.dts):
        clock.mend(packet)
    assert pause[-1].dts == 39_000


def test_packets_at_one_time_follow_each_other() -> None:
    """C03 in a copy: their durations are all that there is to go by."""
    packets = mended([Packet(0, 0, 0) for _ in range(5)])
    assert [p.dts for p in packets] == [0, 100, 200, 300, 400]
    assert [p.pts for p in packets] == [0, 100, 200, 300, 400]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(-(10**6), 10**8), st.integers(0, 500)), max_size=60),
    st.lists(st.floats(-1e4, 1e4), max_size=3),
)
def test_decoding_times_always_rise(numbers: list[tuple[int, int, int]], shifts: list[float]) -> None:
    """A muxer refuses what doesn't, and the film would be lost."""
    packets = mended([Packet(i, dts, dts, length) for i, dts, length in numbers], whole=100.0, shifts=tuple(shifts))
    for index in (0, 1, 2):
        times = [p.dts for p in packets if p.index == index]
        assert all(a < b for a, b in pairwise(times))
