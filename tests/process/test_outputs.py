"""Where ``--out`` may write: to files, to what is the caller's own, and through nobody else's links."""

from __future__ import annotations

import os
import pty
import stat
from pathlib import Path

import pytest

from builder.edges.system import files
from builder.errors import UsageError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices, and gives files away")
OTHER = 54_321


def write(target: Path, text: str = "new") -> Path:
    return files.write_output(target, text, instead="--out FILE")


@as_root
@pytest.mark.parametrize(("kind", "device"), [(stat.S_IFBLK, (7, 99)), (stat.S_IFCHR, (1, 1)), (stat.S_IFCHR, (1, 8))])
def test_a_device_is_refused(tmp_path: Path, kind: int, device: tuple[int, int]) -> None:
    """A disk, the machine's memory, its random numbers."""
    node = tmp_path / "node"
    try:
        os.mknod(node, kind | 0o600, os.makedev(*device))
    except PermissionError:
        pytest.skip("this container makes no devices")
    with pytest.raises(UsageError, match="not a file"):
        write(node)


@as_root
@pytest.mark.parametrize("name", ["link", "link/in/it"])
def test_another_users_link_is_not_followed(tmp_path: Path, name: str) -> None:
    """In /tmp it may lead to a file of root's, or to a folder of the link's owner."""
    (tmp_path / "real" / "in").mkdir(parents=True)
    (tmp_path / "real" / "in" / "it").write_text("as it was")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real" / "in" / "it" if name == "link" else tmp_path / "real")
    os.lchown(link, OTHER, OTHER)
    with pytest.raises(UsageError, match="another user's link") as caught:
        write(tmp_path / name)
    assert caught.value.where == str(link)
    assert (tmp_path / "real" / "in" / "it").read_text() == "as it was"
    os.lchown(link, 0, 0)
    assert write(tmp_path / name) == tmp_path / "real" / "in" / "it"


@as_root
def test_another_users_fifo_is_not_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    os.chown(fifo, OTHER, OTHER)
    with pytest.raises(UsageError, match="not a file"):
        write(fifo)


def test_a_terminal_shows_what_it_would_obey() -> None:
    """``--out /dev/stdout``, typed without a thought."""
    primary, secondary = pty.openpty()
    write(Path(f"/dev/fd/{secondary}"), "a\x1b[31m\u202e\n")
    os.close(secondary)
    assert os.read(primary, 100) == b"a\\x1b[31m\\u202e\r\n"
    os.close(primary)


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo"])
def test_a_copy_is_written_through_nothing(tmp_path: Path, kind: str) -> None:
    """On a stick or in a shared folder somebody may have put something where the copy goes."""
    victim, target = tmp_path / "victim", tmp_path / "target"
    victim.write_text("as it was")
    if kind == "link":
        target.symlink_to(victim)
    elif kind == "hard link":
        target.hardlink_to(victim)
    else:
        os.mkfifo(target)
    files.copy_hashed([b"copy"], target)
    assert (victim.read_text(), target.read_text(), target.is_symlink()) == ("as it was", "copy", False)
