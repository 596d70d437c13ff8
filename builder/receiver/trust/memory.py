"""What this user's machine remembers of senders, whichever folder a bundle goes into: a key, dates, names of images."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from builder.receiver.display import say, shown
from builder.receiver.inventory import KEY, Inventory, LoaderError, open_file
from builder.receiver.trust.keys import LARGEST_KEY, Expected, PublicKey, key_in
from builder.receiver.writing import write_whole

MEMORY = "received.json"
"""File in the user's data folder; in the receiver's, where the environment names no home."""

LARGEST_MEMORY = 8 << 20

UNSIGNED = "unsigned"
"""Stands for the sender of bundles that no key has signed."""

KEPT_IDS = 50
"""Ids that are remembered of one name."""


class Memory:
    """What was loaded here before, as far as it can be believed.

    A receiver's folder that lies on a stick may have been prepared by whoever made the bundle: its key and its inventory
    count only if this user's own record has the folder, or if it is on another file system than the bundle.
    """

    def __init__(self, target: Path, bundle: Path) -> None:
        """
        Raises:
            LoaderError: the record is there, and can't be read.
        """
        self.target = target
        own = _data_folder()
        self.path = (own or target) / MEMORY
        outside = bundle not in Path(os.path.realpath(target)).parents
        self.data = _read(self.path) if own or outside else {}
        self.believes = self._believes(own is not None, outside, bundle)

    def _believes(self, has_home: bool, outside: bool, bundle: Path) -> bool:
        if not os.path.lexists(self.target) or str(self.target) in self.data.get("targets", ()):
            return True
        believed = outside and (not has_home or self.target.stat().st_dev != bundle.stat().st_dev)
        if not believed and any(self.target.iterdir()):
            say(f"{self.target}: this user never loaded a bundle into it; what it says of earlier ones doesn't count")
        return believed

    def expected(self, before: Inventory | None) -> Expected:
        """What the next bundle has to have.

        Args:
            before: the receiver's inventory, if it is believed.

        Raises:
            LoaderError: the key's file is there, and can't be read.
        """
        path = self.target / KEY
        key = None
        if self.believes and os.path.lexists(path):
            try:
                with open_file(path) as source:
                    key = key_in(source.read(LARGEST_KEY), str(path))
            except OSError as error:
                raise LoaderError(
                    3, f"{path}: {error.strerror or error}", "--new-key FILE, with the sender's key"
                ) from None
        elif self.data.get("key"):
            key = key_in(self.data["key"].encode(), str(self.path), "the key of the bundles before")
        return Expected(key, bool((before or {}).get("signed")) or bool(self.data.get("signed")))

    def given(self, name: str, senders: Iterable[str], before: Inventory | None) -> set[str]:
        """Ids that bundles of senders gave a name to."""
        ids: set[str] = set()
        for sender in senders:
            ids |= set(self._of(sender).get("images", {}).get(name, ()))
        for image in (before or {}).get("images", ()):
            if image["name"] == name and "id" in image and image.get("sender", UNSIGNED) in senders:
                ids.add(image["id"])
        return ids

    def newest(self, senders: Iterable[str]) -> str:
        """When the newest bundle of senders was made, ISO 8601; empty when there was none. The unsigned don't count."""
        return max((self._of(s).get("newest") or "" for s in senders if s != UNSIGNED), default="")

    def _of(self, sender: str) -> dict[str, Any]:
        return self.data.get("senders", {}).get(sender, {})  # type: ignore[no-any-return]

    def remember(self, key: PublicKey | None, signed: bool, names: Mapping[str, str], created: str | None) -> None:
        """Write down that a bundle is loaded; before its images get their names, since a kill may come between.

        Args:
            names: name -> id of each image.
            created: when the bundle was made.
        """
        sender = key.sender if key else UNSIGNED
        of = self._of(sender)
        images = dict(of.get("images", {}))
        for name, id_ in names.items():
            images[name] = [*(x for x in images.get(name, ()) if x != id_), id_][-KEPT_IDS:]
        row = {"images": images, "newest": max(of.get("newest") or "", created or "")}
        self.data = {
            **self.data,
            "schema": 1,
            "targets": sorted({*self.data.get("targets", ()), str(self.target)}),
            "senders": {**self.data.get("senders", {}), sender: row},
            "signed": bool(self.data.get("signed")) or signed,
        }
        if key:
            self.data["key"] = key.pem.decode()
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(self.path, json.dumps(self.data, indent=1, sort_keys=True).encode() + b"\n")


def _data_folder() -> Path | None:
    """The user's data folder, as the environment names it; None where it names none that can be written."""
    home, data = os.environ.get("HOME", ""), os.environ.get("XDG_DATA_HOME", "")
    folder = Path(data) if data.startswith("/") else Path(home) / ".local/share"
    if not folder.is_absolute():
        return None
    folder /= "whisperbake"
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        say(f"{shown(str(folder))} can't be written: what is loaded is remembered in the receiver's folder alone")
        return None
    return folder


def _read(path: Path) -> dict[str, Any]:
    """The record; empty when there is none. Raises LoaderError: it can't be read."""
    try:
        with open_file(path) as source:
            data = json.loads(source.read(LARGEST_MEMORY))
        _require(data)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise LoaderError(
            3,
            f"{path}, the record of what was loaded here, can't be read ({error})",
            "remove it; then give --key once more",
        ) from None
    return data  # type: ignore[no-any-return]


def _require(data: Any) -> None:
    """Raises ValueError, TypeError or AttributeError: this is not what :meth:`Memory.remember` writes."""
    if data["schema"] != 1 or not all(isinstance(x, str) for x in data["targets"]):
        raise ValueError("of another make")
    if not isinstance(data.get("key", ""), str):
        raise TypeError("no key")
    for row in data["senders"].values():
        if not isinstance(row["newest"], str) or not all(isinstance(ids, list) for ids in row["images"].values()):
            raise TypeError("no images")
