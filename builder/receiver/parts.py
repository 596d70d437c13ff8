"""The parts of a bundle's tar, read with every byte checked against the inventory."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.receiver.checking.pieces import PartCheck, TarMap
from builder.receiver.inventory import CHUNK, FileEntry, LoaderError, bad, need, open_file, read_file, read_inventory
from builder.receiver.tar import BLOCK, header

MOST_INSIDE = 4
"""Files that an error lists of a part."""


class Bundle:
    """A bundle's folder, read with every byte checked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.raw, self.inventory = read_inventory(folder)
        self.files: dict[str, FileEntry] = {f["path"]: f for f in self.inventory["files"]}
        self.tar = TarMap(self.inventory["files"] if self.inventory["kind"] == "bundle" else ())
        if self.inventory["kind"] != "bundle":
            raise bad("this is a receiver's inventory")

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()

    def require_parts(self) -> None:
        """Raises LoaderError when a part is missing, not a file, or of another size. Reads no part."""
        wrong = [f"{p['name']} {reason}" for p in self.inventory["parts"] if (reason := self._wrong(p))]
        if wrong:
            raise LoaderError(
                5,
                "; ".join(wrong[:8]),
                f"copy {'these parts' if len(wrong) > 1 else 'this part'} again from the sender",
            )

    def _wrong(self, part: FileEntry) -> str:
        """What is wrong with a part by its size, or an empty text."""
        path = self.folder / part["name"]
        try:
            status = path.lstat()
        except OSError:
            return "is missing"
        if not stat.S_ISREG(status.st_mode):
            return "is not a regular file"
        return "" if status.st_size == part["size"] else f"has {status.st_size} bytes in place of {part['size']}"

    def faults(self, on_bytes: Callable[[int], None] = lambda _: None) -> list[Fault]:
        """What is missing or not as the inventory says. Reads everything once, and hashes it once."""
        found = [fault for row in self._beside() if (fault := self._beside_fault(row))]
        begin = 0
        for part in self.inventory["parts"]:
            if fault := self._fault(part, begin, on_bytes):
                found.append(fault)
            begin += part["size"]
        return found

    def _beside(self) -> list[FileEntry]:
        """The small files beside the parts."""
        return [self.inventory["loader"], *([self.inventory["manual"]] if "manual" in self.inventory else [])]

    def _beside_fault(self, row: FileEntry, path: Path | None = None) -> Fault | None:
        try:
            data = read_file(path or self.folder / row["name"], row["size"])
        except LoaderError:
            return Fault(row["name"])
        return None if hashlib.sha256(data).hexdigest() == row["sha256"] else Fault(row["name"])

    def size_of(self, name: str) -> int:
        """Bytes of a part, or of a small file beside the parts."""
        return next(int(row["size"]) for row in [*self._beside(), *self.inventory["parts"]] if row["name"] == name)

    def is_right(self, name: str, copy: Path) -> bool:
        """Whether a copy of a part, or of a small file beside the parts, is what the inventory says."""
        begin = 0
        for part in self.inventory["parts"]:
            if part["name"] == name:
                return self._fault_in(copy, part, begin) is None
            begin += part["size"]
        return all(self._beside_fault(row, copy) is None for row in self._beside() if row["name"] == name)

    def _fault(self, part: FileEntry, begin: int, on_bytes: Callable[[int], None] = lambda _: None) -> Fault | None:
        """What is wrong with a part; None where it is right.

        Args:
            begin: where it begins in the tar.
        """
        if self._wrong(part):
            return Fault(part["name"])
        return self._fault_in(self.folder / part["name"], part, begin, on_bytes)

    def _fault_in(
        self, path: Path, part: FileEntry, begin: int, on_bytes: Callable[[int], None] = lambda _: None
    ) -> Fault | None:
        """What is wrong with a copy of a part; None where it is right."""
        check = PartCheck(self.tar, begin, begin + part["size"], part.get("cuts"))
        whole = hashlib.sha256() if "cuts" not in part else None  # schema 1 knows the part itself
        left, data = part["size"] + 1, bytearray(CHUNK)
        try:
            with open_file(path) as source:
                while count := source.readinto(memoryview(data)[: min(CHUNK, left)]):
                    # One that grows meanwhile is wrong, not endless.
                    chunk, left = memoryview(data)[:count], left - count
                    if whole:
                        whole.update(chunk)
                    else:
                        check.feed(chunk)
                    on_bytes(count)
        except OSError:  # a disk that can't read it any more
            left = 0
        if whole:
            return None if left == 1 and whole.hexdigest() == part["sha256"] else Fault(part["name"])
        wrong = check.finish()
        if left == 1 and not wrong:
            return None
        return Fault(part["name"], tuple(dict.fromkeys(self.about(piece.name) for piece in wrong)))

    def range(self, begin: int, size: int) -> Iterator[bytes]:
        """Bytes of the tar, across parts."""
        at = 0
        for part in self.inventory["parts"]:
            first, last = max(begin, at), min(begin + size, at + part["size"])
            if first < last:
                try:
                    with open_file(self.folder / part["name"]) as source:
                        source.seek(first - at)
                        left = last - first
                        while left:
                            chunk = source.read(min(CHUNK, left))
                            if not chunk:
                                raise OSError(0, "it ends too soon")
                            left -= len(chunk)
                            yield chunk
                except OSError as error:
                    raise LoaderError(
                        5,
                        f"{part['name']} can't be read: {error.strerror or error}",
                        "copy this part again from the sender",
                    ) from None
            at += part["size"]

    def open(self, path: str, guard: Guard | None = None) -> Iterator[bytes]:
        """A file's bytes. The last chunk comes only after all of them were found to be what the inventory says.

        Raises:
            LoaderError: they are something else; the error names the part to blame.
        """
        entry = self.files[path]
        head = header(path, entry["size"])
        if b"".join(self.range(entry["at"] - len(head), len(head))) != head:
            raise self.fault(entry, "its header")
        digest, held = hashlib.sha256(), b""
        for chunk in self.range(entry["at"], entry["size"]):
            digest.update(chunk)
            if guard:
                guard(chunk)
            if held:
                yield held
            held = chunk
        if digest.hexdigest() != entry["sha256"]:
            raise self.fault(entry, "its bytes")
        if guard:
            guard.finish()
        yield held

    def fault(self, entry: FileEntry, what: str) -> LoaderError:
        """The error that names the part to blame for a file that is not what the inventory says."""
        at, wrong = 0, list[str]()
        for part in self.inventory["parts"]:
            inside = at < entry["at"] + entry["size"] and at + part["size"] > entry["at"] - BLOCK
            if inside and (found := self._fault(part, at)):
                wrong.append(found.part)
            at += part["size"]
        if not wrong:
            return bad(f"{what} of {entry['path']} are not what it says, but the parts are: it contradicts itself")
        return LoaderError(
            5,
            f"{', '.join(wrong)}: damaged, or of another bundle (in {what} of {self.about(entry['path'])})",
            "copy this part again from the sender",
        )

    def about(self, name: str) -> str:
        """A file of the tar, or a piece of it, and what it is to a person: a model's weights, code, an image's config."""
        path = name.rpartition(" ")[2]
        digest = f"sha256:{path.rpartition('/')[2]}"
        layer = self.inventory["layers"].get(digest)
        images = [
            (i["name"], "config" if i["config"] == digest else "manifest" if i["manifest"] == digest else "layer")
            for i in self.inventory["images"]
            if digest in (i["manifest"], i["config"], *i["layers"])
        ]
        if not path.startswith("blobs/") or not (images or layer):
            return name
        if layer and layer["model"]:
            return f"{name}, weights of {layer['model']}"
        kind = "code" if layer else images[0][1]
        return f"{name}, {kind} of {', '.join(image for image, _ in images) or 'no image'}"


@dataclass(frozen=True)
class Fault:
    """A file of a bundle that is missing or damaged."""

    part: str
    """Its name: of a part, or of a small file beside the parts."""
    inside: tuple[str, ...] = ()
    """What is damaged in it: paths of the tar, and whose; empty where the whole file is missing or of another size."""


def faults_text(faults: Sequence[Fault]) -> str:
    """Faults for a person: each file, and what of it is damaged."""
    texts = []
    for fault in faults:
        few, more = "; ".join(fault.inside[:MOST_INSIDE]), len(fault.inside) - MOST_INSIDE
        texts.append(fault.part + (f" ({few}{f'; and {more} more' if more > 0 else ''})" if few else ""))
    return f"damaged or missing: {', '.join(texts)}"


class Guard:
    """Follows the blocks of a zstd layer (RFC 8878), so that it can't grow beyond the size in the inventory.

    A compressed block gives at most 128 KiB and says no more, so this is a bound, not the size: writers that end blocks
    early stay far below :attr:`SLACK`, a bomb is thousands of times its size.
    """

    SLACK = 4
    LARGEST_WINDOW = 128 << 20
    """Bytes that whoever unpacks it has to hold; zstd itself takes no more without being told (ZSTD_WINDOWLOG_LIMIT_DEFAULT)."""

    def __init__(self, name: str, unpacked: int) -> None:
        self.name, self.most = name, self.SLACK * unpacked + (4 << 20)
        self.buffer, self.skip, self.inside, self.tail, self.bound = b"", 0, False, 0, 0

    def __call__(self, chunk: bytes) -> None:
        self.buffer += chunk
        while True:
            cut = min(self.skip, len(self.buffer))
            self.skip, self.buffer = self.skip - cut, self.buffer[cut:]
            if self.skip or not self.buffer or not (self._block() if self.inside else self._frame()):
                return

    def _frame(self) -> bool:
        data = self.buffer
        if len(data) < 5:
            return False
        need(data[:4] == b"\x28\xb5\x2f\xfd", f"{self.name} is not zstd")
        single, wide = data[4] >> 5 & 1, data[4] >> 6
        at = 5 + (1 - single) + (0, 1, 2, 4)[data[4] & 3]
        size = (1, 2, 4, 8)[wide] if wide or single else 0
        if len(data) < at + size:
            return False
        window = (1 << 10 + (data[5] >> 3)) * (8 + (data[5] & 7)) // 8
        if single:  # then it is as large as what comes out
            window = int.from_bytes(data[at : at + size], "little") + (256 if size == 2 else 0)
        need(window <= self.LARGEST_WINDOW, f"{self.name} wants {window} bytes of memory to be unpacked")
        self.skip = at + size
        self.inside, self.tail = True, 4 if data[4] & 4 else 0
        return True

    def _block(self) -> bool:
        if len(self.buffer) < 3:
            return False
        head = int.from_bytes(self.buffer[:3], "little")
        kind, size = head >> 1 & 3, head >> 3
        need(kind != 3, f"{self.name} is not zstd")
        self.skip = 3 + (1 if kind == 1 else size) + (self.tail if head & 1 else 0)
        self.inside = not head & 1
        self.bound += 128 << 10 if kind == 2 else size
        need(self.bound <= self.most, f"{self.name} unpacks to far more than it says")
        return True

    def finish(self) -> None:
        """Raises LoaderError when the blob ended in the middle of a block."""
        need(not (self.inside or self.skip or self.buffer), f"{self.name}: its zstd is cut short")
