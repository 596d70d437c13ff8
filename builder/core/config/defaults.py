"""What the project's files say, changed by the environment and by flags: default < bake.yaml < ``BAKE_*`` < flag.

Without pydantic: a command whose project was checked before doesn't need it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from builder.core import languages
from builder.core.config import settings as stage_settings
from builder.core.config.presets import AUTO
from builder.core.config.types import Config, Defaults, ImageSpec, Preset, Profile, ProjectFiles
from builder.core.terms import Mode, Variant, Workflow
from builder.errors import UsageError, did_you_mean
from builder.receiver.jobs.languages import code_of

GPU_DRIVERS = ("nvidia", "cdi")
"""What ``gpu_driver`` may be."""

BAKED, MOUNTED = WEIGHTS = ("baked", "mounted")
"""What ``weights`` may be."""

COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
"""One part of a repository's name (OCI distribution specification, "Pulling manifests")."""

NAME = re.compile(rf"(?:[a-zA-Z0-9.-]+:\d+/)?{COMPONENT}(?:/{COMPONENT})*")
TAGGED = re.compile(rf"{NAME.pattern}:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}")

ENVIRONMENT = {
    "BAKE_MODE": "mode",
    "BAKE_VARIANT": "variant",
    "BAKE_PRESET": "preset",
    "BAKE_PROFILE": "profile",
    "BAKE_WORKFLOW": "workflow",
    "BAKE_LANGUAGE": "language",
    "BAKE_DIARIZATION": "diarization",
    "BAKE_REGISTRY": "registry",
    "BAKE_SOURCES": "sources",
    "BAKE_EXTRAS": "extras",
    "BAKE_GPU_DRIVER": "gpu_driver",
    "BAKE_WEIGHTS": "weights",
}
"""Variables that override ``defaults``."""

SETTINGS = "BAKE_SET"
"""The variable with settings of stages: ``asr.beam_size=8 asr.hotwords="Ada Lovelace"``."""

PLACES = {"BAKE_HOME", "BAKE_INSECURE_HOSTS", "BAKE_JOBS", "BAKE_MODELS", "BAKE_PROJECT", "BAKE_SECRETS"}
"""Variables that say where things are, or may go; BAKE_MODELS is the stages' own, BAKE_SECRETS the file with the hub's
token, BAKE_INSECURE_HOSTS names the hosts that may have it over plain HTTP."""


def state_folder(root: Path, env: Mapping[str, str], home: Path | None = None, *, data: Path | None = None) -> Path:
    """``--home``, BAKE_HOME, else .bake beside bake.yaml; where there is no project, ``data``."""
    return home or (Path(env["BAKE_HOME"]) if env.get("BAKE_HOME") else data or root / ".bake")


def configure(
    project: ProjectFiles,
    *,
    root: Path,
    env: Mapping[str, str],
    shipped: Path | None = None,
    home: Path | None = None,
    data: Path | None = None,
    overrides: Mapping[str, object],
) -> Config:
    """The configuration of one command.

    Args:
        shipped: the folder of stages, images…; None for ``root``.
        data: the user's data folder, where there is no project to hold state and jobs.
        overrides: flags by the name of a field of :class:`Defaults`.

    Raises:
        UsageError: a default, a variable or a flag is wrong; with what it can be, and the close match.
    """
    flags = dict(overrides)
    words = flags.pop("settings", ())
    profile = _profile(project, env, flags)
    return Config(
        root=root,
        shipped=shipped or root,
        home=state_folder(root, env, home, data=data),
        jobs=Path(env["BAKE_JOBS"]) if env.get("BAKE_JOBS") else (data or root) / "jobs",
        defaults=_defaults(project, root, env, flags, profile),
        presets=project.presets,
        models=project.models,
        pins=project.pins,
        stages=project.stages,
        images=project.images,
        base=project.base,
        network=project.network,
        apertium=project.apertium,
        settings=stage_settings.together(
            project.settings,
            profile.settings if profile else (),
            stage_settings.from_variable(env.get(SETTINGS, ""), project.stages, variable=SETTINGS),
            stage_settings.from_words(_words(words), project.stages, where="--set"),
        ),
        profiles=project.profiles,
    )


def _words(value: object) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list | tuple) else []


def _profile(project: ProjectFiles, env: Mapping[str, str], overrides: Mapping[str, object]) -> Profile | None:
    """The profile that an option, a variable or bake.yaml names.

    Raises:
        UsageError: there is none of that name.
    """
    places = (
        (overrides.get("profile"), "--profile"),
        (env.get("BAKE_PROFILE"), "BAKE_PROFILE"),
        (project.defaults.get("profile"), project.origin.get("profile", "bake.yaml")),
    )
    for name, where in places:
        if name:
            if name not in project.profiles:
                known = ", ".join(project.profiles) or "none: bake.yaml has no profiles"
                close = did_you_mean(str(name), project.profiles)
                raise UsageError(f'no profile "{name}"', where=where, expected=known, hint=close)
            return project.profiles[str(name)]
    return None


def _defaults(
    project: ProjectFiles,
    root: Path,
    env: Mapping[str, str],
    overrides: Mapping[str, object],
    profile: Profile | None,
) -> Defaults:
    """Each value is checked, also one that another overrides."""
    values: dict[str, Any] = dict(project.defaults)
    origin = dict(project.origin)
    for name in project.written:
        _check_default(name, values[name], origin[name], project.presets)
    for group in project.profiles.values():
        for name, value in group.defaults.items():
            _check_default(name, value, group.origin[name], project.presets)
    if profile is not None:
        values |= profile.defaults
        origin |= profile.origin
    for name, value, where in (*_from_environment(env), *((n, v, f"--{n}") for n, v in overrides.items())):
        _check_default(name, value, where, project.presets)
        values[name], origin[name] = value, where
    for name, value in values.items():
        _check_default(name, value, origin[name], project.presets)
    language, workflow = values["language"], values["workflow"]
    return Defaults(
        mode=Mode(values["mode"]),
        variant=Variant(values["variant"]),
        preset=values["preset"],
        profile=values["profile"],
        workflow=None if workflow is None else Workflow(workflow),
        language=None if language is None else code_of(language),
        diarization=values["diarization"],
        gpu_driver=values["gpu_driver"],
        weights=values["weights"],
        registry=values["registry"],
        sources=tuple(_beside(root, source, origin["sources"]) for source in values["sources"]),
        extras=tuple(_extra(name, project.images, origin["extras"]) for name in values["extras"]),
    )


def _from_environment(env: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    """Field, value and variable of each BAKE_* that overrides a default.

    Raises:
        UsageError: there is no such variable.
    """
    for variable in sorted(env):
        if not variable.startswith("BAKE_") or variable in (*PLACES, SETTINGS) or not env[variable]:
            continue
        name = ENVIRONMENT.get(variable)
        if name is None:
            # Compared without the prefix that all share: it would make anything look close.
            known = [v.removeprefix("BAKE_") for v in (*ENVIRONMENT, SETTINGS, *sorted(PLACES))]
            close = did_you_mean(variable.removeprefix("BAKE_"), known)
            raise UsageError(
                f"unknown variable {variable}",
                where="environment",
                expected=", ".join([*ENVIRONMENT, SETTINGS, "BAKE_HOME", "BAKE_JOBS"]),
                hint=close.replace('"', '"BAKE_', 1) if close else f"unset {variable}",
            )
        yield name, _from_text(variable, name, env[variable]), variable


def _check_default(name: str, value: Any, where: str, presets: Mapping[str, Preset]) -> None:
    """Refuse what a field of ``defaults`` can't be.

    Raises:
        UsageError: with what it can be, and the close match.
    """
    if value is None:
        return
    choices: dict[str, tuple[str, Iterable[str]]] = {
        "mode": ("a mode", [m.value for m in Mode]),
        "variant": ("a variant", [v.value for v in Variant]),
        "workflow": ("a workflow", [w.value for w in Workflow]),
        "preset": ("a preset", (*presets, AUTO)),
        "gpu_driver": ("a way to a GPU", GPU_DRIVERS),
        "weights": ("a place for weights", WEIGHTS),
    }
    if name in choices:
        what, known = choices[name]
        if value not in known:
            raise UsageError(
                f'"{value}" is not {what}',
                where=where,
                expected=", ".join(known),
                hint="one for each job; build, bundle, push and models fetch take several"
                if name == "preset" and "," in str(value)
                else did_you_mean(str(value), known),
            )
    if name == "language":
        languages.require(value, where=where)
    if name == "registry" and not is_reference(value):
        raise UsageError(
            f"\"{value}\" can't stand before an image's name", where=where, expected="host[:port]/path, lower case"
        )


def _beside(root: Path, folder: str, origin: str) -> str:
    """A folder of weights as an absolute path: of bake.yaml relative to it, of the environment as it was given."""
    if not folder or "\0" in folder:
        raise UsageError(f"{folder!r} is not a folder", where=origin)
    return str(root / folder) if origin.startswith("bake.yaml") else folder


def _extra(name: str, images: Mapping[str, ImageSpec], where: str) -> str:
    """An image that is built only where it is named."""
    known = [other for other, spec in images.items() if spec.extra]
    if name not in known:
        raise UsageError(
            f'"{name}" is not an extra image', where=where, expected=", ".join(known), hint=did_you_mean(name, known)
        )
    return name


def _from_text(variable: str, name: str, text: str) -> Any:
    if name == "diarization":
        if text.lower() not in stage_settings.FLAGS:
            raise UsageError(f"{variable} is {text!r}", where="environment", expected="true or false")
        return stage_settings.FLAGS[text.lower()]
    if name == "extras":
        return [part.strip() for part in text.split(",") if part.strip()]
    return [p for p in text.split(":") if p] if name == "sources" else text


def is_reference(text: str) -> bool:
    """Docker's grammar of a name without tag: what could be an option or a tag doesn't match."""
    return NAME.fullmatch(text) is not None and len(text) <= 200
