"""What installed packages hold that no stage needs. A list, so that it can be read, tested and argued about.

Sizes are unpacked bytes of the wheels locked in November 2026.
"""

from __future__ import annotations

import fnmatch
import shutil
from pathlib import Path

EVERYWHERE = (
    "tests",
    "test",
    "testing/tests",
    "benchmarks",
    "examples",
    "docs",
    "include",
    "__pycache__",
    "*.pyi",
    "*.pyx",
    "*.pxd",
    "*.h",
    "*.hpp",
    "*.cuh",
    "*.c",
    "*.cpp",
    "*.cu",
    "*.a",
    "*.la",
    "*.cmake",
    "*.pc",
)
"""Names of folders and files below any package: tests, caches, stubs, headers, sources, static libraries."""

KEPT = (
    "numpy/_core/tests/_natype.py",  # numpy.testing imports it
    "torch/testing",
)
"""Exceptions from :data:`EVERYWHERE`."""

ONE_BY_ONE = (
    "ctranslate2/converters",
    "ctranslate2/specs",  # turn other models into its own; loaded on first use only
    "onnxruntime/transformers",
    "onnxruntime/tools",
    "onnxruntime/quantization",
    "onnxruntime/datasets",
    "onnxruntime/backend",
    "onnxruntime/capi/libonnxruntime.so*",  # a second copy: Python's extension has all of it
    "pocketsphinx/model/en-us/en-us.lm.bin",  # 26 MB; forced alignment has its words already
    "numpy/distutils",
    "faster_whisper/assets/*.onnx",  # the vad stage has a model of its own
    "nvidia/*/lib/*.alt.so*",
    "share",
    "man",
)
"""Patterns relative to the folder of packages."""

NOT_NEEDED_TO_RUN = ("RECORD", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json", "INSTALLER")
"""In ``*.dist-info``: what pip writes for pip; some of it differs from build to build."""

PROGRAMS = ("dumb-init",)
"""What stays of ``bin``."""


def prune(root: Path) -> int:
    """Remove from a folder of packages what the lists name; the bytes that freed."""
    freed = 0
    for pattern in ONE_BY_ONE:
        for path in sorted(root.glob(pattern)):
            freed += _remove(path)
    for path in sorted(root.rglob("*"), reverse=True):  # what is inside comes before its folder
        name = path.relative_to(root).as_posix()
        if any(name == k or name.startswith(f"{k}/") or k.startswith(f"{name}/") for k in KEPT):
            continue
        info = path.parent.suffix == ".dist-info" and path.name in NOT_NEEDED_TO_RUN
        program = path.parent == root / "bin" and path.name not in PROGRAMS
        if info or program or (path.parent != root and any(fnmatch.fnmatch(path.name, p) for p in EVERYWHERE)):
            freed += _remove(path)
    (root / ".lock").unlink(missing_ok=True)  # uv's
    if (root / "bin").is_dir() and not any((root / "bin").iterdir()):
        (root / "bin").rmdir()
    return freed


def _remove(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        size = sum(p.lstat().st_size for p in path.rglob("*") if not p.is_dir())
        shutil.rmtree(path)
        return size
    size = path.lstat().st_size
    path.unlink()
    return size
