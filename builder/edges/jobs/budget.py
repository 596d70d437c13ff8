"""What this machine's jobs may use together: memory, and each GPU for one stage at a time.

One file for all processes of a state folder. A claim counts as long as the process that made it lives, so kill -9
gives back what it held. Who asks first gets first: a large stage isn't overtaken for ever by small ones.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from builder.core.jobs.sandbox import SHARE
from builder.edges.system import files

EVERY = 0.05
"""Seconds between two looks of one waiting stage."""


class Budget:
    """The memory and GPUs that stages share."""

    def __init__(self, path: Path, *, memory: int, gpus: int) -> None:
        """
        Args:
            memory: bytes that the machine has; a share of it stays free.
        """
        self._path, self.machine, self.gpus = path, memory, gpus
        self.memory = int(SHARE * memory)
        self._asked: dict[str, float] = {}
        self._mutex = threading.Lock()

    def take(self, name: str, *, memory: int, gpu: int | None = None) -> bool:
        """Claim for ``name``, or queue up for it; returns at once.

        Args:
            name: unique on this machine, such as ``<job>/<stage>``. Taking twice is taking once.
            memory: bytes; more than there is counts as all of it.
            gpu: index of the GPU that it needs for itself.

        Returns:
            Whether it is granted. When not, ask again; the place in the queue is kept.
        """
        now = time.monotonic()
        with self._mutex:
            if now - self._asked.get(name, -EVERY) < EVERY:
                return False
            self._asked[name] = now
        wish = min(memory, self.memory)
        with files.locked(self._path.with_suffix(".lock")):
            claims = self._load()
            old = json.dumps(claims)
            mine = next((c for c in claims if c["name"] == name), None)
            if mine is None:
                mine = {"name": name, "memory": wish, "gpu": gpu, "granted": False, **_identity()}
                claims.append(mine)
            granted = [c for c in claims if c["granted"] and c is not mine]
            busy = {c["gpu"] for c in granted} - {None}
            # Who waits for a GPU that is busy holds up only those that want the same one.
            before = [
                c
                for c in claims[: claims.index(mine)]
                if not c["granted"] and (c["gpu"] not in busy or c["gpu"] == gpu)
            ]
            fits = sum(c["memory"] for c in granted) + wish <= self.memory and gpu not in busy
            mine["granted"] = mine["granted"] or (fits and not before)
            self._save(claims, old)
            return bool(mine["granted"])

    def give(self, name: str) -> None:
        """Give back what ``name`` has, or its place in the queue."""
        with self._mutex:
            self._asked.pop(name, None)
        with files.locked(self._path.with_suffix(".lock")):
            claims = self._load()
            self._save([c for c in claims if c["name"] != name], json.dumps(claims))

    def quietest(self) -> int:
        """Index of the GPU that the fewest stages have or wait for."""
        with files.locked(self._path.with_suffix(".lock")):
            claims = self._load()
        return min(range(max(1, self.gpus)), key=lambda k: sum(c["gpu"] == k for c in claims))

    def _load(self) -> list[dict[str, Any]]:
        """The claims of living processes; a file that is cut short is as good as none."""
        claims = files.read_json(self._path)
        whole = isinstance(claims, list) and all(
            isinstance(c, dict) and {"name", "memory", "gpu"} <= set(c) for c in claims
        )
        return [c for c in claims if _lives(c["pid"], c["born"])] if whole else []  # type: ignore[union-attr]

    def _save(self, claims: list[dict[str, Any]], old: str) -> None:
        """Whole or not at all, but not flushed to the disk: after a crash of the machine nobody holds anything."""
        text = json.dumps(claims)
        if text != old:
            beside = self._path.with_suffix(".new")
            beside.write_text(text)
            beside.replace(self._path)


@functools.cache
def _own(pid: int) -> float:
    import psutil

    return float(psutil.Process(pid).create_time())


def _identity() -> dict[str, Any]:
    return {"pid": os.getpid(), "born": _own(os.getpid())}


def _lives(pid: int, born: float) -> bool:
    """Whether a process is still the one that wrote down when it was born."""
    if pid == os.getpid():
        return abs(_own(pid) - born) < 1.0
    import psutil

    with contextlib.suppress(psutil.Error):
        return abs(float(psutil.Process(pid).create_time()) - born) < 1.0
    return False
