"""The program's own business: a project to begin with, completion in a real shell, what is kept and what goes."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from builder.edges.machine import installation
from tests import small_project
from tests.shared import ROOT
from tests.small_project import bake


def launched(*words: object, cwd: Path) -> str:
    done = bake(cwd, *words, "--json")
    assert done.code == 0, done.err + done.out
    return done.out


# init


def test_a_new_project_says_what_to_do_next(tmp_path: Path) -> None:
    """Everything in it is what a checkout has, without this site's network."""
    done = bake(tmp_path, "init", "my talks")
    assert done.code == 0, done.err
    assert "next: cd 'my talks' && " in done.out
    project = tmp_path / "my talks"
    assert (project / ".gitignore").read_text() == ".bake/\n/jobs/\n"
    assert (project / "models.lock").read_text() == (ROOT / "models.lock").read_text()
    assert "# This project's settings" in (project / "bake.yaml").read_text()
    assert json.loads(launched("self", "status", cwd=project))["project"] == str(project)


def test_no_file_that_is_there_is_changed(tmp_path: Path) -> None:
    """Neither one with other contents, nor a link, nor the pins of another catalogue."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "bake.yaml").write_text("mine\n")
    (folder / "elsewhere").write_text("else\n")
    (folder / ".gitignore").symlink_to("nowhere")
    (folder / "models.yaml").symlink_to("elsewhere")
    made = json.loads(launched("init", "project", cwd=tmp_path))
    assert made["written"] == []
    assert sorted(made["kept"]) == [".gitignore", "bake.yaml", "models.yaml"]
    assert (folder / "bake.yaml").read_text() == "mine\n"
    assert (folder / "elsewhere").read_text() == "else\n"
    assert sorted(p.name for p in folder.iterdir()) == [".gitignore", "bake.yaml", "elsewhere", "models.yaml"]


@pytest.mark.parametrize(("text", "lacks"), [("*.pyc\n", [".bake/", "/jobs/"]), (".bake\njobs/\n", [])])
def test_a_gitignore_that_is_there_may_need_a_line(tmp_path: Path, text: str, lacks: list[str]) -> None:
    (tmp_path / ".gitignore").write_text(text)
    assert json.loads(launched("init", cwd=tmp_path))["unignored"] == lacks


def test_a_file_is_no_place_for_a_project(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = bake(tmp_path, "init", "file")
    assert done.code == 2
    assert "error: file: not a folder" in done.err


# Completion


COMPLETED = """
source {script}
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_whisperbake_completion {program}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("whisperbake mod", ["models"]),
        ("whisperbake models f", ["fetch"]),
        ("whisperbake self un", ["uninstall"]),
        ("whisperbake run --spea", ["--speakers"]),
        ("whisperbake --mode native jobs sh", ["show"]),
        ("whisperbake nope x", [""]),
    ],
)
def test_bash_completes_commands_and_options(tmp_path: Path, line: str, words: list[str]) -> None:
    """A real bash reads the script and asks this program."""
    program = tmp_path / "whisperbake"
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom builder.cli import main\nsys.exit(main())\n")
    program.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = tmp_path / "script"
    made = subprocess.run([program, "completion", "bash"], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    script.write_text(made.stdout)
    asked = COMPLETED.format(script=script, words=line, program=program)
    done = subprocess.run(["bash", "-c", asked], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.rstrip("\n").split("\n") == words


@pytest.mark.parametrize(("shell", "begins"), [("zsh", "#compdef whisperbake"), ("fish", "complete --command ")])
def test_other_shells_get_their_script(tmp_path: Path, shell: str, begins: str) -> None:
    made = json.loads(launched("completion", shell, cwd=tmp_path))
    assert made["script"].startswith(begins)
    assert bake(tmp_path, "completion", "tcsh").code == 2


# What is kept, and what goes


def filled(root: Path) -> Path:
    """A project whose state folder has something of everything, and a link out of it."""
    project = small_project.make(root / "project", {}, fill=False)
    state = project / ".bake"
    for name in ("cache/hardware.json", "images/native-slim/Dockerfile", "models/onnx/d/m.onnx", "native/slim-1/ready"):
        (state / name).parent.mkdir(parents=True)
        (state / name).write_bytes(b"x" * 1000)
    (root / "outside").mkdir()
    (root / "outside/precious").write_text("p")
    (state / "native/slim-1/link").symlink_to(root / "outside")
    (state / "layout").symlink_to(root / "outside")
    return project


def test_a_dry_run_removes_nothing(tmp_path: Path) -> None:
    project = filled(tmp_path)
    launched("self", "status", cwd=project)  # a command remembers what the project's files say
    before = sorted(project.rglob("*"))
    found = json.loads(launched("self", "uninstall", "--dry-run", cwd=project))
    assert {Path(entry["path"]).name for entry in found["removed"]} == {"cache", "images", "models", "native"}
    sizes = {Path(entry["path"]).name: entry["size"] for entry in found["removed"]}
    assert (sizes["images"], sizes["models"], sizes["native"]) == (1000, 1000, 1000)  # a link counts nothing
    assert found["removal"] == f"rm -r {ROOT}"
    assert sorted(project.rglob("*")) == before


def test_what_is_ours_goes_and_links_stay(tmp_path: Path) -> None:
    """The program's own files go with the links in them; what a link leads to is as it was, and so is the project."""
    project = filled(tmp_path)
    (project / ".bake/notes.txt").write_text("mine")
    found = json.loads(launched("self", "uninstall", "--yes", cwd=project))
    kept = {Path(entry["path"]).name: entry["why"] for entry in found["kept"]}
    assert kept == {"layout": "a link", "notes.txt": "not made by this program"}
    assert sorted(p.name for p in (project / ".bake").iterdir()) == ["layout", "notes.txt"]
    assert (tmp_path / "outside/precious").read_text() == "p"
    assert (project / "bake.yaml").is_file()


def test_a_state_folder_that_is_a_link_stays(tmp_path: Path) -> None:
    project = filled(tmp_path)
    (project / ".bake").rename(tmp_path / "big disk")
    (project / ".bake").symlink_to(tmp_path / "big disk")
    found = json.loads(launched("self", "uninstall", "--yes", cwd=project))
    assert (found["removed"], found["kept"]) == ([], [{"path": str(project / ".bake"), "why": "a link"}])
    assert (tmp_path / "big disk/models/onnx/d/m.onnx").is_file()


def test_a_folder_that_holds_other_things_is_left_whole(tmp_path: Path) -> None:
    """BAKE_HOME=~ would make everything called models or images in it look like ours."""
    project = filled(tmp_path)
    (project / ".bake").rename(tmp_path / "home")
    (tmp_path / "home/letters").mkdir()
    done = bake(project, "--home", tmp_path / "home", "self", "uninstall", "--yes", "--json")
    assert json.loads(done.out)["kept"] == [{"path": str(tmp_path / "home"), "why": "holds other things too: letters"}]
    assert (tmp_path / "home/models/onnx/d/m.onnx").is_file()


@pytest.mark.parametrize(
    "name", ["images/holiday.jpg", "logs/nginx.log", "cache/theirs", "native/code/main.c", "secrets/key"]
)
def test_a_folder_with_common_names_in_it_is_left_whole(tmp_path: Path, name: str) -> None:
    """Anybody may have folders called images and logs: in a state folder of another name they aren't ours by that."""
    project = small_project.make(tmp_path / "project", {}, fill=False)
    theirs = tmp_path / "data" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("precious")
    words = ("--home", tmp_path / "data", "self", "uninstall", "--yes", "--json")
    found = json.loads(bake(project, *words).out)
    shown = "secrets" if name == "secrets/key" else "/".join(name.split("/")[:2])
    assert found["kept"] == [{"path": str(tmp_path / "data"), "why": f"holds other things too: {shown}"}]
    assert theirs.read_text() == "precious"


@pytest.mark.parametrize("linked", [False, True])
def test_files_of_others_in_the_store_stay(tmp_path: Path, linked: bool) -> None:
    """A data set of the hub's, a model of one's own, a store that is a link to the hub client's."""
    project = filled(tmp_path)
    models = project / ".bake/models"
    (models / "mine.onnx").write_text("m")
    hub = tmp_path / "client" if linked else models / "hub"
    for name in ("datasets--a--b/data", "models--Systran--faster-whisper-tiny.en/blobs/1"):
        (hub / name).parent.mkdir(parents=True)
        (hub / name).write_text("w")
    if linked:
        (models / "hub").symlink_to(hub)
    launched("self", "uninstall", "--yes", cwd=project)
    assert (models / "mine.onnx").is_file()
    assert not (models / "onnx").exists()
    assert (hub / "datasets--a--b/data").is_file()
    assert (hub / "models--Systran--faster-whisper-tiny.en").exists() is linked


def test_weights_of_somebody_else_stay(tmp_path: Path) -> None:
    """A repository in the store that models.yaml doesn't know."""
    project = filled(tmp_path)
    (project / ".bake/models/hub/models--some--body/blobs").mkdir(parents=True)
    launched("self", "uninstall", "--yes", cwd=project)
    left = sorted(p.relative_to(project / ".bake/models").as_posix() for p in (project / ".bake/models").rglob("*"))
    assert left == ["hub", "hub/models--some--body", "hub/models--some--body/blobs"]


def test_nobody_is_asked_where_nobody_could_answer(tmp_path: Path) -> None:
    project = filled(tmp_path)
    done = bake(project, "self", "uninstall")
    assert done.code == 2
    assert "--yes removes them" in done.err
    assert (project / ".bake/models").is_dir()


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 130), (b"y\n", 0)])
def test_a_person_is_asked_first(tmp_path: Path, answer: bytes, code: int) -> None:
    """At a real terminal: everything that would go is named before the question."""
    project = filled(tmp_path)
    ours, theirs = pty.openpty()
    words = [sys.executable, "-c", "import sys; from builder.cli import main; sys.exit(main())", "self", "uninstall"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, cwd=project, env=env, stdin=theirs, stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    while b"Remove all that?" not in shown:
        assert select.select([ours], [], [], 60)[0], shown
        shown += os.read(ours, 4096)
    assert str(project / ".bake/models").encode() in shown
    os.write(ours, answer)
    assert process.wait(timeout=60) == code
    os.close(ours)
    assert (project / ".bake/models").exists() is (code != 0)


@pytest.mark.parametrize(
    ("file", "folder", "by"),
    [
        ("uv-receipt.toml", "uv/tools/whisperbake", "uv tool"),
        ("pipx_metadata.json", "pipx/venvs/whisperbake", "pipx"),
        ("pyvenv.cfg", "uv/archive-v0/k3l", "uvx"),
        ("pyvenv.cfg", "venv", "pip"),
    ],
)
def test_who_installed_it_is_told_by_what_they_leave(tmp_path: Path, file: str, folder: str, by: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / file).touch()
    found, removal = installation._installer(tmp_path / folder, "/v/bin/python")
    assert found == by
    assert removal.split()[-2:] == (["clean", "whisperbake"] if by == "uvx" else ["uninstall", "whisperbake"])
