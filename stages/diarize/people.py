"""Which stretches of speech are one person's: average linkage of their vectors, and how many people there are."""

from __future__ import annotations

from typing import Any

import numpy as np
from cluster import cut, linkage, nearest, units

CUT = 0.64
"""Mean cosine distance from which two groups of stretches are two people. Measured with CAM++ on mixes of real voices: one
voice's halves stay below 0.60, two voices are mostly above 0.75."""

SURE = 0.5
"""Below this distance a voice is not divided any further, however many people there are said to be."""

LEAST, SHARE, LIMIT = 1.0, 0.01, 10.0
"""Seconds that a person speaks alone at least to be counted: that, or a share of all speech up to a limit."""

SMALL = 0.8
"""The same in seconds where the number of people is given."""

MOST = 20
"""The largest number of people that is guessed."""

BLOCK = 2000
"""Stretches that are compared each with each: more are first grouped in blocks, so that hours take no more memory."""


def grouped(vectors: Any, seconds: Any, *, speakers: int | None, least: int | None, most: int | None) -> Any:
    """A person's number for each stretch, int [n] from 0 on.

    Args:
        vectors: float32 [n, d], unit length, in time order.
        seconds: of speech that each stands for, [n].
        speakers: how many people there are; None: guess, between ``least`` and ``most``.
    """
    if len(vectors) < 2:
        return np.zeros(len(vectors), dtype=np.int64)
    points, weights = _points(vectors, seconds)
    tree = _tree(points) if len(points) == len(vectors) else _weighed_tree(points, weights)
    people = speakers or min(max(_guess(tree, weights), least or 1), most or MOST)
    labels = _divided(tree, weights, people)
    sums = [(points[labels == k] * weights[labels == k, None]).sum(axis=0) for k in range(labels.max() + 1)]
    return nearest(vectors, units(np.stack(sums)))


def _points(vectors: Any, seconds: Any) -> tuple[Any, Any]:
    """What is clustered and its weight: all vectors, or of many those of small groups within a block, as their means.

    The mean of vectors keeps its length below one, so that one minus a product is the mean distance of the groups.
    """
    if len(vectors) <= BLOCK:
        return vectors, np.asarray(seconds, dtype=np.float64)
    means, weights = [], []
    for at in range(0, len(vectors), BLOCK):
        block, lasting = vectors[at : at + BLOCK], seconds[at : at + BLOCK]
        tree = _tree(block) if len(block) > 1 else np.zeros((0, 4))
        labels = cut(tree, int(np.count_nonzero(tree[:, 2] > SURE)) + 1)
        total = np.bincount(labels, weights=lasting)
        for k in np.flatnonzero(total > 0):
            means.append((block[labels == k] * lasting[labels == k, None]).sum(axis=0) / total[k])
            weights.append(total[k])
    return np.stack(means), np.array(weights)


def _tree(vectors: Any) -> Any:
    """Average linkage [n - 1, 4] of cosine distances (SciPy's format)."""
    distance = 1 - vectors @ vectors.T
    return linkage(np.maximum(distance[np.triu_indices(len(vectors), k=1)], 0.0).astype(np.float64), method="average")


def _weighed_tree(points: Any, weights: Any) -> Any:
    """The same for means of groups: the distance of two is the mean over all pairs of what they stand for."""
    count = len(points)
    distance = np.maximum(1 - points @ points.T, 0.0).astype(np.float64)
    np.fill_diagonal(distance, np.inf)
    names, mass = np.arange(count), np.array(weights, dtype=np.float64)
    tree = np.zeros((count - 1, 4))
    for row in range(count - 1):
        a, b = sorted(divmod(int(np.argmin(distance)), count))
        tree[row] = names[a], names[b], max(distance[a, b], tree[row - 1, 2] if row else 0.0), 0
        joined = (distance[a] * mass[a] + distance[b] * mass[b]) / (mass[a] + mass[b])
        joined[[a, b]] = np.inf
        distance[a], distance[:, a] = joined, joined
        distance[b], distance[:, b] = np.inf, np.inf
        mass[a] += mass[b]
        names[a] = count + row
    return tree


def _guess(tree: Any, weights: Any) -> int:
    """How many people are far enough apart, and heard for long enough."""
    heard = np.bincount(cut(tree, _parts(tree, CUT)), weights=weights)
    floor = max(LEAST, min(LIMIT, SHARE * float(heard.sum())))
    return max(1, int(np.count_nonzero(heard >= floor)))


def _parts(tree: Any, height: float) -> int:
    return int(np.count_nonzero(tree[:, 2] > height)) + 1


def _divided(tree: Any, weights: Any, people: int) -> Any:
    """A label 0…people-1 for each leaf, -1 for those of groups that are too small to be a person.

    Fewer where voices would have to be divided below ``SURE``.
    """
    certain = _parts(tree, SURE)
    for wanted in range(min(people, certain), 0, -1):
        for parts in range(wanted, certain + 1):
            labels = cut(tree, parts)
            heard = np.bincount(labels, weights=weights)
            order = np.argsort(-heard, kind="stable")[:wanted]
            if heard[order[-1]] >= SMALL:
                names = np.full(parts, -1)
                names[np.sort(order)] = np.arange(wanted)
                return names[labels]
    return np.zeros(len(tree) + 1, dtype=np.int64)
