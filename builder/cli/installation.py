"""Commands about this program itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from builder.cli.options import Json, opened, show
from builder.errors import UsageError, did_you_mean
from builder.program import command

app = typer.Typer(rich_markup_mode=None)
self_app = typer.Typer(rich_markup_mode=None)

SHELLS = ("bash", "zsh", "fish")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Made if it isn't there. Default: here.")] = Path(),
    json: Json = False,
) -> None:
    """Make a project: bake.yaml with comments, the catalogue, its pins, .gitignore. Changes no file that is there.

    Example: python3 build.py init interviews
    """
    from builder.views import installation as views
    from builder.workflows import installation

    with opened():
        made = installation.init(folder)
    show(json, views.INIT, made)


@app.command()
def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")], json: Json = False
) -> None:
    """Print what makes a shell complete the commands and options of an installed whisperbake.

    \b
    Examples:
      whisperbake completion bash > ~/.local/share/bash-completion/completions/whisperbake
      whisperbake completion zsh > "${fpath[1]}/_whisperbake"
      whisperbake completion fish > ~/.config/fish/completions/whisperbake.fish
    """
    from builder.cli.complete import script
    from builder.views import installation as views
    from builder.workflows.installation import ShellCompletion

    with opened():
        if shell not in SHELLS:
            raise UsageError(
                f'no completion for "{shell}"', expected=", ".join(SHELLS), hint=did_you_mean(shell, SHELLS)
            )
    show(json, views.COMPLETION, ShellCompletion(shell=shell, script=script(shell)))


@self_app.command("status")
def status(json: Json = False) -> None:
    """This program's version and place, and its state: folders, models, environments, jobs, with sizes.

    Example: python3 build.py self status
    """
    from builder.views import installation as views
    from builder.workflows import installation

    with opened() as session:
        found = installation.status(session)
    show(json, views.STATUS, found)


@self_app.command("uninstall")
def uninstall(
    jobs: Annotated[bool, typer.Option("--jobs", help="The jobs with their results, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: Json = False,
) -> None:
    """Remove this program's state: models, environments, layers, caches. Jobs stay. Says what removes the program.

    Example: python3 build.py self uninstall --dry-run
    """
    from builder.views import installation as views
    from builder.workflows import installation

    with opened() as session:
        found = installation.uninstall(session, jobs=jobs, dry_run=True)
        if not dry_run:
            if found.removed and not yes:
                _ask(views.UNINSTALL.text(found))
            found = installation.uninstall(session, jobs=jobs, dry_run=False)
    show(json, views.UNINSTALL, found)


def _ask(what: str) -> None:
    """Go on only if somebody at the terminal agrees.

    Raises:
        UsageError: nobody can be asked.
    """
    from builder import ui

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "this removes files for good, and there is no terminal to ask at",
            hint=f"{command('self uninstall --dry-run')} shows them; --yes removes them",
        )
    ui.say(what)
    typer.confirm("Remove all that?", default=False, abort=True, err=True)
