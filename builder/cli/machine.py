"""Commands about this machine."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from builder.cli.options import Json, PresetOption, ProfileOption, SetOption, opened, show
from builder.core.text import format_size
from builder.errors import UsageError

app = typer.Typer(rich_markup_mode=None)


@app.command()
def bootstrap(
    preset: PresetOption = None,
    cache_models: Annotated[bool, typer.Option("--cache-models", help="Fetch the models without asking.")] = False,
    skip_cache: Annotated[bool, typer.Option("--skip-cache", help="Leave the models for later.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Make the environment again.")] = False,
    json: Json = False,
) -> None:
    """Set up this machine: environment, hardware, models.

    Example: python3 build.py bootstrap --cache-models
    """
    from builder.views import machine as views
    from builder.workflows import machine

    if cache_models and skip_cache:
        raise UsageError("--cache-models and --skip-cache exclude each other", hint="give one of them")
    with opened(may_ask=True, preset=preset) as session:
        fetch = not skip_cache
        if fetch and not cache_models and sys.stdin.isatty() and sys.stderr.isatty():
            need = machine.bytes_missing(session)
            fetch = not need or typer.confirm(f"Fetch models ({format_size(need)})?", default=True, err=True)
        ready = machine.bootstrap(session, fetch=fetch, force=force)
    show(json, views.BOOTSTRAP, ready)


@app.command()
def hardware(
    refresh: Annotated[bool, typer.Option("--refresh", help="Inspect it again, whatever the cache says.")] = False,
    json: Json = False,
) -> None:
    """What this machine has, and what that recommends. Cached for an hour.

    Example: python3 build.py hardware --refresh --json
    """
    from builder.views import machine as views
    from builder.workflows import machine

    with opened() as session:
        hardware = machine.hardware(session, refresh=refresh)
    show(json, views.HARDWARE, hardware)


@app.command()
def settings(
    stage: Annotated[str | None, typer.Argument(help="One stage's. Default: all.")] = None,
    profile: ProfileOption = None,
    changes: SetOption = None,
    json: Json = False,
) -> None:
    """The stages' settings: what each may be, is, and does. The profiles.

    \b
    Examples:
      python3 build.py settings subtitles
      python3 build.py settings --profile netflix
    """
    from builder.views import machine as views
    from builder.workflows import machine

    with opened(profile=profile, settings=changes) as session:
        listed = machine.settings(session, stage)
    show(json, views.SETTINGS, listed)


@app.command()
def doctor(json: Json = False) -> None:
    """Check everything that a job or a build needs, and say what to do about what is missing.

    Example: python3 build.py doctor
    """
    from builder.views import machine as views
    from builder.workflows import machine

    with opened() as session:
        checked = machine.doctor(session)
    show(json, views.DOCTOR, checked)
