"""How pip is run, and what its log means. The launcher has rules of its own: it runs before there is an environment."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from enum import Enum

from builder.bootstrap.modules import run_module
from builder.edges.system import files


class Cause(Enum):
    """Why pip failed."""

    DISK_FULL = "disk full"
    UNWRITABLE = "not writable"
    OTHER_BYTES = "other bytes than the lock"
    CERTIFICATE = "certificate not trusted"
    UNREACHABLE = "nobody answers at the index"
    NO_WHEEL = "not in the index"
    TOO_LARGE = "an answer that pip can't hold"
    NO_PIP = "no pip"
    OTHER = "something else"


LOCKED = (
    *("--quiet", "--disable-pip-version-check", "--no-input"),
    *("--no-deps", "--require-hashes", "--only-binary", ":all:"),
)
"""Options of every run of pip: exactly what the requirements files name, and nothing that would be compiled."""


MEMORY = 4 << 30
"""Bytes that pip may take: it keeps an index's pages whole, and there is no end to a hostile one."""

_BOUND = """\
import sys
sys.path[:] = filter(None, sys.path)
try:
    import resource
    resource.setrlimit(resource.RLIMIT_DATA, ({0}, {0}))
except (ImportError, ValueError, OSError):
    pass
"""


def command(*words: str, memory: int = MEMORY) -> list[str]:
    """pip of this environment, with a bound to its memory."""
    python, option, code = run_module(sys.executable, "pip")
    return [python, option, _BOUND.format(memory) + code, *words]


@dataclass(frozen=True, kw_only=True)
class PipFailure:
    """One run of pip that failed."""

    cause: Cause
    reason: str
    """pip's own words, one line; empty where only its log, not an error, tells the cause."""


_SKIPPED = re.compile(r"Could not fetch URL \S+: (?!40[0-9] |\d* ?Client Error)(.*) - skipping")
"""What pip logs, below its warnings, of an index that it does without; an answer of 404 is only "not here"."""

_SILENT = re.compile(
    r"Retrying|Max retries|NewConnectionError|Failed to establish a new connection|ConnectTimeoutError|ConnectionError"
    r"|Connection (?:refused|reset|aborted|broken|timed out|to )|Failed to (?:resolve|connect)|NameResolutionError"
    r"|Name or service not known|Temporary failure in name resolution|ProxyError|Network is unreachable"
)
"""What pip logs when nobody answers where a file is."""

_RULES: tuple[tuple[Cause, re.Pattern[str]], ...] = (
    (Cause.TOO_LARGE, re.compile("MemoryError|out of memory")),
    (Cause.UNWRITABLE, re.compile("Permission denied|Read-only file system")),
    (Cause.OTHER_BYTES, re.compile("DO NOT MATCH THE HASHES")),
    (Cause.CERTIFICATE, re.compile("CERTIFICATE_VERIFY_FAILED")),
    (Cause.UNREACHABLE, _SKIPPED),
    (Cause.UNREACHABLE, _SILENT),
    (Cause.NO_WHEEL, re.compile("No matching distribution")),
    (Cause.NO_PIP, re.compile("No module named pip")),
)
"""The first that matches is the cause: a package is also "not found" when its index can't be reached."""


def read_log(log: str) -> PipFailure:
    """The cause of a failure, from what pip printed and logged."""
    if files.disk_full(log):
        cause = Cause.DISK_FULL
    else:
        cause = next((cause for cause, pattern in _RULES if pattern.search(log)), Cause.OTHER)
    return PipFailure(cause=cause, reason=_reason(log, cause))


def _reason(log: str, cause: Cause) -> str:
    if cause in (Cause.UNREACHABLE, Cause.CERTIFICATE):
        skipped = _SKIPPED.search(log)
        return skipped[1].split("(Caused by ")[-1][:120] if skipped else ""
    lines = log.splitlines()
    if cause is Cause.NO_PIP:
        return next(line for line in lines if "No module named pip" in line)
    return next((line.split("ERROR: ", 1)[1] for line in lines if line.startswith("ERROR: ")), "pip failed")
