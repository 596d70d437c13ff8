"""Every error a user can meet: its exit code, what happened, what to do next.

Errors are raised as data anywhere and shown once, by ``builder.cli``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class BakeError(Exception):
    """Something the user can act on.

    Args:
        what: one sentence: what failed.
        where: the file (with line), model, stage or address it concerns.
        expected: what would have been right.
        hint: what to type or change next.
        detail: lines of context, such as the end of a log.
    """

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "failed"
    """One word for scripts. It never changes."""

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
        detail: Iterable[str] = (),
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.expected = expected
        self.hint = hint
        self.detail = tuple(detail)
        self.in_result = False
        """A JSON result that was printed says it already: standard output has one document."""


class UsageError(BakeError):
    """The command line, or a file the user wrote, asks for something that can't be."""

    exit_code = 2
    kind = "usage"


class ConfigError(UsageError):
    """A configuration file is wrong; ``where`` is ``file:line``."""

    kind = "config"


class InputError(UsageError):
    """A recording can't be used: not media, no sound, gone, empty."""

    kind = "input"


class MissingError(BakeError):
    """This machine lacks something: a tool, memory, disk, a permission, an engine."""

    exit_code = 3
    kind = "missing"


class SourceError(BakeError):
    """A source could not be reached, or refused."""

    exit_code = 4
    kind = "source"


class IntegrityError(BakeError):
    """Bytes are not what the lock, an inventory or a manifest says."""

    exit_code = 5
    kind = "integrity"


class BuildError(BakeError):
    """An image build failed."""

    exit_code = 6
    kind = "build"


class StageError(BakeError):
    """A stage of a job failed; ``detail`` holds its last lines, ``where`` its log."""

    exit_code = 7
    kind = "stage"


class PartialError(BakeError):
    """A job has its transcript, and is done without an optional stage, which failed; or with gaps that --strict forbids."""

    exit_code = 8
    kind = "partial"


class Interrupted(BakeError):
    """Ctrl-C or SIGTERM; what was done so far is kept."""

    exit_code = 130
    kind = "interrupted"


class Terminated(Interrupted):
    """SIGTERM, of a command that an engine ends: its exit code says which signal it was."""

    exit_code = 143
    kind = "terminated"


class Bug(BakeError):
    """An exception that nobody foresaw; ``hint`` names the file that describes it."""

    kind = "bug"


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """``did you mean "large-v3"?`` for the closest of ``known``, or None when nothing is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else None
