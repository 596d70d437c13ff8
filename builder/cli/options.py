"""What the commands share: their options, a session, and how a result is printed."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.views import Found, View

if TYPE_CHECKING:
    from builder.errors import BakeError
    from builder.workflows.session import Result, Session


@dataclass
class Globals:
    """What stands before the sub-command."""

    home: Path | None = None
    quiet: bool = False
    streaming: bool = False
    """Results are printed one JSON document a line: an error is the last line."""


GLOBALS = Globals()

Json = Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")]
ModeOption = Annotated[str | None, typer.Option("--mode", help="native, docker-cpu or docker-gpu.")]
VariantOption = Annotated[str | None, typer.Option("--variant", help="slim (no PyTorch) or full.")]
PresetOption = Annotated[
    str | None, typer.Option("--preset", help="starter, fast, balanced, high, premium or tiny-en.")
]
ModelsOption = Annotated[str | None, typer.Option("--models", help="Model ids in place of the preset's: a,b")]
LanguagesOption = Annotated[
    str | None, typer.Option("--languages", help="ISO 639-1 codes, a model of alignment for each: en,es")
]
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
NoBuild = Annotated[bool, typer.Option("--no-build", help="Images that are missing are an error.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="cpu or cuda. Default: what is here.")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, max=512, help="Default: one a core.")]
BatchOption = Annotated[int | None, typer.Option("--batch-size", min=0, max=128, help="0: one window after the other.")]


def opened(**overrides: object) -> AbstractContextManager[Session]:
    from builder.workflows.session import open_session

    return open_session(home=GLOBALS.home, quiet=GLOBALS.quiet, env=os.environ, start=Path.cwd(), overrides=overrides)


def print_json(data: Any, *, compact: bool = False) -> None:
    """One JSON document on standard output; ``compact``: on one line, as part of a stream."""
    import json

    print(json.dumps(data, indent=None if compact else 2, ensure_ascii=False, default=vars), flush=compact)


def show(as_json: bool, view: View[Found], found: Found, *, failure: BakeError | None = None) -> None:
    """Print a result: JSON for scripts, otherwise lines for people, both on standard output.

    Args:
        failure: what failed although there is a result, such as a check that found differences. In JSON it is the
            result's ``error``.

    Raises:
        BakeError: ``failure``, after the result is printed.
    """
    if as_json:
        print_json(_with_error(view.data(found), failure))
    elif text := view.text(found):
        print(text)
    if failure is not None:
        raise failure


def show_again(as_json: bool, view: View[Found], found: Found) -> None:
    """Print one of several results in a row: a JSON line, a screen that is drawn again, or lines in a pipe."""
    if as_json:
        GLOBALS.streaming = True
        print_json(view.data(found), compact=True)
    else:
        clear = "\x1b[H\x1b[2J\x1b[3J" if sys.stdout.isatty() else ""
        print(f"{clear}{view.text(found)}", flush=True)


def _with_error(data: Any, failure: BakeError | None) -> Any:
    if failure is None:
        return data
    if not isinstance(data, dict):
        return data
    from builder import ui

    failure.in_result = True
    return {**data, **ui.error_data(failure)}


def emit(as_json: bool, result: Result) -> None:
    """The result: JSON for scripts, else lines for people. Both on standard output."""
    if as_json:
        print_json(_with_error(result.data, result.failure))
    elif result.text:
        print(result.text)
    if result.failure is not None:
        raise result.failure


def emit_again(as_json: bool, result: Result) -> None:
    """One of several results in a row: a JSON line, a screen that is drawn anew, or lines in a pipe."""
    if as_json:
        GLOBALS.streaming = True
        print_json(result.data, compact=True)
    else:
        clear = "\x1b[H\x1b[2J\x1b[3J" if sys.stdout.isatty() else ""
        print(f"{clear}{result.text}", flush=True)


def emit_line(as_json: bool, name: str, line: str, *, alone: bool) -> None:
    """One line of a log, with the stage's name unless it is the only one."""
    if as_json:
        GLOBALS.streaming = True
        print_json({"stage": name, "line": line}, compact=True)
    else:
        print(line if alone else f"{name:<9} | {line}", flush=True)
