"""A job as one HTML page: what was said, heard again, and how it was made. Pure: data in, text out, byte for byte.

The page asks for nothing: its policy forbids every request but the recording it plays. All text is escaped by the
template; what goes into data blocks is base64, or JSON that can't end a block.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import jinja2
from markupsafe import Markup

from builder.core.jobs.edits import not_a_transcript
from builder.core.jobs.formats import FILMS, FORMATS
from builder.core.jobs.job import Clip, Job
from builder.core.jobs.naming import LANGUAGE, untagged
from builder.core.jobs.record import coverage, subject
from builder.core.jobs.record.changes import Change
from builder.core.jobs.record.coverage import Coverage, span
from builder.core.jobs.record.subject import Subject
from builder.core.jobs.timeline import StageRun
from builder.core.text import format_size
from builder.core.weights.model import Model
from builder.program import command

TEMPLATES = ("report.html.j2", "report.css", "report.js")
"""What the page is rendered from, below templates/report."""

UNSURE, DOUBTFUL = 0.5, 0.75
"""Word probabilities below which a word is shaded, strongly and lightly.

With tiny.en nine words of ten of the example are above 0.75.
"""

PAUSE = 2.5
"""Seconds of silence that begin a new paragraph of the same speaker."""

LONG = 70
"""Words after which a paragraph ends with its sentence: a monologue stays readable."""

CHANGES = 500
"""Places of a recording that the page lists: a few hundred kB at most."""

COLOURS = 8
"""Colours for speakers in report.css; a ninth voice has the first one's again."""

PLAYABLE = {
    "aac": "audio/aac",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "m4v": "video/mp4",
    "mkv": "video/x-matroska",
    "mka": "audio/x-matroska",
    "mov": "video/mp4",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "wav": "audio/wav",
    "webm": "video/webm",
}
"""Suffixes that browsers may play, and what they are told it is."""

CODECS = {"aac", "av1", "flac", "h264", "mp3", "opus", "pcm_s16le", "vorbis", "vp8", "vp9"}
"""Codecs (FFmpeg's names) that all current browsers play."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """One word; times in seconds. ``probability`` is the recogniser's own, None where it gave none."""

    text: str
    start: float
    end: float
    probability: float | None = None
    unsure: bool = False
    """Nothing that was heard supports it."""
    sung: bool = False
    """It is of a song."""

    @property
    def gap(self) -> str:
        """The space before the word; empty in scripts without spaces."""
        return " " if self.text[:1].isspace() else ""

    @property
    def doubt(self) -> int:
        """0, 1 (doubtful) or 2 (unsure)."""
        if self.unsure:
            return 2
        if self.probability is None:
            return 0
        return 2 if self.probability < UNSURE else int(self.probability < DOUBTFUL)

    @property
    def classes(self) -> str:
        """Those of its element, separated by spaces."""
        return " ".join([f"d{self.doubt}"] * (self.doubt > 0) + ["sung"] * self.sung)


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """Sentences that one speaker says in one go."""

    speaker: str | None
    words: tuple[Word, ...]

    @property
    def start(self) -> float:
        return self.words[0].start


@dataclass(frozen=True, kw_only=True)
class TranslatedText:
    """The text in another language."""

    language: str
    backend: str
    """Who translated it."""
    lines: tuple[tuple[float, float, str], ...]
    """(start, end, text), in order; times as the transcript's."""

    def beside(self, paragraphs: Sequence[Paragraph]) -> tuple[str, ...]:
        """The text that belongs to each paragraph: its lines are those whose middle comes before the next paragraph."""
        starts = sorted(paragraph.start for paragraph in paragraphs)
        texts: list[list[str]] = [[] for _ in starts]
        for start, end, text in self.lines if starts else ():
            texts[max(bisect_right(starts, (start + end) / 2) - 1, 0)].append(text)
        return tuple(" ".join(lines) for lines in texts)


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """``output/<name>.json`` as the page shows it."""

    language: str | None
    probability: float
    """Of the language."""
    duration: float
    offset: float
    """Seconds from a time in the film that the job has to the same moment's time here: a clip has the recording's times."""
    guess: bool
    """Whether the number of speakers is one."""
    names: Mapping[str, str]
    """What people call the speakers, as far as they were named."""
    speakers: Mapping[str, float]
    """Speaker -> seconds spoken, in order of their names."""
    turns: tuple[tuple[float, float, str | None], ...]
    """(start, end, speaker) of sentences; neighbours of one speaker are joined."""
    paragraphs: tuple[Paragraph, ...]
    coverage: Coverage | None = None
    """What became of the speech; None: the transcript doesn't say."""
    translations: tuple[TranslatedText, ...] = ()
    subject: Subject | None = None
    """What the recording is, where the job found out."""

    @property
    def told(self) -> tuple[tuple[str, ...], ...]:
        """The text of each paragraph in each of the other languages: a row for each language."""
        return tuple(each.beside(self.paragraphs) for each in self.translations)

    @property
    def rated(self) -> bool:
        """Whether words have probabilities."""
        return any(w.probability is not None for p in self.paragraphs for w in p.words)

    def called(self, speaker: str | None) -> str:
        """A speaker as people see it."""
        return self.names.get(speaker or "") or title(speaker)


@dataclass(frozen=True, kw_only=True)
class File:
    """A file that the page offers or plays: in the page when ``data`` is there, else beside it."""

    name: str
    type: str
    size: int
    href: str
    """Its address from where the page lies."""
    data: bytes | None = None
    kind: str = ""
    """What it is: a name of FORMATS or of FILMS."""

    @property
    def suffix(self) -> str:
        return self.kind or self.name.rpartition(".")[2].lower()

    @property
    def meaning(self) -> str:
        suffix = untagged(self.suffix)[1]
        known = FORMATS.get(suffix) or FILMS.get(suffix)
        return known.meaning if known else ""

    @property
    def encoded(self) -> str:
        return base64.b64encode(self.data or b"").decode()


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One recording of the job; ``media`` is played, ``spare`` when the browser can't."""

    id: str
    name: str
    size: int
    sha256: str
    clip: Clip | None = None
    video: bool = False
    transcript: Transcript | None = None
    media: File | None = None
    spare: File | None = None
    files: tuple[File, ...] = ()
    notes: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    """What stages changed in the texts; they start on the film's own clock."""
    unshown: int = 0
    """How many more there are."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that the page shows."""

    job: Job
    state: str
    recordings: tuple[Recording, ...]
    stages: tuple[StageRun, ...]
    models: Mapping[str, Model] = field(default_factory=lambda: MappingProxyType({}))
    """The catalogue: titles and licences."""
    failure: str | None = None
    version: str


def plays(suffix: str, codecs: Iterable[str]) -> bool | None:
    """Whether browsers play a recording; None: some do."""
    if suffix not in PLAYABLE:
        return False
    return True if suffix not in ("mkv", "mka", "mov") and set(codecs) <= CODECS else None


def transcript(data: Any, where: str) -> Transcript:
    """Read ``output/<name>.json``.

    Raises:
        ConfigError: it is not what the subtitles stage wrote.
    """
    try:
        segments = data["segments"]
        known = any(w["probability"] for s in segments for w in s["words"])
        said = [
            (None if s["speaker"] is None else str(s["speaker"]), tuple(_words(s, known=known)))
            for s in segments
            if s["words"]
        ]
        names = sorted({s for s, _ in said if s is not None}, key=lambda s: (len(s), s))
        return Transcript(
            language=None if data["language"] is None else str(data["language"]),
            probability=float(data["language_probability"] or 0),
            duration=float(data["duration"]),
            offset=float((data.get("clip") or {}).get("offset", 0.0)),
            guess=bool((data["speakers"] or {}).get("guess")),
            names={str(k): str(v) for k, v in (data.get("names") or {}).items()},
            speakers={n: round(sum(w[-1].end - w[0].start for s, w in said if s == n), 3) for n in names},
            turns=tuple(_turns(said)),
            paragraphs=tuple(_paragraphs(said)),
            coverage=coverage.parsed(data, where),
            translations=translations(data),
            subject=subject.parsed(data.get("metadata")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise not_a_transcript(error, where) from error


def translations(data: Any) -> tuple[TranslatedText, ...]:
    """Those of a transcript, of languages that are codes; none where it has none, or others than the stage writes.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: one has another shape.
    """
    return tuple(
        TranslatedText(
            language=str(each["language"]),
            backend=str(each["backend"]),
            lines=tuple((float(s["start"]), float(s["end"]), str(s["text"])) for s in each["segments"]),
        )
        for each in data.get("translations") or ()
        if LANGUAGE.fullmatch(str(each["language"]))
    )


def _words(segment: Any, *, known: bool) -> Iterator[Word]:
    for word in segment["words"]:
        probability = word["probability"] if known else None
        yield Word(
            text=str(word["word"]),
            start=float(word["start"]),
            end=float(word["end"]),
            probability=None if probability is None else float(probability),
            unsure=word.get("unsure") is True,
            sung=segment.get("lyrics") is True,
        )


def _turns(said: Sequence[tuple[str | None, tuple[Word, ...]]]) -> Iterator[tuple[float, float, str | None]]:
    """Spoken stretches; sentences of one speaker less than 0.3 s apart are one."""
    last: tuple[float, float, str | None] | None = None
    for speaker, words in said:
        start, end = words[0].start, words[-1].end
        if last is not None and last[2] == speaker and start - last[1] < 0.3:
            last = (last[0], max(last[1], end), speaker)
            continue
        if last is not None:
            yield last
        last = (start, end, speaker)
    if last is not None:
        yield last


def _paragraphs(said: Sequence[tuple[str | None, tuple[Word, ...]]]) -> Iterator[Paragraph]:
    words: list[Word] = []
    speaker: str | None = None
    for who, more in said:
        if words and (who != speaker or len(words) >= LONG or more[0].start - words[-1].end > PAUSE):
            yield Paragraph(speaker=speaker, words=tuple(words))
            words = []
        speaker = who
        words.extend(more)
    if words:
        yield Paragraph(speaker=speaker, words=tuple(words))


def title(speaker: str | None) -> str:
    """``Speaker 1`` for ``S1``, as the subtitles say it."""
    return f"Speaker {speaker[1:]}" if speaker and speaker[0] == "S" and speaker[1:].isdigit() else speaker or ""


def clock(seconds: float) -> str:
    """``0:07``, ``1:02:03``: whole seconds, as players show them."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def took(seconds: float) -> str:
    """``0.08 s``, ``4.5 s``, ``2:03 min``: how long something took."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    return f"{clock(seconds)} {'h' if seconds >= 3600 else 'min'}"


def block(value: Any) -> Markup:
    """JSON for a data block: no ``<`` that could end it, no separator that old scripts take for a line end."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def policy(script: str, style: str, *, beside: bool) -> str:
    """The page's Content-Security-Policy: its own script and style by hash, and nothing from anywhere.

    Args:
        beside: the recording is a file beside the page, not in it.
    """

    def pin(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {pin(script)}",
            f"style-src {pin(style)}",
            "img-src data:",
            "media-src blob:" + (" 'self' file:" if beside else ""),
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def render(page: Page, templates: Mapping[str, str]) -> str:
    """The page.

    Args:
        templates: the texts of TEMPLATES, by name.
    """
    # HTML reads every line end as one character, so hashes are taken of what a browser will see.
    script, style = (templates[n].replace("\r\n", "\n") for n in ("report.js", "report.css"))
    beside = any(f is not None and f.data is None for r in page.recordings for f in (r.media, r.spare))
    text = _template(templates["report.html.j2"]).render(
        page=page,
        job=page.job,
        resume=command(f"run {page.job.id}"),
        shown=command(f"jobs show {page.job.id} --json"),
        policy=policy(script, style, beside=beside),
        script=Markup(script),
        style=Markup(style),
        colour=_colour,
        lanes=_lanes,
        settings=_settings(page.job),
        used=_used(page.job),
        scale=max((s.start + s.seconds for s in page.stages if s.start is not None), default=0) or 1,
        sound=sum(r.transcript.duration for r in page.recordings if r.transcript),
        data={r.id: _data(r) for r in page.recordings},
    )
    # UTF-8 can't encode a lone surrogate, which a transcript might have.
    return text.encode("utf-8", "replace").decode()


@functools.cache
def _template(text: str) -> jinja2.Template:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "clock": clock,
        "took": took,
        "span": span,
        "size": format_size,
        "speaker": title,
        "block": block,
    }
    environment.tests["code"] = LANGUAGE.fullmatch
    return environment.from_string(text)


def _colour(recording: Recording, speaker: str | None) -> int:
    """1…COLOURS for a speaker, 0 for nobody."""
    names = list(recording.transcript.speakers) if recording.transcript else []
    return names.index(speaker) % COLOURS + 1 if speaker in names else 0


def _lanes(made: Transcript) -> dict[str | None, int]:
    """Speaker -> lane in the map of who speaks when; what nobody was found for comes last."""
    lanes: dict[str | None, int] = {name: k for k, name in enumerate(made.speakers)}
    if any(speaker is None for *_, speaker in made.turns):
        lanes[None] = len(lanes)
    return lanes


def _settings(job: Job) -> list[tuple[str, list[tuple[str, str]]]]:
    """Stage -> its settings as words. The models that subtitles repeats have a table of their own."""
    return [
        (s.name, [(k, _plain(k, v)) for k, v in s.settings.items() if not isinstance(v, Mapping)]) for s in job.stages
    ]


def _plain(key: str, value: Any) -> str:
    """A setting as a person reads it."""
    if value is None:
        return "automatic" if key in ("language", "speakers") else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _used(job: Job) -> list[tuple[str, str, Any]]:
    """(stage, purpose, model) of every model."""
    return [(s.name, purpose, use) for s in job.stages for purpose, use in s.models.items()]


def _data(recording: Recording) -> dict[str, Any]:
    """What the script needs beside the text, a word each: times in milliseconds of the film, probabilities in percent."""
    words = [w for p in recording.transcript.paragraphs for w in p.words] if recording.transcript else []
    offset = recording.transcript.offset if recording.transcript else 0.0
    return {
        "duration": recording.transcript.duration if recording.transcript else 0,
        "offset": offset,
        "starts": list(_rising(round((w.start - offset) * 1000) for w in words)),
        "ends": [round((w.end - offset) * 1000) for w in words],
        "sure": [_percent(w) for w in words],
    }


def _percent(word: Word) -> int:
    """How sure a word is; -1: that isn't known. One that nothing supports is never surer than those that are dotted."""
    percent = -1 if word.probability is None else round(word.probability * 100)
    return min(max(percent, 0), round(UNSURE * 100) - 1) if word.unsure else percent


def _rising(values: Iterable[int]) -> Iterator[int]:
    """Each at least as great as the one before: the script searches by halves."""
    last = 0
    for value in values:
        last = max(last, value)
        yield last
