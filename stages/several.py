"""A list of jobs for one stage, worked through in one process: libraries and weights are loaded once for all of them.

The parent forks a worker, which does the work and says what became of each job. Where a job ends the worker, the parent
says so, and a new worker does the rest.
"""

from __future__ import annotations

import errno
import json
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import handed
from watched import cpu_seconds, die_with, keep_memory, meter, plain

NAME = re.compile(r"[0-9a-z][0-9a-z._-]*")
"""A job's folder, as the list names it."""

GRACE = 8.0
"""Seconds that a worker has to end after SIGTERM: native code doesn't hear it, and its own child has 3 s."""

MESSAGE = 2000
"""Characters of a reason."""

MACHINE = 3
"""Exit code: the machine is at fault, and the job may do well on another."""

MODEL = 5
"""Exit code: a model is missing or broken, for every job."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Errors of a disk: the next job would meet them too."""


@dataclass(frozen=True)
class Outcome:
    """How a stage ended on one job."""

    code: int
    """0, 1, 2, 3 or 5 (docs/job-format.md)."""
    message: str = ""
    """Why, for the user; empty with 0."""


@dataclass(frozen=True)
class Task:
    """A job that is due."""

    kind: Any
    """What the process keeps from job to job; a job of another kind gets another process."""
    do: Callable[[], Outcome]


@dataclass(frozen=True)
class Doing:
    """What a worker does."""

    look: Callable[[Path], Task | Outcome | None]
    """What is to be done of a job's folder; an outcome: that is settled; None: it isn't due, and nothing is said of it."""
    clear: Callable[[Path], None]
    """Remove what a worker that was ended left half-written."""
    end: Callable[[int, FrameType | None], None]
    """A worker's handler of the signals that end it."""


@dataclass
class _Mouth:
    """The worker's side of the pipe."""

    handle: int = -1


_mine = _Mouth()


def at_fault(error: BaseException) -> bool:
    """Whether an error is the machine's: no room, a disk that can't be written, no memory."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in FULL)


def inside() -> bool:
    """Whether this process is a worker."""
    return _mine.handle >= 0


def leave() -> None:
    """A child of the worker, which reads a recording, has nothing to say to the worker's parent."""
    if inside():
        os.close(_mine.handle)


def listed(path: Path) -> list[str]:
    """The jobs of a list, each once, in order.

    Raises:
        OSError: it can't be read.
        ValueError: it is no list of folders' names.
    """
    names = handed.read(path.parent, path.name).decode("ascii").splitlines()
    for name in names:
        if not NAME.fullmatch(name):
            raise ValueError(f"{path.name}: not the name of a job's folder: {name[:80]!r}")
    return list(dict.fromkeys(names))


def run(path: Path, stage: str, doing: Doing) -> int:
    """Work through the list at ``path``; the exit code.

    0: every job that is due was done, whatever became of it: ``ended-<stage>.jsonl`` beside the list says it.
    """
    try:
        names = listed(path)
        ended = os.open(
            path.parent / f"ended-{stage}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND | handed.UNLINKED, 0o644
        )
    except (OSError, ValueError) as error:
        print(plain(str(error)), file=sys.stderr)
        return MACHINE if at_fault(error) else 2
    parent = _Parent(folder=path.parent, names=names, ended=ended, doing=doing)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, parent.ask)
    try:
        while parent.code is None and parent.next < len(names):
            parent.work()
    except OSError as error:
        print(plain(str(error)), file=sys.stderr)
        return MACHINE
    return parent.code or 0


@dataclass
class _Parent:
    """Whoever starts the workers."""

    folder: Path
    names: Sequence[str]
    ended: int
    """Descriptor of the file that says what became of each job."""
    doing: Doing
    next: int = 0
    """The first job that no worker has begun."""
    current: int | None = None
    """The job that the worker is at."""
    code: int | None = None
    """With which the stage ends; None: it goes on."""
    pid: int = 0
    asked: int = 0
    """The signal that this process got."""
    since: float = 0.0
    _rest: bytes = b""
    _owed: float = field(default_factory=cpu_seconds)
    """Seconds of the processor that no job's manifest has yet: this process' own start."""

    def ask(self, signum: int, frame: FrameType | None) -> None:
        """Pass a signal on."""
        if not self.asked:
            self.asked, self.since = signum, time.monotonic()
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def work(self) -> None:
        """Have a worker do what is left, until the list or the worker ends."""
        begun = self.next
        ear = self._fork()
        self._listen(ear)
        os.close(ear)
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        if self.asked:
            self.code = 128 + self.asked
        if self.current is not None:  # the worker broke off
            name = self.names[self.current]
            self.doing.clear(self.folder / name)
            if not self.asked:
                self._say(name, Outcome(1, _reason(status)))
            self.current = None
        elif self.code is None and (status or self.next == begun):
            print(f"a process for jobs could not begin: {_reason(status)}", file=sys.stderr)
            self.code = MACHINE

    def _fork(self) -> int:
        """Start a worker; the end of a pipe from it."""
        sys.stdout.flush()
        sys.stderr.flush()
        parent, (ear, mouth) = os.getpid(), os.pipe()
        kept = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ear)
            os.close(self.ended)
            _mine.handle = mouth
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self.doing.end)
            die_with(parent)
            _worker(self, kept)
        os.close(mouth)
        signal.pthread_sigmask(signal.SIG_SETMASK, kept)
        self._owed = 0.0
        if self.asked:  # in between
            self.ask(self.asked, None)
        return ear

    def _listen(self, ear: int) -> None:
        """Hear what becomes of the jobs, until the worker has ended."""
        while True:
            if select.select([ear], [], [], 0.5)[0]:
                part = os.read(ear, 1 << 16)
                if not part:
                    return
                *lines, self._rest = (self._rest + part).split(b"\n")
                for line in lines:
                    self._hear(json.loads(line))
            if self.asked and time.monotonic() - self.since > GRACE:
                os.kill(self.pid, signal.SIGKILL)

    def _hear(self, said: dict[str, Any]) -> None:
        """One line of a worker: where it is, or what became of that job."""
        self.next = said["at"] + 1
        if "code" not in said:
            self.current = said["at"]
            return
        self.current = None
        if (code := said["code"]) is None:
            return
        self._say(self.names[said["at"]], Outcome(code, said["message"]))
        if code in (MACHINE, MODEL):
            self.code = code

    def _say(self, name: str, outcome: Outcome) -> None:
        line = {"job": name, "code": outcome.code, "message": outcome.message}
        os.write(self.ended, json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


def _worker(parent: _Parent, signals: set[Any]) -> None:
    """Do jobs until the list ends, or one is of another kind than the first, or the machine or a model is at fault."""
    code = 1
    try:
        meter.owe(parent._owed)
        keep_memory()
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        _work(parent)
        code = 0
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        # Native libraries' thread pools take up to 0.2 s to wind down; all results are on disk by now.
        os._exit(code)


def _work(parent: _Parent) -> None:
    kind: Any = None
    for at in range(parent.next, len(parent.names)):
        found = parent.doing.look(parent.folder / parent.names[at])
        if isinstance(found, Task):
            if kind is not None and found.kind != kind:
                return
            kind = found.kind
            _tell(at=at)
            found = found.do()
            meter.restart()
        if found is None:
            _tell(at=at, code=None)
            continue
        _tell(at=at, code=found.code, message=plain(found.message)[:MESSAGE])
        if found.code in (MACHINE, MODEL):
            return


def _tell(**said: Any) -> None:
    line = json.dumps(said).encode() + b"\n"
    while line:
        line = line[os.write(_mine.handle, line) :]


def _reason(status: int) -> str:
    """How a process ended that should not have, in words."""
    if not os.WIFSIGNALED(status):
        return f"the stage ended with exit code {os.waitstatus_to_exitcode(status)}"
    number = os.WTERMSIG(status)
    if number == signal.SIGKILL:
        return "the stage was killed: it takes more memory than there is, or somebody ended it"
    return f"the stage crashed ({signal.Signals(number).name})"
