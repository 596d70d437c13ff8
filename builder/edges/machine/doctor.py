"""What a job needs from this machine, checked one by one; for ``doctor``."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from builder.core.config.types import Config
from builder.edges.machine import environment as native
from builder.edges.system import files
from builder.edges.weights import access
from builder.edges.weights.store import Store
from builder.errors import ConfigError
from builder.program import command


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check."""

    name: str
    ok: bool
    note: str
    """What the check saw."""
    hint: str
    """What to do when it isn't well."""


def inspect(config: Config, env: Mapping[str, str]) -> tuple[Finding, ...]:
    """The findings. Changes nothing, fetches nothing."""
    return (
        Finding(name="Python", ok=sys.version_info >= (3, 10), note=platform.python_version(), hint="3.10 or later"),
        *_disk(config),
        _environment(config),
        *_models(config),
        _token(config, env),
    )


def _token(config: Config, env: Mapping[str, str]) -> Finding:
    try:
        token = access.find_token(env, config.home)
    except ConfigError as error:
        return Finding(name="token", ok=False, note=f"{error.what} ({error.where})", hint=error.hint or "")
    note = f"of {token.source}" if token else "none; only gated models need one"
    return Finding(name="token", ok=True, note=note, hint="")


def _disk(config: Config) -> tuple[Finding, Finding]:
    folder = next(p for p in (config.home, *config.home.parents) if p.exists())
    free = files.free_bytes(folder)
    return (
        Finding(
            name="state folder", ok=os.access(folder, os.W_OK), note=str(config.home), hint="--home DIR, or BAKE_HOME"
        ),
        Finding(
            name="disk",
            ok=free > 2_000_000_000,
            note=f"{free / 1e9:.1f} GB free",
            hint="2 GB for environment and models",
        ),
    )


def _environment(config: Config) -> Finding:
    stages = config.together
    python = native.ready(config, stages, cuda=True) or native.ready(config, stages)
    return Finding(
        name="native environment",
        ok=python is not None,
        note="ready" if python else "not made yet",
        hint=command("bootstrap"),
    )


def _models(config: Config) -> tuple[Finding, Finding]:
    """The preset's models in the store, and their pins."""
    store = Store(config.paths.models)
    preset = config.presets[config.defaults.preset]
    named = [ids[0] for ids in preset.models.values() if ids]
    first = [*named, *(other for i in named if (other := config.models[i].companion) is not None)]
    lacking = [i for i in first if i in config.pins and store.missing(config.models[i], config.pins[i])]
    unpinned = [i for i in first if i not in config.pins]
    return (
        Finding(
            name="models",
            ok=not lacking,
            note=", ".join(lacking) + " missing" if lacking else f"preset {preset.id} is there",
            hint="models fetch",
        ),
        Finding(
            name="pins",
            ok=not unpinned,
            note=", ".join(unpinned) + " unpinned" if unpinned else "all pinned",
            hint="models lock",
        ),
    )
