"""References: which file is one, and which words it has."""

from __future__ import annotations

import pytest

from builder.core.compare.reference import TEXTS, names_for, words_of_file


def test_which_files_are_references() -> None:
    """One that says so wins; what an earlier run wrote beside the recording is not the truth."""
    own = ["talk.reference.txt", "talk.reference.srt", "talk.reference.vtt"]
    assert names_for("talk", suffixes=TEXTS, results=False) == [*own, "talk.txt", "talk.srt", "talk.vtt"]
    assert names_for("talk", suffixes=TEXTS, results=True) == own


SRT = """\ufeff1
00:00:01,500 --> 00:00:02,000
<i>Speaker 1: Hello</i>
there.

2
01:00:03,000 --> 01:00:04,000 X1:1
{\\an8}General 7
"""

VTT = """WEBVTT - a title

NOTE not spoken

00:01.500 --> 00:02.000 line:0
<v Ada>Hello there.

chapter
01:00:03.000 --> 01:00:04.000
General <00:03.500>7
"""


@pytest.mark.parametrize(("text", "suffix"), [(SRT, "srt"), (VTT, "vtt"), (SRT.replace("\n", "\r\n"), "srt")])
def test_words_of_subtitles(text: str, suffix: str) -> None:
    """Numbers, times, tags and notes are not spoken; each word has its subtitle's start."""
    found = [(word.key, word.start) for word in words_of_file(text, suffix, "en")]
    assert found == [("hello", 1.5), ("there", 1.5), ("general", 3603.0), ("seven", 3603.0)]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("Speaker 1: Yes.\n\nSpeaker 2: No.", "yes no"),
        ("S1: yes\nSPEAKER_02: no", "yes no"),
        ("Ada Lovelace: yes\n\nCharles: no\n", "yes no"),
        ("Ada: yes\nand more", "ada yes and more"),
        ("One thing: yes.", "yes"),
        ("It is 10:30 now.", "it is 10 30 now"),
        ("", ""),
    ],
)
def test_words_of_a_text(text: str, keys: str) -> None:
    """Names of speakers are not spoken: Speaker 1, or any where every line begins with one."""
    assert " ".join(word.key for word in words_of_file(text, "txt", None)) == keys


STRANGE = (
    "-->" * 5000,
    "<" * 20_000,
    "{\\" * 10_000,
    "1:" * 5_000,
    "00:" * 5_000 + " --> ",
    "a" * 20_000,
    "a'" * 10_000,
)


@pytest.mark.parametrize("text", STRANGE, ids=range(len(STRANGE)))
def test_a_strange_file_is_read_once(text: str) -> None:
    """Patterns with bounds: none looks from every place to the end, which would take minutes."""
    for suffix in TEXTS:
        words_of_file(f"00:00:01,000 --> 00:00:02,000\n{text}", suffix, "en")
