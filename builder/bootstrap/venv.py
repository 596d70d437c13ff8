"""What build.py does before there is an environment: make .venv, install the locked requirements, run the tests.

Standard library only. It has to hold on a bare Debian: no python3-venv, no pip or an old one, PEP 668, no make, no git,
two first runs at once, a first run that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import subprocess  # edges/system/shell.py can't pass on the lock (see _locked) or the terminal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from builder.bootstrap import pip_wheel as pipwheel
from builder.bootstrap.modules import run_module

OLDEST_PIP = (22, 3)
"""The first pip that can install into another environment (``--python``)."""

TAIL = 8
"""Lines of pip's output that are shown when it fails."""


def make(root: str, fingerprint: Callable[[], bytes]) -> None:
    """Make ``.venv`` in ``root``, once; a second process waits for the first. Ends the program if it can't.

    Args:
        fingerprint: what the stamp has to say, asked for when the environment's interpreter is there.
    """
    home = Path(root)
    venv = home / ".venv"
    with _locked(home) as lock:
        if _stamped(venv / "ready", fingerprint):
            return  # another process made it meanwhile
        began = time.monotonic()
        _say("setting up .venv (once, up to a minute)…")
        shutil.rmtree(venv, ignore_errors=True)  # without a valid stamp it is unfinished or out of date
        try:
            code, lines = _run([*run_module(sys.executable, "venv"), "--without-pip", str(venv)], lock)
            if code:
                _failed("this Python can't make environments", lines, "apt-get install python3-venv python3-pip")
            _install(home, home / "requirements" / "builder.txt", lock)
            _stamp(venv / "ready", fingerprint())
        except BaseException:
            shutil.rmtree(venv, ignore_errors=True)
            raise
        _say(f".venv is ready ({time.monotonic() - began:.0f} s)")


def test(root: str, arguments: Sequence[str]) -> NoReturn:
    """``build.py test [pytest's arguments]``: install what tests import, once, and become pytest.

    With CI=true the checkout's own ``.ci/provision.py`` runs first; a copy of the product without it installs nothing.
    """
    home = Path(root)
    requirements = home / "requirements" / "dev.txt"
    stamp = home / ".venv" / "ready-dev"
    with _locked(home) as lock:
        if not _stamped(stamp, requirements.read_bytes):
            _say("installing what the tests need (once, up to a minute)…")
            _install(home, requirements, lock)
            _stamp(stamp, requirements.read_bytes())
    if os.environ.get("CI", "").lower() in ("1", "true"):
        _provision(home / ".ci" / "provision.py")
    marks = [] if any(a.startswith("-m") for a in arguments) else ["-m", "not heavy"]
    os.chdir(home)  # without a path, pytest takes pyproject.toml's testpaths
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *marks, *arguments])


def _provision(program: Path) -> None:
    """Let CI's own program install what a machine needs for the tests; its exit code ends this one unless it is 0."""
    if program.exists() and (code := subprocess.run([sys.executable, str(program)], check=False).returncode):
        raise SystemExit(code)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[int]:
    """One set-up at a time. Gives the lock's descriptor, which children must inherit.

    The lock goes with the last process that has it: when this one is killed, a pip that still writes into .venv keeps
    the next set-up waiting, and then everything is released.
    """
    try:
        handle = os.open(home / ".venv.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        _stop(
            f"the project's folder {home} can't be written ({error.strerror})",
            f"cp -r {shlex.quote(str(home))} ~/whisperbake",
        )
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _say("another process is setting up .venv: waiting for it…")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    except OSError as error:
        _stop(
            f"{error.strerror}: {error.filename}", "python3 build.py    (again, with a writable folder and 300 MB free)"
        )
    except KeyboardInterrupt:
        _say("interrupted; the next run starts the set-up again")
        raise SystemExit(130) from None
    finally:
        os.close(handle)


def _stamped(stamp: Path, wanted: Callable[[], bytes]) -> bool:
    return stamp.exists() and stamp.read_bytes() == wanted()


def _stamp(path: Path, text: bytes) -> None:
    """Write the stamp in one step: a half-written one can't be taken for another."""
    beside = path.with_suffix(".new")
    beside.write_bytes(text)
    beside.replace(path)


def _install(home: Path, requirements: Path, lock: int) -> None:
    """Install a hash-locked file into .venv, with the machine's own pip settings."""
    venv = home / ".venv"
    scratch = venv / "tmp"  # inside, so that nothing is left behind in /tmp when this is killed
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    pip = _pip(venv / "bin" / "python", requirements, scratch, lock)
    # Wheels only: a compiler's pages of errors help nobody.
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes", "--only-binary", ":all:"]
    code, lines = _run([*pip, "install", *options, "--requirement", str(requirements)], lock, scratch)
    if code:
        _failed(
            "the locked requirements could not be installed",
            lines,
            "python3 -m pip config list    (are these the settings for this network?)",
        )
    shutil.rmtree(scratch, ignore_errors=True)


def _pip(python: Path, requirements: Path, scratch: Path, lock: int) -> list[str]:
    """The command of a pip that installs into ``python``'s environment: the first that is there."""
    own = run_module(str(python), "pip")
    if _version(own, lock):
        return own
    mine = run_module(sys.executable, "pip")
    if _version(mine, lock) >= OLDEST_PIP:
        return [*mine, "--python", str(python)]
    # A wheel is a zip file, and pip runs from one: Python's own copy, or Debian's, else the locked one from the index.
    bundled = [
        *Path(os.__file__).parent.glob("ensurepip/_bundled/pip-*.whl"),
        *Path("/usr/share/python-wheels").glob("pip-*.whl"),
    ]
    for wheel in bundled:
        if _version([str(python), f"{wheel}/pip"], lock):
            return [str(python), f"{wheel}/pip"]
    try:
        return [str(python), f"{pipwheel.fetch(requirements.read_text(), scratch, os.environ)}/pip"]
    except pipwheel.Unavailable as error:
        _stop(f"there is no pip on this machine, and none could be fetched: {error}", "apt-get install python3-pip")


def _version(pip: list[str], lock: int) -> tuple[int, ...]:
    """(major, minor), or () when it doesn't run."""
    code, lines = _run([*pip, "--version"], lock)
    match = re.match(r"pip (\d+)\.(\d+)", lines[-1]) if code == 0 and lines else None
    return (int(match[1]), int(match[2])) if match else ()


def _run(command: Sequence[str], lock: int, scratch: Path | None = None) -> tuple[int, list[str]]:
    """Run quietly; the exit code, and the lines it printed. ``scratch`` is its folder for temporary files."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX")}
    # Settings that would stop an install into an environment, in a pip.conf too.
    env |= {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PYTHONUTF8": "1"}
    if bundle := pipwheel.certificates(os.environ):
        env["PIP_CERT"] = bundle
    if scratch is not None:
        env["TMPDIR"] = str(scratch)
    done = subprocess.run(
        list(command),
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[lock],
        check=False,
    )
    return done.returncode, [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()]


def _failed(what: str, lines: Sequence[str], following: str) -> NoReturn:
    """Show the end of what a program printed, and one line to type."""
    for line in lines[-TAIL:]:
        _say(f"  | {line}")
    text = "\n".join(lines)
    if "No space left" in text or "Disk quota" in text:
        _stop("the disk is full", "python3 build.py    (again, with 300 MB free)")
    if "CERTIFICATE_VERIFY_FAILED" in text:
        _stop("the package index has a certificate this machine doesn't trust", "PIP_CERT=CA-BUNDLE python3 build.py")
    if re.search(r"Retrying|Max retries|NewConnectionError|Connection", text):
        _stop("the package index can't be reached", "PIP_INDEX_URL=ADDRESS python3 build.py    (or PIP_PROXY=…)")
    if "No matching distribution" in text and sys.version_info >= (3, 15):
        _stop(f"{what} for Python {sys.version_info[0]}.{sys.version_info[1]}", "python3.14 build.py")
    _stop(what, following)


def _say(line: str) -> None:
    """A line on standard error: what pip printed, or a folder is called, makes no other and steers no terminal."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    sys.stderr.write(f"{shown}\n")
    sys.stderr.flush()


def _stop(what: str, following: str) -> NoReturn:
    _say(f"error: {what}")
    _say(f"  next: {following}")
    raise SystemExit(3)
