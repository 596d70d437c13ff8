"""Commands about jobs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from builder.cli.options import (
    NO_COMPARED_OPTIONS,
    NO_JOB_OPTIONS,
    ComparedJobOptions,
    Json,
    ModeOption,
    NewJobOptions,
    NoBuild,
    ProfileOption,
    SetOption,
    VariantOption,
    expanded,
    opened,
    show,
    show_again,
)
from builder.cli.places import NO_PLACES, PlacesOptions, RecursiveOption

NUMBER = re.compile(r"\d+(\.\d*)?")
STRICT = 1.0
"""Seconds of a gap with ``--strict`` alone."""


class StrictCommand(TyperCommand):
    """A command whose ``--strict`` may stand alone: it never takes a recording for its seconds."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The words, once ``--strict`` has a value."""
        return list(super().parse_args(ctx, strict_words(args)))


def strict_words(words: Sequence[str]) -> list[str]:
    """``--strict`` and ``--strict 5`` as ``--strict=1`` and ``--strict=5``. A file that is called 5 is a recording."""
    made: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*made, word, *rest]
        if word == "--strict":
            seconds = rest and NUMBER.fullmatch(rest[0]) and not Path(rest[0]).exists()
            word = f"--strict={rest.pop(0) if seconds else f'{STRICT:g}'}"
        made.append(word)
    return made


app = typer.Typer(rich_markup_mode=None)
jobs_app = typer.Typer(rich_markup_mode=None)
subtitles_app = typer.Typer(rich_markup_mode=None)


@app.command()
@expanded
def prepare(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Recordings, audio or video.")],
    options: NewJobOptions = NO_JOB_OPTIONS,
    no_build: NoBuild = False,
    json: Json = False,
) -> None:
    """Make a job of recordings, without running it. In a container mode with its compose.yaml.

    Example: python3 build.py prepare talk.mp4 --start 1:30 --end 12:00 --language en
    """
    from builder.views import jobs as views
    from builder.workflows import jobs

    with options.opened() as session:
        prepared = jobs.prepare(
            session,
            inputs,
            options.job(),
            build=not no_build,
        )
    show(json, views.PREPARE, prepared)


@app.command()
def preflight(
    job: Annotated[str | None, typer.Argument(help="A job's id. Default: the newest job.")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Check again, whatever the cache says.")] = False,
    mode: ModeOption = None,
    variant: VariantOption = None,
    json: Json = False,
) -> None:
    """Check that a job can run here. Cached for 24 hours, or until something it looked at changes.

    Example: python3 build.py preflight
    """
    from builder.views import jobs as views
    from builder.workflows import jobs

    with opened(mode=mode, variant=variant) as session:
        checked = jobs.preflight(session, job, refresh=refresh)
    show(json, views.PREFLIGHT, checked, failure=checked.failure)


@app.command(cls=StrictCommand)
@expanded
def run(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="JOB|INPUT...", help="A job's id; or recordings: files, a folder, '*.mp4', -, a URL."),
    ],
    options: NewJobOptions = NO_JOB_OPTIONS,
    places: PlacesOptions = NO_PLACES,
    no_build: NoBuild = False,
    parallel: Annotated[
        int | None,
        typer.Option("--parallel", min=1, max=64, help="Jobs at once; each recording becomes a job of its own."),
    ] = None,
    only: Annotated[str | None, typer.Option("--only", metavar="STAGE", help="This stage alone, again.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="This stage and what follows from it, again.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="STAGE", help="No further than this stage.")] = None,
    strict: Annotated[
        float | None,
        typer.Option(
            "--strict",
            min=0,
            max=86400,
            metavar="[=SECONDS]",
            help="Exit 8 where speech of more than SECONDS (1) has no words.",
        ),
    ] = None,
    allow_network: Annotated[
        list[str] | None,
        typer.Option("--allow-network", metavar="HOST[:PORT]", help="The host of translate.llm_endpoint may be asked."),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Show the text as it is recognised, on standard error.")] = False,
    json: Json = False,
) -> None:
    """Transcribe recordings, or resume jobs. Sets up what is missing first.

    \b
    Examples:
      python3 build.py run interview.mp4 --speakers 2
      python3 build.py run *.mp4 --parallel 2 --mode docker-cpu
      python3 build.py run recordings/ --beside --formats srt
      python3 build.py run 20261123-200312-dialogue-4f2a --from align
    """
    from builder import ui
    from builder.views import run as views
    from builder.workflows.run import RunOptions
    from builder.workflows.run import run as run_jobs

    delivery = places.delivery()
    with options.opened() as session:
        session.live.reads_along = live
        ran = run_jobs(
            session,
            inputs,
            options.job(),
            RunOptions(
                build=not no_build,
                parallel=parallel,
                only=only,
                first=from_,
                until=until,
                strict=strict,
                mode=options.mode,
                inputs=places.inputs(),
                network=tuple(allow_network or ()),
                delivery=delivery,
            ),
        )
        session.live.close()  # what is printed over rows is wrapped
        if not session.quiet:
            for line in views.remarks(ran):
                ui.say(line)
    show(json, views.RUN, ran, failure=ran.failure)


@app.command()
@expanded
def compare(
    inputs: Annotated[list[str], typer.Argument(metavar="FILE...", help="Recordings: files, folders, '*.mp4'.")],
    presets: Annotated[
        str | None, typer.Option("--presets", metavar="A,B", help="Which. Default: all whose models are here.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="Write a page with the differences marked.")
    ] = None,
    options: ComparedJobOptions = NO_COMPARED_OPTIONS,
    recursive: RecursiveOption = False,
    no_build: NoBuild = False,
    json: Json = False,
) -> None:
    """Run several presets on the same recordings: time, memory, errors, and where they disagree.

    Errors need a reference beside the recording: talk.reference.txt, .srt, .vtt for words, .rttm for speakers.
    What is done already isn't done again; nothing is fetched.

    \b
    Examples:
      python3 build.py compare talk.mp4 --presets starter,balanced
      python3 build.py compare recordings/ --language en --page compared.html
    """
    from builder.views import run as views
    from builder.workflows.compare import commands
    from builder.workflows.compare.commands import CompareOptions

    with options.opened() as session:
        result = commands.compare(
            session,
            inputs,
            options.job(),
            CompareOptions(presets=presets, page=page, recursive=recursive, build=not no_build),
        )
        session.live.close()
    show(json, views.COMPARE, result, failure=result.failure)


@jobs_app.command("list")
def listing(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again whenever it changes, until Ctrl-C.")] = False,
    json: Json = False,
) -> None:
    """The jobs, newest first, with their state.

    Example: python3 build.py jobs list --watch
    """
    from builder.views import jobs as views
    from builder.workflows import jobs

    with opened() as session:
        if not watch:
            show(json, views.LIST, jobs.list_jobs(session.config))
            return
        try:
            for listed in jobs.watch(session.config):
                show_again(json, views.WATCH, listed, clear=True)
        except KeyboardInterrupt:  # the way to end it
            return


@jobs_app.command("stats")
def job_stats(
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="In Prometheus' text format, for a textfile collector.")
    ] = False,
    json: Json = False,
) -> None:
    """All jobs together: how fast stages are, how long models load, how often and why stages fail.

    \b
    Examples:
      python3 build.py jobs stats
      python3 build.py jobs stats --prometheus > whisperbake.prom
    """
    from builder.views.past.jobs import PROMETHEUS, STATS
    from builder.workflows import jobs

    with opened() as session:
        found = jobs.job_stats(session)
    show(json, PROMETHEUS if prometheus else STATS, found)


@jobs_app.command("show")
def show_job(job: Annotated[str, typer.Argument(help="A job's id.")], json: Json = False) -> None:
    """One job: its stages, times and files.

    Example: python3 build.py jobs show 20261123
    """
    from builder.views import jobs as views
    from builder.workflows import jobs

    with opened() as session:
        shown = jobs.show(session.config, job)
    show(json, views.SHOW, shown)


@jobs_app.command("report")
def report(
    job: Annotated[str | None, typer.Argument(help="A job's id. Default: the newest job with results.")] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="File or folder. Default: report.html in the job's folder.")
    ] = None,
    embed: Annotated[
        int, typer.Option("--embed", min=0, max=300, metavar="MB", help="Recordings up to this size go into the page.")
    ] = 50,
    json: Json = False,
) -> None:
    """Write a job as one page: transcript, player, search, downloads, and how it was made. No network.

    Example: python3 build.py jobs report 20261123 --open
    """
    from builder.views import jobs as views
    from builder.workflows import jobs

    with opened() as session:
        written = jobs.report(session, job, out=out, megabytes=embed, open_it=open_it)
    show(json, views.REPORT, written, failure=written.failure)


@jobs_app.command("name")
def name(
    job: Annotated[str, typer.Argument(help="A job's id.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="S1=NAME...", help="Of several recordings: 02:S1=NAME. S1= takes a name away."),
    ] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Names that the job's page saved.")
    ] = None,
    json: Json = False,
) -> None:
    """Give the speakers names, in every file of a job. jobs undo takes them back.

    Example: python3 build.py jobs name 20261123 S1="Ada Lovelace" S2=Charles
    """
    from builder.views import edits as views
    from builder.workflows.edits import commands as edits

    with opened() as session:
        changed = edits.name(session, job, names or (), file=from_)
    show(json, views.NAME, changed, failure=changed.failure)


@jobs_app.command("edit")
def edit(
    job: Annotated[str, typer.Argument(help="A job's id.")],
    from_: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="The edited text, in place of an editor.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="Only write the text to a file, to be edited for --from."),
    ] = None,
    json: Json = False,
) -> None:
    """Change a transcript in $VISUAL or $EDITOR: words, speakers, turns. Every file of the job is written again.

    Words that stay keep their times; others get times between them. jobs undo goes back.

    Example: python3 build.py jobs edit 20261123
    """
    from builder.views import edits as views
    from builder.workflows.edits import commands as edits

    with opened() as session:
        changed = edits.edit(session, job, file=from_) if to is None else edits.save_text(session, job, file=to)
    show(json, views.EDIT, changed, failure=changed.failure)


@jobs_app.command("undo")
def undo(job: Annotated[str, typer.Argument(help="A job's id.")], json: Json = False) -> None:
    """Take back the last jobs name or jobs edit of a job; again, the one before, down to what was heard.

    Example: python3 build.py jobs undo 20261123
    """
    from builder.views import edits as views
    from builder.workflows.edits import commands as edits

    with opened() as session:
        changed = edits.undo(session, job)
    show(json, views.UNDO, changed, failure=changed.failure)


@jobs_app.command("logs")
def logs(
    job: Annotated[str, typer.Argument(help="A job's id.")],
    stage: Annotated[str | None, typer.Argument(help="One stage. Default: all.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="As it comes, while the job is running.")] = False,
    json: Json = False,
) -> None:
    """What the stages of a job printed.

    Example: python3 build.py jobs logs 20261123 asr -f
    """
    from builder.views import jobs as views
    from builder.workflows import jobs

    with opened() as session:
        try:
            for line in jobs.logs(session.config, job, stage, follow=follow):
                show_again(json, views.LOGS, line)
        except KeyboardInterrupt:  # the way to end it
            return


@jobs_app.command("cancel")
def cancel(
    ids: Annotated[list[str], typer.Argument(metavar="JOB...", help="Jobs to stop.")],
    json: Json = False,
) -> None:
    """Stop running jobs; run resumes where they stopped.

    Example: python3 build.py jobs cancel 20261123-200312-dialogue-4f2a
    """
    from builder.views import jobs as views
    from builder.workflows import jobs

    with opened() as session:
        cancelled = jobs.cancel(session.config, ids)
    show(json, views.CANCEL, cancelled)


@jobs_app.command("remove")
def remove(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="JOB...", help="Jobs to delete; with --sound the default is all done.")
    ] = None,
    sound: Annotated[
        bool,
        typer.Option(
            "--sound", help="Only the sound that the stages heard, 115 MB an hour. It is made again if needed."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Delete jobs with their results. The recordings they were made from stay.

    \b
    Examples:
      python3 build.py jobs remove 20261123-200312-dialogue-4f2a --dry-run
      python3 build.py jobs remove --sound
    """
    from builder.views import jobs as views
    from builder.workflows import jobs

    with opened() as session:
        removed = jobs.remove(session.config, ids or (), dry_run=dry_run, sound=sound)
    show(json, views.REMOVE, removed)


@subtitles_app.command("check")
def check(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="SubRip, WebVTT or TTML, of this program or any other.")
    ],
    profile: ProfileOption = None,
    changes: SetOption = None,
    language: Annotated[
        str | None, typer.Option("--language", help="The text's: en. With it, line breaks are looked at, too.")
    ] = None,
    allow: Annotated[
        float,
        typer.Option("--allow", min=0, max=100, metavar="PERCENT", help="Of the subtitles that may break a rule."),
    ] = 0.0,
    json: Json = False,
) -> None:
    """Say which subtitles break the rules of a profile. Exit 1 where more do than --allow says.

    \b
    Examples:
      python3 build.py subtitles check talk.srt --profile netflix
      python3 build.py subtitles check *.vtt --profile bbc --set subtitles.chars_per_second=20 --allow 5
    """
    from builder.views import edits as views
    from builder.workflows.edits import checking

    with opened(profile=profile, settings=changes) as session:
        checked = checking.check(session, files, allowed=allow, language=language)
    show(json, views.CHECK, checked, failure=checked.failure)
