"""What a bundle has beside images, on its way into the receiver's folder: jobs, licences, papers, what native runs need."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from builder.receiver.inventory import CHUNK, FileEntry, bad, inside, need
from builder.receiver.parts import Bundle
from builder.receiver.tar import padding, regular_files
from builder.receiver.writing import Incoming

NATIVE = "native/project"
"""Folder of this project for native runs; its weights go below it, where it looks for them."""


def unpack(bundle: Bundle, incoming: Incoming) -> list[FileEntry]:
    """Write all but the blobs: job templates, licences, papers, the native set. Raises LoaderError: something is not right."""
    kept = []
    voices = (bundle.inventory.get("acceptance") or {}).get("voices")
    for path, entry in bundle.files.items():
        if path.split("/")[0] in ("job", "licences", "native", "papers"):
            # Whose voices are known is its owner's business alone.
            with incoming.file(path, 0o600 if path == voices else 0o644) as out:
                for chunk in bundle.open(path):
                    out.write(chunk)
            kept.append({"path": path, "size": entry["size"], "sha256": entry["sha256"]})
    if any(f["path"].startswith(f"{NATIVE}/") for f in kept):
        for digest, layer in bundle.inventory["layers"].items():
            if layer["model"] is not None and f"blobs/sha256/{digest[7:]}" in bundle.files:
                _weights(bundle, digest, incoming)
    return kept


class _Stream:
    """An iterator of bytes, read as a file is."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks, self.held = chunks, b""

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes; fewer at the end."""
        pieces = [self.held]
        have = len(self.held)
        while have < size and (chunk := next(self.chunks, b"")):
            pieces.append(chunk)
            have += len(chunk)
        data = b"".join(pieces)
        self.held = data[size:]
        return data[:size]


def _weights(bundle: Bundle, digest: str, incoming: Incoming) -> None:
    """The files of a weight layer, for native runs: plain files below ``models/``, nothing else is taken."""
    stream = _Stream(bundle.open(f"blobs/sha256/{digest[7:]}"))
    try:
        for member, size in regular_files(stream.read):
            name = f"{NATIVE}/.bake/{member}"
            need(inside(name) and member.startswith("models/"), f"{name!r} is not a weight file")
            if member.startswith("models/.baked/"):
                _copy(stream, size, lambda _: None)
            else:
                with incoming.file(name) as out:
                    _copy(stream, size, out.write)
            stream.read(padding(size))
    except ValueError as error:
        raise bad(f"{digest[:19]}: {error}") from None
    while stream.read(CHUNK):  # to the last byte: only then is it what the inventory says
        pass


def _copy(stream: _Stream, size: int, write: Callable[[bytes], object]) -> None:
    while size:
        chunk = stream.read(min(size, CHUNK))
        if not chunk:
            raise ValueError("it is cut short")
        write(chunk)
        size -= len(chunk)
