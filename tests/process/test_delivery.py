"""Results copied to where they are wanted: real files, full disks, hostile results."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.core.jobs.naming import CopyOptions, Place, Wanted, places
from builder.edges.jobs import delivery
from builder.edges.jobs.outcome import Outcome
from builder.errors import MissingError, UsageError
from tests.unit.test_run import ID, job_of


@pytest.fixture
def done(tmp_path: Path) -> Outcome:
    """A finished job with two results, and its transcript."""
    folder = tmp_path / "jobs" / ID
    (folder / "work/subtitles").mkdir(parents=True)
    (folder / "output").mkdir()
    (folder / "output/talk.srt").write_text("one")
    (folder / "output/talk.json").write_text('{"language": "de"}')
    results = tuple(folder / "output" / name for name in ("talk.json", "talk.srt"))
    return Outcome(job=job_of(), folder=folder / "output", files=results, stages=(), notes=(), seconds=1.0)


def place_of(wanted: CopyOptions, recording: Path | None = None) -> tuple[Place, ...]:
    return places(wanted, [("talk.wav", recording)])


def deliver(done: Outcome, wanted: CopyOptions, recording: Path | None = None) -> Outcome:
    return delivery.deliver(done, wanted, place_of(wanted, recording), done.folder.parent)


def look(wanted: CopyOptions, where: tuple[Place, ...], kinds: tuple[str, ...], language: str | None = None) -> None:
    delivery.look_first(
        wanted, [Wanted(place=place, kinds=kinds, number="01", language=language, preset="p") for place in where]
    )


def first(wanted: CopyOptions, recording: Path | None = None, *kinds: str, language: str | None = None) -> None:
    look(wanted, place_of(wanted, recording), kinds or ("srt", "json"), language)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_copies_have_their_names_and_nothing_else_is_left(done: Outcome, tmp_path: Path) -> None:
    """A folder that isn't there is made; what a killed run left under the hidden name is gone."""
    wanted = CopyOptions(folder=tmp_path / "out/deep", pattern="{stem}.{language}.{ext}")
    first(wanted)
    out = deliver(done, wanted)
    assert out.undelivered is None
    assert [path.name for path in out.copies] == ["talk.de.json", "talk.de.srt"]
    assert names(tmp_path / "out/deep") == ["talk.de.json", "talk.de.srt"]
    assert (tmp_path / "out/deep/talk.de.srt").read_text() == "one"


def test_what_is_there_is_named_before_any_work(done: Outcome, tmp_path: Path) -> None:
    """Also a link that leads nowhere; --overwrite replaces it, and follows a link to a file."""
    wanted = CopyOptions(folder=tmp_path / "out")
    first(wanted)
    (tmp_path / "out/talk.srt").write_text("mine")
    with pytest.raises(UsageError) as caught:
        first(wanted)
    assert (caught.value.what, caught.value.exit_code) == ("this is there already: talk.srt", 2)
    (tmp_path / "out/talk.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"talk\.srt, talk\.json"):
        first(wanted)
    first(CopyOptions(folder=tmp_path / "out", overwrite=True))
    out = deliver(done, CopyOptions(folder=tmp_path / "out", overwrite=True))
    assert out.undelivered is None
    assert (tmp_path / "out/talk.srt").read_text() == "one"
    assert (tmp_path / "elsewhere").read_text() == '{"language": "de"}'
    assert (tmp_path / "out/talk.json").is_symlink()


def test_what_comes_meanwhile_is_kept_and_the_job_too(done: Outcome, tmp_path: Path) -> None:
    """The first look can't see what is written while the job runs."""
    wanted = CopyOptions(folder=tmp_path / "out")
    first(wanted)
    (tmp_path / "out/talk.srt").write_text("mine")
    failure = deliver(done, wanted).failure
    assert isinstance(failure, UsageError)
    assert failure.what == f"job {ID} is done, but not copied: talk.srt is there already"
    assert str(done.folder) in str(failure.hint)
    assert (tmp_path / "out/talk.srt").read_text() == "mine"
    assert (done.folder / "talk.srt").read_text() == "one"
    assert not list((tmp_path / "out").glob(".*"))


def test_the_recording_is_never_replaced(tmp_path: Path) -> None:
    """Not even with --overwrite, nor through another name of the same file."""
    recording = tmp_path / "talk.wav"
    recording.write_text("sound")
    (tmp_path / "talk.mp4").hardlink_to(recording)
    wanted = CopyOptions(folder=None, pattern="{stem}.{ext}", overwrite=True)
    with pytest.raises(UsageError, match=r"talk\.mp4 is the recording itself"):
        first(wanted, recording, "srt", "mp4")


def test_two_results_of_one_name_are_refused(tmp_path: Path) -> None:
    """A pattern without the recording's name is enough for one recording."""
    wanted = CopyOptions(folder=tmp_path, pattern="text.{ext}")
    two = places(wanted, [("a.wav", None), ("b.wav", None)])
    with pytest.raises(UsageError, match=r"two results would be text\.srt"):
        look(wanted, two, ("srt",))
    look(wanted, two[:1], ("srt",))


def test_a_name_with_a_language_is_looked_at_when_it_is_known(tmp_path: Path) -> None:
    (tmp_path / "talk.de.srt").write_text("mine")
    wanted = CopyOptions(folder=tmp_path, pattern="{stem}.{language}.{ext}")
    first(wanted)
    with pytest.raises(UsageError, match=r"talk\.de\.srt"):
        first(wanted, language="de")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_can_t_be_written_is_named_first(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(MissingError) as caught:
        first(CopyOptions(folder=tmp_path / "out"))
    assert caught.value.where == str(tmp_path / "out")


def test_a_folder_that_can_t_be_made_is_named_first(tmp_path: Path) -> None:
    """A file in its place, or no file system that makes folders."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="not a folder"):
        first(CopyOptions(folder=tmp_path / "file"))
    with pytest.raises(MissingError, match="can't be made"):
        first(CopyOptions(folder=Path("/proc/out")))


def test_a_full_disk_loses_nothing(done: Outcome, tmp_path: Path) -> None:
    """/dev/full as the hidden file's place can't be had; a file system of one page can."""
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=8k tmpfs {small} 2>/dev/null"):
        pytest.skip("needs the right to mount")
    try:
        (done.folder / "talk.srt").write_bytes(b"x" * 50_000)
        out = deliver(done, CopyOptions(folder=small))
        assert isinstance(out.undelivered, MissingError)
        assert out.undelivered.what == f"job {ID} is done, but not copied: the disk is full"
        assert f"build.py run {ID} --output DIR copies them" in str(out.undelivered.hint)
        assert names(small) == ["talk.json"]
        assert (done.folder / "talk.srt").stat().st_size == 50_000
    finally:
        os.system(f"umount {small}")


def test_hostile_results_lead_nowhere(done: Outcome, tmp_path: Path) -> None:
    """A link in place of a result, a FIFO, and a name that no result has."""
    (tmp_path / "secret").write_text("s")
    (done.folder / "talk.srt").unlink()
    (done.folder / "talk.srt").symlink_to(tmp_path / "secret")
    out = deliver(done, CopyOptions(folder=tmp_path / "out1"))
    (tmp_path / "out1").mkdir(exist_ok=True)
    assert out.undelivered is not None
    (done.folder / "talk.srt").unlink()
    os.mkfifo(done.folder / "talk.srt")
    (tmp_path / "out2").mkdir()
    out = deliver(done, CopyOptions(folder=tmp_path / "out2"))
    assert out.undelivered is not None
    assert names(tmp_path / "out2") == ["talk.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives links away")
@pytest.mark.parametrize("owner", [0, 65534])
def test_another_user_s_link_does_not_choose_what_is_replaced(done: Outcome, tmp_path: Path, owner: int) -> None:
    """--overwrite in a shared folder: the caller's own link is followed, anybody else's is replaced itself."""
    mine, out = tmp_path / "mine", tmp_path / "out"
    mine.write_text("mine")
    out.mkdir()
    (out / "talk.srt").symlink_to(mine)
    os.chown(out / "talk.srt", owner, owner, follow_symlinks=False)
    assert deliver(done, CopyOptions(folder=out, overwrite=True)).undelivered is None
    assert mine.read_text() == ("one" if owner == os.geteuid() else "mine")
    assert (out / "talk.srt").read_text() == "one"
