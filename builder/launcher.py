"""What build.py does before there is an environment: make .venv, install the locked requirements, run the tests.

Standard library only. It has to hold on a bare Debian: no python3-venv, no pip or an old one, PEP 668, no make, no git,
two first runs at once, a first run that was killed.
"""

from __future__ import annotations

import configparser
import contextlib
import fcntl
import hashlib
import html.parser
import os
import re
import shutil
import ssl
import subprocess  # before the environment there is no edges/shell.py: it needs filelock
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

PIP = ("pip-26.3-py3-none-any.whl", "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13")
"""The wheel that is fetched where Python comes without any pip: its name and sha256."""

DEBIAN = {"espeak-ng": "espeak-ng", "ip": "iproute2", "mmdebstrap": "mmdebstrap"}
"""Programs that tests use, and the packages that have them."""

OLDEST_PIP = (22, 3)
"""The first pip that can install into another environment (``--python``)."""


def make(root: str) -> None:
    """Make ``.venv`` in ``root``, once; a second process waits for the first. Ends the program if it can't."""
    home = Path(root)
    with _locked(home):
        wanted = (home / "requirements" / "builder.txt").read_text()
        stamp = home / ".venv" / "ready"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        began = time.monotonic()
        _say("setting up .venv (once, about 20 s)…")
        try:
            shutil.rmtree(home / ".venv", ignore_errors=True)
            if _run([sys.executable, "-m", "venv", "--without-pip", str(home / ".venv")]):
                _stop("this Python can't make environments", "apt-get install python3-venv (or your system's package)")
            _install(home, home / "requirements" / "builder.txt")
            stamp.write_text(wanted)
        except OSError as error:
            _stop(f"{error.strerror}: {error.filename}", f"make room and a writable folder: {home}")
        _say(f".venv is ready ({time.monotonic() - began:.0f} s)")


def test(root: str, arguments: Sequence[str]) -> int:
    """``build.py test [pytest's arguments]``: install what tests need, once, and run them."""
    home = Path(root)
    wanted = (home / "requirements" / "dev.txt").read_text()
    stamp = home / ".venv" / "ready-dev"
    with _locked(home):
        if not stamp.exists() or stamp.read_text() != wanted:
            _say("installing what the tests need (once)…")
            _install(home, home / "requirements" / "dev.txt")
            stamp.write_text(wanted)
    if os.environ.get("CI", "").lower() in ("1", "true"):
        _debian_packages()
    options = [] if any(not a.startswith("-") for a in arguments) else ["tests"]
    marks = [] if "-m" in arguments else ["-m", "not heavy"]
    return subprocess.call([sys.executable, "-m", "pytest", *marks, *arguments, *options], cwd=home)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One set-up at a time; the lock goes with the process, also by kill -9."""
    try:
        handle = os.open(home / ".venv.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        _stop(f"the project's folder can't be written ({error.strerror})", f"clone it to a folder of yours, not {home}")
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _say("another process is setting up .venv: waiting for it…")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _install(home: Path, requirements: Path) -> None:
    """Install a hash-locked file into .venv, with the machine's own pip settings."""
    python = home / ".venv" / "bin" / "python"
    options = ["install", "--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes", "--requirement"]
    with tempfile.TemporaryDirectory(dir=home, prefix=".venv-") as scratch:
        command = [*_pip(home, python, Path(scratch)), *options, str(requirements)]
        log = home / ".venv" / "pip.log"
        if _run(command, log):
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-8:]
            for line in lines:
                _say(f"  | {line}")
            full = any("No space left" in line for line in lines)
            _stop(
                "the disk is full" if full else "the requirements could not be installed",
                "free 300 MB, then run this again"
                if full
                else "check `pip config list` and the network, then run this again",
            )


def _pip(home: Path, python: Path, scratch: Path) -> list[str]:
    """The command of a pip that installs into ``python``'s environment: the first that is there."""
    own = [str(python), "-m", "pip"]
    if _run([*own, "--version"]) == 0:
        return own
    if _pip_version([sys.executable, "-m", "pip"]) >= OLDEST_PIP:
        return [sys.executable, "-m", "pip", "--python", str(python)]
    # A wheel is a zip file, and pip runs from one. Python's own copy, or Debian's, or the pinned one from the index.
    bundled = [*Path(os.__file__).parent.glob("ensurepip/_bundled/pip-*.whl"),
               *Path("/usr/share/python-wheels").glob("pip-*.whl")]  # fmt: skip
    wheel = bundled[0] if bundled else _fetch_pip(scratch)
    return [str(python), str(wheel / "pip")]


def _pip_version(command: list[str]) -> tuple[int, ...]:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    match = re.match(r"pip (\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match and done.returncode == 0 else (0, 0)


def _fetch_pip(scratch: Path) -> Path:
    """The pinned pip wheel from the package index that this machine's settings name."""
    name, digest = PIP
    settings = _pip_settings()
    index = settings.get("index-url") or "https://{}.org/simple".format("pypi")  # pip's own default
    context = ssl.create_default_context(cafile=settings.get("cert"))
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
    if proxy := settings.get("proxy"):
        handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
    opener = urllib.request.build_opener(*handlers)
    page = f"{index.rstrip('/')}/pip/"
    try:
        with opener.open(page, timeout=30) as answer:
            links = _Links()
            links.feed(answer.read().decode("utf-8", "replace"))
            base = answer.geturl()
        link = next((a for a in links.found if urllib.parse.urlsplit(a).path.endswith(f"/{name}")), None)
        if link is None:
            _stop(f"the package index has no {name}", "apt-get install python3-pip")
        with opener.open(urllib.parse.urljoin(base, link), timeout=60) as answer:
            data = answer.read()
    except (OSError, urllib.error.URLError, ValueError) as error:
        _stop(f"there is no pip here, and the package index can't be reached ({error})", "apt-get install python3-pip")
    if hashlib.sha256(data).hexdigest() != digest:
        _stop(f"{name} from the package index is not what is pinned here", "apt-get install python3-pip")
    wheel = scratch / name
    wheel.write_bytes(data)
    return wheel


class _Links(html.parser.HTMLParser):
    """The addresses that a page of the simple index links to (PEP 503)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for key, value in attrs if tag == "a" and key == "href" and value]


def _pip_settings() -> dict[str, str]:
    """``index-url``, ``cert`` and ``proxy`` as pip would find them: site, user, PIP_CONFIG_FILE, environment."""
    files = [Path("/etc/pip.conf"), Path("~/.pip/pip.conf").expanduser()]
    files.append(Path(os.environ.get("XDG_CONFIG_HOME", "~/.config")).expanduser() / "pip" / "pip.conf")
    if os.environ.get("PIP_CONFIG_FILE"):
        files.append(Path(os.environ["PIP_CONFIG_FILE"]))
    found: dict[str, str] = {}
    for path in files:
        parser = configparser.RawConfigParser()
        with contextlib.suppress(OSError, configparser.Error):
            parser.read_string(path.read_text())
            for section in ("global", "install"):
                if parser.has_section(section):
                    found.update(parser.items(section))
    for name in ("index-url", "cert", "proxy"):
        if value := os.environ.get(f"PIP_{name.upper().replace('-', '_')}"):
            found[name] = value
    return found


def _debian_packages() -> None:
    """CI on a bare machine: install the programs that tests use, those that are missing."""
    missing = [package for program, package in DEBIAN.items() if shutil.which(program) is None]
    if not missing or shutil.which("apt-get") is None:
        return
    _say(f"installing {', '.join(missing)}…")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "--no-install-recommends", *missing]):
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            for line in done.stderr.splitlines()[-5:]:
                _say(f"  | {line}")
            _stop(f"{' '.join(command)} failed", f"install {', '.join(missing)}, then run this again")


def _run(command: Sequence[str], log: Path | None = None) -> int:
    """Run quietly; the exit code. With ``log`` the output goes there."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET")}
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(log.open("wb")) if log else subprocess.DEVNULL
        return subprocess.call(list(command), env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _stop(what: str, following: str) -> NoReturn:
    _say(f"error: {what}")
    _say(f"  next: {following}")
    raise SystemExit(3)
