"""The steps of an image's build, which run inside build stages: ``python3 /tools/steps.py STEP …``.

Needs the standard library only. A step writes below ``/out``, with fixed times, modes and bytecode, so that the same
input gives the same layer.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
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
"""2020-01-01, the time of every file. SOURCE_DATE_EPOCH would change with each commit."""

ATTEMPTS = 3

USER = "bake:x:1000:0:whisperbake:/tmp:/usr/sbin/nologin"
NOBODY = "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin"

SYSTEM = ("bin", "etc", "lib", "lib64", "opt", "sbin", "usr", "var")
"""Folders of the root file system, except those of the kernel and of the build."""

ELSEWHERE = ("mlxwhisper",)
"""Modules of stages that no image runs: Apple's library is native only. They are there, for the digest of the code."""

IMPORT = re.compile(r"^\s*(?:import|from) (\w+)", re.MULTILINE)

STDLIB_DROPPED = ("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "config-*")
"""Parts of the standard library that need a screen, are tests, or build Python programs."""


def tools() -> None:
    """Install uv: fetch pip's wheel with the standard library, then uv with pip."""
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
    """Install a hash-locked file with uv, remove what no stage needs, compile bytecode."""
    target = OUT / LIBRARIES
    target.mkdir(parents=True)
    run(uv_install(requirements, target, "--link-mode", "copy", "--cache-dir", str(CACHE)), site())
    before = size(target)
    packages = installed(target)
    prune.prune(target)
    for path in sorted(target.rglob("*.so*")):
        if not path.is_symlink() and not cuda(path):
            elf.strip(path)
    compiled(target)
    for name, paths in packages.items():  # the builder reads its estimates from these lines
        print(f"size {name} {sum(kept(path) for path in paths)}", flush=True)
    print(f"{before / 1e6:.1f} MB installed, {size(target) / 1e6:.1f} MB kept", flush=True)
    settle()


def uv_install(requirements: str | Path, target: str | Path, *options: str) -> list[str]:
    """The command that installs a hash-locked file into a folder."""
    locked = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-config")
    uv = ("/uv/bin/uv", "pip", "install", "--quiet", "--python", sys.executable)
    return [*uv, "--target", str(target), *locked, *options, "--requirement", str(requirements)]


def installed(target: Path) -> dict[str, list[Path]]:
    """``name version`` of each package -> its files."""
    packages = {}
    for record in sorted(target.glob("*.dist-info/RECORD")):
        name, _, version = record.parent.name.removesuffix(".dist-info").partition("-")
        paths = [line.rsplit(",", 2)[0].strip('"') for line in record.read_text().splitlines()]
        packages[f"{name.replace('_', '-').lower()} {version}"] = [target / path for path in paths]
    return packages


def kept(path: Path) -> int:
    """Bytes of a file, if it was kept, and of its bytecode."""
    total = path.lstat().st_size if path.exists() else 0
    if path.suffix == ".py":
        bytecode = path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"
        total += bytecode.lstat().st_size if bytecode.exists() else 0
    return total


def base() -> None:
    """Add to the root: a user, the CA certificates in one file, the standard library's bytecode."""
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
            bytecode = target / name.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"
            bytecode.parent.mkdir(parents=True, exist_ok=True)
            py_compile.compile(
                str(path),
                str(bytecode),
                str(path),
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
                quiet=1,
            )
    system = sum(size(path) for path in Path("/").iterdir() if path.name in SYSTEM and not path.is_symlink())
    print(f"size base root {system + size(OUT)}", flush=True)
    settle()


def code(stage: str) -> None:
    """Copy a stage's code and what all stages share, and compile what it imports; its requirements are in layers of their own."""
    target = OUT / "opt/bake/stages"
    shutil.copytree(f"/src/{stage}", target / stage, ignore=shutil.ignore_patterns("requirements*"))
    for shared in sorted(Path("/src").glob("*.py")):
        shutil.copy(shared, target)
    compiled(target)
    for module in unused(target, stage):
        for bytecode in (module.parent / "__pycache__").glob(f"{module.stem}.*.pyc"):
            bytecode.unlink()
    settle()


def unused(stages: Path, stage: str) -> list[Path]:
    """The modules that a stage never imports: others share them, or they are for another system."""
    own = sorted((stages / stage).glob("*.py"))
    shared = {path.stem: path for path in stages.glob("*.py")}
    wanted = [name for path in own for name in IMPORT.findall(path.read_text())]
    while wanted:
        if (path := shared.pop(wanted.pop(), None)) is not None:
            wanted += IMPORT.findall(path.read_text())
    return [*sorted(shared.values()), *(path for path in own if path.stem in ELSEWHERE)]


def site() -> dict[str, str]:
    """The environment for programs that use the network: the site's settings, from secrets that no layer holds."""
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
    """All of Debian's CA certificates in one text, as update-ca-certificates writes it."""
    certificates = sorted(Path("/usr/share/ca-certificates").rglob("*.crt"))
    return "".join(path.read_text().rstrip() + "\n" for path in certificates)


def compiled(root: Path) -> None:
    """Compile every module to bytecode that is valid whatever the files' times are."""
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
    """Set fixed modes and times for everything below OUT."""
    for path in [*OUT.rglob("*"), OUT]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)


def write(name: str, text: str) -> None:
    path = OUT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def lines(path: str, *entries: str) -> str:
    """The file's lines, and those of ``entries`` whose name the file lacks (``name:…``)."""
    present = Path(path).read_text().splitlines() if Path(path).exists() else []
    names = {line.split(":")[0] for line in present}
    return "".join(f"{line}\n" for line in [*present, *(e for e in entries if e.split(":")[0] not in names)])


def size(root: Path) -> int:
    return sum(p.lstat().st_size for p in root.rglob("*") if not p.is_dir())


def cuda(path: Path) -> bool:
    return "nvidia" in path.parts


def run(argv: list[str], env: dict[str, str]) -> None:
    """Run a program that uses the network, up to three times: builds of many images ask an index for much at once."""
    for _ in range(ATTEMPTS):
        done = subprocess.run(argv, env=env, check=False)
        if done.returncode == 0:
            return
    sys.exit(done.returncode)


if __name__ == "__main__":
    {"tools": tools, "libraries": libraries, "base": base, "code": code}[sys.argv[1]](*sys.argv[2:])
