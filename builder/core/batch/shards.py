"""Items shared out in shards of even length. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence


def share(lengths: Sequence[tuple[float, str]], shard_seconds: float) -> list[int]:
    """The shard of each recording, from 0 on: the longest first, each into the shard that has least.

    The same recordings are shared out in the same way, whatever their order.

    Args:
        lengths: seconds of sound and path of each recording; no path twice.
        shard_seconds: of sound that a shard is to have, or so; a longer recording has a shard of its own.
    """
    total = math.fsum(seconds for seconds, _ in lengths)
    count = min(len(lengths), max(1, math.ceil(total / shard_seconds)))
    loads = [(0.0, 0, number) for number in range(count)]  # sorted, so it is a heap
    found = [0] * len(lengths)
    for at in sorted(range(len(lengths)), key=lambda n: (-lengths[n][0], lengths[n][1])):
        load, items, number = loads[0]
        found[at] = number
        # Recordings of no length are shared out too: by their number.
        heapq.heapreplace(loads, (load + lengths[at][0], items + 1, number))
    return found


GUESS = 16_000
"""Bytes of a second of sound, where a header doesn't say how long a recording is: 128 kbit/s."""


def length(seconds: float | None, size: int) -> float:
    """Seconds of sound that a recording counts as.

    Args:
        seconds: by its header; None: it doesn't say.
        size: bytes.
    """
    return round(size / GUESS if seconds is None else seconds, 3)
