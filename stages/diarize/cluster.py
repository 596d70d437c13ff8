"""Cluster speaker embeddings, with NumPy and fastcluster: SciPy would add 110 MB to an image."""

from __future__ import annotations

from typing import Any

import numpy as np

try:
    from fastcluster import linkage, linkage_vector
except ImportError:  # it has no wheel for Python 3.14: there SciPy is installed
    from scipy.cluster.hierarchy import linkage

    linkage_vector = linkage  # the same clusters, in more memory

NEAREST = 0.33
"""Share of the embeddings that stay in the affinity graph as an embedding's nearest neighbours."""

CUT = 0.36
"""Cosine distance at which average-linkage clustering stops. Measured on synthetic and on real voices: with a smaller
share or a smaller cut, similar synthetic voices are counted better and single real ones are split."""

APART = 0.13
"""Cosine distance between the centres of two clusters below which they are one voice in two moods. Measured with the
d-vector: two halves of one voice up to 0.11, however short; two voices from 0.16 on."""

SHORT = 15.0
"""Seconds of speech below which one person in some moods looks like several."""

TWO, CLEAR, HEARD = 0.19, 0.55, 1.0
"""In so little, two are only told apart where the centres of both are so far from each other, the silhouette is so high, and
each is heard for so many seconds. Measured on 130 single voices of 3 to 15 s, real and synthetic (one is divided), and on 130
recordings of two people (112 are)."""

ONCE = 0.33, 0.16, 0.45, 2.0
"""The same, of one who speaks after the other and not again, which moods seldom do: the height at which average linkage joins
them, and then as above (it divides no single voice more)."""

SPOKEN = 0.8
"""Seconds that each of a given number of speakers has, where average linkage is to be believed."""

LEAST = 3.0
"""Seconds that a guessed speaker has: of less there are a few embeddings, whose windows overlap."""

MOST = 10
"""The largest number of speakers that is guessed."""

SAMPLE = 1200
"""The most embeddings that are clustered: the eigenvalues of a larger graph take seconds. The rest of a long
recording goes to the nearest centre."""


def cluster(
    vectors: Any, *, speakers: int | None, seconds: Any, least: int | None = None, most: int | None = None
) -> Any:
    """A label 0…k-1 for each embedding.

    Args:
        vectors: float32 [n, d], unit length, in time order.
        speakers: how many there are; None: guess.
        least, most: how many there are at least and at most, where it is guessed.
        seconds: of speech that each embedding stands for, [n] or one number.
    """
    count = len(vectors)
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    chosen = np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).round().astype(np.int64))
    sample = vectors[chosen]
    lasting = np.broadcast_to(seconds, count)[chosen] * count / len(sample)
    clusters = speakers if speakers is not None else guess(sample, lasting, least or 1, most or MOST)
    clusters = max(1, min(clusters, len(sample)))
    if clusters == 1:
        return np.zeros(count, dtype=np.int64)
    mean, labels = divided(sample, clusters)
    other = averaged(sample, clusters, lasting) if speakers is not None else None
    if other is not None and clearness(sample, other) > clearness(sample, labels):
        return nearest(vectors, centres(sample, other, clusters))
    return nearest(units(vectors - mean), centres(units(sample - mean), labels, clusters))


def guess(vectors: Any, seconds: Any, least: int, most: int) -> int:
    """A best guess of the number of speakers between two bounds."""
    if least >= most:
        return least
    count = credible(vectors, min(estimate(vectors, seconds), most), seconds)
    if np.sum(seconds) < SHORT:
        count = max(count, 2) if most > 1 and two(vectors, seconds) else 1
    return max(least, count)


def two(vectors: Any, seconds: Any) -> bool:
    """Whether a short recording has two people."""
    if len(vectors) < 2:
        return False
    _, labels = divided(vectors, 2)
    heard = float(np.bincount(labels, weights=np.broadcast_to(seconds, len(vectors)), minlength=2).min())
    if heard < HEARD:
        return False
    one, other = centres(vectors, labels, 2)
    apart, clear = float(1 - one @ other), silhouette(vectors, labels)
    if apart >= TWO and clear >= CLEAR:
        return True
    height, far, told, long = ONCE
    once = np.count_nonzero(np.diff(labels)) == 1 and float(averages(vectors)[-1, 2]) >= height
    return bool(once and apart >= far and clear >= told and heard >= long)


def silhouette(vectors: Any, labels: Any) -> float:
    """How much nearer each of two groups is to itself than to the other, from -1 to 1 (Rousseeuw, 1987)."""
    distance = 1 - vectors @ vectors.T
    sizes = np.bincount(labels, minlength=2)
    means = np.stack([distance[:, labels == k].sum(axis=1) for k in (0, 1)], axis=1)
    own = means[np.arange(len(labels)), labels] / np.maximum(sizes[labels] - 1, 1)
    other = means[np.arange(len(labels)), 1 - labels] / sizes[1 - labels]
    return float(np.mean((other - own) / np.maximum(np.maximum(own, other), 1e-9)))


def divided(vectors: Any, clusters: int) -> tuple[Any, Any]:
    """The mean of all vectors, and a label 0…k-1 for each."""
    # All d-vectors lie in one corner of the space, and room and microphone add their share: people differ in what is
    # left without the recording's mean. (Measured: no change on mixes of synthetic or of real voices, half the error
    # on the one real telephone call.)
    mean = vectors.mean(axis=0)
    centred = units(vectors - mean)
    labels = cut(linkage_vector(centred, method="ward"), clusters)
    for _ in range(10):
        moved = nearest(centred, centres(centred, labels, clusters))
        if len(np.unique(moved)) < clusters or np.array_equal(moved, labels):
            break
        labels = moved
    return mean, labels


def averaged(vectors: Any, clusters: int, seconds: Any) -> Any | None:
    """A label 0…k-1 for each vector by average linkage, whose small clusters go to the nearest large one.

    None where that leaves fewer. Ward's method makes clusters of one size: it divides the one who talks most.
    """
    tree = averages(vectors)
    for parts in range(clusters, min(len(vectors), clusters + 40) + 1):
        labels = cut(tree, parts)
        heard = np.bincount(labels, weights=seconds)
        largest = np.sort(np.argsort(-heard, kind="stable")[:clusters])
        if heard[largest].min() >= SPOKEN:
            moved = nearest(vectors, units(np.stack([vectors[labels == k].mean(axis=0) for k in largest])))
            return moved if len(np.unique(moved)) == clusters else None
    return None


def clearness(vectors: Any, labels: Any) -> float:
    """How much nearer, as a cosine, vectors are on the average to their own cluster's centre than to the next."""
    near = vectors @ centres(vectors, labels, int(labels.max()) + 1).T
    own = np.take_along_axis(near, labels[:, None], axis=1)[:, 0]
    np.put_along_axis(near, labels[:, None], -2.0, axis=1)
    return float((own - near.max(axis=1)).mean())


def averages(vectors: Any) -> Any:
    """Average linkage [n - 1, 4] of cosine distances, in SciPy's format."""
    distance = 1 - vectors @ vectors.T
    condensed = distance[np.triu_indices(len(vectors), k=1)]
    return linkage(np.maximum(condensed, 0.0).astype(np.float64), method="average")


def credible(vectors: Any, most: int, seconds: Any) -> int:
    """The largest number of speakers up to ``most`` that are far enough apart, and of whom enough is heard."""
    for count in range(min(most, len(vectors)), 1, -1):
        _, labels = divided(vectors, count)
        if np.bincount(labels, weights=seconds, minlength=count).min() < LEAST:
            continue
        middles = centres(vectors, labels, count)
        distances = 1 - middles @ middles.T
        if distances[np.triu_indices(count, k=1)].min() >= APART:
            return count
    return 1


def centres(vectors: Any, labels: Any, count: int) -> Any:
    """The mean direction [count, d] of each cluster."""
    return units(np.stack([vectors[labels == k].mean(axis=0) for k in range(count)]))


def nearest(vectors: Any, middles: Any) -> Any:
    """For each vector, the index of the centre at the smallest angle."""
    return np.argmax(vectors @ middles.T, axis=1)


def estimate(vectors: Any, seconds: Any) -> int:
    """A best guess of the number of speakers: the larger of two independent counts."""
    return max(by_eigengap(vectors), by_distance(vectors, seconds))


def by_eigengap(vectors: Any) -> int:
    """How many eigenvalues lie before the largest gap, for a nearest-neighbour graph's normalised Laplacian.

    Von Luxburg, A Tutorial on Spectral Clustering (2007), section 8.3.
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


def by_distance(vectors: Any, seconds: Any) -> int:
    """The number of average-linkage clusters that are further apart than ``CUT`` and last long enough for a person."""
    if len(vectors) < 2:
        return 1
    tree = averages(vectors)
    labels = cut(tree, int(np.count_nonzero(tree[:, 2] > CUT)) + 1)
    heard = np.bincount(labels, weights=seconds)
    return max(1, min(MOST, int(np.count_nonzero(heard >= max(LEAST, 0.04 * heard.sum())))))


def cut(tree: Any, clusters: int) -> Any:
    """Each leaf's label when a linkage ``tree`` ([n-1, 4], SciPy's format) is cut into ``clusters``.

    Labels are numbered by first appearance.
    """
    count = len(tree) + 1
    parent = np.arange(2 * count - 1)
    for row in range(count - clusters):
        parent[int(tree[row, 0])] = parent[int(tree[row, 1])] = count + row

    def top(node: int) -> int:
        while parent[node] != node:
            node = int(parent[node])
        return node

    names: dict[int, int] = {}
    return np.array([names.setdefault(top(leaf), len(names)) for leaf in range(count)], dtype=np.int64)


def units(vectors: Any) -> Any:
    """Rows scaled to length one; a row of zeros stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
