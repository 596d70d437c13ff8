"""Work in a process of its own, struck at a chosen point: kill -9, Ctrl-C, a full disk, a clock that moves, a pause.

python -m tests.hostile.struck     takes orders, one JSON line each, and answers each with one

A point is a line of this project's code (and of what deletes, copies and locks for it), or a call that changes files,
connects, or starts a process. Both are counted in a run without a strike, so a point can be anywhere in the work. Each
order runs in a fork of one process that has everything imported: an interpreter a try would take most of the time.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from builder.edges.system import files
from builder.errors import BakeError
from builder.receiver.inventory import LoaderError

ROOT = Path(__file__).resolve().parents[2]
OURS = (f"{ROOT}/builder/", f"{ROOT}/stages/")
TOOLS = ("/shutil.py", "/tempfile.py", "/filelock/_unix.py", "/load.py")

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.utime"} | {
    "os.truncate",
    "fcntl.flock",
    "socket.connect",
    "subprocess.Popen",
}
TAKES_ROOM = {"open", "os.mkdir", "os.link", "os.symlink"}

USED = ("tests.hostile.works", "tests.unit.test_job", "tests.process.test_receiver")
"""What works import beside the builder."""

STRUCK, RESUMED = ".struck", ".resumed"
"""Files of the place in which a pause says that it has come, and is told that it is over."""


@dataclass(frozen=True, kw_only=True)
class Strike:
    """What happens, and where."""

    kind: str
    """kill, stop, full, clock or pause."""
    by: str
    """Counted in: ``lines`` or ``changes``."""
    at: int
    """The how-manieth, from 1 on."""
    seconds: float = 0.0
    """By which a clock moves."""


class Point:
    """Counts, and strikes."""

    def __init__(self, strike: Strike | None, place: Path) -> None:
        self.counts = {"lines": 0, "changes": 0}
        self.strike = strike
        self.place = place
        self.full = self.over = False

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """A call that is about to change something."""
        if self.over:
            return
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)
        if writes or event in CHANGES:
            self.count("changes")
        if self.full and (event in TAKES_ROOM - {"open"} or (writes and args[2] & os.O_CREAT)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))

    def trace(self, frame: Any, event: str, arg: Any) -> Any:
        """A function is entered."""
        name = frame.f_code.co_filename
        return self.line if name.startswith(OURS) or name.endswith(TOOLS) else None

    def line(self, frame: Any, event: str, arg: Any) -> Any:
        if event == "line":
            self.count("lines")
        return self.line

    def count(self, what: str) -> None:
        self.counts[what] += 1
        if self.strike is not None and self.strike.by == what and self.counts[what] == self.strike.at:
            self.happen(self.strike)

    def happen(self, strike: Strike) -> None:
        if strike.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif strike.kind == "stop":
            os.kill(os.getpid(), signal.SIGINT)
        elif strike.kind == "full":
            self.full = True
        elif strike.kind == "clock":
            move_clock(strike.seconds)
        else:
            self.over = True
            (self.place / STRUCK).touch()
            end = time.monotonic() + 20
            while not (self.place / RESUMED).exists() and time.monotonic() < end:
                time.sleep(0.005)
            self.over = False


def move_clock(seconds: float) -> None:
    """From now on the time of day is another one."""
    real, real_ns, parts, local = time.time, time.time_ns, time.gmtime, time.localtime
    time.time = lambda: real() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)
    time.gmtime = lambda when=None: parts(real() + seconds if when is None else when)
    time.localtime = lambda when=None: local(real() + seconds if when is None else when)


def _act(order: dict[str, Any], report: int) -> None:
    """In the fork: do the work, say how it ended."""
    place, leave = Path(order["place"]), os._exit
    os.setsid()
    os.chdir(place)
    os.environ.update(order["env"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    point = Point(Strike(**order["strike"]) if order["strike"] else None, place)

    def left(code: int) -> None:  # stages end like this
        raise SystemExit(code)

    os._exit = left  # type: ignore[assignment]
    work: Callable[[Path], int | None] = getattr(importlib.import_module("tests.hostile.works"), order["work"])
    sys.addaudithook(point.audit)
    if point.strike is None or point.strike.by == "lines":
        threading.settrace(point.trace)
        sys.settrace(point.trace)
    try:
        code = work(place) or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    except (BakeError, LoaderError) as error:  # what the command line shows in words
        print(f"error: {error}", file=sys.stderr)
        code = error.code if isinstance(error, LoaderError) else error.exit_code
    except BaseException as error:  # noqa: BLE001 - whatever it is: the place judges
        code = 3 if files.disk_full(error) else 99
        if code == 99:
            traceback.print_exc()
    sys.settrace(None)
    point.over = True
    os.write(report, json.dumps({"code": code, **point.counts}).encode())
    sys.stdout.flush()
    sys.stderr.flush()
    leave(0)


def serve() -> None:
    """Take orders until nobody gives one."""
    import builder

    sys.path.insert(0, str(ROOT / "stages"))
    names = [module.name for module in pkgutil.walk_packages(builder.__path__, "builder.")]
    for name in [*(name for name in names if not name.endswith("__main__")), *USED]:
        importlib.import_module(name)
    print("ready", flush=True)
    for text in sys.stdin:
        order = json.loads(text)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            _act(order, write)
        os.close(write)
        with os.fdopen(read, "rb") as report:
            said = report.read()  # ends when the last of its processes does
        _, status = os.waitpid(pid, 0)
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        print(json.dumps({"code": code} | (json.loads(said) if said else {})), flush=True)


class Workers:
    """The process that forks; it ends with this one."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.hostile.struck"],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={k: v for k, v in os.environ.items() if not k.startswith(("BAKE_", "HF_"))} | {"NO_PROXY": "127.0.0.1"},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def run(
        self, work: str, place: Path, strike: Strike | None, *, env: dict[str, str], pause: Callable[[], None]
    ) -> dict[str, int]:
        """Do a work in a place; ``code`` (negative: killed) and, when it ended by itself, how many points it has.

        Args:
            pause: called while the work waits at its pause.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"work": work, "place": str(place), "env": env, "log": str(place.parent / f"{place.name}.log")}
        order["strike"] = asdict(strike) if strike else None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        if strike is not None and strike.kind == "pause":
            threading.Thread(target=_at_pause, args=(place, pause), daemon=True).start()
        found: dict[str, int] = json.loads(self.process.stdout.readline())
        (place / RESUMED).touch()
        for mark in (STRUCK, RESUMED):
            (place / mark).unlink(missing_ok=True)
        return found


def _at_pause(place: Path, pause: Callable[[], None]) -> None:
    while not (place / RESUMED).exists() and place.exists():
        if (place / STRUCK).exists():
            pause()
            (place / RESUMED).touch()
            return
        time.sleep(0.005)


if __name__ == "__main__":
    serve()
