"""What no stage needs of installed packages: a list that can be read, tested and discussed.

Sizes are of the unpacked wheels that were locked in November 2026.
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
"""Names of folders and files in any package: tests, caches, stubs, headers, sources, static libraries."""

KEPT = (
    "numpy/_core/tests/_natype.py",  # numpy.testing imports it
    "torch/testing",
    "thinc/backends/_custom_kernels.cu",  # read when thinc is imported, on processors too
    "thinc/backends/_murmur3.cu",
)
"""Exceptions from :data:`EVERYWHERE`."""

ONE_BY_ONE = (
    "ctranslate2/converters",
    "ctranslate2/specs",  # with the converters: they make CTranslate2 models, and are loaded on first use only
    "onnxruntime/transformers",
    "onnxruntime/tools",
    "onnxruntime/quantization",
    "onnxruntime/datasets",
    "onnxruntime/backend",
    "onnxruntime/capi/libonnxruntime.so*",  # a second copy: the Python extension contains it
    "spacy/cli",  # for those who train models
    "onnx_asr/preprocessors/data/*_conv.onnx",  # for GPUs: on processors it computes features with NumPy
    "lxml/html",
    "lxml/includes",
    "lxml/*.pxi",
    "lxml/isoschematron",
    "lxml/objectify.*",  # python-docx writes with lxml.etree alone
    "pocketsphinx/model/en-us/*.lm.bin",  # 27 MB; forced alignment is given its words
    "ttconv/filters",  # ttconv writes TTML and SCC alone
    "ttconv/srt",
    "ttconv/stl",
    "ttconv/tt.py",
    "ttconv/vtt",
    "numpy/distutils",
    "numpy/f2py",  # a compiler of Fortran
    "numpy/_core/_simd.*",  # for numpy's own tests
    "PIL/_avif.*",  # Pillow draws letters here: it opens and writes no picture
    "PIL/_imagingcms.*",
    "PIL/_imagingtk.*",
    "PIL/_webp.*",
    "PIL/*Plugin.py",
    "pillow.libs/libavif*",
    "pillow.libs/liblcms2*",
    "pillow.libs/libsharpyuv*",
    "pillow.libs/libwebp*",
    "faster_whisper/assets/*.onnx",  # the vad stage has its own model
    "nvidia/*/lib/*.alt.so*",
    "share",
    "man",
)
"""Patterns relative to the folder of packages."""

NOT_NEEDED_TO_RUN = ("RECORD", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json", "INSTALLER")
"""Files in ``*.dist-info`` that installers write for themselves; some differ from build to build."""

PROGRAMS = ("dumb-init",)
"""Programs that stay in ``bin``."""


def prune(root: Path) -> int:
    """Remove what the lists name from a folder of packages; returns the bytes freed."""
    freed = 0
    for pattern in ONE_BY_ONE:
        for path in sorted(root.glob(pattern)):
            freed += _remove(path)
    for path in sorted(root.rglob("*"), reverse=True):  # the contents of a folder come before the folder
        name = path.relative_to(root).as_posix()
        if any(name == k or name.startswith(f"{k}/") or k.startswith(f"{name}/") for k in KEPT):
            continue
        info = path.parent.suffix == ".dist-info" and path.name in NOT_NEEDED_TO_RUN
        program = path.parent == root / "bin" and path.name not in PROGRAMS
        # A name of any folder above counts: what stands beside a kept file goes, though its folder stays.
        inner = path.relative_to(root).parts[1:]
        if info or program or any(fnmatch.fnmatch(part, p) for part in inner for p in EVERYWHERE):
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
