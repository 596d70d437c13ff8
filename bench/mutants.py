"""Ten mistakes made on purpose, each of which a unit test has to notice: ``make mutants``.

Each mutant is one line of builder/, found by its text wherever it stands, and wrong in a way that a person could write.
The unit tests that name it run on a copy of the tree; the script ends with 1 when a mutant lives, or isn't found.
With ``--all`` mutmut follows: every mutant of core and views, which takes hours (add names of modules for a part).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = (
    *("bench", "builder", "compose", "images", "stages", "templates", "tests"),
    *("bake.yaml", "build.py", "models.lock", "models.yaml", "pyproject.toml", "requirements"),
)
BAR = 0.85
"""Share of mutmut's mutants that die."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """What is wrong, the text that is replaced, and the tests that protect it."""

    name: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant(
        name="a job without its GPU guard",
        old='if device == "cuda" and not hardware.gpus:',
        new="if False:",
        tests="test_request.py",
    ),
    Mutant(
        name="the images' key without templates",
        old='("images", "stages", "templates", "builder")',
        new='("images", "stages", "builder")',
        tests="test_stage_images.py",
    ),
    Mutant(
        name="an image's label without its blocks",
        old='texts = {name: text for name, text in templates.items() if name.startswith("blocks/")}',
        new="texts: dict[str, str] = {}",
        tests="test_image_key.py",
    ),
    Mutant(
        name="the queue without its order",
        old="(fits and not before)",
        new="fits",
        tests="test_jobs.py",
    ),
    Mutant(
        name="models that change as often as libraries",
        old='"requirement": 4.0, "model": 1.0',
        new='"requirement": 4.0, "model": 4.0',
        tests="test_order.py",
    ),
    Mutant(name="every word a secret", old="SHORTEST = 6", new="SHORTEST = 1", tests="test_mask.py"),
    Mutant(
        name="a record without its id check",
        old="if ids == [images.images[stage].id for stage in images.tags] else None",
        new="if ids else None",
        tests="test_stage_images.py",
    ),
    Mutant(
        name="a path that leads up",
        old='if any(part in ("", ".", "..") for part in path.split("/")):',
        new='if any(part in ("", ".") for part in path.split("/")):',
        tests="test_catalog.py test_config.py test_store.py",
    ),
    Mutant(
        name="a minute of sixty seconds",
        old="float(match[3]) >= 60",
        new="float(match[3]) > 60",
        tests="test_request.py test_job.py",
    ),
    Mutant(
        name="a variable in a compose file",
        old='("$$")',
        new='("$")',
        tests="test_injection.py",
    ),
)


def place_of(mutant: Mutant) -> Path | None:
    """The one file of builder/ that has the mutant's line."""
    paths = [p for p in (ROOT / "builder").rglob("*.py") if p.read_text().count(mutant.old) == 1]
    return paths[0].relative_to(ROOT) if len(paths) == 1 else None


def dies(mutant: Mutant, path: Path, tree: Path) -> bool:
    """Whether the tests fail on a tree with that line."""
    target = tree / path
    text = target.read_text()
    target.write_text(text.replace(mutant.old, mutant.new))
    code = tested(tree, mutant.tests.split())
    target.write_text(text)
    return code == 1


def tested(tree: Path, names: Iterable[str]) -> int:
    """pytest's exit code for files of tests/unit: 0, or 1 for a failed test."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        *(f"tests/unit/{n}" for n in names),
    ]
    done = subprocess.run(command, cwd=tree, env=environment(tree), capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest ended with {done.returncode}\n{done.stdout[-2000:]}")
    return done.returncode


def environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


def by_hand(tree: Path) -> int:
    """How many of the ten live."""
    if tested(tree, sorted({name for mutant in MUTANTS for name in mutant.tests.split()})):
        raise SystemExit("the tests fail without a mutant")
    alive = 0
    for mutant in MUTANTS:
        path = place_of(mutant)
        dead = path is not None and dies(mutant, path, tree)
        alive += not dead
        print(f"{'dies ' if dead else 'LIVES'}  {mutant.name} ({path or 'its line is not found'})", flush=True)
    return alive


def by_mutmut(tree: Path, names: list[str]) -> float:
    """The share of mutants that die, printed for every module; ``names`` as mutmut takes them."""
    mutmut = Path(sys.executable).with_name("mutmut")
    subprocess.run([mutmut, "run", *names], cwd=tree, env=os.environ, check=False)
    listed = subprocess.run([mutmut, "results", "--all", "true"], cwd=tree, capture_output=True, text=True, check=True)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, result in re.findall(r"^\s*(\S+)__mutmut_\d+: (.+)$", listed.stdout, flags=re.M):
        if result in ("killed", "timeout", "survived", "no tests", "suspicious", "segfault"):
            module = re.sub(r"\.(x_|xǁ).*", "", name)
            counts[module][0] += result in ("killed", "timeout", "segfault")
            counts[module][1] += 1
    for module, (dead, count) in sorted(counts.items()):
        print(f"{dead / count:5.0%}  {module} ({dead} of {count})")
    dead, count = (sum(c[k] for c in counts.values()) for k in (0, 1))
    print(f"{dead / max(1, count):5.1%}  all modules ({dead} of {count}; at least {BAR:.0%})")
    return dead / max(1, count)


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".work"))
            else:
                shutil.copy(source, tree / name)
        alive = by_hand(tree)
        if "--all" in arguments:
            alive += by_mutmut(tree, [a for a in arguments if a != "--all"]) < BAR
        return int(alive > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
