"""Stage music and what becomes of lyrics: what is done around the network, which has no part in it here."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT, stage_module

yamnet = stage_module("music", "yamnet")
spans = stage_module("music", "spans")

sys.path[:0] = [str(ROOT / "stages/subtitles")]
import broadcast  # noqa: E402
import clock  # noqa: E402
import cues  # noqa: E402
import formats  # noqa: E402
import lyrics  # noqa: E402
import wordwise  # noqa: E402
from limits import Rules  # noqa: E402
from sentences import Sentence, Word  # noqa: E402

SONG, TALK, TUNE = (-9.0, -3.0, 2.0), (4.0, -12.0, -9.0), (-9.0, -12.0, 4.0)
"""Log odds of speech, singing and music."""


class Network:
    """Hears speech where it is loud, and counts how often it is asked."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def run(self, names: None, given: Mapping[str, Any]) -> list[Any]:
        self.given.append(given["audio"])
        assert given["audio"].shape == (1, 1, yamnet.FRAMES, yamnet.BANDS)
        assert given["audio"].dtype == np.uint8
        out = np.zeros((1, 521), np.uint8)
        out[0, 0] = given["audio"].mean()
        return [out]


def heard(samples: Any, block: int) -> Any:
    blocks = (samples[k : k + block] for k in range(0, len(samples), block))
    return np.stack(list(yamnet.Tagger(Network()).heard(blocks)))


@pytest.mark.parametrize("count", [0, 1, 399, 15_600, 15_601, 40_000])
def test_what_is_heard_does_not_depend_on_blocks(count: int) -> None:
    """And there is always an answer, however short a sound is."""
    samples = np.random.default_rng(count).uniform(-0.5, 0.5, count).astype(np.float32)
    whole = heard(samples, 100_000)
    for block in (1000, 7001):
        np.testing.assert_array_equal(heard(samples, block), whole)
    assert len(whole) == max(((count - yamnet.WINDOW) // yamnet.HOP + 1 - yamnet.FRAMES) // yamnet.STEP + 1, 1)


def test_a_tone_is_in_its_band() -> None:
    """1 kHz lies at 1000 mel of HTK's scale, a third of the way from 125 Hz to 7500 Hz."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    network = Network()
    list(yamnet.Tagger(network).heard([tone]))
    assert int(network.given[0][0, 0].mean(axis=0).argmax()) == 19
    assert (yamnet.filters().sum(axis=0) > 0).all()


@pytest.mark.parametrize("names", [(), ("a/model.onnx",), ("model.data", "model.onnx.txt")])
def test_an_archive_that_lacks_something_is_broken(names: tuple[str, ...], tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for name in names:
            out.writestr(name, "x")
    with pytest.raises(yamnet.Broken, match=r"a\.zip has no model\."):
        yamnet.unpacked(archive, tmp_path)


def test_what_is_no_archive_or_no_network_is_broken(tmp_path: Path) -> None:
    """A member's folder is nothing that is followed."""
    archive = tmp_path / "a.zip"
    archive.write_text("no archive")
    with pytest.raises(yamnet.Broken, match=r"a\.zip: "):
        yamnet.unpacked(archive, tmp_path)
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("../../model.onnx", "x")
        out.writestr("/etc/model.data", "y")
    assert yamnet.unpacked(archive, tmp_path) == tmp_path / "model.onnx"
    assert (tmp_path / "model.data").read_text() == "y"


def of(*runs: tuple[tuple[float, float, float], int]) -> dict[str, Any]:
    odds = np.array([odds for odds, count in runs for _ in range(count)], np.float32)
    return dict(spans.found(odds, len(odds) * spans.STEP + spans.STEP))


def test_singing_is_music_and_speech_is_neither() -> None:
    found = of((TALK, 40), (SONG, 40), (TUNE, 40))
    ((start, end),) = found["singing"]
    assert 19 < start < 24
    assert 36 < end < 42
    ((first, last),) = found["music"]
    assert 19 < first <= start
    assert last == found["duration"]
    assert found["share"] == {
        "music": round((last - first) / found["duration"], 3),
        "singing": round((end - start) / found["duration"], 3),
    }
    assert of((TALK, 100))["share"] == {"music": 0.0, "singing": 0.0}


def test_a_moment_of_song_within_speech_is_none() -> None:
    """A vowel that is held sounds like one; speech beside singing is speech."""
    assert of((TALK, 40), (SONG, 4), (TALK, 40))["singing"] == []
    assert of(((3.0, -3.0, 2.0), 100))["singing"] == []


def test_a_short_song_is_one_to_its_end() -> None:
    assert of((SONG, 1))["singing"] == [[0.0, 0.96]]
    assert spans.found(np.array([SONG], np.float32), 0.0)["share"] == {"music": 0.0, "singing": 0.0}


def sentence(text: str, start: float, step: float = 0.5, **other: Any) -> Sentence:
    words = text.split()
    return Sentence(
        words=tuple(
            Word(text=f" {word}", start=start + k * step, end=start + (k + 1) * step, **other)
            for k, word in enumerate(words)
        ),
        speaker="S1",
    )


def test_only_what_is_mostly_sung_is_lyrics() -> None:
    """Four fifths of its time, on its own channel where channels are heard apart."""
    said = [sentence("one two three four five.", 0.0), sentence("six seven.", 10.0)]
    for singing, expected in (([[0.0, 1.9]], False), ([[0.0, 1.0], [1.5, 2.5]], True), ([[0.0, 20.0]], True)):
        found = lyrics.read({"singing": singing}, "mark", clock.Clock([]))
        assert found.marked(said)[0].sung is expected
    result = {"singing": [[0.0, 20.0]], "channels": [{"singing": [[0.0, 20.0]]}, {"singing": []}]}
    found = lyrics.read(result, "mark", clock.Clock([]))
    assert [found.sung(sentence("a b.", 1.0, channel=channel)) for channel in (1, 2)] == [True, False]
    assert not found.sung(sentence("a b.", 1.0, channel=3))


def test_times_of_songs_are_the_films_and_those_of_changes_the_sounds() -> None:
    drift = clock.Clock([(0.0, 0.0), (10.0, 20.0)])
    found = lyrics.read({"singing": [[5.0, 10.0]]}, "drop", drift)
    said = found.marked([sentence("said.", 2.0), sentence("la la.", 12.0)])
    assert [s.text for s in lyrics.spoken(said)] == ["said."]
    assert lyrics.changes(said, drift) == [
        {"start": 6.0, "end": 6.5, "before": "la la.", "after": "", "why": lyrics.WHY}
    ]


def sung(text: str) -> list[cues.Cue]:
    said = [sentence("Listen to this.", 0.0), sentence(text, 5.0, sung=True)]
    found = cues.cues(said, Rules(line_chars=20, lines=2), duration=60.0, label=False)
    assert "".join(w.text for c in found for w in c.words).replace(" ♪", "").replace("♪ ", "").split() == [
        word for s in said for word in s.text.split()
    ]
    return found


def test_lyrics_have_notes_in_each_subtitle_and_none_is_wider_for_it() -> None:
    found = sung("la " * 40)
    assert not found[0].sung
    assert len(found) > 3
    for each in found[1:]:
        assert each.sung
        text = "\n".join(each.lines)
        assert text.startswith("♪ ")
        assert text.endswith(" ♪")
        assert text.count("♪") == 2
        assert all(len(line) <= 20 for line in each.lines)


def test_formats_have_a_style_for_lyrics() -> None:
    """And without any, files are as they were."""
    found = sung("la la la.")
    assert "<i.lyrics>♪ la la la. ♪</i>" in formats.vtt(found)
    assert "<i.lyrics>♪ <" in wordwise.vtt(found).replace("♪ la <", "♪ <")
    assert "♪ la la la. ♪" in formats.srt(found, prefix=False)
    for text in (formats.ass(found, ["S1"]), wordwise.karaoke(found, ["S1"])):
        assert "Style: Lyrics,Arial,54,&H00FFFFFF," in text
        assert text.count(",Lyrics,Speaker 1,") == 1
    assert b'tts:fontStyle="italic">' in broadcast.ttml(found, "en", prefix=False)
    plain = [found[0]]
    assert "yrics" not in formats.vtt(plain) + formats.ass(plain, []) + wordwise.karaoke(plain, [])
    assert b"italic" not in broadcast.ttml(plain, "en", prefix=False)


def test_texts_have_notes_around_lyrics() -> None:
    said = [sentence("Listen.", 0.0), sentence("la la", 5.0, sung=True)]
    assert formats.txt(lyrics.shown(said)) == "Speaker 1: Listen. ♪ la la ♪\n"
    assert "♪" not in formats.txt(said)


def test_the_page_has_lyrics_in_italics() -> None:
    """Beside what it says of doubtful words."""
    from builder.core.jobs.page import Word as Shown

    words = [
        Shown(text=" la", start=0.0, end=1.0, probability=p, sung=sung) for p in (0.9, 0.1) for sung in (False, True)
    ]
    assert [word.classes for word in words] == ["", "sung", "d2", "d2 sung"]
