"""What an engine's events tell of itself: it keeps them in memory alone, so those of another run of it are gone."""

from __future__ import annotations

import time
from typing import Any

REMEMBERED = 256
"""Events that Docker keeps, the newest ones (``eventsLimit`` of moby's daemon/events/events.go)."""


def restarted_since(api: Any, container: str) -> bool:
    """Whether the engine has been gone and back since a container that has ended began: then it ended the container itself.

    One that was asked to end has ended its containers and forgotten it. One that was killed ends them when it is back, and
    knows of their end but not of their beginning.

    Args:
        api: docker-py's low-level client.

    Raises:
        Exception: docker-py's and its libraries', where the engine doesn't answer.
    """
    began = known = with_beginning = False
    soon = int(time.time()) + 2  # an end is known a moment before its event is
    for event in _events(api, soon, container=[container]):
        if event.get("Action") == "start":
            began = True
        elif event.get("Action") == "die":
            known, with_beginning, began = True, began, False
    if not known or with_beginning:
        return not known
    return sum(1 for _ in _events(api, int(time.time()))) < REMEMBERED  # else it may have forgotten the beginning alone


def _events(api: Any, until: int, **filters: Any) -> Any:
    return api.events(since=1, until=until, filters=filters, decode=True)
