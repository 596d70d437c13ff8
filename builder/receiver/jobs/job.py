"""A job as data and as a folder: its stages, its recipe, its compose file (docs/job-format.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.receiver.inventory import CHUNK, LoaderError
from builder.receiver.jobs.kept import COMPOSE
from builder.receiver.jobs.languages import EACH
from builder.receiver.jobs.naming import input_suffix, output_stem
from builder.receiver.jobs.places import remove_tree
from builder.receiver.jobs.terms import TERMS_SETTING, terms_digest
from builder.receiver.jobs.translating import (
    ANY,
    ENGLISH,
    HEARD,
    NEURAL,
    TRANSLATE,
    WAYS,
    Way,
    backends_of,
    backends_text,
    first_backend,
    spare_backends,
    ways_of,
)

SUBTITLE, TRANSCRIBE = "subtitle", "transcribe"
"""Workflows: with and without a film that has the subtitles in it."""

LABEL = "io.whisperbake."
"""How the labels of containers begin."""

MOST_THREADS = 16
"""More gain nothing (core/machine.py)."""

SECOND = 32_000
"""Bytes of a second of the sound that stages exchange, 16 kHz mono WAV."""

LONGEST = 36 * 3600 * SECOND
"""The most sound that demux writes of a recording, in bytes."""

SILENCE = 1800 * SECOND
"""What demux may fill holes with in a recording that doesn't say how long it is (stages/demux/timeline.py)."""


@dataclass(frozen=True)
class JobAsked:
    """What ``load.py --run`` is asked to do with recordings."""

    language: str | None = None
    """Whisper's code; None: it is detected."""
    speakers: int | None = None
    workflow: str | None = None
    """None: subtitles for a film, a transcript for a recording without pictures."""
    diarization: bool = True
    to: tuple[str, ...] = ()
    """Languages that the text is translated into, as Whisper's codes."""
    glossary: bytes | None = None
    """The job's file of terms."""


def planned_stages(
    template: Mapping[str, Any], asked: JobAsked, *, workflow: str, threads: int
) -> list[dict[str, Any]]:
    """The stages of a job, as ``build.py run`` would plan them with these options.

    Args:
        template: the acceptance run's job, which has all stages of a bundle.
        threads: for stages that use several.

    Raises:
        LoaderError: something is asked that the bundle's models or stages can't do.
    """
    known = {stage["name"]: stage for stage in template["stages"]}
    if asked.speakers is not None and not (asked.diarization and "diarize" in known):
        raise LoaderError(2, "--speakers needs diarization", "leave out --no-diarization, or load a bundle that has it")
    left_out = {
        *(() if asked.diarization else ("diarize",)),
        *(("mux",) if workflow == TRANSCRIBE else ()),
        *(() if asked.to else (TRANSLATE,)),
    }
    wishes: dict[str, dict[str, Any]] = {
        "asr": {"language": asked.language},
        "diarize": {"speakers": asked.speakers},
    }
    stages = template["stages"]
    if asked.to:
        told = _translation(template, asked)
        backends = backends_of(told["backends"]).values()
        wishes[TRANSLATE] = told
        wishes["asr"][ENGLISH] = HEARD in backends
        if NEURAL not in backends:
            stages = [{**stage, "models": {}} if stage["name"] == TRANSLATE else stage for stage in stages]
    if asked.glossary is not None:
        if TERMS_SETTING not in known["asr"]["settings"]:
            raise LoaderError(2, "the stages of this bundle know no glossary", "ask the sender for a newer bundle")
        for reader in ("asr", TRANSLATE):
            wishes.setdefault(reader, {})[TERMS_SETTING] = terms_digest(asked.glossary)
    lost = _purposes(template["stages"]) - _purposes(stages)
    planned = []
    for stage in without(stages, left_out, lost):
        settings = {**stage["settings"], **wishes.get(stage["name"], {})}
        if "threads" in settings:
            settings["threads"] = threads
        planned.append({**stage, "settings": settings})
    _require_language(known["asr"]["models"]["asr"], asked.language)
    return planned


def without(
    stages: Sequence[Mapping[str, Any]], left_out: Collection[str], lost: Collection[str] = frozenset()
) -> list[dict[str, Any]]:
    """A job's stages without some: no other needs them, and the results name no model of theirs.

    Args:
        left_out: names of stages.
        lost: purposes of models that aren't the job's either.
    """
    kept = [stage for stage in stages if stage["name"] not in left_out]
    names = {stage["name"] for stage in kept}
    lost = {*lost, *(_purposes(stages) - _purposes(kept))}
    return [
        {
            **stage,
            "needs": [need for need in stage["needs"] if need in names],
            "settings": _unnamed(stage["settings"], lost) if stage["name"] == "subtitles" else stage["settings"],
        }
        for stage in kept
    ]


def _purposes(stages: Sequence[Mapping[str, Any]]) -> set[str]:
    return {purpose for stage in stages for purpose in stage["models"]}


def _unnamed(settings: Mapping[str, Any], lost: Collection[str]) -> dict[str, Any]:
    """The settings of the stage whose results say which models were used."""
    models = settings.get("models", {})
    return {**settings, "models": {purpose: model for purpose, model in models.items() if purpose not in lost}}


def _translation(template: Mapping[str, Any], asked: JobAsked) -> dict[str, Any]:
    """The settings that say into what is translated, and by whom (core/translation.py, ``settle``).

    Raises:
        LoaderError: the bundle doesn't translate what is asked.
    """
    known = [stage["settings"] for stage in template["stages"] if stage["name"] == TRANSLATE]
    ways = ways_of(template)
    if not known or not ways:
        raise LoaderError(
            2, "nothing in this bundle translates", "ask the sender for one with the image translate: docs/air-gap.md"
        )
    spoken = None if asked.language == EACH else asked.language
    wished, backends = backends_of(known[0]["backends"]), {}
    for target in asked.to:
        backend = first_backend(spoken, target, ways, wished.get(target))
        if backend is None or target == spoken:
            raise _untranslatable(spoken, target, ways)
        backends[target] = backend
    others = known[0]["others"]
    if others is None and (spare := spare_backends(spoken, backends, ways)):
        others = backends_text(spare)
    return {"to": ",".join(backends), "backends": backends_text(backends), "others": others}


def _untranslatable(spoken: str | None, target: str, ways: Sequence[Way]) -> LoaderError:
    """The error of a pair that a bundle doesn't have."""
    if target == spoken:
        return LoaderError(2, f"{target} is what is spoken", "another --translate")
    there = [way for way in ways if way.source in (ANY, spoken) and way.target != spoken]
    names = ", ".join(dict.fromkeys(f"{way.target} ({way.backend})" for way in there)) or "nothing"
    unheard = spoken is None and any(way.target == target for way in ways)
    return LoaderError(
        2,
        f"nothing in this bundle translates {spoken or 'a language that is to be detected'} into {target}",
        "--language says which language is spoken" if unheard else "another --translate",
        [f"from {spoken or 'any language'} it translates into {names}"],
    )


def _require_language(model: Mapping[str, Any], language: str | None) -> None:
    """Raises LoaderError when the bundle's model doesn't know a language."""
    if language is not None and model["languages"] and language not in model["languages"]:  # or EACH: it knows few
        raise LoaderError(
            2,
            f"the bundle's model {model['id']} knows {', '.join(model['languages'])}, not {language}",
            "ask the sender for a bundle with a model of many languages, such as --preset balanced",
        )


def copied(recording: Path, target: Path, on_bytes: Callable[[int], None] = lambda _: None) -> tuple[str, int]:
    """Copy a recording; the hex sha256 and the bytes of what was copied."""
    digest, size = hashlib.sha256(), 0
    with recording.open("rb") as source, target.open("wb") as out:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            out.write(chunk)
            on_bytes(len(chunk))
    return digest.hexdigest(), size


def sound_bytes(size: int, seconds: float | None) -> int:
    """Bytes of a recording's sound as WAV, at most: ten times a compressed file, more where a few bytes last for hours.

    Args:
        size: bytes of the recording.
        seconds: that it lasts by its header; None: it doesn't say.
    """
    return min(max(size * 10, SILENCE if seconds is None else round(seconds * SECOND)), LONGEST)


def make_parts(folder: Path) -> None:
    """A job's empty folder, closed to others."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    for part in ("input", "work", "output", "logs"):
        (folder / part).mkdir()
    (folder / "events.jsonl").touch()


VOICES, LARGEST_VOICES = "input/voices.json", 4 << 20
"""A job's file of known voices, and its bytes at most; its stage has the file's digest (docs/job-format.md)."""


def knowing(stages: Sequence[Mapping[str, Any]], voices: bytes | None) -> list[dict[str, Any]]:
    """A job's stages, of which one is told whose voices it may know.

    Args:
        voices: the file; None: nobody's.
    """
    digest = None if voices is None else hashlib.sha256(voices).hexdigest()
    return [
        {**stage, "settings": {**stage["settings"], "voices": digest}}
        if stage["name"] == "diarize" and digest
        else {**stage}
        for stage in stages
    ]


def write_voices(folder: Path, voices: bytes) -> None:
    """The file in a job's folder, for its owner alone."""
    (folder / VOICES).touch(mode=0o600)
    (folder / VOICES).write_bytes(voices)


def write_job(folder: Path, job: Mapping[str, Any]) -> None:
    """job.yaml; JSON is YAML."""
    (folder / "job.yaml").write_text(
        json.dumps(job, indent=1, ensure_ascii=not _readable(job)) + "\n", encoding="utf-8"
    )


def _readable(job: Mapping[str, Any]) -> bool:
    return all(entry["name"].isprintable() for entry in job["inputs"])


def new_job(template: Path, recording: Path, name: str, folder: Path) -> dict[str, Any]:
    """A job folder like the template's, for another recording (docs/job-format.md); what its job.yaml says."""
    job = recipe(json.loads(template.read_bytes()))
    if folder.exists():
        remove_tree(folder)
    make_parts(folder)
    path = f"input/01{input_suffix(recording.name)}"
    digest, size = copied(recording, folder / path)
    entry = {**job["inputs"][0], "name": name, "path": path, "sha256": digest, "size": size}
    job |= {
        "id": folder.name,
        "inputs": [{**entry, "output": output_stem(name, set()), "clip": None, "duration": None}],
        "stages": without(job["stages"], {TRANSLATE}),  # the example's text stays what was said
    }
    write_job(folder, job)
    return job


def recipe(template: Mapping[str, Any]) -> dict[str, Any]:
    """What of a template belongs into job.yaml."""
    return {key: value for key, value in template.items() if key != WAYS}


def compose_text(job: Mapping[str, Any], services: Mapping[str, Mapping[str, Any]]) -> str:
    """compose.yaml as JSON, which is YAML; the builder writes the same from compose/job.yaml.j2."""
    project = {"name": f"whisperbake-{job['id']}", "services": services}
    text = json.dumps(project, indent=1, ensure_ascii=True).replace(
        "$", "$$"
    )  # compose expands variables in every value
    return f"# Job {job['id']}. In this folder: docker compose up\n{text}\n"


def write_compose(folder: Path, job: Mapping[str, Any], services: Mapping[str, Mapping[str, Any]]) -> None:
    (folder / COMPOSE).write_text(compose_text(job, services), encoding="utf-8")


def service(container: Mapping[str, Any], stage: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's service in compose.yaml.

    Args:
        container: what the engine's API would be given for the stage, with mounts relative to the job's folder.
    """
    host = container["HostConfig"]
    optional = {s["name"] for s in job["stages"] if s.get("optional")}
    needs = {n: {"condition": "service_completed_successfully", "required": n not in optional} for n in stage["needs"]}
    return {
        "image": container["Image"],
        "pull_policy": "never",
        "command": container["Cmd"],
        "user": container["User"],
        "network_mode": host["NetworkMode"],
        "read_only": host["ReadonlyRootfs"],
        "cap_drop": host["CapDrop"],
        "security_opt": host["SecurityOpt"],
        "pids_limit": host["PidsLimit"],
        "cpus": host["CpuQuota"] / host["CpuPeriod"],
        "mem_limit": host["Memory"],
        "memswap_limit": host["MemorySwap"],
        "tmpfs": [f"{path}:{options}" for path, options in host["Tmpfs"].items()],
        "restart": "no",
        "stop_grace_period": "5s",
        "logging": {"driver": host["LogConfig"]["Type"], "options": host["LogConfig"]["Config"]},
        "environment": dict(pair.split("=", 1) for pair in container["Env"]),
        "volumes": [
            {
                "type": "bind",
                "source": mount["Source"],
                "target": mount["Target"],
                "read_only": mount["ReadOnly"],
                "bind": {"create_host_path": False},
            }
            for mount in host["Mounts"]
        ],
        "labels": container["Labels"],
        **({"depends_on": needs} if needs else {}),
    }
