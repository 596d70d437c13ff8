"""What --json prints has a schema: written down, held by a version, and true of what commands print."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError
from typing_extensions import NotRequired, TypedDict

from builder import cli
from builder.views import View, schemas
from builder.views.machine import HARDWARE
from tests import small_project
from tests.unit.test_cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "tests/golden/json_shapes.json"

VIEWS = schemas.all_views()


def sections(text: str) -> dict[str, str]:
    """docs/json.md by command."""
    parts = text.split("\n## ")[1:]
    return {part.split("\n", 1)[0]: part.rstrip() for part in parts}


def test_the_page_is_what_the_types_say() -> None:
    page, made = (ROOT / "docs/json.md").read_text(), schemas.document()
    assert page.split("\n## ")[0] == made.split("\n## ")[0]
    written, now = sections(page), sections(made)
    changed = [command for command, text in written.items() if now.get(command) != text]
    assert changed == [], "make json writes docs/json.md"


def test_a_shape_changes_only_with_its_version() -> None:
    """The record has each shape as it was published."""
    record = json.loads(RECORD.read_text())
    now = schemas.recorded(record)
    assert {command: now.get(command) for command in record} == record, "make json records what was added"


def test_every_key_says_what_it_means() -> None:
    silent = [
        f"{command}: {path}" for command, view in VIEWS.items() for path, _, about in schemas.rows(view) if not about
    ]
    assert [key for key in silent if not key.endswith("*")] == []


def test_every_view_is_of_a_command() -> None:
    commands = {" ".join(words) for words in COMMANDS}
    assert [c for c in VIEWS if not any(c == known or c.startswith(f"{known} -") for known in commands)] == []


def test_every_command_has_a_view() -> None:
    """Its JSON is written down, so that a script can rely on it."""
    shown = {command.split(" -")[0] for command in VIEWS}
    assert {" ".join(words) for words in COMMANDS} - shown == set()


class Inner(TypedDict):
    """One."""

    name: str
    """Its name."""


class Outer(TypedDict):
    """Many."""

    inner: list[Inner]
    """All of them."""
    count: NotRequired[int]
    """How many."""
    by_id: dict[str, Inner]
    """Again, by id."""
    note: str | None
    """What there is to say, in ``words`` | or not."""


def view(shape: object, version: int = 1) -> View[object]:
    return View(command="x", shape=shape, data=lambda found: found, lines=lambda found: [str(found)], version=version)


def test_a_shape_is_listed_key_by_key() -> None:
    assert schemas.rows(view(Outer)) == [
        ("inner", "list of object", "All of them."),
        ("inner[].name", "string", "Its name."),
        ("count", "integer, may be absent", "How many."),
        ("by_id", "object", "Again, by id."),
        ("by_id.*", "object", "One."),
        ("by_id.*.name", "string", "Its name."),
        ("note", "string or null", "What there is to say, in ``words`` | or not."),
    ]
    assert schemas.rows(view(list[Inner])) == [("[].name", "string", "Its name.")]


class Larger(Inner):
    """One, and its size."""

    size: int
    """Bytes."""


def test_a_shape_that_extends_another_keeps_what_its_keys_mean() -> None:
    assert schemas.rows(view(list[Larger])) == [
        ("[].name", "string", "Its name."),
        ("[].size", "integer", "Bytes."),
    ]


def test_a_key_that_no_schema_has_is_refused() -> None:
    good = {"inner": [{"name": "a"}], "by_id": {}, "note": None}
    schemas.adapter(Outer).validate_python(good)
    with pytest.raises(ValidationError):
        schemas.adapter(Outer).validate_python({**good, "extra": 1})
    with pytest.raises(ValidationError):
        schemas.adapter(Outer).validate_python({**good, "inner": [{"name": "a", "extra": 1}]})


@pytest.mark.parametrize(
    ("before", "version", "refused"),
    [
        ({"hardware": "object", "gone": "string"}, 1, "hardware: gone changed: its View needs version 2"),
        ({"hardware": "string"}, 1, "hardware: hardware changed: its View needs version 2"),
        ({"hardware": "object"}, 2, "hardware:  changed: its View needs version 3"),
        ({"hardware": "string"}, 0, ""),
        ({"hardware": "object"}, 1, ""),
    ],
)
def test_a_record_is_not_overwritten_by_a_changed_shape(before: dict[str, str], version: int, refused: str) -> None:
    """Removed, changed, a lower version; a higher version and an added key are fine."""
    record = {"hardware": {"version": version, "keys": before}}
    if refused:
        with pytest.raises(ValueError, match=refused):
            schemas.recorded(record)
    else:
        assert schemas.recorded(record)["hardware"] == {"version": 1, "keys": schemas.shape_of(HARDWARE)}


@pytest.mark.parametrize(
    "line",
    [
        "hardware",
        "doctor",
        "jobs list",
        "models list",
        "models verify",
        "models prune --dry-run",
    ],
)
def test_what_a_command_prints_is_what_its_schema_says(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a project of its own, without an engine or a network."""
    monkeypatch.chdir(small_project.make(tmp_path, {}, fill=False))
    for name in ("requirements", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, dirs_exist_ok=True)
    words = line.split()
    name = next(c for c in sorted(VIEWS, key=len, reverse=True) if line.startswith(c))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    assert cli.main([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    schemas.adapter(VIEWS[name].shape).validate_python(printed)


def test_dataclasses_of_core_become_objects(capsys: pytest.CaptureFixture[str]) -> None:
    """A view may hand a dataclass on: JSON has its fields."""
    from builder.cli.options import print_json

    @dataclasses.dataclass
    class Point:
        x: int

    print_json({"at": Point(3)}, compact=True)
    assert capsys.readouterr().out == '{"at": {"x": 3}}\n'


def test_the_module_prints_the_page_and_one_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert schemas.main([]) == 0
    assert capsys.readouterr().out == schemas.document()
    assert schemas.main(["hardware"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "HardwareJson"
