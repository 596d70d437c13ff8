"""The commands' names. Only the one that was typed is imported and built: all of them take longer than most checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from builder import program
from builder.errors import UsageError, did_you_mean

Build = Callable[[], Any]
"""Makes a command or a group of commands."""

TOP: Mapping[str, tuple[str, str]] = {
    "build": ("images", "Set up what a mode needs, build its images, and say what is there."),
    "plan": ("images", "What a build would make: images, layers, models, estimated sizes. Touches no engine."),
    "render": ("images", "Write the Dockerfile, docker-bake.json and what they need, for plain docker buildx bake."),
    "images": (
        "images",
        "The images here: sizes unpacked, what others share, whether they are up to date; or their papers.",
    ),
    "rollback": (
        "images",
        "Go back to the images of an earlier build, all of a mode's at once, and stay there until the next one.",
    ),
    "prune": (
        "images",
        "Free what no image and no job needs: blobs, recipes, images, what killed builds left, old answers.",
    ),
    "push": (
        "registry",
        "Send built images with their papers to a registry: only what it lacks, from where an earlier push broke off.",
    ),
    "verify": (
        "signatures",
        "Check bytes, signatures and what things were made of, without a network. Exit 5 where something differs.",
    ),
    "pull": (
        "registry",
        "Bring pushed images into the engine of a machine that builds nothing: only what it lacks, checked by digest.",
    ),
    "ci": (
        "registry",
        "Write a pipeline that checks the rendered folder, builds with a cache in the registry, and pushes.",
    ),
    "prepare": ("jobs", "Make a job of recordings, without running it. In a container mode with its compose.yaml."),
    "preflight": (
        "jobs",
        "Check that a job can run here. Cached for 24 hours, or until something it looked at changes.",
    ),
    "run": ("jobs", "Transcribe recordings, or resume jobs. Sets up what is missing first."),
    "compare": ("jobs", "Run several presets on the same recordings: time, memory, errors, and where they disagree."),
    "metadata": (
        "machine",
        "What files, their names and two services say: title, year, cast. Nothing is asked without --online.",
    ),
    "settings": ("machine", "The stages' settings: what each may be, is, and does. The profiles."),
    "bootstrap": ("machine", "Set up this machine: environment, hardware, models."),
    "hardware": ("machine", "What this machine has, and what that recommends. Cached for an hour."),
    "init": (
        "installation",
        "Make a project: bake.yaml with comments, the catalogue, its pins, .gitignore. Changes no file that is there.",
    ),
    "completion": (
        "installation",
        "Print what makes a shell complete the commands and options of an installed whisperbake.",
    ),
    "doctor": ("machine", "Check everything that a job or a build needs, and say what to do about what is missing."),
}
"""Commands without a group -> module below builder.cli, and the first line of the help."""

GROUPS: Mapping[str, tuple[str, str, str]] = {
    "models": ("weights", "app", "The weights: list, fetch, verify, lock, serve…"),
    "jobs": ("jobs", "jobs_app", "The jobs on this machine."),
    "batch": ("batch", "app", "Thousands of recordings: a plan that Kubernetes, Slurm or HTCondor works through."),
    "subtitles": ("jobs", "subtitles_app", "Subtitle files, also those of others: check."),
    "voices": ("machine", "voices_app", "Known voices: people whom jobs name by how they sound."),
    "glossary": ("machine", "glossary_app", "Glossaries: what jobs teach."),
    "bundle": ("bundle", "app", "Bundles for machines without a network."),
    "self": ("installation", "self_app", "This program: what it keeps where, and how to be rid of it."),
    "layout": ("images", "layout_app", "The OCI layout that images are made from."),
}
"""Groups -> module below builder.cli, its Typer, and the help."""

EVERYWHERE = ("home", "quiet", "debug", "version", "help")
"""Options before the verb that every command has: they are the session's."""


class LazyCommands(MutableMapping[str, Any]):
    """Commands by name, each built when it is asked for."""

    def __init__(self, builders: Mapping[str, Build]) -> None:
        self._builders = builders
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            self._built[name] = self._builders[name]()
        return self._built[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._built[name] = command

    def __delitem__(self, name: str) -> None:
        raise TypeError("commands are not removed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._builders)

    def __len__(self) -> int:
        return len(self._builders)


class LazyGroup(TyperGroup):
    """A group that builds one command, and gives it the options that stand before its name."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, without building anything."""
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that was typed; the options before it become its defaults, so the ones after it win."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not isinstance(command, TyperGroup):
            ctx.default_map = {name: _handed_down(ctx, f"{ctx.command_path} {name}", command)}
        return name, command, rest


class RootGroup(LazyGroup):
    """``build.py`` itself: its help has the first lines of :data:`TOP` and :data:`GROUPS`."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.help = _named(self.help)
        builders: dict[str, Build] = {name: _top(name, module) for name, (module, _) in TOP.items()}
        builders |= {name: _group(name, module, app, text) for name, (module, app, text) in GROUPS.items()}
        self.commands = LazyCommands(builders)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of commands in the help, without building them."""
        lines = {name: text for name, (_, text) in TOP.items()} | {name: text for name, (_, _, text) in GROUPS.items()}
        commands: Any = {
            name: TyperCommand(name=name, help=text, rich_markup_mode=None) for name, text in lines.items()
        }
        TyperGroup(name=self.name, commands=commands, rich_markup_mode=None).format_commands(ctx, formatter)


def _top(name: str, module: str) -> Build:
    return lambda: _single(import_module(f"builder.cli.{module}").app, name)


def _group(name: str, module: str, app: str, text: str) -> Build:
    def build() -> LazyGroup:
        source: typer.Typer = getattr(import_module(f"builder.cli.{module}"), app)
        group = LazyGroup(name=name, help=text, no_args_is_help=True, rich_markup_mode=None)
        group.commands = LazyCommands({command: _member(source, command) for command in _names(source)})
        return group

    return build


def _member(app: typer.Typer, name: str) -> Build:
    return lambda: _single(app, name)


def _names(app: typer.Typer) -> dict[str, Any]:
    """The names of an application's commands, and what each is made of."""
    return {str(info.name or getattr(info.callback, "__name__", "")): info for info in app.registered_commands}


def _single(app: typer.Typer, name: str) -> Any:
    """One command of an application, built alone."""
    alone = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    alone.registered_commands.append(_names(app)[name])
    command = typer.main.get_command(alone)
    command.name = name
    command.help = _named(command.help)
    return command


def _named(text: str | None) -> str | None:
    """A help text with this program's name as the user typed it."""
    return text and text.replace(program.LAUNCHER, program.name())


def _handed_down(context: Any, path: str, command: Any) -> dict[str, Any]:
    """The options before a command's name, for the command.

    Raises:
        UsageError: the command doesn't have one of them.
    """
    before = {
        name: value
        for name, value in context.find_root().params.items()
        if name not in EVERYWHERE and value is not None and value is not False
    }
    options = {parameter.name: parameter.opts for parameter in command.params if parameter.param_type_name == "option"}
    for name in before:
        if name not in options:
            words = [word for opts in options.values() for word in opts if word.startswith("--")]
            raise UsageError(
                f"{path} has no option --{name}",
                where=f"--{name}",
                expected=", ".join(sorted(words)),
                hint=did_you_mean(f"--{name}", words) or f"leave --{name} out; {path} --help",
            )
    return before
