"""The check of subtitle files: each rule, its own product, and files of others, which may be anything."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.config.types import Config
from builder.errors import InputError, UsageError
from builder.views import edits as views
from builder.workflows.edits import checking
from tests.unit.test_subtitles import STAGE, results  # it puts the stage's folder on the path

# isort: split
import check
import cues as cue
import formats
from breaks import language
from limits import Rules
from sentences import read_words, sentences

RULES = Rules(chars_per_second=20.0, min_duration=0.833)


def srt(*cues: tuple[float, float, str]) -> str:
    return "\n".join(
        f"{k}\n{formats.stamp(a, ',')} --> {formats.stamp(b, ',')}\n{text}\n" for k, (a, b, text) in enumerate(cues, 1)
    )


def found(text: str, rules: Rules = RULES, code: str | None = None) -> list[tuple[int, str]]:
    _, cues = check.parsed(text)
    return [(b.cue.number, b.rule) for b in check.breaches(cues, rules, language(code) if code else None)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (srt((1, 3, "Good morning.")), []),
        (srt((1, 3, "x" * 43)), ["line too long", "too fast to read"]),
        (srt((1, 3, "a\nb\nc")), ["too many lines"]),
        (srt((1, 1.5, "Hello.")), ["too short"]),
        (srt((1, 9, "Hello.")), ["too long"]),
        (srt((1, 1, "Hello.")), ["ends before it begins"]),
        (srt((2, 1, "Hello.")), ["ends before it begins"]),
        (srt((1, 3, "<i></i>")), ["empty"]),
        (srt((1, 3, "One."), (3.04, 5, "Two.")), ["too close to the next"]),
        (srt((1, 3, "One."), (3, 5, "Two.")), ["too close to the next"]),
        (srt((1, 3, "One."), (2.5, 5, "Two.")), ["overlaps the next"]),
        (srt((1, 3, "One."), (3.083, 5, "Two.")), []),
        (srt((1, 2, "x" * 25), (5, 7, "Two.")), ["too fast to read"]),
        (srt((1, 2, "x" * 25), (2.09, 4, "Two.")), ["spoken faster than the limit"]),
        (srt((0, 1, "x" * 25), (1.09, 4, "Two.")), ["spoken faster than the limit"]),
    ],
)
def test_each_rule_has_its_name(text: str, expected: list[str]) -> None:
    assert [rule for _, rule in found(text)] == expected


def test_where_subtitles_may_touch_only_a_flash_is_a_breach() -> None:
    web = Rules(gap=0.0)
    assert found(srt((1, 3, "One."), (3, 5, "Two.")), web) == []
    assert found(srt((1, 3, "One."), (3.04, 5, "Two.")), web) == [(1, "a flash before the next")]


def test_a_line_that_ends_with_an_article_is_named_where_the_language_is_known() -> None:
    text = srt((1, 4, "This is the end of the\nlong road"))
    assert found(text) == []
    assert found(text, code="en") == [(1, "line broken within a phrase")]


def test_limits_of_the_writing_count_in_columns() -> None:
    """16 Chinese letters are a line, at 9.35 a second where Latin ones have 17; 5.95 Japanese ones."""
    assert found(srt((1, 4, "我们今天要说的是一个很长很长的故")), Rules()) == []
    assert found(srt((1, 4, "我们今天要说的是一个很长很长的故事")), Rules()) == [(1, "line too long")]
    assert found(srt((0, 3.55, "これはとても長い文です\nよろしくお願いします")), Rules()) == []
    assert found(srt((0, 3.4, "これはとても長い文です\nよろしくお願いします")), Rules())[0][1] == "too fast to read"


@pytest.mark.parametrize(
    "text",
    [
        "1\r\n00:00:01,000 --> 00:00:03,000\r\nGood <b>morning</b>.\r\n\r\n2\r\n00:00:04,000 --> 00:00:06,000\r\nBye.\r\n",
        "1\n00:00:01.000 --> 00:00:03.000 X1:10 X2:20\nGood {\\an8}morning.\n2\n00:00:04,000-->00:00:06,000\nBye.",
        "WEBVTT - a title\n\nNOTE a comment\nof two lines\n\nSTYLE\n::cue { color: red }\n\nintro\n"
        "00:01.000 --> 00:03.000 line:0\nGood <v Ada>morning.</v>\n\n00:00:04.000 --> 00:00:06.000\nBye.\n",
        "\n\n1\n0:00:01,000 --> 0:00:03,000\nGood morning.\n\n\n\n00:00:04,000 --> 00:00:06,0\nBye.\n",
    ],
)
def test_files_of_others_read_the_same(text: str) -> None:
    _, cues = check.parsed(text)
    assert [(c.start, c.end, c.lines) for c in cues] == [(1, 3, ("Good morning.",)), (4, 6, ("Bye.",))]


def test_entities_are_signs_in_webvtt_only() -> None:
    _, cues = check.parsed("WEBVTT\n\n00:01.000 --> 00:03.000\na &lt;b&gt; &amp; c\n")
    assert cues[0].lines == ("a <b> & c",)
    _, cues = check.parsed(srt((1, 3, "a &lt; b")))
    assert cues[0].lines == ("a &lt; b",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_old_encodings_are_read(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "a.srt"
    file.write_bytes(srt((1, 3, "Größe – naïve")).encode(encoding))
    _, cues = check.parsed(check.decoded(check.read(str(file))))
    assert cues[0].lines == ("Größe – naïve",)


def test_what_is_no_file_of_subtitles_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "a.srt").write_text("nothing here")
    (tmp_path / "film.srt").write_bytes(os.urandom(1 << 16))
    with (tmp_path / "large.srt").open("wb") as large:
        large.truncate(check.LARGEST + 1)
    for name, why in {
        "fifo": "regular",
        "a.srt": "neither",
        "film.srt": "neither",
        "large.srt": "MiB",
        "gone.srt": "No such file",
        ".": "directory",
    }.items():
        assert why in check.checked(str(tmp_path / name), RULES, None)["error"], name


def test_an_empty_file_has_no_subtitles(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("")
    assert check.checked(str(tmp_path / "a.srt"), RULES, None)["cues"] == 0


ODD = st.text(st.sampled_from("0123456789:,.->\n <b/>{\\}&;aß今\u202e\x00\r\t"), max_size=200)


@given(
    st.lists(st.one_of(ODD, st.sampled_from(["00:00:01,000 --> 00:00:02,000", "WEBVTT", "1", "", "NOTE"])), max_size=12)
)
def test_any_text_has_an_answer(parts: list[str]) -> None:
    """Cues or a reason, and breaches that JSON can say."""
    try:
        _, cues = check.parsed("\n".join(parts))
    except check.NotSubtitles:
        return
    for breach in check.breaches(cues, RULES, language("en")):
        json.dumps([breach.rule, breach.value, breach.limit], allow_nan=False)


@pytest.mark.parametrize(
    "text", ["<" * 300_000, "{\\" * 150_000, "0:" * 150_000, "00:00:01,000 --> " * 20_000, "&" * 300_000]
)
def test_a_line_without_end_is_no_work_without_end(text: str) -> None:
    """Patterns are linear: a hostile line of 300 kB is read like any other."""
    check.parsed(srt((1, 3, text)))


def test_too_many_subtitles_are_refused() -> None:
    one = "00:00:01,000 --> 00:00:02,000\nx\n\n"
    with pytest.raises(check.NotSubtitles, match="more than"):
        check.parsed(one * (check.MOST_CUES + 1))


PROFILES = {
    "netflix": RULES,
    "web": Rules(chars_per_second=21.0, gap=0.0),
    "bbc": Rules(line_chars=37, gap=0.0, chain=1.0),
}


@given(results(), st.sampled_from(sorted(PROFILES)))
def test_what_the_stage_makes_breaks_no_rule_that_it_can_keep(data: tuple[Any, Any, float], profile: str) -> None:
    """Both go by the same rules: no line of several words is too wide, nothing lasts too long, no gap is a flash.

    Words that are said at one moment, or faster than anybody reads, have no time: those rules may be broken.
    """
    segments, turns, duration = data
    rules = PROFILES[profile]
    shown = cue.cues(sentences(read_words(segments, duration), turns), rules, duration=duration, label=True)
    if not shown:
        return
    _, cues = check.parsed(formats.srt(shown, prefix=True))
    assert len(cues) == len(shown)
    for breach in check.breaches(cues, rules, None):
        assert breach.rule not in (
            "too many lines",
            "too long",
            "a flash before the next",
            "overlaps the next",
            "empty",
        )
        if breach.rule == "too close to the next":
            made = shown[breach.cue.number - 1]
            assert made.end - made.start < cue.SLOT / 1000 + rules.gap + 0.002, "touching, where there was time"


def test_the_program_needs_no_environment(tmp_path: Path) -> None:
    """As the builder runs it: isolated, with JSON in and out."""
    file = tmp_path / "a.srt"
    file.write_text(srt((1, 1.2, "Hello.")))
    request = {
        "files": [str(file), str(tmp_path / "b.srt")],
        "rules": {"min_duration": 1.0, "formats": "srt"},
        "language": None,
    }
    done = subprocess.run(
        [sys.executable, "-I", str(STAGE / "check.py")],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=True,
    )
    one, two = json.loads(done.stdout)
    assert one["breaches"] == [
        {"cue": 1, "start": 1.0, "end": 1.2, "rule": "too short", "value": 0.2, "limit": 1.0}
    ] + [b for b in one["breaches"] if b["rule"] != "too short"]
    assert two["error"]


# The command


class _Session:
    def __init__(self, config: Config) -> None:
        self.config = config


def session(**overrides: object) -> Any:
    from tests.unit.test_settings import load

    return _Session(load(**overrides))  # type: ignore[arg-type]


def test_the_command_counts_and_fails_above_what_is_allowed(tmp_path: Path) -> None:
    file = tmp_path / "a.srt"
    file.write_text(srt((1, 1.2, "Hello."), (3, 5, "Fine."), (7, 9, "Fine."), (11, 13, "Fine.")))
    for allowed, code in ((0.0, 1), (24.9, 1), (25.0, None)):
        result = checking.check(session(profile="netflix"), [file], allowed=allowed, language=None)
        assert (result.failure and result.failure.exit_code) == code
    assert views.CHECK.data(result)["files"][0]["percent"] == 25.0
    lines = views.CHECK.text(result).splitlines()
    assert lines[0] == f"{file}: 1 of 4 subtitles break a rule (25.0 %)"
    assert lines[2].split() == ["1", "0:00:01.000", "too", "short", "0.2", "0.833"]


def test_a_name_that_is_not_utf_8_is_a_name(tmp_path: Path) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.srt"))
    file.write_text(srt((1, 3, "Fine.")))
    assert checking.check(session(), [file], allowed=0, language=None).files[0].cues == 1


def test_a_file_or_a_language_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        checking.check(session(), [tmp_path / "gone.srt"], allowed=0, language=None)
    (tmp_path / "a.srt").write_text("")
    with pytest.raises(UsageError, match="not a language"):
        checking.check(session(), [tmp_path / "a.srt"], allowed=0, language="klingonish")
    words = ["subtitles.min_duration=9", "subtitles.max_duration=1"]
    with pytest.raises(UsageError, match="min_duration"):
        checking.check(session(settings=words), [tmp_path / "a.srt"], allowed=0, language=None)


def test_every_profile_of_the_project_has_rules_that_agree() -> None:
    """Those of bake.yaml: a subtitle can keep them all."""
    profiles = session().config.profiles
    assert {"netflix", "bbc", "ebu", "web"} <= set(profiles)
    for profile in profiles.values():
        settings = {s.name: s.value for s in profile.settings if s.stage == "subtitles"}
        rules = Rules(**{name: value for name, value in settings.items() if name in Rules.__dataclass_fields__})
        assert rules.chars_per_second * rules.max_duration > rules.line_chars
    assert list(itertools.islice(profiles, 4)) == ["netflix", "bbc", "ebu", "web"]


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("good morning", 20.0),
        ("这是一个很长的故事", 11.0),
        ("これはとても長い", 7.0),
        ("안녕하세요", 14.0),
        ("صباح الخير", 23.0),
        ("नमस्ते", 25.0),
        ("สวัสดีครับ", 20.0),
    ],
)
def test_letters_a_second_are_those_of_the_writing(text: str, letters: float) -> None:
    """Netflix's limits of SDH, by letters, from those of Latin ones."""
    rules = Rules(chars_per_second=20.0).for_text(text)
    wide = 2 if rules.line_chars in (26, 32) else 1
    assert rules.chars_per_second == pytest.approx(letters * wide)
    assert rules.for_text(text) == rules  # not twice
