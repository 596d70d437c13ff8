"""make bench-start: what a command costs before and beside its own work, against the tree as it was before the redesign.

Both trees run with this checkout's interpreter and packages, in turn, each with a state folder of its own that has the
same models and native environment. ``--before`` names another commit. Rows of jobs in containers need an engine and
images that ``build.py build --mode docker-cpu --preset tiny-en`` has built; ``--containers`` asks for them.

    PYTHONPATH=. .venv/bin/python bench/start.py [--runs 9] [--before COMMIT] [--containers] [--save]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness import EXAMPLE, ROOT, WORK, Row, alternating, publish, ratio, timed, working

BEFORE = "66f36a0"
"""The last commit before the modules moved."""

COMMAND = "import sys; sys.path.insert(0, {tree!r}); from builder.cli import main; sys.exit(main())"
"""What build.py does once .venv is there; the launcher itself would make another .venv for another tree."""


class Tree:
    """One checkout, with a state folder and jobs of its own."""

    def __init__(self, root: Path, folder: Path, state: Path) -> None:
        self.root = root
        self.jobs = folder / "jobs"
        self.overheads: list[float] = []
        home = folder / "state"
        home.mkdir(parents=True)
        for shared in ("models", "native"):
            (home / shared).symlink_to(state / shared)
        self.env: Mapping[str, str] = {
            "BAKE_HOME": str(home),
            "BAKE_JOBS": str(self.jobs),
            "BAKE_PRESET": "tiny-en",
        }

    def timed(self, *words: str | Path) -> float:
        """Seconds of one command."""
        return timed([sys.executable, "-c", COMMAND.format(tree=str(self.root)), *words], env=self.env, cwd=self.root)

    def prepare(self, *words: str) -> float:
        """Seconds of ``prepare``; its job is the newest afterwards, and the only one."""
        shutil.rmtree(self.jobs, ignore_errors=True)
        return self.timed("prepare", EXAMPLE, *words)

    def job(self) -> float:
        """Seconds of a whole native job; what isn't a stage's own work goes to ``overheads``."""
        shutil.rmtree(self.jobs, ignore_errors=True)
        seconds = self.timed("run", EXAMPLE)
        self.overheads.append(seconds - working(next(self.jobs.iterdir())))
        return seconds


@contextmanager
def checkout(commit: str, folder: Path) -> Iterator[Path]:
    """The tree of a commit, in a git worktree that is removed again."""
    known = subprocess.run(
        ["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, check=False, capture_output=True
    )
    if known.returncode:
        raise SystemExit(f"this clone doesn't have the commit {commit}\n  next: git fetch --unshallow")
    place = folder / "before"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", place, commit], cwd=ROOT, check=True)
    try:
        yield place
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", place], cwd=ROOT, check=True)


def row(
    what: str, runs: int, now: Callable[[], float], before: Callable[[], float], aim: str, *, bare: bool = False
) -> Row:
    """One row: the median now and before, and the ratio; ``bare`` takes an interpreter that does nothing off."""
    interpreter = [sys.executable, "-c", "pass"]
    ours, theirs, nothing = alternating(runs, now, before, lambda: timed(interpreter))
    if bare:
        ours = [a - b for a, b in zip(ours, nothing, strict=True)]
        theirs = [a - b for a, b in zip(theirs, nothing, strict=True)]
    return (what, f"{middle(ours)}, before {middle(theirs)}: {ratio(ours, theirs)}", aim)


def middle(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3f} s"


def measure(runs: int, before: Tree, now: Tree, *, containers: bool) -> Iterator[Row]:
    """The rows: what, figures, aim."""
    for tree in (before, now):
        tree.prepare()
        tree.timed("preflight")
    for words, aim in ((("--help",), "≤ 0.07 s"), (("jobs", "list"), "≤ 0.15 s")):
        name = f"{' '.join(words)}, beyond a bare interpreter"
        yield row(name, runs, lambda: now.timed(*words), lambda: before.timed(*words), aim, bare=True)  # noqa: B023
    yield row("preflight, cached", runs, lambda: now.timed("preflight"), lambda: before.timed("preflight"), "≤ 0.25 s")
    yield row("prepare, native", runs, now.prepare, before.prepare, "≤ 0.4 s")
    if containers:
        mode = ("--mode", "docker-cpu", "--no-build")
        yield row("prepare, containers", runs, lambda: now.prepare(*mode), lambda: before.prepare(*mode), "≤ 0.6 s")
    before.overheads, now.overheads = [], []
    fewer = max(3, runs // 2)
    alternating(fewer, now.job, before.job)
    ours, theirs = now.overheads[1:], before.overheads[1:]
    yield (
        "a native job, outside the stages' own work",
        f"{middle(ours)}, before {middle(theirs)}: {ratio(ours, theirs)}",
        "≤ 0.7 s",
    )


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--before", default=BEFORE, help="the commit to compare with")
    parser.add_argument("--containers", action="store_true", help="also prepare for containers (an engine with images)")
    parser.add_argument("--save", action="store_true", help="keep the table in bench/results.md")
    asked = parser.parse_args()
    state = Path(os.environ.get("BAKE_HOME", ROOT / ".bake"))
    ready: list[str | Path] = [
        sys.executable,
        ROOT / "build.py",
        "--quiet",
        "bootstrap",
        "--preset",
        "tiny-en",
        "--cache-models",
    ]
    timed(ready, env={"BAKE_HOME": str(state)})
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="start-", dir=WORK) as name, checkout(asked.before, Path(name)) as old:
        folder = Path(name)
        trees = [Tree(old, folder / "a", state), Tree(ROOT, folder / "b", state)]
        began = time.monotonic()
        rows = list(measure(asked.runs, *trees, containers=asked.containers))
        note = f"before: {asked.before}, {asked.runs} runs each, {time.monotonic() - began:.0f} s"
        publish("bench-start", rows, save=asked.save, note=note)
    return 0


if __name__ == "__main__":
    sys.exit(run())
