"""A project folder with small models of its own beside the real catalogue, and a store that holds them."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.core.config.types import Config, Defaults, StageSpec
from builder.core.weights import lock
from builder.core.weights.model import FilePin, Pin
from builder.edges.machine import project
from builder.edges.system import shell
from builder.edges.weights.store import Store

ROOT = Path(__file__).resolve().parents[1]
REVISION = "c" * 40


@dataclass(frozen=True, kw_only=True)
class Small:
    """A model: its entry in models.yaml (one line of YAML), its files, its revision."""

    entry: str
    purpose: str = "other"
    files: Mapping[str, bytes]
    revision: str = REVISION


def pin_of(files: Mapping[str, bytes], revision: str = REVISION) -> Pin:
    return Pin(
        revision=revision,
        files=tuple(
            FilePin(path=n, size=len(d), sha256=hashlib.sha256(d).hexdigest()) for n, d in sorted(files.items())
        ),
    )


def make(root: Path, models: Mapping[str, Small], *, fill: bool = True) -> Path:
    """A project at ``root``; with ``fill`` its store (``root/.bake/models``) holds the small models."""
    for path in (*ROOT.glob("images/*.yaml"), *ROOT.glob("stages/*/*.yaml"), ROOT / "bake.yaml", ROOT / "models.yaml"):
        target = root / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    with (root / "models.yaml").open("a") as out:
        for id_, small in models.items():
            out.write(f"  {id_}: {{purpose: {small.purpose}, title: {id_}, licence: MIT, {small.entry}}}\n")
    pins = lock.parse_lock((ROOT / "models.lock").read_text())
    pins |= {id_: pin_of(small.files, small.revision) for id_, small in models.items()}
    (root / "models.lock").write_text(lock.dump_lock(pins))
    if fill:
        stock(root, models)
    return root


def stock(root: Path, models: Mapping[str, Small]) -> Store:
    """Put models into the store of a project."""
    config = project.load(root, env={})
    store = Store(config.paths.models)
    for id_, small in models.items():
        model, pin = config.models[id_], config.pins[id_]
        for file in pin.files:
            with store.fetching(file) as incoming:
                incoming.write_bytes(small.files[file.path])
                store.admit(model, pin, file, incoming)
        store.finish(model, pin)
    return store


def of_stages(stages: Sequence[StageSpec], *, root: Path, home: Path) -> Config:
    """A configuration of nothing but stages."""
    return Config(
        root=root,
        shipped=root,
        home=home,
        jobs=root / "jobs",
        defaults=Defaults(),
        presets={},
        models={},
        pins={},
        stages={s.name: s for s in stages},
        images={},
    )


def bake(root: Path, *words: object, env: Mapping[str, str] | None = None) -> shell.Done:
    """A command, in a process of its own, inside a project; ``env`` joins the caller's without what the hub client reads."""
    code = "import sys; from builder.cli import main; sys.exit(main(sys.argv[1:]))"
    own = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return shell.run(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=root,
        env=own | {"PYTHONPATH": str(ROOT)} | dict(env or {}),
        timeout=120,
    )
