"""The documents name what there is: files that exist, and every dependency with its reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from builder import errors
from builder.core.config.defaults import ENVIRONMENT, PLACES
from builder.core.stage_env import INHERITED, stage_environment
from builder.views import rights
from tests.unit.test_cli import COMMANDS
from tests.unit.test_docs_commands import commands_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()
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
    assert named - used == {"BAKE_PRESETT"}  # the mistyped one that docs/variables.md shows


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index] == ["README.md"]


def test_the_readme_has_every_command() -> None:
    """In its table, as ``build.py jobs list\\|show``."""
    table = re.findall(r"^\| (`build\.py.*?) \| ", README, re.MULTILINE)
    named = [word.removeprefix("build.py").split() for row in table for word in re.findall(r"`([^`]*)`", row)]
    said = {words for name in named for words in commands_of([word.replace("\\|", "|") for word in name])}
    assert [" ".join(words) for words in COMMANDS if words not in said] == []


def test_the_readme_has_every_preset_and_its_model() -> None:
    shown = dict(re.findall(r"^\| `([a-z-]+)`[^|]* \| ([^|]+) \|", README.partition("## Presets")[2], re.MULTILINE))
    presets = yaml.safe_load((ROOT / "bake.yaml").read_text())["presets"]
    real = {name: preset["models"]["asr"] for name, preset in presets.items() if name != "tiny-en"}  # the tests'
    assert real.items() <= shown.items()


def test_the_documents_have_every_exit_code_and_every_kind_of_error() -> None:
    """README.md names the codes; docs/json.md the words of ``error.code``."""
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BakeError)}
    listed = re.findall(r"(\d+) \w", README.partition("Exit codes:")[2].partition(".")[0])
    assert {int(code) for code in listed} == {0, *(kind.exit_code for kind in kinds)} - {1}
    row = re.search(r"^\| `error\.code` .*", (ROOT / "docs/json.md").read_text(), re.MULTILINE)
    assert row is not None
    assert {kind.kind for kind in kinds} <= set(re.findall(r"`(\w+)`", row[0]))


def test_the_environment_of_a_stage_is_as_documented() -> None:
    """docs/offline.md has each variable that a stage gets, and those that it takes over."""
    page = (ROOT / "docs/offline.md").read_text()
    given = stage_environment(models="M", scratch="scratch", threads=2, inherit={})
    rows = re.findall(r"^\| ([A-Z_, ]+) \|", page, re.MULTILINE)
    assert sorted(name for names in rows for name in names.split(", ")) == sorted(given)
    assert [name for name in (*INHERITED, "LC_*") if name not in page.rpartition("|")[2]] == []


def test_the_rights_of_a_container_are_as_documented() -> None:
    """docs/security.md has the table as the code makes it."""
    page = (ROOT / "docs/security.md").read_text()
    assert rights.replaced(page) == page, "make rights"


def test_every_state_of_a_job_is_explained() -> None:
    """docs/jobs.md, as the list of jobs names them."""
    paragraph = (ROOT / "docs/jobs.md").read_text().partition("**States**")[2].partition("\n\n")[0]
    source = (ROOT / "builder/edges/jobs/listing.py").read_text()
    states = set(re.findall(r"[a-z]+", re.sub(r"\(.*?\)", "", source.partition("state: str")[2].split('"""')[1])))
    assert sorted(states - {"or"} - set(re.findall(r"[a-z]+", paragraph))) == []
