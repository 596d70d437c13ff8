"""A language that somebody asks for, on the command line or in a file; receiver/jobs/languages.py knows them all."""

from __future__ import annotations

from builder.errors import UsageError, did_you_mean
from builder.receiver.jobs.languages import EACH, KNOWN, LONGEST_LANGUAGE, code_of


def spoken(language: str | None) -> str | None:
    """The one language of a recording; None where it is detected, in all of it or in each part."""
    return None if language == EACH else language


def require(text: str, *, where: str) -> str | None:
    """As :func:`code_of`.

    Raises:
        UsageError: nobody knows it.
    """
    try:
        return code_of(text)
    except LookupError:
        raise UsageError(
            f'"{text}" is not a language that Whisper knows',
            where=where,
            expected="a code or a name, such as en, German or Deutsch; auto: it is detected; auto-segments: in each part",
            hint=did_you_mean(text.strip().lower()[:LONGEST_LANGUAGE], KNOWN),
        ) from None
