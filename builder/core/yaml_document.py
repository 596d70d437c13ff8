"""YAML text as plain data, with the line of each key. Duplicate keys, aliases and tags are refused.

Written by hand because PyYAML drops the lines when it builds data (docs/dependencies.md).
"""

from __future__ import annotations

from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from builder.errors import ConfigError, did_you_mean

Path = tuple[Any, ...]
Shape = TypeVar("Shape", bound="Strict")

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's parser in C if it is available: ten times as fast, with the same rules."""

MAX_TEXT = 1_000_000
"""Characters of one file; the longest here has 12,000."""

MAX_VALUES = 500_000
"""Keys, values, and beginnings and ends of what holds others: a kilobyte each in memory, while a comma makes one."""

MAX_DEPTH = 20
"""Levels of nesting; the files here have five. Reading is recursive, so this also limits the stack."""


class Strict(BaseModel):
    """The base of all shapes of files: no unknown keys, no silent conversions, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Document:
    """A parsed file: ``data``, and the line of every key and item."""

    def __init__(self, name: str, text: str, *, longest: int = MAX_TEXT) -> None:
        self.name = name
        self._longest = longest
        self._lines: dict[Path, int] = {}
        loader = LOADER(text)
        try:
            self._look_first(text)
            node = loader.get_single_node()
            self.data = {} if node is None else self._read(loader, node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f":{mark.line + 1}" if mark else ""
            raise ConfigError(f"not YAML: {error.problem or error.context}", where=f"{name}{line}") from error
        except (yaml.YAMLError, ValueError, ArithmeticError) as error:
            # A word that looks like a date or a number and isn't one: 2026-13-41.
            raise ConfigError(f"not YAML: {error}", where=name) from error
        finally:
            loader.dispose()

    def _look_first(self, text: str) -> None:
        """Refuse text that is too large or more than plain data, before anything is built from it."""
        if len(text) > self._longest:
            raise ConfigError(
                f"{len(text)} characters are too many", where=self.name, expected=f"at most {self._longest}"
            )
        depth = 0
        for number, event in enumerate(yaml.parse(text, Loader=LOADER)):
            if number > MAX_VALUES:
                raise ConfigError("it holds too many values", where=self.name, expected=f"at most {MAX_VALUES}")
            where = f"{self.name}:{getattr(event.start_mark, 'line', 0) + 1}"
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(
                    "aliases are not read here", where=where, hint=f"write the value out in place of *{event.anchor}"
                )
            if (tag := getattr(event, "tag", None)) is not None:
                raise ConfigError(f"tags are not read here: {tag}", where=where, hint="leave the tag out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ConfigError(f"nested deeper than {MAX_DEPTH} levels", where=where)

    def _read(self, loader: Any, node: Any, path: Path) -> Any:
        self._lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            found: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = loader.construct_object(key_node)
                line = key_node.start_mark.line + 1
                if not isinstance(key, str):
                    raise ConfigError(
                        f"the key {key_node.value!r} is not text",
                        where=f"{self.name}:{line}",
                        hint=f'put it in quotes: "{key_node.value}"',
                    )
                if key in found:
                    raise ConfigError(f'"{key}" is here twice', where=f"{self.name}:{line}", hint="keep one of them")
                found[key] = self._read(loader, value_node, (*path, key))
                place = (*path, key)
                self._lines[place] = line
            return found
        if isinstance(node, yaml.SequenceNode):
            return [self._read(loader, item, (*path, k)) for k, item in enumerate(node.value)]
        return loader.construct_object(node)

    def where(self, path: Path) -> str:
        """``file:line`` of a key or item, or of the nearest existing one around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return f"{self.name}:{self._lines.get(path, 1)}"

    def error(self, what: str, path: Path, *, expected: str | None = None, hint: str | None = None) -> ConfigError:
        """A :class:`ConfigError` that points at a place in this file."""
        return ConfigError(what, where=self.where(path), expected=expected, hint=hint)

    def read(self, shape: type[Shape]) -> Shape:
        """The file's data in ``shape``.

        Raises:
            ConfigError: a key is unknown or missing, or a value has the wrong type; with the line and a close match.
        """
        if not isinstance(self.data, dict):
            raise ConfigError("the file is not a mapping", where=self.where(()), expected="key: value")
        try:
            return shape.model_validate(self.data)
        except ValidationError as error:
            # The innermost of several errors says most: a union reports every member that it tried.
            first = max(error.errors(), key=lambda e: (len(e["loc"]), e["type"] == "extra_forbidden"))
            raise self._explain(shape, self._place(first["loc"], missing=first["type"] == "missing"), first) from error

    def _place(self, loc: Path, *, missing: bool) -> Path:
        """Pydantic's location as a path in the file, without the names of union members that pydantic inserts."""
        place: Path = ()
        for part in loc:
            if (*place, part) in self._lines:
                place = (*place, part)
        return (*place, loc[-1]) if missing else place

    def _explain(self, shape: type[Strict], path: Path, error: Any) -> ConfigError:
        name = ".".join(str(p) for p in path)
        if error["type"] == "extra_forbidden":
            known = _keys(shape, path[:-1])
            hint = did_you_mean(str(path[-1]), known)
            return self.error(f'unknown key "{path[-1]}"', path, expected=", ".join(sorted(known)) or None, hint=hint)
        if error["type"] == "missing":
            return self.error(f'"{path[-1]}" is missing', path[:-1], hint=f"add {path[-1]}: …")
        allowed = error.get("ctx", {}).get("expected")
        hint = None
        if allowed and isinstance(error["input"], str):
            hint = did_you_mean(error["input"], allowed.replace("'", "").replace(" or ", ", ").split(", "))
        if error["type"] == "string_type" and not isinstance(error["input"], (list, dict, type(None))):
            # no, on, 12e3, 2026-11-23: YAML's classic traps, such as Norwegian in a list of languages.
            hint = "YAML doesn't read this word as text: put it in quotes"
        message = error["msg"].removeprefix("Value error, ")
        given = repr(error["input"])
        given = given if len(given) <= 80 else given[:79] + "…"
        return self.error(f"{name}: {message[0].lower()}{message[1:]}, not {given}", path, hint=hint)


def _keys(shape: Any, path: Path) -> list[str]:
    """The keys that a shape allows at ``path``."""
    for part in path:
        if isinstance(shape, type) and issubclass(shape, BaseModel):
            field = next((f for n, f in shape.model_fields.items() if part in (n, f.alias)), None)
            shape = field.annotation if field else None
        shape = _model_in(shape)
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        return [f.alias or n for n, f in shape.model_fields.items()]
    return []


def _model_in(annotation: Any) -> Any:
    """The pydantic model inside ``dict[str, M]``, ``tuple[M, ...]`` or ``M | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _model_in(inner)) is not None:
            return found
    return None
