"""subtitles: from words and turns to the files that people use."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import breaks
import contract
import corrected
import cues as cue
import edits
import formats
import handed
import lyrics
import respelt
import translations
import written
from clock import Clock
from contract import Recording, StageJob
from ledger import CUT, Ledger, Span, ledger, marked
from limits import Rules
from sentences import Sentence, clean, read_words, sentences
from translations import Translation
from written import Result

NOTABLE = 1.0
"""Seconds of a gap in the speech from which on there is a note of it."""


def work(job: StageJob) -> None:
    rules = Rules(**{k: v for k, v in job.settings.items() if k in Rules.__dataclass_fields__})
    with job.timed("work"):
        for recording in job.inputs:
            write(job, recording, rules)
            if "names" in job.stages:
                listed(job, recording)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What was said in one recording, in the film's own time."""

    result: dict[str, Any]
    """Of the recognition, or of the alignment."""
    diarization: dict[str, Any] | None
    said: list[Sentence]
    turns: list[dict[str, Any]] | None
    duration: float
    speech: dict[int | None, list[Span]] | None
    """Channel (None: all together) -> where there is speech; None: that isn't known."""
    unheard: list[dict[str, Any]]
    """``{"start", "end", "why"}``: where the recognition found no words."""
    known: dict[str, str] = field(default_factory=dict)
    """Speaker -> name: those who are known by their voices."""
    clock: Clock = field(default_factory=lambda: Clock([]))
    """From times of the sound to the film's."""
    music: dict[str, Any] | None = None
    """What the stage music found, in the sound's times; None: nobody looked for it."""
    songs: lyrics.Lyrics | None = None


@dataclass(frozen=True, kw_only=True)
class Cutter:
    """Makes cues of sentences by a job's rules."""

    rules: Rules
    duration: float
    """Of the recording, in seconds."""
    label: bool
    dash: bool

    def cues(self, sentences: list[Sentence], language: str | None) -> list[cue.Cue]:
        """Cues on the film's own clock, each line broken as its language breaks lines."""
        own = breaks.language(language)
        return cue.cues(sentences, self.rules, duration=self.duration, label=self.label, dash=self.dash, language=own)

    def narrow(self, language: str | None, offset: float, sentences: list[Sentence], columns: int) -> list[cue.Cue]:
        """Cues of at most so many columns, ``offset`` seconds later."""
        rules = replace(self.rules, line_chars=min(columns, self.rules.line_chars))
        return replace(self, rules=rules, duration=self.duration + offset).cues(sentences, language)


def write(job: StageJob, recording: Recording, rules: Rules) -> None:
    """Write one recording in the formats that are asked for into ``output/``.

    The whole transcript, and the cues for mux, go into ``work/``.
    """
    heard = hear(job, recording)
    edited = edits.read(job.beside(edits.FILE), recording.id)
    edited = replace(edited, names=heard.known | edited.names)
    if edited.turns is not None:
        job.note(recording, "the text is as it was edited by hand")
    dash = bool(job.settings.get("dash", False))
    prefix = dash or bool(job.settings.get("prefix", True))
    said = edited.said(heard.said, duration=heard.duration)
    said = said if heard.speech is None else marked(said, heard.speech)
    said, left_out = sung(job, recording, heard, said, edited=edited.turns is not None)
    turns = None if heard.turns is None else [turn | {"speaker": edited.name(turn["speaker"])} for turn in heard.turns]
    language = heard.result["language"]
    cutter = Cutter(rules=rules, duration=heard.duration, label=prefix, dash=dash)
    shown = cutter.cues(edited.named(said), language)
    speakers = [edited.name(who) for who in sorted({s.speaker for s in said if s.speaker}, key=by_number)]
    if not said:
        job.note(recording, "no speech found: the subtitles are empty")
    account = accounted(job, recording, heard, shown, left_out, edited=edited.turns is not None)
    told = [
        replace(each, cues=cutter.cues(edited.named(each.said), each.language))
        for each in translated(job, recording, heard, said, edited=edited.turns is not None)
    ]
    changed = {"changes": lyrics.changes(left_out, heard.clock)} if left_out else {}
    job.save(recording, tracks(language, shown, told, prefix=prefix) | changed)
    clip = None
    if recording.start is not None:
        moved = Clock([], offset=recording.offset if job.settings.get("times") != "clip" else 0.0)
        said = [replace(s, words=tuple(map(moved.word, s.words))) for s in said]
        shown = [moved.cue(c) for c in shown]
        turns = None if turns is None else [moved.turn(turn) for turn in turns]
        told = [each.moved(moved) for each in told]
        clip = {"start": recording.start, "lead": recording.lead, "offset": moved.offset}
    offset = clip["offset"] if clip else 0.0
    coverage = None if account is None else account.data(offset)
    data = formats.whole(heard.result, said, heard.diarization, models(job), clip, edited.names, coverage)
    whole = contract.dump(data | beside(heard, told, offset) | about(job, recording))
    job.write(f"{recording.id}.transcript.json", whole)
    result = Result(
        recording=recording.name,
        stem=recording.output,
        tag=f".{language or 'und'}" if "translate" in job.stages else "",
        sentences=edited.named(said),
        cues=shown,
        speakers=list(dict.fromkeys(speakers)),
        turns=turns,
        whole=whole,
        prefix=prefix,
        language=language,
        recut=partial(cutter.narrow, language, offset),
        note=partial(job.note, recording),
    )
    files(job, result)
    for each in told:
        data = formats.whole(each.of(heard.result), each.said, heard.diarization, models(job), clip, edited.names)
        files(
            job,
            each.result(
                result,
                edited,
                contract.dump(data | {"backend": each.backend}),
                partial(cutter.narrow, each.language, offset),
            ),
        )
    job.progress(recording, heard.duration, heard.duration)


def beside(heard: Heard, told: list[Translation], offset: float) -> dict[str, Any]:
    """What the transcript has beside what is said, where there is any: translations, and what the glossary changed.

    Args:
        offset: seconds that the results' times have against the film's own.
    """
    found: dict[str, Any] = {}
    if "corrections" in heard.result:
        moved = Clock([], offset=offset)
        found["corrections"] = [moved.turn(heard.clock.turn(change)) for change in heard.result["corrections"]]
    if heard.music is not None:
        found["music"] = music(heard.music, heard.clock, Clock([], offset=offset))
    return found | ({"translations": [each.data() for each in told]} if told else {})


def about(job: StageJob, recording: Recording) -> dict[str, Any]:
    """What the recording is, where the job was asked to find out."""
    if "metadata" not in job.stages:
        return {}
    if not job.has("metadata"):
        job.note(recording, "what it is called isn't known: the stage metadata failed")
        return {}
    return {"metadata": job.load("metadata", recording)}


def music(found: dict[str, Any], clock: Clock, moved: Clock) -> dict[str, Any]:
    """Where there is music, and where somebody sings, as the transcript has it.

    Args:
        clock: from the sound's times to the film's.
        moved: from those to the results'.
    """

    def there(spans: list[list[float]]) -> list[list[float]]:
        return [[moved.at(clock.at(start)), moved.at(clock.at(end))] for start, end in spans]

    return {"share": found["share"], "music": there(found["music"]), "singing": there(found["singing"])}


def sung(
    job: StageJob, recording: Recording, heard: Heard, said: list[Sentence], *, edited: bool
) -> tuple[list[Sentence], list[Sentence]]:
    """What is said, with what is sung marked, and what is left out of it. What a person wrote stays."""
    found = heard.songs
    if found is None:
        if "music" in job.stages and heard.music is None:
            job.note(recording, "lyrics are as other words: the stage music failed")
        return said, []
    said = found.marked(said)
    songs = [s for s in said if s.sung]
    if found.mode != lyrics.DROP or not songs or edited:
        return said, []
    words, seconds = sum(len(s.words) for s in songs), sum(s.end - s.start for s in songs)
    job.note(recording, f"{words} words in {seconds:.0f} s of singing are left out (--lyrics drop)")
    return lyrics.spoken(said), songs


def accounted(
    job: StageJob,
    recording: Recording,
    heard: Heard,
    shown: list[cue.Cue],
    left_out: list[Sentence],
    *,
    edited: bool,
) -> Ledger | None:
    """What became of the speech; None: it isn't known where there is any."""
    if heard.speech is None:
        return None
    songs = [{"start": s.start, "end": s.end, "why": lyrics.WHY, "channel": s.words[0].channel} for s in left_out]
    account = ledger(heard.speech, shown, [*heard.unheard, *songs], heard.said if edited else [])
    tell(job, recording, account)
    return account


def translated(
    job: StageJob, recording: Recording, heard: Heard, said: list[Sentence], *, edited: bool
) -> list[Translation]:
    """The recording's text in other languages than its own."""
    if "translate" not in job.stages:
        return []
    if not job.has("translate"):
        job.note(recording, "there is no translation: the stage translate failed")
        return []
    if edited:
        job.note(recording, "the translation is of the text before it was edited")
    result = job.load("translate", recording)
    for note in corrected.apply(result, job.beside(corrected.FILE), recording.id):
        job.note(recording, note)
    found = translations.read(result, said, heard.clock)
    if heard.songs is not None:
        found = [replace(each, said=heard.songs.marked(each.said)) for each in found]
        if heard.songs.mode == lyrics.DROP and not edited:
            found = [replace(each, said=lyrics.spoken(each.said)) for each in found]
    return [each for each in found if each.language != heard.result["language"]]


def tracks(language: str | None, shown: list[cue.Cue], told: list[Translation], *, prefix: bool) -> dict[str, Any]:
    """What mux reads: also of a cut, the film's own time."""
    found: dict[str, Any] = {"language": language, "cues": track(shown, prefix=prefix)}
    others = [{"language": t.language, "cues": track(t.cues, prefix=prefix)} for t in told]
    return found | ({"translations": others} if others else {})


def track(cues: list[cue.Cue], *, prefix: bool) -> list[dict[str, Any]]:
    """Cues as mux reads them."""
    return [asdict(replace(c, words=())) | {"text": formats.plain(c, prefix=prefix)} for c in cues]


def hear(job: StageJob, recording: Recording) -> Heard:
    """Read what the stages before have found."""
    aligned, diarized = job.has("align"), job.has("diarize")
    result = respelt.spoken(job, recording)
    diarization: dict[str, Any] | None = job.load("diarize", recording) if diarized else None
    if not aligned and "align" in job.stages:
        job.note(recording, "the times of words are those of the recognition: the stage align failed")
    if not diarized and "diarize" in job.stages:
        job.note(recording, "there are no speakers: the stage diarize failed")
    turns = diarization["turns"] if diarization else None
    people = known(diarization)
    clock = Clock(job.load("demux", recording).get("clock") or [])
    words = [clock.word(word) for word in read_words(result["segments"], result["duration"])]
    played = job.load("music", recording) if job.has("music") else None
    turns = None if turns is None else [clock.turn(turn) for turn in turns]
    said = sentences(words, turns, breaks.language(result["language"]))
    if turns is not None and not any(word.channel for word in words):  # a channel's number is its speaker's
        names = numbered(said, turns)
        said = [replace(s, speaker=names.get(s.speaker or "")) for s in said]
        turns = [turn | {"speaker": names[turn["speaker"]]} for turn in turns]
        people = {names[who]: name for who, name in people.items() if who in names}
    return Heard(
        result=result,
        diarization=diarization,
        said=said,
        turns=turns,
        duration=clock.at(result["duration"]),
        speech=detected(job, recording, clock, apart=any(word.channel for word in words)),
        unheard=unheard(job, recording, result, clock),
        known=people,
        clock=clock,
        music=played,
        songs=None
        if played is None or played["lyrics"] == lyrics.KEEP
        else lyrics.read(played, str(played["lyrics"]), clock),
    )


def known(diarization: dict[str, Any] | None) -> dict[str, str]:
    """Speaker -> name of those whom diarize knew by their voices."""
    entries = (diarization or {}).get("known") or []
    return {str(entry["speaker"]): name for entry in entries if (name := clean(str(entry["name"])))}


def detected(job: StageJob, recording: Recording, clock: Clock, *, apart: bool) -> dict[int | None, list[Span]] | None:
    """Where there is speech, on the film's own clock; of each channel where they are heard ``apart``."""
    if not job.has("vad"):
        return None
    found = job.load("vad", recording)
    lanes = dict(enumerate((c["speech"] for c in found.get("channels") or []), 1)) if apart else {}
    return {
        channel: [(clock.at(start), clock.at(end)) for start, end in speech]
        for channel, speech in (lanes or {None: found["speech"]}).items()
    }


def unheard(job: StageJob, recording: Recording, result: dict[str, Any], clock: Clock) -> list[dict[str, Any]]:
    """Where the recognition found no words, and why, on the film's own clock."""
    if "unheard" not in result and job.has("asr"):
        result = job.load("asr", recording)
    return [clock.turn(entry) for entry in result.get("unheard") or []]


def tell(job: StageJob, recording: Recording, account: Ledger) -> None:
    """A note, where speech of some length has no words."""
    lost = [gap for gap in account.gaps if gap.end - gap.start >= NOTABLE and gap.why not in (CUT, lyrics.WHY)]
    if not lost:
        return
    longest = max(lost, key=lambda gap: gap.end - gap.start)
    seconds = sum(gap.end - gap.start for gap in lost)
    job.note(
        recording,
        f"{seconds:.1f} s of speech have no words ({len(lost)} gap{'s' if len(lost) > 1 else ''}, "
        f"the longest at {formats.stamp(longest.start, '.')}: {longest.why})",
    )


def files(job: StageJob, result: Result) -> None:
    """Write one recording's files into ``output/``."""
    for suffix in written.chosen(str(job.settings.get("formats", written.DEFAULT))):
        content = written.WRITERS[suffix](result)
        if content is None:
            continue
        data = content if isinstance(content, bytes) else content.encode()
        tag = "" if suffix == "rttm" else result.tag
        job.write_bytes(f"{result.stem}{tag}.{suffix}", data, output=True)


def listed(job: StageJob, recording: Recording) -> None:
    """Write the names that were found as a glossary's table, which can be corrected and given to another job."""
    if not job.has("names"):
        job.note(recording, "there are no names: the stage names failed")
        return
    kept = set((found := job.load("names", recording))["keep"])
    rows = [
        (entry["text"], "yes" if entry["text"] in kept else "", f"{entry['kind']}, said {entry['count']} ×")
        for entry in found["entities"]
    ]
    lines = ["\t".join(" ".join(str(cell).split()) for cell in row) for row in [("term", "keep", "note"), *rows]]
    job.write(f"{recording.output}.names.tsv", "\n".join(lines) + "\n", output=True)


def by_number(speaker: str) -> tuple[int, str]:
    """S2 before S10."""
    return len(speaker), speaker


def numbered(said: list[Sentence], turns: list[dict[str, Any]]) -> dict[str, str]:
    """New names of the speakers: S1 speaks the first words of the text. Those without words come last.

    Args:
        turns: in the order of time, which may begin with a sound that is no word.
    """
    heard = [s.speaker for s in said if s.speaker] + [turn["speaker"] for turn in turns]
    return {speaker: f"S{number}" for number, speaker in enumerate(dict.fromkeys(heard), 1)}


def models(job: StageJob) -> dict[str, Any]:
    """Purpose -> the model behind the result: what the job tells this stage, else the digests in the manifests."""
    if "models" in job.settings:
        return dict(job.settings["models"])
    digests: dict[str, Any] = {}
    for stage in job.stages:
        try:
            digests |= handed.load(job.root, f"work/{stage}/manifest.json")["models"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a stage that has not run yet
    return digests


if __name__ == "__main__":
    contract.main("subtitles", work)
