"""Hash-locked requirements files as data: the packages that they pin, and their text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from builder.errors import ConfigError

PIN = re.compile(
    r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+_-]+)(?P<marker> ; [^\\\n]+?)?"
    r" \\\n(?P<hashes>(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
    re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True, order=True)
class Requirement:
    """One pin: a package in one version, for the machines that its marker names."""

    name: str
    """Lower case, with dashes (PEP 503)."""
    version: str
    text: str
    """The pin's text in the file, with its hashes."""


def parse(name: str, text: str) -> tuple[Requirement, ...]:
    """The pins of one file.

    Raises:
        ConfigError: a line is neither a comment nor part of a pin with a hash.
    """
    found = []
    rest = text if text.endswith("\n") else text + "\n"
    for match in PIN.finditer(rest):
        found.append(
            Requirement(name=re.sub(r"[-_.]+", "-", match["name"]).lower(), version=match["version"], text=match[0])
        )
    left = [line for line in PIN.sub("", rest).splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if left:
        line = rest.splitlines().index(left[0]) + 1
        raise ConfigError(
            f"not a pin with its hashes: {left[0].strip()!r}",
            where=f"{name}:{line}",
            expected="package==version, then --hash=sha256:…",
            hint="make lock writes these files",
        )
    return tuple(found)


def dump(pins: Iterable[Requirement]) -> str:
    """A requirements file of these pins, in the order of their names."""
    texts = []
    for pin in sorted(set(pins)):
        body = pin.text.rstrip("\n")
        texts.append(body.removesuffix(" \\") + "\n")
    return "".join(texts)
