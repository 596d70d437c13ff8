"""The stages of a shard, one after the other: each is a program that works through the list of jobs."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from builder.node.client import await_container
from builder.node.faults import BUG, DIFFERS, MACHINE, NodeFault
from builder.node.jobs import clear, write_list
from builder.node.scratch import Scratch
from builder.node.shard import NodeStep
from builder.node.signals import Stopping
from builder.receiver.display import shown
from builder.receiver.jobs.untrusted import parse_json, size_below, slice_below

INHERITED = ("PATH", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "TMPDIR")
"""The node's variables that every stage gets, with ``LC_*``."""

PLACES = re.compile(r"\{(scratch|list|pid|run)\}")

LOOK = 0.25
"""Seconds between two looks at what a stage has done, and whether a signal came."""

GRACE = 11.0
"""Seconds that a stage has to end: it gives its worker 8. A client that doesn't know its container yet has no worker."""

LARGEST_LOG = 8 << 20
"""Bytes that are kept of what a stage prints."""

LINES, LINE = 10, 500
"""Of what a stage printed last, that an error shows: lines, and characters of each."""

LARGEST_ENDED = 64 << 20
"""Bytes that are read of what a stage says of its jobs."""

NOT_STARTED = (125, 126, 127)
"""Exit codes of an engine's client: the container could not be started."""

CRASHED = re.compile("the stage (was killed|crashed)")
"""How a stage tells that its worker was ended at a job; see stages/several.py."""

ALL_ALIKE = 3
"""Recordings at which a stage fails in the same way, and at none it doesn't: it isn't the recordings."""


@dataclass(frozen=True)
class EndedJob:
    """What a stage says of a job."""

    code: int
    """0; 2 the recording; 5 a model; 3 the machine; 1 anything else."""
    message: str


@dataclass
class StageEnds:
    """What a stage has said of its jobs, read as it comes; whoever took the stage over may have written it."""

    scratch: Scratch
    stage: str
    known: frozenset[str]
    """Names of jobs; of others nothing is taken."""
    jobs: dict[str, EndedJob] = field(default_factory=dict)
    _at: int = 0

    def update(self) -> None:
        """Read the lines that are new and whole."""
        name = f"ended-{self.stage}.jsonl"
        while self._at < LARGEST_ENDED:
            if (size_below(self.scratch.jobs, name) or 0) < self._at:
                self._at = 0
            data = slice_below(self.scratch.jobs, name, self._at, 1 << 20)
            whole = data.rfind(b"\n") + 1
            if not whole:
                return
            self._at += whole
            for line in data[:whole].splitlines():
                self._take(line)

    def _take(self, line: bytes) -> None:
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            said = parse_json(line)
            key, code, message = said["job"], said["code"], said.get("message") or ""
            if key in self.known and type(code) is int and isinstance(message, str):
                self.jobs[key] = EndedJob(code, message[:LINE])


class StageRunner:
    """Starts the stages of one shard."""

    def __init__(
        self,
        scratch: Scratch,
        stopping: Stopping,
        env: Mapping[str, str],
        on_progress: Callable[[str, int, int], None],
    ) -> None:
        """
        Args:
            env: the node's.
            on_progress: called with a stage, and how many recordings of how many it has done.
        """
        self._scratch, self._stopping, self._env, self._on_progress = scratch, stopping, env, on_progress
        self._told: tuple[str, int, int] | None = None

    def run(self, step: NodeStep, keys: Sequence[str]) -> StageEnds:
        """Run a stage over jobs; how each ended.

        Raises:
            NodeFault: it can't be started, failed as a whole, or this machine or a model is at fault.
            NodeStopped: a signal came; the stage is ended.
        """
        ends = StageEnds(self._scratch, step.stage, frozenset(keys))
        clear(self._scratch.jobs / f"ended-{step.stage}.jsonl")  # nobody else has said anything yet
        self._through(step, keys, ends)
        if again := [key for key in keys if key in ends.jobs and CRASHED.match(ends.jobs[key].message)]:
            self._through(step, again, ends)  # it may have been this machine's memory, or somebody's hand
        self._require_some(step, keys, ends)
        return ends

    def _through(self, step: NodeStep, keys: Sequence[str], ends: StageEnds) -> None:
        """Have a stage work through a list, again and again where it is killed."""
        left, killed, blamed = list(keys), Counter[str](), 0
        while True:
            write_list(self._scratch, left)
            done = len([end for end in ends.jobs.values() if end.code == 0])
            cidfile = Path(self._filled(step.cidfile)) if step.cidfile else None
            if cidfile is not None:
                clear(cidfile)
            program = _Program(self._words(step), self._variables(step), self._scratch, step.stage, cidfile)
            self._watch(program, step, ends, len(keys))
            if program.code == 0:
                return
            if 0 < program.code < 128 or self._suspect(left, ends) is None:
                raise self._fault(step, program, ends)
            # A kill from outside hits any recording once; what kills the stage twice at the same one is the recording.
            suspect = self._suspect(left, ends) or ""
            killed[suspect] += 1
            if killed[suspect] < 2:
                continue
            blamed = 1 if len([end for end in ends.jobs.values() if end.code == 0]) > done else blamed + 1
            if blamed == ALL_ALIKE:
                raise NodeFault(MACHINE, f"stage {step.stage} is killed at every recording", detail=program.lines)
            left.remove(suspect)
            ends.jobs[suspect] = EndedJob(BUG, f"it was killed at it, twice ({_signal(program.code)})")

    def end_left(self, step: NodeStep, run: str) -> None:
        """End by force what a run of that name may have left of a stage, where the step says how."""
        if step.end:
            words = [PLACES.sub(lambda m: run if m[1] == "run" else m[0], word) for word in step.end]
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                quiet = subprocess.DEVNULL
                subprocess.run(words, env=self._variables(step), stdin=quiet, stdout=quiet, stderr=quiet, timeout=8)

    def _watch(self, program: _Program, step: NodeStep, ends: StageEnds, total: int) -> None:
        """Wait for a program's end, and tell how far it is."""
        program.start()
        try:
            while program.code is None and not self._stopping.number:
                program.over.wait(LOOK)
                self._look(step, ends, total)
        finally:
            if program.code is None:
                program.stop()
                self.end_left(step, self._scratch.run)
        self._look(step, ends, total)
        self._stopping.check()

    def _look(self, step: NodeStep, ends: StageEnds, total: int) -> None:
        """See how far a stage is, and tell it once."""
        ends.update()
        if (found := (step.stage, len(ends.jobs), total)) != self._told:
            self._told = found
            self._on_progress(*found)

    def _suspect(self, left: Sequence[str], ends: StageEnds) -> str | None:
        """The job at which a stage was when it was killed; None where it had ended with all."""
        manifest = f"work/{ends.stage}/manifest.json"
        there = (key for key in left if size_below(self._scratch.jobs / key, manifest) is None)
        return next((key for key in there if key not in ends.jobs), None)

    def _fault(self, step: NodeStep, program: _Program, ends: StageEnds) -> NodeFault:
        """What a stage's exit code means."""
        code, lines = program.code or 0, program.lines
        last = next((end.message for end in ends.jobs.values() if end.code == code), lines[-1] if lines else "")
        what = f"stage {step.stage}: {shown(last or 'it said nothing')}"
        if code == DIFFERS:
            return NodeFault(DIFFERS, what, "see that this machine has the batch's models")
        if code == MACHINE:
            return NodeFault(MACHINE, what, "look at this machine, then run the shard again", lines)
        if code in NOT_STARTED:
            return NodeFault(MACHINE, f"stage {step.stage} can't be started: {shown(last)}", "", lines)
        if code < 0 or code > 128:
            return NodeFault(MACHINE, f"stage {step.stage} was killed ({_signal(code)})", "run the shard again", lines)
        return NodeFault(BUG, f"stage {step.stage} ended with code {code}: {shown(last)}", "", lines)

    def _require_some(self, step: NodeStep, keys: Sequence[str], ends: StageEnds) -> None:
        """Where a stage fails at every recording in the same way, it isn't the recordings: nothing is held against them."""
        found = [ends.jobs.get(key) for key in keys]
        words = {re.sub(r"[0-9a-f]{20}", "", one.message) for one in found if one is not None}
        alike = all(one is not None and one.code == BUG for one in found) and len(words) == 1
        if alike and len(keys) >= ALL_ALIKE:
            what = f"stage {step.stage} fails at every recording: {shown(words.pop())}"
            raise NodeFault(MACHINE, what, "look at this machine; and if it is none of it, at the stage's settings")

    def _words(self, step: NodeStep) -> list[str]:
        return [self._filled(word) for word in step.argv]

    def _variables(self, step: NodeStep) -> dict[str, str]:
        names = (*INHERITED, *step.inherit)
        taken = {n: value for n, value in self._env.items() if n in names or n.startswith("LC_")}
        return {**taken, **{name: self._filled(value) for name, value in step.env.items()}}

    def _filled(self, text: str) -> str:
        values = {
            "scratch": str(self._scratch.folder),
            "list": str(self._scratch.list),
            "pid": str(os.getpid()),
            "run": self._scratch.run,
        }
        return PLACES.sub(lambda match: values[match[1]], text)


class _Program:
    """A stage that was started; what it prints is kept."""

    def __init__(
        self, words: Sequence[str], env: Mapping[str, str], scratch: Scratch, stage: str, cidfile: Path | None
    ) -> None:
        self._words, self._env, self._stage, self._cidfile = words, env, stage, cidfile
        self._log = scratch.logs / f"{stage}.log"
        self._last: deque[str] = deque(maxlen=LINES)
        self._process: Any = None
        self.code: Any = None
        self.over = threading.Event()
        """Set when it has ended, and ``code`` is known."""

    @property
    def lines(self) -> list[str]:
        """What it printed last."""
        return list(self._last)

    def start(self) -> None:
        """Start it.

        Raises:
            NodeFault: there is no such program, or it can't be started.
        """
        try:
            self._process = subprocess.Popen(
                self._words,
                env=dict(self._env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            what = f"stage {self._stage} can't be started: {error.strerror}: {self._words[0]}"
            raise NodeFault(MACHINE, what, "see that this machine has what the batch was rendered for") from error
        reader = threading.Thread(target=self._read, name=f"read {self._stage}", daemon=True)
        reader.start()
        threading.Thread(target=self._await, args=(reader,), name=self._stage, daemon=True).start()

    def stop(self) -> None:
        """Ask it to end, and end it by force where it doesn't; returns once it is over."""
        end = time.monotonic() + GRACE
        if self._cidfile is not None:
            await_container(self._cidfile, self._process.poll)
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, end - time.monotonic()))
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()

    def _read(self) -> None:
        """Keep what it prints, as far as there is room."""
        written = 0
        with self._process.stdout as pipe:
            while chunk := os.read(pipe.fileno(), 64 << 10):
                self._last.extend(line[:LINE] for line in chunk.decode("utf-8", "replace").splitlines() if line.strip())
                if written < LARGEST_LOG:
                    with contextlib.suppress(OSError), self._log.open("ab") as log:  # a full disk
                        log.write(chunk)
                written += len(chunk)

    def _await(self, reader: threading.Thread) -> None:
        code = self._process.wait()
        reader.join(1.0)  # others may hold the pipe open, and outlive it
        self.code = code
        self.over.set()


def _signal(code: int) -> str:
    number = -code if code < 0 else code - 128
    return f"signal {number}" + (": perhaps too little memory" if number == 9 else "")
