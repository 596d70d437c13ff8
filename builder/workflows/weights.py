"""The commands about weights: list, fetch, verify, import, export, prune, lock, serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder import ui
from builder.core.config.types import Config
from builder.core.languages import require
from builder.core.progress import OnProgress, Progress
from builder.core.text import format_size
from builder.core.weights import groups as grouping
from builder.core.weights import lock_diff
from builder.core.weights.groups import LeftOut
from builder.core.weights.listing import ListedModel, list_models
from builder.core.weights.lock_diff import PinChange, PlannedPin
from builder.core.weights.model import Model, Pin, PinnedModel
from builder.edges.weights.store import Problem, Store
from builder.errors import BakeError, IntegrityError, MissingError, SourceError, UsageError
from builder.program import command
from builder.workflows.session import (
    Session,
    chosen_models,
    fetch_missing,
    hardware_of,
    image_models,
    model_named,
    pinned,
    store_of,
)

if TYPE_CHECKING:
    from builder.edges.weights.access import Token
    from builder.edges.weights.fetch import Fetched
    from builder.edges.weights.importing import ImportResult
    from builder.edges.weights.prune import Leftover
    from builder.edges.weights.serve import Shelf


def _pinned_models(config: Config) -> list[PinnedModel]:
    """Every model of the catalogue that the lock pins."""
    return [(model, config.pins[model.id]) for model in config.models.values() if model.id in config.pins]


@dataclass(frozen=True, kw_only=True)
class ModelsListed:
    """The catalogue, with what this machine has of it."""

    models: tuple[ListedModel, ...]


def listing(session: Session) -> ModelsListed:
    """List every model of the catalogue."""
    config, store = session.config, store_of(session.config)
    stages = {i.name: config.stages[i.stage] for i in config.images.values() if i.stage}
    return ModelsListed(
        models=list_models(
            config.models,
            config.pins,
            missing={model.id: len(store.missing(model, pin)) for model, pin in _pinned_models(config)},
            presets={p.id: {id_ for ids in p.models.values() for id_ in ids} for p in config.presets.values()},
            images={name: stage.uses for name, stage in stages.items()},
        )
    )


@dataclass(frozen=True, kw_only=True)
class ModelsFetched:
    """What became of the models that were asked for."""

    fetched: tuple[Fetched, ...]
    present: tuple[str, ...]
    """Models that the store had already."""
    skipped: tuple[str, ...]
    """Gated models that were left out."""
    left_out: tuple[LeftOut, ...] = ()
    """Other models of the groups, and why they weren't fetched."""


def fetch(
    session: Session,
    ids: Sequence[str],
    *,
    folders: Sequence[Path],
    languages: str | None = None,
    everything: bool = False,
    groups: str | None = None,
    preset: str | None = None,
    skip_gated: bool = False,
) -> ModelsFetched:
    """Fetch models: those named, all that are pinned, those of groups, or the presets' (for each of the languages).

    Of all and of a group, gated models that this machine's token doesn't open are left out.

    Raises:
        UsageError: the options contradict each other, or name an unknown model or language.
        SourceError: no source has a model, or the hub refuses it.
        IntegrityError: a source delivered other bytes than the lock's.
        MissingError: a model isn't pinned, or the disk is full.
    """
    _check_selection(ids, languages=languages, everything=everything, groups=groups, preset=preset)
    models, left = _selected(
        session.config, ids, languages=languages, everything=everything, groups=groups, preset=preset
    )
    fetched = fetch_missing(
        session.config,
        models,
        env=session.env,
        on_progress=session.on_progress,
        folders=folders,
        skip_gated=skip_gated or everything or bool(groups),
    )
    store = store_of(session.config)
    skipped = tuple(model.id for model, pin in models if store.missing(model, pin))
    handled = {*skipped, *(f.model for f in fetched)}
    present = tuple(model.id for model, _ in models if model.id not in handled)
    return ModelsFetched(fetched=fetched, present=present, skipped=skipped, left_out=left)


def _check_selection(
    ids: Sequence[str], *, languages: str | None, everything: bool, groups: str | None, preset: str | None
) -> None:
    options = {"model names": ids, "--all": everything, "--for": groups, "--languages": languages, "--preset": preset}
    used = [name for name, value in options.items() if value]
    if (ids or everything or (groups and preset)) and len(used) > 1:
        raise UsageError(f"{' and '.join(used)} contradict each other", hint="use one of them")


def _selected(
    config: Config,
    ids: Sequence[str],
    *,
    languages: str | None,
    everything: bool,
    groups: str | None,
    preset: str | None,
) -> tuple[Sequence[PinnedModel], tuple[LeftOut, ...]]:
    """The models that are asked for; of all or of groups, what is left out too."""
    if everything or groups:
        return grouping.select(
            config.models,
            config.pins,
            names=_words(groups),
            variant=config.defaults.variant,
            languages=[code for word in _words(languages) if (code := require(word, where="--languages"))],
            apple=hardware_of(config, keep=config.home.is_dir())[0].mps,
        )
    if ids:
        return pinned(config, list(dict.fromkeys(ids))), ()
    others = _words(preset)[1:]
    if languages or others:
        return image_models(config, presets=others, languages=languages), ()
    return list(chosen_models(config, to_fetch=True).values()), ()


def _words(text: str | None) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))


@dataclass(frozen=True, kw_only=True)
class VerifiedModel:
    """One model, compared with the lock."""

    model: str
    problems: tuple[Problem, ...]


@dataclass(frozen=True, kw_only=True)
class ModelsVerified:
    """What the store has, compared with the lock."""

    models: tuple[VerifiedModel, ...]
    failure: IntegrityError | None
    """Set when a file is not as the lock says."""


def verify(session: Session, ids: Sequence[str], *, deep: bool) -> ModelsVerified:
    """Compare the store with the lock.

    Args:
        ids: models to verify; by default those of which the store has a file.
        deep: read every byte again.
    """
    store = store_of(session.config)
    models = pinned(session.config, ids) if ids else [m for m in _pinned_models(session.config) if _begun(store, *m)]
    verified = _verify(store, models, deep=deep, on_progress=session.on_progress)
    broken = sum(len(v.problems) for v in verified)
    failure = None
    if broken:
        bad = " ".join(v.model for v in verified if v.problems)
        failure = IntegrityError(f"{broken} files are not as models.lock says", hint=f"models fetch {bad}")
    return ModelsVerified(models=verified, failure=failure)


def _begun(store: Store, model: Model, pin: Pin) -> bool:
    """True when the store has a file of a model."""
    return len(store.missing(model, pin)) < len(pin.files)


def _verify(
    store: Store, models: Sequence[PinnedModel], *, deep: bool, on_progress: OnProgress
) -> tuple[VerifiedModel, ...]:
    verified = []
    total, done = sum(pin.size for _, pin in models), 0
    for model, pin in models:
        on_progress(Progress(what="verify", done=done, total=total, unit="bytes"))
        verified.append(VerifiedModel(model=model.id, problems=store.verify(model, pin, deep=deep)))
        done += pin.size
    if models:
        on_progress(Progress(what="verify", done=done, total=total, unit="bytes", finished=True))
    return tuple(verified)


@dataclass(frozen=True, kw_only=True)
class ModelsImported:
    """What an import did."""

    result: ImportResult
    missing: Mapping[str, tuple[str, ...]]
    """The files that each model of the source still lacks, by the model's id."""
    failure: SourceError | None
    """Set when the source has no file that the lock names."""


def import_models(session: Session, paths: Sequence[Path]) -> ModelsImported:
    """Bring files that match the lock into the store."""
    from builder.edges.weights.importing import import_files

    store, models = store_of(session.config), _pinned_models(session.config)
    result = import_files(store, models, paths, session.on_progress)
    touched = {file.model for file in (*result.took, *result.present)}
    failure = None
    if not touched:
        failure = SourceError(
            "nothing there is what models.lock names",
            where=", ".join(map(str, paths)),
            hint="models list shows the sizes",
        )
    missing = {m.id: tuple(f.path for f in store.missing(m, p)) for m, p in models if m.id in touched}
    return ModelsImported(result=result, missing=missing, failure=failure)


@dataclass(frozen=True, kw_only=True)
class ModelsExported:
    """What an export wrote."""

    models: tuple[PinnedModel, ...]
    files: int
    """Files that were written; those that the folder had already don't count."""
    size: int
    """Bytes of these files."""
    folder: Path


def export_models(session: Session, target: Path, ids: Sequence[str]) -> ModelsExported:
    """Write models to a folder that another machine can import.

    Raises:
        MissingError: the store has none of the models.
    """
    from builder.edges.weights import exporting

    store, known = store_of(session.config), _pinned_models(session.config)
    models = pinned(session.config, ids) if ids else [(m, p) for m, p in known if not store.missing(m, p)]
    if not models:
        raise MissingError("no models are here to export", hint="models fetch")
    written = exporting.export_models(store, models, target, session.on_progress)
    return ModelsExported(models=tuple(models), files=written.count, size=written.size, folder=target)


@dataclass(frozen=True, kw_only=True)
class ModelsPruned:
    """What no pin needs, and what became of it."""

    store: Path
    leftovers: tuple[Leftover, ...]
    removed: tuple[Leftover, ...]
    """Those that were removed, or with ``dry_run`` would be."""
    foreign: tuple[Path, ...]
    """Repositories that models.yaml doesn't know: left alone."""
    dry_run: bool


def prune(session: Session, *, dry_run: bool) -> ModelsPruned:
    """Remove what no pin needs from the store."""
    from builder.edges.weights import prune as pruning

    store = store_of(session.config)
    leftovers = pruning.leftovers(store, _pinned_models(session.config))
    foreign = pruning.foreign(store, list(session.config.models.values()))
    removed = leftovers if dry_run else pruning.remove(store, leftovers)
    return ModelsPruned(store=store.root, leftovers=leftovers, removed=removed, foreign=foreign, dry_run=dry_run)


@dataclass(frozen=True, kw_only=True)
class ModelsLocked:
    """What the hub said of the models that somebody wants pinned."""

    entries: tuple[PlannedPin | PinChange, ...]
    """In the order of the question: pins that stay, and answers of the hub."""
    dry_run: bool
    failure: BakeError | None
    """Set when the hub refused a model, or a pin would be lowered."""


ALL = ("",)
"""For ``update`` of :func:`lock`: every model that is pinned and that the hub can be asked about."""


class Outdated(BakeError):
    """Pinned models have changed at the hub: exit 1, as a linter does."""

    exit_code = 1


def outdated(session: Session, ids: Sequence[str]) -> ModelsLocked:
    """What the hub has today in place of what is pinned, of all models or of ``ids``; nothing is kept."""
    for name in ids:
        if model_named(session.config, name).id not in session.config.pins:
            raise UsageError(f'"{name}" is not pinned', hint=command(f"models lock {name}"))
    found = lock(session, [], update=ids or ALL, force=True, dry_run=True)
    moved = [e.model.id for e in found.entries if isinstance(e, PinChange) and e.before != e.after]
    if found.failure is not None or not moved:
        return found
    count = f"{len(moved)} pinned models have" if len(moved) > 1 else f"the pinned model {moved[0]} has"
    updates = " ".join(f"--update {id_}" for id_ in moved)
    return replace(found, failure=Outdated(f"{count} changed at the hub", hint=command(f"models lock {updates}")))


def lock(session: Session, ids: Sequence[str], *, update: Sequence[str], force: bool, dry_run: bool) -> ModelsLocked:
    """Pin models that have no pin, and move the pins of ``update`` (:data:`ALL`: of each) to what the hub has today."""
    from builder.edges.machine import project
    from builder.edges.weights import access, pinning

    config = session.config
    project.require(config, "models.lock")
    named = [model_named(config, name) for name in ids]
    moving = lock_diff.at_hub(config.models, config.pins) if update == ALL else [model_named(config, n) for n in update]
    plan = lock_diff.plan_pins(config.models, config.pins, named=named, update=moving)
    token = access.find_token(session.env, config.home)
    scratch = store_of(config).incoming
    asked = [planned for planned in plan if planned.model.int8_of is None or not planned.ask]
    entries, refused = _ask_hub(asked, token, env=session.env, scratch=scratch, on_progress=session.on_progress)
    _make_int8(session, [planned for planned in plan if planned not in asked], entries, refused, anew=not dry_run)
    changes = [entry for entry in entries if isinstance(entry, PinChange)]
    failure = None if force else _lowered(changes)
    pins = {change.model.id: change.after for change in changes if change.before != change.after}
    if pins and failure is None and not dry_run:  # what the hub told is kept, whatever it refused to tell of others
        pinning.write(config.root, config.home, pins, config.models)
    return ModelsLocked(entries=tuple(entries), dry_run=dry_run, failure=failure or _refusals(refused))


def _ask_hub(
    plan: Sequence[PlannedPin],
    token: Token | None,
    *,
    env: Mapping[str, str],
    scratch: Path,
    on_progress: OnProgress,
) -> tuple[list[PlannedPin | PinChange], list[BakeError]]:
    """The pins that stay and the hub's answers, and its refusals. A hub that can't be reached is not asked again."""
    from builder.edges.weights import pinning

    entries: list[PlannedPin | PinChange] = []
    refused: list[BakeError] = []
    unreachable = False
    for planned in plan:
        if not planned.ask:
            entries.append(planned)
        if not planned.ask or unreachable:
            continue
        note = "asking the hub" if planned.model.repo else "fetching it once, for its digest"
        on_progress(Progress(what=f"lock {planned.model.id}", note=note, finished=True))
        try:
            answer = pinning.resolve(planned.model, token=token, env=env, scratch=scratch)
            entries.append(lock_diff.pin_change(planned.model, planned.before, answer.pin, answer.history))
        except SourceError as error:
            refused.append(error)
            unreachable = isinstance(error, pinning.HubUnreachable)
    return entries, refused


def _make_int8(
    session: Session,
    plan: Sequence[PlannedPin],
    entries: list[PlannedPin | PinChange],
    refused: list[BakeError],
    *,
    anew: bool,
) -> None:
    """Add the pins of weights in int8, made from their models'. Without them a model's own pin doesn't change either.

    Args:
        anew: those, too, that are pinned and whose model has changed.
    """
    from builder.edges.weights import pinning

    config, store = session.config, store_of(session.config)
    changed = {e.model.id: e for e in entries if isinstance(e, PinChange) and e.before != e.after}
    wanted = {planned.model.id: planned.model for planned in plan}
    for model in config.models.values():
        if anew and model.int8_of in changed and model.id in config.pins:
            wanted[model.id] = model
    for id_, model in wanted.items():
        of = config.models[str(model.int8_of)]
        pin = changed[of.id].after if of.id in changed else config.pins.get(of.id)
        try:
            if pin is None:
                raise MissingError(f"{of.id} is not pinned, of which {id_} is made", hint=f"models lock {of.id}")
            fetch_missing(config, [(of, pin)], env=session.env, on_progress=session.on_progress)
            store.require(of, pin)
            session.on_progress(Progress(what=f"lock {id_}", note="converting", finished=True))
            made = pinning.in_int8(model, pin, store)
        except (SourceError, MissingError, IntegrityError) as error:
            refused.append(error)
            if id_ in config.pins and of.id in changed:
                entries.remove(changed[of.id])
            continue
        history = (before.revision,) if (before := config.pins.get(id_)) else None
        entries.append(lock_diff.pin_change(model, before, made, history))


def _lowered(changes: Sequence[PinChange]) -> IntegrityError | None:
    reasons = [f"{change.model.id}: {reason}" for change in changes for reason in change.lowered]
    if not reasons:
        return None
    return IntegrityError(
        "a pin would be lowered; models.lock is as it was",
        where="models.lock",
        detail=reasons,
        hint="--force, when that is meant",
    )


def _refusals(refused: Sequence[BakeError]) -> BakeError | None:
    """The first refusal, with the others as its details."""
    if not refused:
        return None
    first, *others = refused
    first.detail = (*first.detail, *(f"{e.where}: {e.what}" if e.where else e.what for e in others))
    return first


@dataclass(frozen=True, kw_only=True)
class ModelsServed:
    """What was served until the server ended."""

    address: str
    models: tuple[str, ...]
    requests: int
    size: int
    """Bytes of all answers."""


def serve(session: Session, *, bind: str, gated: bool, names: Sequence[str] = ()) -> ModelsServed:
    """Serve the store to hub clients until Ctrl-C or SIGTERM.

    Args:
        bind: ``host:port``, ``[v6]:port`` or a port.
        gated: serve gated models beyond this machine, too.
        names: more names under which clients may ask for this machine.
    """
    from builder.edges.weights import serve as server

    host, port = _address(bind)
    local = server.loopback(host)
    known = _pinned_models(session.config)
    models = [(m, p) for m, p in known if gated or local or not m.gated]
    withheld = frozenset(str(m.repo) for m, p in known if (m, p) not in models and server.has_hub_address(m, p))
    if not session.quiet:
        ui.say("checking the store: files that were not hashed before are read once")
    shelf = server.Shelf(store_of(session.config), models)
    shelf.update()
    listening = server.listen(host, port)
    shown_host = f"[{host}]" if ":" in host else host
    address = f"http://{shown_host}:{listening.getsockname()[1]}"
    _announce(shelf, address, warn_of=None if local else shown_host, withheld=withheld)
    count = server.Count()
    log: Callable[[str], None] = (lambda _: None) if session.quiet else ui.say
    server.more_files()
    known_as = server.own_names(host, *names)
    server.run(server.application(shelf, withheld=withheld, log=log, count=count, names=known_as), listening)
    return ModelsServed(address=address, models=tuple(sorted(shelf.models)), requests=count.requests, size=count.bytes)


def _announce(shelf: Shelf, address: str, *, warn_of: str | None, withheld: frozenset[str]) -> None:
    size = sum(shelved.pin.size for shelved in shelf.models.values())
    ui.say(f"serving {len(shelf.models)} models, {format_size(size)}, at {address}  (Ctrl-C ends it)")
    if warn_of is not None:
        ui.say(f"  warning: everyone who reaches {warn_of} can read the weights, without a password and without TLS")
    if withheld:
        ui.say(f"  left out, gated: {', '.join(sorted(withheld))}; --gated, where all have accepted their licences")
    ui.say(f"  elsewhere: HF_ENDPOINT={address} {command('models fetch')}")


def _address(bind: str) -> tuple[str, int]:
    """Host and port of ``host:port``, ``[v6]:port`` or a port alone (then loopback).

    Raises:
        UsageError: it is none of these.
    """
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(f"//127.0.0.1:{bind}" if bind.isdigit() else f"//{bind}")
        if parts.port is not None and parts.hostname and parts.netloc == parts.netloc.strip() and not parts.path:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise UsageError(f'"{bind}" is not an address', where="--bind", expected="host:port, such as 127.0.0.1:8377")
