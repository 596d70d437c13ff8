"""Names, settings and spoken words that are code somewhere else: in every text that this project writes for others to read.

``attempt(number)`` puts one string into one place. What is written there, read by the reader it is meant for, has the structure
that it has with a harmless string, and holds the string unchanged; or the string is refused, and named.
"""

from __future__ import annotations

import csv
import functools
import html.parser
import importlib.util
import io
import json
import random
import re
import shlex
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import yaml

from builder import program, ui
from builder.core.images import ci
from builder.core.jobs import compose
from builder.core.jobs import page as report
from builder.core.jobs.page import File
from builder.core.text import visible
from builder.errors import ConfigError, MissingError, UsageError
from builder.receiver import display
from builder.ui import rows as progress
from builder.views import View
from tests.golden import project as fixed
from tests.golden import report as golden
from tests.hostile import Attempt, payloads, results
from tests.unit import test_injection as images
from tests.unit import test_subtitles as spoken

sys.path.insert(0, str(spoken.STAGE.parent))

import edits
import formats
import watched
import written

HARMLESS = "harmless"

Sink = Callable[[str, random.Random], str | None]
"""Puts a string somewhere; None when it did no harm there, else what it did."""


class Refused(Exception):
    """The string was refused, as it may be."""


# Dockerfile, docker-bake.json


def instructions(text: str) -> list[str]:
    """The instructions of a Dockerfile, one a line as it is read: continued lines joined, without comments."""
    joined = re.sub(r"\\[ \t]*\n", " ", text)
    return [line.split(" ", 1)[0] for line in joined.split("\n") if line.strip() and not line.lstrip().startswith("#")]


def dockerfile(text: str, chance: random.Random) -> str | None:
    """Every value that a plan takes from files."""
    text = re.sub("[\ud800-\udfff]", "?", text)  # no file of UTF-8 has one, and YAML refuses to spell one
    where = chance.choice((*images.KNOWN, "model", "licence", "version", *images.IMAGES))
    if where in images.IMAGES:
        path, template, _ = images.IMAGES[where]
        made = images.with_files({path: template.replace("VALUE", json.dumps(text))})
        found = images.files_of(made)
    elif where == "version":
        found = images.files_of(images.usual()[0], version=text)
    else:
        found = images.files_of(images.planned(**{where: text}))
    return _same_images(found, text, where)


def _same_images(found: dict[str, str], text: str, where: str) -> str | None:
    """Compared with a plan that no string touched; a name that is allowed is another name, and no more."""
    usual = images.usual()[1]
    bake, expected = json.loads(found["docker-bake.json"]), json.loads(usual["docker-bake.json"])
    if where in ("licence", "version", "model", *images.KNOWN):
        if where not in ("kind", "suite", "digest") and instructions(found["Dockerfile"]) != instructions(
            usual["Dockerfile"]
        ):
            return f"{where}: other instructions"
        if {k: sorted(v) for k, v in bake["target"].items()} != {k: sorted(v) for k, v in expected["target"].items()}:
            return f"{where}: other keys in docker-bake.json"
    for target in bake["target"].values():
        images.in_hcl(target["labels"]["org.opencontainers.image.licenses"])
    if where == "version":
        labels = [images.in_hcl(t["labels"]["org.opencontainers.image.version"]) for t in bake["target"].values()]
        return None if set(labels) == {text} else "the version isn't what it was"
    if any((ord(c) < 32 and c not in "\n\t") or ord(c) == 127 for c in found["Dockerfile"]):
        return f"{where}: control characters in the Dockerfile"
    return None


# compose.yaml, pipelines


@functools.cache
def _containers() -> tuple[str, Any, Any, Any]:
    template = (fixed.ROOT / "compose" / compose.TEMPLATE).read_text()
    job, machine = fixed.job("cpu"), fixed.PROJECTS["cpu"]
    known = {s.name: compose.StageImage(id=f"sha256:{k:064x}") for k, s in enumerate(job.stages)}
    services = compose.services(job, known, machine=machine, specs=fixed.read({}).stages, sizes={})
    return template, job, machine, services


@functools.cache
def _usual_compose() -> Any:
    template, job, machine, services = _containers()
    return structure(_yaml(compose.render(template, job, services, machine=machine, models="/srv/x")))


def _yaml(text: str) -> Any:
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def structure(value: Any) -> Any:
    """Data without its texts."""
    if isinstance(value, dict):
        return {key: structure(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [structure(inner) for inner in value]
    return type(value).__name__ if isinstance(value, str) else value


def composed(text: str, chance: random.Random) -> str | None:
    """The folder of the weights."""
    template, job, machine, services = _containers()

    found = _yaml(compose.render(template, job, services, machine=machine, models=f"/srv/{text}"))
    if structure(found) != _usual_compose():
        return "another structure"
    mounts = {m["target"]: m for m in found["x-mounts"]}
    return None if fixed.interpolated(mounts["/models"]["source"]) == f"/srv/{text}" else "another folder"


def run_words(text: str, chance: random.Random) -> str | None:
    """``docker run``: a mount is one word, and one row of CSV with three cells."""
    mount = compose.Mount(source=f"/srv/{text}", target="/models")
    cells = next(csv.reader(io.StringIO(compose._csv(mount), newline="")))
    return None if cells == ["type=bind", f"source=/srv/{text}", "target=/models", "readonly"] else f"cells {cells}"


def pipeline(text: str, chance: random.Random) -> str | None:
    """A word of the command, a choice, a folder, a registry."""
    service, where = chance.choice(list(ci.KINDS)), chance.choice(("command", "choice", "folder", "registry"))
    words = {
        "command": shlex.join(["build.py", "ci", service]),
        "choice": "--mode native",
        "folder": "rendered",
        "registry": "registry.example/speech",
    }

    def made(value: str) -> Any:
        given = {**words, where: shlex.join(["typed", value]) if where in ("command", "choice") else value}
        if where == "registry":
            images.reference.target(value, where="--registry")
        return ci.pipeline(service, images.usual()[0], fixed.templates(), **given)

    whole = made(text)
    found, usual = _yaml(whole), _yaml(made(HARMLESS))
    if structure(found) != structure(usual):
        return f"{where}: another structure"
    if "${{ evil" in whole:
        return f"{where}: GitHub would compute it"
    return _same_scripts(found, usual, text) if where in ("command", "choice") else None


def _same_scripts(found: Any, usual: Any, text: str) -> str | None:
    """The scripts of a pipeline have the same commands, with the one word in its place."""
    pairs = zip(_texts(found), _texts(usual), strict=True)
    for one, other in ((one, other) for one, other in pairs if one != other):
        for line, before in zip(one.split("\n"), other.split("\n"), strict=True):
            if not line.startswith("#") and shlex.split(line) != [
                text if w == HARMLESS else w for w in shlex.split(before)
            ]:
                return f"another command: {line}"
    return None


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    return [value] if isinstance(value, str) else []


# Lines to type


def typed(text: str, chance: random.Random) -> str | None:
    """A shell reads one word, and exactly this one."""
    text = text.replace("\0", "0")
    value = Path(text) if chance.random() < 0.3 else text
    word = program.shell_word(value)
    if not word.isprintable():
        return "it can't be seen whole"
    done = subprocess.run(["bash", "-c", f"printf '%s|' {word}"], capture_output=True, check=False)
    given = str(value)
    given = f"./{given}" if isinstance(value, Path) and given.startswith("-") else given
    raw = b"".join(_raw(c) for c in given) + b"|"
    return None if done.stdout == raw and not done.stderr else f"bash reads {done.stdout!r} {done.stderr!r}"


def _raw(character: str) -> bytes:
    return character.encode(errors="surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass")


# The page


class Elements(html.parser.HTMLParser):
    """Tags with the names of their attributes, in order; what stands in scripts; what loads."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[Any] = []
        self.links: list[str] = []
        self.blocks: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag; its addresses are kept apart."""
        self.found.append((tag, tuple(name for name, _ in attrs)))
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action", "formaction", "data")]
        self._inside = tag in ("script", "style")
        if self._inside:
            self.blocks.append("")

    def handle_endtag(self, tag: str) -> None:
        """An end is structure, too."""
        self.found.append(f"/{tag}")
        self._inside = False

    def handle_data(self, data: str) -> None:
        """Of a script or a style."""
        if self._inside:
            self.blocks[-1] += data

    def handle_comment(self, data: str) -> None:
        """The page has none that come from elsewhere."""
        self.found.append("comment")

    def handle_decl(self, decl: str) -> None:
        """As with comments."""
        self.found.append(f"declaration {decl}")


def elements(text: str) -> Elements:
    """The page as a browser would take it apart."""
    parser = Elements()
    parser.feed(text)
    parser.close()
    return parser


@functools.cache
def _golden_page() -> report.Page:
    return golden.page("talk.mp4")


def _page(text: str, where: str) -> str:
    said = golden.document(("S1", [golden.word(f" {text}x" if where == "word" else " Good", 0.5)]), language="en")
    if where == "speaker":
        said["segments"][0]["speaker"] = f"x{text}"
    if where == "called":
        said["names"] = {"S1": f"x{text}"}
    if where == "language":
        said["language"] = f"x{text}"
    page = _golden_page()
    recording = replace(page.recordings[0], transcript=report.transcript(said, "talk.json"))
    if where == "recording":
        recording = replace(recording, name=f"x{text}")
        page = replace(page, job=golden.job(f"x{text}"))
    if where == "note":
        recording = replace(recording, notes=(f"x{text}",))
    if where == "file":
        made = File(name=f"{text}.srt", type="text/plain", size=4, href=f"output/{text}.srt", data=b"x")
        recording = replace(recording, files=(made, replace(made, data=None)), media=replace(made, data=None))
    page = replace(page, recordings=(recording,))
    if where == "failure":
        page = replace(page, failure=f"x{text}")
    if where == "state":
        page = replace(page, state=f"x{text}")
    if where == "version":
        page = replace(page, version=f"x{text}")
    if where == "setting":
        stages = [replace(s, settings={"prompt": f"x{text}", f"x{text}": 1}) for s in page.job.stages]
        page = replace(page, job=replace(page.job, stages=tuple(stages)))
    return report.render(page, golden.templates())


@functools.cache
def _usual_page(where: str) -> Elements:
    return elements(_page("", where))


PLACES = (
    *("word", "speaker", "called", "language", "recording", "note", "file", "failure", "state", "version", "setting"),
)


def page(text: str, chance: random.Random) -> str | None:
    """Whatever a recording, a stage or a person calls something."""
    where = chance.choice(PLACES)
    found, usual = elements(_page(text, where)), _usual_page(where)
    if found.found != usual.found:
        return f"{where}: other elements"
    for link in found.links:
        if re.match(r"\s*(?:[a-z][a-z0-9+.-]*:|//|\\\\)", link, re.IGNORECASE) and not link.startswith(
            ("data:", "blob:")
        ):
            return f"{where}: an address {link!r}"
    for block, before in zip(found.blocks, usual.blocks, strict=True):
        if before.startswith(("{", "[")):
            if structure(json.loads(block)) != structure(json.loads(before)) and where not in ("word", "speaker"):
                return f"{where}: other data"
        elif block != before and not re.fullmatch(r"[A-Za-z0-9+/=\s]*", block):
            return f"{where}: another script"
    return None


# Subtitles and tables


def subtitles(text: str, chance: random.Random) -> str | None:
    """Spoken words, and what people call a speaker, in each format."""
    suffix, named = chance.choice(list(written.WRITERS)), chance.random() < 0.4
    if suffix == "json" or (
        suffix == "docx" and importlib.util.find_spec("docx") is None
    ):  # json.dumps writes the first
        suffix = "txt"

    def made(word: str, name: str) -> Any:
        segments = [spoken.segment(f" {word}", 0.5, 2.0), spoken.segment(" Second said.", 5.0, 7.0)]
        segments[0]["words"] = [{"word": f" {word}", "start": 0.5, "end": 2.0, "probability": 0.9}]
        turns = [spoken.turn(0, 3, "S1"), spoken.turn(4, 8, "S2")]
        file = json.dumps({"schema": 1, "recordings": {"01": {"names": {"S1": name}}}}).encode()
        said = edits.read(file, "01").named(spoken.sentences(spoken.read_words(segments, 60.0), turns))
        cues = spoken.cue.cues(said, spoken.RULES, duration=60.0, label=True)
        speakers = list(dict.fromkeys(s.speaker for s in said if s.speaker))
        result = written.Result(
            recording=name,
            stem=name,
            sentences=said,
            cues=cues,
            speakers=speakers,
            turns=turns,
            whole="",
            prefix=True,
            language="en",
            recut=lambda texts, columns: spoken.cue.cues(
                texts, spoken.cue.Rules(line_chars=columns), duration=60.0, label=True
            ),
            note=lambda message: None,
        )
        return cues, said, written.WRITERS[suffix](result)

    first = chance.choice(("a", ""))
    word, name = ("word", f"{first}{text}Ada") if named else (f"{first}{text}b", "Ada")
    cues, said, content = made(word, name)
    return READERS[suffix](cues, said, content)


def _srt(cues: Any, said: Any, content: str) -> str | None:
    found = spoken.parse(content, separator=",")
    bodies = "".join(body for _, _, body in found)
    if len(found) != len(cues) or re.search(r"[<>]|-->|\{\\", bodies):
        return f"{len(found)} cues for {len(cues)}, {bodies!r}"
    return None if len(content.split("\n")) == sum(len(c.lines) + 3 for c in cues) else "other lines"


def _vtt(cues: Any, said: Any, content: str) -> str | None:
    found = spoken.parse(content, separator=".")
    tags = [tag for _, _, body in found for tag in re.findall(r"<[^>]*>?", body)]
    known = [tag for tag in tags if re.fullmatch(r"<v [^<>\n]*>|</v>|<\d\d:\d\d:\d\d\.\d{3}>", tag)]
    return None if len(found) == len(cues) and tags == known else f"{len(found)} cues for {len(cues)}, {tags}"


def _ass(cues: Any, said: Any, content: str) -> str | None:
    lines = content.split("\n")
    styles = [line for line in lines if line.startswith("Style:")]
    events = [line for line in lines if line.startswith("Dialogue:")]
    speakers = {s.speaker for s in said}
    if len(events) != len(cues) or len(lines) != 13 + len(styles) + len(events) or len(styles) != 1 + len(speakers):
        return f"{len(lines)} lines, {len(events)} events for {len(cues)}, {len(styles)} styles"
    if any(len(style.split(",")) != 23 for style in styles):
        return f"styles {styles}"
    for event in events:
        fields = event.split(",", 9)
        if fields[5:9] != ["0", "0", "0", ""] or re.search(r"\\(?!N|k\d+\})|\{(?!\\k\d+\})", fields[9]):
            return f"event {event!r}"
    return None


def _txt(cues: Any, said: Any, content: str) -> str | None:
    turns = len(formats.paragraphs(said))
    return None if len(content.split("\n")) == 2 * turns and content.isprintable() is False else f"{content!r}"


def _table(separator: str) -> Callable[[Any, Any, str], str | None]:
    def read(cues: Any, said: Any, content: str) -> str | None:
        found = list(csv.reader(io.StringIO(content.removeprefix("\ufeff"), newline=""), delimiter=separator))
        if len(found) != len(said) + 1 or any(len(row) != 5 for row in found):
            return f"rows {found}"
        begins = [
            cell for row in found[1:] for cell in row[3:] if re.match(r"[\s\ufeff\u200b-\u200f]*[=+\-@＝＋－＠]", cell)
        ]
        return f"formulas {begins}" if begins else None

    return read


DOCX = {
    *("document", "body", "p", "pPr", "pStyle", "r", "rPr", "i", "b", "bidi", "t"),
    *("tab", "br", "cr", "sectPr", "pgSz", "pgMar", "cols", "docGrid"),
}
"""Elements of a paragraph of text."""


def _docx(cues: Any, said: Any, content: bytes) -> str | None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        body = ElementTree.fromstring(archive.read("word/document.xml"))
        rels = archive.read("word/_rels/document.xml.rels").decode()
    w = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
    count = len(body.findall(f".//{w}p"))
    kinds = {element.tag.removeprefix(w) for element in body.iter()} - DOCX
    kinds |= {"hyperlink"} if "hyperlink" in rels else set()
    return None if count == len(formats.paragraphs(said)) + 1 and not kinds else f"{count} paragraphs, {kinds}"


def _ttml(cues: Any, said: Any, content: bytes) -> str | None:
    kinds = [element.tag.rpartition("}")[2] for element in ElementTree.fromstring(content).iter()]
    lines = sum(len(f"{c.mark}\n".join(c.lines).split("\n")) for c in cues)
    known = {*("tt", "head", "layout", "region", "body", "div", "p", "br", "span")}
    good = kinds.count("p") == len(cues) and kinds.count("span") == lines and set(kinds) <= known
    return None if good else f"{Counter(kinds)}"


def _scc(cues: Any, said: Any, content: str | None) -> str | None:
    """A text of other letters makes none; else time codes with words of four digits."""
    lines = (content or "Scenarist_SCC V1.0").split("\n")
    row = re.compile(r"(\d\d:\d\d:\d\d[;:]\d\d\t[0-9a-f]{4}( [0-9a-f]{4})*)?")
    good = lines[0] == "Scenarist_SCC V1.0" and all(map(row.fullmatch, lines[1:]))
    return None if good else f"{content!r}"


def _rttm(cues: Any, said: Any, content: str) -> str | None:
    lines = content.split("\n")
    return None if len(lines) == 3 and all(len(line.split()) == 10 for line in lines[:2]) else f"{lines}"


READERS: dict[str, Callable[[Any, Any, Any], str | None]] = {
    "srt": _srt,
    "vtt": _vtt,
    "words.vtt": _vtt,
    "ass": _ass,
    "karaoke.ass": _ass,
    "txt": _txt,
    "csv": _table(","),
    "tsv": _table("\t"),
    "docx": _docx,
    "ttml": _ttml,
    "scc": _scc,
    "rttm": _rttm,
}


# The terminal


def unsafe(text: str, *, keep: str = "\n\t") -> str | None:
    """What of a text a terminal would obey."""
    return None if visible(text, keep=keep) == text else f"it gets {text!r}"


def shown(text: str, chance: random.Random) -> str | None:
    """The result of a command."""
    view: View[Any] = chance.choice(results.views())
    seed = chance.random()

    def printed(value: str) -> str:
        return view.text(results.made(results.takes(view), random.Random(seed), lambda: value))

    found, usual = printed(f"x{text}"), printed("x")
    if view.command in ("completion", "ci"):  # a whole file, whose lines are its own
        return unsafe(found)
    if found.count("\n") != usual.count("\n"):
        return f"{view.command}: {found.count(chr(10))} lines for {usual.count(chr(10))}"
    return unsafe(found)


def as_json(text: str, chance: random.Random) -> str | None:
    """The same for scripts: what is read is what was there."""
    from builder.cli.options import print_json

    out, before = io.StringIO(), sys.stdout
    sys.stdout = SimpleNamespace(write=out.write, flush=out.flush, encoding="utf-8")  # type: ignore[assignment]
    try:
        print_json({"x": [text], text: 1}, compact=chance.random() < 0.5)
    finally:
        sys.stdout = before
    read = json.loads(out.getvalue())
    return unsafe(out.getvalue()) or (None if read == {"x": [text], text: 1} else "another value")


def told(text: str, chance: random.Random) -> str | None:
    """Errors, notes, progress, traces; of the builder and of the loader."""
    out, before = io.StringIO(), sys.stderr
    sys.stderr = out
    places: dict[str, Callable[[str], object]] = {
        "error": lambda t: ui.show_error(MissingError(t, where=t, expected=t, hint=t, detail=[t])),
        "say": ui.say,
        "trace": lambda t: ui.show_trace(_raised(t)),
        "loader": display.say,
        "stream": lambda t: display.VisibleStream(out, visible).write(f"{t}\n"),
        "loader's stream": lambda t: display.VisibleStream(out, display.shown).write(f"{t}\n"),
        "stage": lambda t: out.write(f"{watched.plain(t)}\n"),
        "row": lambda t: out.write(progress.row(progress.Progress(what=t, note=t), width=80, seconds=1.0) + "\n"),
        "source": lambda t: out.write(
            progress.row(progress.Progress(what=t, source=t, done=1, total=2, unit="bytes"), width=200, seconds=1.0)
            + "\n"
        ),
    }
    where = chance.choice(list(places))
    try:
        places[where](f"x{text}")
        found = out.getvalue()
        out.seek(0)
        out.truncate()
        places[where]("x")
    finally:
        sys.stderr = before
    if "stream" not in where and found.count("\n") != out.getvalue().count("\n"):
        return f"{where}: {found.count(chr(10))} lines"
    return unsafe(found)


def _raised(text: str) -> BaseException:
    try:
        raise UsageError(text)
    except UsageError as error:
        return error


SINKS: dict[str, tuple[Sink, tuple[str, ...]]] = {
    "images": (dockerfile, (*payloads.DOCKERFILE, *payloads.BAKE, *payloads.SHELL)),
    "compose": (composed, payloads.YAML),
    "docker run": (run_words, (*payloads.SUBTITLES, *payloads.YAML)),
    "pipeline": (pipeline, (*payloads.YAML, *payloads.SHELL)),
    "shell": (typed, payloads.SHELL),
    "page": (page, payloads.HTML),
    "subtitles": (subtitles, payloads.SUBTITLES),
    "terminal": (shown, payloads.TERMINAL),
    "json": (as_json, payloads.TERMINAL),
    "told": (told, payloads.TERMINAL),
}
"""Where a string goes, and what is code there."""


def attempt(number: int) -> Attempt:
    """One string in one place."""
    chance = random.Random(number)
    name = list(SINKS)[number % len(SINKS)]
    sink, own = SINKS[name]
    text = payloads.payload(chance, (*own, *payloads.PATHS))

    def run(_: Path) -> str | None:
        try:
            return sink(text, chance)
        except (ConfigError, UsageError) as error:
            return None if unsafe(visible(error.what)) is None else "the refusal isn't one line"
        except Exception as error:  # noqa: BLE001 (a crash is an effect, too)
            return f"{type(error).__name__}: {error}"

    return Attempt(name=f"{name} {number} {text[:60]!r}", run=run)
