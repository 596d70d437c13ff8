"""The options of where recordings come from, and where results go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from builder.core.jobs.naming import CopyOptions
    from builder.edges.jobs.sources import InputOptions

OutputOption = Annotated[
    Path | None, typer.Option("--output", metavar="DIR", help="Copy the results into this folder, made if need be.")
]
BesideOption = Annotated[bool, typer.Option("--beside", help="Copy the results to where each recording lies.")]
NameOption = Annotated[
    str | None,
    typer.Option("--name", metavar="PATTERN", help="Of copies: {stem}.{language}.{ext}; also {preset}, {number}."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Copies replace files of the same name.")]
RecursiveOption = Annotated[bool, typer.Option("--recursive", help="Of a folder, the folders in it too.")]
StdinNameOption = Annotated[
    str | None, typer.Option("--stdin-name", metavar="NAME", help="What the recording - (standard input) is called.")
]
AllowUrlOption = Annotated[
    list[str] | None, typer.Option("--allow-url", metavar="HOST", help="Fetch recordings from addresses of this host.")
]
AllowUrlsOption = Annotated[bool, typer.Option("--allow-urls", help="Fetch recordings from any public host.")]


@dataclass(frozen=True, kw_only=True)
class PlacesOptions:
    """The options of where recordings come from, and where results go."""

    output: OutputOption = None
    beside: BesideOption = False
    name: NameOption = None
    overwrite: OverwriteOption = False
    recursive: RecursiveOption = False
    stdin_name: StdinNameOption = None
    allow_url: AllowUrlOption = None
    allow_urls: AllowUrlsOption = False

    def inputs(self) -> InputOptions:
        """How the words of the command are read."""
        from builder.edges.jobs.sources import InputOptions

        return InputOptions(
            recursive=self.recursive,
            stdin_name=self.stdin_name or "recording",
            hosts=tuple(self.allow_url or ()),
            any_host=self.allow_urls,
        )

    def delivery(self) -> CopyOptions | None:
        """Where copies of results go; None when none are wanted.

        Raises:
            UsageError: both places, neither place but a name, or a name that can't be.
        """
        from builder.core.jobs.naming import CopyOptions, check_pattern
        from builder.edges.system import files
        from builder.errors import UsageError

        if self.output is not None and self.beside:
            raise UsageError("--output and --beside are two places", hint="leave one of them out")
        if self.output is None and not self.beside:
            if self.name is not None or self.overwrite:
                flag = "--overwrite" if self.name is None else "--name"
                raise UsageError(f"{flag} is about copies of results", hint="add --output DIR or --beside")
            return None
        return CopyOptions(
            folder=None if self.output is None else files.expanded(self.output).absolute(),
            pattern=None if self.name is None else check_pattern(self.name),
            overwrite=self.overwrite,
        )


NO_PLACES = PlacesOptions()
