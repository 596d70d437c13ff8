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
    NoDiarization,
    PresetOption,
    SpeakersOption,
    StartOption,
    ThreadsOption,
    VariantOption,
    WorkflowOption,
    emit,
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
    json: Json = False,
) -> None:
    """Make a job of recordings, without running it.

    Example: python3 build.py prepare talk.mp4 --start 1:30 --end 12:00 --language en
    """
    from builder.session import Wishes
    from builder.workflows import jobs

    with opened(preset=preset, workflow=workflow, language=language) as session:
        result = jobs.prepare(
            session,
            inputs,
            Wishes(
                models=models, start=start, end=end, speakers=speakers, diarization=not no_diarization,
                device=device, threads=threads, batch_size=batch_size,
            ),
        )  # fmt: skip
    emit(json, result)


@app.command()
def preflight(
    job: Annotated[str | None, typer.Argument(help="A job's id. Default: the newest job.")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Check again, whatever the cache says.")] = False,
    json: Json = False,
) -> None:
    """Check that a job can run here. Cached for 24 hours, or until something it looked at changes.

    Example: python3 build.py preflight
    """
    from builder.workflows import jobs

    with opened() as session:
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
    no_build: Annotated[bool, typer.Option("--no-build", help="Images that are missing are an error.")] = False,
    json: Json = False,
) -> None:
    """Transcribe recordings, or resume a job. Sets up what is missing first.

    Example: python3 build.py run interview.mp4 --speakers 2
    """
    from builder.session import Wishes
    from builder.workflows import jobs

    with opened(mode=mode, variant=variant, preset=preset, workflow=workflow, language=language) as session:
        result = jobs.run(
            session,
            inputs,
            Wishes(
                models=models, start=start, end=end, speakers=speakers, diarization=not no_diarization,
                device=device, threads=threads, batch_size=batch_size,
            ),
            build=not no_build,
        )  # fmt: skip
    emit(json, result)


@jobs_app.command("list")
def listing(json: Json = False) -> None:
    """The jobs, newest first, with their state."""
    from builder.workflows import jobs

    with opened() as session:
        result = jobs.listing(session)
    emit(json, result)


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
