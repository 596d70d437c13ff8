"""The parts of a bundle's tar, read with every byte checked against the inventory."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from builder.receiver.inventory import CHUNK, FileEntry, LoaderError, bad, need, open_file, read_inventory
from builder.receiver.tar import BLOCK, header


class Bundle:
    """A bundle's folder, read with every byte checked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.raw, self.inventory = read_inventory(folder)
        self.files: dict[str, FileEntry] = {f["path"]: f for f in self.inventory["files"]}
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

    def damaged(self, on_bytes: Callable[[int], None] = lambda _: None) -> list[str]:
        """Names of the parts that are missing or whose sha256 is another. Reads everything once."""
        return [p["name"] for p in self.inventory["parts"] if self._wrong(p) or self._hash(p, on_bytes) != p["sha256"]]

    def _hash(self, part: FileEntry, on_bytes: Callable[[int], None] = lambda _: None) -> str:
        digest, left = hashlib.sha256(), part["size"] + 1
        try:
            with open_file(self.folder / part["name"]) as source:
                while chunk := source.read(min(CHUNK, left)):  # one that grows meanwhile is wrong, not endless
                    digest.update(chunk)
                    left -= len(chunk)
                    on_bytes(len(chunk))
        except OSError:  # a disk that can't read it any more
            return ""
        return digest.hexdigest()

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
        at, wrong = 0, []
        for part in self.inventory["parts"]:
            inside = at < entry["at"] + entry["size"] and at + part["size"] > entry["at"] - BLOCK
            if inside and self._hash(part) != part["sha256"]:
                wrong.append(part["name"])
            at += part["size"]
        if not wrong:
            return bad(f"{what} of {entry['path']} are not what it says, but the parts are: it contradicts itself")
        return LoaderError(
            5, f"{', '.join(wrong)}: damaged, or of another bundle", "copy this part again from the sender"
        )


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
