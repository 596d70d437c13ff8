"""Commands about registries: push, and pipelines that build and push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.options import (
    NO_IMAGE_OPTIONS,
    ImageOptions,
    Json,
    PlatformOption,
    expanded,
    platforms,
    show,
)
from builder.cli.signatures import SignOption, SignWithOption, required_key

app = typer.Typer(rich_markup_mode=None)

RegistryOption = Annotated[
    str | None, typer.Option("--registry", help="HOST[:PORT]/PREFIX. Default: bake.yaml's registry.")
]

TokenServer = Annotated[
    list[str] | None,
    typer.Option("--token-server", metavar="HOST[:PORT]", help="Another host that may have the registry's login."),
]


@app.command()
@expanded
def push(
    names: Annotated[list[str] | None, typer.Argument(metavar="[IMAGE]...", help="Default: all of the mode.")] = None,
    registry: RegistryOption = None,
    options: ImageOptions = NO_IMAGE_OPTIONS,
    token_server: TokenServer = None,
    sign: SignOption = None,
    sign_with: SignWithOption = None,
    platform: PlatformOption = None,
    no_papers: Annotated[
        bool, typer.Option("--no-papers", help="Don't attach SBOM, provenance and VEX to the images.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    json: Json = False,
) -> None:
    """Send built images with their papers to a registry: only what it lacks, from where an earlier push broke off.

    \b
    Examples:
      python3 build.py push --mode docker-cpu --registry ghcr.io/me/speech
      python3 build.py push --mode docker-cpu --registry ghcr.io/me/speech --sign ~/sender
      python3 build.py push --mode docker-cpu --registry ghcr.io/me/speech --platform linux/amd64,linux/arm64
    """
    from builder.views import registry as views
    from builder.workflows.pushing import commands as work

    with options.opened() as session:
        selection = options.selection(names)
        pushed = work.push(
            session,
            selection,
            registry=registry,
            dry_run=dry_run,
            token_servers=tuple(token_server or ()),
            key=sign,
            sign_with=required_key(sign, sign_with),
            papers=not no_papers,
            platforms=platforms(platform),
        )
    show(json, views.PUSH, pushed)


@app.command()
@expanded
def pull(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[IMAGE]...", help="Default: all of the mode. weights: the weights image."),
    ] = None,
    registry: RegistryOption = None,
    options: ImageOptions = NO_IMAGE_OPTIONS,
    token_server: TokenServer = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would come.")] = False,
    json: Json = False,
) -> None:
    """Bring pushed images into the engine of a machine that builds nothing: only what it lacks, checked by digest.

    Example: python3 build.py pull --mode docker-cpu --registry ghcr.io/me/speech
    """
    from builder.views import registry as views
    from builder.workflows.pulling import commands as work

    with options.opened() as session:
        pulled = work.pull(
            session,
            options.selection(names),
            registry=registry,
            dry_run=dry_run,
            token_servers=tuple(token_server or ()),
        )
    show(json, views.PULL, pulled)


@app.command()
@expanded
def ci(
    service: Annotated[str, typer.Argument(metavar="github|gitlab", help="Whose pipeline.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[IMAGE]...", help="Default: all of the mode.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file. Default: standard output, or where it is kept with --check.")
    ] = None,
    registry: Annotated[
        str | None, typer.Option("--registry", help="HOST[:PORT]/PREFIX. Default: the service's own registry.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit 1 on a difference.")] = False,
    rendered: Annotated[str, typer.Option("--rendered", help="Where the rendered folder is committed.")] = "rendered",
    schedule: Annotated[
        str | None,
        typer.Option(
            "--schedule", metavar="CRON", help="Build anew on today's base, and look at the hub, at such times."
        ),
    ] = None,
    options: ImageOptions = NO_IMAGE_OPTIONS,
    json: Json = False,
) -> None:
    """Write a pipeline that checks the rendered folder, builds with a cache in the registry, and pushes.

    \b
    Examples:
      python3 build.py ci github --mode docker-cpu --out .github/workflows/images.yml
      python3 build.py ci github --mode docker-cpu --schedule "0 4 1 * *" --out .github/workflows/images.yml
    """
    from builder.views import registry as views
    from builder.workflows import registry as work

    with options.opened() as session:
        selection = options.selection(names)
        action = work.compare_ci if check else work.ci
        asked = work.PipelineOptions(service=service, out=out, registry=registry, folder=rendered, schedule=schedule)
        found = action(session, selection, asked)
    if isinstance(found, work.PipelineCompared):
        return show(json, views.CI_CHECK, found, failure=found.failure)
    show(json, views.CI, found)
