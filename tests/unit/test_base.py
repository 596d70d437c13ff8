"""The root file system of a debian base: where it comes from, and what it leaves out."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from builder.core.config.types import BaseSpec
from builder.edges.images import rootfs
from builder.errors import MissingError

SOURCES = """\
Types: deb
URIs: http://mirror.site/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: http://mirror.site/security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://mirror.site/debian
Suites: trixie
Components: main
"""


def test_the_mirrors_of_this_machine_are_asked(tmp_path: Path) -> None:
    """With security updates, and nothing of another suite."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(SOURCES)
    (tmp_path / "sources.list").write_text("# none\ndeb [signed-by=/x] http://old.site/debian bookworm main contrib\n")
    assert rootfs.sources("bookworm", tmp_path) == [
        "deb http://mirror.site/debian bookworm main",
        "deb http://mirror.site/debian bookworm-updates main",
        "deb http://mirror.site/security bookworm-security main",
        "deb http://old.site/debian bookworm main",
    ]
    assert len(rootfs.sources("sid", tmp_path)) == 1, "Debian's own mirror, where this machine has none of the suite"


def archive(path: Path, names: dict[str, str]) -> None:
    with tarfile.open(path, "w") as tar:
        for number, (name, kind) in enumerate(names.items()):
            member = tarfile.TarInfo(f"./{name}")
            member.mtime, member.uid, member.uname = 1_000_000 + number, number, "somebody"
            member.type = {"dir": tarfile.DIRTYPE, "dev": tarfile.CHRTYPE, "link": tarfile.SYMTYPE}.get(
                kind, tarfile.REGTYPE
            )
            member.linkname = "target" if kind == "link" else ""
            member.size = 3 if kind == "file" else 0
            tar.addfile(member, io.BytesIO(b"abc"))


def test_only_what_an_image_needs_is_left(tmp_path: Path) -> None:
    """Python and its libraries, licences and certificates stay; perl, dpkg, manuals, devices go."""
    kept = {
        "usr": "dir",
        "usr/bin/python3.11": "file",
        "usr/bin/python3": "link",
        "usr/lib/python3.11/os.py": "file",
        "usr/share/doc/libc6/copyright": "file",
        "usr/share/ca-certificates/mozilla/A.crt": "file",
        "usr/lib/python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so": "file",
        "lib/x86_64-linux-gnu/libmvec.so.1": "file",  # libx265 of PyAV's wheel has it
    }
    gone = {
        "usr/share/doc/libc6/changelog.gz": "file",
        "usr/share/man/man1/a": "file",
        "usr/bin/perl": "file",
        "usr/lib/x86_64-linux-gnu/perl-base/x.pm": "file",
        "usr/lib/python3.11/test/a.py": "file",
        "dev/null": "dev",
        "var/lib/dpkg/status": "file",
        "usr/lib/x86_64-linux-gnu/gconv/A.so": "file",
        "usr/lib/python3.11/lib-dynload/nis.cpython-311-x86_64-linux-gnu.so": "file",
        "lib/x86_64-linux-gnu/libtirpc.so.3": "link",
        "usr/lib/x86_64-linux-gnu/libdb-5.3.so": "file",
        "usr/lib/x86_64-linux-gnu/krb5/plugins/preauth/spake.so": "file",
    }
    archive(tmp_path / "raw.tar", {**gone, **kept})
    rootfs.reduce(tmp_path / "raw.tar", tmp_path / "one.tar")
    with tarfile.open(tmp_path / "one.tar") as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == sorted(kept)
    assert {(m.mtime, m.uid, m.uname) for m in members} == {(rootfs.EPOCH, 0, "")}
    archive(tmp_path / "raw.tar", {**kept, **gone})
    rootfs.reduce(tmp_path / "raw.tar", tmp_path / "two.tar")
    with tarfile.open(tmp_path / "two.tar") as tar:
        assert [m.name for m in tar.getmembers()] == sorted(kept), "whatever order mmdebstrap wrote them in"


def test_without_mmdebstrap_the_next_step_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="mmdebstrap") as caught:
        rootfs.rootfs(BaseSpec(kind="debian"), ["base-files"], tmp_path, env={}, on_progress=lambda _: None)
    assert "apt-get install mmdebstrap" in str(caught.value.hint)
