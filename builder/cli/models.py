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

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="The weights: list, fetch, verify, lock.")


@app.command("list")
def listing(json: Json = False) -> None:
    """Every model of the catalogue: purpose, size, licence, pinned, present, presets."""
    from builder.workflows import models

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
    json: Json = False,
) -> None:
    """Fetch models into the store, each file checked against the lock. Goes on where an earlier run stopped.

    \b
    Examples:
      python3 build.py models fetch --preset premium --variant full --languages en,de
      python3 build.py models fetch base d-vector --from /media/stick
    """
    from builder.workflows import models as commands

    named = [*(ids or []), *(m.strip() for m in (models or "").split(",") if m.strip())]
    with opened(preset=preset, variant=variant) as session:
        result = commands.fetch(
            session, named, languages=languages, everything=everything, preset=preset, folders=source or []
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
    from builder.workflows import models

    with opened() as session:
        result = models.verify(session, ids or [], deep=deep)
    emit(json, result)


@app.command("lock")
def lock(
    ids: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models to pin.")],
    json: Json = False,
) -> None:
    """Pin models: ask the hub for revision, sizes and sha256, and write models.lock.

    Example: python3 build.py models lock small medium
    """
    from builder.workflows import models

    with opened() as session:
        result = models.lock(session, ids)
    emit(json, result)
