"""What nodes without a shared folder sent back, taken in as a stranger's: checked to the last byte before anything counts.

Only regular files under the names that a run gives them are read. They are written into a folder that nobody reads; each
recording's own folder then gets its place in the results by one rename, as it would on a shared disk. Whoever sent a tar may
say whatever it likes of the recordings whose results it brings, and nothing of others.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from builder.core.batch.tally import parsed
from builder.edges.system import files
from builder.errors import BakeError, IntegrityError, MissingError
from builder.node.faults import NodeFault
from builder.node.items import KEY, Item
from builder.node.jobs import CHANGED
from builder.node.results.folder import (
    LARGEST_NOTE,
    TEMPORARY,
    FailedItem,
    failed_of,
    note_failed,
    open_results,
    place,
    published,
)
from builder.node.results.pack import END
from builder.node.results.publish import digest_of, flush
from builder.node.results.record import LONGEST_LINE
from builder.receiver.jobs import places
from builder.receiver.jobs.untrusted import names_below, object_below, open_below, parse_json
from builder.receiver.tar import padding, regular_files

FOLDER = "arrived"
"""Of a batch: where an engine puts what nodes send."""

TAR = re.compile(r"shard-[0-9]{1,7}\.tar")

_NAME = r"[^./\0][^/\0]{0,254}"
ITEM = re.compile(
    rf"([0-9a-f]{{2}})/(\1[0-9a-f]{{18}})/((?:job\.yaml|result\.json|events\.jsonl)|(?:output|logs|work/[a-z0-9-]{{1,64}})/{_NAME})",
    re.DOTALL,
)
"""A file of a recording's results: key, path there."""

FAILED = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{18})\.failed\.json")
JOURNAL = re.compile(r"journal/([0-9]{1,7}-[A-Za-z0-9._-]{1,80}\.jsonl)")

MOST_MEMBERS = 100_000
"""Files of a tar; a recording has twenty or so."""

LARGEST_END = 32 << 20
"""Bytes of the last member, which names all others."""

LARGEST_JOURNAL = 32 << 20
"""Bytes; a recording takes a hundred or so."""

CHUNK = 1 << 20


@dataclass
class ArrivedShard:
    """What a tar has, once it is written beside the results."""

    results: dict[str, dict[str, str]] = field(default_factory=dict)
    """Key -> path in its folder -> hex sha256."""
    failed: set[str] = field(default_factory=set)
    """Keys of which it says why they have no result."""
    journals: list[str] = field(default_factory=list)
    """Names."""
    code: int = 1
    """With what the run ended."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What came of a batch's tars."""

    names: tuple[str, ...]
    """Those that were taken in, and are gone."""
    published: int
    """Recordings that have a result now and had none before."""
    refused: tuple[tuple[str, str], ...]
    """Name and what is wrong of each that wasn't, and stays."""


Tell = Callable[[str, int, int], None]
"""Hears the name of the tar that is read next, its number from 0 on, and how many there are; at the end both are the same."""


def take(batch: Path, known: Container[bytes], changed: Callable[[str], Item | None], tell: Tell) -> Taken:
    """Take in all tars of a batch, and remove what dead runs left in its results.

    Args:
        known: keys of the plan; results of other recordings are passed over.
        changed: the item of a key whose recording isn't any more the one that was planned: its results don't count.

    Raises:
        MissingError: the disk is full, or the results can't be written. What was taken in until then is.
    """
    arrived, results = batch / FOLDER, batch / "results"
    names = [name for name in names_below(arrived.resolve()) if TAR.fullmatch(name)]
    if not names:
        _sweep(results)
        return Taken(names=(), published=0, refused=())
    taken, refused, count = [], [], 0
    with _temporary(results) as temporary:
        for number, name in enumerate(names):
            tell(name, number, len(names))
            try:
                count += _take_one(arrived.resolve(), name, results, temporary / str(number), known, changed)
            except IntegrityError as error:
                refused.append((name, error.what))
                continue
            taken.append(name)
        tell("", len(names), len(names))
    return Taken(names=tuple(taken), published=count, refused=tuple(refused))


def _sweep(results: Path) -> None:
    """Remove what dead runs left, where there is something to remove and it can be."""
    if any(TEMPORARY.fullmatch(name) for name in names_below(results.resolve())):
        with contextlib.suppress(MissingError), _temporary(results):
            pass


@contextlib.contextmanager
def _temporary(results: Path) -> Iterator[Path]:
    try:
        made = open_results(results)
    except NodeFault as error:
        raise MissingError(str(error), where=str(results)) from error
    try:
        yield made
    finally:
        places.remove_if_there(made)


def _take_one(
    arrived: Path,
    name: str,
    results: Path,
    temporary: Path,
    known: Container[bytes],
    changed: Callable[[str], Item | None],
) -> int:
    """Take in one tar and remove it; how many recordings have a result by it."""
    try:
        source = open_below(arrived, name)
    except OSError as error:
        raise IntegrityError(f"it can't be read ({error.strerror})") from error
    try:
        with source:
            found = _unpacked(source, temporary)
        _require_results(found, temporary)
        stale = _stale(found, temporary, results, known, changed)
        count = _published(found, temporary, results, known, stale)
        (arrived / name).unlink()
        places.remove_if_there(temporary)
    except OSError as error:
        raise _disk(error, results) from error
    return count


def _disk(error: OSError, results: Path) -> BakeError:
    if files.disk_full(error):
        return MissingError("the disk is full", where=str(results), hint="free some space, then collect again")
    return MissingError(f"the results can't be written ({error.strerror})", where=str(results))


# ---- From the tar to a folder that nobody reads


class _Tar:
    """A tar that is read from its beginning to its end."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source

    def read(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            IntegrityError: there are fewer.
        """
        data = self._source.read(size)
        if len(data) != size:
            raise IntegrityError("it is cut short")
        return data

    def copy(self, size: int, write: Callable[[bytes], object]) -> str:
        """A member's bytes to ``write``; their hex sha256."""
        digest, left = hashlib.sha256(), size
        while left:
            data = self.read(min(left, CHUNK))
            digest.update(data)
            write(data)
            left -= len(data)
        self.read(padding(size))
        return digest.hexdigest()


def _unpacked(source: BinaryIO, folder: Path) -> ArrivedShard:
    """Write a tar's files below a new folder.

    Raises:
        IntegrityError: it is not what a run packs.
        OSError: they can't be written.
    """
    tar, found = _Tar(source), ArrivedShard()
    folder.mkdir()
    (folder / "journal").mkdir()
    members: dict[str, str] = {}
    end: bytearray | None = None
    try:
        for name, size in regular_files(tar.read):
            if end is not None:
                raise IntegrityError("something follows its last file")
            if name in members or len(members) >= MOST_MEMBERS:
                raise IntegrityError(f"{name!r} is there twice" if name in members else "it has too many files")
            if name == END:
                if size > LARGEST_END:
                    raise IntegrityError(f"{END} is too large")
                end = bytearray()
                tar.copy(size, end.extend)
            else:
                members[name] = _written(tar, name, size, folder, found)
    except ValueError as error:
        raise IntegrityError(f"it is {error}" if str(error).startswith("not a tar") else str(error)) from error
    if end is None:
        raise IntegrityError(f"it has no {END}: it didn't arrive whole")
    found.code = _require_members(bytes(end), members)
    return found


def _written(tar: _Tar, name: str, size: int, folder: Path, found: ArrivedShard) -> str:
    """Write a member; its hex sha256."""
    if match := ITEM.fullmatch(name):
        key, path = match[2], match[3]
        target = folder / key / path
        files_ = found.results.setdefault(key, {})
    elif match := FAILED.fullmatch(name):
        found.failed.add(match[2])
        target, files_, path = folder / f"{match[2]}.failed.json", {}, ""
        if size > LARGEST_NOTE:
            raise IntegrityError(f"{name!r} is too large")
    elif match := JOURNAL.fullmatch(name):
        found.journals.append(match[1])
        target, files_, path = folder / name, {}, ""
        if size > LARGEST_JOURNAL:
            raise IntegrityError(f"{name!r} is too large")
    else:
        raise IntegrityError(f"{name!r} is no file of a shard's results")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        files_[path] = tar.copy(size, out.write)
    return files_[path]


def _require_members(end: bytes, members: Mapping[str, str]) -> int:
    """Refuse other files than the last member names; the exit code that it says."""
    try:
        data = parse_json(end)
    except ValueError as error:
        raise IntegrityError(f"{END} is not JSON ({error})") from error
    said = data.get("members") if isinstance(data, dict) else None
    if not isinstance(said, dict) or data.get("schema") != 1:
        raise IntegrityError(f"{END} is not what a run of this version writes")
    if said != members:
        odd = min((name for name in {*said, *members} if said.get(name) != members.get(name)), default="")
        raise IntegrityError(f"{odd!r} is not what {END} says")
    code = data.get("code")
    return code if isinstance(code, int) and 0 <= code < 256 else 1


def _require_results(found: ArrivedShard, folder: Path) -> None:
    """Refuse results that no run publishes: each says its own key and the digest of its files."""
    for key, paths in found.results.items():
        said = object_below(folder / key, "result.json", LARGEST_NOTE)
        if said.get("key") != key or said.get("digest") != digest_of(paths) or "job.yaml" not in paths:
            raise IntegrityError(f"the result of {key} is not what its result.json says")
    for key in found.failed:
        said = object_below(folder, f"{key}.failed.json", LARGEST_NOTE)
        if said.get("key") != key or not isinstance(said.get("reason"), str):
            raise IntegrityError(f"{key}.failed.json doesn't say why")


# ---- From there to the results


def _stale(
    found: ArrivedShard,
    folder: Path,
    results: Path,
    known: Container[bytes],
    changed: Callable[[str], Item | None],
) -> list[Item]:
    """Recordings that changed after the plan, of which nobody can say which of the two was brought to the node.

    Each has its reason in the results then.
    """
    stale = []
    for key in sorted(found.results):
        if key.encode() not in known or published(results, key) or (item := changed(key)) is None:
            continue
        note_failed(results, folder, item, FailedItem("recording", "", CHANGED))
        stale.append(item)
    return stale


def _published(found: ArrivedShard, folder: Path, results: Path, known: Container[bytes], stale: Sequence[Item]) -> int:
    """Give what arrived its place; how many recordings have a result by it."""
    new, differing = 0, set[str]()
    flush(folder)
    mine = {key for key in found.results if key.encode() in known and all(key != item.key for item in stale)}
    for key in sorted(mine):
        digest = digest_of(found.results[key])
        state = place(folder / key, results, key, digest)
        new += state == "new"
        if state == "differs":
            differing.add(key)
    for key in sorted(found.failed):
        if key.encode() in known and not published(results, key) and _newer(folder, results, key):
            failed_of(results, key).parent.mkdir(exist_ok=True)
            (folder / f"{key}.failed.json").replace(failed_of(results, key))
    (results / "journal").mkdir(exist_ok=True)
    for name in found.journals:
        lines = [*_own_lines(folder / "journal" / name, mine, found.failed, results)]
        lines += [_line(event="differs", key=key) for key in sorted(differing)]
        lines += [_failed(item) for item in stale]
        if not any(parsed(line).get("event") == "end" for line in lines):
            lines.append(_line(event="end", code=found.code))  # it was killed: what it sent is all it will say
        _journal(results / "journal" / name, lines)
    return new


def _newer(folder: Path, results: Path, key: str) -> bool:
    """Whether a failure is of as many tries as the one that is known, or more."""
    tries = [
        object_below(place_, f"{key}.failed.json", LARGEST_NOTE).get("again", 0)
        for place_ in (folder, failed_of(results, key).parent)
    ]
    return all(isinstance(number, int) for number in tries) and tries[0] >= tries[1]


def _own_lines(journal: Path, mine: Container[str], failed: Container[str], results: Path) -> Iterator[bytes]:
    """The lines of a journal that speak of the run, or of recordings whose results came with it or are there."""
    with journal.open("rb") as lines:
        for line in iter(lambda: lines.readline(LONGEST_LINE + 1), b""):
            data = parsed(line) if line.endswith(b"\n") else {}
            event, key = data.get("event"), data.get("key")
            if event in ("begin", "alive", "end"):
                yield line
            elif not isinstance(key, str) or not KEY.fullmatch(key):
                continue
            elif event == "failed":
                if key in failed:
                    yield line
            elif event == "done" and (key in mine or published(results, key)):
                yield line


def _failed(item: Item) -> bytes:
    """The line of a recording that changed."""
    again = {"again": item.again} if item.again else {}
    return _line(event="failed", key=item.key, **FailedItem("recording", "", CHANGED).fields(), **again)


def _line(**fields: str | int) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _journal(target: Path, lines: Iterable[bytes]) -> None:
    """Write a journal, unless a longer one of its name is there: a run may send what it has before its end."""
    data = b"".join(lines)
    with contextlib.suppress(FileNotFoundError):
        if target.lstat().st_size >= len(data):
            return
    files.write_atomic(target, data)
