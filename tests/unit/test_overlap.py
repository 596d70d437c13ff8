"""Diarization with overlap: filter bank, windows, stretches, people, turns. The real models are in tests/e2e."""

from __future__ import annotations

import os
import sys
import tracemalloc
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

STAGES = Path(__file__).resolve().parents[2] / "stages"
sys.path[:0] = [str(STAGES / "diarize"), str(STAGES)]

if not os.environ.get("CI"):  # in CI a missing library is a failure, not a skip
    pytest.importorskip("fastcluster")

import kaldi  # noqa: E402
import people  # noqa: E402
import powerset  # noqa: E402
import talk  # noqa: E402
import voices  # noqa: E402
from cluster import averages, units  # noqa: E402
from powerset import FRAMES, HOP, STEP, Heard  # noqa: E402
from slim import Batched  # noqa: E402

NOBODY, FIRST, SECOND, THIRD, BOTH = 0, 1, 2, 3, 4


def heard(*classes: list[tuple[int, int, int]], frames: int | None = None) -> Heard:
    """Windows in which a class holds between two frames."""
    rows = np.zeros((len(classes), FRAMES), dtype=np.uint8)
    for row, parts in zip(rows, classes, strict=True):
        for start, end, which in parts:
            row[start:end] = which
    chances = np.stack([rows > 0, rows >= powerset.PAIRS]).astype(np.uint8) * 255
    return Heard(classes=rows, chances=chances, frames=frames or (len(classes) - 1) * HOP + FRAMES)


def invented(labels: list[int], *, spread: float = 0.5, seed: int = 3) -> Any:
    """Embeddings [n, 64]: a direction for each person, and noise of length ``spread``."""
    chance = np.random.default_rng(seed)
    centres = units(chance.standard_normal((max(labels) + 1, 64)))
    return units(centres[labels] + chance.standard_normal((len(labels), 64)) * spread / 8).astype(np.float32)


def grouped(vectors: Any, seconds: Any = 1.5, **asked: int | None) -> Any:
    options = {"speakers": None, "least": None, "most": None, **asked}
    return people.grouped(vectors, np.broadcast_to(np.asarray(seconds, dtype=float), len(vectors)), **options)


def test_the_filter_bank_is_kaldis() -> None:
    """Values that torchaudio.compliance.kaldi computes of the same noise, and of silence: the floor."""
    sound = (np.random.default_rng(1).standard_normal(16_000) * 0.1).astype(np.float32)
    sound[:4000] = 0
    bank = kaldi.filterbank(kaldi.framed(sound))
    assert bank.shape == (98, 80)
    assert np.allclose(bank[60, :6], [-8.477584, -7.7075443, -6.901589, -6.6727242, -6.0276814, -5.346863], atol=1e-3)
    assert np.allclose(bank[60, 40:44], [1.0404918, 1.285632, 1.611296, 0.5398648], atol=1e-3)
    assert np.allclose(bank[:20], -15.942385)
    assert kaldi.filterbank(kaldi.framed(sound[:399])).shape == (0, 80)


@pytest.mark.parametrize("samples", [0, 1, 160_000, 160_001, 200_000, 1_000_000])
def test_every_frame_is_in_one_tile(samples: int) -> None:
    """Windows reach the recording's end, and their middles cover all of it, once."""
    begins = powerset.starts(samples)
    assert begins[-1] + powerset.SAMPLES >= samples
    assert all(begin % STEP == 0 for begin in begins)
    covered = np.zeros((len(begins) - 1) * HOP + FRAMES, dtype=int)
    for window in range(len(begins)):
        tile = powerset.tile(window, len(begins))
        covered[window * HOP + tile.start : window * HOP + tile.stop] += 1
    assert (covered == 1).all()
    assert powerset.frames_of(samples) <= len(covered)


def test_how_many_speak_is_the_windows_mean() -> None:
    """One window of four that hears two doesn't make two; two do."""
    same = [(0, FRAMES, FIRST)]
    one = heard(same, [(0, FRAMES, BOTH)], same, same).count()
    assert set(one[3 * HOP : FRAMES]) == {1}
    two = heard(same, [(0, FRAMES, BOTH)], [(0, FRAMES, BOTH)], same).count()
    assert set(two[3 * HOP : FRAMES]) == {2}
    assert set(heard([], [], []).count()) == {0}


def test_stretches_are_of_one_voice_alone() -> None:
    """At most two seconds each; a short one gets more of its voice; what two say at once is in none."""
    found = voices.stretches(heard([(0, 200, FIRST), (200, 300, BOTH), (300, 320, SECOND), (400, 420, SECOND)]))
    parts = [set(part.part.tolist()) for part in found]
    assert set.union(*parts) == {*range(200), *range(300, 320), *range(400, 420)}
    assert all(len(part.frames) <= voices.LONGEST for part in found)
    assert all(len(part.frames) % voices.SHORTEST == 0 for part in found)
    both = {k for k in range(len(voices.OWNERS)) if 200 <= voices.OWNERS[k] < 300}
    assert not any(both & set(part.frames.tolist()) for part in found)
    assert [len(part.frames) for part in found if part.part[0] >= 300] == [50, 50]


def test_a_stretch_ends_at_a_pause() -> None:
    """What follows may be another person, whom the window took for the same voice; a breath ends none."""
    found = voices.stretches(heard([(0, 40, FIRST), (50, 60, FIRST), (80, 100, FIRST)]))
    assert [(part.part[0], part.part[-1]) for part in found] == [(0, 59), (80, 99)]


def test_a_click_is_no_stretch_and_silence_behind_the_end_is_none() -> None:
    assert voices.stretches(heard([(10, 12, FIRST)])) == []
    assert voices.stretches(heard([(300, 589, FIRST)], frames=300)) == []


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_people_are_found_and_counted(count: int) -> None:
    """Well separated voices; with the number given they are the same."""
    truth = [k // 5 % count for k in range(80)]
    for asked in (None, count):
        labels = grouped(invented(truth), speakers=asked)
        assert len({*zip(labels.tolist(), truth, strict=True)}) == count == len(set(labels.tolist()))


@pytest.mark.parametrize("length", [1, 2, 3, 5, 10])
def test_one_voice_is_one_person_however_short(length: int) -> None:
    assert set(grouped(invented([0] * length, spread=1.0))) == {0}


@pytest.mark.parametrize(("each", "people"), [(1.5, 2), (0.4, 1)])
def test_two_who_are_near_are_told_apart_in_a_few_seconds(each: float, people: int) -> None:
    """Of less than a second of one there is too little."""
    one, far = units(np.random.default_rng(7).standard_normal((2, 64)))
    aside = units((far - (one @ far) * one)[None])[0]
    vectors = np.stack([one] * 3 + [0.38 * one + np.sqrt(1 - 0.38**2) * aside] * 2).astype(np.float32)
    assert len(set(grouped(vectors, each))) == people


def test_a_moment_of_another_voice_is_nobody_but_a_sentence_is() -> None:
    """A cough is given to somebody; who says a sentence is a person."""
    vectors = invented([0] * 20 + [1])
    assert set(grouped(vectors, [1.5] * 20 + [0.4])) == {0}
    assert set(grouped(vectors, [1.5] * 20 + [1.6])) == {0, 1}


def test_a_voice_is_not_divided_for_the_sake_of_a_number() -> None:
    """--speakers 5 for three people finds three: dividing the one who talks most is the larger error."""
    vectors = invented([0] * 40 + [1] * 5 + [2] * 5)
    assert len(set(grouped(vectors, speakers=5))) == 3
    assert len(set(grouped(vectors, speakers=2))) == 2
    assert len(set(grouped(vectors, least=2, most=2))) == 2
    assert len(set(grouped(vectors, most=1))) == 1


def test_hours_are_grouped_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never all distances of each to each; who speaks rarely is still found."""
    monkeypatch.setattr(people, "BLOCK", 100)
    truth = [k // 7 % 3 for k in range(3000)] + [3] * 8
    vectors = invented(truth)
    tracemalloc.start()
    labels = grouped(vectors)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len({*zip(labels.tolist(), truth, strict=True)}) == 4
    assert most < len(vectors) ** 2 * 4


def test_the_weighed_tree_is_average_linkage() -> None:
    """Of points of weight one it is fastcluster's."""
    vectors = invented([k % 4 for k in range(30)], spread=1.5)
    plain, own = averages(vectors), people._weighed_tree(vectors, np.ones(30))
    assert np.allclose(plain[:, 2], own[:, 2], atol=1e-6)


def turns(what: Heard, labels: list[int], speech: list[list[float]]) -> list[tuple[float, float, str]]:
    parts = voices.stretches(what)
    assert len(parts) == len(labels)
    out = talk.speaking(what, [(p.window, p.part) for p in parts], np.array(labels))
    return [(t["start"], t["end"], t["speaker"]) for t in talk.turns(talk.with_speech(out, speech), 10.0)]


def test_two_at_once_are_two_turns() -> None:
    """Frames 100 to 300 are one's, 250 to 400 the other's: names come by the first appearance, not by the label."""
    found = turns(heard([(100, 250, FIRST), (250, 300, BOTH), (300, 400, SECOND)]), [1, 1, 0], [[1.7, 6.8]])
    assert [who for *_, who in found] == ["S1", "S2"]
    assert found[0][1] > found[1][0] + 0.5


def test_who_talks_into_somebody_is_who_spoke_last_or_speaks_next() -> None:
    """Two at once, of whom the second is never heard alone: the nearest other person; nobody where there is no other."""
    what = heard([(0, 100, SECOND), (100, 200, FIRST), (200, 260, 5), (260, 400, FIRST)])
    owners = [(0, np.arange(100)), (0, np.arange(100, 200)), (0, np.arange(260, 400))]
    out = talk.speaking(what, owners, np.array([1, 0, 0]))
    assert out[200:260].all()
    assert not out[300:400, 1].any()
    alone = talk.speaking(heard([(0, 200, FIRST), (200, 260, 5)]), [(0, np.arange(200))], np.array([0]))
    assert set(alone[200:260].sum(axis=1).tolist()) == {1}


def test_a_voice_of_a_window_may_be_two_people() -> None:
    """Embeddings decide: the model takes two people for one where they follow each other."""
    found = turns(heard([(0, 118, FIRST), (118, 236, FIRST)]), [0, 1], [[0.0, 4.0]])
    assert [who for *_, who in found] == ["S1", "S2"]


def test_pauses_are_filled_and_speech_that_only_the_detection_heard_is_somebodys() -> None:
    """A breath is no end of a turn; seconds of silence are; nobody speaks far from detected speech."""
    what = heard([(0, 100, FIRST), (120, 200, FIRST), (400, 500, FIRST)])
    assert [who for *_, who in turns(what, [0, 0, 0], [[0.0, 3.4], [6.7, 8.5]])] == ["S1", "S1"]
    ends = [end for _, end, _ in turns(what, [0, 0, 0], [[0.0, 4.2]])]
    assert len(ends) == 1
    assert 4.1 < ends[0] < 4.3
    quiet = turns(heard([(0, 100, FIRST), (200, 290, FIRST)]), [0, 0], [[0.0, 1.7]])
    assert [round(end, 1) for _, end, _ in quiet] == [1.7, 3.7]  # the detection missed what was said 1.7 s after it
    assert turns(heard([]), [], [[1.0, 2.0]])[0][2] == "S1"


class _Doubling:
    """A model whose output says how many rows came together."""

    def get_inputs(self) -> list[Any]:
        return [type("Input", (), {"name": "x"})]

    def run(self, _: None, inputs: dict[str, Any]) -> list[Any]:
        return [inputs["x"] * 2]


@pytest.mark.parametrize("threads", [1, 2, 64])
def test_batches_come_back_in_order_with_any_number_of_threads(threads: int) -> None:
    model = Batched(_Doubling(), threads)
    assert model.workers <= 4
    batches = (np.full(3, k) for k in range(40))
    assert [int(out[0]) for out in model.over(batches)] == [2 * k for k in range(40)]


def test_a_window_without_detected_speech_is_not_heard(tmp_path: Path) -> None:
    """An hour of silence costs nothing."""

    class Segmentation:
        asked = 0

        def over(self, batches: Any) -> Any:
            for batch in batches:
                self.asked += len(batch)
                out = np.full((len(batch), FRAMES, 7), -20.0)
                out[:, :, FIRST] = 0
                yield out

    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(16_000)
        wav.writeframes(bytes(2 * 16_000 * 60))
    model = Segmentation()
    shares: list[float] = []
    what = voices.hear(path, model, [[30.0, 31.0]], shares.append)  # type: ignore[arg-type]
    assert model.asked == 4
    assert what.count().max() == 1
    assert shares == sorted(shares)
    assert what.count()[:1000].max() == 0
