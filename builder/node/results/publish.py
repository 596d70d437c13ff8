"""What the stages made of each recording, looked at as a stranger's, and published whole or not at all.

A recording may have taken a stage's process over, and with it whatever that process could write: the folders of all
recordings of the shard. So only what manifests name is taken, regular files alone, of their sizes and sha256; and job.yaml and
the recording have to be what begin put there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from builder.node.faults import of_disk
from builder.node.items import Item
from builder.node.jobs import BegunItem, job_text
from builder.node.results.folder import WHAT, FailedItem, failed, note_failed, place, published, write_result
from builder.node.results.record import RunJournal
from builder.node.scratch import Scratch
from builder.node.shard import ShardBatch
from builder.node.signals import Stopping
from builder.node.steps import EndedJob
from builder.receiver.jobs import places
from builder.receiver.jobs.untrusted import open_below, parse_json, read_below, sha256_below

LARGEST_MANIFEST = 16 << 20
"""Bytes."""

MOST_FILES = 1000
"""That one stage makes of a recording."""

LARGEST_EVENTS = 32 << 20
"""Bytes of events.jsonl; a longer one isn't published."""

SMALL, TIMES = 256 << 20, 16
"""All results of a recording take at most so many bytes, and so many times the recording's own."""

PATH = re.compile(r"(?:output|work/[a-z0-9-]{1,64})/([^/\0]{1,255})")
"""A file that a stage may make."""

COMPARED = re.compile(r"output/.*|work/[a-z0-9-]+/[0-9]+\.json", re.DOTALL)
"""Files that two runs of a recording have alike."""

GROUP = 64
"""Recordings that are written, flushed to the disk, and then published."""

CHUNK = 1 << 20

TOOK_OVER = "its job was changed by whoever ran in a stage; what came out isn't published"


class Unusable(Exception):
    """What a stage left is not a result of it.

    Args:
        stage: its name.
        reason: why not.
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.stage, self.reason = stage, reason


@dataclass
class ShardTally:
    """What became of a shard's recordings."""

    done: list[str] = field(default_factory=list)
    """Keys with a result, in this run or before it."""
    failed: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    """Keys of which another run published another result."""
    made: list[str] = field(default_factory=list)
    """Keys that this run published, or wrote down as failed."""


@dataclass(frozen=True)
class _Made:
    """A result that is written and not yet published."""

    item: Item
    folder: Path
    digest: str
    took: float


class Publisher:
    """Publishes what one run made."""

    def __init__(
        self,
        batch: ShardBatch,
        scratch: Scratch,
        results: Path,
        temporary: Path,
        journal: RunJournal,
        stopping: Stopping,
    ) -> None:
        """
        Args:
            temporary: the run's folder in that of the results.
        """
        self._batch, self._scratch, self._results, self._temporary = batch, scratch, results, temporary
        self._journal, self._stopping = journal, stopping
        self.tally = ShardTally()

    def known(self, items: Sequence[Item]) -> list[Item]:
        """Items of which nothing is known yet; of the others the journal says what is.

        Raises:
            NodeFault: the folder of results can't be written.
        """
        new = []
        with self._writing():
            for item in items:
                if published(self._results, item.key):
                    self.tally.done.append(item.key)
                    self._journal.write("done", key=item.key, seconds=item.seconds, kept=True)
                elif (why := failed(self._results, item)) is not None:
                    self.tally.failed.append(item.key)
                    self._tell_failed(item, why, kept=True)
                else:
                    new.append(item)
        return new

    def fail(self, item: Item, why: FailedItem) -> None:
        """A recording has no result.

        Raises:
            NodeFault: the folder of results can't be written.
        """
        with self._writing():
            if published(self._results, item.key):  # another run of the shard was luckier
                self.tally.done.append(item.key)
                return
            note_failed(self._results, self._temporary, item, why)
            self.tally.failed.append(item.key)
            self.tally.made.append(item.key)
            self._tell_failed(item, why)

    def publish(
        self,
        begun: Sequence[BegunItem],
        ends: Mapping[str, Mapping[str, EndedJob]],
        on_published: Callable[[int], None] = lambda done: None,
    ) -> list[Item]:
        """Publish what is finished, and write down what failed.

        Args:
            ends: what stages said of jobs, by stage: of those that worked through their list.
            on_published: called with how many recordings were looked at.

        Returns:
            What is neither: stages are still to run.

        Raises:
            NodeFault: the folder of results can't be written.
        """
        left: list[Item] = []
        for at in range(0, len(begun), GROUP):
            group: list[_Made] = []
            for one in begun[at : at + GROUP]:
                verdict = None if self._stopping.late else self._verdict(one, ends)
                if verdict is None:
                    left.append(one.item)
                elif isinstance(verdict, FailedItem):
                    self.fail(one.item, verdict)
                else:
                    group.append(verdict)
            with self._writing():
                flush(self._temporary)
                for made in group:
                    self._place(made)
            on_published(min(at + GROUP, len(begun)))
        return left

    def _verdict(self, begun: BegunItem, ends: Mapping[str, Mapping[str, EndedJob]]) -> _Made | FailedItem | None:
        """A recording's result, ready to be published; why it has none; None: stages are still to run."""
        key = begun.item.key
        there: list[str] = []
        for stage in self._batch.job["stages"]:
            name = stage["name"]
            if read_below(self._scratch.jobs / key, f"work/{name}/manifest.json", LARGEST_MANIFEST) is not None:
                there.append(name)
                continue
            if name not in ends:
                return None
            end = ends[name].get(key)
            if end is not None and end.code in (3, 5):
                return None
            if stage.get("optional"):
                continue
            kind = "recording" if end is not None and end.code == 2 else "stage"
            return FailedItem(kind, name, (end.message if end is not None else "") or "it left no result")
        folder = self._temporary / key
        try:
            with self._writing():
                return self._written(begun, there, folder)
        except Unusable as error:
            places.remove_if_there(folder)
            return FailedItem("stage", error.stage, error.reason)

    def _written(self, begun: BegunItem, stages: Sequence[str], folder: Path) -> _Made:
        """Write a recording's result into a folder that nobody sees yet.

        Raises:
            Unusable: it isn't one.
            OSError: it can't be written.
        """
        item, job = begun.item, self._scratch.jobs / begun.item.key
        text = job_text(self._batch, begun).encode()
        whole = read_below(job, "job.yaml", len(text)) == text
        if not whole or sha256_below(job, begun.input, item.size) != begun.sha256:
            raise Unusable("", TOOK_OVER)
        folder.mkdir()
        (folder / "output").mkdir()
        (folder / "job.yaml").write_bytes(text)
        events = read_below(job, "events.jsonl", LARGEST_EVENTS)
        if events is not None:
            (folder / "events.jsonl").write_bytes(events)
        planned = {stage["name"]: stage for stage in self._batch.job["stages"]}
        most, took, digests = SMALL + TIMES * item.size, 0.0, dict[str, str]()
        for name in stages:
            data = read_below(job, f"work/{name}/manifest.json", LARGEST_MANIFEST) or b""
            outputs, seconds = checked(data, planned[name])
            took += seconds
            (folder / "work" / name).mkdir(parents=True)
            (folder / "work" / name / "manifest.json").write_bytes(data)
            for path, digest in outputs.items():
                if path.startswith("work/") and path.endswith(".wav"):
                    continue
                if path in digests:
                    raise Unusable(name, "it wrote a file of another stage")
                most -= copy_checked(job, path, folder, digest, most, name)
                digests[path] = digest
        digest = digest_of(digests)
        write_result(folder, key=item.key, name=item.path, seconds=item.seconds, digest=digest)
        return _Made(item, folder, digest, round(took, 3))

    def _place(self, made: _Made) -> None:
        item = made.item
        state = place(made.folder, self._results, item.key, made.digest)
        if state == "differs":
            self.tally.differs.append(item.key)
            self._journal.write("differs", key=item.key)
            return
        self.tally.done.append(item.key)
        if state == "new":
            self.tally.made.append(item.key)
            self._journal.write("done", key=item.key, seconds=item.seconds, took=made.took)
        else:
            self._journal.write("done", key=item.key, seconds=item.seconds, kept=True)

    def _tell_failed(self, item: Item, why: FailedItem, **more: Any) -> None:
        again = {"again": item.again} if item.again else {}
        self._journal.write("failed", key=item.key, **why.fields(), **again, **more)

    @contextlib.contextmanager
    def _writing(self) -> Any:
        try:
            yield
        except OSError as error:
            raise of_disk(error, self._results, WHAT) from error


def checked(data: bytes, stage: Mapping[str, Any]) -> tuple[dict[str, str], float]:
    """The files that a manifest names, with their hex sha256; and the core seconds that it says.

    Args:
        stage: what job.yaml says of it.

    Raises:
        Unusable: no stage of ours wrote it for this job.
    """
    name = stage["name"]
    try:
        said = parse_json(data)
        outputs, seconds = said["outputs"], said.get("cpu_seconds") or 0.0
        models = {purpose: use["digest"] for purpose, use in stage["models"].items()}
        same = said["stage"] == name and said["settings"] == stage["settings"] and said["models"] == models
        known = isinstance(seconds, (int, float)) and 0 <= seconds <= 1e9
        if not same or not known or len(outputs) > MOST_FILES or not all(_own(path, name) for path in outputs):
            raise ValueError
        return {path: re.fullmatch("sha256:([0-9a-f]{64})", sha)[1] for path, sha in outputs.items()}, float(seconds)  # type: ignore[index]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unusable(name, "its manifest is not one for this job") from error


def _own(path: str, stage: str) -> bool:
    match = PATH.fullmatch(path)
    own = path.startswith(("output/", f"work/{stage}/")) and not path.endswith("/manifest.json")
    return match is not None and own and match[1] not in (".", "..") and path.isprintable()


def copy_checked(job: Path, path: str, folder: Path, digest: str, most: int, stage: str) -> int:
    """Copy a regular file, if it has the sha256 that its manifest says; its bytes.

    Args:
        most: bytes that it may have.

    Raises:
        Unusable: it is missing, larger, or another.
        OSError: the copy can't be written.
    """
    try:
        source = open_below(job, path)
    except OSError as error:
        raise Unusable(stage, f"{path} is not there") from error
    found, size = hashlib.sha256(), 0
    with source, (folder / path).open("xb") as out:
        if os.fstat(source.fileno()).st_size > most:
            raise Unusable(stage, f"{path} is too large")
        while chunk := source.read(CHUNK):
            size += len(chunk)
            if size > most:
                raise Unusable(stage, f"{path} is too large")
            found.update(chunk)
            out.write(chunk)
    if found.hexdigest() != digest:
        raise Unusable(stage, f"{path} is not what its manifest says")
    return size


def digest_of(files: Mapping[str, str]) -> str:
    """Hex sha256 over names and bytes of the results that two runs have alike.

    Args:
        files: path -> hex sha256.
    """
    lines = [f"{digest}  {path}\n" for path, digest in sorted(files.items()) if COMPARED.fullmatch(path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def flush(folder: Path) -> None:
    """Put what was written on the file system of a folder onto its disk: what is renamed afterwards is whole, come what may."""
    import ctypes

    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if hasattr(library := ctypes.CDLL(None), "syncfs"):
            library.syncfs(handle)
        else:
            os.sync()
    finally:
        os.close(handle)
