"""A project that was checked is read back as it was, without pydantic; a changed file, or code, is checked again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from builder.core.config.parse import read
from builder.edges.machine import project, project_cache
from builder.errors import ConfigError
from tests import small_project

ROOT = Path(__file__).resolve().parents[2]


def texts(root: Path) -> dict[str, str]:
    names = ["bake.yaml", "models.yaml", "models.lock"]
    names += [p.relative_to(root).as_posix() for p in (*root.glob("stages/*/stage.yaml"), *root.glob("images/*.yaml"))]
    return {name: (root / name).read_text(encoding="utf-8") for name in names}


def test_everything_comes_back_as_it_was() -> None:
    checked = read(texts(ROOT))
    assert project_cache.unpack(json.loads(json.dumps(project_cache.pack(checked)))) == checked


def test_a_second_command_needs_no_pydantic_and_a_changed_file_is_checked(tmp_path: Path) -> None:
    root = small_project.make(tmp_path, {}, fill=False)
    (root / ".bake").mkdir()
    first = project.load(root, env={})
    assert (root / ".bake/cache/project.json").stat().st_mode & 0o777 == 0o600
    code = (
        "import sys; from pathlib import Path; from builder.edges.machine import project;"
        f"print(project.load(Path({str(root)!r}), env={{}}).defaults.preset, 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{first.defaults.preset} False\n"
    assert project.load(root, env={}) == first
    (root / "bake.yaml").write_text("defaults: {modee: native}\n")
    with pytest.raises(ConfigError):
        project.load(root, env={})


@pytest.mark.parametrize(
    "text", ["", "[]", '{"key": "k"}', '{"key": "k", "project": ["Popen", {}]}', '{"key": "k", "project": 3}']
)
def test_a_record_that_is_broken_or_names_another_type_is_not_used(text: str, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/project.json").write_text(text)
    assert project_cache.load(tmp_path, "k") is None


def test_a_command_that_only_asks_makes_no_state_folder(tmp_path: Path) -> None:
    root = small_project.make(tmp_path, {}, fill=False)
    project.load(root, env={})
    assert not (root / ".bake").exists()
