"""What a command found, as people and scripts read it: one module a subject, one :class:`View` a command.

A workflow returns a frozen, typed result; a view makes text and JSON of it. The shape of the JSON is a TypedDict with a
docstring for each key, from which docs/json.md is written (``python -m builder.views.schemas``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Found = TypeVar("Found")
"""What a workflow returns."""


@dataclass(frozen=True, kw_only=True)
class View(Generic[Found]):
    """How one command's result is shown."""

    command: str
    """As it is typed: ``models list``."""
    shape: Any
    """The type of what ``data`` returns: a TypedDict, or a list of them."""
    data: Callable[[Found], Any]
    """The result for scripts: what JSON has, and dataclasses, which become objects."""
    text: Callable[[Found], str]
    """The result for people; empty when there is nothing to say."""
    version: int = 1
    """Goes up when a key is removed, renamed or means something else; not when one is added."""
