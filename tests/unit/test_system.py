"""What the rooms of edges stand on: which errors mean a full disk, what fits, what pip's log means."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

import pytest

from builder.core.config.paths import Paths
from builder.edges.system import files, pip
from builder.edges.system.pip import Cause
from builder.errors import MissingError


@pytest.mark.parametrize(
    ("problem", "full"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (OSError(errno.EACCES, "No space left"), False),
        (ValueError("No space left on device"), False),
        ("write /var: no space left on device", True),
        ("[Errno 28] No space left on device", True),
        ("[Errno 122] Disk quota exceeded", True),
        ("space was left", False),
    ],
)
def test_a_full_disk_is_told_from_other_errors(problem: BaseException | str, full: bool) -> None:
    assert files.disk_full(problem) is full


@pytest.mark.parametrize(
    ("code", "closed"), [(errno.EROFS, True), (errno.EACCES, True), (errno.EPERM, True), (errno.ENOSPC, False)]
)
def test_a_closed_folder_is_told_from_a_full_disk(code: int, closed: bool) -> None:
    assert files.unwritable(OSError(code, "x")) is closed
    assert not files.unwritable(ValueError())


def test_needs_on_one_disk_add_up(tmp_path: Path) -> None:
    """Two folders that fit one by one, but not both."""
    free = shutil.disk_usage(tmp_path).free
    most = free * 6 // 10
    files.require_room({tmp_path / "a": most}, "x")
    with pytest.raises(MissingError) as caught:
        files.require_room({tmp_path / "a": most, tmp_path / "b/c": most}, "use another disk")
    assert caught.value.where == str(tmp_path)
    assert caught.value.what.endswith(f"this needs {(2 * most + files.RESERVE) / 1e6:.0f} MB")
    assert caught.value.hint == "free some space, or use another disk"


def test_a_reserve_stays_free_unless_nothing_is_written(tmp_path: Path) -> None:
    free = files.free_bytes(tmp_path / "not/there")
    files.require_room({tmp_path: free // 2}, "x", reserve=0)
    files.require_room({tmp_path: 0}, "x", reserve=2 * free)
    with pytest.raises(MissingError):
        files.require_room({tmp_path: free // 2}, "x", reserve=free)


@pytest.mark.parametrize(
    ("log", "cause", "reason"),
    [
        ("ERROR: [Errno 28] No space left on device", Cause.DISK_FULL, "[Errno 28] No space left on device"),
        ("ERROR: [Errno 30] Read-only file system", Cause.UNWRITABLE, "[Errno 30] Read-only file system"),
        (
            "x\nERROR: THESE PACKAGES DO NOT MATCH THE HASHES",
            Cause.OTHER_BYTES,
            "THESE PACKAGES DO NOT MATCH THE HASHES",
        ),
        ("Retrying: SSLError(CERTIFICATE_VERIFY_FAILED)", Cause.CERTIFICATE, ""),
        (
            "Could not fetch URL https://i/: connection error: (Caused by ResponseError('x')) - skipping",
            Cause.UNREACHABLE,
            "ResponseError('x'))",
        ),
        ("Could not fetch URL https://i/: 404 Client Error - skipping\nboom", Cause.OTHER, "pip failed"),
        ("ProxyError\nERROR: No matching distribution", Cause.UNREACHABLE, ""),
        ("ERROR: No matching distribution found for a", Cause.NO_WHEEL, "No matching distribution found for a"),
        ("python: No module named pip", Cause.NO_PIP, "python: No module named pip"),
        ("Starting new HTTPS connection (1)\nERROR: boom\nERROR: bang", Cause.OTHER, "boom"),
        ("", Cause.OTHER, "pip failed"),
    ],
)
def test_pips_log_has_one_cause(log: str, cause: Cause, reason: str) -> None:
    """A package is also "not found" when its index can't be reached: the cause that explains the others wins."""
    assert pip.read_log(log) == pip.PipFailure(cause=cause, reason=reason)


def test_every_place_lies_in_the_state_folder() -> None:
    home = Path("/state")
    names = [name for name, value in vars(Paths).items() if isinstance(value, property)]
    places = {name: getattr(Paths(home=home), name) for name in names}
    assert all(home in place.parents for place in places.values())
    assert len(set(places.values())) == len(names)
    assert places["models"] == home / "models"
    assert places["hardware"] == home / "cache/hardware.json"


def test_what_killed_writers_left_goes_with_the_next_write(tmp_path: Path) -> None:
    """After an hour, whichever way the clock has moved since; what is being written now, and what others wrote, stays."""
    for name, age in (("old", 4000), ("future", -4000), ("now", 0)):
        left = tmp_path / f".bake.yaml.{name}.tmp"
        left.touch()
        os.utime(left, (time.time() - age,) * 2)
    (tmp_path / ".other.tmp").touch()
    os.utime(tmp_path / ".other.tmp", (0, 0))
    files.write_atomic(tmp_path / "bake.yaml", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".bake.yaml.now.tmp", ".other.tmp", "bake.yaml"]
