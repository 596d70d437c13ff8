"""What an engine has of images, and which layers it still needs: one rule for the builder, bundles and the loader."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONTAINERD = "containerd"
"""The store that finds a blob wherever it is; all others (graph drivers) know a layer by the chain below it."""


def store_of(info: Mapping[str, Any]) -> str:
    """``containerd`` or a graph driver's name, from what an engine tells of itself (``GET /info``)."""
    drivers = dict(info.get("DriverStatus") or ())
    return CONTAINERD if "containerd" in str(drivers.get("driver-type", "")) else str(info.get("Driver", ""))


def version_number(version: str) -> tuple[int, ...]:
    """Major and minor of a version."""
    return tuple(int(n) for n in re.findall(r"\d+", version)[:2])


@dataclass(frozen=True)
class EngineContents:
    """What an engine has."""

    store: str | None = None
    """``containerd``, a graph driver's name, or None when it isn't known: then the stricter rule applies."""
    ids: frozenset[str] = frozenset()
    """Ids of images: digests of manifests in a containerd store, else of configs."""
    blobs: frozenset[str] = frozenset()
    """Digests of blobs of images whose manifests are known."""
    chains: frozenset[str] = frozenset()
    """Chain ids of layers (OCI image-spec, config.md)."""

    def has_image(self, manifest: str, config: str) -> str:
        """The id of an image that the engine has, or an empty text.

        Args:
            manifest: digest of the image's manifest.
            config: digest of its config.
        """
        id_ = image_id(self.store, manifest, config)
        return id_ if id_ in self.ids else ""

    def plus(self, *, blobs: Iterable[str] = (), chains: Iterable[str] = ()) -> EngineContents:
        """The same engine with more blobs and chains."""
        return EngineContents(self.store, self.ids, self.blobs.union(blobs), self.chains.union(chains))


def image_id(store: str | None, manifest: str, config: str) -> str:
    """The id that an engine gives an image: its manifest's digest in a containerd store, else its config's."""
    return manifest if store == CONTAINERD else config


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """The chain id of each layer, lowest first (OCI image-spec, config.md: layer ChainID)."""
    chain: list[str] = []
    for diff_id in diff_ids:
        below = f"{chain[-1]} " if chain else ""
        chain.append(f"sha256:{hashlib.sha256((below + diff_id).encode()).hexdigest()}" if chain else diff_id)
    return tuple(chain)


def missing_layers(layers: Sequence[tuple[str, str]], contents: EngineContents) -> tuple[int, ...]:
    """Positions of the layers to send, lowest first, each blob once.

    containerd finds a blob wherever it is. A graph driver needs every layer above the highest chain that it has.

    Args:
        layers: (digest of the blob, diff id), lowest first.
    """
    if contents.store == CONTAINERD:
        candidates = [k for k, (digest, _) in enumerate(layers) if digest not in contents.blobs]
    else:
        chains = chain_ids([diff_id for _, diff_id in layers])
        known = max((k + 1 for k, chain in enumerate(chains) if chain in contents.chains), default=0)
        candidates = list(range(known, len(layers)))
    first: dict[str, int] = {}
    for k in candidates:
        first.setdefault(layers[k][0], k)
    return tuple(first.values())


LACKS_LAYER, DISK_FULL, WRONG_BYTES, REFUSED = "lacks a layer", "disk full", "wrong bytes", "refused"
"""What an engine's error about a load means."""

NO_ROOM = re.compile("no space left|disk quota", re.IGNORECASE)
"""How the errors of a full disk, and of a quota that is used up, read in any program (strerror of ENOSPC and EDQUOT)."""

_MEANINGS = (
    (LACKS_LAYER, re.compile(r"[0-9a-f]{64}.*(?:not found|no such file|does not exist)", re.IGNORECASE | re.DOTALL)),
    (DISK_FULL, NO_ROOM),
    (WRONG_BYTES, re.compile(r"diffID|unexpected commit digest|digest.*mismatch|mismatch.*digest", re.DOTALL)),
)


def meaning(error: str) -> str:
    """What an engine's error about a load means: one of the four constants above.

    A containerd store says ``content digest sha256:…: not found`` of a layer that wasn't sent, a graph driver
    ``open …/blobs/sha256/…: no such file or directory``.
    """
    return next((name for name, pattern in _MEANINGS if pattern.search(error)), REFUSED)
