"""What native runs need on a machine without an index: this project's files and the wheels of its locks."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from builder.bootstrap.modules import run_module
from builder.core.config.types import Config
from builder.core.progress import OnProgress, Progress
from builder.edges.machine import environment as native
from builder.edges.machine import project
from builder.edges.system import files, pip, shell

FOLDERS = ("compose", "examples", "images", "requirements", "stages", "templates")
FILES = ("LICENSE", "README.md", "build.py", "pyproject.toml")
"""What is taken of the shipped files; tests, documents and state stay here. A wheel has the same (pyproject.toml)."""

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""What the wheels are for."""

PROJECT, WHEELS = "native/project", "native/wheels"
"""Folders in a bundle."""


def collect(config: Config, env: Mapping[str, str], on_progress: OnProgress) -> dict[str, bytes | Path]:
    """Path in the bundle -> file.

    Wheels are for this machine's Python and platform: a receiver with another takes the images.

    Raises:
        SourceError: the package index can't be reached, or lacks a wheel.
        IntegrityError: the index has other bytes than the locks say.
    """
    collected: dict[str, bytes | Path] = {
        f"{WHEELS}/{wheel.name}": wheel for wheel in sorted(_wheels(config, env, on_progress).glob("*.whl"))
    }
    paths = {name: config.root / name for name in project.CATALOGUE} | {name: config.shipped / name for name in FILES}
    for top, folders in ((config.shipped, FOLDERS), (project.PACKAGE.parent, [project.PACKAGE.name])):
        every = [path for folder in folders for path in sorted((top / folder).rglob("*"))]
        paths |= {path.relative_to(top).as_posix(): path for path in every if project.INSTALLED not in path.parents}
    for name, path in paths.items():
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
            collected[f"{PROJECT}/{name}"] = path
    collected[f"{PROJECT}/bake.yaml"] = without_network(
        (config.root / "bake.yaml").read_text(encoding="utf-8")
    ).encode()
    return collected


def without_network(text: str) -> str:
    """bake.yaml without its ``network`` section, which is about this site and may hold a password."""
    return re.sub(r"^network:.*\n(?:[ \t#].*\n|\n(?=[ \t]))*", "", text + "\n", flags=re.MULTILINE).rstrip() + "\n"


def _wheels(config: Config, env: Mapping[str, str], on_progress: OnProgress) -> Path:
    """A folder with the wheels of the builder's lock and of all stages', fetched once."""
    variant = config.defaults.variant.value
    locks = sorted(
        {config.shipped / s.requirements[variant] for s in config.stages.values() if variant in s.requirements}
    )
    locks.insert(0, config.shipped / "requirements" / "builder.txt")
    digest = hashlib.sha256(sys.version.encode())
    for lock in locks:
        digest.update(lock.read_bytes())
    folder = config.paths.wheelhouse / digest.hexdigest()[:16]
    if (folder / "ready").is_file():
        return folder
    with files.locked(folder.with_name(f"{folder.name}.lock")):
        for number, lock in enumerate(locks, 1):
            on_progress(Progress(what="wheels", done=number, total=len(locks), note=lock.parent.name))
            words = [*run_module(sys.executable, "pip"), "download", *pip.LOCKED]
            done = shell.run([*words, "--requirement", str(lock), "--dest", str(folder)], env=dict(env))
            if done.code != 0:
                raise native.failure(done.err + done.out, folder)
        files.write_atomic(folder / "ready", "".join(f"{lock.name} of {lock.parent.name}\n" for lock in locks))
    on_progress(Progress(what="wheels", note="fetched", finished=True))
    return folder
