"""What native runs need on a machine without an index: this project's files and the wheels of its locks."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from builder.core.config.types import Config
from builder.core.progress import OnProgress, Progress
from builder.core.yaml_document import Document
from builder.edges.machine import environment as native
from builder.edges.machine import project
from builder.edges.machine.hardware import apple_silicon
from builder.edges.system import files, pip, shell
from builder.errors import ConfigError

FOLDERS = ("compose", "examples", "images", "requirements", "stages", "templates")
FILES = ("LICENSE", "README.md", "build.py", "pyproject.toml", "vex.yaml")
"""What is taken of the shipped files; tests, documents and state stay here. A wheel has the same (pyproject.toml)."""

NAME = r"[a-z][a-z0-9_-]*"
KNOWN = re.compile(
    r"compose/job\.yaml\.j2|examples/(dialogue\.(mp4|rttm|txt)|make\.py)"
    rf"|images/({NAME}\.yaml|sizes\.json|wheels\.txt|requirements-base\.(in|txt)|tools/({NAME}\.py|requirements\.(in|txt))|weights/fetch\.py)"
    r"|requirements/((builder|dev)\.txt|lock\.sh|(stages|review|wheels)\.py|(held|advisories)\.yaml)"
    rf"|stages/(requirements-{NAME}\.in|{NAME}\.py|{NAME}/({NAME}\.py|stage\.yaml|requirements-{NAME}\.(in|txt)))"
    rf"|templates/({NAME}\.j2|Dockerfile\.j2|(blocks|ci|foreign)/{NAME}(\.yml)?\.j2|(report/report|compare/compare|batch/batch)\.(css|js|html\.j2)"
    rf"|batch/README\.md\.j2|batch/[a-z]+/{NAME}\.(yaml|sub|sbatch)\.j2)"
    rf"|builder/([a-z_]+/)*[a-z_][a-z0-9_]*\.py"
)
"""The files in those folders that this program reads; what else lies there (keys, .env, an editor's copies) stays here."""

LOGIN = re.compile(r"://[^/\s'\"]*@")
"""A name or a password in an address."""

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
        every = [path.relative_to(top).as_posix() for folder in folders for path in sorted((top / folder).rglob("*"))]
        paths |= {name: top / name for name in every if KNOWN.fullmatch(name)}
    for name, path in paths.items():
        if path.is_file() and not path.is_symlink():
            _require_no_login(name, path)
            collected[f"{PROJECT}/{name}"] = path
    bake = without_network((config.root / "bake.yaml").read_text(encoding="utf-8-sig"))
    if LOGIN.search(bake):
        raise _login("bake.yaml")
    collected[f"{PROJECT}/bake.yaml"] = bake.encode()
    return collected


def wheels_of(collected: Mapping[str, bytes | Path]) -> dict[str, Path]:
    """Name -> file of the wheels among a bundle's files."""
    wheels = {path: file for path, file in collected.items() if path.startswith(f"{WHEELS}/")}
    return {Path(path).name: file for path, file in wheels.items() if isinstance(file, Path)}


def without_network(text: str, *, comments: bool = False) -> str:
    """bake.yaml without ``network``, which is about this site and may hold a password: written from what is read there.

    Args:
        comments: a file that has no such section stays as it is; elsewhere they go, as they may hold anything.
    """
    import yaml

    document = Document("bake.yaml", text)
    if comments and "network" not in document.data:
        return text
    kept = {name: value for name, value in document.data.items() if name != "network"}
    return str(yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=120))


def _require_no_login(name: str, path: Path) -> None:
    """Raises ConfigError for a file that would take a password along; code and media have none."""
    if path.suffix in (".py", ".mp4"):
        return
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if LOGIN.search(line):
            raise _login(f"{name}:{number}")


def _login(where: str) -> ConfigError:
    return ConfigError(
        "an address with a name or a password would go into the bundle",
        where=where,
        hint="take it out; pip's and the hub's own settings are the place for it",
    )


def _wheels(config: Config, env: Mapping[str, str], on_progress: OnProgress) -> Path:
    """A folder with the wheels of the builder's lock and of all stages', fetched once."""
    asked = {config.images[name].stage for name in config.defaults.extras}  # few need a stage with its own environment
    wanted = replace(config, stages={n: stage for n, stage in config.stages.items() if not stage.apart or n in asked})
    locks = [config.shipped / "requirements" / "builder.txt", *wanted.native_locks(apple=apple_silicon())]
    digest = hashlib.sha256(sys.version.encode())
    for lock in locks:
        digest.update(lock.read_bytes())
    folder = config.paths.wheelhouse / digest.hexdigest()[:16]
    if (folder / "ready").is_file():
        return folder
    with files.locked(folder.with_name(f"{folder.name}.lock")):
        for number, lock in enumerate(locks, 1):
            on_progress(Progress(what="wheels", done=number, total=len(locks), note=lock.parent.name))
            words = pip.command("download", *pip.LOCKED)
            done = shell.run([*words, "--requirement", str(lock), "--dest", str(folder)], env=dict(env))
            if done.code != 0:
                raise native.failure(done.err + done.out, folder)
        files.write_atomic(folder / "ready", "".join(f"{lock.name} of {lock.parent.name}\n" for lock in locks))
    on_progress(Progress(what="wheels", note="fetched", finished=True))
    return folder
