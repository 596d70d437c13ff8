"""A job's page: what it says, and that nothing a recording or a person says becomes part of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.core.jobs import job_file
from builder.core.jobs import page as report
from builder.core.jobs.job import JobStage
from builder.core.jobs.record.events import parsed_lines
from builder.core.jobs.timeline import history
from builder.edges.jobs import page as pages
from builder.errors import ConfigError
from tests.golden import report as example
from tests.golden.project import read
from tests.golden.report import document, word

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>",
    "\"'><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}",
    "javascript:alert(1)",
    "&lt;b&gt;",
    "\u2028\u2029\u202e",
    "\x00\x01\x7f",
    "</textarea></title></style>",
    "\ud800",
]


class Tags(HTMLParser):
    """A page's skeleton: its tags with the names of their attributes; and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text: list[str] = []
        self.blocks: dict[str, str] = {}
        self.policy = ""
        self._block = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(sorted(name for name, _ in attrs))))
        named = dict(attrs)
        if tag in ("script", "style"):
            self._block = named.get("id") or tag
        if named.get("http-equiv") == "Content-Security-Policy":
            self.policy = named["content"] or ""

    def handle_endtag(self, tag: str) -> None:
        self._block = ""

    def handle_data(self, data: str) -> None:
        if self._block:
            self.blocks[self._block] = self.blocks.get(self._block, "") + data
        else:
            self.text.append(data)


def made(name: str, spoken: str, speaker: str) -> str:
    said = document((speaker, [word(f" {spoken}", 0.5), word(spoken, 1.0)]))
    gaps = [{"start": 4.0, "end": 6.5, "why": spoken}]
    said |= {"coverage": {"speech": 5.0, "shown": 2.5, "edges": 0.0, "gaps": gaps, "unsure": 0}}
    page = example.page(name, said)
    changed = replace(example.CHANGES[1], before=spoken, after=name, why=spoken, by=speaker)
    only = replace(
        page.recordings[0],
        notes=(spoken,),
        files=(report.File(name=name, type=spoken, size=1, href=spoken),),
        changes=(changed,),
    )
    return report.render(replace(page, recordings=(only,), failure=spoken), example.templates())


PLAIN = Tags(made("plain", "plain", "plain")).tags


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_stay_words(text: str) -> None:
    """A name, a transcript, a speaker, a note, an address: none of them adds a tag or an attribute."""
    found = Tags(made(text, text, text))
    assert found.tags == PLAIN
    json.loads(found.blocks["data"])


@settings(max_examples=10)
@given(st.text(min_size=1))
def test_any_text_stays_text(text: str) -> None:
    """What no list of tricks thought of."""
    assert Tags(made(text, f"a{text}", text)).tags == PLAIN


def test_a_change_s_language_is_a_code_or_unsaid() -> None:
    page = example.page()
    changed = tuple(replace(example.CHANGES[1], language=language) for language in ("fr", "french"))
    only = replace(page.recordings[0], changes=changed)
    text = report.render(replace(page, recordings=(only,)), example.templates())
    assert '<span class="tongue">fr</span>' in text
    assert "french" not in text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_data_block_ends_only_where_it_should(text: str) -> None:
    """JSON reads back the same, and holds nothing that HTML or an old script would take for an end."""
    made = str(report.block({text: [text]}))
    assert not set(made) & set("<>&\u2028\u2029")
    assert json.loads(made) == {text: [text]}


def test_what_was_said_is_what_is_shown() -> None:
    """Escaped once, not twice; and the times stand beside it, a word each."""
    found = Tags(example.rendered())
    text = "".join(found.text)
    assert "Good morning, everyone." in text
    assert "Thank you & <welcome>." in text
    assert json.loads(found.blocks["data"])["01"]["starts"] == [500, 1000, 1500, 3000, 3400, 3800, 8000]
    assert json.loads(found.blocks["data"])["01"]["sure"] == [90, 90, 60, 90, 31, 90, 90]


def test_only_the_pages_own_script_may_run() -> None:
    """The policy names style and script by the hash of what is really there, forbids all else, and no address is used."""
    text = report.render(example.page(), example.templates(stubs=False))
    found = Tags(text)
    rules = dict(rule.split(" ", 1) for rule in found.policy.split("; "))
    assert rules["default-src"] == "'none'"
    for name in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(found.blocks[name].encode()).digest()).decode()
        assert rules[f"{name}-src"] == f"'sha256-{digest}'"
    assert rules["media-src"] == "blob:"
    assert not {a for _, attributes in found.tags for a in attributes if a == "style" or a.startswith("on")}
    assert set(re.findall(r"\w+://[\w.]+", text)) <= {"http://www.w3.org"}  # the name space of the icon
    assert base64.b64decode(found.blocks["f01-1"]) == example.page().recordings[0].files[0].data


def test_a_recording_beside_the_page_is_allowed_by_the_policy_and_nothing_more() -> None:
    """``--embed 0``."""
    page = example.page()
    only = replace(page.recordings[0], media=replace(page.recordings[0].media, data=None))  # type: ignore[type-var]
    found = Tags(report.render(replace(page, recordings=(only,)), example.templates()))
    assert "media-src blob: 'self' file:" in found.policy
    assert "connect-src" not in found.policy


def test_paragraphs_follow_speakers_pauses_and_the_readers_breath() -> None:
    """One speaker's sentences stay together, but not across a long silence, nor without end."""
    sentence = [word(f" w{k}", k) for k in range(40)]

    def shape(*segments: tuple[str | None, list[dict[str, object]]]) -> list[tuple[str | None, int]]:
        found = report.transcript(document(*segments), "x")
        return [(p.speaker, len(p.words)) for p in found.paragraphs]

    assert shape(("S1", [word(" a", 0)]), ("S1", [word(" b", 1)]), ("S2", [word(" c", 2)])) == [("S1", 2), ("S2", 1)]
    assert shape((None, [word(" a", 0)]), (None, [word(" b", 5)])) == [(None, 1), (None, 1)]
    assert shape(("S1", sentence), ("S1", sentence), ("S1", [word(" z", 41)])) == [("S1", 80), ("S1", 1)]


def test_words_without_probabilities_are_not_called_unsure() -> None:
    """Some segments have none, and say 0."""
    found = report.transcript(document(("S1", [word(" a", 0, 0.0), word(" b", 1, 0.0)])), "x")
    assert {w.doubt for p in found.paragraphs for w in p.words} == {0}


def test_a_word_that_nothing_supports_stands_out_however_sure_the_model_was() -> None:
    said = document(("S1", [word(" a", 0, 0.9), word(" b", 1, 0.9) | {"unsure": True}]))
    found = report.transcript(said, "x")
    assert [w.doubt for p in found.paragraphs for w in p.words] == [0, 2]
    page = example.page("x", said)
    assert json.loads(Tags(report.render(page, example.templates())).blocks["data"])["01"]["sure"] == [90, 49]


def test_speech_without_words_is_listed_with_its_reason() -> None:
    text = "".join(Tags(made("a", "below confidence", "S1")).text)
    assert "2.5 s of 5.0 s of speech have no words" in text
    assert "0:04.0-0:06.5: below confidence" in text


@pytest.mark.parametrize("data", [None, [], {}, {"segments": 3}, {**example.SAID, "segments": [{"words": [{}]}]}])
def test_what_is_no_transcript_is_named(data: object) -> None:
    """Exit code 2, not a traceback."""
    with pytest.raises(ConfigError) as caught:
        report.transcript(data, "output/talk.json")
    assert caught.value.where == "output/talk.json"


def test_the_timeline_leaves_out_the_night_between_two_runs() -> None:
    """The last run of each stage; the second run of the job begins where the first one ended."""
    demux, asr, mux = history(example.job(), example.EVENTS, example.MANIFESTS, sound=10.0, now=None)
    assert (demux.state, demux.start, demux.seconds) == ("done", 0.0, 0.2)
    assert (asr.state, asr.start, asr.seconds, asr.rtf) == ("done", 0.2, 2.0, 0.2)
    assert asr.peak_bytes == 350_000_000
    assert (mux.state, mux.start) == ("open", None)


def test_the_timeline_takes_events_as_they_are() -> None:
    """A failure with its reason; a stage that was killed; lines that make no sense."""
    lines = [*example.EVENTS[:5], {}, {"t": "x"}, {"t": 1, "stage": "ghost", "event": "done"}]
    first = list(parsed_lines(b"".join(json.dumps(line).encode() + b"\n" for line in lines)))
    _, failed, _ = history(example.job(), first, {}, sound=None, now=None)
    assert (failed.state, failed.message, failed.rtf) == ("failed", "not enough memory", None)
    for now, state, seconds in ((103.4, "running", 3.0), (None, "stopped", 0.0)):
        _, found, _ = history(example.job(), example.EVENTS[:4], {}, sound=1, now=now)
        assert (found.state, found.seconds) == (state, seconds)
    assert history(example.job(), [], {}, sound=1, now=None)[0].state == "open"


@pytest.mark.parametrize(
    ("suffix", "codecs", "plays"),
    [("mp4", ["h264", "aac"], True), ("mp4", ["hevc", "aac"], None), ("mkv", ["h264"], None), ("avi", ["mp3"], False)],
)
def test_what_browsers_play_is_known(suffix: str, codecs: list[str], plays: bool | None) -> None:
    """What only some play has the transcribed sound as a spare; what none plays is heard from it."""
    assert report.plays(suffix, codecs) is plays


def test_recordings_go_into_the_page_while_there_is_room(tmp_path: Path) -> None:
    """Text always does; addresses are from where the page lies, whatever the file is called."""
    config = replace(read({}), jobs=tmp_path / "jobs")
    job = example.job()
    place = config.jobs / job.id
    texts = {"output/talk.srt": "1\n", "output/talk.json": json.dumps(example.SAID), "job.yaml": job_file.to_yaml(job)}
    facts = {"duration": 9.5, "video": True, "streams": [{"type": "video", "codec": "h264"}]}
    for name, text in {**texts, "work/demux/01.json": json.dumps(facts)}.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    for name, size in {"input/01.mp4": 600, "output/talk.mp4": 600, "work/demux/01.wav": 900}.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(b"x" * size)
    only = pages.gather(config, job, out=tmp_path / "a b" / "page.html", limit=1000).recordings[0]
    assert only.media is not None
    assert only.media.data is not None
    assert only.spare is None
    # The film with subtitles is what is played, so that there is one film in the page.
    assert [(f.name, f.data is not None) for f in only.files] == [
        ("talk.srt", True),
        ("talk.json", True),
        ("talk.mp4", True),
    ]
    assert only.files[-1] is only.media
    (place / "output/talk.mp4").rename(place / "output/talk.mkv")
    second = pages.gather(config, job, out=place / "report.html", limit=5000).recordings[0]
    assert second.media is not None
    assert second.media.href == "input/01.mp4"
    assert [(f.name, f.data is not None) for f in second.files][-1] == ("talk.mkv", False)
    (place / "output/talk.mkv").rename(place / "output/talk.mp4")
    beside = pages.gather(config, job, out=place / "report.html", limit=0).recordings[0]
    assert [f.href for f in (beside.media, beside.spare) if f] == ["output/talk.mp4", "work/demux/01.wav"]


@pytest.mark.parametrize(
    ("clock", "at"),
    [
        ([[0, 10], [100, 110], [200, 310]], 30.0),  # the film's sound begins late
        ([], 20.0),
        ([[0, 10], [0, 20]], 20.0),
        ([[0, 10], [100, "x"]], 20.0),
        ([[0, 10], [1e99, 5]], 20.0),
        ("late", 20.0),
    ],
)
def test_changes_are_listed_where_the_film_has_them(clock: object, at: float, tmp_path: Path) -> None:
    """The first ones, and how many more; a clock that is none counts as none."""
    config = replace(read({}), jobs=tmp_path / "jobs")
    job = example.job()
    changes = [
        {"start": 20 + k, "end": 21 + k, "before": "a", "after": "b", "why": ["loop"]}
        for k in range(report.CHANGES + 7)
    ]
    manifest = {"schema": 1, "code": "c", "settings": {}, "models": {}, "inputs": {}, "outputs": {}}
    texts = {
        "job.yaml": job_file.to_yaml(job),
        "work/demux/01.json": json.dumps({"duration": 900, "clock": clock}),
        "work/names/manifest.json": json.dumps(manifest),
        "work/names/01.json": json.dumps({"changes": [*changes, {"start": "<b>"}]}),
    }
    job = replace(job, stages=(*job.stages, JobStage(name="names", needs=())))
    for name, text in texts.items():
        (config.jobs / job.id / name).parent.mkdir(parents=True, exist_ok=True)
        (config.jobs / job.id / name).write_text(text)
    only = pages.gather(config, job, out=tmp_path / "page.html", limit=0).recordings[0]
    assert (len(only.changes), only.unshown) == (report.CHANGES, 7)
    assert (only.changes[0].start, only.changes[0].why) == (at, "loop")


def test_a_clip_plays_at_its_own_times_and_shows_those_of_the_recording() -> None:
    """The film in the page starts where the clip does; the text has the recording's times."""
    said = example.SAID | {"clip": {"start": 601.5, "lead": 1.5, "offset": 600.0}, "names": {"S1": "Ada <b>"}}
    for segment in (said := json.loads(json.dumps(said)))["segments"]:
        segment["words"] = [w | {"start": w["start"] + 600, "end": w["end"] + 600} for w in segment["words"]]
    text = report.render(example.page(said=said), example.templates())
    plain = report.render(example.page(), example.templates())
    data = [json.loads(re.search(r'id="data">(.*?)</script>', t)[1])["01"] for t in (text, plain)]  # type: ignore[index]
    assert data[0]["offset"] == 600
    assert data[0]["starts"] == data[1]["starts"]
    assert data[0]["ends"] == data[1]["ends"]
    assert re.findall("<rect class=.c[^>]*>", text) == re.findall("<rect class=.c[^>]*>", plain)
    assert '<span class="now">10:00</span> / 10:09' in text
    assert '<bdi class="name">Ada &lt;b&gt;</bdi>' in text
    assert "Speaker 2" in text


@pytest.mark.parametrize("text", ["[1]", '"x"', "7", "null", "{", ""])
def test_a_page_is_made_whatever_a_container_left_in_its_json(tmp_path: Path, text: str) -> None:
    """A manifest and a description that are no objects count as none."""
    config = replace(read({}), jobs=tmp_path / "jobs")
    job = example.job()
    for name in ("work/demux/manifest.json", "work/demux/01.json"):
        path = config.jobs / job.id / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (config.jobs / job.id / "job.yaml").write_text(job_file.to_yaml(job))
    assert len(pages.gather(config, job, out=tmp_path / "page.html", limit=0).recordings) == len(job.inputs)
