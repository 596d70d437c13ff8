"""What an exception means that no command foresaw: the machine, the engine or a server failed; else it is our bug."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from builder.errors import BakeError, Bug, MissingError, SourceError
from builder.program import command, shell_word

HINTS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or ask for a larger quota",
    errno.EACCES: "check who owns it; --home and BAKE_JOBS name other folders",
    errno.EPERM: "check who owns it; --home and BAKE_JOBS name other folders",
    errno.EROFS: "--home and BAKE_JOBS name other folders",
    errno.EMFILE: "raise the limit: ulimit -n 1024",
    errno.ENFILE: "the whole machine has too many open files: end what you don't need",
    errno.ENOMEM: "end what you don't need",
    errno.EAGAIN: "end what you don't need: the limit of processes or of memory is reached (ulimit -a)",
    errno.EIO: "the disk or the network folder fails: look into the system's log",
    errno.ESTALE: "the network folder has changed: run it again",
    errno.ENOTDIR: "a file stands where a folder belongs: move it away",
    errno.EISDIR: "a folder stands where a file belongs: move it away",
    errno.ENOENT: "another program removed it meanwhile, or a link leads nowhere: run it again",
    errno.ELOOP: "its links lead in a circle",
    errno.ENAMETOOLONG: "take a shorter name",
    errno.EFBIG: "the limit of a file's size is reached (ulimit -f), or the file system can't hold it",
}
"""What a person does about an error of the operating system that comes up anywhere."""

OUTPUT = "standard output"
"""Where :func:`unwritten` failed."""

ENGINE = ("docker", "python_on_whales")
NETWORK = ("httpx", "httpcore", "requests", "urllib3", "huggingface_hub", "ssl", "socket")
"""Packages whose exceptions say that somebody else failed."""


def meaning(error: BaseException) -> BakeError | None:
    """What an unforeseen exception says of the machine or of others; None when it is a bug of this program."""
    module = type(error).__module__.partition(".")[0]
    words = " ".join(str(getattr(error, "explanation", None) or error).split())
    if module in ENGINE:
        return MissingError(
            f"the engine refused: {words}",
            hint=f"run it again if another program uses the engine at the same time; {command('doctor')} looks at it",
        )
    if module in NETWORK:
        return SourceError(f"the connection failed: {words or type(error).__name__}", hint="run it again")
    if isinstance(error, MemoryError):
        return MissingError("this machine has too little memory for it", hint="end what you don't need")
    if isinstance(error, OSError) and error.errno in HINTS:
        return MissingError(error.strerror or words, where=_where(error), hint=HINTS[error.errno])
    return None


def _where(error: OSError) -> str | None:
    """The file that an error of the operating system names, as text."""
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    return " → ".join(names) or None


def unwritten(error: OSError) -> MissingError:
    """Standard output can't be written: a full disk, a closed terminal."""
    return MissingError(
        f"the result could not be written: {error.strerror}", where=OUTPUT, hint=HINTS.get(error.errno or 0)
    )


def bug(error: BaseException, version: str) -> Bug:
    """Write what a developer needs to a file in the folder of logs, and name the file."""
    import tempfile
    import traceback

    from builder import ui
    from builder.cli.options import GLOBALS
    from builder.edges.machine import project

    what = f"this is a bug in whisperbake: {type(error).__name__}: {error}"
    text = ui.masked("".join(traceback.format_exception(error)))
    words = ui.masked(" ".join(sys.argv[1:2]))  # not the whole line: file names are nobody's business
    try:
        folder = project.logs(Path.cwd(), os.environ, GLOBALS.home)
        handle, name = tempfile.mkstemp(prefix="crash-", suffix=".log", dir=folder)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"whisperbake {version}, Python {sys.version}, {sys.platform}\ncommand: {words}\n\n{text}")
    except (OSError, BakeError):  # no folder for it: the traceback itself is all there is
        return Bug(what, detail=text.splitlines()[-30:], hint="report it with these lines")
    return Bug(what, hint=f"report it with the file {shell_word(name)}")
