"""A project that is found runs as the caller: it is the caller's own, or it is named."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from builder.bootstrap.modules import run_module
from builder.edges.machine import project
from builder.edges.system import shell
from builder.errors import UsageError

ROOT = Path(__file__).parents[2]
OTHER = 54_321
"""A user that isn't this one."""

CODE = ("stages", "stages/asr", "stages/asr/stage.yaml", "stages/asr/main.py", "templates/x.j2", "images/base.yaml")
PARTS = ("", "bake.yaml", "models.yaml", "models.lock", ".bake", *CODE, "compose/x.yaml", "requirements/builder.txt")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def found(tmp_path: Path) -> Path:
    """A checkout of the caller's own, found from a folder below it."""
    root = tmp_path / "talks"
    for name in PARTS:
        if "." in Path(name).name[1:]:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("")
    (root / ".bake").mkdir()
    (root / "here").mkdir()
    for path in (root, *root.rglob("*")):
        path.chmod(0o755)
    return root


def find(root: Path, **env: str) -> Path:
    return project.find_root(root / "here", env)


def refusal(root: Path, **env: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        find(root, **env)
    assert caught.value.hint is not None
    assert f"BAKE_PROJECT={root}" in caught.value.hint
    return caught.value


def test_a_project_of_the_callers_own_is_used(found: Path) -> None:
    assert find(found) == found


@as_root
@pytest.mark.parametrize("part", PARTS)
def test_a_file_of_another_user_is_refused_and_named(found: Path, part: str) -> None:
    """Also one that is deep in a checkout: stages are run."""
    os.chown(found / part, OTHER, -1)
    error = refusal(found)
    assert (error.where, f"uid {OTHER}" in error.what) == (str(found / part), True)
    assert find(found, BAKE_PROJECT=str(found)) == found


@pytest.mark.parametrize("part", PARTS)
def test_a_file_that_everybody_may_write_is_refused_and_named(found: Path, part: str) -> None:
    (found / part).chmod(0o777)
    assert refusal(found).where == str(found / part)


@as_root
def test_a_file_that_a_group_may_write_is_refused(found: Path) -> None:
    """root's own group is as good as root; a group of nobody knows whom isn't."""
    (found / "bake.yaml").chmod(0o664)
    os.chown(found / "bake.yaml", -1, 0)
    assert find(found) == found
    os.chown(found / "bake.yaml", -1, OTHER)
    assert f"group {OTHER}" in refusal(found).what


@as_root
def test_what_a_link_leads_to_counts(found: Path, tmp_path: Path) -> None:
    """Stages may be a link to a folder of somebody else's."""
    theirs = tmp_path / "theirs"
    (theirs / "vad").mkdir(parents=True)
    (theirs / "vad" / "main.py").touch()
    os.chown(theirs / "vad" / "main.py", OTHER, -1)
    shutil.rmtree(found / "stages")
    (found / "stages").symlink_to(theirs)
    assert refusal(found).where == str(found / "stages" / "vad" / "main.py")
    (found / "stages" / "round").symlink_to(".")
    (theirs / "vad" / "main.py").unlink()
    assert find(found) == found


@as_root
def test_sudo_uses_a_project_of_the_user_who_called_it(found: Path) -> None:
    for path in (found, *found.rglob("*")):
        os.chown(path, OTHER, -1)
    refusal(found)
    refusal(found, SUDO_UID="x")
    refusal(found, SUDO_UID=str(OTHER + 1))
    assert find(found, SUDO_UID=str(OTHER)) == found


def test_the_programs_own_checkout_needs_no_check() -> None:
    """Its code runs already, whoever made it: a checkout in CI often belongs to another user."""
    assert project.find_root(ROOT / "stages", {}) == project.HERE == ROOT


def test_a_project_that_is_named_is_used_from_anywhere(found: Path, tmp_path: Path) -> None:
    """It is also the way around one that somebody left in a folder above."""
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("bake.yaml", "models.yaml"):
        (mine / name).touch()
    (found / "bake.yaml").chmod(0o666)
    assert find(found, BAKE_PROJECT=str(mine)) == mine
    with pytest.raises(UsageError, match="no project"):
        find(found, BAKE_PROJECT=str(tmp_path))


@pytest.mark.parametrize("name", ["pip", "venv", "compileall"])
def test_a_module_of_the_current_folder_is_not_run(tmp_path: Path, name: str) -> None:
    """``python -m pip`` in a shared folder would run the pip.py that somebody left there."""
    (tmp_path / f"{name}.py").write_text("raise SystemExit('evil')")
    done = shell.run([*run_module(sys.executable, name), "--help"], cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert "usage" in done.out.lower()


def test_no_module_is_run_from_the_current_folder() -> None:
    """Every ``-m`` goes through run_module; the tests' own pytest runs after cd to the checkout."""
    words = r"""(?:executable|python\)?),\s*"-m",\s*"(?!pytest)"""
    files = [*(ROOT / "builder").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]
    assert [path.name for path in files if re.search(words, path.read_text())] == []
