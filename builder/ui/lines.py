"""Lines on standard error: without secrets, and without what would steer a terminal."""

from __future__ import annotations

import os
import sys

from builder.core import mask
from builder.core.text import visible


def masked(text: str) -> str:
    """Without secrets that an error of somebody else's brought along (a header, the index's address with a password)."""
    return mask.masked(text, mask.secrets_of(os.environ))


def say(line: str) -> None:
    """One line on standard error: no name in it makes another. A reader that has gone, or a full disk, stops no work."""
    try:
        print(visible(masked(line)), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return
