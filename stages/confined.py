"""What a recording may cost: a child process reads it, with so much memory and time, and its end is the recording's.

FFmpeg reads what anybody wrote. Its allocations fail beyond the limit, the kernel ends it when its time is up, and a
crash of it ends the child alone: the parent, which has never looked at the recording, says what happened.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from watched import die_with

MEMORY = 1_000_000_000
"""Bytes that reading a recording may take: the tables of a film of 36 hours, and no large pictures."""

SECONDS = 30.0
"""Of the processor for a recording before anything has come out of it."""

PACE = 5_000_000
"""Bytes of a recording for which it gets one second more."""

SLOWEST = 4.0
"""Seconds of sound for which it gets one second more: any decoder makes many more in that time."""

PATIENCE = 10.0
"""Seconds of the clock for one of the processor: other programs run, and disks are slow."""

GRACE = 3.0
"""Seconds that a child has to end after SIGTERM; native code doesn't hear it."""

LARGER = 2
"""How many times as large as the recording a copy of it may become, and :data:`MORE` bytes."""

MORE = 64_000_000

SELF = Path("/proc/self")

GPU = Path("/dev/nvidiactl")

GROUP = Path("/sys/fs/cgroup/memory.max")
"""A container's own limit: what is beyond it would not fail but be killed."""


@dataclass
class _Child:
    """What this process knows of itself when it is one."""

    says: int = -1
    """Pipe to the parent."""
    name: str = ""
    """What the user calls the recording that is read."""
    seconds: float = 0.0
    """Of the processor, up to which it may run."""
    written: int | None = None
    """Bytes of the largest file that it may write."""


_me = _Child()


@dataclass
class Ended:
    """How a child ended."""

    code: int
    why: str = ""
    """What was too much, where it didn't end by itself; the user reads it."""
    said: str = ""
    """Its own last words (:func:`tell`), where it ended by itself."""
    asked: bool = False
    """Whether this process was asked to end meanwhile."""


@dataclass
class _Watch:
    """The parent's side."""

    pid: int
    heard: bytes = b""
    asked: float | None = None
    """When it was asked to end."""
    late: bool = False
    began: float = field(default_factory=time.monotonic)

    def ask(self, signum: int, frame: FrameType | None) -> None:
        """Pass a signal on."""
        self.asked = self.asked or time.monotonic()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def look(self) -> None:
        """End a child that doesn't hear, or whose time is up by the clock."""
        now = time.monotonic()
        if self.asked is not None and now - self.asked > GRACE:
            os.kill(self.pid, signal.SIGKILL)
        allowed = _allowed(self.pid)
        if allowed is not None and now - self.began > PATIENCE * allowed:
            self.late = True
            os.kill(self.pid, signal.SIGKILL)


def run(work: Callable[[], int]) -> Ended:
    """Do ``work``, which returns an exit code, in a child process.

    Until it says how large the recording is (:func:`begin`), it has :data:`SECONDS`. Signals have their handlers back when
    it has ended.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    ear, mouth = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ear)
        die_with(parent)
        _be_child(mouth)
        code = 1
        try:
            code = work()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(mouth)
    watch = _Watch(pid)
    before = {number: signal.signal(number, watch.ask) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    while True:
        if select.select([ear], [], [], 0.5)[0]:
            part = os.read(ear, 4096)
            if not part:
                break
            watch.heard = (watch.heard + part)[-4096:]
        watch.look()
    os.close(ear)
    _, status = os.waitpid(pid, 0)
    for number, handler in before.items():
        signal.signal(number, handler)
    return _ended(watch, status)


def begin(name: str, size: int, *, memory: int = MEMORY, larger: int = LARGER, copies: bool = False) -> None:
    """A recording is opened from here on; outside of a child this does nothing.

    Args:
        name: what the user calls it.
        size: its bytes.
        memory: bytes that it may take.
        larger: how many times as large a file made of it may become.
        copies: files made of it are copies of it, and not sound.
    """
    if _me.says < 0:
        return
    _me.name = " ".join(name.split())[:200]
    os.write(_me.says, _me.name.encode("utf-8", "replace") + b"\n")
    _limit(resource.RLIMIT_DATA, _held() + min(memory, _group()))
    if copies:
        _me.written = larger * size + MORE
        _limit(resource.RLIMIT_FSIZE, _me.written)
    _me.seconds = sum(os.times()[:2]) + SECONDS + size / PACE
    _limit(resource.RLIMIT_CPU, int(_me.seconds) + 1)


def tell(message: str) -> None:
    """The last words of a child, for :attr:`Ended.said`; outside of one this does nothing."""
    if _me.says >= 0:
        os.write(_me.says, b"\0" + message.encode("utf-8", "replace")[:2000])


def earn(seconds: float) -> None:
    """Something came out of the recording: it gets ``seconds`` of the processor more."""
    if _me.says < 0:
        return
    before, _me.seconds = int(_me.seconds), _me.seconds + seconds
    if int(_me.seconds) > before:
        _limit(resource.RLIMIT_CPU, int(_me.seconds) + 1)


def inside() -> bool:
    """Whether this process is such a child."""
    return _me.says >= 0


def blame(error: BaseException) -> str:
    """What was too much, in words for the user, if an error is that of a limit; else empty."""
    number = getattr(error, "errno", None)
    if inside() and (isinstance(error, MemoryError) or number == errno.ENOMEM):
        return _too_much()
    if inside() and _me.written is not None and number == errno.EFBIG:
        return f"a copy of it takes more than {_me.written // 1_000_000} MB"
    return ""


def named(why: str) -> str:
    """A reason, with the recording before it."""
    return f"{_me.name}: {why}" if _me.name else why


def spare_others() -> None:
    """Be the first to go when the machine's memory ends; and never take more than there is (Linux only)."""
    with suppress(OSError):
        (SELF / "oom_score_adj").write_text("800")
    if GPU.exists():  # its driver maps what isn't memory
        return
    with suppress(OSError, ValueError):
        text = Path("/proc/meminfo").read_text()
        have = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in text.splitlines() if line.endswith("kB")}
        _limit(resource.RLIMIT_DATA, have["MemTotal"] + have["SwapTotal"])


def _be_child(mouth: int) -> None:
    _me.says = mouth
    with suppress(OSError):
        (SELF / "oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _me.seconds = SECONDS
    _limit(resource.RLIMIT_CPU, int(SECONDS))


def _limit(kind: int, value: int) -> None:
    """Set a limit, at most what this process was given."""
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _allowed(pid: int) -> float | None:
    """Seconds of the processor that a child has, altogether."""
    if not hasattr(resource, "prlimit"):
        return None
    with suppress(OSError):
        soft = resource.prlimit(pid, resource.RLIMIT_CPU)[0]
        return None if soft == resource.RLIM_INFINITY else float(soft)
    return None


def _held() -> int:
    """Bytes of private memory that this process has mapped: what RLIMIT_DATA counts."""
    try:
        return int((SELF / "statm").read_text().split()[5]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


def _group() -> int:
    """Bytes that a container leaves to a child; its libraries and its files' pages count, too."""
    try:
        return int(GROUP.read_text()) * 3 // 4
    except (OSError, ValueError):
        return MEMORY * 1000


def _too_much() -> str:
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    return f"it takes more than {max(0, limit) // 1_000_000} MB of memory to read"


def _ended(watch: _Watch, status: int) -> Ended:
    names, _, said = watch.heard.decode("utf-8", "replace").partition("\0")
    name = names.rstrip("\n").rpartition("\n")[2]
    where = f"{name}: " if name else ""
    asked = watch.asked is not None
    if os.WIFEXITED(status):
        return Ended(code=os.WEXITSTATUS(status), said=said, asked=asked)
    number = os.WTERMSIG(status)
    if asked:
        return Ended(code=128 + signal.SIGTERM, asked=True)
    if watch.late or number == signal.SIGXCPU:
        why = "it takes too long to read: it is damaged, or made so"
    elif number == signal.SIGKILL:
        why = "it takes more memory to read than there is"
    else:
        why = f"FFmpeg breaks off while it reads it ({signal.Signals(number).name})"
    return Ended(code=2, why=where + why)
