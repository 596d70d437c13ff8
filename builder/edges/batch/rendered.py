"""The folder that ``batch render`` writes: files, and for HTCondor the recordings of each shard as links."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from builder.core.batch import htcondor
from builder.core.batch.batch_file import BESIDE, NAME
from builder.edges.system import files
from builder.errors import MissingError, UsageError
from builder.node.items import Item, to_line
from builder.program import shell_word

HELD = 8 << 20
"""Bytes of lines that are in memory."""

SHARD = re.compile(r"[0-9]{5,7}(\.jsonl)?")
"""Names in the folders of HTCondor's shards."""


def write(folder: Path, texts: Mapping[str, str | bytes], *, programs: Iterable[str] = ()) -> None:
    """Write files whole, each by a rename.

    Args:
        texts: by name.
        programs: names of those that can be run.

    Raises:
        UsageError: the folder's name is taken by something else.
        MissingError: it can't be written, or the disk is full.
    """
    executable = set(programs)
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            files.write_atomic(folder / name, text, mode=0o755 if name in executable else 0o644)


def make_folders(folder: Path, names: Iterable[str]) -> None:
    """Folders in the folder, those that aren't there yet.

    Raises:
        MissingError: they can't be made.
    """
    with _told(folder):
        for name in names:
            (folder / name).mkdir(parents=True, exist_ok=True)


def write_shards(
    folder: Path, items: Iterable[Item], *, root: Path, batch: Path, first: int, beside: Iterable[str]
) -> None:
    """What HTCondor transfers: ``shards/NNNNN.jsonl``, ``input/NNNNN/`` with links, ``arrived``, ``batch.yaml``, ``beside``.

    Args:
        items: of the batch; those before shard ``first`` and unreadable ones are left out.
        root: where their paths begin.
        batch: the batch's folder.
        beside: names of files that jobs get beside their recordings.

    Raises:
        UsageError: something else is in the folders of an earlier rendering.
        MissingError: the disk is full, or nothing can be written.
    """
    with _told(folder):
        for name in ("shards", "input"):
            _emptied(folder / name)
        held: dict[int, list[str]] = {}
        size = 0
        for item in items:
            if item.shard is None or item.shard < first:
                continue
            link = folder / "input" / htcondor.shard_name(item.shard) / item.path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(root / item.path)
            line = to_line(item) + "\n"
            held.setdefault(item.shard, []).append(line)
            size += len(line)
            if size > HELD:
                _flush(folder / "shards", held)
                size = 0
        _flush(folder / "shards", held)
        (batch / htcondor.ARRIVED).mkdir(exist_ok=True)
        for name in (htcondor.ARRIVED, NAME):
            _link(folder / name, batch / name)
        for name in beside:  # a link to a folder would be sent as a link
            (folder / BESIDE).mkdir(exist_ok=True)
            _link(folder / BESIDE / name, batch / BESIDE / name)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink():
        link.unlink()
    link.symlink_to(target)


def _flush(folder: Path, held: dict[int, list[str]]) -> None:
    for number, lines in held.items():
        with (folder / f"{htcondor.shard_name(number)}.jsonl").open("a", encoding="utf-8") as out:
            out.writelines(lines)
    held.clear()


def _emptied(folder: Path) -> None:
    """A folder without the shards of an earlier rendering.

    Raises:
        UsageError: it has something else.
    """
    folder.mkdir(exist_ok=True)
    for path in sorted(folder.iterdir()):
        if not SHARD.fullmatch(path.name):
            raise UsageError("something else is here", where=str(path), hint="--out another folder")
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)  # links: what they lead to stays
        else:
            path.unlink()


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Errors of the disk as ours."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError("this is not a folder", where=str(error.filename or folder), hint="--out DIR") from error
    except OSError as error:
        what = "the disk is full" if files.disk_full(error) else f"it can't be written ({error.strerror})"
        raise MissingError(what, where=str(folder), hint=f"--out {shell_word(Path('DIR'))}") from error
