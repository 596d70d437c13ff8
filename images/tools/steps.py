"""The steps of an image's build, run inside build stages: ``python3 /tools/steps.py STEP …``. Standard library only.

What a step makes is below ``/out``, with fixed times, modes and bytecode, so that the same input gives the same layer.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import elf
import prune

OUT = Path("/out")
LIBRARIES = "opt/bake/lib"
CACHE = Path("/cache")
SECRETS = Path("/run/secrets")

EPOCH = 1_577_836_800
"""2020-01-01: the time of every file. Not SOURCE_DATE_EPOCH, which changes with each commit; files don't."""

ATTEMPTS = 3

USER = "bake:x:1000:0:whisperbake:/tmp:/usr/sbin/nologin"
NOBODY = "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin"

SYSTEM = ("bin", "etc", "lib", "lib64", "opt", "sbin", "usr", "var")
"""Folders of the root file system, without what the kernel and the build put there."""

STDLIB_DROPPED = ("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "config-*")
"""Of the standard library: what needs a screen, tests, or makes Python programs."""


def tools() -> None:
    """Fetch uv: pip's wheel first, with the standard library alone, then uv by pip."""
    sys.dont_write_bytecode = True
    import pipwheel

    env = site()
    locks = Path(__file__).parent / "requirements.txt"
    with tempfile.TemporaryDirectory() as folder:
        wheel = pipwheel.fetch(locks.read_text(), Path(folder), env)
        run(
            [
                sys.executable,
                f"{wheel}/pip",
                "install",
                "--quiet",
                "--no-deps",
                "--require-hashes",
                "--no-cache-dir",
                "--only-binary",
                ":all:",
                "--root-user-action",
                "ignore",
                "--target",
                "/uv",
                "--requirement",
                str(locks),
            ],
            env,
        )


def libraries(requirements: str) -> None:
    """Install one hash-locked file with uv, leave out what no stage needs, compile."""
    target = OUT / LIBRARIES
    target.mkdir(parents=True)
    run(
        [
            "/uv/bin/uv",
            "pip",
            "install",
            "--quiet",
            "--python",
            sys.executable,
            "--target",
            str(target),
            "--no-deps",
            "--require-hashes",
            "--only-binary",
            ":all:",
            "--link-mode",
            "copy",
            "--cache-dir",
            str(CACHE),
            "--no-config",
            "--requirement",
            requirements,
        ],
        site(),
    )
    before = size(target)
    packages = installed(target)
    prune.prune(target)
    for path in sorted(target.rglob("*.so*")):
        # numpy's and scipy's bundled libraries don't load after it; patchelf has left them in another order.
        if not path.is_symlink() and not any(part.endswith(".libs") for part in path.parts) and not cuda(path):
            elf.strip(path)
    compiled(target)
    for name, paths in packages.items():  # the builder's estimates come from these lines
        print(f"size {name} {sum(kept(path) for path in paths)}", flush=True)
    print(f"{before / 1e6:.1f} MB installed, {size(target) / 1e6:.1f} MB kept", flush=True)
    settle()


def installed(target: Path) -> dict[str, list[Path]]:
    """``name version`` -> the files that came with it."""
    found = {}
    for record in sorted(target.glob("*.dist-info/RECORD")):
        name, _, version = record.parent.name.removesuffix(".dist-info").partition("-")
        paths = [line.rsplit(",", 2)[0].strip('"') for line in record.read_text().splitlines()]
        found[f"{name.replace('_', '-').lower()} {version}"] = [target / path for path in paths]
    return found


def kept(path: Path) -> int:
    """Bytes of a file that is still there, with its bytecode."""
    total = path.lstat().st_size if path.exists() else 0
    if path.suffix == ".py":
        made = path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"
        total += made.lstat().st_size if made.exists() else 0
    return total


def base() -> None:
    """What the base adds to the root: a user, CA certificates in one file, bytecode of the standard library."""
    write("etc/passwd", lines("/etc/passwd", "root:x:0:0:root:/root:/usr/sbin/nologin", USER, NOBODY))
    write("etc/group", lines("/etc/group", "root:x:0:", "nogroup:x:65534:"))
    if not Path("/etc/ssl/certs/ca-certificates.crt").exists():
        write("etc/ssl/certs/ca-certificates.crt", bundle())
    for name in ("jobs", "models"):
        (OUT / name).mkdir(parents=True)
    stdlib = Path(sysconfig.get_path("stdlib"))
    target = OUT / stdlib.relative_to("/")
    for path in sorted(stdlib.rglob("*.py")):
        name = path.relative_to(stdlib)
        dropped = any(name.match(f"{d}/**") or name.parts[0] == d for d in STDLIB_DROPPED)
        if not dropped and name.parts[0] not in ("site-packages", "dist-packages"):
            made = target / name.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"
            made.parent.mkdir(parents=True, exist_ok=True)
            py_compile.compile(
                str(path),
                str(made),
                str(path),
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
                quiet=1,
            )
    system = sum(size(path) for path in Path("/").iterdir() if path.name in SYSTEM and not path.is_symlink())
    print(f"size base root {system + size(OUT)}", flush=True)
    settle()


def code(stage: str) -> None:
    """A stage's own code with the contract, compiled."""
    target = OUT / "opt/bake/stages"
    target.mkdir(parents=True)
    shutil.copy(f"/src/{'contract.py'}", target)
    shutil.copytree(f"/src/{stage}", target / stage)
    compiled(target)
    settle()


def site() -> dict[str, str]:
    """The environment for what goes to the network: the site's settings, from secrets that are in no layer."""
    env = {"PATH": os.environ["PATH"], "HOME": "/tmp", "LANG": "C.UTF-8", "PIP_NO_INPUT": "1", "NETRC": os.devnull}
    settings = SECRETS / "site"
    if settings.exists():
        for line in settings.read_text().splitlines():
            name, mark, value = line.partition("=")
            if mark and value:
                env[name] = value
    authority = SECRETS / "ca"
    if authority.exists() and authority.stat().st_size:
        env["SSL_CERT_FILE"] = str(authority)
    elif not Path("/etc/ssl/certs/ca-certificates.crt").exists():
        env["SSL_CERT_FILE"] = "/tmp/ca.crt"
        Path("/tmp/ca.crt").write_text(bundle())
    if "SSL_CERT_FILE" in env:
        env["PIP_CERT"] = env["SSL_CERT_FILE"]
    return env


def bundle() -> str:
    """All of Debian's CA certificates in one text, as update-ca-certificates would write it."""
    found = sorted(Path("/usr/share/ca-certificates").rglob("*.crt"))
    return "".join(path.read_text().rstrip() + "\n" for path in found)


def compiled(root: Path) -> None:
    """Bytecode beside every module, valid whatever the times of files are."""
    compileall.compile_dir(
        str(root),
        quiet=2,
        force=True,
        stripdir=str(OUT),
        prependdir="/",
        workers=1,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def settle() -> None:
    """The same owner, mode and time for everything below OUT."""
    for path in [*OUT.rglob("*"), OUT]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)


def write(name: str, text: str) -> None:
    path = OUT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def lines(path: str, *more: str) -> str:
    """The file's lines, and of ``more`` those whose name it lacks."""
    there = Path(path).read_text().splitlines() if Path(path).exists() else []
    names = {line.split(":")[0] for line in there}
    return "".join(f"{line}\n" for line in [*there, *(m for m in more if m.split(":")[0] not in names)])


def size(root: Path) -> int:
    return sum(p.lstat().st_size for p in root.rglob("*") if not p.is_dir())


def cuda(path: Path) -> bool:
    return "nvidia" in path.parts


def run(argv: list[str], env: dict[str, str]) -> None:
    """Run what goes to the network: three times, since a build of many images asks an index for much at once."""
    for _ in range(ATTEMPTS):
        done = subprocess.run(argv, env=env, check=False)
        if done.returncode == 0:
            return
    sys.exit(done.returncode)


if __name__ == "__main__":
    {"tools": tools, "libraries": libraries, "base": base, "code": code}[sys.argv[1]](*sys.argv[2:])
