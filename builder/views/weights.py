"""Results of the commands about weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.text import format_size, format_time, table
from builder.core.weights.groups import group_of
from builder.core.weights.lock_diff import PinChange
from builder.core.weights.model import Model
from builder.program import command
from builder.views import View

if TYPE_CHECKING:
    from builder.core.weights.listing import ListedModel
    from builder.edges.weights.fetch import Fetched
    from builder.workflows.weights import (
        ModelsExported,
        ModelsFetched,
        ModelsImported,
        ModelsListed,
        ModelsLocked,
        ModelsPruned,
        ModelsServed,
        ModelsVerified,
    )


class ListedModelJson(TypedDict):
    """One model of the catalogue."""

    id: str
    """Its id in models.yaml."""
    purpose: str
    """What it is for: asr, vad, alignment…"""
    group: str
    """What it is fetched with: ``models fetch --for GROUP``."""
    title: str
    """Its name, for people."""
    size: int | None
    """Bytes of all its files; null when it isn't pinned."""
    licence: str
    """SPDX identifier, or the licence's name."""
    commercial: bool
    """False when the licence forbids commercial use."""
    gated: bool
    """True when the hub gives it out only with a token and an accepted licence."""
    page: str | None
    """Address where a person reads about it and accepts its licence."""
    languages: list[str]
    """ISO 639-1 codes; empty for any language."""
    repo: str | None
    """Its hub repository, ``org/name``."""
    revision: str | None
    """The pinned commit or version."""
    pinned: bool
    """True when models.lock has it."""
    records: list[str]
    """The independent public records that agree on the pin."""
    present: bool
    """True when the store has all of its files."""
    begun: bool
    """True when the store has some of its files, but not all."""
    variants: list[str]
    """Image variants that can load it: slim, full."""
    presets: list[str]
    """Presets that choose it."""
    images: list[str]
    """Images whose stage could load it."""


def _listed_data(found: ModelsListed) -> list[ListedModelJson]:
    return [_listed_model(listed) for listed in found.models]


def _listed_model(listed: ListedModel) -> ListedModelJson:
    model, pin = listed.model, listed.pin
    return {
        "id": model.id,
        "purpose": model.purpose.value,
        "group": group_of(model),
        "title": model.title,
        "size": pin.size if pin else None,
        "licence": model.licence,
        "commercial": model.commercial,
        "gated": model.gated,
        "page": model.page,
        "languages": list(model.languages),
        "repo": model.repo,
        "revision": pin.revision if pin else None,
        "pinned": pin is not None,
        "records": list(pin.records) if pin else [],
        "present": listed.present,
        "begun": listed.begun,
        "variants": [variant.value for variant in model.variants],
        "presets": list(listed.presets),
        "images": list(listed.images),
    }


def _listed_text(found: ModelsListed) -> list[str]:
    head = ("MODEL", "GROUP", "PURPOSE", "SIZE", "LICENCE", "PINNED", "PRESENT", "PRESETS", "IMAGES")
    return table(head, [_listed_row(listed) for listed in found.models])


def _listed_row(listed: ListedModel) -> tuple[str, ...]:
    model, pin = listed.model, listed.pin
    return (
        model.id,
        group_of(model),
        model.purpose.value,
        format_size(pin.size) if pin and pin.size else "?",
        model.licence + ("" if model.commercial else " (non-commercial)") + (" (gated)" if model.gated else ""),
        "yes" if pin else "no",
        "yes" if listed.present else "partly" if listed.begun else "no",
        " ".join(listed.presets) or "-",
        " ".join(listed.images) or "-",
    )


LIST = View(command="models list", shape=list[ListedModelJson], data=_listed_data, lines=_listed_text)


class FetchedModelJson(TypedDict):
    """One model that was fetched."""

    model: str
    """Its id."""
    source: str
    """The source that completed it."""
    size: int
    """Bytes that it lacked."""
    seconds: float
    """How long the fetch took."""


def fetched_data(fetched: Fetched) -> FetchedModelJson:
    """One model that was fetched, as JSON."""
    return {"model": fetched.model, "source": fetched.source, "size": fetched.size, "seconds": fetched.seconds}


class LeftOutJson(TypedDict):
    """One model of a group that wasn't fetched."""

    model: str
    """Its id."""
    why: str
    """The reason."""


class FetchJson(TypedDict):
    """What became of the models that were asked for."""

    fetched: list[FetchedModelJson]
    """Models that were fetched."""
    present: list[str]
    """Models that the store had already."""
    skipped: list[str]
    """Gated models that were left out."""
    left_out: list[LeftOutJson]
    """Other models of the groups, or of all."""


def _fetched_data(found: ModelsFetched) -> FetchJson:
    return {
        "fetched": [fetched_data(fetched) for fetched in found.fetched],
        "present": list(found.present),
        "skipped": list(found.skipped),
        "left_out": [{"model": left.model, "why": left.why} for left in found.left_out],
    }


def _fetched_text(found: ModelsFetched) -> list[str]:
    lines = [f"{f.model}: {format_size(f.size)} from {f.source} in {format_time(f.seconds)}" for f in found.fetched]
    lines += [f"{model}: there already" for model in found.present]
    lines += [f"{id_}: skipped, gated ({command(f'models fetch {id_}')} says what it wants)" for id_ in found.skipped]
    lines += [f"{left.model}: left out, {left.why}" for left in found.left_out]
    return lines


FETCH = View(command="models fetch", shape=FetchJson, data=_fetched_data, lines=_fetched_text)


class ProblemJson(TypedDict):
    """One file that is not as the lock says."""

    file: str
    """Its name."""
    what: str
    """What is wrong with it."""
    moved_to: str | None
    """Its path in quarantine; null when it wasn't moved."""


class VerifiedModelJson(TypedDict):
    """One model, compared with the lock."""

    id: str
    """The model's id."""
    ok: bool
    """True when every file is as the lock says."""
    problems: list[ProblemJson]
    """The files that are not."""


def _verified_data(found: ModelsVerified) -> list[VerifiedModelJson]:
    return [
        {
            "id": verified.model,
            "ok": not verified.problems,
            "problems": [
                {"file": p.path.name, "what": p.what, "moved_to": str(p.moved_to) if p.moved_to else None}
                for p in verified.problems
            ],
        }
        for verified in found.models
    ]


def _verified_text(found: ModelsVerified) -> list[str]:
    rows = []
    for verified in found.models:
        problems = [
            f"{p.path.name}: {p.what}" + (f", moved to {p.moved_to}" if p.moved_to else "") for p in verified.problems
        ]
        rows.append((verified.model, "; ".join(problems) or "as models.lock says"))
    return table(("MODEL", "FOUND"), rows) if rows else ["no models here"]


VERIFY = View(command="models verify", shape=list[VerifiedModelJson], data=_verified_data, lines=_verified_text)


class TakenFileJson(TypedDict):
    """One file that entered the store."""

    path: str
    """Where it was."""
    model: str
    """The model it belongs to."""
    file: str
    """Its path in the model."""
    size: int
    """Bytes."""


class PresentFileJson(TypedDict):
    """One file that the store had already."""

    path: str
    """Where it was found."""
    model: str
    """The model it belongs to."""
    file: str
    """Its path in the model."""


class IgnoredFileJson(TypedDict):
    """One file that was ignored."""

    path: str
    """Where it is."""
    why: str
    """The reason."""


class ImportJson(TypedDict):
    """What an import did with every file it was shown."""

    took: list[TakenFileJson]
    """Files that entered the store."""
    there: list[PresentFileJson]
    """Files that the store had already."""
    ignored: list[IgnoredFileJson]
    """Files that were ignored."""
    models: dict[str, list[str]]
    """For each model that a file belongs to: the paths of the files that it still lacks."""


IGNORED_LINES = 20
"""Ignored files that are shown to people; the JSON has all."""


def _imported_data(found: ModelsImported) -> ImportJson:
    result = found.result
    return {
        "took": [{"path": f.path, "model": f.model, "file": f.file, "size": f.size} for f in result.took],
        "there": [{"path": f.path, "model": f.model, "file": f.file} for f in result.present],
        "ignored": [{"path": path, "why": why} for path, why in result.ignored],
        "models": {model: list(files) for model, files in found.missing.items()},
    }


def _imported_text(found: ModelsImported) -> list[str]:
    result = found.result
    lines = [f"took {f.path} as {f.model} {f.file} ({format_size(f.size)})" for f in result.took]
    lines += [f"there already: {f.path} is {f.model} {f.file}" for f in result.present]
    lines += [f"ignored {path}: {why}" for path, why in result.ignored[:IGNORED_LINES]]
    if len(result.ignored) > IGNORED_LINES:
        lines.append(f"… and {len(result.ignored) - IGNORED_LINES} more ignored  (--json lists them)")
    lines += [
        f"{model}: " + (f"still lacks {', '.join(files)}" if files else "whole")
        for model, files in found.missing.items()
    ]
    return lines


IMPORT = View(command="models import", shape=ImportJson, data=_imported_data, lines=_imported_text)


class ExportJson(TypedDict):
    """What an export wrote."""

    models: list[str]
    """The models that the folder has now."""
    files: int
    """Files that were written; those that the folder had already don't count."""
    bytes: int
    """Bytes of these files."""
    folder: str
    """The folder, as it was given."""


def _exported_data(found: ModelsExported) -> ExportJson:
    models = [model.id for model, _ in found.models]
    return {"models": models, "files": found.files, "bytes": found.size, "folder": str(found.folder)}


def _exported_text(found: ModelsExported) -> list[str]:
    lines = [f"{m.id}: {format_size(p.size)}, {m.licence}" + _terms(m) for m, p in found.models]
    lines.append(f"{found.files} files, {format_size(found.size)} written to {found.folder}")
    lines.append(f"there: {command('models import', found.folder)}")
    return lines


def _terms(model: Model) -> str:
    return ("" if model.commercial else ", not for commercial use") + (
        ", gated: who gets it must have accepted its licence" if model.gated else ""
    )


EXPORT = View(command="models export", shape=ExportJson, data=_exported_data, lines=_exported_text)


class RemovedJson(TypedDict):
    """One thing that was removed, or would be."""

    path: str
    """A file, a link or a folder."""
    why: str
    """Why no pin needs it."""
    size: int
    """Bytes that its removal frees."""


class PruneJson(TypedDict):
    """What no pin needed."""

    removed: list[RemovedJson]
    """What was removed; with ``dry_run``, what would be."""
    bytes: int
    """Bytes freed, or with ``dry_run`` to be freed."""
    dry_run: bool
    """True when nothing was removed."""
    foreign: list[str]
    """What models.yaml doesn't know in the store, such as repositories: left alone."""


def _pruned_data(found: ModelsPruned) -> PruneJson:
    return {
        "removed": [{"path": str(i.path), "why": i.why, "size": i.size} for i in found.removed],
        "bytes": sum(i.size for i in found.removed),
        "dry_run": found.dry_run,
        "foreign": [str(path) for path in found.foreign],
    }


def _pruned_text(found: ModelsPruned) -> list[str]:
    rows = [(str(i.path.relative_to(found.store)), format_size(i.size), i.why) for i in found.leftovers]
    lines = table(("WHAT", "SIZE", "WHY"), rows) if rows else []
    lines += [f"left alone, not in models.yaml: {path.relative_to(found.store)}" for path in found.foreign]
    lines += [
        f"left: {i.path.relative_to(found.store)} is in use or can't be removed"
        for i in found.leftovers
        if i not in found.removed
    ]
    freed = format_size(sum(i.size for i in found.removed))
    lines.append(f"{freed} would be freed  (--dry-run)" if found.dry_run else f"{freed} freed")
    return lines


PRUNE = View(command="models prune", shape=PruneJson, data=_pruned_data, lines=_pruned_text)


class PinChangeJson(TypedDict):
    """One model that the hub was asked about."""

    id: str
    """The model's id."""
    before: str | None
    """The commit it was pinned at; null when it wasn't pinned."""
    after: str
    """The commit that the hub has today."""
    size: int
    """Bytes of all its files."""
    licence: str
    """What the repository says of its licence; empty when it says nothing."""
    changes: list[str]
    """One line for each file that is added, removed or changed, and for another licence."""
    lowered: list[str]
    """Why the new pin may be a step back; empty when it is not."""


def _locked_data(found: ModelsLocked) -> list[PinChangeJson]:
    return [
        {
            "id": change.model.id,
            "before": change.before.revision if change.before else None,
            "after": change.after.revision,
            "size": change.after.size,
            "licence": change.after.licence,
            "changes": list(change.lines[1:]),
            "lowered": list(change.lowered),
        }
        for change in found.entries
        if isinstance(change, PinChange)
    ]


def _locked_text(found: ModelsLocked) -> list[str]:
    lines: list[str] = []
    for entry in found.entries:
        if isinstance(entry, PinChange):
            lines += entry.lines
        elif entry.before is not None:
            id_, revision = entry.model.id, entry.before.revision[:12]
            lines.append(f"{id_}: pinned already at {revision}  (--update {id_} asks again)")
    if found.dry_run:
        lines.append("models.lock is as it was (--dry-run)")
    if not lines and found.failure is None:
        lines.append("every model that has a repository is pinned  (--update MODEL asks again)")
    return lines


LOCK = View(command="models lock", shape=list[PinChangeJson], data=_locked_data, lines=_locked_text)


def _outdated_text(found: ModelsLocked) -> list[str]:
    asked = [entry for entry in found.entries if isinstance(entry, PinChange)]
    lines = [line for entry in asked if entry.before != entry.after for line in entry.lines]
    same = sum(entry.before == entry.after for entry in asked)
    return [*lines, f"{same} of {len(asked)} pinned models are what the hub has"]


OUTDATED = View(command="models outdated", shape=list[PinChangeJson], data=_locked_data, lines=_outdated_text)


class ServeJson(TypedDict):
    """What was served until the server ended."""

    address: str
    """Where it listened."""
    models: list[str]
    """The models that were served at the end."""
    requests: int
    """Answers that were sent."""
    bytes: int
    """Bytes of these answers."""


def _served_data(found: ModelsServed) -> ServeJson:
    return {
        "address": found.address,
        "models": list(found.models),
        "requests": found.requests,
        "bytes": found.size,
    }


def _served_text(found: ModelsServed) -> list[str]:
    return [f"served {format_size(found.size)} in {found.requests} answers"]


SERVE = View(command="models serve", shape=ServeJson, data=_served_data, lines=_served_text)
