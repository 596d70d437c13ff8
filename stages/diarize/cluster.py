"""Who is who: cluster speaker embeddings. NumPy and fastcluster; no scikit-learn, which would be 114 MB of an image."""

from __future__ import annotations

from typing import Any

import fastcluster
import numpy as np

NEAREST = 0.33
"""Share of the nearest neighbours kept in the affinity graph."""

CUT = 0.36
"""Cosine distance at which average-linkage clustering stops. Measured on synthetic and on real voices: a smaller
share or a smaller cut counts similar synthetic voices better and splits single real ones."""

MOST = 10
"""Speakers that are found without being told the number."""

SAMPLE = 1200
"""Embeddings that are clustered at the most: the eigenvalues of a larger graph take seconds. The rest of a long
recording is assigned to the nearest centre."""


def cluster(vectors: Any, *, speakers: int | None, step: float) -> Any:
    """A label 0…k-1 for each embedding.

    Args:
        vectors: float32 [n, d], unit length, in time order.
        speakers: how many there are, or None to find out.
        step: seconds that one embedding stands for.
    """
    count = len(vectors)
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    chosen = np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).round().astype(np.int64))
    sample = vectors[chosen]
    wanted = speakers if speakers is not None else estimate(sample, step * count / len(sample))
    wanted = max(1, min(wanted, len(sample)))
    if wanted == 1:
        return np.zeros(count, dtype=np.int64)
    # All d-vectors lie in one corner of the space, and the room and the microphone add their own share: what
    # tells people apart is what differs from the recording's mean. (Measured: no change on mixes of synthetic or
    # of real voices, half the error on the one real telephone call.)
    mean = sample.mean(axis=0)
    sample = units(sample - mean)
    labels = cut(fastcluster.linkage_vector(sample, method="ward"), wanted)
    for _ in range(10):
        moved = nearest(sample, centres(sample, labels, wanted))
        if len(np.unique(moved)) < wanted or np.array_equal(moved, labels):
            break
        labels = moved
    return nearest(units(vectors - mean), centres(sample, labels, wanted))


def centres(vectors: Any, labels: Any, count: int) -> Any:
    """The mean direction [count, d] of each cluster."""
    return units(np.stack([vectors[labels == k].mean(axis=0) for k in range(count)]))


def nearest(vectors: Any, middles: Any) -> Any:
    """For each vector the centre with the smallest angle."""
    return np.argmax(vectors @ middles.T, axis=1)


def estimate(vectors: Any, step: float) -> int:
    """A best guess at the number of speakers: the larger of two independent counts."""
    return max(by_eigengap(vectors), by_distance(vectors, step))


def by_eigengap(vectors: Any) -> int:
    """The largest gap among the first eigenvalues of the normalised Laplacian of a nearest-neighbour graph.

    von Luxburg, A Tutorial on Spectral Clustering (2007), section 8.3.
    """
    count = len(vectors)
    if count < 4:
        return 1
    affinity = (1 + vectors @ vectors.T) / 2
    keep = max(2, round(count * NEAREST))
    floor = -np.partition(-affinity, keep - 1, axis=1)[:, keep - 1 : keep]
    graph = np.where(affinity >= floor, affinity, 0.0)
    graph = (graph + graph.T) / 2
    np.fill_diagonal(graph, 0.0)
    degree = 1 / np.sqrt(np.maximum(graph.sum(axis=1), 1e-9))
    laplacian = np.eye(count) - degree[:, None] * graph * degree[None, :]
    values = np.linalg.eigvalsh(laplacian)[: MOST + 1]
    return int(np.argmax(np.diff(values))) + 1


def by_distance(vectors: Any, step: float) -> int:
    """Average-linkage clusters further apart than ``CUT`` that last long enough to be a person."""
    if len(vectors) < 2:
        return 1
    distance = 1 - vectors @ vectors.T
    condensed = distance[np.triu_indices(len(vectors), k=1)]
    tree = fastcluster.linkage(np.maximum(condensed, 0.0), method="average")
    labels = cut(tree, int(np.count_nonzero(tree[:, 2] > CUT)) + 1)
    seconds = np.bincount(labels) * step
    return max(1, min(MOST, int(np.count_nonzero(seconds >= max(3.0, 0.04 * len(vectors) * step)))))


def cut(tree: Any, wanted: int) -> Any:
    """Labels of the ``wanted`` clusters of a linkage ``tree`` ([n-1, 4], SciPy's format), in order of appearance."""
    count = len(tree) + 1
    parent = np.arange(2 * count - 1)
    for row in range(count - wanted):
        parent[int(tree[row, 0])] = parent[int(tree[row, 1])] = count + row

    def top(node: int) -> int:
        while parent[node] != node:
            node = int(parent[node])
        return node

    names: dict[int, int] = {}
    return np.array([names.setdefault(top(leaf), len(names)) for leaf in range(count)], dtype=np.int64)


def units(vectors: Any) -> Any:
    """Rows brought to length one; a row of zeros stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
