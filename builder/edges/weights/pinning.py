"""Ask the hub what a model is today, and keep the answer in models.lock."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.core.config.paths import Paths
from builder.core.weights import catalog, lock
from builder.core.weights.model import FilePin, Model, Pin
from builder.edges.system import files
from builder.edges.weights import access as gates
from builder.errors import IntegrityError, SourceError

PATIENCE = 10.0
"""Seconds until a hub that doesn't answer is given up."""

SMALL = 64 << 20
"""Bytes of a file without a sha256 of the hub's own (one outside of LFS) that is still read to hash it."""


class Unreachable(SourceError):
    """The hub doesn't answer: asking for the next model is of no use."""


def resolve(model: Model, *, token: gates.Token | None, env: Mapping[str, str]) -> tuple[Pin, tuple[str, ...] | None]:
    """What the model's repository is now, and its commits from there backwards (None: the hub doesn't tell).

    Only the files that the catalogue's ``include`` names; hidden files and read-mes never. Sizes and sha256 are the hub's
    where it has them (LFS); other files are read and hashed.

    Raises:
        SourceError: the hub can't be reached, refuses, or has no such repository; or the model has none.
    """
    if model.repo is None:
        raise SourceError(
            f"model {model.id} has no hub repository to ask",
            hint="write its pin into models.lock by hand, with two records",
        )
    if env.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise SourceError("HF_HUB_OFFLINE is set", hint="unset it to ask the hub")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # its client's, whichever that is
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined] # documented, but lazy

    disable_progress_bars()  # its bars would stand between our lines
    endpoint = (env.get("HF_ENDPOINT") or gates.ENDPOINT).rstrip("/")
    api = HfApi(endpoint=endpoint, token=token.value if token else False)
    page = model.page or f"{endpoint}/{model.repo}"
    try:
        info = api.model_info(model.repo, files_metadata=True, timeout=PATIENCE)
        revision = str(info.sha)
        pinned = [_pin(api, model.repo, revision, s) for s in info.siblings or [] if _wanted(model, s.rfilename)]
    except HTTPError as error:
        answer = getattr(error, "response", None)
        if answer is None:
            raise Unreachable(f"{endpoint} could not be reached ({_first_line(error)})", where=model.id) from error
        status, headers = answer.status_code, answer.headers
        code, message = headers.get("X-Error-Code", ""), headers.get("X-Error-Message", "")
        if status in (401, 403) and (code == "GatedRepo" or model.gated or "credentials" in message.lower()):
            why = gates.reason(status, code, message, with_token=token is not None)
            raise SourceError(f"{model.repo}: {why.value}", where=model.id, hint=f"see {page}") from error
        if status in (401, 404):
            raise SourceError(f"no such repository, or a private one: {page}", where=model.id) from error
        raise SourceError(f"{endpoint} answered {status} {code}".rstrip(), where=model.id) from error
    if not catalog.COMMIT.fullmatch(revision):
        raise IntegrityError(f"{endpoint} named no commit: {revision!r}", where=model.id)
    if not pinned:
        raise SourceError(f"{model.repo} has none of the files that models.yaml includes", where=model.id)
    for file in pinned:
        if (why_not := catalog.unsafe(file.path)) or not catalog.SHA256.fullmatch(file.sha256):
            raise IntegrityError(
                f"{endpoint} named a file that can't be pinned: {file.path!r} ({why_not})", where=model.id
            )
    licence = getattr(info.card_data, "license", None)
    pin = Pin(
        revision=revision,
        files=tuple(sorted(pinned, key=lambda f: f.path)),
        records=(f"{model.repo} on {endpoint}",),
        licence=licence if isinstance(licence, str) else "",
    )
    return pin, _history(api, model.repo, revision)


def _wanted(model: Model, path: str) -> bool:
    if path.startswith(".") or path.lower().endswith(".md"):
        return False
    return not model.include or any(fnmatch.fnmatchcase(path, pattern) for pattern in model.include)


def _pin(api: Any, repo: str, revision: str, entry: Any) -> FilePin:
    if entry.lfs is not None:
        return FilePin(path=entry.rfilename, size=entry.lfs.size, sha256=entry.lfs.sha256)
    if (entry.size or 0) > SMALL:
        raise SourceError(
            f"{repo}: {entry.rfilename} has {entry.size} bytes and no sha256", hint="leave it out: include"
        )
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        path = Path(api.hf_hub_download(repo, entry.rfilename, revision=revision, cache_dir=place))
        data = path.read_bytes()
    return FilePin(path=entry.rfilename, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _history(api: Any, repo: str, revision: str) -> tuple[str, ...] | None:
    try:
        return tuple(c.commit_id for c in api.list_repo_commits(repo, revision=revision))
    except Exception:  # a mirror that has no history: told as such
        return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def write(root: Path, home: Path, pins: Mapping[str, Pin], known: Mapping[str, Model]) -> None:
    """Put pins into models.lock, beside what another process may have put there meanwhile; whole or not at all."""
    path = root / "models.lock"
    with files.locked(Paths(home=home).lock_guard):
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        before = lock.parse_lock(text, known=known) if text.strip() else {}
        after = lock.dump_lock({**before, **pins})
        lock.parse_lock(after, known=known)  # what can't be read back is not written
        files.write_atomic(path, after)
