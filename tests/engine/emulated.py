"""Another platform's image, unpacked and run under qemu's user emulation.

The kernel is told of the emulator in a user namespace of the program's own (Linux 6.7 has a binfmt_misc for each): nothing
else on the machine, and no other test, can run that platform's programs by it.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.core.images import oci
from builder.edges.images.layout import Layout, Stored
from tests.shared import Ran

FORMAT = (
    r":arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:{emulator}:F"
)
"""What a 64-bit ELF program for AArch64 begins with, executable or position independent (binfmt_misc's documentation in the
kernel). F: the emulator is opened at once, so that it is found from another root."""

INSIDE = """
set -e
root=$1; shift
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
printf %s "$FORMAT" > /proc/sys/fs/binfmt_misc/register
mkdir -p "$root/proc" "$root/dev" "$root/tmp"
mount -t proc proc "$root/proc"
for name in null urandom; do touch "$root/dev/$name"; mount --bind "/dev/$name" "$root/dev/$name"; done
mount -t tmpfs tmpfs "$root/tmp"
exec env -i "$@"
"""


def why_not() -> str | None:
    """Why arm64 programs can't be run here, in a few words."""
    if platform.machine() != "x86_64":
        return "this machine is no amd64 machine"
    if shutil.which("qemu-aarch64-static") is None:
        return "no qemu-aarch64-static (apt-get install qemu-user-static)"
    words = [*NAMESPACE, "mount", "-t", "binfmt_misc", "binfmt_misc", "/proc/sys/fs/binfmt_misc"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"no binfmt_misc in a user namespace: {done.stderr.strip()}"


NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child")


def unpack(layout: Layout, image: Stored, root: Path) -> None:
    """All layers of an image of the layout, one over the other."""
    root.mkdir()
    for layer in image.layers:
        words = ["tar", "--extract", "--directory", str(root), "--no-same-owner"]
        words += [] if layer.blob.media_type == oci.TAR else ["--zstd"]
        with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            for chunk in layout.open(layer.blob):
                process.stdin.write(chunk)
            process.stdin.close()
            assert process.wait() == 0, layer


def entry(image: Stored) -> tuple[list[str], dict[str, str]]:
    """What the image starts, and with which variables."""
    settings = image.written.image.config["config"]
    return list(settings["Entrypoint"]), dict(line.split("=", 1) for line in settings["Env"])


def run(root: Path, words: Sequence[str], env: Mapping[str, str]) -> Ran:
    """Run a program of an unpacked image, without a network."""
    variables = [f"{name}={value}" for name, value in env.items()]
    inside = ["/usr/sbin/chroot", str(root), *words]
    argv = [*NAMESPACE, "sh", "-c", INSIDE, "sh", str(root), *variables, *inside]
    mine = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "FORMAT": FORMAT.format(emulator=shutil.which("qemu-aarch64-static")),
    }
    done = subprocess.run(argv, env=mine, capture_output=True, text=True, check=False, timeout=900)
    return Ran(done.returncode, done.stdout, done.stderr)
