"""``docker run`` as a process that may be ended early: not before it knows its container.

An engine goes on to create the container of a client that has gone: nobody would know of it, and it would stay.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

CREATION = 8.0
"""Seconds that an engine may take to create a container."""


def knows_container(cidfile: Path) -> bool:
    """Whether a client has written its ``--cidfile``."""
    with suppress(OSError):
        return cidfile.stat().st_size > 0
    return False


def await_container(cidfile: Path, poll: Callable[[], object]) -> None:
    """Wait until a client knows its container, has ended (``poll`` isn't None), or has taken longer than :data:`CREATION`."""
    end = time.monotonic() + CREATION
    while not knows_container(cidfile) and poll() is None and time.monotonic() < end:
        time.sleep(0.02)
