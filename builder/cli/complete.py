"""What a shell asks while somebody types: typer's own answers, for the commands as they are built here."""

from __future__ import annotations

from typing import Any

from builder.errors import BakeError

PROGRAM = "whisperbake"
VARIABLE = "_WHISPERBAKE_COMPLETE"
"""Set by the shell's script when it asks."""


def script(shell: str) -> str:
    """What a shell has to read.

    Args:
        shell: bash, zsh or fish.
    """
    from typer import completion

    made = completion.get_completion_script(  # type: ignore[attr-defined] # typer prints it, and shares it by this name
        prog_name=PROGRAM, complete_var=VARIABLE, shell=shell
    )
    return str(made)


def answer(root: Any, instruction: str) -> int:
    """Print the words that fit what was typed so far; the exit code. A line that makes no sense has none.

    Args:
        root: the tree of commands.
        instruction: what the script put into :data:`VARIABLE`.
    """
    from typer import completion

    completion.get_completion_inspect_parameters()  # typer registers its shells there
    try:
        return completion.shell_complete(root, {}, PROGRAM, VARIABLE, instruction)
    except BakeError:
        return 0
