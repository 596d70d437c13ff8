"""What those who watch a stage see of it: lines for its log, a mark that it is running, its memory."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from handed import UNLINKED, one_line

KEPT = 256 << 20
"""Bytes of free memory that a process for several jobs keeps."""

LISTED = 10
"""Files that a stage's last line names."""


def plain(text: str) -> str:
    """Text on one line, without characters that steer a terminal or turn the direction of what follows."""
    kept = {"\t", "\u200c", "\u200d"}  # joiners: scripts need them
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(c if c in kept or unicodedata.category(c) not in hidden else f"\\u{ord(c):04x}" for c in text)


def summary(seconds: float, heard: float, wrote: Iterable[str]) -> str:
    """A stage's last line: what it did.

    Args:
        seconds: that it took.
        heard: seconds of sound that it worked through.
        wrote: files, relative to the job's folder.
    """
    names = [path for path in wrote if not path.endswith("/manifest.json")]
    sound = f"{heard:.1f} s of sound in " if heard else ""
    files = f"; wrote {', '.join(names[:LISTED])}" if names else ""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"done: {sound}{seconds:.1f} s{files}{more}"


@contextmanager
def held(root: Path, *, here: bool) -> Iterator[None]:
    """Mark the job as running while the block does, for those who would remove it: flock(2) on its events.

    A file system without locks has no such mark.

    Args:
        here: False: somebody else holds it.
    """
    handle = -1
    with suppress(OSError, ImportError):
        import fcntl

        handle = os.open(root / "events.jsonl", os.O_RDONLY | UNLINKED) if here else -1
        for _ in range(50 if here else 0):  # whoever looks whether a stage runs holds it alone for a moment
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            time.sleep(0.002)
    try:
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def peak_bytes() -> int | None:
    """The most memory that this process has held for the job, in bytes (VmHWM, see proc(5)); None without /proc.

    Not ru_maxrss of getrusage(2): after exec it starts with what the parent held.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


@dataclass
class Meter:
    """What of this process' cost is a job's: a process may do several, one after the other."""

    before: float = 0.0
    """Seconds of the processors that other jobs took."""

    def owe(self, seconds: float) -> None:
        """The next job also pays for what another process did for it; a child's own account begins at 0."""
        self.before = -seconds

    def restart(self) -> None:
        """A job has ended, and the next pays for what comes now."""
        self.before = spent()
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak of memory, see proc(5)


meter = Meter()


def cpu_seconds() -> float:
    """Seconds of the processors that this process and the children that it waited for took for the job, with all their
    threads."""
    return spent() - meter.before


def spent() -> float:
    """The same for all that this process has done."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def die_with(parent: int) -> None:
    """End when the orchestrator ends, even by kill -9: two runs of a stage must never write at once (Linux only)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, see prctl(2)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)


def keep_memory() -> None:
    """Keep what is freed for the next recording: glibc would give large pieces back, and each page has to be zeroed anew.

    A quarter of the processor's time of tiny.en on clips, and of its memory as much as before.
    """
    import ctypes

    with suppress(AttributeError, OSError):  # other C libraries have no such options
        library = ctypes.CDLL(None)
        library.mallopt(-4, 0)  # M_MMAP_MAX, see mallopt(3)
        library.mallopt(-1, KEPT)  # M_TRIM_THRESHOLD
        library.mallopt(-8, 1)  # M_ARENA_MAX: what one thread freed is there for another


def sentence(error: Exception) -> str:
    """An unexpected error in words; of paths only the file's name."""
    if isinstance(error, OSError) and error.strerror:
        name = Path(os.fsdecode(error.filename)).name if isinstance(error.filename, (str, bytes)) else ""
        return f"{error.strerror}: {name}" if name else error.strerror
    if isinstance(error, MemoryError):
        return "not enough memory"
    return f"{type(error).__name__}: {one_line(error)}"
