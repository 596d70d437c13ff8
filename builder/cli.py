"""Arguments in, exit code out: the only place that exits or prints an error."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder import __version__
from builder.errors import BakeError, Interrupted, UsageError

if TYPE_CHECKING:
    from builder.workflows import Result, Session

# Without rich markup: importing rich for a help page costs more than the whole page (0.1 s).
app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="""Builds and runs offline speech transcription.

    \b
    Examples:
      python3 build.py run interview.mp4            subtitles with speakers
      python3 build.py run a.wav b.wav --language en --speakers 2
      python3 build.py                              set up this machine, say what is there
    """,
)
models_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="The weights: list, fetch, verify, lock.")
jobs_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="The jobs on this machine.")
app.add_typer(models_app, name="models")
app.add_typer(jobs_app, name="jobs")


@dataclass
class Globals:
    """What stands before the sub-command."""

    home: Path | None = None
    quiet: bool = False
    debug: bool = False


GLOBALS = Globals()

Json = Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")]
ModeOption = Annotated[str | None, typer.Option("--mode", help="native, docker-cpu or docker-gpu.")]
VariantOption = Annotated[str | None, typer.Option("--variant", help="slim (no PyTorch) or full.")]
PresetOption = Annotated[
    str | None, typer.Option("--preset", help="starter, fast, balanced, high, premium or tiny-en.")
]
ModelsOption = Annotated[str | None, typer.Option("--models", help="Model ids in place of the preset's: a,b")]
NoDiarization = Annotated[bool, typer.Option("--no-diarization", help="Leave out who speaks when.")]
WorkflowOption = Annotated[
    str | None, typer.Option("--workflow", help="transcribe or subtitle. Default: subtitle for video.")
]
LanguageOption = Annotated[str | None, typer.Option("--language", help="ISO 639-1 code. Default: detected.")]
StartOption = Annotated[str | None, typer.Option("--start", help="Clip from here: seconds or [h:]m:s.")]
EndOption = Annotated[str | None, typer.Option("--end", help="Clip up to here: seconds or [h:]m:s.")]
SpeakersOption = Annotated[
    int | None, typer.Option("--speakers", min=1, max=30, help="How many voices. Default: a best guess.")
]
DeviceOption = Annotated[str | None, typer.Option("--device", help="cpu or cuda. Default: what is here.")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, max=512, help="Default: one a core.")]
BatchOption = Annotated[int | None, typer.Option("--batch-size", min=0, max=128, help="0: one window after the other.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"whisperbake {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    mode: ModeOption = None,
    variant: VariantOption = None,
    preset: PresetOption = None,
    json: Json = False,
    home: Annotated[Path | None, typer.Option("--home", help="State folder. Default: .bake beside bake.yaml.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """See the help text of ``app``."""
    GLOBALS.home, GLOBALS.quiet = home, quiet
    if context.invoked_subcommand is None:
        build(mode=mode, variant=variant, preset=preset, json=json, names=None, progress="auto")


def _session(**overrides: object) -> AbstractContextManager[Session]:
    from builder import workflows

    return workflows.open_session(
        home=GLOBALS.home, quiet=GLOBALS.quiet, env=os.environ, start=Path.cwd(), overrides=overrides
    )


def _emit(as_json: bool, result: Result) -> None:
    """The result: JSON for scripts, else lines for people. Both on standard output."""
    if as_json:
        import json

        print(json.dumps(result.data, indent=2, ensure_ascii=False))
    elif result.text:
        print(result.text)
    if result.failure is not None:
        raise result.failure


@app.command()
def build(
    names: Annotated[list[str] | None, typer.Argument(metavar="[IMAGE]...", help="Default: all of the mode.")] = None,
    mode: ModeOption = None,
    variant: VariantOption = None,
    preset: PresetOption = None,
    models: ModelsOption = None,
    no_diarization: NoDiarization = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Build every step anew.")] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Make a Debian base of today's packages.")] = False,
    progress: Annotated[str, typer.Option("--progress", help="auto, or plain: a line a step, for CI.")] = "auto",
    json: Json = False,
) -> None:
    """Set up what a mode needs, build its images, and say what is there.

    Example: python3 build.py build --mode docker-cpu --preset starter
    """
    from builder import workflows

    if progress not in ("auto", "plain"):
        raise UsageError(f'"{progress}" is no way to show progress', where="--progress", expected="auto or plain")
    with _session(mode=mode, variant=variant, preset=preset) as session:
        session.live.plain = progress == "plain"
        result = workflows.build(
            session, models=models, diarization=not no_diarization, names=names or [], cache=not no_cache,
            refresh=refresh,
        )  # fmt: skip
    _emit(json, result)


@app.command()
def plan(
    mode: ModeOption = None,
    variant: VariantOption = None,
    preset: PresetOption = None,
    models: ModelsOption = None,
    json: Json = False,
) -> None:
    """What a build would make: images, layers, models, estimated sizes. Touches no engine.

    Example: python3 build.py plan --mode docker-gpu --variant full
    """
    from builder import imaging

    with _session(mode=mode, variant=variant, preset=preset) as session:
        result = imaging.plan(session, models=models)
    _emit(json, result)


@app.command()
def render(
    out: Annotated[Path | None, typer.Option("--out", help="The folder. Default: in the state folder.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit 1 on a difference.")] = False,
    mode: ModeOption = None,
    variant: VariantOption = None,
    preset: PresetOption = None,
    models: ModelsOption = None,
    json: Json = False,
) -> None:
    """Write the Dockerfile, docker-bake.json and what they need, for plain docker buildx bake.

    Example: python3 build.py render --mode docker-cpu --out rendered
    """
    from builder import imaging

    with _session(mode=mode, variant=variant, preset=preset) as session:
        result = imaging.render(session, out=out, check=check, models=models)
    _emit(json, result)


@app.command()
def images(json: Json = False) -> None:
    """The images here: sizes unpacked, what others share, whether they are up to date.

    Example: python3 build.py images --json
    """
    from builder import imaging

    with _session() as session:
        result = imaging.listing(session)
    _emit(json, result)


@app.command()
def bootstrap(
    preset: PresetOption = None,
    cache_models: Annotated[bool, typer.Option("--cache-models", help="Fetch the models without asking.")] = False,
    skip_cache: Annotated[bool, typer.Option("--skip-cache", help="Leave the models for later.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Make the environment anew.")] = False,
    json: Json = False,
) -> None:
    """Set up this machine: environment, hardware, models.

    Example: python3 build.py bootstrap --cache-models
    """
    from builder import workflows

    if cache_models and skip_cache:
        raise UsageError("--cache-models and --skip-cache exclude each other", hint="give one of them")
    with _session(preset=preset) as session:
        fetch = not skip_cache
        if fetch and not cache_models and sys.stdin.isatty() and sys.stderr.isatty():
            need = workflows.bytes_missing(session)
            fetch = not need or typer.confirm(f"Fetch models ({need / 1e6:.0f} MB)?", default=True, err=True)
        result = workflows.bootstrap(session, fetch=fetch, force=force)
    _emit(json, result)


@app.command()
def hardware(
    refresh: Annotated[bool, typer.Option("--refresh", help="Look again, whatever the cache says.")] = False,
    json: Json = False,
) -> None:
    """What this machine has, and what that recommends. Cached for an hour.

    Example: python3 build.py hardware --refresh --json
    """
    from builder import workflows

    with _session() as session:
        result = workflows.hardware(session, refresh=refresh)
    _emit(json, result)


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
    from builder import workflows

    with _session(preset=preset, workflow=workflow, language=language) as session:
        result = workflows.prepare(
            session,
            inputs,
            workflows.Wishes(
                models=models, start=start, end=end, speakers=speakers, diarization=not no_diarization,
                device=device, threads=threads, batch_size=batch_size,
            ),
        )  # fmt: skip
    _emit(json, result)


@app.command()
def preflight(
    job: Annotated[str | None, typer.Argument(help="A job's id. Default: the newest job.")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Check again, whatever the cache says.")] = False,
    json: Json = False,
) -> None:
    """Check that a job can run here. Cached for 24 hours, or until something it looked at changes.

    Example: python3 build.py preflight
    """
    from builder import workflows

    with _session() as session:
        result = workflows.preflight(session, job, refresh=refresh)
    _emit(json, result)


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
    from builder import workflows

    with _session(mode=mode, variant=variant, preset=preset, workflow=workflow, language=language) as session:
        result = workflows.run(
            session,
            inputs,
            workflows.Wishes(
                models=models, start=start, end=end, speakers=speakers, diarization=not no_diarization,
                device=device, threads=threads, batch_size=batch_size,
            ),
            build=not no_build,
        )  # fmt: skip
    _emit(json, result)


@app.command()
def doctor(json: Json = False) -> None:
    """Look at everything a job or a build needs, and say what to do about what is missing.

    Example: python3 build.py doctor
    """
    from builder import workflows

    with _session() as session:
        result = workflows.doctor(session)
    _emit(json, result)


@models_app.command("list")
def models_list(json: Json = False) -> None:
    """Every model of the catalogue: purpose, size, licence, pinned, present, presets."""
    from builder import workflows

    with _session() as session:
        result = workflows.models_list(session)
    _emit(json, result)


@models_app.command("fetch")
def models_fetch(
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
    from builder import workflows

    with _session(preset=preset) as session:
        result = workflows.models_fetch(session, ids or [], folders=source or [])
    _emit(json, result)


@models_app.command("verify")
def models_verify(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Default: all present.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte again.")] = False,
    json: Json = False,
) -> None:
    """Check the store against the lock. A file that doesn't match is moved to quarantine and named.

    Example: python3 build.py models verify --deep
    """
    from builder import workflows

    with _session() as session:
        result = workflows.models_verify(session, ids or [], deep=deep)
    _emit(json, result)


@models_app.command("lock")
def models_lock(
    ids: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models to pin.")],
    json: Json = False,
) -> None:
    """Pin models: ask the hub for revision, sizes and sha256, and write models.lock.

    Example: python3 build.py models lock small medium
    """
    from builder import workflows

    with _session() as session:
        result = workflows.models_lock(session, ids)
    _emit(json, result)


@jobs_app.command("list")
def jobs_list(json: Json = False) -> None:
    """The jobs, newest first, with their state."""
    from builder import workflows

    with _session() as session:
        result = workflows.jobs_list(session)
    _emit(json, result)


@jobs_app.command("show")
def jobs_show(job: Annotated[str, typer.Argument(help="A job's id.")], json: Json = False) -> None:
    """One job: its stages, times and files.

    Example: python3 build.py jobs show 20261123
    """
    from builder import workflows

    with _session() as session:
        result = workflows.jobs_show(session, job)
    _emit(json, result)


@jobs_app.command("remove")
def jobs_remove(
    ids: Annotated[list[str], typer.Argument(metavar="JOB...", help="Jobs to delete.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Delete jobs with their results. The recordings they were made from stay.

    Example: python3 build.py jobs remove 20261123-200312-dialogue-4f2a --dry-run
    """
    from builder import workflows

    with _session() as session:
        result = workflows.jobs_remove(session, ids, dry_run=dry_run)
    _emit(json, result)


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code is the error's own, and an unexpected exception a bug report."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        return app(args=arguments, prog_name="build.py", standalone_mode=False) or 0
    except BakeError as error:
        return _failed(error, as_json="--json" in arguments)
    except KeyboardInterrupt:
        return _failed(Interrupted("interrupted"), as_json="--json" in arguments)
    except typer.Abort:
        return _failed(Interrupted("stopped at the question"), as_json="--json" in arguments)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is not None:  # typer's own: an unknown option, a missing argument
            from builder import ui

            ui.say(f"error: {usage()}")
            context = getattr(error, "ctx", None)
            ui.say(f"  next: {context.command_path if context else 'build.py'} --help")
            return UsageError.exit_code
        return _crashed(error)


def _failed(error: BakeError, *, as_json: bool) -> int:
    from builder import ui

    if as_json:
        import json

        print(json.dumps(ui.error_data(error), indent=2, ensure_ascii=False))
    ui.show_error(error)
    return error.exit_code


def _crashed(error: Exception) -> int:
    """Write what a developer needs to a file, and tell the user where it is."""
    import tempfile

    from builder import ui

    text = "".join(traceback.format_exception(error))
    words = " ".join(sys.argv[1:2])  # not the whole line: file names are nobody's business
    handle, name = tempfile.mkstemp(prefix="whisperbake-crash-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as log:
        log.write(f"whisperbake {__version__}, Python {sys.version}, {sys.platform}\ncommand: {words}\n\n{text}")
    ui.say(f"error: this is a bug in whisperbake: {type(error).__name__}: {error}")
    ui.say(f"  next: report it with the file {name}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
