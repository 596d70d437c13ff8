"""The recordings of a batch, as they are now: whether they are those that were planned."""

from __future__ import annotations

from pathlib import Path

from builder.edges.batch import folder
from builder.node.items import Item


class PlannedItems:
    """Items that a recording's time tells apart; read when the first is asked for."""

    def __init__(self, batch: Path, root: Path) -> None:
        """
        Args:
            root: the folder that all recordings are below.
        """
        self._batch, self._root = batch, root
        self._items: dict[str, Item] | None = None

    def changed(self, key: str) -> Item | None:
        """The item of a key, where its recording is here and isn't the one that was planned any more.

        One that isn't here, or that a sha256 tells apart, which the node has compared, is None.

        Raises:
            ConfigError: items.jsonl is not as a plan writes it.
        """
        if self._items is None:
            self._items = {item.key: item for item in folder.items(self._batch) if item.mtime_ns is not None}
        item = self._items.get(key)
        if item is None:
            return None
        try:
            found = (self._root / item.path).stat()
        except (OSError, ValueError):
            return None
        return item if (found.st_size, found.st_mtime_ns) != (item.size, item.mtime_ns) else None
