"""Platforms of images by the names of the OCI image specification (image-index.md): ``linux/arm64``. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from builder.errors import UsageError

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Architectures that images are built for -> the machine's name in wheels' tags. Debian's names are the OCI's here."""


@dataclass(frozen=True, kw_only=True, order=True)
class Platform:
    """Linux on an architecture."""

    architecture: str
    """A key of :data:`MACHINES`."""

    @property
    def name(self) -> str:
        """``linux/arm64``."""
        return f"linux/{self.architecture}"

    @property
    def machine(self) -> str:
        """``aarch64``."""
        return MACHINES[self.architecture]


def architecture(machine: str) -> str:
    """The OCI's name of an architecture that a kernel names: ``amd64`` for ``x86_64``; an unknown one as it is."""
    return next((name for name, known in MACHINES.items() if known == machine), machine)


ALL = tuple(Platform(architecture=architecture) for architecture in MACHINES)


def parse(text: str | None, *, where: str) -> tuple[Platform, ...]:
    """Platforms of a list such as ``linux/amd64,linux/arm64``, each once; none for no text.

    Args:
        where: the option or variable that the text stands in, for errors.

    Raises:
        UsageError: one of them is not a platform that images are built for.
    """
    known = {platform.name: platform for platform in ALL}
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if text is not None and not names:
        raise UsageError("no platform is named", where=where, expected=" or ".join(known))
    for name in names:
        if name not in known:
            raise UsageError(f'no images are built for "{name}"', where=where, expected=" or ".join(known))
    return tuple(known[name] for name in dict.fromkeys(names))


def foreign(platforms: tuple[Platform, ...], own: str) -> tuple[Platform, ...]:
    """Those of another architecture than ``own``."""
    return tuple(platform for platform in platforms if platform.architecture != own)
