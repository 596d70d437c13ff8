"""What tests fetch from the hub on this machine: a model, its pin, and a fetch with short patience."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from builder.core.progress import Progress
from builder.core.terms import Purpose
from builder.core.weights.model import FilePin, HubSource, Model, Pin
from builder.edges.weights.download import traffic
from builder.edges.weights.fetch import fetch_models
from builder.edges.weights.store import Store
from tests.hub.server import REVISION, Content, Hub

QUICK = traffic.Limits(patience=1.0, pause=0.01, longest_wait=2.0, chunk=64 << 10, least=1000)
"""Small chunks, so that small files come in parallel ranges; nobody is waited for long."""

MODEL = Model(id="m", purpose=Purpose.ASR, title="t", licence="MIT", sources=(HubSource(repo="org/name"),))


def contents(seed: int, **sizes: int) -> dict[str, Content]:
    """Files of chance bytes, ``model_bin=1000`` is ``model.bin`` of 1000 bytes."""
    chance = random.Random(seed)
    block = 1 << 26  # randbytes has an upper limit
    return {
        name.replace("_", "."): Content(
            b"".join(chance.randbytes(min(block, size - at)) for at in range(0, size, block))
        )
        for name, size in sizes.items()
    }


def pin_of(files: Mapping[str, Content]) -> Pin:
    return Pin(
        revision=REVISION,
        files=tuple(FilePin(path=n, size=c.size, sha256=c.sha256) for n, c in sorted(files.items())),
    )


def fetch(
    place: Store, server: Hub | str, pin: Pin, *, model: Model = MODEL, limits: traffic.Limits = QUICK, **env: str
) -> list[Progress]:
    """Fetch one model; the progress that was told."""
    told: list[Progress] = []
    address = server if isinstance(server, str) else server.address
    env = {"HF_ENDPOINT": address, **env}
    fetch_models(place, [(model, pin)], env=env, on_progress=told.append, limits=limits)
    return told


def wrong_files(root: Path, pin: Pin) -> list[Path]:
    """Files in the tree that are not what the pin says, whatever name they stand under."""
    import hashlib

    known = {f.sha256 for f in pin.files}
    return [
        p
        for p in root.glob("hub/**/*")
        if p.is_file() and "refs" not in p.parts and hashlib.sha256(p.read_bytes()).hexdigest() not in known
    ]
