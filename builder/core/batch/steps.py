"""steps.json: what a node starts for each stage of a shard, as :mod:`builder.node` reads it. Pure.

Words may have ``{scratch}``, ``{list}``, ``{pid}`` and ``{run}``, which the node fills in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from builder.core.images.weights.image import MOUNTED
from builder.core.jobs.compose import weights_variables
from builder.core.jobs.job import JobStage
from builder.core.jobs.sandbox import RIGHTS
from builder.core.stage_env import stage_environment
from builder.errors import ConfigError

FILE = "steps.json"

SCHEMA = 1

JOBS = "/jobs"
"""Where a container sees the jobs of its shard."""

HELD = ("HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
"""Variables of the caller that rootless podman finds its images and its sockets by."""


def text(job: Mapping[str, Any], models: Mapping[str, str], steps: Sequence[Mapping[str, Any]]) -> str:
    """steps.json.

    Args:
        job: the template of batch.yaml.
        models: id -> digest.
        steps: of one of the functions below.
    """
    data = {"schema": SCHEMA, "job": dict(job), "models": dict(models), "steps": [dict(step) for step in steps]}
    return json.dumps(data, indent=1, sort_keys=True) + "\n"


def native(
    stages: Sequence[JobStage],
    *,
    python: str,
    apart: Mapping[str, str],
    code: str,
    models: str,
    libraries: str = "",
    cache: str = "",
) -> list[dict[str, Any]]:
    """Steps as processes of an environment that nodes see at the same path as this machine.

    Args:
        python: the environment's interpreter.
        apart: interpreters of stages that have an environment of their own.
        code: the folder ``stages`` of the project.
        models: the tree of weights.
        libraries: of CUDA in the environment: folders with ``:`` between them.
        cache: the folder of CUDA's cache; empty: its own default.
    """
    return [
        {
            "stage": stage.name,
            "argv": [_word(apart.get(stage.name, python)), _word(f"{code}/{stage.name}/main.py"), "--jobs", "{list}"],
            "env": {
                **stage_environment(models=_word(models), scratch="{scratch}/home", threads=threads(stage), inherit={}),
                **({"LD_LIBRARY_PATH": _word(libraries)} if libraries else {}),
                **({"CUDA_CACHE_PATH": _word(cache)} if cache else {}),
                "BAKE_PARENT": "{pid}",
            },
        }
        for stage in stages
    ]


def podman(
    stages: Sequence[JobStage], *, images: Mapping[str, str], pull: bool, models: str, weights: str = ""
) -> list[dict[str, Any]]:
    """Steps in containers of rootless podman: with the rights that compose.yaml gives, without cgroups of their own.

    The engine that runs the shard limits its memory and processors, and has no cgroup to give to podman.

    Args:
        images: stage -> reference or id.
        pull: an image that a node lacks comes from its registry; else it is an error.
        models: the tree of weights on nodes; empty where images have theirs inside.
        weights: reference of an image with weights, by digest, which is mounted in place of that tree. Nodes need it already
            (``podman pull``): Podman before 5 fetches no image for a mount.
    """
    return [_container(stage, images[stage.name], pull=pull, models=models, weights=weights) for stage in stages]


def _container(stage: JobStage, image: str, *, pull: bool, models: str, weights: str) -> dict[str, Any]:
    name, (uid, gid) = f"whisperbake-{{run}}-{stage.name}", RIGHTS.user_beside_root.split(":")
    options = [
        *("--name", name),
        *("--pull", "missing" if pull else "never"),
        *("--network", RIGHTS.network),
        *(["--read-only", "--read-only-tmpfs=false"] if RIGHTS.read_only else []),
        *("--tmpfs", RIGHTS.tmpfs),
        *(word for each in RIGHTS.cap_drop for word in ("--cap-drop", each)),
        *(word for each in RIGHTS.security for word in ("--security-opt", each)),
        *("--cgroups", "disabled", "--log-driver", "none", "--http-proxy=false"),
        # Who runs podman is nobody's user in there: images say who they run as, and that is nobody out here.
        *("--userns", f"keep-id:uid={uid},gid={gid}", "--user", RIGHTS.user_beside_root),
        *(["--device", "nvidia.com/gpu=all"] if stage.settings.get("device") == "cuda" else []),
        *("--mount", f"type=bind,source={{scratch}}/jobs,target={JOBS}"),
        *(_weights(models, weights) if stage.models else ()),
        *("--env", f"OMP_NUM_THREADS={threads(stage)}"),
    ]
    return {
        "stage": stage.name,
        "argv": ["podman", "run", "--rm", *options, _word(image), "--jobs", f"{JOBS}/list"],
        "env": {},
        "inherit": list(HELD),
        "end": ["podman", "rm", "--force", "--ignore", "--time", "0", name],
    }


def _weights(models: str, weights: str) -> list[str]:
    """How a stage gets weights that its image doesn't have. An image is mounted read-only unless podman is told otherwise."""
    if weights:
        variables = [word for name, value in weights_variables().items() for word in ("--env", f"{name}={value}")]
        return ["--mount", f"type=image,source={weights},destination={MOUNTED}", *variables]
    return ["--mount", f"type=bind,source={_csv(models)},target=/models,readonly"] if models else []


def kubernetes(stages: Sequence[JobStage]) -> list[dict[str, Any]]:
    """Steps that the pod's containers are: a node program has nothing to start."""
    return [{"stage": stage.name, "argv": [], "env": {}} for stage in stages]


def threads(stage: JobStage) -> int:
    """Processor threads that a stage computes with."""
    return int(stage.settings.get("threads") or 1)


def _word(value: str) -> str:
    """A word that the node takes as it is.

    Raises:
        ConfigError: it isn't text, or has braces, in which the node fills in its own.
    """
    if "\0" in value or any(0xD800 <= ord(char) < 0xE000 for char in value):
        raise ConfigError(f"{value!r} is not UTF-8, and can't stand in {FILE}", expected="a path of UTF-8 text")
    if any(f"{{{name}}}" in value for name in ("scratch", "list", "pid", "run")):
        raise ConfigError(f"{value!r} has what the node program fills in", where=FILE, expected="a path without braces")
    return value


def _csv(path: str) -> str:
    """A path in podman's ``--mount``, which is CSV.

    Raises:
        ConfigError: it has a sign that CSV has for itself.
    """
    if set(path) & set(',"\n\r'):
        raise ConfigError(f"{path!r} can't be mounted by podman", expected="a path without commas and quotes")
    return _word(path)
