"""Commands about this machine, the people whose voices it knows, films, and glossaries."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from builder.cli.options import (
    GlossaryOption,
    Json,
    ModeOption,
    PresetOption,
    ProfileOption,
    SetOption,
    VariantOption,
    opened,
    show,
)
from builder.core.text import format_size
from builder.errors import UsageError

app = typer.Typer(rich_markup_mode=None)
voices_app = typer.Typer(rich_markup_mode=None)
glossary_app = typer.Typer(rich_markup_mode=None)


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


@voices_app.command("add")
def add_voice(
    name: Annotated[str, typer.Argument(help="Whose voice it is.")],
    recording: Annotated[Path, typer.Argument(metavar="FILE", help="A recording in which this person speaks alone.")],
    start: Annotated[str | None, typer.Option("--from", help="From here: seconds or [h:]m:s.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Up to here: seconds or [h:]m:s.")] = None,
    consent: Annotated[
        str,
        typer.Option("--consent", metavar="TEXT", help="A note of what this person agreed to, kept beside the voice."),
    ] = "",
    preset: PresetOption = None,
    mode: ModeOption = None,
    variant: VariantOption = None,
    json: Json = False,
) -> None:
    """Keep a person's voice on this machine: jobs then name this speaker. Ask the person first.

    Example: python3 build.py voices add "Ada Lovelace" talk.mp4 --from 0:10 --to 0:40 --consent "by mail, 2026-11-20"
    """
    from builder.views import machine as views
    from builder.workflows.voices import commands as voices

    with opened(may_ask=True, preset=preset, mode=mode, variant=variant) as session:
        added = voices.add(session, name, recording, start=start, end=end, consent=consent)
    show(json, views.VOICE_ADDED, added)


@voices_app.command("list")
def list_voices(json: Json = False) -> None:
    """The known voices, and how often a voice is taken for another.

    Example: python3 build.py voices list
    """
    from builder.views import machine as views
    from builder.workflows.voices import commands as voices

    with opened() as session:
        show(json, views.VOICES, voices.list_voices(session.config))


@voices_app.command("remove")
def remove_voices(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Whose voices to forget.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Forget voices. Jobs that were made with them keep their copy until they are removed.

    Example: python3 build.py voices remove "Ada Lovelace"
    """
    from builder.views import machine as views
    from builder.workflows.voices import commands as voices

    with opened() as session:
        removed = voices.remove(session.config, names, dry_run=dry_run)
    show(json, views.VOICES_REMOVED, removed)


@glossary_app.command()
def learn(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help="Finished jobs that had a glossary.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.tsv", help="The glossary that is written.")],
    glossary: GlossaryOption = None,
    json: Json = False,
) -> None:
    """Write a glossary with what was heard in the place of its terms: what asr corrected, and what jobs edit mended.

    Example: python3 build.py glossary learn 20261123-200312 --out names.tsv
    """
    from builder.views import glossaries as views
    from builder.workflows.glossaries import commands

    with opened() as session:
        if out.suffix.lower() != ".tsv":
            raise UsageError("a table's name ends with .tsv", where=f"--out {out}", hint="--out FILE.tsv")
        learned = commands.learn(session, jobs, glossary="auto" if glossary is None else glossary, out=out)
    show(json, views.LEARNED, learned)


@app.command()
def metadata(
    recordings: Annotated[list[Path] | None, typer.Argument(metavar="FILE...", help="Films, episodes, songs.")] = None,
    online: Annotated[
        bool,
        typer.Option("--online", help="Ask TMDB about films (TMDB_TOKEN), MusicBrainz about songs. They see titles."),
    ] = False,
    glossary_out: Annotated[
        Path | None, typer.Option("--glossary-out", metavar="FILE", help="Write the characters as a glossary's table.")
    ] = None,
    cached: Annotated[bool, typer.Option("--cached", help="List the answers that are kept: age and size.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Remove the answers that are kept.")] = False,
    json: Json = False,
) -> None:
    """What files, their names and two services say: title, year, cast. Nothing is asked without --online.

    Example: python3 build.py metadata "The Third Man (1949).mkv" --online --glossary-out cast.tsv
    """
    from builder.errors import UsageError
    from builder.views import metadata as views
    from builder.workflows.metadata import commands

    if cached or forget:
        if recordings:
            raise UsageError("answers are kept for all files together", where=str(recordings[0]), hint="leave out FILE")
        with opened() as session:
            answers = commands.kept(session, forget=forget)
        show(json, views.ANSWERS, answers)
        return
    with opened() as session:
        if not recordings:
            raise UsageError("no file is named", expected="FILE…, or --cached")
        found = commands.describe(session, recordings, online=online, glossary=glossary_out)
    show(json, views.METADATA, found, failure=found.failure)
