"""The project's own files, read from disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from builder.core.config.defaults import configure, state_folder
from builder.core.config.paths import Paths
from builder.core.config.types import Config, ProjectFiles
from builder.edges.machine import project_cache, trust
from builder.edges.system import files
from builder.errors import ConfigError, MissingError, UsageError
from builder.program import command

PACKAGE = Path(__file__).resolve().parents[2]
"""The folder of the package ``builder``."""

INSTALLED = PACKAGE / "_project"
"""The project's files as a wheel carries them; a checkout doesn't have this folder."""

CATALOGUE = ("models.yaml", "models.lock")
"""The models and their pins, beside bake.yaml."""

HERE = INSTALLED if INSTALLED.is_dir() else PACKAGE.parent
"""The project's files that belong to this package: those of its checkout, or those that pip installed."""


def find_root(start: Path, env: Mapping[str, str]) -> Path:
    """The folder that BAKE_PROJECT names, of the nearest bake.yaml at or above ``start``, else :data:`HERE`.

    Raises:
        UsageError: one that was found could have been written by others; or there is none in the folder that is named.
    """
    if named := env.get(trust.TRUSTED):
        root = files.expanded(named).resolve()
        if not _is_project(root):
            raise UsageError("no project is there", where=f"{trust.TRUSTED}={named}", expected="bake.yaml, models.yaml")
        return root
    root = next((folder for folder in (start, *start.parents) if _is_project(folder)), HERE)
    if root != HERE:  # whoever can write there decides what this program is, too
        trust.require_own(root, env)
    return root


def _is_project(folder: Path) -> bool:
    return (folder / "bake.yaml").is_file() and (folder / "models.yaml").is_file()


def shipped_files(root: Path) -> Path:
    """The folder of stages, images, templates…: a checkout has its own; a user's project has what came with the package."""
    return root if (root / "stages").is_dir() else HERE


def require(config: Config, what: str) -> None:
    """Raises UsageError where there is no project that could keep ``what``."""
    if config.root == INSTALLED:
        raise UsageError(
            f"{what} is kept in a project, and there is none here",
            expected="a folder with bake.yaml, models.yaml and models.lock",
            hint=command("init"),
        )


def user_data(env: Mapping[str, str]) -> Path:
    """The user's folder for state and jobs without a project (XDG Base Directory Specification).

    Raises:
        MissingError: this user has no home.
    """
    given = Path(env.get("XDG_DATA_HOME", ""))
    if given.is_absolute():  # a relative one is to be ignored
        return given / "whisperbake"
    try:
        return Path(env["HOME"] if env.get("HOME") else Path.home()) / ".local/share/whisperbake"
    except RuntimeError as error:
        raise MissingError("this user has no home for models and jobs", hint="set HOME, or XDG_DATA_HOME") from error


def logs(start: Path, env: Mapping[str, str], home: Path | None) -> Path:
    """The folder of logs, for a command whose configuration may not have been read; made if need be, for the user alone.

    Raises:
        BakeError, OSError: it can't be told which, or others could put links into it.
    """
    root = find_root(start, env)
    flag = files.expanded(home) if home else None
    folder = Paths(home=state_folder(root, env, flag, data=user_data(env) if root == INSTALLED else None)).logs
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    trust.require_own_folder(folder)
    return folder


def load(
    root: Path, *, env: Mapping[str, str], home: Path | None = None, overrides: Mapping[str, object] | None = None
) -> Config:
    """Read and check all configuration: the user's files in ``root``, and the shipped ones.

    Raises:
        ConfigError: a file can't be read, or is invalid.
    """
    shipped = shipped_files(root)
    paths = {name: root / name for name in ("bake.yaml", *CATALOGUE)}
    for pattern in ("stages/*/stage.yaml", "images/*.yaml"):
        paths |= {path.relative_to(shipped).as_posix(): path for path in sorted(shipped.glob(pattern))}
    texts = {}
    for name, path in paths.items():
        try:
            inside = path.parents[name.count("/")].resolve()
            real = path.resolve(strict=True)
            if real != inside / name:
                raise ConfigError("a link, which could lead anywhere", where=name, expected="a file of its own")
            if not real.is_file():
                raise ConfigError("not a file", where=name)
            texts[name] = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            if name != "models.lock":  # without it nothing is pinned yet
                raise ConfigError("not there", where=name, hint=f"look for bake.yaml: {root}") from None
        except (OSError, RuntimeError, UnicodeDecodeError) as error:  # RuntimeError: links in a circle
            raise ConfigError(f"can't be read: {error}", where=name) from error
    # Paths in variables are relative to the current folder, paths in a file to that file.
    env = dict(env)
    for place in ("BAKE_HOME", "BAKE_JOBS"):
        if env.get(place):
            env[place] = str(files.expanded(env[place]).resolve())
    if env.get("BAKE_SOURCES"):
        env["BAKE_SOURCES"] = ":".join(
            str(files.expanded(part).resolve()) for part in env["BAKE_SOURCES"].split(":") if part
        )
    flag = files.expanded(home).resolve() if home else None
    data = user_data(env) if root == INSTALLED else None
    project = _read(texts, state_folder(root, env, flag, data=data))
    return configure(project, root=root, shipped=shipped, env=env, home=flag, data=data, overrides=overrides or {})


def _read(texts: Mapping[str, str], home: Path) -> ProjectFiles:
    """What the files say, as they were last checked where none has changed."""
    key = project_cache.key_of(texts)
    if (known := project_cache.load(home, key)) is not None:
        return known
    from builder.core.config.parse import read

    project = read(texts)
    project_cache.save(home, key, project)
    return project
