"""Results of the commands about this program itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.text import format_size, table
from builder.program import elsewhere, shell_word
from builder.views import View

if TYPE_CHECKING:
    from builder.edges.machine.installation import StateFolder, StatePlace
    from builder.workflows.installation import ProjectMade, SelfStatus, ShellCompletion, Uninstalled


class ProjectJson(TypedDict):
    """A project's folder."""

    folder: str
    """Its path."""
    written: list[str]
    """Files that were written."""
    kept: list[str]
    """Files that were there and stay as they are."""
    unignored: list[str]
    """What a .gitignore that was there doesn't name."""


def _project_data(made: ProjectMade) -> ProjectJson:
    return {
        "folder": str(made.folder),
        "written": list(made.written),
        "kept": list(made.kept),
        "unignored": list(made.unignored),
    }


def _project_text(made: ProjectMade) -> list[str]:
    lines = [f"{made.folder / name}" for name in made.written]
    lines += [f"{made.folder / name}: was there, and is as it was" for name in made.kept]
    if made.unignored:
        lines.append(f"to do: .gitignore lacks {' and '.join(made.unignored)}, which are large and not git's business")
    lines.append(f"next: cd {shell_word(made.folder)} && {elsewhere('run RECORDING')}    (settings: bake.yaml)")
    return lines


INIT = View(command="init", shape=ProjectJson, data=_project_data, lines=_project_text)


class CompletionJson(TypedDict):
    """What makes a shell complete this program's commands."""

    shell: str
    """bash, zsh or fish."""
    script: str
    """What the shell has to read."""


def _completion_data(made: ShellCompletion) -> CompletionJson:
    return {"shell": made.shell, "script": made.script}


COMPLETION = View(
    command="completion",
    shape=CompletionJson,
    data=_completion_data,
    lines=lambda made: made.script.rstrip("\n").split("\n"),
)


class StatePlaceJson(TypedDict):
    """Something in a state folder."""

    name: str
    """Its name there."""
    size: int
    """Bytes of its files; links are not followed."""
    link: bool
    """Whether it is a link."""


class StateFolderJson(TypedDict):
    """A folder of state."""

    folder: str
    """Its path."""
    size: int
    """Bytes of all its places."""
    places: list[StatePlaceJson]
    """What this program keeps in it."""


class OwnModelJson(TypedDict):
    """A model that is here."""

    id: str
    """As models.yaml names it."""
    size: int
    """Bytes."""


class SelfStatusJson(TypedDict):
    """This program on this machine."""

    version: str
    """Its version."""
    python: str
    """The version of Python that runs it."""
    folder: str
    """Where it is installed: a checkout, or the package's folder."""
    installed_by: str
    """checkout, uv tool, uvx, pipx or pip."""
    removal: str
    """The command that removes it."""
    project: str | None
    """The folder of bake.yaml; null where there is no project."""
    state: list[StateFolderJson]
    """Folders of state that this command can see."""
    models: list[OwnModelJson]
    """Models that are here whole."""
    environments: list[StatePlaceJson]
    """Native Python environments."""
    jobs_folder: str
    """Where jobs are."""
    jobs: int
    """How many there are."""
    jobs_size: int
    """Bytes of their files."""


def _place_data(place: StatePlace) -> StatePlaceJson:
    return {"name": place.name, "size": place.size, "link": place.link}


def _bytes_of(state: StateFolder) -> int:
    return sum(place.size for place in state.places)


def _status_data(found: SelfStatus) -> SelfStatusJson:
    return {
        "version": found.version,
        "python": found.python,
        "folder": str(found.installation.folder),
        "installed_by": found.installation.by,
        "removal": found.installation.removal,
        "project": None if found.project is None else str(found.project),
        "state": [
            {
                "folder": str(state.folder),
                "size": _bytes_of(state),
                "places": [_place_data(place) for place in state.places],
            }
            for state in found.state
        ],
        "models": [{"id": id_, "size": size} for id_, size in found.models],
        "environments": [_place_data(environment) for environment in found.environments],
        "jobs_folder": str(found.jobs),
        "jobs": found.job_count,
        "jobs_size": found.job_bytes,
    }


def _status_text(found: SelfStatus) -> list[str]:
    rows: list[tuple[str, str, str]] = [
        ("program", "", f"whisperbake {found.version}, Python {found.python}"),
        ("installed by", "", f"{found.installation.by}: {found.installation.folder}"),
        ("project", "", "none: run settings come with the program" if found.project is None else str(found.project)),
    ]
    for state in found.state:
        rows.append(("state", format_size(_bytes_of(state)), str(state.folder)))
        rows += [(f"  {place.name}", format_size(place.size), "a link" if place.link else "") for place in state.places]
    rows += [("model", format_size(size), id_) for id_, size in found.models]
    rows += [("environment", format_size(place.size), place.name) for place in found.environments]
    rows.append(("jobs", format_size(found.job_bytes), f"{found.job_count} in {found.jobs}"))
    return table(("WHAT", "SIZE", "WHERE"), rows)


STATUS = View(command="self status", shape=SelfStatusJson, data=_status_data, lines=_status_text)


class RemovedPathJson(TypedDict):
    """A file or folder."""

    path: str
    """Where it is."""
    size: int
    """Bytes that its removal frees."""


class KeptPathJson(TypedDict):
    """A file or folder that stays."""

    path: str
    """Where it is."""
    why: str
    """Why it stays."""


class UninstalledJson(TypedDict):
    """What was removed, or with ``--dry-run`` would be."""

    removed: list[RemovedPathJson]
    """State, and jobs with ``--jobs``."""
    kept: list[KeptPathJson]
    """What lies among it and stays."""
    jobs: list[str]
    """Ids of the jobs among it."""
    dry_run: bool
    """Whether everything is still there."""
    removal: str
    """The command that removes the program itself."""


def _uninstalled_data(found: Uninstalled) -> UninstalledJson:
    return {
        "removed": [{"path": str(path), "size": size} for path, size in found.removed],
        "kept": [{"path": str(path), "why": why} for path, why in found.kept],
        "jobs": list(found.jobs),
        "dry_run": found.dry_run,
        "removal": found.removal,
    }


def _uninstalled_text(found: Uninstalled) -> list[str]:
    verb = "would go" if found.dry_run else "removed"
    rows = [(verb, format_size(size), str(path)) for path, size in found.removed]
    rows += [("stays", "", f"{path}: {why}") for path, why in found.kept]
    lines = [*table(("WHAT", "SIZE", "PATH"), rows), ""] if rows else [f"nothing {verb}: there is no state here"]
    lines.append("images in an engine stay: docker image ls --filter label=io.whisperbake.inputs")
    lines.append(f"the program itself: {found.removal}")
    return lines


UNINSTALL = View(command="self uninstall", shape=UninstalledJson, data=_uninstalled_data, lines=_uninstalled_text)
