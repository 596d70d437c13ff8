"""What a person sees: progress, errors, tracing. Standard error only; results for scripts are those of ``builder.cli``."""

from __future__ import annotations

import logging
import re
import traceback
from typing import Any

from builder.errors import BakeError
from builder.ui.lines import masked, say
from builder.ui.live import Live

__all__ = ["Live", "error_data", "masked", "say", "show_error", "show_trace", "trace"]


def show_error(error: BakeError) -> None:
    """What failed, where, what was expected, what to type next."""
    say(f"error: {error.where}: {error.what}" if error.where else f"error: {error.what}")
    for line in error.detail:
        say(f"  | {line}")
    if error.expected:
        say(f"  expected: {error.expected}")
    if error.hint:
        say(f"  next: {error.hint}")


def error_data(error: BakeError) -> dict[str, Any]:
    """The same for ``--json``."""
    return {
        "error": {
            "code": error.kind,
            "what": masked(error.what),
            "where": error.where and masked(error.where),
            "expected": error.expected and masked(error.expected),
            "hint": error.hint and masked(error.hint),
            "detail": [masked(line) for line in error.detail],
            "exit_code": error.exit_code,
        }
    }


TRACED = {"whisperbake": logging.DEBUG, "urllib3.connectionpool": logging.DEBUG, "httpx": logging.INFO}
"""Loggers that ``--debug`` shows: programs that are run, questions to the engine, requests to servers."""

SIGNED = re.compile(r"(https?://[^\s\"'?]+)\?[^\s\"']*")
"""An address with a query: the hub's links to its storage are signed there."""


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        line = SIGNED.sub(r"\1?***", record.getMessage())
        say(f"debug: {line}")


def trace() -> None:
    """Tell on standard error what is run and asked, without secrets."""
    handler = _Lines()
    for name, level in TRACED.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = False
        logger.handlers = [handler]


def show_trace(error: BaseException) -> None:
    """Where an error comes from, for ``--debug``."""
    for part in traceback.format_exception(error):
        # What an exception says is a value: one line, whatever it holds. Only frames have two.
        for line in part.splitlines() if part.startswith("  File") else [part.rstrip("\n")]:
            say(f"debug: {line}")
