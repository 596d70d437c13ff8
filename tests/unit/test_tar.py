"""The one tar header: byte for byte what tarfile writes, and nothing of a machine in it."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.weights import layers
from builder.receiver.tar import BLOCK, END, folder_header, header, padding

PATHS = ["a", "blobs/sha256/" + "0" * 64, "x" * 99, "x" * 100, "x" * 101, "d/" * 60 + "f", "é" * 60, "n" * 240]


def info(path: str, size: int = 0, mode: int = 0o444, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.size, member.mode, member.type = size, mode, kind
    return member


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", [0, 1, 511, 512, (8 << 30) - 1, 8 << 30, 1 << 40])
def test_a_header_is_what_tarfile_writes(path: str, size: int) -> None:
    assert header(path, size) == info(path, size).tobuf(tarfile.GNU_FORMAT)


def test_short_names_and_small_files_are_plain_ustar_but_for_the_magic() -> None:
    """Any tar reads them: the GNU and the POSIX header differ in the eight bytes of the magic and the checksum."""
    ours, posix = header("a/b", 7, 0o640), info("a/b", 7, 0o640).tobuf(tarfile.USTAR_FORMAT)
    differing = {k for k in range(BLOCK) if ours[k] != posix[k]}
    assert differing <= {*range(257, 265), *range(148, 156)}


def test_nothing_of_a_machine_is_in_it() -> None:
    archive = io.BytesIO(header("a", 0) + folder_header("d", 0o755) + bytes(END))
    with tarfile.open(fileobj=archive) as tar:
        file, folder = tar.getmembers()
    assert (file.uid, file.gid, file.mtime, file.uname, file.gname, file.mode) == (0, 0, 0, "", "", 0o444)
    assert (folder.isdir(), folder.name, folder.mode, folder.mtime) == (True, "d", 0o755, 0)


@given(st.integers(0, 1 << 44))
def test_padding_fills_the_last_block(size: int) -> None:
    assert 0 <= padding(size) < BLOCK
    assert (size + padding(size)) % BLOCK == 0


@given(st.dictionaries(st.sampled_from(PATHS), st.binary(max_size=1500), max_size=4))
def test_headers_and_padding_make_an_archive_that_tarfile_would_write(files: dict[str, bytes]) -> None:
    ours = b"".join(header(path, len(data)) + data + bytes(padding(len(data))) for path, data in files.items())
    theirs = io.BytesIO()
    with tarfile.open(fileobj=theirs, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, data in files.items():
            tar.addfile(info(path, len(data)), io.BytesIO(data))
    assert theirs.getvalue().startswith(ours + bytes(END)), "tarfile pads the end to ten kilobytes"


def test_a_weight_layer_is_the_size_it_says() -> None:
    """Headers, bytes and padding of folders and files add up to :attr:`WeightLayer.size`."""
    member = layers.Member(path="models/" + "m" * 120, size=5, sha256="0" * 64, text="12345")
    layer = layers.WeightLayer(name="m/rest", models=("m",), members=(member,), folders={"models": 0o755})
    tar = b"".join(piece for piece in layers.pieces(layer) if isinstance(piece, bytes))
    assert len(tar) == layer.size
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        folder, file = archive.getmembers()
    assert (folder.mode, file.mode, file.size, file.name) == (0o755, layers.FILE, 5, member.path)
