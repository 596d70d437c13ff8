"""A copy of the project in which the commands of a page are typed, with recordings and a job as the pages name them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.documents import ROOT, SHELLS, Block
from tests.shared import EXAMPLE, native_python, once, state_folder

RECORDINGS = {"talk.mp4": ("0", "7"), "interview.mp4": ("12", "19"), "call.mp4": ("5", "12")}
"""Recordings of the pages: seconds of the example."""

JOB = "20261123-200312-dialogue-4f2a"
"""The job of the pages: the example's, finished."""

STICK = "/media/stick"
"""Where a stick is on the pages; here it is a folder of the test's own."""

ENGINE = "with an engine"
"""Where a block runs that needs one."""

TIMES = re.compile(r"\d+[:.,\d]*\d")
"""A time or another figure: another machine has another."""


HEAVY = "with an engine, as make test-heavy"
"""The same for minutes."""


def run_here(block: Block) -> bool:
    """Whether a block's commands run without an engine."""
    return block.language in SHELLS and not block.mark("not run") and not block.mark("run")


def run_with_an_engine(block: Block) -> bool:
    return block.language in SHELLS and block.mark("run") in (ENGINE, HEAVY)


def is_heavy(block: Block) -> bool:
    return block.mark("run") == HEAVY


@dataclass
class Desk:
    """The copy, and the environment of its shell."""

    project: Path
    env: dict[str, str]

    @classmethod
    def make(cls, folder: Path, finished: Path, recordings: Path) -> Desk:
        """Set one up; its state folder has the project's own models and native environment.

        Args:
            finished: the folder of a finished job, which becomes :data:`JOB`.
            recordings: the folder of :func:`cut_recordings`.
        """
        project = folder / "whisperbake"
        for name in _tracked():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, project / name)
        (project / ".venv").symlink_to(ROOT / ".venv")
        state_folder(project / ".bake")
        for recording in recordings.iterdir():
            shutil.copy(recording, project)
        shutil.copytree(finished, project / "jobs" / JOB)
        subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
        job = project / "jobs" / JOB / "job.yaml"
        job.write_text(job.read_text().replace(finished.name, JOB))
        (folder / "stick").mkdir()
        home = folder / "home"
        for name in (".cache/pip", ".config/pip", ".docker"):  # this machine's index and engine
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).symlink_to(Path.home() / name)
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("BAKE_", "HF_"))}
        nowhere = {"DOCKER_HOST": "unix:///nowhere.sock", "BROWSER": "true", "DISPLAY": ":0"}
        return cls(project, mine | nowhere | {"HOME": str(home), "BAKE_PRESET": "tiny-en"})

    def type(self, block: Block) -> None:
        """Run a block's commands as a shell does, from the project's folder."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.script.replace(STICK, str(self.project.parent / "stick"))],
            cwd=self.project,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        tail = f"{done.stdout[-2000:]}{done.stderr[-3000:]}"
        assert done.returncode == 0, f"{block.place}: exit code {done.returncode}\n{block.script}{tail}"
        assert "Traceback" not in done.stderr, f"{block.place}\n{tail}"
        if block.language == "console":
            assert alike(block.printed).fullmatch(done.stdout), f"{block.place} is not what is printed:\n{done.stdout}"

    def compare(self, block: Block, pattern: str) -> None:
        """Compare a file with what a page shows of it."""
        found = sorted(self.project.glob(pattern), key=lambda path: path.stat().st_mtime)
        assert found, f"{block.place}: no {pattern}"
        text = found[-1].read_text()
        assert alike(block.text).search(text), f"{block.place}: {found[-1].name} has no such lines:\n{text[:900]}"

    def to_be_committed(self) -> list[Path]:
        """The files that a page's ``git add`` took."""
        listed = subprocess.run(
            ["git", "ls-files"], cwd=self.project, capture_output=True, text=True, check=True
        ).stdout
        return [self.project / name for name in listed.splitlines()]


def alike(shown: str) -> re.Pattern[str]:
    """What a page shows as a pattern: any figures will do, and ``…`` stands for anything."""
    parts = [TIMES.sub(lambda found: "0", part) for part in re.split("…", shown)]
    escaped = [re.escape(part).replace("0", r"\d+[:.,\d]*") for part in parts]
    return re.compile(".*".join(escaped), re.DOTALL)


def cut_recordings(factory: pytest.TempPathFactory) -> Path:
    """A folder with :data:`RECORDINGS`, cut once a run."""

    def make(folder: Path) -> None:
        for name, (start, end) in RECORDINGS.items():
            words = [
                native_python(),
                ROOT / "stages/demux/clip.py",
                EXAMPLE,
                folder / name,
                "--start",
                start,
                "--end",
                end,
            ]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

    return once(factory, "recordings", make)


def _tracked() -> Iterator[str]:
    """The project's files: tracked ones, and new ones that git would not ignore."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    yield from (name for name in listed.split("\0") if name and (ROOT / name).is_file())
