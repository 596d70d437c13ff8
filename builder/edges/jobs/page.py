"""What a job's page is made of, read from the job's folder; and a browser to look at it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from builder import __version__
from builder.core.config.types import Config
from builder.core.jobs import naming
from builder.core.jobs import page as pages
from builder.core.jobs.formats import FILMS, FORMATS, Format
from builder.core.jobs.job import Job, JobInput
from builder.core.jobs.page import File, Page, Recording, Transcript
from builder.core.jobs.record.manifest import Manifest
from builder.core.jobs.timeline import history
from builder.edges.jobs import folder as jobs
from builder.edges.jobs import listing, outcome
from builder.edges.jobs.record import facts as looks
from builder.edges.jobs.record.facts import Facts
from builder.edges.system import shell
from builder.errors import BakeError, MissingError
from builder.receiver.jobs.untrusted import read_below, size_below

LARGEST_TEXT = 32 << 20
"""Bytes of a result that goes into the page whatever the limit is: texts are small."""


def gather(
    config: Config, job: Job, *, out: Path, limit: int, folder: Path | None = None, state: str | None = None
) -> Page:
    """Read a job for its page.

    Args:
        folder: the job's, where it isn't among the others; nothing is written there.
        state: the job's; None: as its folder says, and who holds it.
        out: where the page will lie; what isn't in it is named from there.
        limit: bytes of recordings and films that go into the page; what doesn't fit is referred to.

    Raises:
        ConfigError: a transcript is not what the subtitles stage wrote.
    """
    job_folder = jobs.folder(config, job) if folder is None else folder
    state = jobs.state(job_folder) if state is None else state
    events = list(jobs.events(job_folder))
    manifests = outcome.said(job, job_folder)
    facts = {entry.id: looks.read(job_folder, entry) for entry in job.inputs}
    budget = _Budget(limit)
    recordings = tuple(_recording(job_folder, entry, facts[entry.id], manifests, out, budget) for entry in job.inputs)
    sound = sum(f.duration for f in facts.values())
    messages = [e.get("message", "") for e in events if e["event"] == "fail" and "stage" not in e]
    return Page(
        job=job,
        state=state,
        recordings=recordings,
        models=config.models,
        version=__version__,
        stages=history(job, events, manifests, sound=sound or None, now=time.time() if state == "running" else None),
        failure=messages[-1] if state == "failed" and messages else None,
    )


class _Budget:
    """Bytes that may still go into the page."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, size: int) -> bool:
        if size > self.left:
            return False
        self.left -= size
        return True


def _recording(
    job_folder: Path,
    entry: JobInput,
    facts: Facts,
    manifests: Mapping[str, Manifest],
    out: Path,
    budget: _Budget,
) -> Recording:
    raw, where = listing.transcript(job_folder, entry)
    changes = outcome.changes_in(entry, job_folder, manifests)
    transcript = None if raw is None else pages.transcript(raw, str(where))
    media, spare, video = _media(job_folder, entry, facts, out, budget)
    result_files = []
    for suffix, known in _kinds(transcript).items():
        name = f"{entry.output}.{suffix}"
        result = _Found.of(job_folder, f"output/{name}")
        if media is not None and media.kind and name == media.name:
            result_files.append(media)
        elif result is not None:
            # One copy of a film is enough: the others lie beside.
            again = suffix in FILMS and video and media is not None and media.data is not None
            text = suffix not in FILMS and result.size <= LARGEST_TEXT
            inside = not again and (text or budget.take(result.size))
            result_files.append(result.file(name, known.type, out, inside=inside, kind=suffix))
    notes = [
        n.removeprefix(f"{entry.name}: ")
        for m in manifests.values()
        for n in m.notes
        if n.startswith(f"{entry.name}: ")
    ]
    return Recording(
        id=entry.id,
        name=entry.name,
        size=entry.size,
        sha256=entry.sha256,
        clip=entry.clip,
        video=video,
        transcript=transcript,
        media=media,
        spare=spare,
        files=tuple(result_files),
        changes=tuple(replace(each, start=facts.moment(each.start)) for each in changes[: pages.CHANGES]),
        unshown=max(len(changes) - pages.CHANGES, 0),
        notes=tuple(
            n for n in notes if not any(said in n for said in ("best guess", "no speech", "have no words"))
        ),  # the page has these itself
    )


def _kinds(transcript: Transcript | None) -> Mapping[str, Format]:
    """The results that a recording may have; with translations, each text in each language."""
    if transcript is None or not transcript.translations:
        return {**FORMATS, **FILMS}
    spoken = transcript.language or "und"
    tags = [
        spoken if naming.LANGUAGE.fullmatch(spoken) else "und",
        *(each.language for each in transcript.translations),
    ]
    texts = {f"{tag}.{suffix}": known for tag in tags for suffix, known in FORMATS.items() if suffix != "rttm"}
    return {**texts, "rttm": FORMATS["rttm"], **FILMS}


def _media(
    job_folder: Path, entry: JobInput, facts: Facts, out: Path, budget: _Budget
) -> tuple[File | None, File | None, bool]:
    """What is played, what else when a browser can't, and whether it has a picture.

    The film with subtitles is played where every browser can: it is offered too, and the page then has one film. Every
    browser plays the 16 kHz sound that demux made.
    """
    recording, sound = _Found.of(job_folder, entry.path), _Found.of(job_folder, f"work/demux/{entry.id}.wav")
    suffix = Path(entry.path).suffix.lower().removeprefix(".")
    for film in ("mp4", "mkv", "mka"):
        name = f"{entry.output}.{film}"
        result = _Found.of(job_folder, f"output/{name}")
        if result is not None and facts.video and pages.plays(film, facts.codecs):
            inside = budget.take(result.size)
            media = result.file(name, FILMS[film].type, out, inside=inside, kind=film)
            return media, _spare(sound, out, budget, needed=not inside, inside=False), True
    plays = pages.plays(suffix, facts.codecs) if recording is not None else False
    if plays is False:
        recording, suffix = sound, "wav"
    if recording is None:
        return None, None, False
    media = recording.file(entry.name, pages.PLAYABLE[suffix], out, inside=budget.take(recording.size))
    needed = plays is None or (plays and media.data is None)
    # A page that has its recording inside must not need a file beside it, unless that is all there is.
    spare = _spare(sound, out, budget, needed=needed, inside=media.data is not None)
    return media, spare, facts.video and plays is not False


def _spare(sound: _Found | None, out: Path, budget: _Budget, *, needed: bool, inside: bool) -> File | None:
    """The sound that is played instead; None where it isn't needed."""
    if not needed or sound is None:
        return None
    name = sound.path.rpartition("/")[2]
    return sound.file(name, "audio/wav", out, inside=inside and budget.take(sound.size))


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A regular file in a job's folder."""

    folder: Path
    path: str
    size: int

    @classmethod
    def of(cls, folder: Path, path: str) -> _Found | None:
        size = size_below(folder, path)
        return None if size is None else cls(folder=folder, path=path, size=size)

    def file(self, name: str, type_: str, out: Path, *, inside: bool, kind: str = "") -> File:
        """As the page has it; beside the page, too, when it has grown or gone meanwhile."""
        return File(
            name=name,
            type=type_,
            kind=kind,
            size=self.size,
            href=quote(os.path.relpath(self.folder.resolve() / self.path, out.resolve().parent)),
            data=read_below(self.folder, self.path, self.size) if inside else None,
        )


def templates(shipped: Path) -> dict[str, str]:
    """The page's template, style and script, by name."""
    folder = shipped / "templates" / "report"
    return {name: (folder / name).read_text(encoding="utf-8") for name in pages.TEMPLATES}


def open_page(path: Path, env: Mapping[str, str]) -> BakeError | None:
    """Show a page in the user's browser; what is in the way, if anything."""
    if sys.platform != "darwin" and not (env.get("DISPLAY") or env.get("WAYLAND_DISPLAY")):
        return MissingError("this machine has no screen to show the page on", hint=f"open {path} in a browser")
    try:
        shell.start(["open" if sys.platform == "darwin" else "xdg-open", str(path)], env=env)
    except MissingError as error:
        return MissingError(error.what, hint=f"open {path} in a browser")
    return None
