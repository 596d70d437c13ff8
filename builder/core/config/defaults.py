"""What the project's files say, changed by the environment and by flags: default < bake.yaml < ``BAKE_*`` < flag.

Without pydantic: a command whose project was checked before doesn't need it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from builder.core import languages
from builder.core.config.types import Config, Defaults, Preset, ProjectFiles
from builder.core.terms import Mode, Variant, Workflow
from builder.errors import UsageError, did_you_mean

GPU_DRIVERS = ("nvidia", "cdi")
"""What ``gpu_driver`` may be."""

COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
"""One part of a repository's name (OCI distribution specification, "Pulling manifests")."""

NAME = re.compile(rf"(?:[a-zA-Z0-9.-]+:\d+/)?{COMPONENT}(?:/{COMPONENT})*")
TAGGED = re.compile(rf"{NAME.pattern}:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}")

ENVIRONMENT = {
    "BAKE_MODE": "mode",
    "BAKE_VARIANT": "variant",
    "BAKE_PRESET": "preset",
    "BAKE_WORKFLOW": "workflow",
    "BAKE_LANGUAGE": "language",
    "BAKE_DIARIZATION": "diarization",
    "BAKE_REGISTRY": "registry",
    "BAKE_SOURCES": "sources",
    "BAKE_GPU_DRIVER": "gpu_driver",
}
"""Variables that override ``defaults``."""

PLACES = {"BAKE_HOME", "BAKE_JOBS", "BAKE_MODELS", "BAKE_SECRETS"}
"""Variables that say where things are; BAKE_MODELS is the stages' own, BAKE_SECRETS the file with the hub's token."""


def state_folder(root: Path, env: Mapping[str, str], home: Path | None = None) -> Path:
    """``--home``, BAKE_HOME, or .bake beside bake.yaml."""
    return home or (Path(env["BAKE_HOME"]) if env.get("BAKE_HOME") else root / ".bake")


def configure(
    project: ProjectFiles,
    *,
    root: Path,
    env: Mapping[str, str],
    home: Path | None = None,
    overrides: Mapping[str, object],
) -> Config:
    """The configuration of one command.

    Args:
        overrides: flags by the name of a field of :class:`Defaults`.

    Raises:
        UsageError: a default, a variable or a flag is wrong; with what it can be, and the close match.
    """
    return Config(
        root=root,
        home=state_folder(root, env, home),
        jobs=Path(env["BAKE_JOBS"]) if env.get("BAKE_JOBS") else root / "jobs",
        defaults=_defaults(project, root, env, overrides),
        presets=project.presets,
        models=project.models,
        pins=project.pins,
        stages=project.stages,
        images=project.images,
        base=project.base,
        network=project.network,
    )


def _defaults(project: ProjectFiles, root: Path, env: Mapping[str, str], overrides: Mapping[str, object]) -> Defaults:
    """Each value is checked, also one that another overrides."""
    values: dict[str, Any] = dict(project.defaults)
    origin = dict(project.origin)
    for name in project.written:
        _check_default(name, values[name], origin[name], project.presets)
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
        workflow=None if workflow is None else Workflow(workflow),
        language=None if language is None else languages.code_of(language),
        diarization=values["diarization"],
        gpu_driver=values["gpu_driver"],
        registry=values["registry"],
        sources=tuple(_beside(root, source, origin["sources"]) for source in values["sources"]),
    )


def _from_environment(env: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    """Field, value and variable of each BAKE_* that overrides a default.

    Raises:
        UsageError: there is no such variable.
    """
    for variable in sorted(env):
        if not variable.startswith("BAKE_") or variable in PLACES or not env[variable]:
            continue
        name = ENVIRONMENT.get(variable)
        if name is None:
            # Compared without the prefix that all share: it would make anything look close.
            known = [v.removeprefix("BAKE_") for v in (*ENVIRONMENT, *sorted(PLACES))]
            close = did_you_mean(variable.removeprefix("BAKE_"), known)
            raise UsageError(
                f"unknown variable {variable}",
                where="environment",
                expected=", ".join([*ENVIRONMENT, "BAKE_HOME", "BAKE_JOBS"]),
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
        "preset": ("a preset", presets),
        "gpu_driver": ("a way to a GPU", GPU_DRIVERS),
    }
    if name in choices:
        what, known = choices[name]
        if value not in known:
            raise UsageError(
                f'"{value}" is not {what}',
                where=where,
                expected=", ".join(known),
                hint=did_you_mean(str(value), known),
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


def _from_text(variable: str, name: str, text: str) -> Any:
    if name == "diarization":
        known = {
            "1": True,
            "true": True,
            "yes": True,
            "on": True,
            "0": False,
            "false": False,
            "no": False,
            "off": False,
        }
        if text.lower() not in known:
            raise UsageError(f"{variable} is {text!r}", where="environment", expected="true or false")
        return known[text.lower()]
    return [p for p in text.split(":") if p] if name == "sources" else text


def is_reference(text: str) -> bool:
    """Docker's grammar of a name without tag: what could be an option or a tag doesn't match."""
    return NAME.fullmatch(text) is not None and len(text) <= 200
