"""Which wheel of a locked package an image has: a lock allows all files of a release, an installer takes one. Pure.

images/wheels.txt names the files, as ``sha256sum`` writes it; ``make lock`` writes it with the locks. The order in which
wheels fit is that of the packaging library, which installers share (PEP 425, PEP 600).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from builder.core.config.requirements import Requirement
from builder.core.papers.contents import LockedWheel
from builder.core.platforms import MACHINES

GLIBC = 36
"""Of Debian 12, the oldest base: glibc 2.36. No locked wheel wants a newer one."""

OLDEST = {"x86_64": 5, "aarch64": 17}
"""The first glibc that manylinux knows of a machine."""

OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}

LINE = re.compile(r"(?P<sha256>[0-9a-f]{64})  (?P<file>[A-Za-z0-9][A-Za-z0-9._+!-]*\.whl)")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def files(text: str) -> dict[str, str]:
    """Hex sha256 -> file name, of images/wheels.txt; other lines are skipped."""
    return {found["sha256"]: found["file"] for line in text.splitlines() if (found := LINE.fullmatch(line))}


def locked(
    pins: Sequence[Requirement], known: Mapping[str, str], *, architecture: str, python: tuple[int, int] | None
) -> tuple[LockedWheel, ...]:
    """The wheels of an image.

    Args:
        known: hex sha256 -> file name.
        architecture: of the image: ``amd64``.
        python: version of its Python; None where it isn't known.
    """
    ranks = _ranks(architecture, python)
    return tuple(_one(pin, known, ranks) for pin in sorted(pins) if _applies(pin, architecture, python))


def _one(pin: Requirement, known: Mapping[str, str], ranks: Mapping[str, int]) -> LockedWheel:
    allowed = tuple(HASH.findall(pin.text))
    fitting = sorted(
        (rank, known[h], h) for h in allowed if h in known and (rank := _rank(known[h], ranks)) is not None
    )
    if not fitting:
        return LockedWheel(name=pin.name, version=pin.version, allowed=allowed)
    _, file, sha256 = fitting[0]
    return LockedWheel(name=pin.name, version=pin.version, file=file, sha256=sha256)


def _rank(file: str, ranks: Mapping[str, int]) -> int | None:
    """How well a wheel fits, 0 best; None where it doesn't."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        tags = parse_wheel_filename(file)[3]
    except InvalidWheelFilename:
        return None
    return min((ranks[str(tag)] for tag in tags if str(tag) in ranks), default=None)


def _ranks(architecture: str, python: tuple[int, int] | None) -> dict[str, int]:
    """Tag -> its place in the order in which an installer prefers wheels; empty where the machine isn't known."""
    from packaging import tags

    machine = MACHINES.get(architecture)
    if machine is None or python is None:
        return {}
    platforms: list[str] = []
    for minor in range(GLIBC, OLDEST[machine] - 1, -1):
        platforms.append(f"manylinux_2_{minor}_{machine}")
        platforms += [f"{OLD_NAMES[minor]}_{machine}"] if minor in OLD_NAMES else []
    platforms.append(f"linux_{machine}")
    interpreter = f"cp{python[0]}{python[1]}"
    order = [
        *tags.cpython_tags(python_version=python, abis=[interpreter], platforms=platforms),
        *tags.compatible_tags(python_version=python, interpreter=interpreter, platforms=platforms),
    ]
    return {str(tag): k for k, tag in reversed(list(enumerate(order)))}


def _applies(pin: Requirement, architecture: str, python: tuple[int, int] | None) -> bool:
    """Whether a pin's marker is true in the image; a pin without one always is."""
    from packaging.markers import InvalidMarker, Marker

    marker = pin.text.partition("\n")[0].rstrip(" \\").partition(" ; ")[2]
    if not marker or python is None:
        return True
    version = f"{python[0]}.{python[1]}"
    there = {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "platform_machine": MACHINES.get(architecture, architecture),
    }
    try:
        return Marker(marker).evaluate(dict(there))
    except InvalidMarker:
        return True
