"""One model's missing files from one source: each under its lock, hashed while it arrives, then admitted to the store."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from builder.core.progress import Progress
from builder.core.weights.model import FilePin, Model, Pin, PinnedModel
from builder.edges.system import files
from builder.edges.weights import convert
from builder.edges.weights.download import ranges, transfer
from builder.edges.weights.download.progress import BytesTally
from builder.edges.weights.download.traffic import Traffic
from builder.edges.weights.store import Store
from builder.errors import BakeError, IntegrityError, Interrupted, MissingError, SourceError, UsageError

GetFile = Callable[[FilePin, Path, Callable[[int], None]], str]
"""Brings one file to a path, and calls back with the number of its bytes that have arrived; returns their hex sha256."""


@dataclass(frozen=True, kw_only=True)
class FetchContext:
    """What one fetch shares among its models and files, each in a thread of its own."""

    store: Store
    env: Mapping[str, str]
    tally: BytesTally
    traffic: Traffic
    models: Sequence[PinnedModel] = ()
    """All that are being fetched."""
    local: threading.Lock = field(default_factory=threading.Lock)
    """One pip, and one reader of a stick, at a time."""

    def arrived(self, model: Model, count: int) -> None:
        """Show that ``count`` of the bytes that a model lacked have arrived.

        Raises:
            Interrupted: the fetch is being cancelled.
        """
        self.traffic.check_stopped()
        self.tally.model(model.id, count)

    def waiting(self, model: Model, file: FilePin) -> None:
        """Show that somebody else is fetching a file.

        Raises:
            Interrupted: the fetch is being cancelled.
        """
        self.traffic.check_stopped()
        self.tally.waiting(model.id, file)


def bring(
    context: FetchContext, model: Model, pin: Pin, get: GetFile, *, local: bool = True, converted: bool = False
) -> None:
    """Get every missing file, each under its lock, and admit it. A file that fails doesn't stop the others.

    Args:
        local: get one file after the other; else side by side, as many at a time as the fetch may have.
        converted: the source has the result of the model's conversion, not the file that is converted.

    Raises:
        SourceError: the source lacks a file, or refuses it.
        IntegrityError: it delivered other bytes.
    """
    missing = context.store.missing(model, pin)
    counts = dict.fromkeys(missing, 0)

    def arrived(file: FilePin, count: int) -> None:
        counts[file] = count
        context.arrived(model, sum(counts.values()))
        context.tally.file(model.id, file, count)

    def bring_file(file: FilePin) -> None:
        if file.path == model.converted_path and not converted:
            _bring_file(context, model, pin, file, functools.partial(_convert, context, model, pin, get), arrived)
        else:
            _bring_file(context, model, pin, file, get, arrived)

    def take_turn(file: FilePin) -> None:
        with context.traffic.files:
            context.traffic.check_stopped()
            bring_file(file)

    failures: list[BaseException] = []
    if local:
        for file in missing:
            try:
                bring_file(file)
            except SourceError as error:
                failures.append(error)
    else:
        outcomes = transfer.side_by_side([functools.partial(take_turn, file) for file in missing])
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if failures:
        raise _joined(failures)


def from_store(context: FetchContext, model: Model, pin: Pin) -> None:
    """Make weights in int8 from their model's, where the store has these.

    Raises:
        SourceError: it hasn't.
        IntegrityError: they are not what models.lock says.
    """

    def get(file: FilePin, target: Path, on_bytes: Callable[[int], None]) -> str:
        raise SourceError(f"no {file.path}")

    bring(context, model, pin, get)


def _bring_file(
    context: FetchContext,
    model: Model,
    pin: Pin,
    file: FilePin,
    get: GetFile,
    arrived: Callable[[FilePin, int], None],
) -> None:
    store = context.store
    with store.fetching(file, waiting=functools.partial(context.waiting, model, file)) as incoming:
        # Another process, or another model of this fetch, may have brought it while this one waited.
        if file in store.missing(model, pin) and not store.adopt(model, pin, file):
            on_bytes = functools.partial(arrived, file)
            if (same := store.same(file)) is not None:
                ranges.forget(incoming)
                digest = files.copy_hashed(files.chunks(same), incoming, on_bytes)
            else:
                digest = get(file, incoming, on_bytes)
            store.admit(model, pin, file, incoming, digest=digest)
    context.tally.file(model.id, file, file.size, finished=True)


def _convert(
    context: FetchContext, model: Model, pin: Pin, get: GetFile, _: FilePin, result: Path, __: Callable[[int], None]
) -> str:
    """Get the source file, check it, convert it; the hex sha256 of the result, which has a pin as well."""
    assert model.convert is not None
    file = next(f for f in pin.source_files if f.path == model.convert.source)
    if (same := context.store.same(file)) is not None and files.sha256(same) == file.sha256:
        _converted(context, model, same, result)  # of the model that it is made from
        return files.sha256(result)
    with context.store.fetching(file, waiting=functools.partial(context.waiting, model, file)) as source:
        digest = get(file, source, functools.partial(context.arrived, model))
        if digest != file.sha256:
            raise IntegrityError(
                f"model {model.id}: {file.path} is not what models.lock says (sha256 {digest[:12]}…)",
                where=str(context.store.reject(model, source, file.path, digest)),
            )
        _converted(context, model, source, result)
        source.unlink()
    return files.sha256(result)


def _converted(context: FetchContext, model: Model, source: Path, result: Path) -> None:
    assert model.convert is not None
    context.tally.show(Progress(what=model.id, note="converting", finished=True))
    convert.converter(model.convert.how, model.convert.labels)(source, result)


def most_telling(failures: Sequence[BaseException]) -> BaseException:
    """The failure to show: the disk's before a source's, wrong bytes before a refusal. The others become its details."""
    for kind in (OSError, Interrupted, MissingError, UsageError):
        if of_kind := next((f for f in failures if isinstance(f, kind)), None):
            return of_kind
    if unexpected := next((f for f in failures if not isinstance(f, BakeError)), None):
        return unexpected
    shown = next((f for f in failures if isinstance(f, IntegrityError)), failures[0])
    assert isinstance(shown, BakeError)
    for other in failures:
        if other is not shown and isinstance(other, BakeError):
            shown.detail = (*shown.detail, other.what, *other.detail)
    return shown


def _joined(failures: Sequence[BaseException]) -> BaseException:
    """One error for a model's files; a reason that several have in common is named once."""
    worst = most_telling([f for f in failures if not isinstance(f, SourceError)] or failures[:1])
    if isinstance(worst, SourceError) and len(reasons := dict.fromkeys(str(f) for f in failures)) > 1:
        return SourceError("; ".join(reasons), hint=worst.hint)
    return worst
