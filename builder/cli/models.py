"""Commands about weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.options import (
    Json,
    PresetOption,
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
    source: Annotated[
        list[Path] | None, typer.Option("--from", help="A folder that may hold the files (a stick).")
    ] = None,
    json: Json = False,
) -> None:
    """Fetch models into the store, each file checked against the lock.

    Example: python3 build.py models fetch base d-vector --from /media/stick
    """
    from builder.workflows import models

    with opened(preset=preset) as session:
        result = models.fetch(session, ids or [], folders=source or [])
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
    layers: Annotated[
        bool, typer.Option("--layers", help="Only the digests of its image layers, from the files in the store.")
    ] = False,
    json: Json = False,
) -> None:
    """Pin models: ask the hub for revision, sizes and sha256, and write models.lock.

    Examples: python3 build.py models lock small medium
              python3 build.py models lock --layers base
    """
    from builder.workflows import models

    with opened() as session:
        result = models.lock_layers(session, ids) if layers else models.lock(session, ids)
    emit(json, result)
