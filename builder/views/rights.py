"""What a container may do, as the table of docs/security.md: ``python -m builder.views.rights docs/security.md``.

The table comes from builder/core/jobs/sandbox.py, which every container is started from.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from builder.core.jobs import sandbox
from builder.core.text import format_size

HEADING = "## What a container may do"

ABOUT = {
    "user_beside_root": ("user, when the caller is root", "root of this machine is never root in a container"),
    "network": ("network", "what is heard and read leaves by no wire, and nothing is fetched"),
    "read_only": ("root file system is read-only", "a stage can't change its own code for the next run"),
    "tmpfs": ("the only folder that all write", "gone with the container; its size counts as memory"),
    "cap_drop": ("capabilities taken away", "no raw socket, mount or device; no file of another user"),
    "security": ("security options", "a setuid program gives no more rights"),
    "emptied": ("variables that are empty", "Docker's client would put its proxies in, with their passwords"),
    "pids": ("processes and threads", "a fork bomb ends in its container"),
    "log_driver": ("what it prints is kept by", "the engine's own default, `json-file`, has no bound"),
    "log_options": ("and that is", "a stage that prints without end fills no disk"),
}
"""Field of :class:`~builder.core.jobs.sandbox.Rights` -> what it is called, and what it is good for."""


def section() -> str:
    """The section of docs/security.md, from its heading to before the next one.

    Raises:
        KeyError: a right has no line in :data:`ABOUT`.
    """
    rows = [(*ABOUT[f.name][:1], _value(getattr(sandbox.RIGHTS, f.name)), ABOUT[f.name][1]) for f in _fields()]
    rows += [
        (f"mount: `{mount.source}`", "read and write" if mount.writable else "read-only", f"`{mount.target}`")
        for mount in sandbox.JOB_MOUNTS.values()
    ]
    rows += [
        (
            "memory and swap together",
            f"at most {sandbox.SHARE:.0%} of the machine's; a look into a recording {format_size(sandbox.LOOK)}",
            "planned by stage: code, models, length ([jobs.md](jobs.md))",
        )
    ]
    return "\n".join([HEADING, "", *_table(("right", "value", "so that, or where"), rows), ""])


def replaced(page: str) -> str:
    """The page with the section as it is now."""
    before, _, rest = page.partition(HEADING)
    _, heading, after = rest.partition("\n## ")
    return f"{before}{section()}{heading}{after}"


def _fields() -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(sandbox.RIGHTS)


def _value(value: object) -> str:
    """A right's value in one cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    words = value if isinstance(value, tuple) else (value,)
    return ", ".join(f"`{word}`" for word in words)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A table of Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (heads, ("---", "---", "---"), *rows)]


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.write_text(replaced(place.read_text()))
