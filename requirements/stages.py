"""Write the stages' hash-locked requirements: ``.venv/bin/python requirements/stages.py`` (make lock).

A lock names only what the stage imports (installed with --no-deps), for Python 3.10 and later on every platform.
All stages are resolved together first, so that a package has the same version in all of them, and one for all Pythons
unless its requirement says otherwise: a recording reads the same on each.

``requirements/stages.py full-cpu`` writes locks of PyTorch's CPU builds, without CUDA's libraries: of the versions that the full
locks have. It needs PyTorch's own index, or the mirror of it that ``--torch-index URL`` names. ``network.torch_index_url`` in
bake.yaml then builds the full images of docker-cpu from these locks.
"""

from __future__ import annotations

import argparse
import re
import subprocess  # a developer's script, not part of the builder
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

STAGES = Path(__file__).resolve().parents[1] / "stages"
COMPILE = (
    "uv",
    "pip",
    "compile",
    "--quiet",
    "--universal",
    "--python-version",
    "3.10",
    "--no-deps",
    "--generate-hashes",
    "--no-header",
    "--no-annotate",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--fork-strategy",
    "fewest",
)
APART = ("tokenizers",)
"""Packages whose version differs between the variants: Transformers 4 needs an older one."""

CUDA = "nvidia-"

TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index of CPU builds (https://pytorch.org/get-started/locally)."""

HEADER = "# Written by requirements/stages.py from {name}; installed with --no-deps --require-hashes.\n"


def lock(variant: str, *, upgrade: bool, torch_index: str = "") -> None:
    """Write ``requirements-<variant>.txt`` beside every ``requirements-<variant>.in``."""
    source = variant.removesuffix("-cpu")
    inputs = sorted(STAGES.glob(f"*/requirements-{source}.in"))
    targets = {path: path.with_name(f"requirements-{variant}.txt") for path in inputs}
    extra = ["--index", torch_index, "--index-strategy", "unsafe-best-match"] if torch_index else []
    with tempfile.TemporaryDirectory() as folder:
        together = Path(folder) / "all.txt"
        known = set() if upgrade else pins(targets.values())
        if source != "slim":
            slim = pins(STAGES.glob("*/requirements-slim.txt"))
            known |= {pin for pin in slim if pin.split("==")[0] not in APART}
            if (
                variant != source
            ):  # the same versions, and of torch the build for processors: 2.8.0+cpu is 2.8.0 (PEP 440)
                known |= {pin for pin in pins(STAGES.glob(f"*/requirements-{source}.txt")) if not pin.startswith(CUDA)}
        elif not upgrade:  # what is new here has the version that the full variant has already
            mine = {pin.split("==")[0] for pin in known}
            full = pins(STAGES.glob("*/requirements-full.txt"))
            known |= {pin for pin in full if pin.split("==")[0] not in (*mine, *APART)}
        constraints = Path(folder) / "pins.txt"
        constraints.write_text("\n".join(sorted(known)))
        texts = {}
        for path in inputs:
            texts[path] = Path(folder) / f"{path.parent.name}.in"
            lines = flat(path)
            texts[path].write_text("\n".join(s for s in lines if not (variant != source and s.startswith(CUDA))))
        keep = ["--constraints", str(constraints), *extra]
        run([*COMPILE, *keep, "--output-file", str(together), *map(str, texts.values())])
        for path in inputs:
            alone = Path(folder) / "one.txt"
            run([*COMPILE, "--constraints", str(together), *extra, "--output-file", str(alone), str(texts[path])])
            targets[path].write_text(HEADER.format(name=path.name) + alone.read_text())
            alone.unlink()


def flat(path: Path) -> list[str]:
    """The requirements of a file and of those it includes."""
    lines = []
    for line in path.read_text().splitlines():
        if line.startswith("-r "):
            lines += flat(path.parent / line[3:].strip())
        elif line.strip() and not line.startswith("#"):
            lines.append(line)
    return lines


def pins(locks: Iterable[Path]) -> set[str]:
    """``name==version ; marker`` of every package in those locks that exist."""
    text = "".join(path.read_text() for path in locks if path.exists())
    return set(re.findall(r"^[^\s#]+==\S+(?: ; [^\\\n]+)?", text, re.M))


def run(argv: list[str]) -> None:
    subprocess.run([sys.executable, "-m", *argv], check=True)


if __name__ == "__main__":
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("variants", nargs="*", default=["slim", "slim-onnx-asr", "slim-mlx", "slim-gpu", "full"])
    reader.add_argument("--upgrade", action="store_true", help="take newer versions than the locks have")
    reader.add_argument("--torch-index", default="", metavar="URL", help=f"for full-cpu; default: {TORCH_INDEX}")
    chosen = reader.parse_args()
    if chosen.torch_index and "full-cpu" not in chosen.variants:
        reader.error("--torch-index is for full-cpu")
    for each in chosen.variants:
        index = (chosen.torch_index or TORCH_INDEX) if each.endswith("-cpu") else ""
        lock(each, upgrade=chosen.upgrade, torch_index=index)
