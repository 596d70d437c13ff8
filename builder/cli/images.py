"""Commands about images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.options import (
    NO_IMAGE_OPTIONS,
    ImageOptions,
    Json,
    ModeOption,
    PlatformOption,
    VariantOption,
    expanded,
    opened,
    platforms,
    show,
)
from builder.core.platforms import Platform
from builder.errors import UsageError

app = typer.Typer(rich_markup_mode=None)


@app.command()
@expanded
def build(
    names: Annotated[list[str] | None, typer.Argument(metavar="[IMAGE]...", help="Default: all of the mode.")] = None,
    options: ImageOptions = NO_IMAGE_OPTIONS,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Build every step again.")] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Make a Debian base from today's packages.")] = False,
    platform: PlatformOption = None,
    progress: Annotated[str, typer.Option("--progress", help="auto, or plain: a line a step, for CI.")] = "auto",
    json: Json = False,
) -> None:
    """Set up what a mode needs, build its images, and say what is there.

    \b
    Examples:
      python3 build.py build --mode docker-cpu --preset starter
      python3 build.py build --mode docker-cpu --platform linux/amd64,linux/arm64
    """
    if progress not in ("auto", "plain"):
        raise UsageError(f'"{progress}" is not a way to show progress', where="--progress", expected="auto or plain")
    plain = progress == "plain"
    set_up(
        options, names=names, cache=not no_cache, refresh=refresh, plain=plain, platforms=platforms(platform), json=json
    )


def set_up(
    options: ImageOptions,
    *,
    names: list[str] | None = None,
    cache: bool = True,
    refresh: bool = False,
    plain: bool = False,
    here: bool = False,
    platforms: tuple[Platform, ...] = (),
    json: bool,
) -> None:
    """What ``build`` does.

    Args:
        here: without a command's name, this machine is set up: it must be able to use what is built.
    """
    from builder.views import images as views
    from builder.workflows import images as work
    from builder.workflows import machine

    with options.opened(may_ask=True) as session:
        session.live.plain = plain
        ready = machine.build(
            session, options.selection(names), cache=cache, refresh=refresh, here=here, platforms=platforms
        )
    if isinstance(ready, work.ImagesBuilt):
        show(json, views.BUILD, ready)
    else:
        show(json, views.NATIVE_BUILD, ready)


@app.command()
@expanded
def plan(
    options: ImageOptions = NO_IMAGE_OPTIONS,
    json: Json = False,
) -> None:
    """What a build would make: images, layers, models, estimated sizes. Touches no engine.

    Example: python3 build.py plan --mode docker-gpu --variant full
    """
    from builder.views import images as views
    from builder.workflows import images as work

    with options.opened() as session:
        selection = options.selection()
        planned = work.plan(session, selection)
    show(json, views.PLAN, planned)


@app.command()
@expanded
def render(
    out: Annotated[Path | None, typer.Option("--out", help="The folder. Default: in the state folder.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit 1 on a difference.")] = False,
    platform: PlatformOption = None,
    options: ImageOptions = NO_IMAGE_OPTIONS,
    json: Json = False,
) -> None:
    """Write the Dockerfile, docker-bake.json and what they need, for plain docker buildx bake.

    Example: python3 build.py render --mode docker-cpu --out rendered
    """
    from builder.views import images as views
    from builder.workflows import images as work
    from builder.workflows.platforms import building

    with options.opened() as session:
        selection = options.selection()
        action = work.compare if check else work.render
        found = action(session, selection, out=out, platform=building.of_folder(platforms(platform)))
    if isinstance(found, work.FilesCompared):
        return show(json, views.COMPARE, found, failure=found.failure)
    show(json, views.RENDER, found)


@app.command()
def images(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGE]...", help="With --sbom: asr, or asr:slim-cpu. Default: all.")
    ] = None,
    sbom: Annotated[
        str | None,
        typer.Option("--sbom", metavar="KIND", help="A paper: cyclonedx, spdx, slsa (provenance), vex; or all."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="With --sbom: write the papers there.")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="What was built here, when, and how large it was.")
    ] = False,
    json: Json = False,
) -> None:
    """The images here: sizes unpacked, what others share, whether they are up to date; or their papers.

    \b
    Examples:
      python3 build.py images --json
      python3 build.py images --history
      python3 build.py images asr --sbom cyclonedx
    """
    from builder.views import images as views
    from builder.views.past.images import HISTORY
    from builder.workflows import images as work

    if sbom is not None:
        return show_papers(names or [], sbom, out, json=json, with_history=history)
    if names or out:
        raise UsageError("names and --out go with --sbom", hint="images --sbom cyclonedx")

    if history:
        with opened() as session:
            past = work.past(session)
        return show(json, HISTORY, past)
    with opened() as session:
        listed = work.listing(session)
    show(json, views.IMAGES, listed)


def show_papers(names: list[str], sbom: str, out: Path | None, *, json: bool, with_history: bool) -> None:
    """What ``images --sbom`` does."""
    from builder.views.papers import PAPERS
    from builder.workflows.papers import commands as papers

    if with_history:
        raise UsageError("--history and --sbom exclude each other")
    kinds = papers.kinds_of(sbom)
    with opened() as session:
        shown = papers.of_images(session, names, kinds, out=out)
    show(json, PAPERS, shown)


@app.command()
def rollback(
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="TAG", help="A version, a commit or a tag. Default: the version before this one."),
    ] = None,
    release: Annotated[
        bool, typer.Option("--release", help="Hold nothing any more: the next job brings images to today's code.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be moved, and what is kept.")] = False,
    mode: ModeOption = None,
    variant: VariantOption = None,
    json: Json = False,
) -> None:
    """Go back to the images of an earlier build, all of a mode's at once, and stay there until the next one.

    \b
    Examples:
      python3 build.py rollback --mode docker-cpu --dry-run
      python3 build.py rollback --mode docker-cpu --to 0.1.0
    """
    from builder.views.past import versions as views
    from builder.workflows.versions import commands as work

    if release and (to or dry_run):
        raise UsageError("--release moves no tag", expected="--release without --to and --dry-run")
    with opened(mode=mode, variant=variant) as session:
        if release:
            let_go = work.release(session)
        else:
            done = work.rollback(session, to=to, dry_run=dry_run)
    if release:
        return show(json, views.RELEASE, let_go)
    show(json, views.ROLLBACK, done)


@app.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    days: Annotated[
        int,
        typer.Option(
            "--answers-older-than", metavar="DAYS", min=0, max=36500, help="Answers of services go after so long."
        ),
    ] = 180,  # after half a year a service may know more
    builder: Annotated[
        bool, typer.Option("--builder", help="BuildKit's cache, too: of all that is built on this engine.")
    ] = False,
    other_platforms: Annotated[
        bool, typer.Option("--other-platforms", help="Images of other platforms than the engine's, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Free what no image and no job needs: blobs, recipes, images, what killed builds left, old answers.

    \b
    Examples:
      python3 build.py prune --dry-run
      python3 build.py prune --builder --dry-run
    """
    from builder.views import layout as views
    from builder.workflows import layout

    with opened() as session:
        pruned = layout.prune(session, dry_run=dry_run, days=days, builder=builder, other_platforms=other_platforms)
    show(json, views.PRUNE, pruned)


layout_app = typer.Typer(rich_markup_mode=None)


@layout_app.command("export")
def export(
    out: Annotated[Path, typer.Argument(help="A new folder, or one to resume.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[IMAGE]...", help="Default: all.")] = None,
    json: Json = False,
) -> None:
    """Write a complete OCI layout of assembled images, with the bytes of their weights.

    Example: python3 build.py layout export /media/stick/layout asr vad
    """
    from builder.views import layout as views
    from builder.workflows import layout

    with opened() as session:
        exported = layout.export(session, out, names or [])
    show(json, views.EXPORT, exported)
