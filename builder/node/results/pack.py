"""What a run published, as one file that an engine takes away: for nodes that have no folder with the others."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.node.faults import of_disk
from builder.node.results.folder import failed_of, folder_of

END = "end.json"
"""The last member: the shard, its exit code, and the sha256 of the others."""


def pack(target: Path, results: Path, keys: Sequence[str], journal: Path | None, *, shard: int, code: int) -> None:
    """Write a tar of results, reasons and the run's journal; whole or not at all.

    Args:
        keys: of items that this run published or wrote down as failed.

    Raises:
        NodeFault: it can't be written.
    """
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        files = [path for key in sorted(keys) for path in _files(results, key)]
        members: dict[str, str] = {}
        with tarfile.open(beside, "w", format=tarfile.GNU_FORMAT) as archive:
            for path in [*files, *([journal] if journal else [])]:
                name = path.relative_to(results).as_posix()
                data = path.read_bytes()
                members[name] = hashlib.sha256(data).hexdigest()
                _add(archive, name, data)
            end = {"schema": 1, "shard": shard, "code": code, "members": members}
            _add(archive, END, json.dumps(end, sort_keys=True).encode())
        os.replace(beside, target)  # noqa: PTH105
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise of_disk(error, target, "the packed results") from error


def _files(results: Path, key: str) -> list[Path]:
    folder = folder_of(results, key)
    if folder.is_dir():
        return sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in (failed_of(results, key),) if path.is_file()]


def _add(archive: Any, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    archive.addfile(info, io.BytesIO(data))
