"""The only way to subprocesses: argument lists are built as data elsewhere and run here."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from builder.errors import MissingError

LOG = logging.getLogger("whisperbake")
"""What ``--debug`` shows."""

MOST = 64 << 20
"""Bytes of an output that :func:`run` keeps: what runs may be a container that a recording has taken over."""

CHUNK = 64 << 10
"""Bytes of an output that are read at once: what a pipe holds."""

LOOK = 0.2
"""Seconds after which a pipe counts as empty whose process has ended, though others hold it open."""

Process = subprocess.Popen[bytes]
"""A process of :func:`start`."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A finished process: exit code (negative: ended by that signal) and what it printed."""

    code: int
    out: str
    err: str
    raw: bytes = field(default=b"", compare=False, repr=False)
    """What it printed on standard output, as bytes."""


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    stdin: bytes | None = None,
    settle: Callable[[Process], object] | None = None,
    secret: bool = False,
) -> Done:
    """Run a program to its end and capture up to :data:`MOST` bytes of each output; a non-zero exit code isn't an error.

    Args:
        env: the whole environment, or None for this process's.
        timeout: seconds; then the process is killed and ``code`` is -9.
        settle: what the process needs before it is killed; Ctrl-C doesn't reach it then.
        secret: its arguments are logged nowhere.

    Raises:
        MissingError: the program is not on this machine.
    """
    LOG.debug("run: %s", f"{argv[0]} …" if secret else shlex.join(map(str, argv)))
    began = time.monotonic()
    try:
        process = subprocess.Popen(
            list(argv),
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=settle is not None,
        )
    except FileNotFoundError as error:
        raise MissingError(f"{argv[0]} is not on this machine", hint=f"install {argv[0]}") from error
    with process:
        try:  # from here on: whoever is interrupted would wait for the program in the end
            out, err = _Kept(process.stdout), _Kept(process.stderr)
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError), process.stdin as inlet:
                    inlet.write(stdin or b"")
            code = process.wait(timeout)
        except BaseException as error:
            try:
                if settle is not None:
                    settle(process)
            finally:
                process.kill()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            code = -9
        out.join()
        err.join()
    LOG.debug("exit code %d after %.1f s: %s", code, time.monotonic() - began, argv[0])
    return Done(code=code, out=out.text, err=err.text, raw=out.data)


class _Kept(threading.Thread):
    """The first bytes that come out of a pipe; what is more is read, so that its writer ends, and forgotten."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        super().__init__(daemon=True)
        assert pipe is not None
        # Its own descriptor: whoever is interrupted closes the pipe, and its number may be another file's then.
        self._pipe, self._data = os.dup(pipe.fileno()), bytearray()
        self.start()

    def run(self) -> None:
        try:
            while chunk := os.read(self._pipe, CHUNK):
                self._data += chunk[: MOST - len(self._data)]
        finally:
            os.close(self._pipe)

    @property
    def data(self) -> bytes:
        return bytes(self._data)

    @property
    def text(self) -> str:
        return self._data.decode("utf-8", "replace")


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    piped: bool = False,
) -> Process:
    """Start a process in a new session; both of its outputs are appended to ``log``.

    In a new session Ctrl-C reaches only the orchestrator, which ends its children in order. The caller ends the process
    with :func:`stop`.

    Args:
        piped: its outputs come out of a pipe, for :func:`drain`.
    """
    LOG.debug("start: %s", shlex.join(map(str, argv)))
    quiet = subprocess.PIPE if piped else subprocess.DEVNULL
    out = quiet if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
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
        if log is not None:
            os.close(out)


def drain(process: Process, take: Callable[[bytes], None]) -> int:
    """Hand on what a process of :func:`start` prints into its pipe until it ends; its exit code.

    What others print who hold the pipe open, and outlive it, is lost.
    """
    assert process.stdout is not None
    with process.stdout as pipe, selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while process.poll() is None or selector.select(0):
            if selector.select(LOOK):
                if not (chunk := os.read(pipe.fileno(), CHUNK)):
                    break
                take(chunk)
    return process.wait()


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


def stop(process: Process, *, patience: float = 0.0, grace: float = 5.0) -> int:
    """End a process of :func:`start`; its exit code.

    Args:
        patience: seconds that it has to end by itself, before it is asked to (SIGTERM).
        grace: seconds after which its group is killed then.
    """
    if patience:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
    return process.wait()
