"""Subtitles: every word once and readable, whatever is said; one speaker a sentence; no markup from a recording."""

from __future__ import annotations

import html
import itertools
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

STAGE = Path(__file__).resolve().parents[2] / "stages/subtitles"
sys.path.insert(0, str(STAGE))

import clock  # noqa: E402
import cues as cue  # noqa: E402
import formats  # noqa: E402
from limits import EARLY, LATE  # noqa: E402
from sentences import CARRIES, CLINGS, Sentence, Word, clean, read_words, sentences, unspaced  # noqa: E402

RULES = cue.Rules()


def segment(text: str, start: float, end: float) -> dict[str, Any]:
    """A segment whose words (each with its space) share the time evenly."""
    parts = re.findall(r"\s*\S+", text)
    step = (end - start) / len(parts)
    words = [
        {"word": p, "start": start + k * step, "end": start + (k + 1) * step, "probability": 0.9}
        for k, p in enumerate(parts)
    ]
    return {"id": 0, "start": start, "end": end, "text": text, "words": words}


def turn(start: float, end: float, speaker: str) -> dict[str, Any]:
    return {"start": start, "end": end, "speaker": speaker}


def show(
    segments: list[dict[str, Any]],
    turns: list[dict[str, Any]] | None = None,
    *,
    duration: float = 60.0,
    rules: cue.Rules = RULES,
) -> list[cue.Cue]:
    return cue.cues(sentences(read_words(segments, duration), turns), rules, duration=duration, label=True)


def parse(text: str, *, separator: str) -> list[tuple[float, float, str]]:
    """A small reader of SRT and WebVTT cues: a time line, then text up to an empty line."""
    cues = []
    for block in re.split(r"\n\n+", text.strip("\n")):
        lines = block.split("\n")
        at = next((k for k, line in enumerate(lines) if " --> " in line), None)
        if at is None:
            continue
        times = []
        for stamp in lines[at].split(" --> "):
            matched = re.fullmatch(rf"(\d\d+):([0-5]\d):([0-5]\d)\{separator}(\d\d\d)", stamp)
            assert matched, lines[at]
            h, m, s, ms = map(int, matched.groups())
            times.append(((h * 60 + m) * 60_000 + s * 1000 + ms) / 1000)
        cues.append((times[0], times[1], "\n".join(lines[at + 1 :])))
    return cues


# What Whisper may write, and what it should not.
SPACED = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cn", "Co")), min_size=1, max_size=14).filter(
    lambda t: t.strip()
)
PLAIN = st.sampled_from(["the", "and", "because", "river,", "house.", "Really?", "no;", "42", "counter-intuitive"])
HOSTILE = st.sampled_from(["-->", "<b>", "{\\an8}", "a\n\n7\n00:00:01,000", "&amp;", "<v X>", "\\N", "\u2028x", "\r\n"])
CJK = st.sampled_from(
    [
        "今日は天気がいいですね。",
        "我",
        "们",
        "ความ",
        "한국어",
        "これはとても長い文章なので何度も改行しなければなりませんよ、本当に",
    ]
)
RTL = st.sampled_from(["שלום", "\u200fمرحبا\u200e", "می\u200cخواهم", "؟"])


@st.composite
def results(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None, float]:
    """Segments, turns and a duration; several words may have one time, and words may end after the recording."""
    at = draw(st.floats(0, 5))
    segments = []
    for k in range(draw(st.integers(0, 5))):
        words = []
        for text in draw(st.lists(st.one_of(PLAIN, SPACED, HOSTILE, CJK, RTL), min_size=0, max_size=16)):
            length = draw(st.sampled_from([0.0, 0.02, 0.2, 0.3, 0.5, 3.0, 12.0]))
            words.append({"word": " " + text, "start": at, "end": at + length, "probability": 0.5})
            at += length + draw(st.sampled_from([0.0, 0.0, 0.0, 0.1, 0.4, 2.0]))
        text = "".join(w["word"] for w in words)
        start = words[0]["start"] if words else at
        wordless = draw(st.booleans()) and draw(st.booleans())
        segments.append({"id": k, "start": start, "end": at, "text": text, "words": [] if wordless else words})
    duration = max(1.0, at * draw(st.sampled_from([1.0, 1.1, 0.9])))
    turns = None
    if draw(st.booleans()):
        edges = sorted(draw(st.lists(st.floats(0, duration), max_size=8, unique=True)))
        turns = [turn(a, b, draw(st.sampled_from(["S1", "S2", "S3"]))) for a, b in itertools.pairwise(edges)]
    return segments, turns, duration


def letters(text: str) -> str:
    """Text without any spaces, and without the marks that files have around text from right to left."""
    return "".join(text.replace(formats.RIGHT_TO_LEFT, "").replace(formats.POP, "").split())


@given(results(), st.sampled_from([RULES, cue.Rules(line_chars=16, lines=1), cue.Rules(lines=3, min_duration=0.2)]))
def test_every_word_once_readable_in_time(data: tuple[Any, Any, float], rules: cue.Rules) -> None:
    """The heart of the stage: no word is lost or shown twice, no cue overlaps another, no line is too wide."""
    segments, turns, duration = data
    said = sentences(read_words(segments, duration), turns)
    shown = cue.cues(said, rules, duration=duration, label=True)
    assert letters("".join("".join(c.lines) for c in shown)) == letters("".join(s.text for s in said))
    at = 0.0
    for c in shown:
        assert at <= c.start < c.end <= duration + 1e-9
        assert c.end - c.start <= rules.max_duration + 1e-9
        assert 1 <= len(c.lines) <= rules.lines
        at = c.end
        label = len(f"{cue.title(c.speaker)}: ") if c.changed else 0
        for k, line in enumerate(c.lines):
            single = " " not in line.strip() and not any(map(unspaced, line[1:]))
            assert single or cue.width(line) + (label if k == 0 else 0) <= rules.line_chars or c.lines == (line,)
    for before, after in itertools.pairwise(shown):
        gap = after.start - before.end
        assert gap == pytest.approx(0) or gap >= cue.FLASH / 1000 - 1e-9


@given(results())
def test_files_read_back(data: tuple[Any, Any, float]) -> None:
    """SRT and WebVTT have every cue at its times, whatever is said."""
    segments, turns, duration = data
    shown = cue.cues(sentences(read_words(segments, duration), turns), RULES, duration=duration, label=True)
    times = [(c.start, c.end) for c in shown]
    srt = parse(formats.srt(shown, prefix=True), separator=",")
    assert [(a, b) for a, b, _ in srt] == times
    vtt_text = formats.vtt(shown)
    assert vtt_text.startswith("WEBVTT\n")
    vtt = parse(vtt_text.removeprefix("WEBVTT\n"), separator=".")
    assert [(a, b) for a, b, _ in vtt] == times
    for c, (_, _, text) in zip(shown, vtt, strict=True):
        assert html.unescape(re.sub(r"</?v[^>]*>|[\u202b\u202c]", "", text)) == "\n".join(c.lines)
    events = [line for line in formats.ass(shown, ["S1", "S2", "S3"]).splitlines() if line.startswith("Dialogue:")]
    assert len(events) == len(shown)
    for event in events:
        text = event.split(",", 9)[9]
        assert "{" not in text
        assert not re.search(r"\\(?!N)", text)


def test_one_speaker_a_sentence_and_a_label_where_it_changes() -> None:
    """The first word of an answer often falls into the other's turn; a sentence is never split between two people."""
    segments = [segment(" How are you? I am fine.", 0.0, 4.0)]
    turns = [turn(0.0, 2.4, "S1"), turn(2.4, 4.0, "S2")]
    said = sentences(read_words(segments, 10.0), turns)
    assert [(s.text, s.speaker) for s in said] == [("How are you?", "S1"), ("I am fine.", "S2")]
    text = formats.srt(cue.cues(said, RULES, duration=10.0, label=True), prefix=True)
    assert "Speaker 1: How are you?\n" in text
    assert "Speaker 2: I am fine.\n" in text
    assert formats.txt(said) == "Speaker 1: How are you?\n\nSpeaker 2: I am fine.\n"


def test_speakers_part_without_punctuation_only_when_clear() -> None:
    """Small models leave out full stops: a pause with a real share of the words splits there, a slip doesn't."""
    segments = [segment(" one two three four five six", 0.0, 3.0), segment(" a b c d e f", 3.5, 6.5)]
    clear = sentences(read_words(segments, 10.0), [turn(0, 3.2, "S1"), turn(3.2, 7, "S2")])
    assert [s.speaker for s in clear] == ["S1", "S2"]
    slip = sentences(read_words(segments, 10.0), [turn(0, 0.4, "S2"), turn(0.4, 7, "S1")])
    assert [s.speaker for s in slip] == ["S1"]


def test_titles_initials_and_ellipses_do_not_end_sentences() -> None:
    said = sentences(read_words([segment(" Dr. J. Smith said... well, nothing. Then he left.", 0, 5)], 9.0), None)
    assert [s.text for s in said] == ["Dr. J. Smith said... well, nothing.", "Then he left."]


def test_short_sentences_of_one_speaker_share_a_cue() -> None:
    """A cue of 0.4 s can't be read; two people never share one."""
    segments = [segment(" Yes.", 1.0, 1.4), segment(" I was there.", 1.5, 2.3)]
    assert [c.lines for c in show(segments)] == [("Yes. I was there.",)]
    apart = show(segments, [turn(0.9, 1.45, "S1"), turn(1.45, 3, "S2")])
    assert [c.speaker for c in apart] == ["S1", "S2"]


def test_cues_last_into_the_silence_for_reading() -> None:
    """17 columns a second: 34 columns need 2 s, though they were said in one."""
    shown = show([segment(" Twelve twelve twelve twelve twelves", 5.0, 6.0)])
    assert shown[0].start == 5.0
    assert shown[0].end == pytest.approx(5.0 + len(shown[0].lines[0]) / 17, abs=0.01)


FASTER = cue.Rules(chars_per_second=20.0, min_duration=0.833)


def test_a_cue_that_is_spoken_too_fast_has_time_of_its_neighbours() -> None:
    """The one after begins a little later, or the two are cut elsewhere; nothing is lost, and no cue is far from its words."""
    fast = tokens([" Everybody", " understands", " this", " question", " immediately."], start=1.0, step=0.4)
    slow = tokens([" Yes.", " Slowly", " now."], start=3.0, step=1.2)
    turns = [turn(0.9, 3.0, "S1"), turn(3.0, 9.0, "S2")]
    said = sentences(read_words([fast, slow], 60.0), turns)
    shown = cue.cues(said, FASTER, duration=60.0, label=False)
    assert 0.5 <= shown[0].start <= 1.0
    assert 2.5 < shown[1].start <= 3.5
    assert len(shown[0].lines[0] + "".join(shown[0].lines[1:])) / (shown[0].end - shown[0].start) <= 20.0


def test_a_fast_and_a_slow_sentence_of_one_speaker_share_a_cue() -> None:
    fast = tokens([" Well,", " everybody", " understands", " that."], start=1.0, step=0.25)
    slow = tokens([" Yes.", ""], start=2.0, step=0.6)
    shown = show([fast, slow], rules=FASTER)
    assert [" ".join(c.lines) for c in shown] == ["Well, everybody understands that. Yes."]
    apart = show([tokens([" Well,", " we", " do."], start=1.0, step=0.7), slow | {}], rules=FASTER)
    assert len(apart) == 2 or apart[0].end - apart[0].start >= 0.833


@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.6]), st.sampled_from([0.0, 0.0, 0.1, 0.7, 2.0])), max_size=60)
)
def test_a_cue_begins_near_its_first_word(steps: list[tuple[float, float]]) -> None:
    """At most EARLY before and LATE after, however fast people speak; cues never overlap, and each word is there once."""
    at, words = 0.5, []
    for k, (length, pause) in enumerate(steps):
        text = f" word{k}" + ("." if k % 7 == 6 else "")
        words.append({"word": text, "start": round(at, 3), "end": round(at + length, 3), "probability": 1.0})
        at += length + pause
    shown = show(
        [{"id": 0, "start": 0.5, "end": at, "text": "", "words": words}] if words else [], duration=at + 1, rules=FASTER
    )
    assert sum(len(c.words) for c in shown) == len(words)
    for c in shown:
        assert -EARLY - 0.001 <= c.start - c.words[0].start <= LATE + 0.001
    assert all(a.end <= b.start for a, b in itertools.pairwise(shown))


def test_lines_break_at_punctuation_and_evenly() -> None:
    shown = show([segment(" When the rain had stopped, the children ran out to the river.", 0, 5)])
    assert shown[0].lines == ("When the rain had stopped,", "the children ran out to the river.")


def test_japanese_breaks_between_letters_by_width() -> None:
    """A wide letter takes two columns; no line begins with a full stop; no spaces appear."""
    text = "これはとても長い文章なので何度も改行しなければなりません、そして句点は行の頭に来てはいけません。"
    shown = show([{"id": 0, "start": 0.0, "end": 9.0, "text": text, "words": []}])
    lines = [line for c in shown for line in c.lines]
    assert "".join(lines) == text
    assert all(cue.width(line) <= 42 for line in lines)
    assert not any(line[0] in "、。" for line in lines)
    assert len(lines) >= 3


def test_chinese_sentences_join_without_spaces() -> None:
    words = [
        {"word": w, "start": k * 0.5, "end": k * 0.5 + 0.4, "probability": 1.0} for k, w in enumerate("你好。谢谢。")
    ]
    said = sentences(read_words([{"id": 0, "start": 0, "end": 3, "text": "", "words": words}], 5.0), None)
    assert formats.txt(said) == "你好。谢谢。\n"


def tokens(words: list[str], *, channel: int | None = None, start: float = 0.0, step: float = 0.3) -> dict[str, Any]:
    """A segment as a model writes it: entries with or without a space before them."""
    entries = [
        {"word": w, "start": start + k * step, "end": start + k * step + 0.25, "probability": 0.9}
        for k, w in enumerate(words)
    ]
    found = {"id": 0, "start": start, "end": start + len(words) * step, "text": "".join(words), "words": entries}
    return found if channel is None else found | {"channel": channel}


SCRIPTS = {
    "thai": "สวัสดีครับท่านผู้มีเกียรติวันนี้เราจะพูดถึงท่าเรือเก่าที่น้ำลึกและกว้าง",
    "lao": "ສະບາຍດີທຸກໆທ່ານມື້ນີ້ພວກເຮົາຈະເວົ້າກ່ຽວກັບທ່າເຮືອເກົ່າ",
    "khmer": "សួស្តីអ្នកទាំងអស់គ្នាថ្ងៃនេះយើងនឹងនិយាយអំពីកំពង់ផែចាស់",
    "burmese": "မင်္ဂလာပါယနေ့ကျွန်ုပ်တို့ဆိပ်ကမ်းဟောင်းအကြောင်းပြောပါမည်",
    "hindi": " नमस्ते दोस्तों आज हम पुराने बंदरगाह के बारे में बात करेंगे",
    "tamil": " காலை வணக்கம் இன்று நாம் பழைய துறைமுகம் பற்றி பேசுவோம்",
    "arabic": " صَبَاحُ الخَيْرِ اليَوْمَ نَتَحَدَّثُ عَنِ المِينَاءِ القَدِيمِ",
    "hebrew": " שָׁלוֹם לְכֻלָּם הַיּוֹם נְדַבֵּר עַל הַנָּמֵל הַיָּשָׁן",
    "vietnamese": " Xin chào các ba\u0323n hôm nay chúng ta nói vê\u0300 ba\u0301o",
    "japanese": "おはようございます、今日は古い港についてお話しします。がぎぐげご",
    "emoji": " 👩🏽‍⚕️ says 👍🏽 and 🇩🇪 too",
}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_no_mark_is_dropped_or_stands_alone(script: str, size: int) -> None:
    """C10: however a model cuts a text into tokens, every sign is there, and none that needs another begins a line."""
    text = SCRIPTS[script]
    cut = [text[k : k + size] for k in range(0, len(text), size)]
    shown = show([tokens(cut, step=0.1)], rules=cue.Rules(line_chars=16))
    lines = [line for c in shown for line in c.lines]
    assert letters("".join(lines)) == letters(text)
    for line in lines:
        assert unicodedata.category(line[0]) not in ("Mn", "Mc", "Me"), line
        assert line[0] not in CLINGS, line
        assert line[-1] not in CARRIES, line


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_format_has_every_sign(script: str) -> None:
    """SRT, WebVTT, ASS and text alike."""
    said = sentences(read_words([tokens(list(SCRIPTS[script]), step=0.1)], 60.0), None)
    shown = cue.cues(said, RULES, duration=60.0, label=True)
    expected = letters(SCRIPTS[script])
    srt = "".join(text for _, _, text in parse(formats.srt(shown, prefix=True), separator=","))
    vtt = "".join(t for _, _, t in parse(formats.vtt(shown).removeprefix("WEBVTT\n"), separator="."))
    ass = [line.split(",", 9)[9] for line in formats.ass(shown, []).splitlines() if line.startswith("Dialogue:")]
    for text in (srt, html.unescape(vtt), "".join(ass).replace("\\N", ""), formats.txt(said)):
        assert letters(text) == expected


@pytest.mark.parametrize(
    "words",
    [
        [" at", " 10", ".", "30", " in", " the", " morning"],
        [" 1", ",", "250", ",", "000", " people"],
        [" twenty", "-", "five", " years"],
        [" www", ".", "example", ".", "org", " is", " there"],
        [" it", "'s", " the", " king", "'", "s", " own"],
        [" 3", ":", "45", " and", " 50", "%", " of", " $", "9", ".", "99"],
        [" un", "believ", "able"],
    ],
)
@pytest.mark.parametrize("columns", [4, 8, 16])
def test_a_word_in_tokens_stays_one_word(words: list[str], columns: int) -> None:
    """C11: no line and no cue begins with an entry that had no space before it."""
    shown = show([tokens(words)], rules=cue.Rules(line_chars=columns, lines=1))
    begins = {"".join(words).split()[k] for k in range(len("".join(words).split()))}
    for c in shown:
        for line in c.lines:
            assert line.split()[0] in begins, line


def test_a_number_across_two_segments_stays_one() -> None:
    """A model may end a segment within it."""
    said = read_words([tokens([" at", " 10"]), tokens([".", "30", " sharp"], start=1.0)], 9.0)
    assert [w.text for w in said] == [" at", " 10.30", " sharp"]
    apart = read_words([tokens([" at", " ten"]), tokens(["Next", " one"], start=1.0)], 9.0)
    assert [w.text for w in apart] == [" at", " ten", " Next", " one"]


def test_two_who_speak_at_once_are_two_cues() -> None:
    """C15: each channel's words in their own time; nobody's wait until the other has finished."""
    first = tokens([" Good", " morning", " to", " you", " all", " today."], channel=1, step=0.5)
    second = tokens([" Thank", " you.", " It", " is", " a", " pleasure."], channel=2, start=0.2, step=0.8)
    words = read_words([first, second], 10.0)
    assert [w.start for w in words] == sorted(w.start for w in words)
    assert [w.text for w in words if w.channel == 2][:2] == [" Thank", " you."]
    shown = show([first, second])
    assert [(c.speaker, c.start) for c in shown] == [("S1", 0.0), ("S2", 0.2), ("S2", 1.8)]
    assert shown[0].end > shown[1].start
    assert shown[1].end <= shown[2].start, "one person's cues follow each other"


def test_two_who_take_turns_are_never_on_screen_at_once() -> None:
    """A cue that has more to read ends where the other begins to speak."""
    first = tokens([" one" * 8 + "."], channel=1)
    second = tokens([" two."], channel=2, start=0.4)
    shown = show([first, second, tokens([" three."], channel=1, start=0.9)])
    assert all(a.end <= b.start for a, b in itertools.pairwise(shown))


def test_times_of_a_cut_are_those_of_the_recording() -> None:
    """C16: where the clock runs slow, too."""
    assert clock.Clock([], offset=3600.5).at(1.2) == 3601.7
    slow = clock.Clock([[0.0, 0.0], [100.0, 98.0]])
    assert (slow.at(50.0), slow.at(100.0), slow.at(150.0)) == (49.0, 98.0, 147.0)
    assert clock.Clock([], offset=-5.0).at(2.0) == 0.0
    word = clock.Clock([], offset=10).word(Word(text=" a", start=1.0, end=1.5))
    assert (word.text, word.start, word.end) == (" a", 11.0, 11.5)


def test_marks_of_right_to_left_text_stay() -> None:
    """The joiner of Persian and the direction marks are part of the words, not control characters to drop."""
    assert clean("\u200fمی\u200cخواهم\u200e") == "\u200fمی\u200cخواهم\u200e"
    assert cue.width("می\u200cخواهم") == 7
    assert clean("a\r\n\u2028\x00b") == "a b"


def test_each_language_of_a_mixed_recording_has_its_own_cues() -> None:
    """Without a full stop, too; WebVTT and the JSON say which it is."""
    segments = [
        tokens([" and", " then", " he", " said"], start=1.0) | {"language": "en"},
        tokens([" je", " ne", " sais", " pas."], start=2.2) | {"language": "fr"},
    ]
    said = sentences(read_words(segments, 60.0), None)
    assert [(s.language, s.text) for s in said] == [("en", "and then he said"), ("fr", "je ne sais pas.")]
    shown = cue.cues(said, RULES, duration=60.0, label=True)
    assert [line for line in formats.vtt(shown).splitlines() if "<lang" in line] == [
        "<lang en>and then he said</lang>",
        "<lang fr>je ne sais pas.</lang>",
    ]
    result = {"language": "en", "language_probability": 0.9, "duration": 60.0}
    assert [s["language"] for s in formats.whole(result, said, None, {})["segments"]] == ["en", "fr"]


def test_lines_from_right_to_left_are_marked_as_such() -> None:
    """Else a player puts their full stop at the wrong end; a name within another text stays as it is."""
    hebrew = show([segment(" שלום לכולם היום נדבר על Windows 95 ועל דברים אחרים, בבקשה.", 0, 5)])
    for text in (formats.srt(hebrew, prefix=True), formats.vtt(hebrew)):
        lines = [line for line in text.splitlines() if any("\u05d0" <= c <= "\u05ea" for c in line)]
        assert lines
        assert all(line.startswith("\u202b") and line.endswith("\u202c") for line in lines)
    assert formats.ass(hebrew, []).count("\u202b") == len(hebrew[0].lines)
    assert formats.plain(hebrew[0], prefix=True).count("\u202b") == len(hebrew[0].lines)  # the track in a film
    english = show([segment(" My name is שלום and I live here.", 0, 3)])
    assert "\u202b" not in formats.srt(english, prefix=True)


@pytest.mark.parametrize("said", ["<i>x</i>", "a --> b", "{\\an8}x", "</v><v Speaker 9>", "{\\pos(1,1)}"])
def test_speech_is_never_markup(said: str) -> None:
    shown = show([segment(f" {said}", 0, 2)])
    srt = formats.srt(shown, prefix=True).split("\n", 2)[2]
    assert not re.search(r"[<>]|\{\\", srt)
    vtt = parse(formats.vtt(shown).removeprefix("WEBVTT\n"), separator=".")[0][2]
    assert not re.search(r"[<>]", vtt)


def test_silence_gives_empty_valid_files() -> None:
    """No speech is a result, not a failure."""
    assert formats.srt([], prefix=True) == ""
    assert formats.vtt([]) == "WEBVTT\n"
    assert formats.txt([]) == ""
    assert formats.rttm("x", []) == ""
    result = {"language": None, "language_probability": 0.0, "duration": 3.0}
    whole = formats.whole(result, [], {"speakers": 0, "guess": False, "turns": []}, {})
    assert whole["speech"] is False
    assert whole["notes"] == ["no speech found"]


def test_an_hour_without_a_full_stop_stays_quick() -> None:
    """Splitting is linear: a model that writes no punctuation must not stall a long recording."""
    count = 9000
    words = tuple(Word(text=f" word{k % 97}", start=k * 0.4, end=k * 0.4 + 0.35) for k in range(count))
    shown = cue.cues([Sentence(words=words)], RULES, duration=count * 0.4, label=True)
    assert sum(len(" ".join(c.lines).split()) for c in shown) == count


def test_hours_are_written_with_more_digits_when_needed() -> None:
    assert formats.stamp(3661.5, ",") == "01:01:01,500"
    assert formats.stamp(360_000, ".") == "100:00:00.000"


def test_a_gap_lies_between_subtitles_that_would_touch() -> None:
    """Taken from the end of the one before, and never so that it is gone at once."""
    words = tuple(Word(text=f" word{k}.", start=k * 1.2, end=k * 1.2 + 1.2) for k in range(10))
    said = [Sentence(words=(word,)) for word in words]
    touching = cue.cues(said, cue.Rules(gap=0), duration=12.0, label=True)
    assert any(a.end == b.start for a, b in itertools.pairwise(touching))
    apart = cue.cues(said, cue.Rules(gap=0.083), duration=12.0, label=True)
    assert [c.start for c in apart] == [c.start for c in touching]
    assert all(b.start - a.end >= 0.083 - 1e-9 for a, b in itertools.pairwise(apart))
    dense = [Sentence(words=(Word(text=f" w{k}.", start=k * 0.25, end=k * 0.25 + 0.2),)) for k in range(8)]
    shown = cue.cues(dense, cue.Rules(gap=2.0, min_duration=0.1), duration=2.0, label=True)
    assert all(c.end - c.start >= 0.199 for c in shown)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="line_chars"):
        cue.Rules(line_chars=0)
    with pytest.raises(ValueError, match="min_duration"):
        cue.Rules(min_duration=9)


def test_text_is_cut_where_neighbours_leave_time_for_it() -> None:
    """Silence before fast words, slow ones after them: all can be read when cuts and times are found together."""
    text = " Something slowly remembered slowly something remembered immediately all else"
    fast = segment(text, 2.0, 2.0 + 9 * 0.25)
    slow = segment(" now we whether.", fast["end"], fast["end"] + 3 * 0.75)
    shown = show([fast, slow], rules=FASTER, duration=slow["end"] + 0.3)
    speed = [sum(map(len, c.lines)) / (c.end - c.start) for c in shown]
    assert max(speed) <= 20.0
    assert min(c.end - c.start for c in shown) >= 0.833
