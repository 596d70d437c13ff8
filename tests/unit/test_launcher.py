"""The launcher: what it can be run by, when it hands over at once, where it finds a pip.

The set-up itself, for real, is in tests/e2e/test_bare_machine.py.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from builder.bootstrap import pip_wheel as pipwheel
from builder.bootstrap import venv as launcher
from tests import loopback

ROOT = Path(__file__).resolve().parents[2]
LOCKS = [*sorted(ROOT.glob("requirements/*.txt")), *sorted(ROOT.glob("stages/*/requirements-*.txt"))]
WHEEL = b"not really a wheel"
LOCK = f"first==1 \\\n    --hash=sha256:00\npip==26.3 \\\n    --hash=sha256:{hashlib.sha256(WHEEL).hexdigest()} \\\n"
LOCK += "    --hash=sha256:11\nlast==2 \\\n    --hash=sha256:22\n"


APART = {
    "numpy": "2.2 is the last for Python 3.10, and has no wheels for 3.14",
    "onnxruntime": "1.23 is the last for Python 3.10 and for Macs with Intel",
    "pocketsphinx": "5.1 has wheels for Python 3.11 and 3.13 alone",
}
"""Libraries of native stages that have another version on another Python, and why."""

SLIM = sorted(ROOT.glob("stages/*/requirements-slim.txt"))


@pytest.mark.parametrize("lock", SLIM, ids=lambda p: p.parent.name)
def test_a_library_has_one_version_on_every_python(lock: Path) -> None:
    """PyAV 19 took an argument away that 17 and 18 have: demux died on 3.12 and later alone, where no test ran it."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\\n]+)", lock.read_text(), re.M):
        found.setdefault(name, set()).add(version)
    several = {name: versions for name, versions in found.items() if len(versions) > 1 and name not in APART}
    assert several == {}


@pytest.fixture
def build(tmp_path: Path) -> ModuleType:
    """build.py as a module, looking at a project in ``tmp_path`` whose .venv is there and stamped."""
    spec = importlib.util.spec_from_file_location("build_under_test", ROOT / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.PYTHON = str(tmp_path / ".venv/bin/python")
    module.STAMP = str(tmp_path / ".venv/ready")
    module.REQUIREMENTS = str(tmp_path / "builder.txt")
    (tmp_path / "builder.txt").write_text("a==1 --hash=sha256:00\n")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / "python3.12").write_text("an interpreter")
    (tmp_path / ".venv/bin/python").symlink_to(tmp_path / "python3.12")
    (tmp_path / ".venv/ready").write_bytes(module.fingerprint())
    return module


def test_an_old_python_can_read_the_launcher() -> None:
    """A Python that is too old says so, with a line to type, in place of a SyntaxError."""
    text = (ROOT / "build.py").read_text()
    assert text.isascii()
    ast.parse(text, feature_version=(3, 4))


def test_an_old_python_stops_with_3_and_one_line(build: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(sys, "version_info", (3, 8, 1))
    with pytest.raises(SystemExit) as stopped:
        build.main()
    assert stopped.value.code == 3
    assert re.search(r"error: Python 3\.8 is too old.*\n  next: \S", capsys.readouterr().err)


def test_a_python_of_windows_is_told_of_the_way_to_wsl(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as stopped:
        build.main()
    assert stopped.value.code == 3
    assert re.fullmatch(r"error: .*WSL.*\n  next: build\.cmd .*\n", capsys.readouterr().err)


def test_a_newer_python_is_named_when_it_is_here(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shims are scripts that may lead nowhere: only a program is named."""
    for name, text in {"python3.13": "#!/bin/sh\n", "python3.11": "\x7fELF"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.newer_python() == "python3.11 build.py"
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert build.newer_python().startswith("apt-get install python3.")


def test_a_finished_environment_is_used_as_it_is(build: ModuleType) -> None:
    assert build.up_to_date()


@pytest.mark.parametrize(
    "change", ["requirements", "cut short", "interpreter gone", "interpreter replaced", "no stamp"]
)
def test_an_environment_that_is_not_right_is_made_again(build: ModuleType, tmp_path: Path, change: str) -> None:
    """New requirements, a system's new Python, a set-up that was killed: each is noticed by the next command."""
    if change == "requirements":
        (tmp_path / "builder.txt").write_text("a==2 --hash=sha256:00\n")
    elif change == "cut short":
        (tmp_path / ".venv/ready").write_bytes(build.fingerprint()[:-5])
    elif change == "interpreter gone":
        (tmp_path / "python3.12").unlink()
    elif change == "interpreter replaced":
        (tmp_path / "python3.13").write_text("another")
        (tmp_path / ".venv/bin/python").unlink()
        (tmp_path / ".venv/bin/python").symlink_to(tmp_path / "python3.13")
    else:
        (tmp_path / ".venv/ready").unlink()
    assert not build.up_to_date()


def test_the_lock_goes_with_the_last_process_that_has_it(tmp_path: Path) -> None:
    """A pip that outlives a killed launcher still writes into .venv: nobody may start anew beside it."""
    with launcher._locked(tmp_path) as lock:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock])
    import fcntl

    with (tmp_path / ".venv.lock").open() as other:
        with pytest.raises(OSError, match="unavailable"):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child.communicate(b"\n")
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_folder_that_cannot_be_written_is_an_error_with_a_way_out(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit) as stopped, launcher._locked(tmp_path / "absent"):
        pass
    assert stopped.value.code == 3
    assert "  next: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("ERROR: [Errno 28] No space left on device", "the disk is full"),
        ("WARNING: Retrying (Retry(total=4…", "can't be reached"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "PIP_CERT"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES", "the locked requirements"),
    ],
)
def test_what_pip_says_becomes_one_line_to_type(printed: str, said: str, capsys) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit) as stopped:
        launcher._failed("the locked requirements could not be installed", [printed], "python3 -m pip config list")
    shown = capsys.readouterr().err
    assert stopped.value.code == 3
    assert printed in shown
    assert said in shown
    assert shown.count("  next: ") == 1


# What CI installs: a program of its own, so that the product's launcher installs nothing.


@pytest.fixture
def provision() -> ModuleType:
    """.ci/provision.py as a module."""
    spec = importlib.util.spec_from_file_location("provision_under_test", ROOT / ".ci/provision.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("program", "ends_with"), [(None, 0), ("", 0), ("raise SystemExit(3)", 3)])
def test_the_tests_of_ci_begin_with_its_own_program(tmp_path: Path, program: str | None, ends_with: int) -> None:
    """A failure to install stops the run with the same exit code; a copy without the program runs the tests as it is."""
    path = tmp_path / "provision.py"
    if program is not None:
        path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{program}")
    if ends_with:
        with pytest.raises(SystemExit) as stopped:
            launcher._provision(path)
        assert stopped.value.code == ends_with
    else:
        launcher._provision(path)
    assert (tmp_path / "ran").exists() == (program is not None)


def test_only_what_a_machine_lacks_is_installed(provision: ModuleType) -> None:
    here = {"chromium", "mmdebstrap", "ip", "openssl", "podman", "docker-registry", "munged", "slurmctld", "slurmd"}
    assert provision.missing(lambda name: name if name in here else None) == [
        "espeak-ng",
        "opensc",
        "skopeo",
        "qemu-user-static",
        "softhsm2",
        "apertium-eng-spa",
        "ffmpeg",
        "e2fsprogs",
        "slurm-client",
    ]
    assert provision.missing(lambda name: name) == []


@pytest.mark.parametrize(
    ("absent", "plugin", "lacks"),
    [("", True, False), ("dockerd", True, True), ("iptables", True, True), ("", False, True)],
)
def test_an_engine_is_its_programs_and_buildx(provision: ModuleType, absent: str, plugin: bool, lacks: bool) -> None:
    def which(name: str) -> str | None:
        return None if name == absent else name

    assert provision.lacks_engine(which, lambda path: plugin and path == provision.BUILDX[1]) is lacks


@pytest.mark.skipif(os.geteuid() != 0, reason="installing needs root")
def test_debian_12_takes_what_it_lacks_from_debian_13(provision: ModuleType, tmp_path: Path) -> None:
    """From the mirror that this machine's apt uses; nothing else comes from there."""
    for folder in ("sources.list.d", "preferences.d"):
        (tmp_path / folder).mkdir()
    (tmp_path / "sources.list").write_text("deb http://mirror.test/debian bookworm main\n")
    system = provision.release('ID=debian\nVERSION_CODENAME="bookworm"\n')
    assert provision.newer_packages(["docker.io", "cosign"], *system, tmp_path) == ["docker.io", "cosign"]
    source = (tmp_path / "sources.list.d/whisperbake-engine.sources").read_text()
    assert "URIs: http://mirror.test/debian\nSuites: trixie\n" in source
    pins = (tmp_path / "preferences.d/whisperbake-engine").read_text()
    assert "Package: *\nPin: release n=trixie\nPin-Priority: 100\n" in pins


def test_another_system_is_told_what_to_install(provision: ModuleType, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit) as stopped:
        provision.newer_packages(["docker.io"], *provision.release("ID=arch\n"), tmp_path)
    assert stopped.value.code == 3
    assert "  next: install docker 23 or later" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# The settings of pip, and the wheel that is fetched with them.


def test_pip_settings_are_read_in_pips_own_order(tmp_path: Path) -> None:
    (tmp_path / ".config/pip").mkdir(parents=True)
    (tmp_path / ".config/pip/pip.conf").write_text(
        "[global]\nindex-url = http://user\ncert = /user.pem\n[install]\ntrusted_host = a b\n"
    )
    (tmp_path / "own.conf").write_text("[global]\nindex_url = http://file\n")
    home = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path)}
    assert pipwheel.settings(home)["index-url"] == "http://user"
    own = {**home, "PIP_CONFIG_FILE": str(tmp_path / "own.conf")}
    found = pipwheel.settings(own)
    assert (found["index-url"], found["cert"], found["trusted-host"]) == ("http://file", "/user.pem", "a b")
    assert pipwheel.settings({**own, "PIP_INDEX_URL": "http://env"})["index-url"] == "http://env"
    assert pipwheel.settings({**home, "PIP_CONFIG_FILE": os.devnull}) == {}


def test_a_broken_pip_conf_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "own.conf").write_text("no section\n")
    assert (
        "cert"
        not in pipwheel.settings(
            {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "own.conf")}
        )
        or Path("/etc/pip.conf").exists()
    )


def test_the_bundle_that_pip_is_given_wins_over_the_systems() -> None:
    nothing = {"PIP_CONFIG_FILE": os.devnull}
    assert pipwheel.certificates({**nothing, "PIP_CERT": "/a.pem", "REQUESTS_CA_BUNDLE": "/b.pem"}) == "/a.pem"
    assert pipwheel.certificates({**nothing, "REQUESTS_CA_BUNDLE": "/b.pem"}) == "/b.pem"
    assert pipwheel.certificates(nothing) != ""


def test_the_lock_file_says_which_pip() -> None:
    version, digests = pipwheel.locked((ROOT / "requirements/builder.txt").read_text())
    assert re.fullmatch(r"\d+(\.\d+)+", version)
    assert all(re.fullmatch("[0-9a-f]{64}", d) for d in digests)
    assert pipwheel.locked(LOCK) == ("26.3", {hashlib.sha256(WHEEL).hexdigest(), "11"})
    with pytest.raises(pipwheel.Unavailable):
        pipwheel.locked("pipx==1\n")


class Index(loopback.Handler):
    """A private package index: wants a name and a password, redirects once, links relatively."""

    wheel = WHEEL

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != "Basic " + b64encode(b"me:p@ss").decode():
            self.reply(401)
        elif self.path == "/simple/pip/":
            self.reply(301, Location="/real/pip/")
        elif self.path == "/real/pip/":
            self.reply(200, b'<a href="x/pip-1-py3-none-any.whl">1</a><a href="../f/pip-26.3-py3-none-any.whl#h">2</a>')
        elif self.path == "/real/f/pip-26.3-py3-none-any.whl":
            self.reply(200, self.wheel)
        else:
            self.reply(404)


@pytest.fixture
def index() -> Iterator[str]:
    server = loopback.server_of(Index)
    with loopback.answering(server):
        yield f"127.0.0.1:{server.server_port}"


def test_pip_is_fetched_from_a_private_index(tmp_path: Path, index: str) -> None:
    """Name and password in the address, a redirect, relative links: what company indexes have."""
    env = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"http://me:p%40ss@{index}/simple", "no_proxy": "*"}
    assert pipwheel.fetch(LOCK, tmp_path, env).read_bytes() == WHEEL


def test_the_name_and_password_may_stand_in_netrc(tmp_path: Path, index: str) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password p@ss\n")
    (tmp_path / "netrc").chmod(0o600)
    env = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"http://{index}/simple", "NETRC": str(tmp_path / "netrc")}
    assert pipwheel.fetch(LOCK, tmp_path, env).read_bytes() == WHEEL


def test_another_pip_than_the_locked_one_is_never_run(
    tmp_path: Path, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Index, "wheel", b"something else")
    env = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"http://me:p%40ss@{index}/simple"}
    with pytest.raises(pipwheel.Unavailable, match="not the one that is locked") as caught:
        pipwheel.fetch(LOCK, tmp_path, env)
    assert "p%40ss" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_wheels_serves_a_machine_without_an_index(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/pip-26.3-py3-none-any.whl").write_bytes(WHEEL)
    env = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    assert pipwheel.fetch(LOCK, tmp_path, env).read_bytes() == WHEEL


def test_an_index_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    env = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://me:secret@127.0.0.1:9/simple"}
    with pytest.raises(pipwheel.Unavailable, match=r"http://127\.0\.0\.1:9/simple: .*refused") as caught:
        pipwheel.fetch(LOCK, tmp_path, env)
    assert "secret" not in str(caught.value)


# The locks.


@pytest.mark.parametrize("path", LOCKS, ids=lambda p: str(p.relative_to(ROOT)))
def test_requirements_are_pinned_by_hash_and_name_no_host(path: Path) -> None:
    """What is installed is decided by this repository; from where, by the machine."""
    entries = path.read_text().replace("\\\n", " ").splitlines()
    wanted = [line for line in entries if line.strip() and not line.startswith("#")]
    assert wanted
    for line in wanted:
        assert re.match(r"[a-z0-9_.-]+(\[[a-z,]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", line, re.IGNORECASE), line
    assert "://" not in path.read_text()


def test_tests_run_with_the_versions_that_users_get() -> None:
    builder, dev = ((ROOT / f"requirements/{n}.txt").read_text().splitlines() for n in ("builder", "dev"))
    pins = {line.split(";")[0].rstrip(" \\") for line in builder if "==" in line and not line.startswith(" ")}
    assert pins <= {line.split(";")[0].rstrip(" \\") for line in dev}
