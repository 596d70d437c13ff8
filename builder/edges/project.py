"""The project's own files, read from disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from builder.core import config
from builder.core.types import Config
from builder.errors import ConfigError

HERE = Path(__file__).resolve().parents[2]
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
    """Read and check everything that is configured below ``root``.

    Raises:
        ConfigError: a file can't be read, or is wrong.
    """
    names = ["bake.yaml", "models.yaml", "models.lock"]
    names += [p.relative_to(root).as_posix() for p in sorted(root.glob("stages/*/stage.yaml"))]
    names += [p.relative_to(root).as_posix() for p in sorted(root.glob("images/*.yaml"))]
    files = {}
    for name in names:
        try:
            files[name] = (root / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"can't be read: {error}", where=name) from error
    return config.parse(
        files,
        root=root,
        env=env,
        home=home.resolve() if home else None,
        overrides=overrides,
    )
