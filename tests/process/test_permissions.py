"""Letting containers into a job's folder changes nothing outside of it, whatever a container left there or does meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.edges.system import permissions
from builder.receiver.jobs.places import remove_tree

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="for callers who are root: others have nothing to give")

THEIRS = 65532
"""Who runs in a container."""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    place = tmp_path / "jobs/one"
    for part in permissions.SHARED:
        (place / part).mkdir(parents=True)
    (place / permissions.EVENTS).touch(0o644)
    return place


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Files of the host that no job has to do with."""
    folder = tmp_path / "victim"
    folder.mkdir(0o700)
    for name, mode in (("secret", 0o600), ("program", 0o755), ("log", 0o644)):
        (folder / name).write_text(name)
        (folder / name).chmod(mode)
    (folder / "sub").mkdir(0o700)
    (folder / "sub/deep").write_text("deep")
    (folder / "sub/deep").chmod(0o400)
    return folder


def state(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Mode, owner and bytes of everything there."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        about = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(about.st_mode) else b""
        found[str(path.relative_to(folder))] = (about.st_mode, about.st_uid, about.st_gid, data)
    return found


def theirs(path: Path, text: str = "theirs", mode: int = 0o600) -> Path:
    """A file as a container makes it."""
    path.write_text(text)
    path.chmod(mode)
    os.chown(path, THEIRS, 0)
    return path


def copy_link(job: Path, victim: Path) -> None:
    """A hard-linked file of mode 0600, and a link where its copy was made: root wrote the file into any other."""
    for part in ("work", "output"):
        for name, target in (("x", "program"), ("y", "secret")):
            os.link(theirs(job / part / name), job / part / f"{name}2")
            (job / part / f".{name}.copy").symlink_to(victim / target)


def copy_link_in_input(job: Path, victim: Path) -> None:
    os.link(victim / "secret", job / "input/01.mp4")
    for folder in (job, job / "input"):
        for name in (".01.mp4.copy", permissions.COPY):
            (folder / name).symlink_to(victim / "program")


def links_to_files(job: Path, victim: Path) -> None:
    for part in permissions.SHARED:
        for name in ("secret", "log"):
            (job / part / name).symlink_to(victim / name)
    (job / "work/asr").mkdir()
    (job / "work/asr/01.json").symlink_to(victim / "secret")


def links_to_folders(job: Path, victim: Path) -> None:
    for part in permissions.SHARED:
        (job / part / "asr").symlink_to(victim)
    (job / "work/vad").mkdir()
    (job / "work/vad/x").symlink_to(victim / "sub")


def hard_links(job: Path, victim: Path) -> None:
    for part in permissions.SHARED:
        os.link(victim / "secret", job / part / "secret")
        os.link(victim / "sub/deep", job / part / "deep")


def events_elsewhere(job: Path, victim: Path) -> None:
    (job / permissions.EVENTS).unlink()
    os.link(victim / "secret", job / permissions.EVENTS)


def odd_files(job: Path, victim: Path) -> None:
    for part in permissions.SHARED:
        os.mkfifo(job / part / "fifo", 0o600)
        (job / part / "loop").symlink_to(".")
        (job / part / "dangling").symlink_to("/nowhere/at/all")
    deep = job / "work"
    for _ in range(300):
        deep = deep / "d"
        deep.mkdir()


PLANTED: tuple[Callable[[Path, Path], None], ...] = (
    copy_link,
    copy_link_in_input,
    links_to_files,
    links_to_folders,
    hard_links,
    events_elsewhere,
    odd_files,
)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda p: p.__name__)
def test_nothing_outside_the_job_changes(job: Path, victim: Path, plant: Callable[[Path, Path], None]) -> None:
    """No mode, no owner, no byte; and it doesn't wait for a FIFO."""
    plant(job, victim)
    before = state(victim)
    worker = threading.Thread(target=permissions.give, args=(job,), daemon=True)
    worker.start()
    worker.join(20)
    assert not worker.is_alive(), "it hangs"
    assert state(victim) == before


@pytest.mark.parametrize("part", ["work", "output", "input", "work/asr"])
def test_what_is_swapped_meanwhile_is_not_followed(job: Path, victim: Path, part: str) -> None:
    """A container that runs on swaps a file for a link, as fast as it can: between the look and the change of mode."""
    place = job / part
    place.mkdir(exist_ok=True)
    ours, link = place / "ours", place / "link"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            ours.write_text("ours")
            ours.chmod(0o600)
            link.symlink_to(victim / "secret")
            link.replace(ours)
            ours.unlink()

    before = state(victim)
    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(1500):
            permissions.give(job)
    finally:
        stop.set()
        swapper.join()
    assert state(victim) == before


def meanwhile(swap: Callable[[], None], work: Callable[[], None], *, seconds: float = 2.0) -> None:
    """Do both again and again, at the same time; each may fail where the other was faster."""
    over = threading.Event()

    def swapping() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                swap()

    swapper, end = threading.Thread(target=swapping), time.monotonic() + seconds
    swapper.start()
    try:
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                work()
    finally:
        over.set()
        swapper.join()


def test_what_is_swapped_while_it_is_taken_is_a_plain_file_or_an_error(job: Path, victim: Path) -> None:
    """A link, a hard link or a FIFO in the place of a cut is never what is kept."""
    out, kept = job / "work/out", job / "kept.mp4"
    out.mkdir()
    kinds = itertools.cycle(
        (lambda p: p.symlink_to(victim / "secret"), lambda p: os.link(victim / "log", p), os.mkfifo)
    )

    def swap() -> None:
        (out / "made").write_text("cut")
        (out / "made").replace(out / "cut.mp4")
        (out / "other").unlink(missing_ok=True)
        next(kinds)(out / "other")
        (out / "other").replace(out / "cut.mp4")

    def take() -> None:
        kept.unlink(missing_ok=True)
        permissions.take(out, "cut.mp4", kept)
        assert stat.S_ISREG(kept.lstat().st_mode)
        assert kept.read_text() in ("cut", "")

    before = state(victim)
    meanwhile(swap, take)
    assert state(victim) == before


def test_what_is_swapped_while_a_job_is_removed_is_not_followed(tmp_path: Path, victim: Path) -> None:
    """Folders become links to folders of the host between the look and the removal."""
    place = tmp_path / "jobs/one"
    before = state(victim)

    def swap() -> None:
        for name in ("a", "b"):
            (place / name).rename(place / f".{name}")
            (place / name).symlink_to(victim)
            (place / name).unlink()
            (place / f".{name}").rename(place / name)

    def remove() -> None:
        for name in ("a", "b"):
            (place / name / "sub").mkdir(parents=True, exist_ok=True)
        remove_tree(place)

    meanwhile(swap, remove)
    assert state(victim) == before


def test_containers_can_read_and_write_what_they_need(job: Path) -> None:
    """What native stages made, as root with a tight umask: the group of the containers' user gets in."""
    (job / "work/asr").mkdir(0o700)
    for path in (job / "work/asr/01.json", job / "output/talk.srt", job / "input/01.mp4"):
        path.write_text("x")
        path.chmod(0o600)
    for part in permissions.SHARED:
        (job / part).chmod(0o700)
    permissions.give(job)
    assert {stat.S_IMODE((job / p).stat().st_mode) for p in (*permissions.SHARED, "work/asr")} == {0o770}
    files = ("work/asr/01.json", "output/talk.srt", "input/01.mp4", permissions.EVENTS)
    assert all((job / p).stat().st_mode & 0o060 == 0o060 for p in files)


def test_in_a_folder_of_another_group_the_containers_get_in_and_its_members_do_not(tmp_path: Path) -> None:
    """A folder of recordings that people share has the set-group-ID bit: what root makes there has their group."""
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, -1, 4242)
    shared.chmod(0o2775)
    own = tmp_path / "own.mp4"
    own.write_bytes(b"film")
    own.chmod(0o600)
    job = shared / "one"
    for part in permissions.SHARED:
        (job / part).mkdir(parents=True)
    (job / permissions.EVENTS).touch(0o644)
    (job / "input/voices.json").touch(0o600)
    os.link(own, job / "input/01.mp4")
    inside = [job / part for part in (*permissions.SHARED, permissions.EVENTS, "input/voices.json")]
    assert {path.stat().st_gid for path in inside} == {4242}
    permissions.give(job)
    assert {path.stat().st_gid for path in [*inside, job / "input/01.mp4"]} == {0}
    assert (job / "input/voices.json").stat().st_mode & 0o007 == 0
    assert own.stat().st_nlink == 1


def test_a_recording_that_others_may_not_read_is_copied(job: Path, tmp_path: Path) -> None:
    """The caller's own file stays as it is; a run that was killed in the middle of a copy is no hindrance."""
    own = tmp_path / "own.mp4"
    own.write_bytes(b"film" * 1000)
    own.chmod(0o600)
    os.link(own, job / "input/01.mp4")
    (job / permissions.COPY).write_text("half")
    permissions.give(job)
    assert (job / "input/01.mp4").read_bytes() == own.read_bytes()
    assert not (job / "input/01.mp4").samefile(own)
    assert stat.S_IMODE((job / "input/01.mp4").stat().st_mode) & 0o040
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    assert not (job / permissions.COPY).exists()


def test_a_recording_that_others_may_read_is_not_copied(job: Path, tmp_path: Path) -> None:
    """Nor is its mode touched."""
    own = tmp_path / "own.mp4"
    own.write_bytes(b"film")
    own.chmod(0o644)
    os.link(own, job / "input/01.mp4")
    permissions.give(job)
    assert (job / "input/01.mp4").samefile(own)
    assert stat.S_IMODE(own.stat().st_mode) == 0o644


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo", "folder", "nothing"])
def test_a_cut_is_taken_over_only_when_it_is_a_file(job: Path, victim: Path, kind: str) -> None:
    """Whatever the container that should cut has put in its place."""
    made = job / "input/.cut-x"
    made.mkdir()
    if kind == "link":
        (made / "01.mp4").symlink_to(victim / "secret")
    elif kind == "hard link":
        os.link(theirs(made / "other"), made / "01.mp4")
    elif kind == "fifo":
        os.mkfifo(made / "01.mp4")
    elif kind == "folder":
        (made / "01.mp4").mkdir()
    with pytest.raises(OSError, match=r"01\.mp4"):
        permissions.take(made, "01.mp4", job / "input/01.mp4")


def test_a_cut_is_moved_not_copied(job: Path) -> None:
    made = job / "input/.cut-x"
    made.mkdir()
    inode = theirs(made / "01.mp4", "film").stat().st_ino
    permissions.take(made, "01.mp4", job / "input/01.mp4")
    assert (job / "input/01.mp4").stat().st_ino == inode
    assert list(made.iterdir()) == []
