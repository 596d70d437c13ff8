"""Bring models into the store: from the hub, an address, wheels of the package index, or a local folder.

It does not matter where bytes come from: whatever arrives is hashed, and only a match enters the tree.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.core.progress import Progress, Report
from builder.core.types import FilePin, HubSource, Model, Pin, UrlSource, WheelSource
from builder.edges import convert, files, wheels
from builder.edges.store import Store
from builder.errors import IntegrityError, MissingError, SourceError

ENDPOINT = "https://huggingface.co"
"""The hub, where HF_ENDPOINT names no other."""

PATIENCE = 10.0
"""Seconds until a source that doesn't answer is given up, for the rest of the run."""


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What one model took."""

    model: str
    source: str
    size: int
    seconds: float


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
        MissingError: the disk is full.
    """
    missing = [(model, pin, store.missing(model, pin)) for model, pin in wanted]
    store.require_space([f for _, pin, lacking in missing if lacking for f in (*lacking, *pin.source_files)])
    down: set[str] = set()
    done = []
    for model, pin, lacking in missing:
        if not lacking:
            store.finish(model, pin)
            continue
        began = time.monotonic()
        try:
            source = _fetch_one(store, model, pin, folders, env, report, down)
        except OSError as error:
            if error.errno in (28, 122):  # no space, over quota
                raise MissingError(
                    "the disk is full", where=str(store.root), hint="free some space, then again"
                ) from error
            raise
        report(Progress(what=model.id, done=pin.size, total=pin.size, unit="bytes", finished=True))
        done.append(Fetched(model=model.id, source=source, size=pin.size, seconds=time.monotonic() - began))
    return tuple(done)


def _fetch_one(
    store: Store,
    model: Model,
    pin: Pin,
    folders: Sequence[Path],
    env: Mapping[str, str],
    report: Report,
    down: set[str],
) -> str:
    """Try the sources in turn; the name of the one that had it."""
    reasons: list[str] = []
    wrong: IntegrityError | None = None
    gated: SourceError | None = None
    tries: list[tuple[str, Callable[[], None]]] = []
    for source in model.sources:
        if isinstance(source, HubSource):
            tries.append((f"hub {source.repo}", lambda s=source: _from_hub(store, model, pin, s, env, report, down)))  # type: ignore[misc]
        elif isinstance(source, UrlSource):
            tries.append((source.url, lambda s=source: _from_url(store, model, pin, s, report, down)))  # type: ignore[misc]
        else:
            tries.append(("package index", lambda s=source: _from_wheels(store, model, pin, s, env, report)))  # type: ignore[misc]
    tries += [(f"folder {folder}", lambda f=folder: _from_folder(store, model, pin, f, report)) for folder in folders]  # type: ignore[misc]
    for name, attempt in tries:
        try:
            attempt()
            store.finish(model, pin)
            return name
        except IntegrityError as error:
            wrong = error
            reasons.append(f"{name}: {error.what}")
        except SourceError as error:
            gated = error if error.hint else gated
            reasons.append(f"{name}: {error.what}")
    if wrong is not None:
        raise wrong
    raise SourceError(
        f"no source had model {model.id}",
        detail=reasons,
        hint=gated.hint if gated else f"models fetch {model.id} --from DIR, or set HF_ENDPOINT to a mirror",
    )


def _missing(store: Store, model: Model, pin: Pin) -> list[FilePin]:
    return [f for f in pin.files if f in store.missing(model, pin)]


def _take(
    store: Store, model: Model, pin: Pin, wanted: FilePin, chunks: Callable[[], Iterator[bytes]], report: Report,
    before: int = 0,
) -> None:  # fmt: skip
    """Stream one file in, hashing on the way; another process may have brought it meanwhile."""
    with store.fetching(wanted) as incoming:
        if wanted not in store.missing(model, pin):
            return

        def counted() -> Iterator[bytes]:
            done = before
            for chunk in chunks():
                done += len(chunk)
                report(Progress(what=model.id, done=done, total=pin.size, unit="bytes"))
                yield chunk

        try:
            digest = wheels.copy_hashed(counted(), incoming)
            store.admit(model, pin, wanted, incoming, digest=digest)
        except OSError:
            incoming.unlink(missing_ok=True)
            raise


def _from_hub(
    store: Store, model: Model, pin: Pin, source: HubSource, env: Mapping[str, str], report: Report, down: set[str]
) -> None:
    endpoint = env.get("HF_ENDPOINT", ENDPOINT).rstrip("/")
    if env.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise SourceError("HF_HUB_OFFLINE is set")
    _reachable(endpoint, down)
    # Heavy (0.4 s), so only once the hub has answered.
    from huggingface_hub import errors as hub_errors
    from huggingface_hub import hf_hub_download

    before = 0
    for wanted in _missing(store, model, pin):
        report(Progress(what=model.id, done=before, total=pin.size, unit="bytes"))
        with store.fetching(wanted) as incoming:
            if wanted not in store.missing(model, pin):
                continue
            place = incoming.with_suffix(".hub")
            try:
                path = hf_hub_download(
                    source.repo, wanted.path, revision=pin.revision, local_dir=place, endpoint=endpoint,
                    etag_timeout=PATIENCE,
                )  # fmt: skip
            except hub_errors.GatedRepoError as error:
                page = model.page or f"{endpoint}/{source.repo}"
                raise SourceError(
                    "gated: its licence must be accepted, and a token given",
                    hint=f"accept it at {page}, then set HF_TOKEN",
                ) from error
            except hub_errors.RepositoryNotFoundError as error:
                raise SourceError("the hub has no such repository, or wants a token for it") from error
            except (hub_errors.HfHubHTTPError, hub_errors.LocalEntryNotFoundError, OSError) as error:
                if isinstance(error, OSError) and error.errno in (28, 122):
                    raise
                raise SourceError(_short(error)) from error
            Path(path).replace(incoming)
            store.admit(model, pin, wanted, incoming)
        before += wanted.size


def _from_url(store: Store, model: Model, pin: Pin, source: UrlSource, report: Report, down: set[str]) -> None:
    host = "/".join(source.url.split("/")[:3])
    _reachable(host, down)
    for wanted in _missing(store, model, pin):
        try:
            with urllib.request.urlopen(source.url, timeout=PATIENCE) as answer:  # https only: catalog.py
                _take(store, model, pin, wanted, lambda a=answer: iter(lambda: a.read(files.CHUNK), b""), report)  # type: ignore[misc]
        except urllib.error.HTTPError as error:
            raise SourceError(f"it answered {error.code}") from error
        except (urllib.error.URLError, TimeoutError) as error:
            raise SourceError(_short(error)) from error


def _from_wheels(
    store: Store, model: Model, pin: Pin, source: WheelSource, env: Mapping[str, str], report: Report
) -> None:
    report(Progress(what=model.id, done=0, total=pin.size, unit="bytes"))
    with wheels.downloaded(source, store.incoming, env) as found:
        before = 0
        if model.convert is not None:
            _converted(store, model, pin, lambda path: wheels.read_members(source.files[path], found))
            return
        for wanted in _missing(store, model, pin):
            members = source.files.get(wanted.path)
            if members is None:
                raise SourceError(f"its wheels hold no {wanted.path}")
            _take(store, model, pin, wanted, lambda m=members: wheels.read_members(m, found), report, before)  # type: ignore[misc]
            before += wanted.size


def _from_folder(store: Store, model: Model, pin: Pin, folder: Path, report: Report) -> None:
    """Look for files of the right size and hash anywhere below a folder, inside wheels too."""
    if not folder.is_dir():
        raise SourceError("no such folder")
    needed = [*_missing(store, model, pin)] if model.convert is None else list(pin.source_files)
    by_size: dict[int, list[Path]] = {}
    archives = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            by_size.setdefault(path.stat().st_size, []).append(path)
            if path.suffix == ".whl":
                archives.append(path)
    whole = _wheels_in(archives, model)
    if whole is not None and model.convert is None:
        source, found = whole
        for wanted in needed:
            if members := source.files.get(wanted.path):
                _take(store, model, pin, wanted, lambda m=members: wheels.read_members(m, found), report)  # type: ignore[misc]
        return
    places: dict[str, Path] = {}
    for wanted in needed:
        match = next((p for p in by_size.get(wanted.size, []) if files.sha256(p) == wanted.sha256), None)
        if match is None:
            raise SourceError(f"no file with the bytes of {wanted.path}")
        places[wanted.path] = match
    if model.convert is not None:
        _converted(store, model, pin, lambda path: _chunks(places[path]))
        return
    for wanted in needed:
        _take(store, model, pin, wanted, lambda w=wanted: _chunks(places[w.path]), report)  # type: ignore[misc]


def _wheels_in(archives: Sequence[Path], model: Model) -> tuple[WheelSource, dict[str, Path]] | None:
    """The model's wheel source, when all of its wheels are among ``archives``."""
    for source in model.sources:
        if isinstance(source, WheelSource):
            digests = {files.sha256(path): path for path in archives if zipfile.is_zipfile(path)}
            found = {wheel: digests[d] for wheel, d in source.wheels.items() if d in digests}
            if len(found) == len(source.wheels):
                return source, found
    return None


def _converted(store: Store, model: Model, pin: Pin, read: Callable[[str], Iterator[bytes]]) -> None:
    """Fetch the source file, check it, convert it once, check the result."""
    assert model.convert is not None
    wanted = next(f for f in pin.files if f.path == model.convert.result)
    origin = next(f for f in pin.source_files if f.path == model.convert.source)
    with store.fetching(wanted) as incoming:
        if wanted not in store.missing(model, pin):
            return
        source = incoming.with_suffix(".source")
        try:
            digest = wheels.copy_hashed(read(origin.path), source)
            if digest != origin.sha256:
                raise IntegrityError(f"model {model.id}: {origin.path} is not what models.lock says")
            convert.converter(model.convert.how)(source, incoming)
            store.admit(model, pin, wanted, incoming)
        finally:
            source.unlink(missing_ok=True)


def _reachable(address: str, down: set[str]) -> None:
    """Ask once, for ``PATIENCE`` seconds; any HTTP answer is an answer.

    Raises:
        SourceError: nobody answers there, now or earlier in this run.
    """
    if address in down:
        raise SourceError(f"{address} could not be reached")
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE).close()
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError) as error:
        down.add(address)
        raise SourceError(f"{address} could not be reached ({_short(error)})") from error


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        while chunk := source.read(files.CHUNK):
            yield chunk


def _short(error: BaseException) -> str:
    return str(getattr(error, "reason", None) or error).splitlines()[0][:200] if str(error) else type(error).__name__


def resolve(model: Model, env: Mapping[str, str]) -> Pin:
    """Ask the hub what a model is today: revision, sizes, sha256 (small files are fetched and hashed).

    Raises:
        SourceError: the hub can't be reached or refuses; or the model has no repository.
    """
    if model.repo is None:
        raise SourceError(
            f"model {model.id} has no hub repository to ask", hint="write its pin into models.lock by hand"
        )
    endpoint = env.get("HF_ENDPOINT", ENDPOINT).rstrip("/")
    _reachable(endpoint, set())
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub import errors as hub_errors

    try:
        info = HfApi(endpoint=endpoint).model_info(model.repo, files_metadata=True, timeout=PATIENCE)
        pinned = []
        for entry in info.siblings or []:
            if entry.rfilename.startswith(".") or entry.rfilename.lower().endswith(".md"):
                continue
            if entry.lfs is not None:
                pinned.append(FilePin(path=entry.rfilename, size=entry.lfs.size, sha256=entry.lfs.sha256))
            else:
                path = Path(hf_hub_download(model.repo, entry.rfilename, revision=info.sha, endpoint=endpoint))
                pinned.append(FilePin(path=entry.rfilename, size=path.stat().st_size, sha256=files.sha256(path)))
    except (hub_errors.HfHubHTTPError, OSError) as error:
        raise SourceError(f"{model.repo}: {_short(error)}", hint="see its page, or set HF_TOKEN") from error
    return Pin(
        revision=str(info.sha),
        files=tuple(sorted(pinned, key=lambda f: f.path)),
        records=(f"{model.repo} on {endpoint}",),
    )
