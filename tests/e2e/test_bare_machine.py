"""The launcher on real machines: a minimal Debian, a killed first run, two at once, no index, no room, no writing."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ("PIP_", "SSL_CERT_", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""What a machine says about its network; a bare one is told the same."""

PACKAGES = ("base-files", "base-passwd", "ca-certificates", "coreutils", "dash", "libc-bin", "libstdc++6", "python3")
"""The minimal Debian: no apt, dpkg or perl either."""

CACHE = Path.home() / ".cache/pip"
"""What pip has fetched on this machine."""

VERSION = re.compile(
    r"(annotated-doc|annotated-types|markdown-it-py|mdurl|pip|pydantic|pydantic-core|pygments|rich|shellingham|typer|"
    r"typing-extensions|typing-inspection)=="
)
"""What ``--version`` and ``pip check`` need of requirements/builder.txt: a fifth of the time of all of it."""

FULL = "mount -t tmpfs -o size={size} none {at} && cp -r {source}/. {at} && exec env -C {at} {command}"
"""Shell for a mount namespace of its own: a project on a disk of ``size``."""


def copy_of_the_checkout(to: Path) -> Path:
    """What a clone would hold: the tracked files, and new ones that git would not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_of_the_checkout(tmp_path / "a clone")


@pytest.fixture
def small_checkout(checkout: Path) -> Path:
    """One whose environment has :data:`VERSION` only, for what is about how it is made; a bare Debian gets all of it."""
    lock = checkout / "requirements/builder.txt"
    blocks = re.split(r"^(?=\w)", lock.read_text(), flags=re.MULTILINE)
    lock.write_text("".join(block for block in blocks if VERSION.match(block)))
    return checkout


@pytest.fixture(autouse=True)
def _no_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of an installation's time is compiling, which nothing here is about."""
    monkeypatch.setenv("PIP_COMPILE", "0")


@pytest.fixture(scope="module")
def outside() -> str:
    """An interpreter that is not the project's own .venv."""
    return str(getattr(sys, "_base_executable", sys.executable))


def run(
    command: list[str], *, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=env, cwd=cwd, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=900
    )


def left_behind(checkout: Path) -> list[str]:
    """What stands beside a set-up that is neither the project's nor its own."""
    return sorted(p.name for p in checkout.glob(".venv*") if p.name not in (".venv", ".venv.lock"))


# A minimal Debian.


class Debian:
    """A root with a shell, Python and CA certificates only, and the project in /srv/bake."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str, network: bool = True) -> subprocess.CompletedProcess[str]:
        """Run inside, in namespaces that end with it."""
        settings = [f"{k}={v}" for k, v in os.environ.items() if k.upper().startswith(SETTINGS)]
        mounts = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
        if CACHE.is_dir():  # the index is asked as on any machine; its large files are fetched once a run
            mounts = f'mount --bind "{CACHE}" "$0/srv/home/.cache/pip" && {mounts}'
        namespaces = ["--mount", *([] if network else ["--net"])]
        clean = ["/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "HOME=/srv/home", "LANG=C.UTF-8", *settings]
        return run(["unshare", *namespaces, "sh", "-c", mounts, str(self.root), *clean, *command])


@pytest.fixture(
    scope="module", params=[*(pytest.param(s, marks=pytest.mark.heavy) for s in ("bookworm", "forky")), "trixie"]
)
def debian(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Debian:
    """Debian 12 has Python 3.11, 13 has 3.13, 14 will have 3.14: other wheels of everything that is compiled."""
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        assert os.environ.get("CI", "").lower() not in ("1", "true"), "CI runs as root and has mmdebstrap"
        pytest.skip("needs root and mmdebstrap (apt-get install mmdebstrap)")
    kept = Path(request.config.cache.mkdir("debian")) / f"{request.param} {' '.join(PACKAGES)}.tar"  # type: ignore[union-attr]
    if not kept.exists() or time.time() - kept.stat().st_mtime > 24 * 3600:
        made = kept.with_suffix(".new")
        done = run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=extract",  # no package's scripts: they take most of the time, and nothing here needs them
                '--aptopt=Acquire::Check-Valid-Until "false"',  # a mirror may be a snapshot; signatures are checked
                f"--include={','.join(PACKAGES)}",
                "--format=tar",
                request.param,
                str(made),
            ]
        )
        assert done.returncode == 0, done.stderr
        made.replace(kept)
    root = tmp_path_factory.mktemp("debian")
    subprocess.run(["tar", "xf", str(kept), "-C", str(root)], check=True)
    # The network of this machine: how names are found, whom to trust, which index.
    for name in ("etc/resolv.conf", "etc/hosts", "etc/ssl/certs/ca-certificates.crt", "etc/pip.conf"):
        if (Path("/") / name).exists():
            shutil.copy(Path("/") / name, root / name)
    own = Path.home() / ".config/pip/pip.conf"
    if own.exists():
        (root / "srv/home/.config/pip").mkdir(parents=True)
        shutil.copy(own, root / "srv/home/.config/pip")
    (root / "srv/home/.cache/pip").mkdir(parents=True)
    for name in ("passwd", "group"):
        shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / "etc" / name)
    copy_of_the_checkout(root / "srv/bake")
    return Debian(root)


def test_the_first_command_works_on_a_minimal_debian(debian: Debian) -> None:
    """No pip, no venv package, no make, no git: one command, from another folder, and then again without a network."""
    tools = debian.run("sh", "-c", "command -v pip pip3 make git ffmpeg apt; python3 -c 'import ensurepip'")
    assert tools.stdout == ""
    assert "No module named 'ensurepip'" in tools.stderr

    command = ("python3", "/srv/bake/build.py", "run", "/srv/bake/examples/dialogue.mp4")
    first = debian.run(*command)
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("setting up .venv") == 1
    outputs = list((debian.root / "srv/bake/jobs").glob("*/output/dialogue.srt"))
    assert len(outputs) == 1
    assert "Speaker 1:" in outputs[0].read_text()

    again = debian.run(*command, "--end", "6", network=False)
    assert again.returncode == 0, again.stderr
    assert "setting up" not in again.stderr
    assert "installing" not in again.stderr


def pythons() -> list[Path]:
    """The system's interpreter and pyenv's, of each supported version once; not those that Debian's roots have."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found: dict[str, Path] = {}
    for path in (Path("/usr/bin/python3"), *sorted(pyenv.glob("versions/3.*/bin/python3"))):
        if path.exists():
            version = run([str(path), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).stdout.strip()
            if version in ("3.10", "3.11", "3.12", "3.13", "3.14"):
                found.setdefault(version, path)
    return list(found.values())


@pytest.mark.heavy  # minutes; Debian's roots have two of the versions
@pytest.mark.parametrize("python", pythons(), ids=str)
def test_the_first_command_works_on_every_python_here(checkout: Path, tmp_path: Path, python: Path) -> None:
    """The README's command in a new clone: the environments of builder and stages, the models, the example."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("BAKE_")} | {"DOCKER_HOST": "unix:///nowhere.sock"}
    done = run([str(python), "build.py", "run", "examples/dialogue.mp4"], env=env, cwd=checkout)
    assert done.returncode == 0, done.stderr
    outputs = list((checkout / "jobs").glob("*/output/dialogue.srt"))
    assert len(outputs) == 1
    assert "Speaker 1:" in outputs[0].read_text()
    assert "Speaker 2:" in outputs[0].read_text()


# A first run that does not come to its end.


def test_two_first_runs_make_one_environment_and_a_killed_one_is_repaired(small_checkout: Path, outside: str) -> None:
    """Two at once; a change of the requirements; kill -9 at several moments; the next run has it whole."""
    checkout = small_checkout
    both = [
        subprocess.Popen(
            [outside, str(checkout / "build.py"), "--version"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=900) for process in both]
    assert [p.returncode for p in both] == [0, 0], said
    errors = "".join(err for _, err in said)
    assert errors.count("setting up .venv (") == 1
    assert errors.count("waiting for it") == 1

    # A change of the requirements is noticed from inside the environment, which can't remake itself.
    stamp = checkout / ".venv/ready"
    stamp.write_bytes(stamp.read_bytes()[:-1])
    inside = [str(checkout / ".venv/bin/python"), str(checkout / "build.py"), "--version"]
    noticed = subprocess.Popen(inside, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert noticed.stderr is not None
    assert noticed.stderr.readline().startswith("setting up .venv (")
    noticed.kill()
    noticed.wait()

    # The launcher alone is killed: its pip goes on for a while, and must not be run into.
    for seconds in (0.1, 0.5, 1.5, 3.0):
        victim = subprocess.Popen(
            [outside, "build.py", "--version"], cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            victim.wait(seconds)
        victim.kill()
        victim.wait()
    (checkout / ".venv/ready").unlink(missing_ok=True)  # a quick machine may have been done before the last kill
    done = run([outside, "build.py", "--version"], cwd=checkout)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("setting up .venv (") == 1
    assert done.stdout.startswith("whisperbake ")
    assert left_behind(checkout) == []
    assert not (checkout / ".venv/tmp").exists()
    whole = run([str(checkout / ".venv/bin/python"), "-m", "pip", "check"])
    assert whole.returncode == 0, whole.stdout


# What can't be mended ends with 3 and one line to type.


def test_an_index_that_cannot_be_reached(checkout: Path, outside: str) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}
    done = run([outside, "build.py", "--help"], env=env, cwd=checkout)
    assert done.returncode == 3
    assert "error: the package index can't be reached\n  next: PIP_INDEX_URL=" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
@pytest.mark.parametrize("room", [1, 55])
def test_a_full_disk(checkout: Path, outside: str, tmp_path: Path, room: int) -> None:
    """At once, and in the middle of what pip installs: ``room`` MiB more than the project takes."""
    (tmp_path / "small").mkdir()
    pages = sum(path.stat().st_size // 4096 + 1 for path in checkout.rglob("*"))
    size = f"{pages * 4 + room * 1024}k"
    script = FULL.format(
        size=size, at=tmp_path / "small", source="'" + str(checkout) + "'", command=f"{outside} build.py --help"
    )
    done = run(["unshare", "--mount", "sh", "-c", script])
    assert done.returncode == 3, done.stderr
    assert "error: the disk is full\n  next: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_a_folder_that_cannot_be_written(checkout: Path, outside: str) -> None:
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd / && exec "$1" "$0/build.py" --help'
    done = run(["unshare", "--mount", "sh", "-c", script, str(checkout), outside])
    assert done.returncode == 3
    assert "can't be written" in done.stderr
    assert done.stderr.count("  next: ") == 1
    assert "Traceback" not in done.stderr
