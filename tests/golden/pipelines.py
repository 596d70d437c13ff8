"""The fixed project's pipelines."""

from __future__ import annotations

import dataclasses

from builder.core.images import ci as pipeline
from builder.core.images import plan
from tests.golden import project

MONTHLY = "0 4 1 * *"

CASES: dict[str, tuple[str, str, str | None, str | None]] = {
    "github": ("github", "docker-cpu-slim", None, None),
    "github-own-registry": ("github", "docker-gpu-slim", "registry.example:5000/speech", MONTHLY),
    "gitlab": ("gitlab", "docker-cpu-slim", None, None),
    "gitlab-own-registry": ("gitlab", "docker-gpu-slim", "registry.example:5000/speech", MONTHLY),
}


def rendered(
    service: str,
    case: str,
    registry: str | None,
    schedule: str | None = None,
    *,
    gated: bool = False,
    folder: str = "rendered",
) -> str:
    """A pipeline for a case of :mod:`tests.golden.project`; ``gated``: as if its models were."""
    mode, variant, base, _ = project.CASES[case]
    settings = project.read({"mode": mode.value, "variant": variant.value})
    chosen = [(dataclasses.replace(model, gated=gated), pin) for model, pin in project.models(settings)]
    made = plan.plan(settings, locks=project.LOCKS, base=base, models=chosen)
    choice = f"--mode {mode.value} --variant {variant.value} --preset starter"
    command = f"python3 build.py ci {service} {choice} --rendered {folder} --out {pipeline.KINDS.get(service)}"
    return pipeline.pipeline(
        service,
        made,
        project.templates(),
        command=command,
        choice=choice,
        folder=folder,
        registry=registry,
        schedule=schedule,
    )
