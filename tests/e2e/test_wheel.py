"""The installed program: a wheel and an sdist are made, the wheel goes into a fresh environment, and it works anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.edges.bundle.wheelhouse import FILES, FOLDERS
from tests.e2e.test_bare_machine import copy_of_the_checkout
from tests.shared import EXAMPLE, ROOT, Ran, once, state_folder

Installed = Callable[..., Ran]


def contents(wheel: Path) -> dict[str, int]:
    """Name -> CRC of each file."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``checkout/`` and, in ``dist/``, an sdist and the wheel of that sdist."""

    def make(folder: Path) -> None:
        copy_of_the_checkout(folder / "checkout")
        # Without --wheel and --sdist, the frontend makes the wheel from the sdist.
        subprocess.run([sys.executable, "-m", "build", "--outdir", "dist", "checkout"], cwd=folder, check=True)

    return once(tmp_path_factory, "wheel", make)


@pytest.fixture(scope="module")
def wheel(made: Path) -> Path:
    return next((made / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def home(ready: None, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with nothing in it but an environment that the wheel was installed into; weights are the project's own."""

    def make(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "venv/bin/python")]
        subprocess.run([*pip, "install", "--quiet", "--no-compile", str(wheel)], check=True, capture_output=True)
        state_folder(folder / ".local/share/whisperbake")
        (folder / "somewhere").mkdir()

    return once(tmp_path_factory, "installed", make)


@pytest.fixture
def installed(home: Path) -> Installed:
    """Run the installed ``whisperbake`` in a folder that belongs to no project."""

    def run(*words: str | Path, cwd: Path = home / "somewhere", program: tuple[str, ...] = ()) -> Ran:
        kept = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "LANG")) or k.lower().endswith("_proxy")}
        done = subprocess.run(
            [*(program or (str(home / "venv/bin/whisperbake"),)), *map(str, words)],
            env=kept | {"HOME": str(home), "PATH": "/usr/bin:/bin", "DOCKER_HOST": "unix:///nowhere.sock"},
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


def test_a_wheel_has_the_files_of_the_project(wheel: Path) -> None:
    """Every file that a command reads, and no bytecode, state or tests."""
    listed = subprocess.run(["git", "ls-files", "-z", *FILES, *FOLDERS], cwd=ROOT, capture_output=True, check=True)
    tracked = {name for name in listed.stdout.decode().split("\0") if name}
    inside = contents(wheel)
    assert {f"builder/_project/{name}" for name in tracked} <= set(inside)
    tops = {name.split("/")[2] for name in inside if name.startswith("builder/_project/")}
    assert tops == {*FILES, *FOLDERS, "bake.yaml", "models.yaml", "models.lock"}
    assert [name for name in inside if "__pycache__" in name or name.startswith("tests/")] == []


def test_the_sdist_makes_the_wheel_that_the_checkout_makes(made: Path, wheel: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), "checkout"]
    subprocess.run(words, cwd=made, check=True)
    assert contents(next(tmp_path.glob("*.whl"))) == contents(wheel)
    with tarfile.open(next((made / "dist").glob("*.tar.gz"))) as archive:
        tops = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert tops >= {"tests", "docs", "build.py", "build.cmd", "templates", "stages"}
    assert {name for name in tops if name.startswith(".")} <= {".gitignore"}


def test_a_recording_is_transcribed_outside_of_any_project(installed: Installed, home: Path) -> None:
    """State and jobs go into the user's data folder; nothing is written beside the package or into the current folder."""
    ran = installed("run", EXAMPLE, "--preset", "tiny-en", "--end", "8", "--json")
    assert ran.code == 0, ran.said
    output = Path(ran.data["output"])
    assert output.is_relative_to(home / ".local/share/whisperbake/jobs")
    assert "Today we talk about the old" in (output / "dialogue.txt").read_text()
    assert list((home / "somewhere").iterdir()) == []
    listed = installed("jobs", "list")
    assert listed.code == 0
    assert output.parent.name in listed.out
    report = installed("jobs", "report")
    assert report.code == 0, report.said
    assert (output.parent / "report.html").is_file()


def test_what_came_with_the_package_stays_as_it_is(installed: Installed, home: Path, wheel: Path) -> None:
    """Another user of the same installation, or one who may not write there, has the same files."""
    assert installed("plan", "--mode", "docker-cpu").code == 0
    site = next((home / "venv/lib").glob("python*/site-packages"))
    files = [path for path in (site / "builder/_project").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {path.relative_to(site).as_posix() for path in files} == {
        name for name in contents(wheel) if name.startswith("builder/_project/")
    }


def test_images_are_rendered_as_in_a_checkout(installed: Installed, made: Path, home: Path, tmp_path: Path) -> None:
    """The same files to the byte: templates, stages, locks and tools are those of the project."""
    options = ("--mode", "docker-cpu", "--json")
    ours = installed("render", *options, "--out", tmp_path / "installed")
    assert ours.code == 0, ours.said
    env = {k: v for k, v in os.environ.items() if not k.startswith("BAKE_")} | {"DOCKER_HOST": "unix:///nowhere.sock"}
    home_of_both = str(home / ".local/share/whisperbake")
    words = ["--home", home_of_both, "render", *options, "--out", str(tmp_path / "checkout")]
    code = "import sys; from builder.cli import main; sys.exit(main(sys.argv[1:]))"
    theirs = subprocess.run([sys.executable, "-c", code, *words], cwd=made / "checkout", env=env, capture_output=True)
    assert theirs.returncode == 0, theirs.stderr
    trees = [
        {path.relative_to(tree).as_posix(): path.read_bytes() for path in tree.rglob("*") if path.is_file()}
        for tree in (tmp_path / "installed", tmp_path / "checkout")
    ]
    assert trees[0].keys() == trees[1].keys()
    assert [name for name in trees[0] if trees[0][name] != trees[1][name]] == []


def test_it_names_itself_in_help_and_hints(installed: Installed, home: Path) -> None:
    assert installed("--version").out.startswith("whisperbake ")
    assert "whisperbake run interview.mp4" in installed("-h").out
    assert "build.py" not in installed("-h").out + installed("run", "--help").out
    python = (str(home / "venv/bin/python"), "-m", "builder")
    assert "python3 -m builder run interview.mp4" in installed("-h", program=python).out
    refused = installed("report")
    assert (refused.code, "next: whisperbake --help" in refused.err) == (2, True)


def test_a_project_is_made_and_found(installed: Installed, tmp_path: Path) -> None:
    """``init`` writes what a user edits; from then on settings, state and pins are the project's."""
    made = installed("init", tmp_path / "talks", "--json")
    assert made.code == 0, made.said
    assert sorted(p.name for p in (tmp_path / "talks").iterdir()) == sorted(made.data["written"])
    (tmp_path / "talks/deep/er").mkdir(parents=True)
    bake = tmp_path / "talks/bake.yaml"
    bake.write_text(bake.read_text().replace("preset: auto ", "preset: tiny-en "))
    status = installed("self", "status", "--json", cwd=tmp_path / "talks/deep/er")
    assert (status.code, status.data["project"]) == (0, str(tmp_path / "talks"))
    assert status.data["jobs_folder"] == str(tmp_path / "talks/jobs")
    plan = installed("plan", "--mode", "docker-cpu", cwd=tmp_path / "talks/deep/er")
    assert plan.code == 0, plan.said
    assert "tiny.en" in plan.out


def test_what_only_a_project_can_hold_is_refused_without_one(installed: Installed) -> None:
    refused = installed("models", "lock", "--json")
    assert refused.code == 2
    assert json.loads(refused.out)["error"]["hint"] == "whisperbake init"


def test_it_says_what_it_keeps_and_what_removes_it(installed: Installed, home: Path) -> None:
    """Weights and environments of this home are links to the project's: they stay, whatever is asked."""
    status = installed("self", "status", "--json").data
    assert (status["installed_by"], status["project"]) == ("pip", None)
    assert status["removal"] == f"{home / 'venv/bin/python'} -m pip uninstall whisperbake"
    assert status["state"][0]["folder"] == str(home / ".local/share/whisperbake")
    links = {place["name"] for place in status["state"][0]["places"] if place["link"]}
    assert links == {"models", "native"}
    said = installed("self", "uninstall", "--dry-run", "--json")
    assert said.code == 0, said.said
    removed = said.data
    assert removed["dry_run"] is True
    assert {Path(kept["path"]).name: kept["why"] for kept in removed["kept"]}["models"] == "a link"
