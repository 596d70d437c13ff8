"""Podman of Debian 13 as a machine of the tests' own: its root, its storage and its processes are gone when it is left."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.clusters import condor

PACKAGES = ("podman", "crun", "conmon", "netavark", "catatonit", "ca-certificates", "iptables", "python3", "uidmap")
"""Debian's packages in its root."""

PREPARE = """\
set -e
mount --bind {root} {root}
mount --make-rprivate /
mount -t proc proc {root}/proc
mount --rbind /sys {root}/sys
mount --rbind /dev {root}/dev
mount -t tmpfs tmpfs {root}/run
umount {root}/sys/fs/cgroup/unified 2>/dev/null || true  # crun takes no mixture of both kinds of cgroups
{binds}
cd {root}
mkdir -p .old
pivot_root . .old
exec chroot . sh -c {command}
"""
"""In mounts and process numbers of its own. The root is a mount: what unpacks layers mounts it anew."""


def why_not() -> str | None:
    """Why there can be none here, in a few words."""
    return condor.why_not()


@dataclass(frozen=True)
class Podman:
    """A podman that is asked by commands."""

    root: Path
    folders: Sequence[Path]
    """Of this machine, at the same path there."""

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run lines of a shell, in which ``podman`` is it; what they started ends with them."""
        binds = []
        for folder in (*self.folders, self.root.parent / "storage"):
            target = self.root / ("var/lib/containers" if folder.name == "storage" else str(folder).lstrip("/"))
            target.mkdir(parents=True, exist_ok=True)
            binds.append(shlex.join(["mount", "--bind", str(folder), str(target)]))
        lines = [
            "umount -l /.old",
            "export PODMAN_IGNORE_CGROUPSV1_WARNING=1 PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            'podman() { command podman --cgroup-manager cgroupfs "$@"; }',
            script,
        ]
        command = shlex.quote("\n".join(lines))
        prepared = PREPARE.format(root=shlex.quote(str(self.root)), binds="\n".join(binds), command=command)
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", prepared]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=900)

    def as_user(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a file of lines of a shell as a user who has no rights, as an engine starts jobs: rootless."""
        file = self.root / "job.sh"
        file.write_text(script)
        file.chmod(0o755)
        home = f"export XDG_RUNTIME_DIR=/run/user/{USER[1]} HOME=/home/{USER[0]}"
        lines = [
            f"id {USER[0]} >/dev/null 2>&1 || useradd --create-home --uid {USER[1]} {USER[0]}",
            f"for file in /etc/subuid /etc/subgid; do echo {USER[0]}:100000:65536 > $file; done",
            f"mkdir -p /run/user/{USER[1]} && chown {USER[0]}: /run/user/{USER[1]}",
            f"exec su {USER[0]} -c {shlex.quote(f'{home}; exec sh /job.sh')}",
        ]
        return self.run("\n".join(lines))


USER = ("node", 1500)
"""Who runs rootless: name and uid."""


@contextlib.contextmanager
def podman(folder: Path, cache: Path, *, registry: str, folders: Sequence[Path]) -> Iterator[Podman]:
    """One with an empty storage.

    Args:
        folder: a new one, for its root and its storage.
        cache: where the packed root is kept from run to run.
        registry: ``host:port`` that is asked without TLS.
        folders: of this machine, which it sees at the same path.
    """
    root = folder / "root"
    root.mkdir(parents=True)
    root.chmod(0o755)
    (folder / "storage").mkdir()
    subprocess.run(["tar", "-C", str(root), "-xf", str(condor.debian(cache, PACKAGES))], check=True)
    (root / "etc/containers").mkdir(parents=True, exist_ok=True)
    (root / "etc/containers/registries.conf").write_text(f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
    try:
        yield Podman(root, folders)
    finally:
        for path in (root, folder / "storage"):
            shutil.rmtree(path, ignore_errors=True)
        assert not os.path.ismount(root), "its mounts are its own"
