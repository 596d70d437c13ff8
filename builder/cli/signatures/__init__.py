"""Options of the commands that sign, and the command that checks what is signed: verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.options import Json, opened, show
from builder.errors import UsageError

app = typer.Typer(rich_markup_mode=None)

SignOption = Annotated[
    Path | None,
    typer.Option("--sign", metavar="KEY", help="Sign with this private key, made by bundle keys."),
]
SignWithOption = Annotated[
    str | None,
    typer.Option(
        "--sign-with",
        metavar="COMMAND",
        help="Gets bytes on standard input, prints their signature: for a key in hardware. KEY is the public one then.",
    ),
]


def required_key(key: Path | None, command: str | None) -> str | None:
    """The command that signs. Raises UsageError: nothing says with which key it does."""
    if command is not None and key is None:
        raise UsageError(
            "--sign-with needs the public key, to check what the command makes",
            where="--sign-with",
            hint="--sign KEY.pub.pem --sign-with COMMAND",
        )
    return command


@app.command()
def verify(
    name: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE|BUNDLE|JOB|FILE",
            help="An image of the layout or the engine, a bundle's folder, a job, a file that a job made, or a model's .sig.",
        ),
    ],
    key: Annotated[
        Path | None, typer.Option("--key", help="The public key that has to have signed it, or a job's images.")
    ] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Run the job again, elsewhere, and compare bytes.")] = False,
    json: Json = False,
) -> None:
    """Check bytes, signatures and what things were made of, without a network. Exit 5 where something differs.

    \b
    Examples:
      python3 build.py verify bake-asr --key sender.pub.pem
      python3 build.py verify interview.srt --replay
    """
    from builder.views.signatures import VERIFY
    from builder.workflows.signatures import verify as work

    with opened() as session:
        found = work.verify(session, name, key=key, replay=replay)
    show(json, VERIFY, found, failure=found.failure)
