"""How this program came onto the machine, and what it keeps there."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.core.config.paths import CONTENTS, STATE
from builder.core.config.types import Config
from builder.edges.machine import project
from builder.edges.system import files
from builder.errors import MissingError, UsageError
from builder.program import shell_word

IGNORED = (".bake/", "/jobs/")
"""What git should not see of a project: state and jobs."""


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Where the program is, and who put it there."""

    folder: Path
    """A checkout, or the folder of the installed package."""
    by: str
    """checkout, uv tool, uvx, pipx or pip."""
    removal: str
    """The command that removes it."""


def inspect() -> Installation:
    """The installation that is running."""
    if project.HERE != project.INSTALLED:
        return Installation(folder=project.HERE, by="checkout", removal=f"rm -r {shell_word(project.HERE)}")
    by, removal = _installer(Path(sys.prefix), sys.executable)
    return Installation(folder=project.PACKAGE, by=by, removal=removal)


def _installer(prefix: Path, python: str) -> tuple[str, str]:
    """Who made the environment at ``prefix``, by what they leave in it; and what removes the package from it."""
    if (prefix / "uv-receipt.toml").is_file():
        return "uv tool", "uv tool uninstall whisperbake"
    if (prefix / "pipx_metadata.json").is_file():
        return "pipx", "pipx uninstall whisperbake"
    if any(part.startswith(("archive-v", "environments-v")) for part in prefix.parts):  # of uv's cache
        return "uvx", "uv cache clean whisperbake"
    return "pip", f"{python} -m pip uninstall whisperbake"


@dataclass(frozen=True, kw_only=True)
class StatePlace:
    """Something in a state folder."""

    name: str
    path: Path
    size: int
    """Bytes of the files below it; links are not followed."""
    link: bool
    """It is a link, and whatever it leads to is not ours."""


@dataclass(frozen=True, kw_only=True)
class StateFolder:
    """A folder of state, and what is in it."""

    folder: Path
    places: tuple[StatePlace, ...]
    """Of the names that this program gives."""
    others: tuple[str, ...]
    """Names that it doesn't give; in a folder that a person chose also those one level deeper."""
    own: bool
    """It is where this program puts its state by itself, and not a link."""


def state_folders(config: Config, env: Mapping[str, str]) -> tuple[StateFolder, ...]:
    """The state folder of this command; of an installed program also the user's own, where a project has another."""
    users = [project.user_data(env)] if project.HERE == project.INSTALLED else []
    every = {path.resolve(): path for path in (config.home, *users)}
    usual = (config.root / ".bake", *users)
    return tuple(_state_folder(path, path in usual) for path in every.values() if path.is_dir())


def _state_folder(folder: Path, usual: bool) -> StateFolder:
    entries = sorted(folder.iterdir())
    others = [path.name for path in entries if path.name not in (*STATE, "jobs")]
    if not usual:  # anybody may have a folder called images or logs
        others += [f"{name}/{path.name}" for name in CONTENTS for path in _strangers(folder / name)]
        others += ["secrets"] if (folder / "secrets").is_dir() else []
    return StateFolder(
        folder=folder,
        places=tuple(
            StatePlace(name=path.name, path=path, size=files.size_of(path), link=path.is_symlink())
            for path in entries
            if path.name in STATE
        ),
        others=tuple(others),
        own=usual and not folder.is_symlink(),
    )


def _strangers(place: Path) -> list[Path]:
    """What is in a folder of the state folder, and has a name that this program doesn't give there."""
    if place.is_symlink() or not place.is_dir():
        return []
    known = CONTENTS[place.name]
    return [path for path in sorted(place.iterdir()) if not (known.fullmatch(path.name) or path.name.startswith("."))]


def environments(state: StateFolder) -> tuple[StatePlace, ...]:
    """The native environments in a state folder."""
    found = sorted((state.folder / "native").glob("*/"))
    return tuple(
        StatePlace(name=path.name, path=path, size=files.size_of(path), link=path.is_symlink())
        for path in found
        if path.is_dir()
    )


def remove(paths: Iterable[Path]) -> None:
    """Delete files and folders; links in them go, and what they lead to stays.

    Raises:
        MissingError: this user may not.
    """
    try:
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise MissingError(f"it can't be removed ({error.strerror})", where=str(error.filename)) from error


def remove_empty(folder: Path) -> None:
    """Delete a folder if nothing is left in it."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def unignored(folder: Path) -> tuple[str, ...]:
    """The lines of :data:`IGNORED` that a project's .gitignore doesn't have, in this or a similar spelling."""
    try:
        with (folder / ".gitignore").open(encoding="utf-8", errors="replace") as text:
            lines = {line.strip().strip("/") for line in text.read(files.CHUNK).splitlines()}
    except OSError:
        return IGNORED
    return tuple(line for line in IGNORED if line.strip("/") not in lines)


def write_project(folder: Path, texts: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write a project's files beside what is there.

    Returns:
        Names that were written, and names that were there and stay as they are.

    Raises:
        UsageError: it is not a folder.
        MissingError: it can't be written.
    """
    written: list[str] = []
    kept: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (written if files.write_new(folder / name, text) else kept).append(name)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError("not a folder", where=str(folder), hint="name another folder") from error
    except OSError as error:
        what = "the disk is full" if files.disk_full(error) else f"it can't be written ({error.strerror})"
        raise MissingError(what, where=str(folder), hint="name another folder") from error
    return tuple(written), tuple(kept)
