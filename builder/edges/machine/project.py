"""The project's own files, read from disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from builder.core.config import parse as config
from builder.core.config.types import Config
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
    files = {}
    for name in names:
        path = root / name
        try:
            real = path.resolve(strict=True)
            if real != inside / name:
                raise ConfigError("a link, which could lead anywhere", where=name, expected="a file of its own")
            if not real.is_file():
                raise ConfigError("not a file", where=name)
            files[name] = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            if name != "models.lock":  # without it nothing is pinned yet
                raise ConfigError("not there", where=name, hint=f"look for bake.yaml: {root}") from None
        except (OSError, RuntimeError, UnicodeDecodeError) as error:  # RuntimeError: links in a circle
            raise ConfigError(f"can't be read: {error}", where=name) from error
    # Paths in variables are relative to the current folder, paths in a file to that file.
    env = dict(env)
    for place in ("BAKE_HOME", "BAKE_JOBS"):
        if env.get(place):
            env[place] = str(Path(env[place]).expanduser().resolve())
    if env.get("BAKE_SOURCES"):
        env["BAKE_SOURCES"] = ":".join(
            str(Path(part).expanduser().resolve()) for part in env["BAKE_SOURCES"].split(":") if part
        )
    return config.parse(
        files,
        root=root,
        env=env,
        home=home.expanduser().resolve() if home else None,
        overrides=overrides,
    )
