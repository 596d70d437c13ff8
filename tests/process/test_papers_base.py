"""Which packages a base has: dpkg's own list in the layers of a registry's image, and what mmdebstrap noted."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import zstandard

from builder.core.config.types import BaseSpec
from builder.core.images import oci
from builder.core.images.oci import Layer
from builder.edges.images import rootfs
from builder.edges.images.layout import Layout
from builder.edges.papers import base
from builder.edges.system import files

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9
Description: one
 Version: 9

Package: gone
Status: deinstall ok config-files
Version: 1

Package: python3-minimal
Status: install ok installed
Architecture: amd64
Source: python3-defaults (3.11.2-1)
Version: 3.11.2-1+b1
"""


def tar(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def layers(layout: Layout, *tars: bytes) -> list[Layer]:
    """Layers of zstd, as BuildKit exports them."""
    made = []
    for data in tars:
        blob = layout.take(iter([zstandard.ZstdCompressor().compress(data)]), f"{oci.TAR}+zstd")
        made.append(Layer(blob=blob, diff_id=oci.digest(data), history={}))
    return made


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout", tmp_path / "store")


def test_the_upper_layers_list_counts(layout: Layout) -> None:
    """With its source packages; what was removed isn't there; a file of an image without dpkg counts too."""
    found = base.of_layers(
        layout,
        layers(
            layout,
            tar({"var/lib/dpkg/status": STATUS.replace("2.36-9", "2.36-1").encode()}),
            tar(
                {
                    "./var/lib/dpkg/status": STATUS.encode(),
                    "var/lib/dpkg/status.d/tz": b"Package: tzdata\nVersion: 2026f\n",
                }
            ),
        ),
        name="python:3.11",
        digest="sha256:1",
        env=["PATH=/bin"],
    )
    rows = [(p.name, p.version, p.source, p.source_version) for p in found.packages]
    assert rows == [
        ("libc6", "2.36-9", "glibc", "2.36-9"),
        ("python3-minimal", "3.11.2-1+b1", "python3-defaults", "3.11.2-1"),
        ("tzdata", "2026f", "tzdata", "2026f"),
    ]
    assert found.python == (3, 11)


def test_an_image_says_which_python_it_has(layout: Layout) -> None:
    """Python's own images have it beside Debian's packages."""
    found = base.of_layers(
        layout,
        layers(layout, tar({"var/lib/dpkg/status": STATUS.encode()})),
        name="python:3.13",
        digest="sha256:1",
        env=["PYTHON_VERSION=3.13.5"],
    )
    assert found.python == (3, 13)


def test_a_list_that_is_too_large_or_damaged_is_no_list(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's image fills the memory, and papers are made without its packages."""
    monkeypatch.setattr(base, "LARGEST", 100)
    large = layers(layout, tar({"var/lib/dpkg/status": STATUS.encode()}))
    assert base.of_layers(layout, large, name="x", digest="", env=[]).packages == ()
    [broken] = layers(layout, b"this is not a tar" * 100)
    assert base.of_layers(layout, [broken], name="x", digest="", env=[]).packages == ()
    [gone] = layers(layout, tar({"var/lib/dpkg/status": b"Package: a\n"}))
    layout.path(gone.blob.digest).unlink()
    assert base.of_layers(layout, [gone], name="x", digest="", env=[]).packages == ()


LIST = f"libc6\t2.36-9\tamd64\tglibc\t2.36-9\t{'a' * 64}\nnot a row\npython3-minimal\t3.11.2\tamd64\tp\t1\t{'b' * 64}\n"


def kept(cache: Path, raw: bytes) -> Path:
    """A root file system, as :func:`rootfs.rootfs` keeps one that mmdebstrap made."""
    spec = BaseSpec(kind="debian")
    target = rootfs._path(spec, ["libc6"], cache)
    target.parent.mkdir(parents=True)
    (cache / "raw.tar").write_bytes(raw)
    rootfs.reduce(cache / "raw.tar", target)
    files.write_atomic(rootfs._list(target), rootfs._listed(cache / "raw.tar"))
    return target


def test_what_mmdebstrap_noted_is_kept_beside_the_root_and_isnt_in_it(tmp_path: Path) -> None:
    """The root file system's digest doesn't depend on it."""
    plain = {"./usr/bin/python3.11": b"", "./etc/hosts": b"x"}
    with_list = {**plain, f"./{rootfs.LISTED}": LIST.encode()}
    one, two = kept(tmp_path / "one", tar(plain)), kept(tmp_path / "two", tar(with_list))
    assert one.read_bytes() == two.read_bytes()
    found = base.of_root(BaseSpec(kind="debian"), ["libc6"], tmp_path / "two", rootfs.digest(two))
    assert [(p.name, p.version, p.sha256[:1], p.suite) for p in found.packages] == [
        ("libc6", "2.36-9", "a", "bookworm"),
        ("python3-minimal", "3.11.2", "b", "bookworm"),
    ]
    assert found.python == (3, 11)


def test_a_root_without_a_list_has_the_names_that_were_asked_for(tmp_path: Path) -> None:
    """An older version made it, or it isn't the one that the image stands on: no version is made up."""
    root = kept(tmp_path, tar({"./usr/bin/python3.11": b""}))
    old = base.of_root(BaseSpec(kind="debian"), ["libc6"], tmp_path, rootfs.digest(root))
    assert [(p.name, p.version) for p in old.packages] == [("libc6", "")]
    assert old.python == (3, 11)
    other = base.of_root(BaseSpec(kind="debian"), ["libc6"], tmp_path, f"sha256:{'0' * 64}")
    assert [(p.name, p.version) for p in other.packages] == [("libc6", "")]
    assert other.python is None
