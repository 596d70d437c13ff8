"""Figures and the page of a comparison: who wins, what is marked, and that no word becomes a part of the page."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.core.compare import heard as reading
from builder.core.compare import page as pages
from builder.core.compare.figures import Attempt, PresetFigures, RecordingCompared, compared, figures, pairs
from builder.core.compare.heard import Cost, Heard
from builder.core.compare.page import Piece, passages
from builder.core.compare.reference import NO_REFERENCE, Reference
from builder.core.compare.speakers import SpeakerTurn
from builder.core.compare.words import Agreement, WordErrors, words_of
from builder.core.jobs.record.manifest import Manifest
from builder.core.jobs.timeline import StageRun
from builder.errors import ConfigError, Interrupted
from builder.views import run as views
from builder.views import schemas
from builder.workflows.compare.commands import PresetsCompared

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = {name: (ROOT / "templates/compare" / name).read_text() for name in pages.TEMPLATES}
TRUTH = "The fish market is now a museum."


def attempt(preset: str, text: str, *, cost: Cost | None = None, speaker: str = "S1") -> Attempt:
    turns = (SpeakerTurn(start=0, end=4, speaker=speaker),)
    cost = cost or Cost(seconds=2.0, cpu_seconds=3.0, peak_bytes=200_000_000)
    return Attempt(
        preset=preset,
        job=f"job-{preset}",
        heard=Heard(words=words_of(text, "en", start=0.5), language="en", duration=4.0, turns=turns, cost=cost),
    )


def reference(text: str | None = TRUTH, name: str = "talk.txt") -> Reference:
    return NO_REFERENCE if text is None else Reference(words=words_of(text, "en"), words_file=name)


def recording(truth: Reference | None = None, name: str = "talk.mp4", **said: str) -> RecordingCompared:
    return compared(name, truth or reference(), [attempt(preset, text) for preset, text in said.items()])


def test_errors_and_agreement_of_each() -> None:
    """Against the truth where there is one; with the others always."""
    found = recording(a="The fish market is our museum", b="The fish market is now a museum.")
    assert [a.words for a in found.attempts] == [
        WordErrors(substituted=1, deleted=1, total=7),
        WordErrors(total=7),
    ]
    assert found.agreements == {("a", "b"): Agreement(shared=5, words=13)}
    assert found.base is None
    alone = recording(NO_REFERENCE, a="one two", b="one three", c="")
    assert [a.words for a in alone.attempts] == [None, None, None]
    assert alone.base == "a"
    assert alone.agreements[("b", "c")] == Agreement(shared=0, words=2)


def test_a_preset_over_all_recordings() -> None:
    """Sums, the highest memory; what is not known of one recording is known of none."""
    low = Cost(seconds=1.0, cpu_seconds=None, peak_bytes=100)
    both = [
        recording(a="The fish", b=TRUTH),
        compared("two.wav", NO_REFERENCE, [attempt("a", "x", cost=low), Attempt(preset="b", job="j", failure="broke")]),
    ]
    first = figures(both, "a", models=("m",), model_bytes=7)
    assert (first.heard, first.seconds, first.cpu_seconds, first.peak_bytes) == (2, 3.0, None, 200_000_000)
    assert first.words == WordErrors(deleted=5, total=7)
    assert first.agreement == Agreement(shared=2, words=9)
    second = figures(both, "b", models=("m",), model_bytes=7)
    assert (second.heard, second.cpu_seconds, second.sound) == (1, 3.0, 4.0)
    assert pairs(both) == {("a", "b"): Agreement(shared=2, words=9)}
    assert figures(both, "c", models=(), model_bytes=0).words is None


def test_passages_show_what_became_of_the_words() -> None:
    """Words of one kind that follow each other are one piece; one more stands where it was said."""
    [passage] = passages(recording(a="The fresh fish market is our museum", b=TRUTH))
    assert passage.base.strip() == TRUTH
    assert dict(passage.heard)["a"] == (
        Piece(kind="equal", text="The "),
        Piece(kind="inserted", text="fresh "),
        Piece(kind="equal", text="fish market is "),
        Piece(kind="substituted", text="our ", instead="now"),
        Piece(kind="deleted", text="a "),
        Piece(kind="equal", text="museum "),
    )
    assert not passage.same
    assert passages(recording(a=TRUTH))[0].same
    assert passages(recording(reference(""), a="word"))[0].heard == (("a", (Piece(kind="inserted", text="word "),)),)
    many = " ".join(f"w{k}{'.' if k % 13 == 12 else ''}" for k in range(60))
    whole = passages(recording(reference(many), a=many))
    assert [len(p.base.split()) for p in whole] == [13, 13, 13, 13, 8]
    assert "".join(p.base for p in whole).split() == many.split()
    endless = passages(recording(reference("w " * 100), a="w " * 100))
    assert [len(p.base.split()) for p in endless] == [40, 40, 20]


HOSTILE = [
    "</style><script>alert(1)</script>",
    "<!--<script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}",
    "&lt;b&gt;",
    "\u2028\u2029\u202e",
    "\x00\x01\x7f",
    "</dd></dl></title>",
    "\ud800",
]


class Tags(HTMLParser):
    """A page's skeleton, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(sorted(name for name, _ in attrs))))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page(text: str) -> str:
    """A page on which a name of a file, a preset, a model, a failure and words in every place are this text."""
    said = compared(
        text,
        reference(f"truth {text}x", name=text),
        [attempt(text, f"other {text}x more {text}"), Attempt(preset=text, job="", failure=text)],
    )
    of_preset = replace(figures([said], text, models=(text,), model_bytes=1), agreement=Agreement(shared=1, words=2))
    return pages.render([of_preset], [said], TEMPLATES)


def structure(text: str) -> list[tuple[str, tuple[str, ...]]]:
    """The tags of the page but those that mark words: how many of these there are depends on the words."""
    return [tag for tag in Tags(page(text)).tags if tag[0] not in ("mark", "ins", "del")]


PLAIN = structure("plain")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_stay_words(text: str) -> None:
    """None of them adds a tag or an attribute."""
    assert structure(text) == PLAIN
    marks = {tag for tag in Tags(page(text)).tags if tag[0] in ("mark", "ins", "del")}
    assert marks <= {("mark", ("title",)), ("mark", ()), ("ins", ()), ("del", ())}


@settings(max_examples=10)
@given(st.text(min_size=1))
def test_any_text_stays_text(text: str) -> None:
    """What no list of tricks thought of."""
    assert structure(text) == PLAIN


def test_the_page_asks_for_nothing_and_runs_nothing() -> None:
    """Its own style by hash is all that the policy allows."""
    text = page("plain")
    tags = Tags(text).tags
    assert not {name for name, _ in tags} & {"script", "img", "link", "iframe", "form", "a"}
    assert not [a for _, attributes in tags for a in attributes if a in ("style", "src", "href") or a.startswith("on")]
    assert "://" not in text
    [style] = re.findall(r"<style>(.*?)</style>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src &#39;none&#39;; style-src &#39;sha256-{digest}&#39;" in text
    assert Tags(page("a & b")).text.count("a & b") >= 3, "escaped once, not twice"


def test_what_is_printed() -> None:
    """A table of the presets, one of the recordings where there are several, what the figures are against, what failed."""
    first = recording(a="The fish", b=TRUTH)
    second = compared("two.wav", NO_REFERENCE, [attempt("a", "x"), Attempt(preset="b", job="j", failure="it broke")])
    result = PresetsCompared(
        presets=tuple(figures([first, second], name, models=("m",), model_bytes=75_000_000) for name in "ab"),
        pairs=pairs([first, second]),
        recordings=(first, second),
        failure=Interrupted("stopped"),
    )
    assert views.COMPARE.text(result).splitlines() == [
        "PRESET  TIME   CPU    MEMORY    MODELS   WER     DER  AGREES",
        "a       4.0 s  6.0 s  200.0 MB  75.0 MB  71.4 %  -    44.4 %",
        "b       2.0 s  3.0 s  200.0 MB  75.0 MB  0.0 %   -    44.4 %",
        "",
        "RECORDING  PRESET  TIME   CPU    WER     DER",
        "talk.mp4   a       2.0 s  3.0 s  71.4 %  -",
        "talk.mp4   b       2.0 s  3.0 s  0.0 %   -",
        "two.wav    a       2.0 s  3.0 s  -       -",
        "two.wav    b       -      -      -       -",
        "",
        "talk.mp4: words against talk.txt",
        "two.wav: no reference beside it (docs/compare.md)",
        "two.wav with b: it broke",
    ]
    data: Any = views.COMPARE.data(result)
    schemas.adapter(views.COMPARE.shape).validate_python(data)
    assert data["presets"][0]["words"] == {"rate": 0.71429, "substituted": 0, "inserted": 0, "deleted": 5, "total": 7}
    assert data["pairs"] == [{"presets": ["a", "b"], "agreement": 0.44444}]
    assert (
        data["recordings"][1]["presets"][1] | {"job": "j", "failure": "it broke"} == data["recordings"][1]["presets"][1]
    )


def test_the_result_of_a_stage_is_read_as_anything() -> None:
    """Of another shape it is an error with its place, never a bug."""
    good = {"language": "en", "duration": 3, "segments": [{"text": " Hi there", "start": 1}]}
    words, language, duration = reading.said_in(good, "x")
    assert ([w.key for w in words], language, duration) == (["hi", "there"], "en", 3.0)
    for wrong in (
        None,
        [],
        {},
        {**good, "segments": 5},
        {**good, "segments": [{"text": "a"}]},
        {**good, "duration": "x"},
    ):
        with pytest.raises(ConfigError, match="not a transcript"):
            reading.said_in(wrong, "x")
    assert reading.turns_in({"turns": [{"start": 0, "end": 1, "speaker": "S1"}]}, "x")[0].speaker == "S1"
    for turns in (None, {"turns": 1}, {"turns": [{"start": "a", "end": 1, "speaker": "S1"}]}):
        with pytest.raises(ConfigError, match="not a transcript"):
            reading.turns_in(turns, "x")


def test_what_a_job_took() -> None:
    """From the first start to the last end; processor time only where every stage says it."""
    runs = (
        StageRun(name="demux", state="done", start=0.0, seconds=1.0),
        StageRun(name="asr", state="done", start=1.0, seconds=4.0),
        StageRun(name="diarize", state="done", start=1.0, seconds=2.0),
        StageRun(name="mux", state="open"),
    )
    empty = Manifest(code="", settings={}, models={}, inputs={}, outputs={})
    said = {
        "demux": replace(empty, cpu_seconds=0.5, peak_bytes=5),
        "asr": replace(empty, cpu_seconds=7.0, peak_bytes=9),
    }
    assert reading.cost_of(runs, said) == Cost(seconds=5.0, cpu_seconds=7.5, peak_bytes=9)
    assert reading.cost_of(runs, {**said, "mux": empty}).cpu_seconds is None
    assert reading.cost_of((), {}) == Cost(seconds=0.0, cpu_seconds=None, peak_bytes=None)


def test_figures_of_nothing() -> None:
    """A preset that heard nothing has no rates, and is shown."""
    nothing = PresetFigures(preset="a", models=(), model_bytes=0, heard=0)
    result = PresetsCompared(presets=(nothing,), pairs={}, recordings=(), page=Path("/x.html"))
    assert views.COMPARE.text(result).splitlines()[1].split() == ["a", "-", "-", "-", "0", "B", "-", "-", "-"]
    assert views.COMPARE.text(result).splitlines()[-1] == "/x.html"
