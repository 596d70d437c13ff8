"""This program on this machine: a project to begin with, what is kept where, and how to be rid of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder import __version__
from builder.edges.machine import project
from builder.errors import UsageError
from builder.workflows.session import Session, store_of

if TYPE_CHECKING:
    from builder.core.config.types import Config
    from builder.edges.machine.installation import Installation, StateFolder, StatePlace


@dataclass(frozen=True, kw_only=True)
class ProjectMade:
    """A project's folder after ``init``."""

    folder: Path
    written: tuple[str, ...]
    kept: tuple[str, ...]
    """Files that were there, and are as they were."""
    unignored: tuple[str, ...]
    """What a .gitignore that was there doesn't name."""


def init(folder: Path) -> ProjectMade:
    """Make a project: the files that a user edits. Nothing that is there is changed.

    Raises:
        UsageError: not a folder.
        MissingError: it can't be written.
    """
    from builder.edges.bundle.wheelhouse import without_network
    from builder.edges.machine import installation
    from builder.edges.system import files

    shipped = {name: (project.HERE / name).read_text(encoding="utf-8") for name in ("bake.yaml", *project.CATALOGUE)}
    ignored = "".join(f"{line}\n" for line in installation.IGNORED)
    texts = {".gitignore": ignored, **shipped, "bake.yaml": without_network(shipped["bake.yaml"], comments=True)}
    folder = files.expanded(folder)
    if (folder / "models.yaml").exists():  # pins belong to their catalogue
        for name in project.CATALOGUE:
            files.sweep(folder / name)
        texts = {name: text for name, text in texts.items() if name not in project.CATALOGUE}
    written, kept = installation.write_project(folder, texts)
    there = [name for name in project.CATALOGUE if name not in texts and (folder / name).exists()]
    unignored = installation.unignored(folder)
    return ProjectMade(folder=folder, written=written, kept=(*kept, *there), unignored=unignored)


@dataclass(frozen=True, kw_only=True)
class SelfStatus:
    """What there is of this program on this machine."""

    version: str
    python: str
    installation: Installation
    project: Path | None
    """The folder of bake.yaml; None where the package's own settings hold."""
    state: tuple[StateFolder, ...]
    environments: tuple[StatePlace, ...]
    models: tuple[tuple[str, int], ...]
    """Id and bytes of each model that is here whole."""
    jobs: Path
    """Their folder."""
    job_count: int
    job_bytes: int


def status(session: Session) -> SelfStatus:
    """Where this program is, what it keeps, and how large that is."""
    import platform

    from builder.edges.jobs import listing
    from builder.edges.machine import installation
    from builder.edges.system import files

    config = session.config
    state = installation.state_folders(config, session.env)
    store = store_of(config)
    known = [(config.models[id_], pin) for id_, pin in config.pins.items() if id_ in config.models]
    return SelfStatus(
        version=__version__,
        python=platform.python_version(),
        installation=installation.inspect(),
        project=None if config.root == project.INSTALLED else config.root,
        state=state,
        environments=tuple(environment for folder in state for environment in installation.environments(folder)),
        models=tuple((model.id, pin.size) for model, pin in known if not store.missing(model, pin)),
        jobs=config.jobs,
        job_count=len(listing.listing(config)),
        job_bytes=files.size_of(config.jobs),
    )


@dataclass(frozen=True, kw_only=True)
class Uninstalled:
    """What was removed, or would be."""

    removed: tuple[tuple[Path, int], ...]
    """Path, and bytes."""
    kept: tuple[tuple[Path, str], ...]
    """What stays although it lies among the state, and why."""
    jobs: tuple[str, ...]
    """Ids of the jobs that go too."""
    removal: str
    """The command that removes the program itself."""
    dry_run: bool


def uninstall(session: Session, *, jobs: bool, dry_run: bool) -> Uninstalled:
    """Remove the state of this program. Links and what they lead to stay, and so do things that it didn't make.

    Args:
        jobs: remove the jobs of this configuration, too.

    Raises:
        UsageError: a job is running.
        MissingError: something can't be removed.
    """
    from builder.edges.jobs import listing
    from builder.edges.machine import installation

    config = session.config
    every = listing.listing(config)
    if running := [job.id for job in every if job.state in ("running", "queued")]:
        raise UsageError(
            f"job {running[0]} is {'running' if len(running) == 1 else 'one of several that run'}",
            hint=f"wait for it, or stop it: jobs cancel {' '.join(running)}",
        )
    state = installation.state_folders(config, session.env)
    doomed, kept = _sorted_out(config, state)
    ids = [job.id for job in every if not job.problem] if jobs else []
    gone = listing.remove(config, ids, dry_run=dry_run)
    if not dry_run:
        installation.remove(path for path, _ in doomed)
        for folder in (*([config.jobs] if jobs else []), *(known.folder for known in state)):
            installation.remove_empty(folder)
    return Uninstalled(
        removed=(*doomed, *gone),
        kept=tuple(kept) if jobs or not every else (*kept, (config.jobs, "jobs: --jobs removes them")),
        jobs=tuple(ids),
        removal=installation.inspect().removal,
        dry_run=dry_run,
    )


def _sorted_out(config: Config, state: Sequence[StateFolder]) -> tuple[list[tuple[Path, int]], list[tuple[Path, str]]]:
    """What is this program's and goes, with its bytes; and what stays, with the reason."""
    from builder.edges.system import files
    from builder.edges.weights import prune as pruning
    from builder.edges.weights.store import Store

    doomed: list[tuple[Path, int]] = []
    kept: list[tuple[Path, str]] = []
    for folder in state:
        if folder.folder.is_symlink():
            kept.append((folder.folder, "a link"))
            continue
        if folder.others and not folder.own:
            kept.append((folder.folder, f"holds other things too: {', '.join(folder.others[:5])}"))
            continue
        kept += [(folder.folder / name, "not made by this program") for name in folder.others]
        hub = folder.folder / "models/hub"
        foreign = pruning.foreign(Store(folder.folder / "models"), list(config.models.values()))
        if hub.is_symlink():  # it goes, and what it leads to stays, as everywhere
            foreign = tuple(path for path in foreign if path.parent != hub)
        for place in folder.places:
            if place.link:
                kept.append((place.path, "a link"))
            elif place.name == "models" and foreign:
                kept += [(path, "not of a model in models.yaml") for path in foreign]
                below = [path for path in place.path.iterdir() if path != hub or hub.is_symlink()]
                below += () if hub.is_symlink() else hub.glob("*")
                doomed += [(path, files.size_of(path)) for path in sorted(below) if path not in foreign]
            else:
                doomed.append((place.path, place.size))
    return doomed, kept


@dataclass(frozen=True, kw_only=True)
class ShellCompletion:
    """What makes a shell complete this program's commands."""

    shell: str
    script: str
