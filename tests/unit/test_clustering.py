"""Diarization's arithmetic: mel features, clusters, turns. The real model and real voices are in tests/e2e."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
import tracemalloc
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

STAGE = Path(__file__).resolve().parents[2] / "stages/diarize"
sys.path.insert(0, str(STAGE))

if not os.environ.get("CI"):  # in CI a missing library is a failure, not a skip
    pytest.importorskip("fastcluster")

import cluster  # noqa: E402
import features  # noqa: E402


def load_stage() -> ModuleType:
    """stages/diarize/main.py under another name: every stage has a main."""
    spec = importlib.util.spec_from_file_location("diarize_main", STAGE / "main.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


stage = load_stage()


@pytest.mark.parametrize(("use", "threads"), [("segmentation", "1"), ("embedding", "1"), ("diarization", None)])
def test_numpy_has_one_thread_beside_the_batches(
    monkeypatch: pytest.MonkeyPatch, use: str, threads: str | None
) -> None:
    """A pipeline's PyTorch has all of them."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    stage.work(SimpleNamespace(inputs=(), variant="slim", uses={use: {}}))
    assert os.environ.get("OPENBLAS_NUM_THREADS") == threads


def voices(labels: list[int], *, spread: float = 0.25, seed: int = 3) -> Any:
    """Invented embeddings [n, 64]: a direction for each speaker, and noise of length ``spread``."""
    chance = np.random.default_rng(seed)
    centres = cluster.units(chance.standard_normal((max(labels) + 1, 64)))
    noise = chance.standard_normal((len(labels), 64)) * spread / 8
    return cluster.units(centres[labels] + noise).astype(np.float32)


def same_partition(a: Any, b: Any) -> bool:
    """Two labellings agree up to the names of the labels."""
    pairs = set(zip(map(int, a), map(int, b), strict=True))
    return len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_speakers_are_found_and_counted(count: int) -> None:
    """Well separated voices: the number is right, and nobody is mixed up."""
    truth = [k // 12 % count for k in range(120)]
    labels = cluster.cluster(voices(truth), speakers=None, seconds=0.4)
    assert same_partition(labels, truth)


@pytest.mark.parametrize("seconds", [3, 4, 9, 40])
@pytest.mark.parametrize("spread", [0.1, 0.25, 0.5])
def test_one_voice_is_one_speaker_however_short(seconds: int, spread: float) -> None:
    """C12: a few embeddings of one person lie apart from each other, and are no second person."""
    labels = cluster.cluster(voices([0] * round(seconds / 0.4), spread=spread), speakers=None, seconds=0.4)
    assert set(labels) == {0}


def test_nobody_is_guessed_from_a_second_of_speech() -> None:
    """One word of another voice is too little to tell a person by; five seconds are enough."""
    for count, expected in ((2, 1), (20, 2)):
        truth = [0] * 40 + [1] * count
        labels = cluster.cluster(voices(truth), speakers=None, seconds=0.4)
        assert len(set(labels)) == expected


def test_the_count_that_is_given_is_kept() -> None:
    truth = [k // 12 % 3 for k in range(120)]
    vectors = voices(truth, spread=0.6)
    for speakers in (1, 2, 3, 5):
        assert len(np.unique(cluster.cluster(vectors, speakers=speakers, seconds=0.4))) == speakers


def test_a_guess_stays_within_its_bounds() -> None:
    """Three voices are three where that may be; else the nearest number that may be."""
    vectors = voices([k // 12 % 3 for k in range(120)])

    def count(least: int | None, most: int | None) -> int:
        return len(np.unique(cluster.cluster(vectors, speakers=None, least=least, most=most, seconds=0.4)))

    assert [count(*bounds) for bounds in [(None, None), (2, 5), (3, 3), (None, 2), (4, None), (5, 5), (12, 20)]] == [
        3,
        3,
        3,
        2,
        4,
        5,
        12,
    ]


def test_more_speakers_than_embeddings_is_not_an_error() -> None:
    """--speakers 8 on one short word gives one speaker."""
    assert list(cluster.cluster(voices([0]), speakers=8, seconds=0.4)) == [0]
    assert len(cluster.cluster(voices([0, 1]), speakers=8, seconds=0.4)) == 2
    assert len(cluster.cluster(np.zeros((0, 64), dtype=np.float32), speakers=None, seconds=0.4)) == 0


def test_equal_embeddings_are_one_speaker() -> None:
    """A tone for minutes has no spread at all; no division by zero."""
    assert set(cluster.cluster(np.tile(voices([0]), (40, 1)), speakers=None, seconds=0.4)) == {0}


def test_long_recordings_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten hours are 90,000 embeddings; clustering all of them would take 65 GB."""
    monkeypatch.setattr(cluster, "SAMPLE", 120)
    truth = [k // 40 % 3 for k in range(2000)]
    vectors = voices(truth)
    tracemalloc.start()
    labels = cluster.cluster(vectors, speakers=None, seconds=0.4)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert same_partition(labels, truth)
    assert most < len(vectors) ** 2 * 4, "not even one distance of each to each"


def test_same_input_same_labels() -> None:
    """Nothing is left to chance: a stage's results depend on its inputs only."""
    vectors = voices([k // 5 % 4 for k in range(200)], spread=1.0)
    first, second = (cluster.cluster(vectors, speakers=None, seconds=0.4) for _ in range(2))
    assert np.array_equal(first, second)


@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 5))
def test_a_tree_is_cut_into_as_many_parts(parts: int, count: int, seed: int) -> None:
    """Labels are 0…k-1 in order of appearance."""
    import fastcluster

    parts = min(parts, count)
    points = np.random.default_rng(seed).standard_normal((count, 3))
    tree = fastcluster.linkage_vector(points, method="ward") if count > 1 else np.zeros((0, 4))
    labels = cluster.cut(tree, parts)
    assert list(dict.fromkeys(map(int, labels))) == list(range(parts))


def test_mel_filters_are_slaneys() -> None:
    """The d-vector was trained on these: equal area, linear below 1 kHz, peaks rising to 8 kHz."""
    bank = features._bank()
    assert bank.shape == (40, 201)
    peaks = bank.argmax(axis=1)
    assert (np.diff(peaks) > 0).all()
    hertz = np.fft.rfftfreq(features.WINDOW, 1 / features.RATE)
    # The mel scale puts 1000 Hz at 15 and 8000 Hz at 45.245: filter 20 of 40 peaks near 21 * 45.245 / 41 mel.
    centre = 1000 * np.exp((21 * 45.245 / 41 - 15) * np.log(6.4) / 27)
    assert hertz[peaks[20]] == pytest.approx(centre, abs=40)


def test_a_tone_lands_in_its_band_at_its_level() -> None:
    time = np.arange(features.RATE, dtype=np.float32) / features.RATE
    tone = features.level(np.sin(2 * np.pi * 440 * time).astype(np.float32))
    assert 20 * np.log10(np.sqrt(np.mean(tone**2))) == pytest.approx(features.LEVEL, abs=0.01)
    power = features.mels(tone)
    assert power.shape == (101, 40)
    assert power.dtype == np.float32
    bank = features._bank()
    assert int(power[50].argmax()) == int(bank[:, round(440 / (features.RATE / features.WINDOW))].argmax())


def test_silence_is_not_amplified() -> None:
    assert not features.level(np.zeros(100, np.float32)).any()
    assert len(features.level(np.zeros(0, np.float32))) == 0


@st.composite
def labelled(draw: st.DrawFn) -> tuple[list[tuple[float, float]], list[tuple[int, float]], list[int], float]:
    """Regions, embeddings in them with labels, and a duration."""
    edges = sorted(draw(st.lists(st.integers(0, 6000), min_size=2, max_size=12, unique=True)))
    regions = [(edges[k] / 100, edges[k + 1] / 100) for k in range(0, len(edges) - 1, 2)]
    spans, labels = [], []
    for index, (start, end) in enumerate(regions):
        count = draw(st.integers(1, 5))
        for k in range(count):
            spans.append((index, start + (end - start) * (k + 0.5) / count))
            labels.append(draw(st.integers(0, 3)))
    return regions, spans, labels, edges[-1] / 100 + draw(st.floats(0, 2))


@given(labelled())
def test_turns_cover_speech_and_never_overlap(data: Any) -> None:
    """All speech is somebody's, every turn lies in the recording, speakers are numbered by first appearance."""
    regions, spans, labels, duration = data
    turns = stage.turns(spans, labels, regions, duration)
    for t in turns:
        assert 0 <= t["start"] < t["end"] <= duration + 0.001
    for a, b in itertools.pairwise(turns):
        assert a["end"] <= b["start"] + 0.0015
        assert a["speaker"] != b["speaker"] or b["start"] - a["end"] > 0.015
    for start, end in regions:
        covered = sum(max(0.0, min(end, t["end"]) - max(start, t["start"])) for t in turns)
        assert covered == pytest.approx(end - start, abs=0.01)
    assert list(dict.fromkeys(t["speaker"] for t in turns)) == [f"S{k + 1}" for k in range(len(set(labels)))]


def test_hours_without_a_pause_are_handled_in_pieces() -> None:
    """A piece bounds the memory, and turns that meet at a seam become one again."""
    parts = stage.pieces([(1.0, 2.0), (10.0, 7210.0)])
    assert parts[0] == (1.0, 2.0)
    assert max(b - a for a, b in parts) <= stage.PIECE + 1e-9
    assert all(a[1] == b[0] for a, b in itertools.pairwise(parts[1:]))
    spans = [(k, (a + b) / 2) for k, (a, b) in enumerate(parts)]
    turns = stage.turns(spans, [0] * len(parts), parts, 8000.0)
    assert [(t["start"], t["end"]) for t in turns] == [(0.88, 2.12), (9.88, 7210.12)]


def test_the_one_who_talks_most_is_not_divided_for_a_caller() -> None:
    """``--speakers 2`` for minutes of one person in many moods and a few words of another: Ward's method divides the first."""
    chance = np.random.default_rng(5)
    one, mood, other = cluster.units(chance.standard_normal((3, 64)))
    moods = chance.uniform(-0.6, 0.6, 400)
    middles = np.stack([*(one + m * mood for m in moods), *[one + 0.9 * other] * 6])
    vectors = cluster.units(middles + chance.standard_normal(middles.shape) * 0.02).astype(np.float32)
    truth = [0] * 400 + [1] * 6
    assert not same_partition(cluster.divided(vectors, 2)[1], truth)
    assert same_partition(cluster.cluster(vectors, speakers=2, seconds=0.4), truth)


def between(one: Any, other: Any, distance: float) -> Any:
    """The vector at a cosine distance from ``one``, towards ``other``."""
    aside = cluster.units((other - (one @ other) * one)[None])[0]
    return (1 - distance) * one + np.sqrt(1 - (1 - distance) ** 2) * aside


def heard(distance: float, order: list[int], *, spread: float) -> Any:
    """Embeddings around two directions that are so far from each other."""
    chance = np.random.default_rng(7)
    one, far = cluster.units(chance.standard_normal((2, 64)))
    middles = np.stack([one, between(one, far, distance)])
    return cluster.units(middles[order] + chance.standard_normal((len(order), 64)) * spread / 8).astype(np.float32)


AFTER, IN_TURN = [0] * 7 + [1] * 7, [0] * 5 + [1] * 5 + [0] * 4


@pytest.mark.parametrize(
    ("distance", "order", "spread", "people"),
    [
        (0.5, AFTER, 0.25, 2),
        (0.5, IN_TURN, 0.25, 2),
        (0.1, AFTER, 0.25, 1),  # a mood
        (0.3, AFTER, 0.8, 1),  # hardly nearer to each other than to the rest
        (0.3, AFTER, 0.58, 2),  # one after the other: that is believed sooner
        (0.3, IN_TURN, 0.58, 1),
        (0.5, [0] * 12 + [1] * 2, 0.25, 1),  # less than a second
    ],
)
def test_in_a_few_seconds_two_are_told_apart_that_are_clearly_two(
    distance: float, order: list[int], spread: float, people: int
) -> None:
    vectors = heard(distance, order, spread=spread)
    assert len(set(cluster.cluster(vectors, speakers=None, seconds=0.45))) == people
    assert set(cluster.cluster(vectors, speakers=None, most=1, seconds=0.45)) == {0}
    assert len(set(cluster.cluster(vectors, speakers=None, least=2, seconds=0.45))) == 2
    assert len(set(cluster.cluster(vectors, speakers=2, seconds=0.45))) == 2


def test_a_breath_is_no_end_of_a_turn() -> None:
    """Half a second between two regions of one speaker is filled; of two speakers, or a longer one, not."""
    regions = [(0.0, 2.0), (2.6, 4.0), (4.6, 6.0), (7.5, 9.0)]
    spans = [(k, (a + b) / 2) for k, (a, b) in enumerate(regions)]
    found = stage.turns(spans, [0, 0, 1, 1], regions, 10.0)
    assert [(t["start"], t["speaker"]) for t in found] == [(0.0, "S1"), (4.48, "S2"), (7.38, "S2")]


@pytest.mark.parametrize(
    ("asked", "count", "words"),
    [
        ({"speakers": None}, 1, None),
        ({"speakers": None}, 2, "2 speakers: a best guess; --speakers N is more exact"),
        ({"speakers": 3}, 3, None),
        ({"speakers": 3}, 2, "2 speakers found, not 3 as --speakers says"),
        ({"speakers": None, "min_speakers": 3}, 1, "1 speakers found, not 3 as --min-speakers says"),
        ({"speakers": None, "min_speakers": 2}, 2, "2 speakers: a best guess; --speakers N is more exact"),
    ],
)
def test_a_number_that_was_asked_for_and_not_found_is_said(
    asked: dict[str, int | None], count: int, words: str | None
) -> None:
    """Voices are not divided for the sake of a number; then the result says so."""
    assert stage.remark(asked, count) == words
