"""What the words of a command mean: files, patterns, folders, standard input, addresses; and their bytes."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import sys
import tempfile
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from builder.core.progress import OnProgress, Progress
from builder.edges.jobs.folder import NEW
from builder.edges.system import files, web
from builder.errors import InputError, UsageError
from builder.program import command, shell_word
from builder.receiver.jobs import places

STDIN = "-"
"""The word for standard input."""

OTHERS = re.compile(
    r"\.(srt|vtt|ass|ssa|sub|sbv|ttml|dfxp|scc|lrc|rttm|txt|md|log|nfo|json|jsonl|csv|tsv|xml|ya?ml|toml|ini|pdf|docx?|odt|rtf"
    r"|xlsx?|ods|pptx?|html?|css|js|py|sh|bat|exe|dll|so|zip|gz|xz|bz2|zst|7z|tar|rar|jpe?g|png|gif|bmp|tiff?|webp|svg|heic"
    r"|ico|psd|db|sqlite|sha256|md5|torrent|part|tmp|bak|lnk)$",
    re.IGNORECASE,
)
"""Suffixes that no recording has: such files of a folder aren't opened."""

OURS = re.compile(r"\.(subtitled|burned)\.[a-z0-9]+$", re.IGNORECASE)
"""Films that this program has put beside their recordings."""


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """How the words of a command are read."""

    recursive: bool = False
    """Folders, with the folders in them."""
    stdin_name: str = "recording"
    """What standard input is called."""
    hosts: tuple[str, ...] = ()
    """Hosts that may be asked for recordings, also those of the inner network."""
    any_host: bool = False
    """Every public host may be asked."""


NO_INPUT_OPTIONS = InputOptions()
"""As they are read when nothing is said."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A recording, before its bytes are here."""

    word: str
    """What was typed."""
    name: str
    """Of the recording."""
    path: Path | None = None
    """None: its bytes come through standard input or from an address."""
    found: bool = False
    """In a folder: whether it is a recording is not known yet."""


@dataclass(frozen=True, kw_only=True)
class SourcesFound:
    """What the words mean."""

    named: tuple[Source, ...]
    """Files, patterns, standard input and addresses, in their order."""
    found: tuple[Source, ...]
    """Of folders."""
    skipped: tuple[str, ...]
    """Files of folders that are no recordings, by their names."""


def read(words: Sequence[str], options: InputOptions) -> SourcesFound:
    """What words mean, as far as the file system can tell; nothing is opened or asked.

    Raises:
        InputError: there is no such file, or no recording in a folder.
        UsageError: an address whose host nobody allowed, or standard input twice, or at a terminal.
    """
    named: list[Source] = []
    found: list[Source] = []
    skipped: list[str] = []
    for word in words:
        path = files.expanded(word)
        if word == STDIN:
            named.append(_standard_input(named, options))
        elif re.match(r"https?://", word, re.IGNORECASE):
            named.append(_address(word, options))
        elif path.is_dir():
            inside = [p for p in files_in(path, recursive=options.recursive) if not p.name.startswith(".")]
            others = [p for p in inside if not may_be_recording(p.name)]
            skipped += [p.name for p in others]
            mine = [p for p in inside if p not in set(others)]
            if not mine:
                deeper = "" if options.recursive else "; --recursive looks into the folders in it"
                raise InputError("no recording in this folder", where=word, hint=f"name the recordings{deeper}")
            found += [Source(word=word, name=p.name, path=p, found=True) for p in mine]
        elif path.exists() or path.is_symlink() or not glob.has_magic(word):
            if not path.exists():
                raise InputError(
                    "no such file, and no such job", where=word, hint="check the path; jobs list shows the jobs"
                )
            named.append(Source(word=word, name=path.name, path=path))
        else:
            every = glob.glob(str(path), recursive=True)  # noqa: PTH207 - a pattern may begin anywhere
            matched = [Path(p) for p in sorted(every) if Path(p).is_file()]
            if not matched:
                raise InputError("no file matches this pattern", where=word)
            named += [Source(word=word, name=p.name, path=p) for p in matched]
    return SourcesFound(named=tuple(named), found=tuple(found), skipped=tuple(skipped))


def _standard_input(before: Sequence[Source], options: InputOptions) -> Source:
    if any(source.word == STDIN for source in before):
        raise UsageError("standard input has one recording", where=STDIN)
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("nothing comes through standard input", where=STDIN, hint=command("run - < talk.mp4"))
    return Source(word=STDIN, name=_file_name(options.stdin_name) or "recording")


def _address(word: str, options: InputOptions) -> Source:
    host = web.host_of(word)
    if not options.any_host and host not in {name.lower() for name in options.hosts}:
        raise UsageError(
            "a recording is not fetched from the network unless you allow it",
            where=web.shown(word),
            hint=f"--allow-url {shell_word(host)}",
        )
    return Source(word=word, name=_file_name(urllib.parse.unquote(urllib.parse.urlsplit(word).path)) or host)


def _file_name(path: str) -> str:
    """The last part of a path, as a file can be called it in every place; empty where it has none."""
    name = PurePosixPath(path).name.replace("\0", "").encode("utf-8", "replace").decode()
    return "" if name == ".." else name


def may_be_recording(name: str) -> bool:
    """Whether a file of a folder is opened, by its name."""
    return not (name.startswith(".") or OTHERS.search(name) or OURS.search(name))


def files_in(folder: Path, *, recursive: bool, passed: Sequence[str] = ("job.yaml",)) -> Iterator[Path]:
    """The files of a folder in the order of their names; none in hidden folders.

    Args:
        passed: folders with such a file are passed over: a job's.

    Raises:
        InputError: a folder can't be read.
    """

    def refused(error: OSError) -> None:
        raise InputError(f"the folder can't be read ({error.strerror})", where=str(error.filename or folder))

    for top, folders, names in os.walk(folder, onerror=refused):
        if not set(passed).isdisjoint(names):
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        yield from (path for name in sorted(names) if (path := Path(top, name)).is_file())


@contextlib.contextmanager
def brought(
    sources: Sequence[Source], jobs: Path, options: InputOptions, *, on_progress: OnProgress
) -> Iterator[dict[Source, Path]]:
    """Every source as a file; those that had to be brought here are gone after the block, unless a job has linked them.

    Args:
        jobs: the folder of jobs; on its disk is room for recordings.

    Raises:
        SourceError, UsageError: an address can't be read.
        MissingError: the disk is full.
        InputError: nothing came through standard input.
    """
    incoming: Path | None = None
    paths = {}
    try:
        for number, source in enumerate(sources):
            if source.path is not None:
                paths[source] = source.path
                continue
            if incoming is None:
                jobs.mkdir(parents=True, exist_ok=True)
                # Closed to others, as who sent it may want it; prepare removes those of dead processes.
                incoming = Path(tempfile.mkdtemp(prefix=f"{NEW}{os.getpid()}-incoming-", dir=jobs))
            folder = incoming / str(number)
            folder.mkdir()
            stem, suffix = os.path.splitext(source.name.replace("/", "_"))  # noqa: PTH122 - a name, not a path
            paths[source] = folder / (stem.encode()[:180].decode("utf-8", "ignore") + suffix[:12])
            _bring(source, paths[source], options, on_progress)
        yield paths
    finally:
        if incoming is not None:
            places.remove_if_there(incoming)


def _bring(source: Source, target: Path, options: InputOptions, on_progress: OnProgress) -> None:
    what = f"{'reading' if source.word == STDIN else 'fetching'} {source.name}"

    def tell(done: int, total: int | None) -> None:
        on_progress(Progress(what=what, done=done, total=total, unit="bytes"))

    if source.word == STDIN:
        data = iter(lambda: sys.stdin.buffer.read(files.CHUNK), b"")
        web.write_bounded(data, target, lambda done: tell(done, None))
    else:
        private = web.host_of(source.word) in {name.lower() for name in options.hosts}
        web.download(source.word, target, private=private, on_bytes=tell)
    target.chmod(0o600)  # a job has the mode of its recording
    size = target.stat().st_size
    on_progress(Progress(what=what, done=size, total=size, unit="bytes", finished=True))
    if source.word == STDIN and size == 0:
        raise InputError("nothing came through standard input", where=STDIN)
