"""BuildKit, by the docker client's buildx: what is built, and what a registry has under a name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from builder.edges.engine.connection import ASK, Engine
from builder.edges.system import shell
from builder.errors import MissingError


def bake(
    host: str,
    folder: Path,
    targets: Sequence[str],
    *,
    variables: Mapping[str, str],
    cache: bool,
    output: str = "",
    file: Path | None = None,
) -> Iterator[str]:
    """Run ``docker buildx bake`` in a rendered folder; its plain progress, line by line.

    Args:
        targets: names of images; empty for all of the bake file.
        variables: of the bake file.
        cache: whether BuildKit may take what it built before.
        output: a BuildKit exporter, such as ``type=cacheonly``; without one the images go into the engine.
        file: another bake file than the folder's.

    Raises:
        RuntimeError: the build failed; the lines say why.
    """
    import psutil
    from python_on_whales import DockerClient
    from python_on_whales.exceptions import DockerException

    client = DockerClient(host=host)
    # Contexts are relative to where bake is typed, not to the file. Provenance has the time of the build in it.
    choices = {"*.context": str(folder), "*.attest": "type=provenance,disabled=true"}
    if output:
        choices["*.output"] = output
    children = psutil.Process().children
    before = {child.pid for child in children()}
    try:
        yield from client.buildx.bake(
            list(targets),
            files=[file or folder / "docker-bake.json"],
            progress="plain",
            stream_logs=True,
            cache=cache,
            load=not output and file is None,
            set=choices,
            variables={**variables, "BUILDX_BAKE_ENTITLEMENTS_FS": "0"},
        )
    except DockerException as error:
        raise RuntimeError(f"buildx ended with {error.return_code}") from error
    finally:
        for child in children():  # on Ctrl-C: a client that goes ends its build
            if child.pid not in before:
                child.terminate()


def cached_bytes(engine: Engine) -> tuple[int, int]:
    """Bytes of BuildKit's cache on an engine, and of them those that :func:`drop_cache` would free.

    Raises:
        MissingError: the engine doesn't tell.
    """
    api = engine.client.api
    # docker-py's df() has the engine measure every volume, too.
    answer = api.get(f"{api.base_url}/v{api.api_version}/system/df", params={"type": "build-cache"})
    try:
        answer.raise_for_status()
        records = answer.json().get("BuildCache") or []
        free = (r["Size"] for r in records if not (r.get("InUse") or r.get("Shared")))
        return sum(int(r["Size"]) for r in records), sum(map(int, free))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MissingError("the engine doesn't tell what BuildKit has cached", where=engine.host) from error


def drop_cache(engine: Engine) -> int:
    """Remove all of BuildKit's cache that no build uses just now; bytes that were freed."""
    return int(engine.client.api.prune_builds(all=True).get("SpaceReclaimed") or 0)


def registry_digest(reference: str, env: Mapping[str, str]) -> str | None:
    """``sha256:…`` of a reference in its registry, or None when the registry doesn't answer within :data:`ASK` seconds."""
    argv = ["docker", "buildx", "imagetools", "inspect", "--format", "{{json .Manifest}}", reference]
    done = shell.run(argv, env=env, timeout=ASK)
    with suppress(ValueError, KeyError, TypeError):
        digest = str(json.loads(done.out)["digest"])
        if done.code == 0 and re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            return digest
    return None
