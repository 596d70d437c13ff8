"""What a job needs of this machine, looked at one by one; for ``doctor``."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping

from builder.core.config.types import Config
from builder.edges.machine import environment as native
from builder.edges.system import files
from builder.edges.weights.store import Store

Finding = tuple[str, bool, str, str]
"""Name, whether it is well, what was found, what to do."""


def look(config: Config, env: Mapping[str, str]) -> tuple[Finding, ...]:
    """The findings; nothing is changed, nothing is fetched."""
    place = next(p for p in (config.home, *config.home.parents) if p.exists())
    free = files.free_bytes(place)
    python = native.ready(config, tuple(config.stages.values()))
    store = Store(config.paths.models)
    preset = config.presets[config.defaults.preset]
    wanted = [ids[0] for ids in preset.models.values() if ids[0] in config.pins]
    lacking = [i for i in wanted if store.missing(config.models[i], config.pins[i])]
    unpinned = [i for ids in preset.models.values() for i in ids[:1] if i not in config.pins]
    version = platform.python_version()
    return (
        ("Python", sys.version_info >= (3, 10), version, "3.10 or later"),
        ("state folder", os.access(place, os.W_OK), str(config.home), "--home DIR, or BAKE_HOME"),
        ("disk", free > 2_000_000_000, f"{free / 1e9:.1f} GB free", "2 GB for environment and models"),
        ("native environment", python is not None, "ready" if python else "not made yet", "build.py bootstrap"),
        (
            "models",
            not lacking,
            ", ".join(lacking) + " missing" if lacking else f"preset {preset.id} is there",
            "models fetch",
        ),
        ("pins", not unpinned, ", ".join(unpinned) + " unpinned" if unpinned else "all pinned", "models lock"),
        ("token", True, "HF_TOKEN is set" if env.get("HF_TOKEN") else "none; only gated models need one", ""),
    )
