"""What copies of results are called: in their folder whatever a recording is called, and never two of one name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.jobs import naming
from builder.core.jobs.naming import CopyOptions
from builder.errors import UsageError

FIELDS = {"stem": "talk", "language": "en", "preset": "high", "number": "01"}
HOSTILE = st.one_of(
    st.sampled_from(["..", ".", "../../etc/passwd", "/etc/x", "-rf", ".bashrc", "a\0b", "x" * 300]), st.text()
)


@pytest.mark.parametrize(
    ("pattern", "ext", "name"),
    [
        (None, "srt", "talk.srt"),
        (None, "words.vtt", "talk.words.vtt"),
        (None, "mp4", "talk.subtitled.mp4"),
        (None, "burned.mp4", "talk.burned.mp4"),
        ("{stem}.{ext}", "mp4", "talk.mp4"),
        ("{stem}.{language}.{ext}", "srt", "talk.en.srt"),
        ("{number}-{preset}_{stem}.{ext}", "words.vtt", "01-high_talk.words.vtt"),
        ("{ext}-{stem}", "srt", "srt-talk"),
    ],
)
def test_names(pattern: str | None, ext: str, name: str) -> None:
    """Without a pattern, a film's name is never the recording's own."""
    assert naming.file_name(pattern and naming.check_pattern(pattern), ext, FIELDS) == name


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("{stem}", "without {ext} all results would have one name"),
        ("{name}.{ext}", "a name has no {name}"),
        ("{stem!r}.{ext}", "a field has nothing but its name"),
        ("{stem:>9}.{ext}", "a field has nothing but its name"),
        ("{stem.__class__}.{ext}", "a name has no {stem.__class__}"),
        ("{}.{ext}", "a name has no {}"),
        ("{stem.{ext}", "unexpected '{' in field name"),
        ("../{stem}.{ext}", "this is a file's name, not a path"),
        ("a\n{stem}.{ext}", "this is a file's name, not a path"),
    ],
)
def test_patterns_that_are_refused(pattern: str, said: str) -> None:
    """Nothing is evaluated, and no folder is left."""
    with pytest.raises(UsageError) as caught:
        naming.check_pattern(pattern)
    assert caught.value.what.startswith(said)
    assert caught.value.where == "--name"


@given(
    HOSTILE, HOSTILE, st.sampled_from([None, "{stem}.{ext}", "{language}{stem}.{ext}", "{ext}{stem}", "{number}.{ext}"])
)
def test_a_name_stays_in_its_folder(stem: str, language: str, pattern: str | None) -> None:
    """One part of a path, that can be written, isn't hidden, and isn't an option."""
    delivery = CopyOptions(folder=Path("/out"), pattern=pattern)
    (place,) = naming.places(delivery, [(stem or "x", None)])
    name = naming.file_name(pattern, "srt", {**FIELDS, "stem": place.stem, "language": language})
    assert Path(name).name == name
    assert name not in ("", ".", "..")
    assert name[0] not in ".-"
    assert "\0" not in name
    assert name.isprintable()
    assert len(name.encode()) <= 255


def test_recordings_of_one_name_get_numbers_in_one_folder() -> None:
    """Beside their recordings they keep their names; where there are two of them, the second gets a number."""
    paths = [Path("/a/talk.mp4"), Path("/b/talk.mp4"), Path("/b/TALK.wav")]
    recordings = [(path.name, path) for path in paths]
    beside = naming.places(CopyOptions(folder=None), recordings)
    assert [(str(p.folder), p.stem) for p in beside] == [("/a", "talk"), ("/b", "talk"), ("/b", "TALK-2")]
    together = naming.places(CopyOptions(folder=Path("/o")), recordings)
    assert [p.stem for p in together] == ["talk", "talk-2", "TALK-3"]


def test_the_kind_of_a_result_is_told_by_its_name() -> None:
    """A file that is no result, or another recording's, has none."""
    assert naming.kind("talk.words.vtt", "talk") == "words.vtt"
    assert naming.kind("talk.mp4", "talk") == "mp4"
    assert naming.kind("talk.sh", "talk") is None
    assert naming.kind("talk-2.srt", "talk") is None
    assert naming.kind("talk", "talk") is None


def test_the_kinds_that_a_job_may_have() -> None:
    assert naming.expected("srt,json,rttm", speakers=False, film=False) == ("srt", "json")
    assert "mkv" in naming.expected("srt", speakers=True, film=True)
