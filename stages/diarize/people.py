"""Which stretches of speech are one person's: average linkage of their vectors, and how many people there are."""

from __future__ import annotations

from typing import Any

import numpy as np
from cluster import HEARD, SHORT, averages, cut, nearest, silhouette, units

CUT = 0.65
"""Mean cosine distance from which two groups of stretches are two people. Measured with CAM++ on mixes of real voices: one
voice's halves stay below 0.60, two voices are mostly above 0.75."""

CAUTION, SHORT_CUT = 0.1, 0.6
"""In a short recording there are too few stretches for a mean: the distance has to be larger by the first. Two, but no more, are
told apart from the second on, where both are heard. Of 130 single voices of 3 to 15 s, real and synthetic, one is divided; of
130 recordings of two people, 104 are (without this: 85)."""

SURE = 0.6
"""Below this distance a voice is not divided any further, however many people there are said to be."""

TRIED = 12
"""Groups beyond the people that are left out at most."""

APART, SILHOUETTE, LONG, PART = 0.42, 0.29, 5.0, 0.25
"""Two voices in what looks like one: their mean distance, how well they are told apart, and how much of each is heard, in
seconds and as a share. (Synthetic voices are nearer to each other than real ones.)"""

PRICE = 0.7
"""Seconds times distance that leaving out one more group has to be better by."""

TIGHT = 0.5
"""Distance below which stretches of a block are one group."""

LEAST, SHARE, LIMIT = 1.5, 0.01, 10.0
"""Seconds that a person speaks alone at least to be counted: that, or a share of all speech up to a limit."""

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
    few = len(points) == len(vectors)
    tree = averages(points) if few else _weighed_tree(points, weights)
    far = SURE
    if speakers is None:
        guessed = _guess(weights, tree)
        if guessed == 1 and few and _alike(points, weights, tree):
            guessed = 2
        speakers = min(max(guessed, least or 1), most or MOST)
        far = _far(weights) if speakers == guessed else SURE  # what is counted is not divided further
    return nearest(vectors, _centres(points, weights, tree, speakers, far))


def _largest(points: Any, weights: Any, labels: Any, people: int) -> Any:
    """The mean directions [people, d] of the groups of whom most is heard."""
    heard = np.bincount(labels, weights=weights)
    kept = np.sort(np.argsort(-heard, kind="stable")[:people])
    return units(np.stack([(points[labels == k] * weights[labels == k, None]).sum(axis=0) for k in kept]))


def _points(vectors: Any, seconds: Any) -> tuple[Any, Any]:
    """What is clustered and its weight: all vectors, or of many those of small groups within a block, as their means.

    The mean of vectors keeps its length below one, so that one minus a product is the mean distance of the groups.
    """
    if len(vectors) <= BLOCK:
        return vectors, np.asarray(seconds, dtype=np.float64)
    means, weights = [], []
    for at in range(0, len(vectors), BLOCK):
        block, lasting = vectors[at : at + BLOCK], seconds[at : at + BLOCK]
        tree = averages(block) if len(block) > 1 else np.zeros((0, 4))
        labels = cut(tree, int(np.count_nonzero(tree[:, 2] > TIGHT)) + 1)
        total = np.bincount(labels, weights=lasting)
        for k in np.flatnonzero(total > 0):
            means.append((block[labels == k] * lasting[labels == k, None]).sum(axis=0) / total[k])
            weights.append(total[k])
    return np.stack(means), np.array(weights)


def _weighed_tree(points: Any, weights: Any) -> Any:
    """Average linkage of means of groups: the distance of two is the mean over all pairs of what they stand for."""
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


def _guess(weights: Any, tree: Any) -> int:
    """How many people are far enough apart, and heard for long enough."""
    heard = np.bincount(cut(tree, _parts(tree, _far(weights))), weights=weights)
    floor = max(LEAST, min(LIMIT, SHARE * float(heard.sum())))
    return max(1, int(np.count_nonzero(heard >= floor)))


def _far(weights: Any) -> float:
    return CUT if weights.sum() >= SHORT else CUT + CAUTION


def _parts(tree: Any, height: float) -> int:
    return int(np.count_nonzero(tree[:, 2] > height)) + 1


def _centres(points: Any, weights: Any, tree: Any, people: int, far: float) -> Any:
    """The mean directions [k, d] of the people: fewer where voices would have to be divided below the distance ``far``.

    A group may be nobody: laughter, two voices at once. So of several ways to cut the tree, each with its largest groups as
    the people, that one is best whose people are nearest to all that was said.
    """
    # Two people are at least tried where that number is given.
    certain = max(_parts(tree, far), min(people, 2, len(points)))
    people = min(people, certain)
    best, least = None, np.inf
    for parts in range(people, min(certain, people + TRIED) + 1):
        centres = _largest(points, weights, cut(tree, parts), people)
        off = float(weights @ (1 - (points @ centres.T).max(axis=1))) + PRICE * (parts - people)
        if off < least - 1e-9:
            best, least = centres, off
    return best


def _alike(points: Any, weights: Any, tree: Any) -> bool:
    """Whether one group is two voices that are alike: in a short recording they are not near, else both are heard a lot, and
    each is much nearer to itself.

    The silhouette of one real voice's two largest moods stays below 0.28, or one of them is short.
    """
    labels = cut(tree, 2)
    heard = np.bincount(labels, weights=weights)
    if weights.sum() < SHORT and tree[-1, 2] >= SHORT_CUT and heard.min() >= HEARD:
        return True
    if tree[-1, 2] < APART or heard.min() < max(LONG, PART * heard.sum()):
        return False
    return silhouette(points, labels) > SILHOUETTE
