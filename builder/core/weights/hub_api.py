"""What the Hugging Face hub says of a repository: read, and said of a pinned model in the same shapes. Pure.

Every file is given as an LFS object, named after its sha256, so a client's cache names it after its sha256, as the store does.
The git object ids that the protocol wants are those of the LFS pointers, which size and sha256 determine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from builder.core.weights.model import FilePin, Model, Pin


@dataclass(frozen=True, kw_only=True)
class ListedFile:
    """A file of a repository, as a hub lists it. Nothing of it is checked but its types."""

    path: str
    size: int
    sha256: str
    """Empty for a file outside of LFS."""


@dataclass(frozen=True, kw_only=True)
class Repository:
    """What a hub says of a repository."""

    revision: str
    licence: str
    files: tuple[ListedFile, ...]


def repository(answer: bytes) -> Repository:
    """Read the answer of ``/api/models/<repo>?blobs=true``.

    Raises:
        ValueError: it has another form; with what is wrong.
    """
    document = _parsed(answer)
    files = []
    for entry in _of(list, document, "siblings"):
        lfs = _of(dict, entry, "lfs", {})
        sized = lfs or (entry if isinstance(entry, dict) else {})
        size = _of(int, sized, "size")
        if not 0 <= size < 1 << 50:
            raise ValueError("a file's size")
        sha256 = _of(str, lfs, "sha256") if lfs else ""
        files.append(ListedFile(path=_of(str, entry, "rfilename"), size=size, sha256=sha256))
    licence = _of(dict, document, "cardData", {}).get("license")
    return Repository(
        revision=_of(str, document, "sha"), licence=licence if isinstance(licence, str) else "", files=tuple(files)
    )


def commits(answer: bytes) -> list[str]:
    """Read a page of ``/api/models/<repo>/commits/<revision>``.

    Raises:
        ValueError: it has another form.
    """
    return [_of(str, entry, "id") for entry in _of(list, {"": _parsed(answer)}, "")]


def _parsed(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None


def _of(kind: type[Any], found: object, key: str, default: Any = None) -> Any:
    """A value of an object, which has to be of a kind; nothing and null are ``default``, where there is one."""
    value = found.get(key) if isinstance(found, dict) else None
    if value is None and default is not None:
        return default
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{key or 'the whole'} is not of the kind that it should be")
    return value


def pointer(file: FilePin) -> bytes:
    """The Git LFS pointer (git-lfs, docs/spec.md) that stands for a file in a repository."""
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{file.sha256}\nsize {file.size}\n".encode()
    )  # the one valid form: version first, keys sorted, single blanks, a newline at the end


def git_id(kind: str, data: bytes) -> str:
    """Git's id (40 hex digits) of a ``blob`` or a ``tree``."""
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def model_info(model: Model, pin: Pin, *, sizes: bool) -> dict[str, Any]:
    """The answer of ``/api/models/<repo>``; ``sizes`` as with ``?blobs=true``."""
    repo = str(model.repo)
    siblings: list[dict[str, Any]] = []
    for file in pin.files:
        entry: dict[str, Any] = {"rfilename": file.path}
        if sizes:
            data = pointer(file)
            entry |= {
                "size": file.size,
                "blobId": git_id("blob", data),
                "lfs": {"sha256": file.sha256, "size": file.size, "pointerSize": len(data)},
            }
        siblings.append(entry)
    return {
        "_id": git_id("blob", repo.encode())[:24],
        "id": repo,
        "modelId": repo,
        "author": repo.split("/")[0],
        "sha": pin.revision,
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [f"license:{model.licence.lower()}"],
        "cardData": {"license": model.licence.lower()},
        "usedStorage": pin.size,
        "siblings": siblings,
    }


def refs(pin: Pin) -> dict[str, Any]:
    """The answer of ``/api/models/<repo>/refs``: one branch, at the pin."""
    branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": pin.revision}
    return {"branches": [branch], "tags": [], "converts": []}


def tree(pin: Pin, folder: str, *, recursive: bool) -> list[dict[str, Any]] | None:
    """The answer of ``/api/models/<repo>/tree/<revision>/<folder>``; None when the repository has no such folder."""
    below = f"{folder}/" if folder else ""
    inside = [f for f in pin.files if f.path.startswith(below)]
    if not inside:
        return None
    folders = sorted(
        {
            below + "/".join(parts[: k + 1])
            for f in inside
            for parts in [f.path[len(below) :].split("/")]
            for k in range(len(parts) - 1)
            if recursive or k == 0
        }
    )
    listed: list[dict[str, Any]] = [
        {
            "type": "directory",
            "oid": _tree_id([f for f in pin.files if f.path.startswith(f"{name}/")]),
            "size": 0,
            "path": name,
        }
        for name in folders
    ]
    for file in inside:
        if recursive or "/" not in file.path[len(below) :]:
            data = pointer(file)
            lfs = {"oid": file.sha256, "size": file.size, "pointerSize": len(data)}
            listed.append(
                {"type": "file", "oid": git_id("blob", data), "size": file.size, "path": file.path, "lfs": lfs}
            )
    return listed


def _tree_id(files: Sequence[FilePin]) -> str:
    """An id that changes with what is below a folder. (Git's own would need the modes, which no client reads.)"""
    return git_id("tree", "".join(f"{f.sha256} {f.path}\n" for f in files).encode())


def shelf_entry(model: Model, pin: Pin) -> dict[str, Any]:
    """One model of ``/whisperbake/models``, for models that have no repository too."""
    return {
        "id": model.id,
        "purpose": model.purpose.value,
        "title": model.title,
        "licence": model.licence,
        "commercial": model.commercial,
        "repo": model.repo,
        "target": model.target,
        "revision": pin.revision,
        "size": pin.size,
        "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in pin.files],
    }
