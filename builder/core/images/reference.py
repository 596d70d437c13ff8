"""Names of images in registries, and the headers of registries. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from builder.core.config.defaults import COMPONENT
from builder.errors import UsageError

HUB = "docker.io"
"""Docker Hub's name in references. Its server has another name, and clients keep its login under a third."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a set of images goes: ``host[:port]`` and the path before each image's name."""

    host: str
    prefix: str

    def repository(self, name: str) -> str:
        """The repository of an image: ``<prefix>/<name>``."""
        return f"{self.prefix}/{name}" if self.prefix else name

    @property
    def address(self) -> str:
        """``host[:port]`` of the server."""
        return "registry-1.docker.io" if self.host == HUB else self.host

    @property
    def keys(self) -> tuple[str, ...]:
        """Names under which config.json may have the login, the usual one first."""
        if self.host == HUB:
            return ("https://index.docker.io/v1/", "index.docker.io", HUB)
        return (self.host,)

    @property
    def loopback(self) -> bool:
        """Whether it is this machine: nobody can listen, so plain HTTP is safe."""
        name = re.sub(r":\d+$", "", self.host).strip("[]")
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return name == "localhost"


def target(text: str, *, where: str) -> Target:
    """Parse ``HOST[:PORT]/PREFIX``. The host is required: a bare name would mean Docker Hub.

    Raises:
        UsageError: the text has another form.
    """
    host, _, prefix = text.rstrip("/").partition("/")
    expected = "HOST[:PORT]/PREFIX, such as ghcr.io/me/speech or localhost:5000/speech"
    if "://" in text:
        raise UsageError(f'"{text}" has a scheme', where=where, expected=expected)
    if not (
        re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[a-zA-Z0-9][a-zA-Z0-9.-]*)(:\d{1,5})?", host)
        and re.search(r"[.:]|^localhost$", host)
    ):
        raise UsageError(f'"{text}" names no registry', where=where, expected=expected)
    if prefix and not re.fullmatch(rf"{COMPONENT}(/{COMPONENT})*", prefix):
        raise UsageError(
            f'"{prefix}" is not a path in a registry', where=where, expected="lower-case letters, digits, . _ - /"
        )
    return Target(host=host.lower(), prefix=prefix)


def challenges(header: str) -> dict[str, Mapping[str, str]]:
    """Scheme in lower case -> parameters of a WWW-Authenticate header (RFC 9110, 11.6.1)."""
    found: dict[str, dict[str, str]] = {}
    scheme = ""
    for match in re.finditer(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))|([\w-]+)', header):
        name, quoted, plain, word = match.groups()
        if word:
            scheme = word.lower()
            found[scheme] = {}
        elif scheme:
            found[scheme][name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
    return dict(found)


def received(header: str) -> int | None:
    """Bytes that an upload has by its ``Range: 0-<last>`` header; None without one.

    Registries answer ``0-0`` for an upload without a byte, so it means 0.
    """
    match = re.fullmatch(r"(?:bytes[=\s])?0-([0-9]{1,18})", header.strip())
    return None if match is None else int(match[1]) + 1 if int(match[1]) else 0
