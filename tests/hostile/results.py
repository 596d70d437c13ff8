"""Results of commands, made from their types: every text and path in them is what a test wants it to be."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import pkgutil
import random
import types
import typing
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import typing_extensions

import builder
from builder.core.jobs import timeline
from builder.errors import BakeError, MissingError
from builder.views import View
from builder.views.schemas import all_views

BY_HAND = {"bundle create", "bundle inspect"}
"""Their results hold an inventory, which has no type."""


@cache
def names() -> dict[str, Any]:
    """Everything that an annotation may name, of all modules of the package."""
    found: dict[str, Any] = {}
    for info in pkgutil.walk_packages(builder.__path__, "builder."):
        if not info.name.endswith("__main__") and "bootstrap" not in info.name:
            module = vars(importlib.import_module(info.name))
            found |= {name: value for name, value in module.items() if not name.startswith("__")}
    return found


@cache
def takes(view: View[Any]) -> Any:
    """The type of a view's result."""
    for made in (view.data, view.lines):
        code = getattr(made, "__annotations__", {})
        if hint := next((kind for name, kind in code.items() if name != "return"), None):
            return eval(hint, {**names(), **vars(importlib.import_module(made.__module__))})
    raise TypeError(f"{view.command} doesn't say what it shows")


def views() -> list[View[Any]]:
    """The views that a result can be made for."""
    return [view for command, view in all_views().items() if command not in BY_HAND]


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing_extensions.get_type_hints(kind, {**names(), **vars(importlib.import_module(kind.__module__))})


def made(kind: Any, chance: random.Random, text: Callable[[], str], depth: int = 0) -> Any:
    """A value of a type.

    Args:
        chance: for numbers and choices; the same for two values that are to differ in their texts alone.
        text: gives each text.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return made(inner[0], chance, text, depth)
    if origin in (typing.Union, types.UnionType):
        choices = [part for part in inner if part is not type(None) or depth > 6] or [type(None)]
        return made(chance.choice(choices), chance, text, depth + 1)
    if origin is typing.Literal:
        return chance.choice(inner)
    if origin is tuple and inner[1:] != (...,):
        return tuple(made(part, chance, text, depth + 1) for part in inner)
    if origin in (tuple, list, set, frozenset, Sequence):
        several = [made(inner[0], chance, text, depth + 1) for _ in range(2 if depth < 8 else 0)]
        return several if origin is list else tuple(several)
    if origin in (dict, Mapping):
        return _mapping(inner, chance, text, depth)
    return _plain(kind, chance, text, depth)


def _mapping(inner: tuple[Any, ...], chance: random.Random, text: Callable[[], str], depth: int) -> dict[Any, Any]:
    """Two entries, and one for whatever is looked up."""
    found: dict[Any, Any] = defaultdict(lambda: made(inner[1], chance, text, depth + 1))
    for _ in range(2 if depth < 8 else 0):
        found[made(inner[0], chance, text, depth + 1)] = made(inner[1], chance, text, depth + 1)
    return found


def _plain(kind: Any, chance: random.Random, text: Callable[[], str], depth: int) -> Any:
    if kind in (str, object, Any):
        return text()
    if kind is bytes:
        return text().encode(errors="replace")
    if kind is Path:
        return Path("/srv", text().replace("\0", "0") or "x")
    if kind in (int, float, bool):
        return {int: chance.randrange(10**6), float: chance.random() * 1e4, bool: chance.random() < 0.5}[kind]
    if kind is type(None):
        return None
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return chance.choice(list(kind))
    if isinstance(kind, type) and issubclass(kind, BakeError):
        return MissingError(text(), where=text(), expected=text(), hint=text(), detail=[text()])
    if kind is timeline.Span:
        return timeline.Span(stage=text(), start=1.0, end=2.0, state="failed")
    if dataclasses.is_dataclass(kind) or typing_extensions.is_typeddict(kind):
        hints = _hints(kind)
        wanted = [f.name for f in dataclasses.fields(kind) if f.init] if dataclasses.is_dataclass(kind) else list(hints)
        values = {name: made(hints[name], chance, text, depth + 1) for name in wanted}
        return kind(**values)
    if isinstance(kind, type) and issubclass(kind, tuple):  # a NamedTuple
        return kind(**{name: made(hint, chance, text, depth + 1) for name, hint in _hints(kind).items()})
    raise TypeError(f"no value of {kind}")
