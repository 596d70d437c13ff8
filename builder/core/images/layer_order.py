"""The order of layers, planned for a whole set of images at once. Pure.

An engine unpacks a layer once for each chain of layers below it. So a set costs the bytes of every distinct chain, once
when it is baked and again whenever something in the chain changes. What is heavy and steady belongs at the bottom, what
changes at the top, and what images share below what they don't.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

RATES = {"base": 2.0, "requirement": 4.0, "model": 1.0, "code": 26.0}
"""How often something of a kind changes for each time that the set is baked from nothing: a year of an installation.
A base follows Debian's point releases, each library layer moves with a season's updates, a model is added or replaced
once, code changes every other week."""

TRIES = 4096
"""The most arrangements of one image that are all compared; when there are more, models are moved one by one."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Layers that stay together: the base, a library, one model, the code."""

    name: str
    kind: str
    """A key of :data:`RATES`."""
    size: int
    """Unpacked bytes."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One image: its own blocks, lowest first, in a fixed order; and its models, in the plan's order."""

    image: str
    blocks: tuple[Block, ...]
    models: tuple[Block, ...]


Order = Mapping[str, tuple[Block, ...]]
"""Image -> all of its blocks, lowest first."""


def arrange(stacks: Sequence[Stack]) -> dict[str, tuple[Block, ...]]:
    """The orders of all images that cost least together.

    Models have the same order everywhere (those that most images share first, then as planned), so a model that is added
    to the end of a choice comes on top of the others. A model may stand anywhere below the code, which is always last.
    The search starts from three simple orders and improves each until nothing gets better.
    """
    users = Counter(m.name for s in stacks for m in s.models)
    ranked = {s.image: tuple(sorted(s.models, key=lambda m: -users[m.name])) for s in stacks}
    starts = [
        {s.image: (0,) * len(s.models) for s in stacks},
        {s.image: (_top(s),) * len(s.models) for s in stacks},
        {s.image: tuple(itertools.accumulate((_by_weight(s, m) for m in ranked[s.image]), max)) for s in stacks},
    ]
    candidates: list[tuple[float, int, dict[str, tuple[Block, ...]]]] = []
    for start in starts:
        places = dict(start)
        while True:
            before = dict(places)
            for stack in stacks:
                if stack.models:
                    places[stack.image] = _best(stack, ranked, places, stacks)
            if places == before:
                break
        order = {s.image: merged(s, ranked[s.image], places[s.image]) for s in stacks}
        candidates.append((cost(order), len(candidates), order))
    return min(candidates, key=lambda f: f[:2])[2]


def _top(stack: Stack) -> int:
    return max(len(stack.blocks) - 1, 0)


def _by_weight(stack: Stack, model: Block) -> int:
    """Above every block that is heavier."""
    return max((k + 1 for k, b in enumerate(stack.blocks[: _top(stack)]) if b.size > model.size), default=0)


def _best(
    stack: Stack,
    ranked: Mapping[str, tuple[Block, ...]],
    places: Mapping[str, tuple[int, ...]],
    stacks: Sequence[Stack],
) -> tuple[int, ...]:
    """The cheapest places of one image's models while all other images stay; the present ones unless others are better."""
    others = {s.image: merged(s, ranked[s.image], places[s.image]) for s in stacks if s is not stack}
    now = places[stack.image]

    def price(choice: tuple[int, ...]) -> float:
        return cost({**others, stack.image: merged(stack, ranked[stack.image], choice)})

    slots = range(_top(stack) + 1)
    choices: Iterator[tuple[int, ...]]
    # Ascending places: models keep their order.
    if math.comb(len(slots) + len(now) - 1, len(now)) <= TRIES:
        choices = itertools.combinations_with_replacement(slots, len(now))
    else:
        moved = ((*now[:k], slot, *now[k + 1 :]) for k in range(len(now)) for slot in slots)
        choices = (choice for choice in moved if list(choice) == sorted(choice))
    best, least = now, price(now)
    for choice in choices:
        if (found := price(choice)) < least:
            best, least = choice, found
    return best


def merged(stack: Stack, models: Sequence[Block], places: Sequence[int]) -> tuple[Block, ...]:
    """All blocks, lowest first, with each model below the block of its place."""
    made: list[Block] = []
    for k, block in enumerate(stack.blocks):
        made += [m for m, place in zip(models, places, strict=True) if place == k]
        made.append(block)
    return (*made, *(m for m, place in zip(models, places, strict=True) if place >= len(stack.blocks)))


def _chains(order: Order) -> dict[tuple[str, ...], int]:
    """Every distinct chain with the bytes of its top block: what an engine unpacks and keeps."""
    sizes = {}
    for blocks in order.values():
        names = tuple(b.name for b in blocks)
        for k, block in enumerate(blocks):
            sizes[names[: k + 1]] = block.size
    return sizes


def cost(order: Order) -> float:
    """Bytes unpacked in the time span of :data:`RATES`: every chain once, and again for each change in it."""
    kinds = {b.name: b.kind for blocks in order.values() for b in blocks}
    return sum(size * (1 + sum(RATES[kinds[n]] for n in chain)) for chain, size in _chains(order).items())


def again(order: Order, changed: str) -> int:
    """Bytes that an engine unpacks when the block of that name changes, including the block."""
    return sum(size for chain, size in _chains(order).items() if changed in chain)
