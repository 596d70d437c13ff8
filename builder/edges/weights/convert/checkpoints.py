"""PyTorch's two file formats, read without PyTorch: tensors become NumPy arrays."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from builder.edges.weights.convert.pickles import Global, Storage, Tensor, Tree
from builder.errors import IntegrityError

MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of PyTorch's legacy file format (torch/serialization.py)."""

LARGEST = 3 << 29
"""Bytes of a checkpoint, and of all its tensors: a large wav2vec2 has 1.3 GB, the others that are converted far less."""

MOST_MEMBERS = 20_000
"""Files inside a checkpoint of the zip format: each tensor has one."""

Storages = Mapping[str, Storage]


def read(source: BinaryIO, *, opaque: frozenset[Global] = frozenset()) -> Any:
    """Read a PyTorch file of either format; tensors in dicts and lists become NumPy arrays.

    Args:
        opaque: classes that the file may name; what it makes of them is dropped.

    Raises:
        IntegrityError: another kind of file, or one that asks for anything but plain tensors.
    """
    if source.seek(0, io.SEEK_END) > LARGEST:
        raise IntegrityError("the checkpoint is larger than any that is converted here")
    source.seek(0)
    zipped = source.read(4) == b"PK\x03\x04"
    source.seek(0)
    try:
        return (_read_zip if zipped else _read_legacy)(source, Tree(opaque))
    except IntegrityError:
        raise
    except Exception as error:
        what = str(error)[:200]
        raise IntegrityError(f"not a PyTorch checkpoint: {what}") from error


def _read_legacy(source: BinaryIO, reader: Tree) -> Any:
    """The format from before PyTorch 1.6.

    Five pickles (magic, protocol, system, object, storage keys), then for each storage an int64 count and its
    little-endian data.
    """
    if reader.load(source) != MAGIC:
        raise IntegrityError("not a PyTorch checkpoint of the legacy format")
    reader.load(source), reader.load(source)
    tree = reader.load(source)
    storages = _storages(reader)
    arrays: dict[str, Any] = {}
    for key in reader.load(source):
        count, storage = int.from_bytes(source.read(8), "little"), storages[str(key)]
        arrays[storage.key] = _array(storage, source.read(storage.size) if count == storage.count else b"")
    return _filled(tree, arrays)


def _read_zip(source: BinaryIO, reader: Tree) -> Any:
    """The format since PyTorch 1.6: a stored zip of ``<name>/data.pkl`` and ``<name>/data/<key>`` for each storage."""
    with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
        if len(members) > MOST_MEMBERS or any(m.compress_type != zipfile.ZIP_STORED for m in members):
            raise IntegrityError("the checkpoint is packed as PyTorch packs none")
        names = {m.filename for m in members}
        (root,) = [name.removesuffix("/data.pkl") for name in names if name.endswith("/data.pkl")]
        if f"{root}/byteorder" in names and archive.read(f"{root}/byteorder") != b"little":
            raise IntegrityError("the checkpoint is of a big-endian machine")
        tree = reader.load(io.BytesIO(archive.read(f"{root}/data.pkl")))
        arrays = {}
        for key, storage in _storages(reader).items():
            with archive.open(f"{root}/data/{key}") as member:
                arrays[key] = _array(storage, member.read(storage.size + 1))
    return _filled(tree, arrays)


def _storages(reader: Tree) -> Storages:
    """The storages of the tensors by key; a key that stands for two is refused, and more than any checkpoint has."""
    storages: dict[str, Storage] = {}
    for tensor in reader.tensors:
        if storages.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise IntegrityError("the checkpoint has two storages of one name")
    if sum(storage.size for storage in storages.values()) > LARGEST:
        raise IntegrityError("the checkpoint says that it has more than any that is converted here")
    return storages


def _array(storage: Storage, data: bytes) -> Any:
    import numpy as np

    if len(data) != storage.size:
        raise IntegrityError("the checkpoint is cut short")
    return np.frombuffer(data, dtype=storage.dtype)


def _filled(tree: Any, arrays: Mapping[str, Any]) -> Any:
    def dense(tensor: Tensor) -> Any:
        count = math.prod(tensor.shape)
        return arrays[tensor.storage.key][tensor.offset : tensor.offset + count].reshape(tensor.shape)

    _fill(tree, dense)
    return tree


def _fill(tree: Any, dense: Callable[[Tensor], Any]) -> None:
    """Put arrays in the place of the tensors in dicts and lists, each container once: one may hold itself."""
    waiting, seen = [tree], set()
    while waiting:
        container = waiting.pop()
        if id(container) in seen or not isinstance(container, (dict, list)):
            continue
        seen.add(id(container))
        for key, value in list(container.items() if isinstance(container, dict) else enumerate(container)):
            if isinstance(value, Tensor):
                container[key] = dense(value)
            else:
                waiting.append(value)
