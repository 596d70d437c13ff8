"""The project's own files, read from disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from builder.core.config.defaults import configure, state_folder
from builder.core.config.types import Config, ProjectFiles
from builder.edges.machine import project_cache
from builder.edges.system import files
from builder.errors import ConfigError

HERE = Path(__file__).resolve().parents[3]
"""The checkout that this package belongs to."""


def find_root(start: Path) -> Path:
    """The folder of the nearest bake.yaml at or above ``start``, else this checkout's."""
    for folder in (start, *start.parents):
        if (folder / "bake.yaml").is_file() and (folder / "models.yaml").is_file():
            return folder
    return HERE


def load(
    root: Path, *, env: Mapping[str, str], home: Path | None = None, overrides: Mapping[str, object] | None = None
) -> Config:
    """Read and check all configuration below ``root``.

    Raises:
        ConfigError: a file can't be read, or is invalid.
    """
    names = ["bake.yaml", "models.yaml", "models.lock"]
    names += [p.relative_to(root).as_posix() for p in sorted(root.glob("stages/*/stage.yaml"))]
    names += [p.relative_to(root).as_posix() for p in sorted(root.glob("images/*.yaml"))]
    inside = root.resolve()
    texts = {}
    for name in names:
        path = root / name
        try:
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
    project = _read(texts, state_folder(root, env, flag))
    return configure(project, root=root, env=env, home=flag, overrides=overrides or {})


def _read(texts: Mapping[str, str], home: Path) -> ProjectFiles:
    """What the files say, as they were last checked where none has changed."""
    key = project_cache.key_of(texts)
    if (known := project_cache.load(home, key)) is not None:
        return known
    from builder.core.config.parse import read

    project = read(texts)
    project_cache.save(home, key, project)
    return project
