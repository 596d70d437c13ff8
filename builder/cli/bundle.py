"""Commands about bundles for machines without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.options import (
    Json,
    LanguagesOption,
    ModelsOption,
    ModeOption,
    NoDiarization,
    PresetOption,
    VariantOption,
    emit,
    opened,
)
from builder.errors import UsageError

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Bundles for machines without a network.")


@app.command()
def create(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder, new.")],
    mode: ModeOption = None,
    variant: VariantOption = None,
    preset: PresetOption = None,
    models: ModelsOption = None,
    languages: LanguagesOption = None,
    no_diarization: NoDiarization = False,
    base: Annotated[
        Path | None,
        typer.Option("--base", help="A receiver's inventory.json, or an earlier bundle: only what it lacks."),
    ] = None,
    part_size: Annotated[str, typer.Option("--part-size", help="Largest file. 4G fits on FAT sticks.")] = "4G",
    code_only: Annotated[bool, typer.Option("--code-only", help="Without weights.")] = False,
    models_only: Annotated[bool, typer.Option("--models-only", help="Weights alone.")] = False,
    with_native: Annotated[bool, typer.Option("--with-native", help="Also what --mode native needs there.")] = False,
    no_example: Annotated[bool, typer.Option("--no-example", help="Without the acceptance run.")] = False,
    sign: Annotated[Path | None, typer.Option("--sign", help="Private key of bundle keys.")] = None,
    json: Json = False,
) -> None:
    """Write images, weights and a loader into a folder. Missing images are built first; a killed run is gone on with.

    Example: python3 build.py bundle create /media/stick/bundle --mode docker-cpu --preset starter
    """
    from builder.workflows import bundle
    from builder.workflows.images import Choice

    if code_only and models_only:
        raise UsageError("--code-only and --models-only exclude each other", hint="without both it is complete")
    with opened(mode=mode or "docker-cpu", variant=variant, preset=preset) as session:
        choice = Choice(models=models, languages=languages, diarization=not no_diarization)
        order = bundle.Order(
            out=out,
            base=base,
            part_size=part_size,
            code_only=code_only,
            models_only=models_only,
            native=with_native,
            example=not no_example,
            key=sign,
        )
        result = bundle.create(session, choice, order)
    emit(json, result)


FolderArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder.")]


@app.command()
def verify(
    folder: FolderArgument,
    key: Annotated[Path | None, typer.Option("--key", help="Public key that it has to be signed with.")] = None,
    json: Json = False,
) -> None:
    """Read everything once, name damaged parts. On the receiver's side: load.py --check.

    Example: python3 build.py bundle verify /media/stick/bundle
    """
    from builder.workflows import bundle

    with opened() as session:
        result = bundle.verify(session, folder, key=key)
    emit(json, result)


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder, or an inventory.")],
    json: Json = False,
) -> None:
    """Images, models, licences, sizes, and the fingerprint to read aloud. Reads no part.

    Example: python3 build.py bundle inspect /media/stick/bundle
    """
    from builder.workflows import bundle

    with opened() as session:
        result = bundle.inspect(session, path)
    emit(json, result)


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A bundle or an inventory.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    json: Json = False,
) -> None:
    """What B has that A hasn't: images, layers, bytes.

    Example: python3 build.py bundle diff receiver/inventory.json /media/stick/bundle
    """
    from builder.workflows import bundle

    with opened() as session:
        result = bundle.diff(session, first, second)
    emit(json, result)


@app.command()
def repair(
    folder: FolderArgument,
    source: Annotated[Path, typer.Option("--from", help="Another copy; the damaged parts of it are enough.")],
    json: Json = False,
) -> None:
    """Replace what is damaged or missing, and nothing else.

    Example: python3 build.py bundle repair /media/stick/bundle --from /srv/bundle
    """
    from builder.workflows import bundle

    with opened() as session:
        result = bundle.repair(session, folder, source)
    emit(json, result)


@app.command()
def keys(
    name: Annotated[Path, typer.Argument(metavar="FILE", help="The private key; FILE.pub.pem is the public one.")],
    json: Json = False,
) -> None:
    """A new pair of Ed25519 keys, to sign bundles with.

    Example: python3 build.py bundle keys ~/.config/whisperbake/sender
    """
    from builder.workflows import bundle

    with opened() as session:
        result = bundle.keys(session, name)
    emit(json, result)
