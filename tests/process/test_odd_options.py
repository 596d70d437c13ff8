"""Every command with every option it has, alone and together, with odd values: each way ends in words, none in a bug."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from builder import cli
from builder.cli.commands import LazyGroup
from builder.edges.machine import project_cache
from builder.errors import MissingError
from tests import small_project
from tests.small_project import Small

ODD = ("x", "", "base", "ours", "~nobody/x", "a,b", "\x1b[31m", "..", "0", "-1", "99999999", "é" * 300)
"""Words for options and arguments that take any: models, what only looks like one, what no file can be called."""


MOST = 5
"""Options of which all pairs are tried: each line costs as much as a command's start."""

MANY = 4
"""Options and arguments above which each gets two of the values, another two than its neighbour."""


def walk(group: LazyGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in group.commands:
        command = group.commands[name]
        if isinstance(command, LazyGroup):
            yield from walk(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(walk(typer.main.get_command(cli.app)))  # type: ignore[arg-type]


def lines(words: tuple[str, ...]) -> Iterator[list[str]]:
    """Command lines: each option and argument with each value, all options at once, pairs, all flags at once."""
    parameters = [p for p in COMMANDS[words].params if p.name not in ("json", "help")]
    needed = [p for p in parameters if p.required]

    def given(parameter: Any, value: str) -> list[str]:
        if parameter.param_type_name == "argument":
            return [value]
        return [parameter.opts[0]] if parameter.is_flag else [parameter.opts[0], value]

    def rest(*without: Any) -> list[str]:
        return [word for p in needed if p not in without for word in given(p, "x")]

    few = len(parameters) > MANY
    for number, parameter in enumerate(parameters):
        flag = getattr(parameter, "is_flag", False)
        some = [ODD[(number + k * 5) % len(ODD)] for k in range(2)] if few else ODD
        for value in ("",) if flag else some:
            yield [*given(parameter, value), *rest(parameter)]
    options = [p for p in parameters if p.param_type_name == "option"]
    for value in ODD:
        yield [word for p in options for word in given(p, value)] + rest(*options)
    for one, other in itertools.combinations(options if len(options) <= MOST else options[:MOST], 2):
        yield [*given(one, "base"), *given(other, "base"), *rest(one, other)]
    yield [word for p in options if p.is_flag for word in given(p, "")] + rest()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Inside a project with a model, no engine, no hub; nothing is installed, and what would wait for ever ends."""
    root = small_project.make(tmp_path / "p", {"ours": Small(entry="hub: org/m", files={"model.bin": b"x" * 100})})
    monkeypatch.setenv("BAKE_JOBS", str(tmp_path / "jobs"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    # Nothing outside the test's own folder is found, edited or uninstalled.
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.setenv(name, "false")
    monkeypatch.chdir(root)

    # What was read of the project is kept by tests/conftest.py; a file of it would be read for each line.
    monkeypatch.setattr(project_cache, "load", lambda *_: None)
    monkeypatch.setattr(project_cache, "save", lambda *_: None)

    def refuse(*_: object, **__: object) -> None:
        raise MissingError("the test installs nothing")

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("builder.edges.machine.environment.ensure", refuse)
    monkeypatch.setattr("builder.edges.weights.serve.run", refuse, raising=False)
    monkeypatch.setattr(time, "sleep", interrupt)
    return root


@pytest.mark.parametrize("words", [pytest.param(words, id=" ".join(words)) for words in COMMANDS])
def test_no_line_ends_in_a_bug(words: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is typed, the command does it or says in its own words why not; `models lock --update base` was a bug."""
    for line in lines(words):
        capsys.readouterr()
        code = cli.main([*words, *line, "--json"])
        out = capsys.readouterr().out
        for document in filter(None, [out] if code else []):
            text = document if document.lstrip().startswith("{") else "{}"
            try:
                said = json.loads(text)
            except ValueError:
                said = json.loads(text.splitlines()[-1])
            assert said.get("error", {}).get("code") != "bug", (line, said)
        assert code in (*range(9), 130), (line, code)
