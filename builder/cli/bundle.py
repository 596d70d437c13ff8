"""Commands about bundles for machines without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.options import (
    NO_IMAGE_OPTIONS,
    ImageOptions,
    Json,
    expanded,
    opened,
    show,
)
from builder.cli.signatures import SignOption, SignWithOption, required_key
from builder.errors import UsageError

app = typer.Typer(rich_markup_mode=None)


@app.command()
@expanded
def create(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder, a new one.")],
    options: ImageOptions = NO_IMAGE_OPTIONS,
    base: Annotated[
        list[Path] | None,
        typer.Option(
            "--base",
            help="A receiver's inventory.json, or an earlier bundle: only what it lacks. Several: one bundle for all.",
        ),
    ] = None,
    part_size: Annotated[str, typer.Option("--part-size", help="Largest file. 4G fits on FAT sticks.")] = "4G",
    code_only: Annotated[bool, typer.Option("--code-only", help="Without weights.")] = False,
    models_only: Annotated[bool, typer.Option("--models-only", help="Only weights.")] = False,
    with_native: Annotated[bool, typer.Option("--with-native", help="Also what --mode native needs there.")] = False,
    no_example: Annotated[bool, typer.Option("--no-example", help="Without the acceptance run.")] = False,
    voices: Annotated[
        bool,
        typer.Option("--voices", help="Also the voices that this machine knows: load.py --run names their speakers."),
    ] = False,
    sign: SignOption = None,
    sign_with: SignWithOption = None,
    json: Json = False,
) -> None:
    """Write images, weights and a loader into a folder. Missing images are built first; a killed run resumes.

    Example: python3 build.py bundle create /media/stick/bundle --mode docker-cpu --preset starter
    """
    from builder.views import bundle as views
    from builder.workflows import bundle

    if code_only and models_only:
        raise UsageError("--code-only and --models-only exclude each other", hint="without both it is complete")
    with options.opened(mode="docker-cpu", may_ask=True) as session:
        asked = bundle.BundleOptions(
            out=out,
            bases=tuple(base or ()),
            part_size=part_size,
            code_only=code_only,
            models_only=models_only,
            native=with_native,
            example=not no_example,
            key=sign,
            sign_with=required_key(sign, sign_with),
            voices=voices,
        )
        created = bundle.create(session, options.selection(), asked)
    show(json, views.CREATE, created)


FolderArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder.")]


@app.command()
def verify(
    folder: FolderArgument,
    key: Annotated[
        Path | None, typer.Option("--key", help="Refuse a bundle that this public key's owner didn't sign.")
    ] = None,
    json: Json = False,
) -> None:
    """Read everything once, name damaged parts. load.py --check does the same on the receiver's side.

    Example: python3 build.py bundle verify /media/stick/bundle
    """
    from builder.views import bundle as views
    from builder.workflows import bundle

    with opened() as session:
        verified = bundle.verify(session, folder, key=key)
    show(json, views.VERIFY, verified, failure=verified.failure)


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder, or an inventory.")],
    sbom: Annotated[
        str | None,
        typer.Option("--sbom", metavar="KIND", help="A paper: cyclonedx, spdx, slsa (provenance), vex; or all."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="With --sbom: write the paper there.")
    ] = None,
    json: Json = False,
) -> None:
    """Show images, models, licences, sizes, and the fingerprint to read aloud. Reads no part, or a paper alone.

    \b
    Examples:
      python3 build.py bundle inspect /media/stick/bundle
      python3 build.py bundle inspect /media/stick/bundle --sbom spdx
    """
    from builder.views import bundle as views
    from builder.views.papers import BUNDLED
    from builder.workflows import bundle
    from builder.workflows.papers import commands as papers

    if sbom is not None:
        kinds = papers.kinds_of(sbom)
        with opened():
            shown = papers.from_bundle(path, kinds, out=out)
        return show(json, BUNDLED, shown)
    if out:
        raise UsageError("--out goes with --sbom", hint="bundle inspect BUNDLE --sbom cyclonedx")

    with opened():
        inspected = bundle.inspect(path)
    show(json, views.INSPECT, inspected)


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A bundle or an inventory.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    json: Json = False,
) -> None:
    """Show what B has that A hasn't: images, layers, bytes.

    Example: python3 build.py bundle diff receiver/inventory.json /media/stick/bundle
    """
    from builder.views import bundle as views
    from builder.workflows import bundle

    with opened():
        change = bundle.diff(first, second)
    show(json, views.DIFF, change)


@app.command()
def repair(
    folder: FolderArgument,
    source: Annotated[Path, typer.Option("--from", help="Another copy; its copies of the damaged files are enough.")],
    json: Json = False,
) -> None:
    """Replace files that are damaged or missing; leave all others.

    Example: python3 build.py bundle repair /media/stick/bundle --from /srv/bundle
    """
    from builder.views import bundle as views
    from builder.workflows import bundle

    with opened() as session:
        repaired = bundle.repair(session, folder, source)
    show(json, views.REPAIR, repaired)


@app.command()
def keys(
    name: Annotated[Path, typer.Argument(metavar="FILE", help="The private key; FILE.pub.pem is the public one.")],
    json: Json = False,
) -> None:
    """Make a pair of keys (ECDSA P-256) that signs bundles, images and models.

    Example: python3 build.py bundle keys ~/.config/whisperbake/sender
    """
    from builder.views import bundle as views
    from builder.workflows import bundle

    with opened():
        made = bundle.keys(name)
    show(json, views.KEYS, made)
