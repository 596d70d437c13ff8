"""What containers need of an engine and of the docker client, each looked at by itself."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.edges.engine.connection import require_version
from builder.errors import MissingError
from builder.receiver.missing import version_number

MB = 1_000_000

OLDEST_COMPOSE = (2, 20)
"""Knows services that complete, bind mounts that don't make folders, and device reservations."""


def engine(info: Mapping[str, Any], address: str) -> str:
    """The engine in a few words.

    Args:
        info: what ``docker info`` says of it.

    Raises:
        MissingError: it is too old, or its containers' users are not this machine's.
    """
    version = str(info.get("ServerVersion", ""))
    require_version(version, address)
    options = " ".join(map(str, info.get("SecurityOptions") or ()))
    for word, what in (("rootless", "is rootless"), ("userns", "maps users")):
        if f"name={word}" in options:
            raise MissingError(
                f"the engine {what}: its containers' users are not this machine's",
                where=address,
                hint="use an engine without, or --mode native",
            )
    return f"{version}, {info.get('NCPU')} processors, {float(info.get('MemTotal') or 0) / MB:.0f} MB"


def compose(info: Mapping[str, Any]) -> str:
    """The version of compose.

    Raises:
        MissingError: the client has none, or it is too old.
    """
    plugins = (info.get("ClientInfo") or {}).get("Plugins") or []
    version = next((str(p.get("Version", "")) for p in plugins if p.get("Name") == "compose"), None)
    if version is None:
        raise MissingError(
            "the docker client has no compose", hint="apt-get install docker-compose-plugin (docker-compose)"
        )
    if version_number(version) < OLDEST_COMPOSE:
        raise MissingError(
            f"compose is {version}", expected=f"{'.'.join(map(str, OLDEST_COMPOSE))} or later", hint="update it"
        )
    return version.removeprefix("v")


IMAGE_MOUNTS = {"the engine": (28, 0), "compose": (2, 35)}
"""What mounts an image into a container: moby's release notes of 28.0, compose-spec's 05-services.md."""


def image_mounts(info: Mapping[str, Any], address: str) -> None:
    """Refuse an engine, or a compose, that can't mount an image into a container.

    Args:
        info: what ``docker info`` says of it.

    Raises:
        MissingError: it is older than :data:`IMAGE_MOUNTS`.
    """
    for what, version in (("the engine", str(info.get("ServerVersion", ""))), ("compose", compose(info))):
        if version_number(version) < IMAGE_MOUNTS[what]:
            raise MissingError(
                f"{what} is {version}, and can't mount an image into a container",
                where=address,
                expected=f"{what} {'.'.join(map(str, IMAGE_MOUNTS[what]))} or later, for --weights mounted",
                hint="--weights baked; podman mounts images, too: batch render --weights-image",
            )


def gpu(info: Mapping[str, Any], driver: str) -> str:
    """The way to this machine's GPUs, in a few words.

    Args:
        driver: ``nvidia`` or ``cdi``.

    Raises:
        MissingError: containers have none.
    """
    if driver == "cdi":
        folders = [Path(folder) for folder in info.get("CDISpecDirs") or ()]
        specs = [p for folder in folders if folder.is_dir() for p in folder.iterdir() if p.suffix in (".json", ".yaml")]
        if not any("nvidia.com/gpu" in p.read_text(errors="replace") for p in specs):
            raise MissingError(
                "the engine knows no CDI device nvidia.com/gpu",
                expected='features: {"cdi": true} in daemon.json',
                hint="nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
            )
        return "nvidia.com/gpu by CDI"
    if "nvidia" not in (info.get("Runtimes") or {}) and shutil.which("nvidia-container-runtime-hook") is None:
        raise MissingError(
            "the engine has no NVIDIA runtime",
            hint="install nvidia-container-toolkit, or --device cpu; BAKE_GPU_DRIVER=cdi",
        )
    return "NVIDIA runtime"
