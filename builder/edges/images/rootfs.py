"""The root file system of a ``debian`` base: Debian's packages, fetched by mmdebstrap, without what no image needs."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.core.config.types import BaseSpec
from builder.core.platforms import Platform
from builder.core.progress import OnProgress, Progress
from builder.edges.system import files, shell
from builder.errors import MissingError, SourceError

EPOCH = 1_577_836_800
"""2020-01-01: the time of every file, as in images/tools/steps.py."""

DROPPED = (
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/bug",
    "usr/share/perl*",
    "usr/share/debconf",
    "usr/share/dpkg",
    "usr/share/i18n",
    "usr/share/gcc",
    "usr/share/menu",
    "usr/share/applications",
    "usr/share/pixmaps",
    "usr/share/binfmts",
    "usr/share/gdb",
    "usr/share/tabset",
    "usr/lib/*/gconv",
    "usr/lib/*/perl*",
    "usr/lib/*/audit",
    "usr/lib/dpkg",
    "usr/lib/apt",
    "usr/lib/init",
    "usr/bin/perl*",
    "usr/bin/dpkg*",
    "usr/bin/openssl",
    "usr/bin/c_rehash",
    "usr/bin/mawk",
    "usr/bin/awk",
    "usr/bin/gawk*",
    "usr/share/awk",
    "usr/lib/*/gawk",
    "usr/bin/apertium-des*",  # Apertium's formats of documents: it is given plain text
    "usr/bin/apertium-re[hlmoprtwx]*",
    "usr/bin/debconf*",
    "usr/bin/update-alternatives",
    "usr/sbin/*",
    "bin/tar",
    "sbin/*",
    "etc/dpkg",
    "etc/apt",
    "etc/perl",
    "etc/alternatives",
    "etc/cron*",
    "var/cache/*",
    "var/lib/*",
    "var/log/*",
    "run/*",
    # Python's modules for NIS and Berkeley DB, with what they alone need: Kerberos, RPC.
    "usr/lib/python3*/lib-dynload/nis.*",
    "usr/lib/*/libnsl.so*",
    "*lib/*/libtirpc.so*",
    "usr/lib/*/libgssapi_krb5.so*",
    "usr/lib/*/libkrb5*",
    "usr/lib/*/libk5crypto.so*",
    "usr/lib/*/krb5",
    "usr/lib/python3*/lib-dynload/_dbm.*",
    "usr/lib/*/libdb-5*",
    "usr/lib/python3*/lib-dynload/_curses*",
    "*lib/*/libncursesw.so*",
    "usr/lib/*/libformw.so*",
    "usr/lib/*/libmenuw.so*",
    "usr/lib/*/libpanelw.so*",
    "usr/lib/*/libtic.so*",
    "usr/lib/*/libexpatw.so*",  # expat for wide characters
    "usr/lib/*/engines-3",  # OpenSSL's for hardware
    "usr/share/zoneinfo/right",  # time with leap seconds
    "usr/lib/python3*/lib-dynload/_test*",
    "usr/lib/python3*/turtle.py",
    "usr/lib/python3*/test",
    "usr/lib/python3*/idlelib",
    "usr/lib/python3*/tkinter",
    "usr/lib/python3*/lib2to3",
    "usr/lib/python3*/pydoc_data",
    "usr/lib/python3*/ensurepip",
    "usr/lib/python3*/turtledemo",
    "usr/lib/python3*/config-*",
    "usr/lib/python3/dist-packages/*",
)
"""What goes, with all below it: manuals, translations, package managers, perl, iconv's tables."""

LISTED = "var/lib/bake-packages"
"""Where mmdebstrap notes the packages, in the root file system; it goes with the rest of ``var/lib``."""

LIST_PACKAGES = rf"""
format='${{Package}}\t${{Version}}\t${{Architecture}}\t${{source:Package}}\t${{source:Version}}'
for deb in "$1"/var/cache/apt/archives/*.deb; do
  printf '%s\t%s\n' "$(dpkg-deb --show --showformat="$format" "$deb")" "$(sha256sum < "$deb" | cut -c-64)"
done > "$1/{LISTED}"
"""
"""A hook for when all packages are unpacked and their archives still there: a line each, for the papers of images."""

LARGEST_LIST = 4 << 20
"""Bytes of such a list; of the largest base it is 40 kB."""

DEFAULT_MIRROR = "https://" + ".".join(("deb", "debian", "org")) + "/debian"


def rootfs(
    spec: BaseSpec,
    packages: Sequence[str],
    cache: Path,
    *,
    env: Mapping[str, str],
    on_progress: OnProgress,
    refresh: bool = False,
    platform: Platform | None = None,
) -> Path:
    """The root file system as a tar file, made once for a suite and a list of packages.

    Args:
        cache: folder for it; keyed by what it is made of.
        platform: another one than this machine's. Packages are unpacked and none of their programs run, so that takes no
            emulator.
        refresh: make it again, with the mirror's packages of today.

    Raises:
        MissingError: mmdebstrap is not on this machine.
        SourceError: the mirror can't be reached or doesn't have a package.
    """
    target = _path(spec, packages, cache, platform)
    with files.locked(cache / "lock"):
        if target.is_file() and not refresh:
            return target
        require_tool()
        whose = f" for {platform.name}" if platform else ""
        on_progress(Progress(what="base", note=f"fetching Debian {spec.suite}'s packages{whose}"))
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as folder:
            raw, reduced = Path(folder) / "raw.tar", Path(folder) / "rootfs.tar"
            argv = [
                "mmdebstrap",
                "--quiet",
                "--variant=extract",
                *([f"--architectures={platform.architecture}"] if platform else []),
                f"--include={','.join(packages)}",
                "--format=tar",
                "--aptopt=APT::Install-Recommends false",
                "--aptopt=Acquire::http::Timeout 10",
                "--aptopt=Acquire::Retries 1",
                f"--extract-hook={LIST_PACKAGES}",
                spec.suite,
                str(raw),
                *sources(spec.suite, Path("/etc/apt")),
            ]
            done = shell.run(argv, env={**env, "SOURCE_DATE_EPOCH": str(EPOCH), "TMPDIR": folder})
            if done.code != 0:
                raise _failed(done.err, spec.suite)
            reduce(raw, reduced)
            files.write_atomic(_list(target), _listed(raw))
            reduced.replace(target)
    on_progress(Progress(what="base", note=f"{target.stat().st_size / 1e6:.0f} MB", finished=True))
    return target


def require_tool() -> None:
    """Raises MissingError when mmdebstrap is not on this machine."""
    if shutil.which("mmdebstrap") is None:
        raise MissingError(
            "a base from Debian's packages needs mmdebstrap", hint="apt-get install mmdebstrap, or base.kind: registry"
        )


def _path(spec: BaseSpec, packages: Sequence[str], cache: Path, platform: Platform | None = None) -> Path:
    """Where a root file system is kept, by what it is made of."""
    parts = (spec.suite, sorted(packages), DROPPED, EPOCH, *([platform.name] if platform else []))
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    return cache / f"{spec.suite}-{key}" / "rootfs.tar"


def _list(root: Path) -> Path:
    """Where the list of a root file system's packages is kept."""
    return root.with_suffix(".packages")


def _listed(raw: Path) -> bytes:
    """What :data:`LIST_PACKAGES` wrote; empty where there is nothing of it."""
    with tarfile.open(raw) as archive:
        for member in archive:
            if member.name.removeprefix("./") == LISTED and member.isreg() and member.size <= LARGEST_LIST:
                source = archive.extractfile(member)
                return source.read() if source else b""
    return b""


def packages_of(root: Path) -> str:
    """The list of a root file system's packages: a line each, with tabs; empty for one that an older version made.

    Name, version, architecture, source package, its version, hex sha256 of the archive.
    """
    return (files.read_file(_list(root)) or b"").decode("utf-8", "replace")


def known(spec: BaseSpec, packages: Sequence[str], cache: Path, platform: Platform | None = None) -> str | None:
    """The digest of a root file system that was made before; None when there is none yet."""
    path = root_of(spec, packages, cache, platform)
    return digest(path) if path else None


def root_of(spec: BaseSpec, packages: Sequence[str], cache: Path, platform: Platform | None = None) -> Path | None:
    """A root file system that was made before; None when there is none yet."""
    path = _path(spec, packages, cache, platform)
    return path if path.is_file() else None


def sources(suite: str, folder: Path) -> list[str]:
    """Lines for sources.list: the mirrors that this machine's apt uses for the suite, else Debian's own."""
    entries = []
    for path in sorted(folder.glob("sources.list.d/*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text(errors="replace")):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
            if "deb" in fields.get("Types", "").split():
                entries += [
                    f"deb {uri} {name} main"
                    for uri in fields.get("URIs", "").split()
                    for name in fields.get("Suites", "").split()
                ]
    lists = [folder / "sources.list", *sorted(folder.glob("sources.list.d/*.list"))]
    for path in lists:
        if path.is_file():
            lines = re.findall(
                r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s", path.read_text(errors="replace"), re.MULTILINE
            )
            entries += [f"deb {uri} {name} main" for uri, name in lines]
    ours = [line for line in dict.fromkeys(entries) if re.fullmatch(rf"{suite}(-updates|-security)?", line.split()[2])]
    return ours if any(line.split()[2] == suite for line in ours) else [f"deb {DEFAULT_MIRROR} {suite} main"]


def reduce(raw: Path, made: Path) -> None:
    """Copy a root file system without :data:`DROPPED`, in the order of names, with fixed times."""
    with tarfile.open(raw) as source, tarfile.open(made, "w", format=tarfile.GNU_FORMAT) as out:
        for member in sorted(source.getmembers(), key=lambda m: m.name):
            name = member.name.removeprefix("./").rstrip("/")
            parts = name.split("/")
            heads = ["/".join(parts[: k + 1]) for k in range(len(parts))]
            if not name or member.isdev() or any(fnmatch.fnmatch(h, p) for h in heads for p in DROPPED):
                continue
            if name.startswith("usr/share/doc/") and not member.isdir() and parts[-1] != "copyright":
                continue  # licences stay
            member.name, member.mtime = name, EPOCH
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.pax_headers = {}
            out.addfile(member, source.extractfile(member) if member.isreg() else None)


def _failed(text: str, suite: str) -> SourceError | MissingError:
    tail = [line for line in text.splitlines() if line.strip()][-6:]
    if files.disk_full(text):
        return MissingError("the disk is full", hint="free 500 MB, or use --home DIR", detail=tail)
    return SourceError(
        f"the base could not be made from Debian {suite}'s packages",
        detail=tail,
        hint="check this machine's apt sources, or set base.kind: registry in bake.yaml",
    )


def digest(path: Path) -> str:
    """``sha256:…`` of the root file system, for the label base.digest; kept beside it."""
    note = path.with_suffix(".sha256")
    if not note.is_file() or note.stat().st_mtime < path.stat().st_mtime:
        files.write_atomic(note, files.sha256(path))
        os.utime(note)
    return f"sha256:{note.read_text().strip()}"
