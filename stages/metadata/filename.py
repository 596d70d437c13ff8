"""What the names of films say: titles, years, seasons, by guessit.

Reads a JSON list of names from standard input, and prints a list of objects in the same order. It is a program of its own,
because it has an environment of its own. The stage reads names by it, too.
"""

from __future__ import annotations

import json
import sys
from typing import Any

WANTED = ("title", "year", "season", "episode", "episode_title", "type")
"""What is told of a name; guessit knows of codecs and of who released a file, too."""


def said(name: str) -> dict[str, Any]:
    """What a file's name says; of several values the first."""
    from guessit import guessit

    found = guessit(name)
    firsts = {key: value[0] if isinstance(value, list) else value for key, value in found.items() if key in WANTED}
    return {key: value if isinstance(value, int) else str(value) for key, value in firsts.items() if value != []}


if __name__ == "__main__":
    json.dump([said(str(name)) for name in json.load(sys.stdin)], sys.stdout)
