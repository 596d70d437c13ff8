"""Arguments in, exit code out: the only place that exits or prints an error."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from builder import __version__, program
from builder.cli import complete, failures
from builder.cli.commands import RootGroup
from builder.cli.options import GLOBALS, ImageOptions, Json, ModeOption, PresetOption, VariantOption, flush, print_json
from builder.core.text import visible
from builder.errors import BakeError, Interrupted, MissingError, UsageError
from builder.receiver.display import guard

# Without rich markup: importing rich for a help page costs more than the whole page (0.1 s).
app = typer.Typer(
    cls=RootGroup,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="""Builds and runs offline speech transcription.

    \b
    Examples:
      python3 build.py run interview.mp4            subtitles with speakers
      python3 build.py run a.wav b.wav --language en --speakers 2
      python3 build.py                              set up this machine, say what is there
    """,
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"whisperbake {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    mode: ModeOption = None,
    variant: VariantOption = None,
    preset: PresetOption = None,
    json: Json = False,
    home: Annotated[
        Path | None, typer.Option("--home", help="State folder. Default: .bake beside bake.yaml, or a user's own.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Tell what is run and asked, with tracebacks; anywhere in the line.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """See the help text of ``app``."""
    GLOBALS.home, GLOBALS.quiet, GLOBALS.streaming = home, quiet, False
    if context.invoked_subcommand is None:
        from builder.cli import images

        images.set_up(ImageOptions(mode=mode, variant=variant, preset=preset), here=True, json=json)


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code is the error's own, and an unexpected exception a bug report."""
    arguments = sys.argv[1:] if argv is None else argv
    if sys.platform == "win32":
        return _failed(
            MissingError(
                "this runs on Linux, and on Windows in WSL",
                hint="build.cmd of a checkout hands over to WSL; in WSL, install it again",
            ),
            wants_json(arguments),
        )
    # The hub client would ask the hub which programs there are, to tell it which one calls: we tell nobody.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # pydantic would look through every installed package for plugins; none is of use here, and it takes 20 ms.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if argv is None:  # whoever ends us with SIGTERM or closes the terminal wants as much tidiness as with Ctrl-C
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
    _open_streams()
    if instruction := os.environ.get(complete.VARIABLE):
        return complete.answer(typer.main.get_command(app), instruction)
    try:
        return _run(arguments)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: nothing is wrong.
        _drop_output()
        return 0


def _open_streams() -> None:
    """Streams that are there and take every character: one that was closed would give its number to the next file."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal of Latin-1, LANG=C, a file's name that is not UTF-8
            stream.reconfigure(errors="backslashreplace")
    guard(visible)


def _drop_output() -> None:
    """Nothing more goes to standard output, so that the interpreter doesn't fail on it again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: Sequence[str]) -> int:
    """Run one command and show what failed, as prose or as JSON."""
    as_json = wants_json(arguments)
    arguments = _debugging(arguments)
    try:
        command: Any = typer.main.get_command(app)
        # Not command.main(): it ends the process itself on Ctrl-C and on a closed pipe.
        with command.make_context(program.name(), list(arguments)) as context:
            command.invoke(context)
        flush()
        return 0
    except typer.Exit as end:
        return _ended(end.exit_code)
    except BakeError as error:
        return _failed(error, as_json)
    except (KeyboardInterrupt, EOFError):
        return _failed(Interrupted("interrupted"), as_json)
    except typer.Abort:
        return _failed(Interrupted("stopped at the question"), as_json)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - what it means is looked up; what is left is a bug, and reported as one
        if hasattr(error, "format_message"):  # typer's own: an unknown option, a missing argument
            return _failed(_usage(error, as_json), as_json)
        meaning = failures.meaning(error) or failures.bug(error, __version__)
        meaning.__cause__ = error
        return _failed(meaning, as_json)


def _ended(code: int) -> int:
    """The exit code of a command that ended itself, such as ``--help``, once what it printed is out."""
    try:
        flush()
    except MissingError as error:
        return _failed(error, as_json=False)
    return code


def _debugging(arguments: Sequence[str]) -> list[str]:
    """The arguments without ``--debug``, which may stand anywhere among the options; with it, tracing begins."""
    words = list(arguments)
    options = words[: words.index("--")] if "--" in words else words
    GLOBALS.debug = "--debug" in options or os.environ.get("BAKE_DEBUG", "") not in ("", "0")
    if GLOBALS.debug:
        from builder import ui

        ui.trace()
    return [word for word in options if word != "--debug"] + words[len(options) :]


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether ``--json`` is among the options: known before they are read, for errors in reading them."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def _failed(error: BakeError, as_json: bool) -> int:
    """Show an error: in words on standard error, or as JSON on standard output while that can be written."""
    from builder import ui

    if GLOBALS.debug:
        ui.show_trace(error)
    if as_json and error.where != failures.OUTPUT:
        try:
            if not error.in_result:
                print_json(ui.error_data(error), compact=GLOBALS.streaming)
            flush()
            return error.exit_code
        except MissingError as unwritten:
            error = unwritten
    ui.show_error(error)
    if error.where == failures.OUTPUT:
        _drop_output()
    return error.exit_code


def _usage(error: Any, as_json: bool) -> UsageError:
    """An error of the command line as typer words it."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else program.name()
    message = error.format_message()
    if context is not None and message == context.get_help():  # a group without a command
        names = ", ".join(context.command.list_commands(context))
        if not as_json:
            from builder import ui

            for line in message.splitlines():
                ui.say(line)
        return UsageError(f"{path}: which command?", expected=names, hint=f"{path} --help")
    return UsageError(message, hint=f"{path} --help")
