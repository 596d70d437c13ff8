"""Every second of speech is accounted for: shown, at a word's edge, or in a gap that has a name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.cli.jobs import strict_words
from builder.core.jobs.record import coverage as read
from builder.edges.jobs.outcome import Outcome
from tests.unit.test_job_views import COVERAGE, JOB
from tests.unit.test_subtitles import RULES, tokens  # it puts the stage's folder on the path

# isort: split
import cues as cue
from ledger import CUT, EDGE, UNKNOWN, ledger, marked
from sentences import Sentence, Word, read_words, sentences


def shown(*segments: dict[str, Any]) -> tuple[list[Sentence], list[cue.Cue]]:
    said = sentences(read_words(list(segments), 60.0), None)
    return said, cue.cues(said, RULES, duration=60.0, label=False)


def gaps(found: Any) -> list[tuple[float, float, str]]:
    return [(gap.start, gap.end, gap.why) for gap in found.gaps]


def test_speech_without_words_is_a_gap_with_its_reason() -> None:
    _, cues = shown(tokens([" One", " two."], start=1.0), tokens([" Three", " four."], start=20.0))
    unheard = [{"start": 9.5, "end": 12.4, "why": "below confidence"}]
    found = ledger({None: [(0.9, 1.6), (4.0, 6.0), (10.0, 12.0), (20.0, 20.6)]}, cues, unheard)
    assert gaps(found) == [(4.0, 6.0, UNKNOWN), (10.0, 12.0, "below confidence")]
    assert found.speech == pytest.approx(5.3)
    assert found.edges < EDGE


def test_one_gap_with_two_reasons_is_two_but_no_slivers() -> None:
    unheard = [
        {"start": 5.0, "end": 7.0, "why": "repeats itself"},
        {"start": 7.1, "end": 9.95, "why": "below confidence"},
    ]
    found = ledger({None: [(5.0, 10.0)]}, [], unheard)
    assert gaps(found) == [(5.0, 7.1, "repeats itself"), (7.1, 10.0, "below confidence")]


def test_a_short_region_without_a_word_is_a_gap_too() -> None:
    """A lost "yes" is no edge."""
    _, cues = shown(tokens([" One."], start=1.0))
    found = ledger({None: [(0.8, 1.5), (9.0, 9.3)]}, cues, [])
    assert gaps(found) == [(9.0, 9.3, UNKNOWN)]


def test_a_cue_that_only_stays_to_be_read_covers_nothing() -> None:
    """It lasts into the silence for reading; speech that begins there and has no words isn't in it."""
    _, cues = shown(tokens([" Extraordinarily", " incomprehensible", " administrations."], start=1.0, step=0.2))
    assert cues[0].end > 3.0
    found = ledger({None: [(1.0, 1.7), (2.4, 3.6)]}, cues, [])
    assert [round(end - start, 1) for start, end, _ in gaps(found)] == [1.2]


def test_a_cue_that_begins_before_its_words_covers_nothing_there() -> None:
    """It has silence for reading; a lost "yes" just before its first word is a gap."""
    _, cues = shown(tokens([" Fast", " incomprehensible", " administrations", " remain."], start=2.0, step=0.3))
    early = [replace(cues[0], start=1.5), *cues[1:]]
    found = ledger({None: [(1.2, 1.7), (2.0, 3.2)]}, early, [])
    assert gaps(found) == [(1.2, 1.7, UNKNOWN)]
    assert found.shown == pytest.approx(1.2)


def test_what_a_person_cut_says_so() -> None:
    said, cues = shown(tokens([" One", " two."], start=1.0), tokens([" Three", " four."], start=5.0))
    kept = [c for c in cues if c.start < 4]
    found = ledger({None: [(1.0, 1.6), (5.0, 5.6)]}, kept, [], said)
    assert [why for *_, why in gaps(found)] == [CUT]


def test_each_channel_has_its_own_account() -> None:
    """What one person says doesn't cover what another was not heard to say."""
    _, cues = shown(tokens([" One", " two."], start=1.0, channel=1))
    found = ledger({1: [(1.0, 1.6)], 2: [(1.0, 2.6)]}, cues, [{"start": 0, "end": 9, "why": "x", "channel": 1}])
    assert [(g.start, g.end, g.why, g.channel) for g in found.gaps] == [(1.0, 2.6, UNKNOWN, 2)]
    assert found.data(offset=10.0)["gaps"] == [{"start": 11.0, "end": 12.6, "why": UNKNOWN, "channel": 2}]


def test_words_outside_speech_are_marked_but_not_a_persons() -> None:
    words = [
        Word(text=" in", start=1.0, end=1.3),
        Word(text=" partly", start=1.9, end=2.4),
        Word(text=" moment", start=1.5, end=1.5),
        Word(text=" out", start=8.0, end=8.3),
        Word(text=" typed", start=8.4, end=8.6, source="edited"),
        Word(text=" doubted", start=1.3, end=1.6, unsure=True),
    ]
    (said,) = marked([Sentence(words=tuple(words))], {None: [(0.9, 2.0)]})
    assert [w.unsure for w in said.words] == [False, False, False, True, False, True]


def test_a_mark_of_the_recognition_survives_the_joining_of_tokens() -> None:
    entry = tokens([" un", "believ", "able"])
    entry["words"][1]["unsure"] = True
    (word,) = read_words([entry], 60.0)
    assert word.unsure


SPANS = st.lists(st.tuples(st.floats(0, 50), st.floats(0.05, 8)), max_size=8).map(lambda s: [(a, a + n) for a, n in s])


@given(SPANS, SPANS, SPANS)
def test_every_second_of_speech_is_counted_once(speech: Any, words: Any, unheard: Any) -> None:
    """The sum, and a plain look at each hundredth of a second: one in a gap is in speech and outside every word."""
    said = [Sentence(words=(Word(text=f" w{k}.", start=a, end=b),)) for k, (a, b) in enumerate(sorted(words))]
    cues = [
        cue.Cue(start=s.start, end=s.end, lines=(s.text,), words=s.words, speaker=None, changed=False) for s in said
    ]
    names = [{"start": a, "end": b, "why": f"why {k}"} for k, (a, b) in enumerate(unheard)]
    found = ledger({None: speech}, cues, names)
    lost = sum(gap.end - gap.start for gap in found.gaps)
    assert found.shown + found.edges + lost == pytest.approx(found.speech, abs=1e-6)
    assert all(a.end <= b.start + 1e-9 for a, b in zip(found.gaps, found.gaps[1:], strict=False))
    for gap in found.gaps:
        assert gap.why in {UNKNOWN, *(entry["why"] for entry in names)}
        for k in range(int((gap.end - gap.start) * 100)):
            at = gap.start + (k + 0.5) / 100
            assert any(a <= at <= b for a, b in speech)
            assert not any(a + 1e-6 < at < b - 1e-6 for a, b in words)


# What the builder reads of it


def test_a_transcript_tells_its_coverage_as_it_was_written() -> None:
    _, cues = shown(tokens([" One."], start=1.0))
    written = ledger({None: [(1.0, 1.3), (5.0, 8.0)]}, cues, []).data()
    found = read.parsed({"coverage": written}, "a.wav")
    assert found is not None
    assert (found.recording, found.speech, found.lost) == ("a.wav", 3.3, 3.0)
    assert found.longer(2.9) == found.gaps
    assert found.longer(3.0) == ()


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "x",
        {},
        {"coverage": None},
        {"coverage": {"speech": -1.0, "shown": 0, "edges": 0, "gaps": [], "unsure": 0}},
        {"coverage": {"speech": float("nan"), "shown": 0, "edges": 0, "gaps": [], "unsure": 0}},
        {"coverage": {"speech": 1, "shown": 0, "edges": 0, "gaps": [{"start": 0, "end": 1, "why": 5}], "unsure": 0}},
        {"coverage": {"speech": 1, "shown": 0, "edges": 0, "gaps": {}, "unsure": True}},
    ],
)
def test_a_coverage_of_another_shape_counts_as_none(data: Any) -> None:
    assert read.parsed(data, "a.wav") is None


def test_gaps_without_end_are_bounded() -> None:
    gaps = [{"start": float(k), "end": k + 0.5, "why": "y" * 5000} for k in range(read.MOST_GAPS + 50)]
    gaps.append({"start": 5.0, "end": 5.0, "why": "nothing"})
    found = read.parsed({"coverage": {"speech": 1, "shown": 0, "edges": 0, "gaps": gaps, "unsure": 0}}, "a")
    assert found is not None
    assert len(found.gaps) <= read.MOST_GAPS
    assert max(len(gap.why) for gap in found.gaps) == read.LONGEST_WHY


def test_a_cut_by_a_person_is_no_gap_to_be_strict_about() -> None:
    cut = read.Gap(start=0.0, end=9.0, why=read.CUT)
    assert read.CUT == CUT
    assert read.Coverage(recording="a", speech=9, shown=0, edges=0, gaps=(cut,), unsure=0).longer(1.0) == ()


@pytest.mark.parametrize(("strict", "code"), [(None, None), (1.0, 8), (3.9, 8), (4.0, None), (0.0, 8)])
def test_strict_makes_a_gap_a_failure_in_part(strict: float | None, code: int | None) -> None:
    outcome = Outcome(
        job=JOB, folder=Path("/o"), files=(), stages=(), notes=(), seconds=1, coverage=(COVERAGE,), strict=strict
    )
    failure = outcome.failure
    assert (failure and failure.exit_code) == code
    if failure:
        assert failure.where == "a.mp4"
        assert list(failure.detail) == ["a.mp4 1:01.0-1:05.0: no words found"]


@pytest.mark.parametrize(
    ("typed", "read_as"),
    [
        (["--strict", "talk.mp4"], ["--strict=1", "talk.mp4"]),
        (["--strict=5", "talk.mp4"], ["--strict=5", "talk.mp4"]),
        (["--strict", "5", "talk.mp4"], ["--strict=5", "talk.mp4"]),
        (["talk.mp4", "--strict"], ["talk.mp4", "--strict=1"]),
        (["talk.mp4", "--strict", "2.5"], ["talk.mp4", "--strict=2.5"]),
        (["--strict", "--json", "talk.mp4"], ["--strict=1", "--json", "talk.mp4"]),
        (["--strict", "20261123-200312"], ["--strict=1", "20261123-200312"]),
        (["--", "--strict", "5"], ["--", "--strict", "5"]),
        (["talk.mp4"], ["talk.mp4"]),
    ],
)
def test_strict_never_takes_a_recording_for_its_seconds(typed: list[str], read_as: list[str]) -> None:
    assert strict_words(typed) == read_as


def test_a_recording_that_is_called_like_a_number_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "5").touch()
    monkeypatch.chdir(tmp_path)
    assert strict_words(["--strict", "5"]) == ["--strict=1", "5"]
