"""Commands about jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.options import (
    BatchOption,
    DeviceOption,
    EndOption,
    Json,
    LanguageOption,
    ModelsOption,
    ModeOption,
    NoBuild,
    NoDiarization,
    PresetOption,
    SpeakersOption,
    StartOption,
    ThreadsOption,
    VariantOption,
    WorkflowOption,
    emit,
    emit_again,
    emit_line,
    opened,
)

app = typer.Typer(rich_markup_mode=None)
jobs_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="The jobs on this machine.")


@app.command()
def prepare(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Recordings, audio or video.")],
    workflow: WorkflowOption = None,
    preset: PresetOption = None,
    models: ModelsOption = None,
    language: LanguageOption = None,
    start: StartOption = None,
    end: EndOption = None,
    speakers: SpeakersOption = None,
    no_diarization: NoDiarization = False,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    batch_size: BatchOption = None,
    mode: ModeOption = None,
    variant: VariantOption = None,
    no_build: NoBuild = False,
    json: Json = False,
) -> None:
    """Make a job of recordings, without running it. In a container mode with its compose.yaml.

    Example: python3 build.py prepare talk.mp4 --start 1:30 --end 12:00 --language en
    """
    from builder.core.jobs.request import JobOptions
    from builder.workflows import jobs

    with opened(mode=mode, variant=variant, preset=preset, workflow=workflow, language=language) as session:
        result = jobs.prepare(
            session,
            inputs,
            JobOptions(
                models=models,
                start=start,
                end=end,
                speakers=speakers,
                diarization=not no_diarization,
                device=device,
                threads=threads,
                batch_size=batch_size,
            ),
            build=not no_build,
        )
    emit(json, result)


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
    from builder.workflows import jobs

    with opened(mode=mode, variant=variant) as session:
        result = jobs.preflight(session, job, refresh=refresh)
    emit(json, result)


@app.command()
def run(
    inputs: Annotated[list[str], typer.Argument(metavar="JOB|INPUT...", help="A job's id, or recordings.")],
    workflow: WorkflowOption = None,
    preset: PresetOption = None,
    models: ModelsOption = None,
    language: LanguageOption = None,
    start: StartOption = None,
    end: EndOption = None,
    speakers: SpeakersOption = None,
    no_diarization: NoDiarization = False,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    batch_size: BatchOption = None,
    mode: ModeOption = None,
    variant: VariantOption = None,
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
    json: Json = False,
) -> None:
    """Transcribe recordings, or resume jobs. Sets up what is missing first.

    \b
    Examples:
      python3 build.py run interview.mp4 --speakers 2
      python3 build.py run *.mp4 --parallel 2 --mode docker-cpu
      python3 build.py run 20261123-200312-dialogue-4f2a --from align
    """
    from builder.core.jobs.request import JobOptions
    from builder.workflows.run import How
    from builder.workflows.run import run as start_jobs

    with opened(mode=mode, variant=variant, preset=preset, workflow=workflow, language=language) as session:
        result = start_jobs(
            session,
            inputs,
            JobOptions(
                models=models,
                start=start,
                end=end,
                speakers=speakers,
                diarization=not no_diarization,
                device=device,
                threads=threads,
                batch_size=batch_size,
            ),
            How(build=not no_build, parallel=parallel, only=only, first=from_, until=until),
        )
    emit(json, result)


@jobs_app.command("list")
def listing(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again whenever it changes, until Ctrl-C.")] = False,
    json: Json = False,
) -> None:
    """The jobs, newest first, with their state.

    Example: python3 build.py jobs list --watch
    """
    from builder.workflows import jobs

    with opened() as session:
        if not watch:
            emit(json, jobs.listing(session))
            return
        try:
            for result in jobs.watch(session):
                emit_again(json, result)
        except KeyboardInterrupt:  # the way to end it
            return


@jobs_app.command("show")
def show(job: Annotated[str, typer.Argument(help="A job's id.")], json: Json = False) -> None:
    """One job: its stages, times and files.

    Example: python3 build.py jobs show 20261123
    """
    from builder.workflows import jobs

    with opened() as session:
        result = jobs.show(session, job)
    emit(json, result)


@jobs_app.command("report")
def report(
    job: Annotated[str | None, typer.Argument(help="A job's id. Default: the newest job.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
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
    from builder.workflows import report as pages

    with opened() as session:
        result = pages.report(session, job, out=out, megabytes=embed, show=show)
    emit(json, result)


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
    from builder.workflows import jobs

    with opened() as session:
        try:
            for name, line in jobs.logs(session, job, stage, follow=follow):
                emit_line(json, name, line, alone=stage is not None)
        except KeyboardInterrupt:  # the way to end it
            return


@jobs_app.command("cancel")
def cancel(
    ids: Annotated[list[str], typer.Argument(metavar="JOB...", help="Jobs to stop.")],
    json: Json = False,
) -> None:
    """Stop running jobs; run goes on where they stopped.

    Example: python3 build.py jobs cancel 20261123-200312-dialogue-4f2a
    """
    from builder.workflows import jobs

    with opened() as session:
        result = jobs.cancel(session, ids)
    emit(json, result)


@jobs_app.command("remove")
def remove(
    ids: Annotated[list[str], typer.Argument(metavar="JOB...", help="Jobs to delete.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Delete jobs with their results. The recordings they were made from stay.

    Example: python3 build.py jobs remove 20261123-200312-dialogue-4f2a --dry-run
    """
    from builder.workflows import jobs

    with opened() as session:
        result = jobs.remove(session, ids, dry_run=dry_run)
    emit(json, result)
