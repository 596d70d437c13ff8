#!/usr/bin/env python3
"""What the tests need on a bare Debian: an engine, mmdebstrap, a browser… Installed once; then this only looks.

CI runs it, and so does ``CI=true python3 build.py test``, with the project's own interpreter. On a machine that has
everything, or that is not Debian, it installs nothing.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]

PROGRAMS = {
    "docker-registry": "docker-registry",
    "espeak-ng": "espeak-ng",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "chromium": "chromium",
    "openssl": "openssl",
    "pkcs11-tool": "opensc",
    "podman": "podman",
    "skopeo": "skopeo",
    "qemu-aarch64-static": "qemu-user-static",
    "softhsm2-util": "softhsm2",
    "apertium": "apertium-eng-spa",
    "ffmpeg": "ffmpeg",
    "mkfs.ext4": "e2fsprogs",
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
}
"""Programs that tests use, and the packages that have them.

Where systemd runs, munge's own daemon is started, too: it hears nothing but its Unix socket, and the tests have another.
Slurm's wait for a configuration that nobody writes.
"""

ENGINE = {
    "dockerd": "docker.io",
    "docker": "docker-cli",
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
}
"""Programs of the engine that tests start for themselves, and Debian's packages."""

READERS = {"cosign": "cosign", "oras": "oras"}
"""Programs that read what was pushed, and the packages that have them; Debian 12 has none, 13's run on it."""

PLUGINS = ("docker-buildx", "docker-compose")
"""Packages of the engine that have no program on the PATH."""

BUILDX = ("/usr/libexec/docker/cli-plugins/docker-buildx", "/usr/lib/docker/cli-plugins/docker-buildx")

NEXT = """\
Types: deb
URIs: {uri}
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""

PINS = """\
Package: *
Pin: release n=trixie
Pin-Priority: 100

Package: docker.io docker-cli docker-buildx docker-compose containerd
Pin: release n=trixie
Pin-Priority: 990
"""

TAIL = 8
"""Lines of apt's output that are shown when it fails."""


def missing(which: Callable[[str], str | None]) -> list[str]:
    """The packages of programs that ``which`` doesn't find, without the engine's."""
    return [package for program, package in PROGRAMS.items() if which(program) is None]


def lacks_engine(which: Callable[[str], str | None], exists: Callable[[str], bool]) -> bool:
    """Whether a program of the engine or buildx is not on this machine."""
    return any(which(program) is None for program in ENGINE) or not any(exists(path) for path in BUILDX)


def release(text: str) -> tuple[str, str]:
    """The distribution and its code name, from the text of /etc/os-release; "" for what it doesn't say."""
    names = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', text, re.MULTILINE))
    return names.get("ID", ""), names.get("VERSION_CODENAME", "")


def newer_packages(names: Sequence[str], distribution: str, suite: str, etc_apt: Path) -> list[str]:
    """These packages, after telling apt of trixie on a bookworm: Debian 12's are too old or missing, 13's run on it."""
    if distribution != "debian" or os.geteuid() != 0:
        _stop(
            f"the engine tests need {', '.join(names)}",
            "install docker 23 or later with buildx, cosign and oras, or run as root on Debian",
        )
    if suite == "bookworm":
        sys.path.insert(0, str(ROOT))
        from builder.edges.images import rootfs  # .venv is there: this runs with its interpreter

        uri = rootfs.sources("bookworm", etc_apt)[0].split()[1]
        (etc_apt / "sources.list.d/whisperbake-engine.sources").write_text(NEXT.format(uri=uri))
        (etc_apt / "preferences.d/whisperbake-engine").write_text(PINS)
    return list(names)


def install(packages: Sequence[str]) -> None:
    """Install Debian packages in one transaction, or stop and say what to type."""
    names = " ".join(packages)
    command = f"apt-get install --no-install-recommends {names}"
    if os.geteuid() != 0:
        _stop(f"the tests need {names}", f"sudo {command}")
    _say(f"installing {names}…")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # An update that fails for one of several sources is no reason to stop: the install shows whether it matters.
    subprocess.run(["apt-get", "update", "-qq"], env=env, capture_output=True, check=False)
    # Nobody keeps a test machine whose power fails: fsync for every file takes longer than unpacking it.
    quick = ["-o", "Dpkg::Options::=--force-unsafe-io", "-qq", "-y"]
    done = subprocess.run([*command.split(), *quick], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        for line in done.stderr.splitlines()[-TAIL:]:
            _say(f"  | {line}")
        _stop(f"{names} could not be installed", command)


def main() -> None:
    with (Path(tempfile.gettempdir()) / "whisperbake-provision.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once: the second finds everything installed
        packages = missing(shutil.which) if shutil.which("apt-get") else []
        newer = [package for program, package in READERS.items() if shutil.which(program) is None]
        if lacks_engine(shutil.which, os.path.exists):
            newer += [*dict.fromkeys(ENGINE.values()), *PLUGINS]
        if newer:
            text = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
            packages = newer_packages(newer, *release(text), Path("/etc/apt")) + packages
        if packages:
            install(packages)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _stop(what: str, following: str) -> NoReturn:
    _say(f"error: {what}")
    _say(f"  next: {following}")
    raise SystemExit(3)


if __name__ == "__main__":
    main()
