"""The only way to subprocesses: argument lists are built as data elsewhere and run here."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.errors import MissingError

LOG = logging.getLogger("whisperbake")
"""What ``--debug`` shows."""

Process = subprocess.Popen[bytes]
"""A process of :func:`start`."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A finished process: exit code (negative: ended by that signal) and what it printed."""

    code: int
    out: str
    err: str


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    stdin: bytes | None = None,
) -> Done:
    """Run a program to its end and capture the output; a non-zero exit code isn't an error.

    Args:
        env: the whole environment, or None for this process's.
        timeout: seconds; then the process is killed and ``code`` is -9.

    Raises:
        MissingError: the program is not on this machine.
    """
    LOG.debug("run: %s", shlex.join(map(str, argv)))
    began = time.monotonic()
    try:
        done = subprocess.run(
            list(argv),
            env=None if env is None else dict(env),
            cwd=cwd,
            timeout=timeout,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise MissingError(f"{argv[0]} is not on this machine", hint=f"install {argv[0]}") from error
    except subprocess.TimeoutExpired as error:
        return Done(code=-9, out=_text(error.stdout), err=_text(error.stderr))
    LOG.debug("exit code %d after %.1f s: %s", done.returncode, time.monotonic() - began, argv[0])
    return Done(code=done.returncode, out=_text(done.stdout), err=_text(done.stderr))


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
) -> Process:
    """Start a process in a new session; both of its outputs are appended to ``log``.

    In a new session Ctrl-C reaches only the orchestrator, which ends its children in order. The caller ends the process
    with :func:`stop`.
    """
    LOG.debug("start: %s", shlex.join(map(str, argv)))
    out = subprocess.DEVNULL if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        return subprocess.Popen(
            list(argv),
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise MissingError(f"{argv[0]} is not on this machine", hint=f"install {argv[0]}") from error
    finally:
        if out != subprocess.DEVNULL:
            os.close(out)


@contextlib.contextmanager
def unbroken() -> Iterator[None]:
    """Put a Ctrl-C off to the end of the block: a process that began and that nobody knows yet would run on.

    Raises:
        KeyboardInterrupt: there was one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    numbers = [
        n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.default_int_handler
    ]
    for number in numbers:
        signal.signal(number, lambda number, _: asked.append(number))
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)
    if asked:
        raise KeyboardInterrupt


def foreground(argv: Sequence[str]) -> int:
    """Run a program that has the terminal, such as an editor; its exit code.

    Raises:
        MissingError: the program is not on this machine.
    """
    try:
        return subprocess.run(list(argv), check=False).returncode
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise MissingError(f"{argv[0]} is not on this machine", hint=f"install {argv[0]}") from error


def stop(process: Process, *, grace: float = 5.0) -> int:
    """Ask a process of :func:`start` to end (SIGTERM); kill its group after ``grace`` seconds. Returns its exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
    return process.wait()


def _text(data: bytes | str | None) -> str:
    if data is None:
        return ""
    return data if isinstance(data, str) else data.decode("utf-8", "replace")
