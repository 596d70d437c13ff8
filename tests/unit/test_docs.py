"""The documents name what there is: files that exist, and every dependency with its reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from builder.core.config.defaults import ENVIRONMENT, PLACES

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


def test_every_variable_is_explained() -> None:
    """docs/variables.md has each BAKE_ variable that the code names, and its setting; no page names another."""
    code = [p for folder in ("builder", "stages", "templates", "compose") for p in (ROOT / folder).rglob("*.*")]
    texts = [p.read_text() for p in code if p.suffix in (".py", ".j2", ".yaml")]
    used = {name for text in texts for name in re.findall(r"\bBAKE_[A-Z]+(?:_[A-Z]+)*\b", text)} | {
        *ENVIRONMENT,
        *PLACES,
    }
    rows = re.findall(r"^\| (BAKE_[^|]+) \|([^|]*)\|", (ROOT / "docs/variables.md").read_text(), re.MULTILINE)
    explained = {name: setting.strip() for names, setting in rows for name in names.split(", ")}
    assert set(explained) == used
    assert {name: f"`defaults.{field}`" for name, field in ENVIRONMENT.items()}.items() <= explained.items()
    named = {name for page in PAGES for name in re.findall(r"\bBAKE_[A-Z]+(?:_[A-Z]+)*\b", page.read_text())}
    assert named <= used


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index] == ["README.md"]
