"""``load.py --run``: recordings of the receiver's own, each a job of its own, through the loaded images."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.receiver.display import DISPLAY, Percent, clock, say, shown
from builder.receiver.engine import EngineSocket
from builder.receiver.inventory import Inventory, LoaderError
from builder.receiver.jobs.container import Sandbox
from builder.receiver.jobs.job import (
    LARGEST_VOICES,
    MOST_THREADS,
    SUBTITLE,
    TRANSCRIBE,
    JobAsked,
    copied,
    knowing,
    make_parts,
    planned_stages,
    recipe,
    service,
    sound_bytes,
    write_compose,
    write_job,
    write_voices,
)
from builder.receiver.jobs.kept import keep, keeping
from builder.receiver.jobs.languages import EACH, KNOWN, code_of
from builder.receiver.jobs.naming import input_suffix, job_id, key_of, output_stem
from builder.receiver.jobs.places import file_mode, folder_mode, readers, remove_if_there
from builder.receiver.jobs.run import probe, results_of, run_job, stage_container, stage_images
from builder.receiver.jobs.terms import TERMS_FILE
from builder.receiver.jobs.translating import MOST_TRANSLATIONS, TRANSLATE, ways_of
from builder.receiver.jobs.untrusted import read_below

NEW = ".new-"
"""How the name of a folder begins that is still being made; those of dead processes are removed."""

TEXTS = 8_000_000
"""Bytes that a job's texts, logs and manifests take at most, in about."""

SEVERE = (3, 7, 5, 2, 8)
"""Exit codes, the first of which a queue of recordings ends with."""


def language_of(text: str | None, option: str = "--language") -> str | None:
    """Whisper's code of a language; None: it is detected. Raises LoaderError: nobody knows it."""
    try:
        return None if text is None else code_of(text)
    except LookupError:
        near = difflib.get_close_matches(text.strip().lower(), KNOWN, 1) if text else []
        hint = (
            f'did you mean "{near[0]}"?' if near else "a code or a name, such as en, German or Deutsch; auto: detected"
        )
        raise LoaderError(2, f'{option}: "{shown(text or "")}" is not a language that Whisper knows', hint) from None


def targets_of(text: str | None) -> tuple[str, ...]:
    """The languages of ``--translate``, each once; none without it.

    Raises:
        LoaderError: one isn't known, none is named, or they are too many.
    """
    if text is None:
        return ()
    words = [part.strip() for part in text.split(",") if part.strip()]
    codes = [language_of(word, "--translate") for word in words]
    found = tuple(dict.fromkeys(code for code in codes if code is not None and code != EACH))
    if len(found) < len(set(codes)) or not found:
        raise LoaderError(2, f'--translate: "{shown(text)}" names no language to translate into', "such as en,es")
    if len(found) > MOST_TRANSLATIONS:
        raise LoaderError(2, f"a job has at most {MOST_TRANSLATIONS} translations", "leave some of --translate out")
    return found


def transcribe(
    engine: EngineSocket,
    mine: Inventory,
    target: Path,
    recordings: Sequence[Path],
    asked: JobAsked,
    *,
    sandbox: Sandbox,
) -> int:
    """Transcribe recordings one after the other; one that fails doesn't stop the others. Prints paths of results.

    Args:
        mine: this machine's inventory.
        target: the receiver's folder.

    Returns:
        0, or the first of :data:`SEVERE` that a recording ended with.

    Raises:
        LoaderError: a recording can't be opened, something is asked that the bundle can't do, or the engine went away.
    """
    for recording in recordings:
        _require_recording(recording)
    template = _template(mine, target)
    planned_stages(template, asked, workflow=SUBTITLE, threads=1)  # what can't be done is said before anything is
    jobs, codes = target / "jobs", set()
    sweep_jobs(jobs)
    for number, recording in enumerate(recordings, 1):
        try:
            codes.add(_one(engine, mine, template, jobs, recording, asked, sandbox, f"{number}/{len(recordings)}"))
        except LoaderError as error:
            if len(recordings) == 1 or error.code == 3:  # of this machine: the others would fail too
                raise
            say(f"error: {error.what}")
            for line in error.detail:
                say(f"  | {line}")
            codes.add(error.code)
    return next((code for code in SEVERE if code in codes), 0)


def _require_recording(recording: Path) -> None:
    """Raises LoaderError: no file, not a regular file, empty, or not to be read."""
    name = shown(str(recording))
    try:
        found = recording.stat()
    except OSError as error:
        raise LoaderError(2, f"{name}: {error.strerror}", "check the path: --run FILE...") from None
    if not stat.S_ISREG(found.st_mode):
        raise LoaderError(2, f"{name} is not a regular file", "name the recordings in it: --run FILE...")
    if not found.st_size:
        raise LoaderError(2, f"{name} is empty (zero bytes)", "check the recording")
    if not os.access(recording, os.R_OK):
        raise LoaderError(2, f"{name} can't be read", "check its permissions")


def _template(mine: Inventory, target: Path) -> dict[str, Any]:
    """The job that the bundle brought for its example: all stages, with their settings and models."""
    try:
        template = json.loads((target / mine["acceptance"]["job"]).read_bytes())
        if not {"demux", "asr", "subtitles"} <= {stage["name"] for stage in template["stages"]}:
            raise KeyError("stages")
        ways_of(template)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoaderError(
            3, f"the job of the example is not whole ({error})", "run load.py again, in the bundle's folder"
        ) from None
    return template  # type: ignore[no-any-return]


def _one(
    engine: EngineSocket,
    mine: Inventory,
    template: Mapping[str, Any],
    jobs: Path,
    recording: Path,
    asked: JobAsked,
    sandbox: Sandbox,
    place: str,
) -> int:
    """Make and run the job of one recording; 0, or 8 when it is done in part."""
    say(f"{shown(recording.name)} ({place})")
    began = time.monotonic()
    folder, job = make_job(engine, mine, template, jobs, recording, asked, sandbox)
    try:
        lost = run_job(
            engine,
            stage_images(mine),
            job,
            folder,
            say,
            sandbox=sandbox,
            memory=mine.get("memory", {}),
            on_status=DISPLAY.status,
        )
    except KeyboardInterrupt:
        say(f"interrupted; the job's folder is {folder}: docker compose up in it runs it again")
        raise
    for path in results_of(folder):
        print(shown(f"{folder}/{path}"), flush=True)
    if lost:
        say(f"done without {' and '.join(lost)} in {clock(time.monotonic() - began)}; the job's folder is {folder}")
        return 8
    say(f"done in {clock(time.monotonic() - began)}")
    return 0


def make_job(
    engine: EngineSocket,
    mine: Inventory,
    template: Mapping[str, Any],
    jobs: Path,
    recording: Path,
    asked: JobAsked,
    sandbox: Sandbox,
) -> tuple[Path, dict[str, Any]]:
    """The folder of a new job and what its job.yaml says: whole, with its compose.yaml, or not there at all.

    Raises:
        LoaderError: the recording can't be used (2), or a container fails.
    """
    images = stage_images(mine)
    name = recording.name.encode("utf-8", "replace").decode()
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    id_ = job_id(created, name, secrets.token_hex(2))
    folder = jobs / f"{NEW}{os.getpid()}-{id_}"
    try:
        make_parts(folder)
        inside = folder / "input" / f"01{input_suffix(name)}"
        length = recording.stat().st_size
        _require_room(folder, length)
        digest, size = copied(recording, inside, Percent(length, "copying the recording"))
        bits = readers([recording], folder.stat().st_gid)
        inside.chmod(file_mode(0o644, bits))
        video, seconds = probe(engine, images["demux"], folder, inside, shown(name), sandbox=sandbox)
        film = TRANSLATE if asked.to else SUBTITLE
        workflow = asked.workflow or (film if video else TRANSCRIBE)
        _require_room(folder, sound_bytes(size, seconds) + (0 if workflow == TRANSCRIBE else size))
        stages = planned_stages(template, asked, workflow=workflow, threads=min(cores(), engine.cpus, MOST_THREADS))
        if asked.diarization and (voices := _voices(mine, jobs.parent)):
            stages = knowing(stages, voices)
            write_voices(folder, voices)
        _write_terms(folder, asked, bits)
        entry = {
            **template["inputs"][0],
            "id": "01",
            "name": name,
            "path": f"input/{inside.name}",
            "sha256": digest,
            "size": size,
            "output": output_stem(name, set()),
            "clip": None,
            "duration": seconds,
        }
        job = {
            **recipe(template),
            "id": id_,
            "created": created,
            "workflow": workflow,
            "mode": "docker-cpu",
            "key": key_of([(name, digest, None)], stages, workflow),
            "inputs": [entry],
            "stages": stages,
        }
        write_job(folder, job)
        services = {}
        for stage in stages:
            wish = mine.get("memory", {}).get(stage["name"])
            settings = stage_container(engine, images, job, stage, source=Path(), sandbox=sandbox, memory=wish)
            services[stage["name"]] = service(settings, stage, job)
        write_compose(folder, job, services)
        if os.getuid() != 0:  # else run_job closes it
            folder.chmod(folder_mode(stat.S_IMODE((folder / "work").stat().st_mode), bits))
        with keeping(jobs):  # a later bundle doesn't take the images away
            repositories = {i["stage"]: i["name"].rpartition(":")[0] for i in mine["images"] if i["stage"]}
            keep(engine, jobs, {images[stage["name"]]: repositories[stage["name"]] for stage in stages})
            folder.replace(jobs / id_)
    except BaseException:
        remove_if_there(folder)
        raise
    return jobs / id_, job


def _write_terms(folder: Path, asked: JobAsked, bits: int) -> None:
    """The glossary in a job's folder, if there is one, for who may read the recording."""
    if asked.glossary is not None:
        (folder / TERMS_FILE).write_bytes(asked.glossary)
        (folder / TERMS_FILE).chmod(file_mode(0o644, bits))


def _voices(mine: Inventory, target: Path) -> bytes | None:
    """The known voices that a bundle brought; None where it has none, or they are gone."""
    path = (mine["acceptance"] or {}).get("voices")
    return None if path is None else read_below(target, path, LARGEST_VOICES)


def _require_room(folder: Path, need: int) -> None:
    """Raises LoaderError: a job's folder can't take ``need`` bytes and a few texts."""
    need += TEXTS
    if (free := shutil.disk_usage(folder).free) < need:
        lacks = f"{folder.parent} has {free / 1e6:.0f} MB free; the recording's sound takes up to {need / 1e6:.0f} MB"
        raise LoaderError(3, lacks, "free some space, then run this again")


def cores() -> int:
    """Processor cores of this machine; hyper-threads gain nothing (core/machine.py)."""
    lists = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/core_cpus_list")
    found: set[str] = set()
    with contextlib.suppress(OSError):
        found = {path.read_text() for path in lists}
    return len(found) or os.cpu_count() or 1


def sweep_jobs(jobs: Path) -> None:
    """Remove the folders of jobs that a killed run was making."""
    for folder in jobs.glob(f"{NEW}*"):
        pid = folder.name[len(NEW) :].split("-", 1)[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            remove_if_there(folder)
