"""Text in files that other programs read: each function quotes what a person can configure for one place, or refuses it. Pure.

How a compose file wants its strings is in core/jobs/compose.py: YAML's rules, and compose's own variables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from builder.errors import ConfigError

if TYPE_CHECKING:
    import jinja2


def name_(text: str) -> str:
    """A name that is safe anywhere in a Dockerfile: letters, digits, ``._-``; anything else is refused."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", text):
        raise ConfigError(f"{text!r} can't stand in a Dockerfile", expected="lower-case letters, digits, . _ -")
    return text


def reference(text: str) -> str:
    """An image reference; anything that could be more than that is refused."""
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._:/-]*(@sha256:[0-9a-f]{64})?", text):
        raise ConfigError(f"{text!r} is not an image reference", expected="host[:port]/path:tag")
    return text


def quoted(text: str) -> str:
    """A value in double quotes, with what a Dockerfile would expand made plain."""
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise ConfigError(f"{text!r} has control characters", expected="one line of text")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


def exec_(words: list[str]) -> str:
    """The exec form: a JSON array, so that no shell sees it."""
    return json.dumps(words, ensure_ascii=False)


def plain(text: str) -> str:
    """Text for docker-bake.json, where ``${…}`` and ``%{…}`` are templates."""
    return text.replace("${", "$${").replace("%{", "%%{")


def unplain(text: str) -> str:
    """What :func:`plain` escaped."""
    return text.replace("$${", "${").replace("%%{", "%{")


def environment(templates: Mapping[str, str], **filters: Callable[..., str]) -> jinja2.Environment:
    """What all generated files but the page are rendered with: an unknown name is an error, and blocks leave no lines.

    Args:
        templates: texts that templates include or extend, by name.
        filters: the quoting of this kind of file.
    """
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.DictLoader(dict(templates)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    made.filters |= filters
    return made
