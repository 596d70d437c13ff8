"""Fetches what sources.yaml pins into bench/.work/sources, checked, once.

Repositories come from their public addresses by git, so that whoever has a copy can name it with git's own
``url.<copy>.insteadOf``.

    PYTHONPATH=.:bench .venv/bin/python -m speech.sources [--pin NAME]
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from harness import WORK

PLACE = WORK / "sources"


@cache
def pins() -> dict[str, dict[str, Any]]:
    """What sources.yaml says of each source."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "sources.yaml").read_text())
    return found


def digests(*names: str) -> list[str]:
    """The pinned digests of some sources."""
    return [str(pins()[name]["sha256"]) for name in names]


def folder(name: str) -> Path:
    """The folder of a source, fetched when it isn't here yet; ends the program when its bytes are not the pinned ones."""
    pin = pins()[name]
    place = PLACE / f"{name}-{pin['sha256'][:12]}"
    if not place.is_dir():
        got = fetched(name)
        digest = digest_of(name, got)
        if digest != pin["sha256"]:
            raise SystemExit(f"{name}: sha256 {digest}, pinned is {pin['sha256']}")
        if "deb" in pin:
            unpack(got / "package.deb", got)
        if "wheel" in pin:
            with zipfile.ZipFile(one_file(got)) as wheel:
                wheel.extractall(got)
        got.rename(place)
    return place


def fetched(name: str) -> Path:
    """A new folder with a source's bytes, unchecked."""
    print(f"fetching {name}, once…", file=sys.stderr)
    place = PLACE / f".{name}.part"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    pin = pins()[name]
    if "git" in pin:
        checkout(pin, place)
    elif "wheel" in pin:
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        words += ["--platform", pin["platform"], "--python-version", pin["python"], "--dest", str(place), pin["wheel"]]
        subprocess.run(words, check=True)
    else:
        # By apt and from where this machine's Debian comes; apt changes to a user of its own, who may not write here.
        words = ["apt-get", "download", "--quiet", "-o", "APT::Sandbox::User=root", pin["deb"]]
        subprocess.run(words, cwd=place, check=True, stdout=subprocess.DEVNULL)
        one_file(place).rename(place / "package.deb")
    return place


def checkout(pin: dict[str, Any], place: Path) -> None:
    """The wanted files of a commit, without the repository's history or its other files."""
    commands = [
        ["init", "--quiet"],
        ["remote", "add", "origin", pin["git"]],
        ["config", "remote.origin.promisor", "true"],
        ["config", "remote.origin.partialclonefilter", "blob:none"],
        ["config", "gc.auto", "0"],
        ["sparse-checkout", "set", "--no-cone", *(f"/{path}" for path in pin["take"])],
        ["fetch", "--quiet", "--depth", "1", "--filter=blob:none", "origin", pin["commit"]],
        ["checkout", "--quiet", "--detach", pin["commit"]],
    ]
    for words in commands:
        env = {**os.environ, "GIT_LFS_SKIP_SMUDGE": "1"}
        if subprocess.run(["git", "-C", str(place), *words], check=False, env=env).returncode:
            raise SystemExit(f"{pin['git']}: git {words[0]} failed (a copy elsewhere: git config url.<copy>.insteadOf)")
    shutil.rmtree(place / ".git")


def digest_of(name: str, place: Path) -> str:
    """Hex sha256 of what was fetched."""
    if "git" not in pins()[name]:
        return hashlib.sha256(one_file(place).read_bytes()).hexdigest()
    return hashlib.sha256(listed(place).encode()).hexdigest()


def one_file(place: Path) -> Path:
    """The package in a folder that has nothing else."""
    (found,) = place.iterdir()
    return found


def listed(place: Path) -> str:
    """A line for each file below a folder, sorted by path: its sha256 in hex, two spaces, its path."""
    files = sorted(p for p in place.rglob("*") if p.is_file() and not p.is_symlink())
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(place).as_posix()}\n" for p in files]
    return "".join(lines)


def unpack(package: Path, into: Path) -> None:
    """The files of a Debian package: an ar archive (deb(5)) whose data.tar.xz has them."""
    raw = package.read_bytes()
    at = len(b"!<arch>\n")
    while at < len(raw):
        name, size = raw[at : at + 16].decode().strip(), int(raw[at + 48 : at + 58])
        at += 60
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(lzma.decompress(raw[at : at + size]))) as tar:
                tar.extractall(into, filter="data")
        at += size + size % 2
    package.unlink()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--pin"]:
        for wanted in sys.argv[2:]:
            print(wanted, digest_of(wanted, fetched(wanted)))
    else:
        print(*(folder(name) for name in pins()), sep="\n")
