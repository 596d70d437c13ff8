"""What the project's files said, kept in the state folder: checking them again takes longer than most commands.

The key is the text of every file and the code that checks it. What is kept is plain JSON, which is read into the frozen
types listed here and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import builder
from builder.core import terms
from builder.core.config import types
from builder.core.config.paths import Paths
from builder.core.config.types import ProjectFiles
from builder.core.weights import model
from builder.edges.system import files

CODE = ("errors.py", "core/terms.py", "core/yaml_document.py", "core/config/*.py", "core/weights/*.py")
"""What decides how files are read, below the package's folder."""

KINDS: dict[str, Any] = {
    kind.__name__: kind
    for module in (terms, types, model)
    for kind in vars(module).values()
    if isinstance(kind, type) and (is_dataclass(kind) or issubclass(kind, Enum))
}
"""The types that a record may name."""


def key_of(texts: Mapping[str, str]) -> str:
    """Hex sha256 of the files' names and texts, and of the size and time of the code that reads them."""
    digest = hashlib.sha256(builder.__version__.encode())
    for name, text in sorted(texts.items()):
        digest.update(f"{name}\0{len(text)}\0{text}".encode())
    package = Path(builder.__file__).parent
    for path in sorted(path for pattern in CODE for path in package.glob(pattern)):
        status = path.stat()
        digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def load(home: Path, key: str) -> ProjectFiles | None:
    """What was kept under ``key``, or None."""
    record = files.read_object(Paths(home=home).project)
    if record.get("key") != key:
        return None
    with contextlib.suppress(KeyError, TypeError, ValueError):
        project = unpack(record["project"])
        if isinstance(project, ProjectFiles):
            return project
    return None


def save(home: Path, key: str, project: ProjectFiles) -> None:
    """Keep it where there is a state folder that can be written; a command that only asks makes none."""
    if not home.is_dir():
        return
    # bake.yaml may hold an index's password.
    with contextlib.suppress(OSError):
        text = json.dumps({"key": key, "project": pack(project)}, ensure_ascii=False)
        files.write_atomic(Paths(home=home).project, text, mode=0o600)


def pack(value: Any) -> Any:
    """Frozen types as JSON: ``[name, fields]``; mappings as ``{"of": pairs}``; tuples as lists in a list."""
    if isinstance(value, Enum):
        return [type(value).__name__, value.value]
    if is_dataclass(value):
        return [type(value).__name__, {field.name: pack(getattr(value, field.name)) for field in fields(value)}]
    if isinstance(value, Mapping):
        return {"of": [[pack(key), pack(inner)] for key, inner in value.items()]}
    if isinstance(value, tuple | list):
        return {"tuple" if isinstance(value, tuple) else "list": [pack(inner) for inner in value]}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{type(value).__name__} can't be kept")


def unpack(value: Any) -> Any:
    """The opposite of :func:`pack`.

    Raises:
        KeyError: a type that isn't listed.
        TypeError, ValueError: not what ``pack`` makes.
    """
    if isinstance(value, list):
        name, inner = value
        kind: Any = KINDS[name]
        return kind(**{key: unpack(part) for key, part in inner.items()}) if isinstance(inner, dict) else kind(inner)
    if isinstance(value, dict):
        if "of" in value:
            return MappingProxyType({unpack(key): unpack(inner) for key, inner in value["of"]})
        return tuple(map(unpack, value["tuple"])) if "tuple" in value else [unpack(inner) for inner in value["list"]]
    return value
