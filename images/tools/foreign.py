"""The steps of an image's build for another platform than the builder's: ``python3 /tools/foreign.py STEP MACHINE …``.

Nothing of that platform runs. Wheels are chosen by their platform's tags; stripping reads ELF of any machine
(:mod:`elf`); bytecode is the same wherever the same Python is (its files are named by the version alone, PEP 3147).
The images' root file system is mounted at ``/target``. Images of the builder's own platform don't depend on this file.
"""

from __future__ import annotations

import os
import py_compile
import sys
import sysconfig
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import elf
import prune
import steps

TARGET = Path("/target")

ELF_MACHINES = {"x86_64": 62, "aarch64": 183}
"""``e_machine`` of the ELF header: EM_X86_64 and EM_AARCH64 (elf.h)."""

NEWEST_GLIBC = 40
"""The newest ``manylinux_2_*`` that uv takes as a platform."""


def base(machine: str) -> None:
    """What ``steps.py base`` adds to the root, for the root at ``/target``.

    Exits when that has other programs, or another Python, whose bytecode would not be taken.
    """
    stdlib = Path(sysconfig.get_path("stdlib"))
    source = TARGET / stdlib.relative_to("/")
    if not (source / "os.py").exists():
        sys.exit(f"the images' root has no {stdlib}: its Python is not the one of the build's root")
    refuse_others(TARGET, machine)
    steps.write("etc/passwd", steps.lines(f"{TARGET}/etc/passwd", ROOT, steps.USER, steps.NOBODY))
    steps.write("etc/group", steps.lines(f"{TARGET}/etc/group", "root:x:0:", "nogroup:x:65534:"))
    if not (TARGET / "etc/ssl/certs/ca-certificates.crt").exists():
        certificates = sorted((TARGET / "usr/share/ca-certificates").rglob("*.crt"))
        text = "".join(path.read_text().rstrip() + "\n" for path in certificates)
        steps.write("etc/ssl/certs/ca-certificates.crt", text)
    for name in ("jobs", "models"):
        (steps.OUT / name).mkdir(parents=True)
    for path in sorted(source.rglob("*.py")):
        name = path.relative_to(source)
        dropped = any(name.match(f"{d}/**") or name.parts[0] == d for d in steps.STDLIB_DROPPED)
        if not dropped and name.parts[0] not in ("site-packages", "dist-packages"):
            bytecode = f"__pycache__/{path.stem}.{sys.implementation.cache_tag}.pyc"
            made = steps.OUT / stdlib.relative_to("/") / name.parent / bytecode
            made.parent.mkdir(parents=True, exist_ok=True)
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(str(path), str(made), str(stdlib / name), invalidation_mode=mode, quiet=1)
    steps.settle()


ROOT = "root:x:0:0:root:/root:/usr/sbin/nologin"


def libraries(machine: str, requirements: str) -> None:
    """What ``steps.py libraries`` does, with the wheels of another machine; sizes are told by its own platform's builds."""
    target = steps.OUT / steps.LIBRARIES
    target.mkdir(parents=True)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    where = ("--python-platform", platform(machine), "--python-version", python)
    how = ("--link-mode", "copy", "--cache-dir", str(steps.CACHE))
    steps.run(steps.uv_install(requirements, target, *where, *how), steps.site())
    prune.prune(target)
    for path in sorted(target.rglob("*.so*")):
        if not path.is_symlink() and not any(part.endswith(".libs") for part in path.parts):  # as in steps.py
            elf.strip(path)
    steps.compiled(target)
    refuse_others(steps.OUT, machine)
    steps.settle()


def platform(machine: str) -> str:
    """uv's name of the platform: wheels may ask for as new a C library as the build's root has, which is the images' too."""
    minor = int(os.confstr("CS_GNU_LIBC_VERSION").split(".")[1])
    return f"{machine}-manylinux_2_{min(minor, NEWEST_GLIBC)}"


def refuse_others(root: Path, machine: str) -> None:
    """Exit when a program or library below ``root`` is for another machine."""
    wrong = [str(path.relative_to(root)) for path in sorted(root.rglob("*")) if machine_of(path) not in (None, machine)]
    if wrong:
        sys.exit(f"not for {machine}: {', '.join(wrong[:5])}")


def machine_of(path: Path) -> str | None:
    """The machine that a file is for by its ELF header; None for what is no ELF file."""
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return None
    number = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    return next((name for name, known in ELF_MACHINES.items() if known == number), f"machine {number}")


if __name__ == "__main__":
    {"base": base, "libraries": libraries}[sys.argv[1]](*sys.argv[2:])
