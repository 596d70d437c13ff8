"""The hub client's cache as a source: what other programs of this user fetched is copied, and left as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from builder.core.weights.model import FilePin, Model, Pin, cache_folder
from builder.edges.system import files
from builder.edges.weights import access
from builder.edges.weights.download import ranges
from builder.edges.weights.sources.bring import FetchContext, bring
from builder.errors import SourceError


def cached_repository(model: Model, env: Mapping[str, str]) -> Path | None:
    """The folder of a model's repository in the hub client's cache; None when there is no such folder."""
    if model.repo is None:
        return None
    folder = _hub_cache(env) / cache_folder(model.repo)
    return folder if folder.is_dir() else None


def from_cache(context: FetchContext, model: Model, pin: Pin, repository: Path) -> None:
    """Copy the files that the cache has with the right bytes.

    Raises:
        SourceError: it lacks a file, or has it with other bytes.
    """

    def get(file: FilePin, target: Path, on_bytes: Callable[[int], None]) -> str:
        for path in (repository / "snapshots" / pin.revision / file.path, repository / "blobs" / file.sha256):
            if path.is_file() and path.stat().st_size == file.size:
                ranges.forget(target)
                if (digest := files.copy_hashed(files.chunks(path), target, on_bytes)) == file.sha256:
                    return digest
        raise SourceError(f"it has no {file.path} of this revision")

    bring(context, model, pin, get)


def _hub_cache(env: Mapping[str, str]) -> Path:
    """Where the hub client keeps its cache, by its own rules (huggingface_hub/constants.py)."""
    if cache := env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE"):
        return files.expanded(cache)
    return access.client_home(env) / "hub"
