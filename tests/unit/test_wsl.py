"""What build.cmd hands over to: Windows paths become paths of WSL, and nothing else changes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from builder.bootstrap import wsl

ROOT = Path(__file__).resolve().parents[2]

WSLPATH = """#!/bin/sh
# As WSL's own: drives are below /mnt, and another machine's share is an error.
[ "$1" = -u ] || exit 9
case $2 in
  [A-Za-z]:*) printf '/mnt/%s\\n' "$(printf %s "$2" | sed 's|^C|c|; s|:||; s|[\\]|/|g')" ;;
  *) echo "wslpath: $2" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with ``talks/``, on a machine that has a wslpath."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/wslpath").write_text(WSLPATH)
    (tmp_path / "bin/wslpath").chmod(0o755)
    (tmp_path / "here/talks").mkdir(parents=True)
    (tmp_path / "here/talks/one.mp4").touch()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("C:\\Users\\Ada Lovelace\\talk 1.mp4", "/mnt/c/Users/Ada Lovelace/talk 1.mp4"),
        ("C:/talks/one.mp4", "/mnt/c/talks/one.mp4"),
        ("C:\\", "/mnt/c/"),
        ("--out=C:\\out\\page.html", "--out=/mnt/c/out/page.html"),
        ("talks\\one.mp4", "talks/one.mp4"),
        ("talks\\*.mp4", "talks/*.mp4"),
        ("--out=talks\\new.html", "--out=talks/new.html"),
        ("nowhere\\one.mp4", "nowhere\\one.mp4"),
        ("\\\\server\\share\\one.mp4", "\\\\server\\share\\one.mp4"),
        ("--prompt", "--prompt"),
        ("a:b", "a:b"),
        ("https://example.test/a.mp4", "https://example.test/a.mp4"),
        ("", ""),
    ],
)
def test_a_windows_path_is_translated_and_nothing_else_is(here: Path, word: str, path: str) -> None:
    assert wsl.translated(word) == path


def test_build_py_gets_the_folder_the_arguments_and_the_exit_code(here: Path) -> None:
    """The module that build.cmd names, as a process: in the caller's folder, without the variable that named it."""
    checkout = here / "a checkout"
    (checkout / "builder/bootstrap").mkdir(parents=True)
    for name in ("builder/__init__.py", "builder/bootstrap/__init__.py", "builder/bootstrap/wsl.py"):
        (checkout / name).write_text((ROOT / name).read_text())
    (checkout / "build.py").write_text(
        "import os, sys\nprint([os.getcwd(), os.environ.get('WHISPERBAKE_FOLDER'), *sys.argv[1:]])\nsys.exit(7)\n"
    )
    words = [sys.executable, "-m", "builder.bootstrap.wsl", "run", "talks\\one.mp4", "C:\\a b.mp4", "--json"]
    env = {**os.environ, "WHISPERBAKE_FOLDER": str(here / "here")}
    done = subprocess.run(words, cwd=checkout, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 7
    assert done.stdout == f"{[str(here / 'here'), None, 'run', 'talks/one.mp4', '/mnt/c/a b.mp4', '--json']}\n"
    lost = subprocess.run(
        words, cwd=checkout, env={**env, "WHISPERBAKE_FOLDER": str(here / "gone")}, capture_output=True, text=True
    )
    assert lost.returncode == 3
    assert "  next: call build.cmd in a folder of a drive" in lost.stderr


def test_build_cmd_names_the_module_and_passes_the_exit_code_on() -> None:
    """It can't run here, so it holds nothing that could go wrong: cmd wants its line ends, WSL the module's name."""
    text = (ROOT / "build.cmd").read_bytes().decode("ascii")
    assert text.count("\r\n") == text.count("\n")
    module = re.search(r"python3 -m (\S+) %\*", text)
    assert module is not None
    assert module[1] == wsl.__name__
    assert f'set "WSLENV={wsl.FOLDER}/p:' in text
    assert text.rstrip().endswith("exit /b %errorlevel%")
