"""Arguments in, exit code out: the only place that exits or prints an error."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from builder import __version__
from builder.cli import bundle, images, jobs, machine, registry
from builder.cli import weights as models
from builder.cli.options import GLOBALS, Json, ModeOption, PresetOption, VariantOption
from builder.errors import BakeError, Interrupted, UsageError

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
app.add_typer(images.app)
app.add_typer(registry.app)
app.add_typer(jobs.app)
app.add_typer(machine.app)
app.add_typer(models.app, name="models")
app.add_typer(jobs.jobs_app, name="jobs")
app.add_typer(bundle.app, name="bundle")
app.add_typer(images.layout_app, name="layout")


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
        images.build(mode=mode, variant=variant, preset=preset, json=json, names=None, progress="auto")


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code is the error's own, and an unexpected exception a bug report."""
    arguments = sys.argv[1:] if argv is None else argv
    # The hub client would ask the hub which programs there are, to tell it which one calls: we tell nobody.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if argv is None:  # who ends us with SIGTERM or closes the terminal wants no less tidiness than Ctrl-C
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
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

    if as_json and not error.in_result:
        import json

        print(json.dumps(ui.error_data(error), indent=2, ensure_ascii=False))
    ui.show_error(error)
    return error.exit_code


def _crashed(error: Exception) -> int:
    """Write what a developer needs to a file, and tell the user where it is."""
    import tempfile

    from builder import ui

    text = ui.masked("".join(traceback.format_exception(error)))
    words = " ".join(sys.argv[1:2])  # not the whole line: file names are nobody's business
    handle, name = tempfile.mkstemp(prefix="whisperbake-crash-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as log:
        log.write(f"whisperbake {__version__}, Python {sys.version}, {sys.platform}\ncommand: {words}\n\n{text}")
    ui.say(f"error: this is a bug in whisperbake: {type(error).__name__}: {error}")
    ui.say(f"  next: report it with the file {name}")
    return 1
