"""A plan as a CI pipeline: check what is rendered, build with a cache in the registry, push; one job an image. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from builder.core.images.plan import Plan, PlannedImage
from builder.core.quoting import environment, name_
from builder.errors import UsageError

KINDS = {"github": ".github/workflows/images.yml", "gitlab": ".gitlab-ci.yml"}
"""Whose pipeline, and where it is kept."""


def path_of(service: str) -> str:
    """Where a service keeps its pipeline.

    Raises:
        UsageError: not one of :data:`KINDS`.
    """
    if service not in KINDS:
        raise UsageError(f'"{service}" is not a CI service known here', expected=" or ".join(KINDS))
    return KINDS[service]


CRON = re.compile(r"[0-9*/,A-Za-z-]+( [0-9*/,A-Za-z-]+){4}")
"""Five fields; what each may be is the service's to say."""


def pipeline(
    kind: str,
    plan: Plan,
    templates: Mapping[str, str],
    *,
    command: str,
    choice: str,
    folder: str,
    registry: str | None,
    schedule: str | None = None,
) -> str:
    """The text of a pipeline.

    Args:
        kind: one of :data:`KINDS`.
        templates: text of ``templates/**/*.j2``, by name.
        command: what writes this file, as it is typed.
        choice: the options that make this plan.
        folder: where the rendered files are committed, relative to the project.
        registry: ``HOST/PREFIX``; None for the one that comes with the service.
        schedule: when images are built anew on today's base, and pins of models compared with the hub, as cron writes it.

    Raises:
        UsageError: another kind, a folder that isn't in the project, no schedule, or a word that would be more than a word.
    """
    path_of(kind)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*", folder):
        raise UsageError(f'"{folder}" is not a folder of the project', where="--rendered", expected="a relative path")
    if schedule is not None and not CRON.fullmatch(schedule):
        raise UsageError(f'"{schedule}" is no schedule', where="--schedule", expected='five fields: "0 4 1 * *"')
    for words in (command, choice):
        if not words.isprintable() or "${{" in words:  # a comment would end; GitHub would compute it
            raise UsageError(f"{words!r} can't stand in a pipeline", expected="one line of text, without ${{")
    return (
        environment(templates)
        .get_template(f"ci/{kind}.yml.j2")
        .render(
            images=[_image(plan, i) for i in plan.images],
            root=plan.base.kind == "debian",
            command=command,
            choice=choice,
            folder=folder,
            registry=registry,
            schedule=schedule,
            gated=any(model.gated for model, _ in plan.models),
        )
    )


def _image(plan: Plan, image: PlannedImage) -> dict[str, Any]:
    """What a job needs to know: names for the service, the tag, and the caches that may have its build stages."""
    return {
        "name": name_(image.name),
        "job": _job(image.name),
        "parent": _job(image.parent) if image.parent else None,
        "tag": image.tag.rpartition("/")[2],
        "cache": _cache(image),
        "from_": [_cache(i) for i in reversed(plan.chain(image))],
    }


def _job(name: str) -> str:
    """GitHub allows letters, digits, ``-`` and ``_`` in a job's id."""
    return name_(name).replace(".", "_")


def _cache(image: PlannedImage) -> str:
    return f"{image.name}-{image.tag.rpartition(':')[2]}"
