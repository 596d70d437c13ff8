"""Ask the hub what a model is today, and keep the answer in models.lock."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.config.paths import Paths
from builder.core.weights import lock
from builder.core.weights.model import COMMIT, SHA256, FilePin, Model, Pin, unsafe
from builder.edges.system import files, http
from builder.edges.weights import access
from builder.errors import IntegrityError, SourceError

PATIENCE = 10.0
"""Seconds that the hub's answer is waited for."""

SMALL = 64 << 20
"""Bytes up to which a file is downloaded and hashed when the hub has no sha256 of it (it is outside LFS)."""


class HubUnreachable(SourceError):
    """No hub can be asked: asking about the next model is pointless."""


@dataclass(frozen=True, kw_only=True)
class HubAnswer:
    """What the hub says of a model today."""

    pin: Pin
    history: tuple[str, ...] | None
    """The repository's commits, from the pin's backwards; None when the hub doesn't tell."""


def resolve(model: Model, *, token: access.Token | None, env: Mapping[str, str]) -> HubAnswer:
    """Ask the hub what a model's repository is now.

    The pin has the files that the catalogue's ``include`` names, without hidden files and read-mes. Sizes and sha256 are the
    hub's where it has them (LFS); other files are downloaded and hashed.

    Raises:
        SourceError: the hub can't be reached, refuses, or has no such repository; or the model has no repository.
        IntegrityError: the answer names what can't be pinned.
    """
    if model.repo is None:
        raise SourceError(
            f"model {model.id} has no hub repository to ask",
            hint="write its pin into models.lock by hand, with two records",
        )
    if access.offline(env):
        raise HubUnreachable("HF_HUB_OFFLINE is set", where=model.id, hint="unset it to ask the hub")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # its client's, whichever that is
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined] # documented, but lazy

    disable_progress_bars()  # they would mix with the command's own lines
    address = access.endpoint(env)
    api = HfApi(endpoint=address, token=token.value if token else False)
    try:
        info = api.model_info(model.repo, files_metadata=True, timeout=PATIENCE)
        revision = str(info.sha)
        pinned = [_pin(api, model.repo, revision, s) for s in info.siblings or [] if _included(model, s.rfilename)]
    except HTTPError as error:
        raise _refusal(error, model, address, with_token=token is not None) from error
    _check(model, address, revision, pinned)
    licence = getattr(info.card_data, "license", None)
    pin = Pin(
        revision=revision,
        files=tuple(sorted(pinned, key=lambda f: f.path)),
        records=(f"{model.repo} on {address}",),
        licence=licence if isinstance(licence, str) else "",
    )
    return HubAnswer(pin=pin, history=_history(api, model.repo, revision))


def _refusal(error: Exception, model: Model, address: str, *, with_token: bool) -> SourceError:
    """Why the hub told nothing of a model."""
    answer = getattr(error, "response", None)
    if answer is None:
        return HubUnreachable(f"{address} could not be reached ({http.short(error)})", where=model.id)
    page = model.page or f"{address}/{model.repo}"
    status, headers = answer.status_code, answer.headers
    code, message = headers.get("X-Error-Code", ""), headers.get("X-Error-Message", "")
    if status in (401, 403) and (code == "GatedRepo" or model.gated or "credentials" in message.lower()):
        why = access.reason(status, code, message, with_token=with_token)
        return SourceError(f"{model.repo}: {why.value}", where=model.id, hint=f"see {page}")
    if status in (401, 404):
        return SourceError(f"no such repository, or a private one: {page}", where=model.id)
    return SourceError(f"{address} answered {status} {code}".rstrip(), where=model.id)


def _check(model: Model, address: str, revision: str, pinned: Sequence[FilePin]) -> None:
    """Refuse an answer that no lock could hold.

    Raises:
        SourceError: none of the repository's files is included.
        IntegrityError: the revision is not a commit, or a path or a sha256 is not one.
    """
    if not COMMIT.fullmatch(revision):
        raise IntegrityError(f"{address} named no commit: {revision!r}", where=model.id)
    if not pinned:
        raise SourceError(f"{model.repo} has none of the files that models.yaml includes", where=model.id)
    for file in pinned:
        if (why_not := unsafe(file.path)) or not SHA256.fullmatch(file.sha256):
            raise IntegrityError(
                f"{address} named a file that can't be pinned: {file.path!r} ({why_not})", where=model.id
            )


def _included(model: Model, path: str) -> bool:
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

    with tempfile.TemporaryDirectory() as folder:
        data = Path(api.hf_hub_download(repo, entry.rfilename, revision=revision, cache_dir=folder)).read_bytes()
    return FilePin(path=entry.rfilename, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _history(api: Any, repo: str, revision: str) -> tuple[str, ...] | None:
    try:
        return tuple(c.commit_id for c in api.list_repo_commits(repo, revision=revision))
    except Exception:  # noqa: BLE001 - a mirror without a history fails in many ways; None says that it has none
        return None


def write(root: Path, home: Path, pins: Mapping[str, Pin], known: Mapping[str, Model]) -> None:
    """Write pins into models.lock, beside what another process may have written meanwhile; all of them or none."""
    path = root / "models.lock"
    with files.locked(Paths(home=home).lock_guard):
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        before = lock.parse_lock(text, known=known) if text.strip() else {}
        after = lock.dump_lock({**before, **pins})
        lock.parse_lock(after, known=known)  # what can't be read back is not written
        files.write_atomic(path, after)
