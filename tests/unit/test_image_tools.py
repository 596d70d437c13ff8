"""What runs inside build stages: pruning, stripping, the site's settings, fixed times."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tool(name: str) -> ModuleType:
    folder = str(ROOT / "images/tools")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10)
    return root


def test_pruning_takes_what_the_list_names_and_nothing_else(tmp_path: Path) -> None:
    kept = {
        "numpy/__init__.py",
        "numpy/_core/tests/_natype.py",
        "numpy/testing/__init__.py",
        "av/x.so",
        "bin/dumb-init",
        "ctranslate2/models/__init__.py",
        "tests_of_mine.py",
        "a-1.dist-info/METADATA",
        "a-1.dist-info/licenses/LICENSE",
        "torch/testing/__init__.py",
        "thinc/backends/_custom_kernels.cu",
        "numpy/_core/_multiarray_umath.so",
        "PIL/_imagingft.so",
        "pillow.libs/libfreetype-1.so.6",
        "pocketsphinx/model/en-us/en-us/mdef",
    }
    gone = {
        "numpy/linalg/tests/test_a.py",
        "numpy/_core/tests/test_a.py",
        "numpy/_core/tests/data/a.csv",
        "numpy/_core/include/numpy/a.h",
        "numpy/a.pyi",
        "bin/f2py",
        ".lock",
        "ctranslate2/converters/__init__.py",
        "onnxruntime/capi/libonnxruntime.so.1.32.0",
        "a-1.dist-info/RECORD",
        "pocketsphinx/model/en-us/en-us.lm.bin",
        "numpy/_core/lib/libnpymath.a",
        "share/man/man1/a.1",
        "numpy/__pycache__/x.pyc",
        "numpy/_core/_simd.so",
        "numpy/f2py/__init__.py",
        "PIL/_avif.so",
        "PIL/PngImagePlugin.py",
        "pillow.libs/libavif-1.so.16",
        "pillow.libs/libwebpmux-1.so.3",
        "lxml/parser.pxi",
    }
    tree(tmp_path, *kept, *gone)
    assert tool("prune").prune(tmp_path) > 0
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()} == kept


def library(folder: Path) -> Path:
    """A shared library with symbols, compiled by this machine."""
    source = folder / "a.c"
    source.write_text("static int hidden(int a) { return a + 1; }\nint shown(int a) { return hidden(a) * 2; }\n")
    compiled = folder / "a.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-g", "-o", str(compiled), str(source)], check=True)
    return compiled


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler; the engine tests strip real libraries")
def test_a_stripped_library_loads_and_has_no_symbol_table(tmp_path: Path) -> None:
    """As strip would leave it, and it still computes."""
    path = library(tmp_path)
    assert tool("elf").strip(path) > 0
    code = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).shown(20))"
    called = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert called.stdout == "42\n"
    if shutil.which("readelf"):
        sections = subprocess.run(["readelf", "-SW", str(path)], capture_output=True, text=True, check=True)
        assert ".symtab" not in sections.stdout
        assert ".debug_info" not in sections.stdout
        assert ".dynsym" in sections.stdout
        assert "arning" not in sections.stderr
    assert tool("elf").strip(path) == 0, "the second time nothing is left to remove"


@pytest.mark.parametrize(
    "data", [b"", b"\x7fELF", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + b"\0" * 100, b"\x7fELF\x02\x01" + b"\0" * 100]
)
def test_what_is_not_a_library_stays_unchanged(data: bytes) -> None:
    assert tool("elf").stripped(data) == data


def test_a_sites_settings_reach_only_what_goes_to_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come from the secrets; nothing comes from the build's own environment."""
    steps = tool("steps")
    monkeypatch.setattr(steps, "SECRETS", tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    (tmp_path / "site").write_text("PIP_INDEX_URL=https://a:b@index/simple\nempty=\n\nnot a setting\n")
    (tmp_path / "ca").write_text("certificate")
    env = steps.site()
    assert env["PIP_INDEX_URL"] == "https://a:b@index/simple"
    assert env["SSL_CERT_FILE"] == env["PIP_CERT"] == str(tmp_path / "ca")
    assert not {"HF_TOKEN", "empty", "not a setting"} & env.keys()


def test_settled_files_have_one_time_and_one_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same input gives the same layer, at any time and with any umask."""
    steps = tool("steps")
    monkeypatch.setattr(steps, "OUT", tree(tmp_path, "a/b.py", "a/run"))
    (tmp_path / "a/run").chmod(0o700)
    (tmp_path / "a/b.py").chmod(0o600)
    (tmp_path / "link").symlink_to("a/b.py")
    steps.settle()
    for path in [tmp_path, *tmp_path.rglob("*")]:
        assert path.lstat().st_mtime == steps.EPOCH, path
    assert [(tmp_path / n).stat().st_mode & 0o777 for n in ("a", "a/run", "a/b.py")] == [0o755, 0o755, 0o644]


def test_bytecode_is_the_same_each_time_and_names_no_build_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = tool("steps")
    compiled = []
    for part in ("one", "two"):
        out = tmp_path / part
        (out / "opt").mkdir(parents=True)
        (out / "opt/m.py").write_text("def f(a):\n    return {'x': a, 'y': (1, 2, 'z')}\n")
        os.utime(out / "opt/m.py", (1, 1 if part == "one" else 2))
        monkeypatch.setattr(steps, "OUT", out)
        steps.compiled(out)
        (bytecode,) = out.rglob("*.pyc")
        compiled.append(bytecode.read_bytes())
    assert compiled[0] == compiled[1]
    assert str(tmp_path).encode() not in compiled[0]


def test_a_stage_has_bytecode_of_what_it_imports() -> None:
    """Through others too; not of what other stages share, and not of what only a Mac runs."""
    left = {path.stem for path in tool("steps").unused(ROOT / "stages", "asr")}
    assert {"media", "retiming", "mlxwhisper"} <= left
    assert not left & {"contract", "several", "handed", "watched", "slim", "full", "onnxasr"}
    assert "media" not in {path.stem for path in tool("steps").unused(ROOT / "stages", "demux")}


def test_a_users_line_is_added_once(tmp_path: Path) -> None:
    steps = tool("steps")
    passwd = tmp_path / "passwd"
    passwd.write_text("root:x:0:0::/root:/bin/sh\nbake:x:7:7::/:/\n")
    assert steps.lines(str(passwd), steps.USER, steps.NOBODY).splitlines() == [
        "root:x:0:0::/root:/bin/sh",
        "bake:x:7:7::/:/",
        steps.NOBODY,
    ]


def test_only_locked_wheels_are_installed_in_an_image(tmp_path: Path) -> None:
    """Every file is checked by hash, nothing is compiled, and no configuration of the build's machine counts."""
    command = tool("steps").uv_install(tmp_path / "lock.txt", tmp_path / "lib", "--no-cache")
    assert command[:3] == ["/uv/bin/uv", "pip", "install"]
    assert {"--no-deps", "--require-hashes", "--no-config", "--no-cache"} < set(command)
    for option, value in (
        ("--only-binary", ":all:"),
        ("--target", str(tmp_path / "lib")),
        ("--requirement", str(tmp_path / "lock.txt")),
    ):
        assert command[command.index(option) + 1] == value
