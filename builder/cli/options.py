"""What the commands share: their options, a session, and how a result is printed."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    debug: bool = False


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


def show(as_json: bool, view: View[Found], found: Found, *, failure: BakeError | None = None) -> None:
    """Print a result: JSON for scripts, else lines for people, both on standard output; then raise what failed."""
    if as_json:
        import json

        print(json.dumps(view.data(found), indent=2, ensure_ascii=False, default=vars))
    elif text := view.text(found):
        print(text)
    if failure is not None:
        failure.in_result = as_json
        raise failure


def emit(as_json: bool, result: Result) -> None:
    """The result: JSON for scripts, else lines for people. Both on standard output."""
    if as_json:
        import json

        print(json.dumps(result.data, indent=2, ensure_ascii=False))
    elif result.text:
        print(result.text)
    if result.failure is not None:
        result.failure.in_result = as_json
        raise result.failure


def emit_again(as_json: bool, result: Result) -> None:
    """One of several results in a row: a JSON line, a screen that is drawn anew, or lines in a pipe."""
    if as_json:
        import json

        print(json.dumps(result.data, ensure_ascii=False), flush=True)
    else:
        clear = "\x1b[H\x1b[2J\x1b[3J" if sys.stdout.isatty() else ""
        print(f"{clear}{result.text}", flush=True)


def emit_line(as_json: bool, name: str, line: str, *, alone: bool) -> None:
    """One line of a log, with the stage's name unless it is the only one."""
    if as_json:
        import json

        print(json.dumps({"stage": name, "line": line}, ensure_ascii=False), flush=True)
    else:
        print(line if alone else f"{name:<9} | {line}", flush=True)
