"""The search for canaries finds one in whatever a test may leave."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import sqlite3
import subprocess
import sys
import tarfile
import urllib.parse
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests import canaries

ROOT = Path(__file__).resolve().parents[2]
CORE = "cnyUnitTest0123456789"
"""Another than this run's, which may be nowhere."""


def tarred(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("METADATA", data)
    return out.getvalue()


def database(data: bytes) -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (a)")
    connection.execute("insert into t values (?)", (data.decode(),))
    connection.commit()
    return bytes(connection.serialize()) if sys.version_info >= (3, 11) else data


FORMS: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "percent-encoded": lambda text: urllib.parse.quote(text, safe="").encode(),
    "JSON": lambda text: json.dumps({"a": f'"{text}\u00e9'}).encode(),
    "hexadecimal": lambda text: text.encode().hex().encode(),
    **{f"base64 after {n}": lambda text, n=n: base64.b64encode(b"x" * n + text.encode() + b"yz") for n in range(3)},
}

CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "file": lambda data: b"\0" * 3000 + data,
    "tar": lambda data: tarred("a", data),
    "tar.gz": lambda data: gzip.compress(tarred("a", data)),
    "tar.zst": lambda data: zstandard.compress(tarred("a", data)),
    "tar.xz": lambda data: lzma.compress(tarred("a", data)),
    "bz2": bz2.compress,
    "zip": zipped,
    "sqlite": database,
    "a layer in a bundle": lambda data: tarred("blobs/sha256/0", zstandard.compress(tarred("etc/x", data))),
    "a wheel in a layer": lambda data: gzip.compress(tarred("w.whl", zipped(data))),
    "across two chunks": lambda data: gzip.compress(b" " * (canaries.CHUNK - 10) + data),
}


@pytest.mark.parametrize(
    ("form", "container"),
    [*((form, kind) for form in FORMS for kind in ("file", "tar.gz")), *(("plain", kind) for kind in CONTAINERS)],
)
def test_a_canary_is_found_in_everything_that_tests_make(tmp_path: Path, form: str, container: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_bytes(CONTAINERS[container](FORMS[form](f"me:{CORE}@host")))
    (tmp_path / "folder" / "other").write_bytes(CONTAINERS[container](b"nothing"))
    found = canaries.left_in([tmp_path], CORE)
    assert {line[: len(f"{tmp_path}/folder/x")] for line in found} == {f"{tmp_path}/folder/x"}


def test_a_canary_is_found_across_parts_of_a_bundle_in_names_and_behind_damage(tmp_path: Path) -> None:
    packed = tarred("blob", zstandard.compress(tarred("x", bytes(range(256)) * 40 + CORE.encode()), level=1))
    for number, at in enumerate(range(0, len(packed), 700)):
        (tmp_path / f"b.tar.{number:03}").write_bytes(packed[at : at + 700])
    os.mkfifo(tmp_path / "b.tar.099")  # of a hostile bundle: nothing waits for its writer
    (tmp_path / "named.tar.gz").write_bytes(gzip.compress(tarred(f"x/{CORE}", b"")))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"a" * 5000 + CORE.encode() + bytes(range(256)))[:-9])
    found = canaries.left_in([tmp_path], CORE)
    assert {Path(line.split(": ")[0]).relative_to(tmp_path).parts[0] for line in found} == {
        "b.tar.000",
        "named.tar.gz",
        "cut.gz",
    }


def test_a_file_is_searched_once_and_links_are_not_followed(tmp_path: Path) -> None:
    """A large copy isn't read again; a canary outside isn't the test's."""
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    folder.mkdir()
    outside.write_bytes(CORE.encode() + b"\0" * (2 * canaries.LARGE))
    (folder / "link").symlink_to(outside)
    assert canaries.left_in([folder], CORE) == []
    (folder / "hard").hardlink_to(outside)
    (folder / "copy").write_bytes(outside.read_bytes())
    assert len(canaries.left_in([folder], CORE)) == 1


def test_arguments_and_output_of_processes_are_looked_at() -> None:
    """Also of a process that a child starts."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(ROOT)], input=CORE, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == ["printed", "argument", "argument of a grandchild", "environment of a stage"]


WATCHED = """
import json, os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from tests import canaries

core = sys.stdin.read()
watch = canaries.Watch(core)
watch.start()
echo = subprocess.run(["cat"], input=core[::-1], text=True, capture_output=True).stdout[::-1]
assert echo == core and watch.seen == []
found = []

def after(what, words, text="", **options):
    subprocess.run(words, input=text, text=True, capture_output=True, **options)
    found.extend([what] if len(watch.seen) > watch.said else [])
    watch.said = len(watch.seen)

watch.said = 0
after("printed", ["cat"], core)
after("argument", ["true", core])
after("argument of a grandchild", ["sh"], f"sh -c 'sleep 0.5; true' {core}; true")
stage = ["sh", "-c", "sleep 0.5; true", "/stages/vad/main.py"]
after("environment of a stage", stage, env={"PATH": os.environ["PATH"], "BAKE_PARENT": "1", "HF_TOKEN": core})
watch.stop()
print(json.dumps(found))
"""
