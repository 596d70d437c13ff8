"""What a command found, as people and scripts read it: one module a subject, one :class:`View` a command.

A workflow returns a frozen, typed result; a view makes text and JSON of it. The shape of the JSON is a TypedDict with a
docstring for each key, from which docs/json.md is written (``python -m builder.views.schemas``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from builder.core.text import visible

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
    lines: Callable[[Found], Sequence[str]]
    """The result for people, line by line; none when there is nothing to say."""
    version: int = 1
    """Goes up when a key is removed, renamed or means something else; not when one is added."""

    def text(self, found: Found) -> str:
        """The lines as they are printed: no name in them can make another line, or steer a terminal."""
        return "\n".join(visible(line) for line in self.lines(found))
