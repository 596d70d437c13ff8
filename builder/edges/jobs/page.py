"""What a job's page is made of, read from the job's folder; and a browser to look at it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from builder import __version__
from builder.core.config.types import Config
from builder.core.jobs import page as pages
from builder.core.jobs.formats import FILMS, FORMATS
from builder.core.jobs.job import Job, JobInput
from builder.core.jobs.page import File, Page, Recording
from builder.core.jobs.timeline import history
from builder.edges.jobs import folder as jobs
from builder.edges.jobs import listing, outcome
from builder.edges.system import files, shell
from builder.errors import BakeError, MissingError


def gather(config: Config, job: Job, *, out: Path, limit: int) -> Page:
    """Read a job for its page.

    Args:
        out: where the page will lie; what isn't in it is named from there.
        limit: bytes of recordings and films that go into the page; what doesn't fit is referred to.

    Raises:
        ConfigError: a transcript is not what the subtitles stage wrote.
    """
    job_folder = jobs.folder(config, job)
    state = jobs.state(job_folder)
    events = list(jobs.events(job_folder))
    manifests = {s.name: m for s in job.stages if (m := outcome.manifest(job_folder, s.name))}
    facts = {i.id: files.read_object(job_folder / "work" / "demux" / f"{i.id}.json") for i in job.inputs}
    budget = _Budget(limit)
    recordings = tuple(_recording(job_folder, entry, facts[entry.id], manifests, out, budget) for entry in job.inputs)
    sound = sum(float(f.get("duration", 0)) for f in facts.values())
    messages = [str(e.get("message")) for e in events if e.get("event") == "fail" and e.get("stage") is None]
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
    facts: Mapping[str, Any],
    manifests: Mapping[str, Any],
    out: Path,
    budget: _Budget,
) -> Recording:
    transcript, where = listing.transcript(job_folder, entry)
    media, spare, video = _media(job_folder, entry, facts, out, budget)
    result_files = []
    for suffix, known in {**FORMATS, **FILMS}.items():
        path = job_folder / "output" / f"{entry.output}.{suffix}"
        if media is not None and media.kind and path.name == media.name:
            result_files.append(media)
        elif path.is_file() and not path.is_symlink():
            # One copy of a film is enough: the others lie beside.
            again = suffix in FILMS and video and media is not None and media.data is not None
            inside = not again and (suffix in FORMATS or budget.take(path.stat().st_size))
            result_files.append(_file(path, path.name, known.type, out, inside=inside, kind=suffix))
    notes = [
        n.removeprefix(f"{entry.name}: ")
        for m in manifests.values()
        for n in m.get("notes", ())
        if n.startswith(f"{entry.name}: ")
    ]
    return Recording(
        id=entry.id,
        name=entry.name,
        size=entry.size,
        sha256=entry.sha256,
        clip=entry.clip,
        video=video,
        transcript=None if transcript is None else pages.transcript(transcript, str(where)),
        media=media,
        spare=spare,
        files=tuple(result_files),
        notes=tuple(n for n in notes if "best guess" not in n and "no speech" not in n),  # the page has these itself
    )


def _media(
    job_folder: Path, entry: JobInput, facts: Mapping[str, Any], out: Path, budget: _Budget
) -> tuple[File | None, File | None, bool]:
    """What is played, what else when a browser can't, and whether it has a picture.

    The film with subtitles is played where every browser can: it is offered too, and the page then has one film. Every
    browser plays the 16 kHz sound that demux made.
    """
    recording, sound = job_folder / entry.path, job_folder / "work" / "demux" / f"{entry.id}.wav"
    suffix = recording.suffix.lower().removeprefix(".")
    codecs = [s.get("codec", "") for s in facts.get("streams", ()) if s.get("type") in ("audio", "video")]
    for film in ("mp4", "mkv", "mka"):
        path = job_folder / "output" / f"{entry.output}.{film}"
        if path.is_file() and not path.is_symlink() and facts.get("video") and pages.plays(film, codecs):
            inside = budget.take(path.stat().st_size)
            media = _file(path, path.name, FILMS[film].type, out, inside=inside, kind=film)
            return media, _spare(sound, out, budget, needed=not inside, inside=False), True
    plays = pages.plays(suffix, codecs) if recording.is_file() else False
    if plays is False:
        recording, suffix = sound, "wav"
        if not recording.is_file():
            return None, None, False
    media = _file(recording, entry.name, pages.PLAYABLE[suffix], out, inside=budget.take(recording.stat().st_size))
    needed = plays is None or (plays and media.data is None)
    # A page that has its recording inside must not need a file beside it, unless that is all there is.
    spare = _spare(sound, out, budget, needed=needed, inside=media.data is not None)
    return media, spare, bool(facts.get("video")) and plays is not False


def _spare(sound: Path, out: Path, budget: _Budget, *, needed: bool, inside: bool) -> File | None:
    """The sound that is played instead; None where it isn't needed."""
    if not needed or not sound.is_file():
        return None
    return _file(sound, sound.name, "audio/wav", out, inside=inside and budget.take(sound.stat().st_size))


def _file(path: Path, name: str, type_: str, out: Path, *, inside: bool, kind: str = "") -> File:
    return File(
        name=name,
        type=type_,
        kind=kind,
        size=path.stat().st_size,
        href=quote(os.path.relpath(path.resolve(), out.resolve().parent)),
        data=path.read_bytes() if inside else None,
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
