"""A batch as one Indexed Job of Kubernetes 1.31 or later: what its manifests have. Pure.

Begin and the stages are init containers of a pod, in this order; the main container publishes what they made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.core.batch import rendering
from builder.core.batch.rendering import RenderedBatch, StepNeeds
from builder.core.config.defaults import COMPONENT
from builder.core.images.render import ENTRY
from builder.core.images.weights.image import MOUNTED
from builder.core.jobs.compose import weights_variables
from builder.core.quoting import environment
from builder.core.terms import LABEL
from builder.errors import ConfigError, UsageError

FILES = ("job.yaml", "network-policy.yaml", "kustomization.yaml")
"""The manifests; ``templates/batch/kubernetes/`` has a template for each."""

MOST_COMPLETIONS = 100_000
"""Indexes of one Job, with a limit of retries for each: Kubernetes' own validation."""

RETRIES = 3
"""How often a shard is tried again after a machine's fault."""

KEPT = 7 * 24 * 3600
"""Seconds that a finished Job and its pods' logs stay."""

GRACE = 30
"""Seconds from SIGTERM to SIGKILL: what a node program is promised."""

ASIDE = (0.5, 512 << 20)
"""Processors and bytes of memory of the node program itself."""

MAIN = "publish"
BEGIN = "begin"

SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
"""Names of claims."""

DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""Names of namespaces and queues."""

REFERENCE = re.compile(
    rf"[a-zA-Z0-9][a-zA-Z0-9.-]*(:[0-9]+)?(/{COMPONENT})+(:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?@sha256:[0-9a-f]{{64}}"
)
"""An image whose bytes nobody can exchange."""


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Where pods find a folder: a claim, or a path of every node."""

    claim: str = ""
    path: str = ""
    """In the claim (without a slash in front; empty: all of it), or of the nodes."""


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """What is to be told of the cluster, checked."""

    batch: Volume
    """The batch's folder."""
    input: Volume
    """The recordings' root."""
    user: tuple[int, int] = (65532, 65532)
    """Uid and gid of all containers."""
    namespace: str = ""
    queue: str = ""
    """Kueue's LocalQueue; empty: the Job is not queued."""
    weights: str = ""
    """Reference of an image that has weights below /models; empty: each stage's image has its own."""


def volume(text: str, *, where: str) -> Volume:
    """Parse ``CLAIM`` or ``CLAIM/FOLDER``.

    Raises:
        UsageError: not a claim's name, or a folder that leads out of it.
    """
    claim, _, path = text.partition("/")
    if not SUBDOMAIN.fullmatch(claim) or len(claim) > 253:
        raise UsageError(f'"{text}" names no claim', where=where, expected="CLAIM, or CLAIM/FOLDER for a folder in it")
    if {"", ".", ".."} & set(path.strip("/").split("/")) and path.strip("/"):
        raise UsageError(f'"{path}" is not a folder of a claim', where=where, expected="CLAIM/FOLDER without ..")
    return Volume(claim=claim, path=path.strip("/"))


def require_label(text: str, *, where: str) -> str:
    """A name as Kubernetes takes it.

    Raises:
        UsageError: it has another form.
    """
    if not DNS_LABEL.fullmatch(text):
        raise UsageError(f'"{text}" is not a name of Kubernetes', where=where, expected="a-z, 0-9 and -, at most 63")
    return text


def require_reference(text: str, *, where: str) -> str:
    """A reference by digest.

    Raises:
        UsageError: it names no digest, or has another form.
    """
    if not REFERENCE.fullmatch(text):
        raise UsageError(
            f'"{text}" is not an image by digest', where=where, expected="HOST/PATH@sha256:…, as push prints the digest"
        )
    return text


def render(batch: RenderedBatch, options: ClusterOptions, templates: Mapping[str, str]) -> dict[str, str]:
    """The manifests by file name.

    Raises:
        UsageError: there are more shards than one Job can have.
        ConfigError: a path that no manifest can have.
    """
    if len(batch.shards) > MOST_COMPLETIONS:
        raise UsageError(
            f"one Job has at most {MOST_COMPLETIONS} shards, and these are {len(batch.shards)}",
            hint="batch plan with more --shard-minutes, or --first",
        )
    templating = environment(templates, text=text)
    known = context(batch, options)
    return {name: templating.get_template(f"batch/kubernetes/{name}.j2").render(known) for name in FILES}


def context(batch: RenderedBatch, options: ClusterOptions) -> dict[str, Any]:
    """What the templates know."""
    aside = (f"{int(ASIDE[0] * 1000)}m", rendering.mebibytes(ASIDE[1]))
    return {
        "batch": batch,
        "options": options,
        "name": job_name(batch),
        "label": f"{LABEL}batch",
        "retries": RETRIES,
        "kept": KEPT,
        "grace": GRACE,
        "final": rendering.FINAL,
        "user": options.user,
        "sizes": {
            "scratch": rendering.mebibytes(batch.disk),
            "tmp": rendering.mebibytes(rendering.tmpfs_bytes()),
        },
        "begin": program(batch, "begin"),
        "publish": program(batch, "publish"),
        "aside": {"cpu": aside[0], "memory": aside[1]},
        "image": batch.steps[0].image,
        "steps": [_step(step, batch, options) for step in batch.steps],
        "weights": MOUNTED,
    }


def program(batch: RenderedBatch, half: str) -> list[str]:
    """The node program's half, as a container's command."""
    return [
        *ENTRY,
        f"/code/{rendering.NODE}",
        half,
        "/batch",
        *("--first", str(batch.first)),
        *("--steps", "/code/steps.json"),
        *("--input", "/input"),
        *("--results", "/results"),
        *("--scratch", "/scratch"),
    ]


def _step(step: StepNeeds, batch: RenderedBatch, options: ClusterOptions) -> dict[str, Any]:
    """A stage's container."""
    variables = {"OMP_NUM_THREADS": str(step.threads)}
    if options.weights and step.models:
        variables |= weights_variables()
    return {
        "name": step.stage,
        "image": step.image,
        "variables": variables,
        "cpu": str(step.threads),
        "request": rendering.mebibytes(step.request),
        "limit": rendering.mebibytes(step.limit),
        "gpus": batch.gpus if step.gpu else 0,
        "weights": bool(options.weights) and step.models,
    }


def job_name(batch: RenderedBatch) -> str:
    """The Job's name; another for other shards, so that a retry stands beside what was there."""
    return f"whisperbake-{batch.name}-{batch.first}"


def text(value: str) -> str:
    """Any text in YAML's double quotes.

    Raises:
        ConfigError: bytes that are not text (a path that isn't UTF-8).
    """
    signs = []
    for char in value:
        if char in '"\\':
            signs.append(f"\\{char}")
        elif char.isprintable():
            signs.append(char)
        elif 0xD800 <= ord(char) < 0xE000:
            raise ConfigError(f"{value!r} is not UTF-8, and can't stand in a manifest", expected="a path of UTF-8 text")
        else:
            signs.append(f"\\U{ord(char):08x}")
    return f'"{"".join(signs)}"'
