"""The documents name what there is: files that exist, and every dependency with its reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = "builder|stages|images|templates|compose|requirements|tests|bench|docs|examples"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    """After a move nobody is sent to a place that is gone."""
    text = page.read_text()
    named = set(re.findall(rf"(?<![\w/.~-])(?:{FOLDERS})/[\w.-]+(?:/[\w.-]+)*", text))
    named |= {f"builder/{path}" for path in re.findall(r"`((?:cli|views|workflows|edges|core)/[\w/]+\.py)`", text)}
    linked = {str((page.parent / link).relative_to(ROOT)) for link in re.findall(r"\]\(([\w./-]+)\)", text)}
    missing = sorted(path for path in named | linked if not (ROOT / path.rstrip(".")).exists())
    assert missing == []


def test_every_dependency_has_its_reason() -> None:
    """docs/dependencies.md has a row for each library of pyproject.toml."""
    project = (ROOT / "pyproject.toml").read_text()
    lists = re.findall(r"^(?:dependencies|dev) = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert len(lists) == 2
    names = [name.lower() for text in lists for name in re.findall(r'^    "([A-Za-z0-9_.-]+)', text, re.MULTILINE)]
    assert len(names) > 30
    rows = re.findall(r"^\| ([\w, -]+) \|", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE)
    explained = {name.strip().lower() for row in rows for name in row.split(",")}
    assert [name for name in names if name not in explained] == []
