"""What images stand on: which base, as far as bake.yaml leaves it open."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from builder.core.config.types import BaseSpec, Config
from builder.core.platforms import Platform
from builder.core.progress import OnProgress, Progress
from builder.edges.engine import buildx
from builder.edges.engine import connection as engines
from builder.edges.engine.connection import Engine
from builder.edges.images import rootfs
from builder.errors import SourceError
from builder.receiver.missing import CONTAINERD


def look(config: Config, env: Mapping[str, str], engine: Engine) -> str:
    """What images would stand on, in a few words. Fetches and changes nothing.

    Raises:
        SourceError: the registry can't be reached, and bake.yaml allows nothing else.
        MissingError: it would be Debian's packages, and mmdebstrap is not here.
    """
    base = decide_base(config, env, lambda _: None, engine)
    if base.kind == "registry":
        return f"{base.reference} of its registry"
    rootfs.require_tool()
    return f"Debian {base.suite}'s packages"


def decide_base(
    config: Config,
    env: Mapping[str, str],
    on_progress: OnProgress,
    engine: Engine | None = None,
    *,
    platform: Platform | None = None,
) -> BaseSpec:
    """What images stand on, with its kind decided and the digest that a registry gives.

    Args:
        engine: where the reference may be already.
        platform: another one than the engine's, which has the reference for its own alone.

    Raises:
        SourceError: the registry can't be reached, and bake.yaml allows nothing else.
    """
    spec = config.base
    if spec.kind == "debian":
        return replace(spec, digest="", reference="")
    if spec.digest:
        return replace(spec, kind="registry")
    if spec.reference and engine is not None and platform is None:
        with suppress(Exception):
            image = engine.client.images.get(spec.reference)
            names = [d.partition("@")[2] for d in image.attrs.get("RepoDigests") or ()]
            on_progress(Progress(what="base", note=f"{spec.reference}, which the engine has", finished=True))
            return replace(spec, kind="registry", digest=names[0] if names and engine.store == CONTAINERD else "")
    digest = buildx.registry_digest(spec.reference, env) if spec.reference and engine is not None else None
    if digest:
        on_progress(Progress(what="base", note=f"{spec.reference}@{digest[:19]}…; pin it: base.digest", finished=True))
        return replace(spec, kind="registry", digest=digest)
    if spec.kind == "registry":
        if engine is None:
            return spec
        raise SourceError(
            f"no registry gives {spec.reference} within {engines.ASK:.0f} s",
            where="bake.yaml: base",
            hint="docker pull it, or base.kind: debian",
        )
    if engine is not None:
        on_progress(
            Progress(
                what="base", note=f"Debian {spec.suite}'s packages: no registry gives {spec.reference}", finished=True
            )
        )
    return replace(spec, kind="debian", digest="", reference="")
