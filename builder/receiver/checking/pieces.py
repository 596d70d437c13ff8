"""What each part of a bundle's tar consists of: what follows from the inventory, and what it has a sha256 of."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.receiver.tar import header, padding

HEADER, BYTES, ZEROS = "header", "bytes", "zeros"
"""Kinds of pieces: a file's tar header, its bytes, and what fills the tar up after it."""


@dataclass(frozen=True)
class TarPiece:
    """A run of bytes of the tar, as far as it is in one part."""

    kind: str
    begin: int
    """In the tar."""
    end: int
    entry: Mapping[str, Any] | None
    """The file that it belongs to; None for the zeros that end the tar."""

    @property
    def is_cut(self) -> bool:
        """Whether it is a file's bytes and not all of them: a part of a bundle has a sha256 of its own for it."""
        entry = self.entry
        return self.kind == BYTES and entry is not None and self.end - self.begin != entry["size"]

    @property
    def name(self) -> str:
        """What a person can look for."""
        if self.entry is None:
            return "the end of the tar"
        path = str(self.entry["path"])
        return {HEADER: f"the header of {path}", BYTES: path, ZEROS: f"the padding of {path}"}[self.kind]

    def fixed(self) -> bytes:
        """The bytes of a header or of zeros: they follow from the inventory."""
        if self.kind == ZEROS or self.entry is None:
            return bytes(self.end - self.begin)
        head = header(self.entry["path"], self.entry["size"])
        first = self.begin - (self.entry["at"] - len(head))
        return head[first : first + self.end - self.begin]


class TarMap:
    """Where everything is in a bundle's tar."""

    def __init__(self, files: Sequence[Mapping[str, Any]]) -> None:
        """
        Args:
            files: the inventory's, in the order of the tar.
        """
        self.files = files
        self._begins = [entry["at"] for entry in files]

    def pieces(self, begin: int, end: int) -> Iterator[TarPiece]:
        """What the bytes from ``begin`` to ``end`` of the tar are."""
        last = 0
        for entry in self.files[max(bisect_right(self._begins, begin) - 1, 0) :]:
            at, stop = entry["at"], entry["at"] + entry["size"]
            head, last = at - len(header(entry["path"], entry["size"])), stop + padding(entry["size"])
            if head >= end:
                return
            for kind, first, after in ((HEADER, head, at), (BYTES, at, stop), (ZEROS, stop, last)):
                if max(first, begin) < min(after, end):
                    yield TarPiece(kind, max(first, begin), min(after, end), entry)
        if max(last, begin) < end:
            yield TarPiece(ZEROS, max(last, begin), end, None)

    def cuts(self, begin: int, end: int) -> list[TarPiece]:
        """The files that a part has only in part: at most the one it begins with and the one it ends with."""
        return [piece for piece in self.pieces(begin, end) if piece.is_cut]


class PartCheck:
    """Holds the bytes of a part against the inventory while they are read, each hashed once."""

    def __init__(self, tar: TarMap, begin: int, end: int, cuts: Sequence[str] | None) -> None:
        """
        Args:
            cuts: hex sha256 of each piece of :meth:`TarMap.cuts`; None where the inventory has none: then these are
                taken as they are.
        """
        self._left = tar.pieces(begin, end)
        self._cuts = None if cuts is None else iter(cuts)
        self._digest, self._same, self._at = hashlib.sha256(), True, begin
        self._piece: TarPiece | None = None
        self._fixed = memoryview(b"")
        self.wrong: list[TarPiece] = []
        """What is not as the inventory says."""
        self._next()

    def _next(self) -> None:
        self._piece = next(self._left, None)
        self._digest, self._same = hashlib.sha256(), True
        if self._piece is not None and self._piece.kind != BYTES:
            self._fixed = memoryview(self._piece.fixed())

    def feed(self, data: memoryview) -> None:
        """The next bytes of the part; what is beyond its end is left to the caller."""
        while data and self._piece is not None:
            taken = data[: self._piece.end - self._at]
            if self._piece.kind == BYTES:
                self._digest.update(taken)
            else:
                first = self._at - self._piece.begin
                self._same = self._same and taken == self._fixed[first : first + len(taken)]
            self._at, data = self._at + len(taken), data[len(taken) :]
            if self._at == self._piece.end:
                if not self._is_right(self._piece):
                    self.wrong.append(self._piece)
                self._next()

    def _is_right(self, piece: TarPiece) -> bool:
        if piece.kind != BYTES or piece.entry is None:
            return self._same
        found = self._digest.hexdigest()
        if piece.is_cut:
            return self._cuts is None or found == next(self._cuts, "")
        return found == str(piece.entry["sha256"])

    def finish(self) -> list[TarPiece]:
        """What is wrong, once all is fed; what did not come is wrong, too."""
        if self._piece is not None:
            self.wrong += [self._piece, *self._left]
            self._piece = None
        return self.wrong
