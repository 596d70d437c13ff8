"""Bundles on disk: the same bytes every time, gone on with after kill -9, damaged and repaired, signed."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest
import zstandard

from builder.core.bundle.contents import dump
from builder.core.bundle.plan import TarEntry
from builder.core.images.oci import Descriptor, digest
from builder.edges.bundle import blobs as packing
from builder.edges.bundle import folder as edge
from builder.edges.bundle import part_writer, signing
from builder.errors import IntegrityError, MissingError, UsageError
from builder.receiver.inventory import LoaderError
from builder.receiver.jobs import job as folders
from builder.receiver.jobs import run as running
from tests import bundles

ROOT = Path(__file__).resolve().parents[2]
PART = "whisperbake.tar.{:03}"


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def quiet(_: object) -> None:
    pass


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "good"
    bundles.three().write(folder, extras={"licences/models.md": b"MIT\n"})
    return folder


def test_the_same_images_give_the_same_bytes_and_a_tar(good: Path, tmp_path: Path) -> None:
    bundles.three().write(tmp_path / "again", extras={"licences/models.md": b"MIT\n"})
    assert contents(tmp_path / "again") == contents(good)
    assert set(contents(good)) == {"load.py", "inventory.json", *(PART.format(k) for k in range(3))}
    joined = tmp_path / "joined.tar"
    joined.write_bytes(b"".join((good / PART.format(k)).read_bytes() for k in range(3)))
    with tarfile.open(joined) as archive:
        members = archive.getmembers()
        assert all(m.isreg() and m.mtime == 0 and m.uid == m.gid == 0 for m in members)
        for m in members:
            if m.name.startswith("blobs/"):
                inside = archive.extractfile(m)
                assert inside is not None
                assert hashlib.sha256(inside.read()).hexdigest() == m.name.rpartition("/")[2]
    words = ["tar", "-tf", str(joined)]
    assert subprocess.run(words, capture_output=True, check=True, text=True).stdout.split() == [m.name for m in members]


def test_it_is_as_large_as_its_blobs(good: Path) -> None:
    """At most 1.01 times the unique bytes, for blobs of a usual size."""
    made = bundles.three(weights=5_000_000)
    folder = good.parent / "larger"
    made.write(folder)
    used = {x.digest for i in made.images for x in i.layers}
    unique = sum(len(made.blobs[d]) for d in used) + sum(len(i.config) + len(i.manifest) for i in made.images)
    assert sum(p.stat().st_size for p in folder.glob("whisperbake.tar.*")) <= 1.01 * unique


HALTING = """
import sys, time
from pathlib import Path
from tests import bundles
folder, left, finished = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
made = bundles.three()
whole = made.open
def halting(entry):
    global left
    for chunk in whole(entry):
        if not left:
            while len(list(folder.glob("whisperbake.tar.*"))) < finished:  # another thread writes what was read
                time.sleep(0.01)
            print("now", flush=True)
            sys.stdin.read()
        left -= 1
        yield chunk
made.open = halting
made.write(folder, part_size=1_000_000)
"""


@pytest.mark.parametrize(("chunks", "finished"), [(0, 0), (20, 0), (40, 1)])
def test_a_killed_run_resumes(tmp_path: Path, chunks: int, finished: int) -> None:
    """kill -9 while parts are written: finished ones are kept, and the result is the same as in one go."""
    folder = tmp_path / "bundle"
    words = [sys.executable, "-c", HALTING, str(folder), str(chunks), str(finished)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGKILL)
    assert not (folder / "inventory.json").exists(), "what is not finished has no inventory"
    kept = {p.name: p.stat().st_mtime_ns for p in folder.glob("whisperbake.tar.*")}
    assert len(kept) == finished
    bundles.three().write(folder)
    bundles.three().write(tmp_path / "one-go")
    assert contents(folder) == contents(tmp_path / "one-go")
    assert {n: (folder / n).stat().st_mtime_ns for n in kept} == kept, "what was finished was not written again"


KILLED_AT_THE_STATE = """
import os, signal, sys
from pathlib import Path
from tests import bundles
from builder.edges.bundle import folder
write, when = folder.files.write_json, sys.argv[2]
def killed(path, data):
    if not data["parts"]:
        return write(path, data)
    if when == "after":
        write(path, data)
    os.kill(os.getpid(), signal.SIGKILL)
folder.files.write_json = killed
bundles.three().write(Path(sys.argv[1]), part_size=1_000_000)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_killed_while_it_notes_a_part_resumes(tmp_path: Path, when: str) -> None:
    """A part has its name only after its hash is noted; one that is noted and has no name yet is not written again."""
    folder = tmp_path / "bundle"
    words = [sys.executable, "-c", KILLED_AT_THE_STATE, str(folder), when]
    killed = subprocess.run(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not list(folder.glob("whisperbake.tar.*")), "no part has its name yet"
    (whole,) = folder.glob(".whisperbake.tar.*.part")
    written = whole.stat().st_mtime_ns
    bundles.three().write(folder, part_size=1_000_000)
    bundles.three().write(tmp_path / "one-go", part_size=1_000_000)
    assert contents(folder) == contents(tmp_path / "one-go")
    if when == "after":
        assert (folder / PART.format(0)).stat().st_mtime_ns == written, "what was finished was not written again"


@pytest.mark.parametrize(
    "left", [["..creating.json.x1.tmp"], [".creating.json", "..creating.json.x1.tmp", ".load.py.x2.tmp"]]
)
def test_a_small_file_that_a_kill_left_half_written_does_not_stay(tmp_path: Path, left: list[str]) -> None:
    """The state's is there before anything else; later any file's may be."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in left:
        (folder / name).write_bytes(b"{")
    bundles.three().write(folder)
    bundles.three().write(tmp_path / "one-go")
    assert contents(folder) == contents(tmp_path / "one-go")


def test_wrong_bytes_end_in_no_bundle_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """A weight file that changes under our feet: named, no inventory, no finished part with its bytes."""
    made = bundles.three()
    whole = made.open

    def changed(entry: TarEntry) -> Iterator[bytes]:
        for chunk in whole(entry):
            yield chunk[:-1] + b"!" if entry.size > 2_000_000 else chunk

    made.open = changed  # type: ignore[method-assign]
    with pytest.raises(IntegrityError, match="is not what was planned"):
        made.write(tmp_path / "bundle", part_size=4_000_000)
    assert {p.name for p in (tmp_path / "bundle").iterdir()} <= {".creating.json", ".lock"}
    bundles.three().write(tmp_path / "bundle", part_size=4_000_000)
    edge.read_inventory(tmp_path / "bundle")


@pytest.mark.parametrize("killed", [False, True])
def test_a_file_of_other_bytes_leaves_no_finished_part_behind(tmp_path: Path, killed: bool) -> None:
    """It is cut: its first piece is written, and has a name, before anybody knows that the file is damaged.

    Killed before that is known, the next run finds that the piece is not of the file that is there now.
    """
    folder, made = tmp_path / "bundle", bundles.three()
    whole = made.open

    def changed(entry: TarEntry) -> Iterator[bytes]:
        for k, chunk in enumerate(whole(entry)):
            yield chunk[:-1] + b"!" if entry.size > 2_000_000 and k == 2 else chunk

    made.open = changed  # type: ignore[method-assign]
    with pytest.raises(IntegrityError, match="is not what was planned"):
        made.write(folder)
    assert (
        not list(folder.glob("whisperbake.tar.*")) or json.loads((folder / ".creating.json").read_text())["parts"] == []
    )
    if killed:  # the same as it was before the damage was known
        part = bytearray(first_part(tmp_path))
        at = bundles.planned(bundles.three()).entries[-1].at + 3 * (1 << 16) - 1
        part[at] = ord("!")
        (folder / PART.format(0)).write_bytes(part)
        cut = hashlib.sha256(part[bundles.planned(bundles.three()).entries[-1].at :]).hexdigest()
        state = json.loads((folder / ".creating.json").read_text())
        (folder / ".creating.json").write_text(json.dumps({**state, "parts": [[cut]]}))
        with pytest.raises(IntegrityError, match="is not what was planned"):
            bundles.three().write(folder)
    bundles.three().write(folder)
    bundles.three().write(tmp_path / "one-go")
    assert contents(folder) == contents(tmp_path / "one-go")


def first_part(tmp_path: Path) -> bytes:
    bundles.three().write(tmp_path / "first")
    return (tmp_path / "first" / PART.format(0)).read_bytes()


class WatchedQueue(Queue[bytes | None]):
    """Says when somebody waits for what is not there."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited = threading.Event()

    def get(self, block: bool = True, timeout: float | None = None) -> bytes | None:
        if self.empty():
            self.awaited.set()
        return super().get(block, timeout)


def test_a_part_has_no_name_before_its_last_file_is_known_to_be_right(tmp_path: Path) -> None:
    """It ends with the file, to the byte: the reader says that the file is right by going on. A kill may come before that."""
    made = bundles.three()
    last = bundles.planned(made).entries[-1]
    plan = bundles.planned(made, part_size=last.at + last.size)
    chunks = WatchedQueue()
    writer = part_writer._Writer(folder=tmp_path, plan=plan, hashes=[], on_progress=quiet, chunks=chunks)
    chunks.put(bytes(last.at + last.size))
    thread = threading.Thread(target=writer.write)
    thread.start()
    assert chunks.awaited.wait(60)
    assert (writer.hashes, [p.name for p in tmp_path.iterdir()]) == ([], [f".{PART.format(0)}.part"])
    chunks.put(bytes(plan.size - last.at - last.size))
    chunks.put(None)
    thread.join()
    assert (writer.failed, len(writer.hashes)) == ([], 2)


def test_a_bundle_of_before_is_still_read(good: Path) -> None:
    """Its parts have a sha256 each, nothing else: schema 1."""
    data = json.loads((good / "inventory.json").read_bytes())
    for part in data["parts"]:
        del part["cuts"]
        part["sha256"] = hashlib.sha256((good / part["name"]).read_bytes()).hexdigest()
    (good / "inventory.json").write_bytes(dump({**data, "schema": 1}))
    assert bundles.damaged(good) == []
    with (good / PART.format(1)).open("r+b") as out:
        out.seek(1000)
        out.write(b"!")
    assert bundles.damaged(good) == [PART.format(1)]


def test_a_folder_of_something_else_is_not_written_to(tmp_path: Path, good: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="something else"):
        bundles.three().write(tmp_path / "mine")
    with pytest.raises(UsageError, match="another bundle"):
        bundles.three(code=b"x").write(good)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", [PART.format(0), PART.format(2), "load.py"])
def test_damage_is_named_and_repaired_from_another_copy(good: Path, tmp_path: Path, name: str) -> None:
    """Only the damaged file is copied; the stick that brings it may hold nothing else but the inventory."""
    whole = contents(good)
    stick = tmp_path / "stick"
    stick.mkdir()
    for each in ("inventory.json", name):
        (stick / each).write_bytes(whole[each])
    data = bytearray(whole[name])
    data[len(data) // 2] ^= 1
    (good / name).write_bytes(data)
    assert bundles.damaged(good) == [name]
    assert edge.repair(good, stick, quiet) == [name]
    assert contents(good) == whole
    assert edge.repair(good, stick, quiet) == []


def test_repair_refuses_another_bundle_and_a_damaged_source(good: Path, tmp_path: Path) -> None:
    bundles.three(code=b"x").write(tmp_path / "other")
    with pytest.raises(IntegrityError, match="two different bundles"):
        edge.repair(good, tmp_path / "other", quiet)
    stick = tmp_path / "stick"
    bundles.three().write(stick, extras={"licences/models.md": b"MIT\n"})
    for folder in (good, stick):
        os.truncate(folder / PART.format(1), 10)
    before = contents(good)
    with pytest.raises(IntegrityError, match="damaged in"):
        edge.repair(good, stick, quiet)
    assert contents(good) == before


@pytest.mark.parametrize("name", [PART.format(0), "load.py"])
def test_repair_writes_through_no_link(good: Path, tmp_path: Path, name: str) -> None:
    """A damaged stick may have links where the copies are made, and in the place of the damaged files."""
    bundles.three().write(tmp_path / "stick", extras={"licences/models.md": b"MIT\n"})
    for each in (f".{name}.part", name, "inventory.json.sig"):
        victim = tmp_path / f"victim-{each}"
        victim.write_text("mine")
        (good / each).unlink(missing_ok=True)
        (good / each).symlink_to(victim)
    (tmp_path / "stick/inventory.json.sig").write_bytes(b"signature")
    assert set(edge.repair(good, tmp_path / "stick", quiet)) == {name, "inventory.json.sig"}
    assert [path.read_text() for path in tmp_path.glob("victim-*")] == ["mine"] * 3
    assert not [path for path in good.iterdir() if path.is_symlink()]


@pytest.mark.parametrize("kind", ["link", "zeros", "pipe", "grown"])
def test_repair_copies_nothing_but_a_file_of_its_size(good: Path, tmp_path: Path, kind: str) -> None:
    """What leads out of the source, never ends, or is larger than it says is damaged there too."""
    stick = tmp_path / "stick"
    bundles.three().write(stick, extras={"licences/models.md": b"MIT\n"})
    part = stick / PART.format(1)
    (tmp_path / "elsewhere").write_bytes(part.read_bytes())
    if kind == "grown":
        os.truncate(part, 1 << 40)
    else:
        part.unlink()
        os.mkfifo(part) if kind == "pipe" else part.symlink_to(
            "/dev/zero" if kind == "zeros" else tmp_path / "elsewhere"
        )
    (good / PART.format(1)).unlink()
    with pytest.raises((MissingError, IntegrityError), match=re.escape(PART.format(1))):
        edge.repair(good, stick, quiet)
    assert sorted(path.name for path in good.iterdir()) == sorted(
        ["inventory.json", "load.py", PART.format(0), PART.format(2)]
    )


def test_create_writes_through_no_link(tmp_path: Path) -> None:
    """A folder that looks as if a killed run had left it there."""
    folder, victim = tmp_path / "bundle", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("mine")
    (folder / ".creating.json").write_text("{}")
    for name in (f".{PART.format(0)}.part", PART.format(1), "inventory.json", "load.py"):
        (folder / name).symlink_to(victim)
    bundles.three().write(folder)
    assert victim.read_text() == "mine"
    assert bundles.damaged(folder) == []


def test_a_lost_inventory_is_repaired_too(good: Path, tmp_path: Path) -> None:
    bundles.three().write(tmp_path / "stick", extras={"licences/models.md": b"MIT\n"})
    (good / "inventory.json").write_bytes(b"{")
    assert edge.repair(good, tmp_path / "stick", quiet) == ["inventory.json"]


def test_keys_sign_and_openssl_agrees(good: Path, tmp_path: Path) -> None:
    """The private key is its owner's alone; the receiver's own openssl says whether it fits."""
    private, public = tmp_path / "sender", tmp_path / "sender.pem"
    signing.make_keys(private, public)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    raw = (good / "inventory.json").read_bytes()
    (good / "inventory.json.sig").write_bytes(signing.sign(private, raw))
    words = [sys.executable, "-I", str(good / "load.py"), "--check", "--key", str(public)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "signed with sender.pem" in done.stderr
    signing.verify(public, raw, signing.sign(private, raw))
    with pytest.raises(IntegrityError):
        signing.verify(public, raw + b" ", signing.sign(private, raw))
    with pytest.raises(UsageError, match="a key already exists"):
        signing.make_keys(private, public)
    with pytest.raises(UsageError, match="not a private key"):
        signing.sign(public, raw)
    assert private.read_bytes() not in b"".join(contents(good).values())


def test_the_fingerprint_can_be_read_aloud(good: Path) -> None:
    """In groups and capitals, and the first sixteen digits will do."""
    whole = hashlib.sha256((good / "inventory.json").read_bytes()).hexdigest()
    spoken = " ".join(whole[k : k + 4] for k in range(0, 16, 4)).upper()
    words = [sys.executable, "-I", str(good / "load.py"), "--check", "--fingerprint", spoken]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_check_finds_a_flipped_byte_anywhere(good: Path) -> None:
    """Also where the loader would never look: in the padding, in what only docker load reads."""
    end = (good / PART.format(2)).stat().st_size
    for at in (0, 600, end - 5):
        name = PART.format(2 if at > 1000 else 0)
        data = bytearray((good / name).read_bytes())
        data[at] ^= 1
        (good / name).write_bytes(data)
        done = subprocess.run(
            [sys.executable, str(good / "load.py"), "--check"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 5
        assert f"damaged or missing: {name}" in done.stderr
        data[at] ^= 1
        (good / name).write_bytes(data)


@pytest.mark.parametrize("kind", ["tar", "tar+gzip", "tar+zstd"])
def test_code_blobs_become_zstd_and_keep_their_diff_id(tmp_path: Path, kind: str) -> None:
    """The same tar gives the same blob, however it came; what comes out of it is the tar."""
    tar = bundles.noise(100_000) + bytes(300_000)
    blob = {"tar": tar, "tar+gzip": gzip.compress(tar), "tar+zstd": zstandard.compress(tar)}[kind]
    found = Descriptor(media_type=f"application/vnd.oci.image.layer.v1.{kind}", digest="", size=len(blob))
    chunks = (blob[at : at + 5000] for at in range(0, len(blob), 5000))
    made = packing.compress(packing.unpacked(found, chunks), tmp_path / "a.zst")
    assert made == packing.compress(iter([tar]), tmp_path / "b.zst")
    assert made[0] == digest((tmp_path / "a.zst").read_bytes())
    out = zstandard.ZstdDecompressor().decompressobj().decompress((tmp_path / "a.zst").read_bytes())
    assert out == tar


def test_the_loader_stays_small_while_much_goes_through(tmp_path: Path) -> None:
    """At most 100 MB of memory for 200 MB of weights in parts of 128 MB."""
    made = bundles.three(weights=200_000_000)
    made.write(tmp_path / "large", part_size=128_000_000)
    code = (
        "import runpy, sys; sys.argv = ['load.py', '--check']\n"
        f"try: runpy.run_path({str(tmp_path / 'large/load.py')!r}, run_name='__main__')\n"
        "finally: print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100_000, "kB"
    assert json.loads((tmp_path / "large/inventory.json").read_bytes())["parts"][0]["size"] == 128_000_000


def test_a_stick_without_modes_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT refuses chmod (EPERM) and knows no executable files; the bundle needs neither."""

    def refused(self: Path, mode: int, *, follow_symlinks: bool = True) -> None:
        raise PermissionError(1, "Operation not permitted", str(self))

    monkeypatch.setattr(Path, "chmod", refused)
    bundles.three().write(tmp_path / "stick")
    assert bundles.damaged(tmp_path / "stick") == []


def accepted(folder: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> str:
    """The acceptance run, with what its containers make written by hand: there is no engine here."""
    job = {"id": "x", "inputs": [{"id": "01"}], "stages": []}
    result = {"segments": [{"text": "one two three four five six seven eight nine ten " * 4}]}
    text = json.dumps(result)
    expected = {
        "name": "call.mp4",
        "files": {"output/call.json": hashlib.sha256(text.encode()).hexdigest()},
        "result": "output/call.json",
        "words": running.words_of(result),
    }
    for name, value in (("job.json", job), ("expected.json", expected), ("call.mp4", {})):
        (folder / "job").mkdir(exist_ok=True)
        (folder / "job" / name).write_text(json.dumps(value))
    given = {"job": "job/job.json", "expected": "job/expected.json", "recording": "job/call.mp4"}

    def made(engine: object, images: object, job: object, folder: Path, *_: object, **__: object) -> None:
        (folder / "output/call.json").write_text(said or text)

    monkeypatch.setattr(running, "run_job", made)
    inventory = {"acceptance": given, "images": []}
    return running.accept(None, inventory, folder, quiet, sandbox={})  # type: ignore[arg-type]


def test_acceptance_is_about_the_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes, or at most one word in twenty other: another processor rounds differently. Else exit 7."""
    assert "byte for byte" in accepted(tmp_path, monkeypatch, "")
    ten = "one two three four five six seven eight nine ten "
    near = json.dumps({"segments": [{"text": ten.replace("four", "for") + 3 * ten}]})
    assert "1 of 40 words differ" in accepted(tmp_path, monkeypatch, near)
    with pytest.raises(LoaderError) as stop:
        accepted(tmp_path, monkeypatch, json.dumps({"segments": [{"text": "something else"}]}))
    assert stop.value.code == 7


def test_a_job_is_open_where_its_containers_write_and_nowhere_else(tmp_path: Path) -> None:
    """Beside root, containers run as another user of group 0: it reads two things, writes three, and sees no other."""
    (tmp_path / "template.json").write_text(json.dumps({"inputs": [{"id": "01"}], "stages": []}))
    (tmp_path / "call.mp4").write_bytes(b"sound")
    folder = tmp_path / "job"
    folders.new_job(tmp_path / "template.json", tmp_path / "call.mp4", "call.mp4", folder)
    running.let_in(folder)
    modes = {p.relative_to(tmp_path).as_posix(): stat.S_IMODE(p.stat().st_mode) for p in [folder, *folder.rglob("*")]}
    assert modes == {
        "job": 0o700,
        "job/job.yaml": 0o640,
        "job/input": 0o750,
        "job/input/01.mp4": 0o640,
        "job/work": 0o770,
        "job/output": 0o770,
        "job/events.jsonl": 0o660,
        "job/logs": 0o700,
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_job_in_a_folder_of_another_group_is_open_to_its_containers(tmp_path: Path) -> None:
    """The folder's set-group-ID bit gives what is made in it that group, which the containers' user isn't in."""
    os.chown(tmp_path, -1, 4242)
    tmp_path.chmod(0o2775)
    (tmp_path / "template.json").write_text(json.dumps({"inputs": [{"id": "01"}], "stages": []}))
    (tmp_path / "call.mp4").write_bytes(b"sound")
    folder = tmp_path / "job"
    folders.new_job(tmp_path / "template.json", tmp_path / "call.mp4", "call.mp4", folder)
    folders.write_voices(folder, b"{}")
    running.let_in(folder)
    inside = ("job.yaml", "input", "input/01.mp4", "input/voices.json", "work", "output", "events.jsonl")
    assert {name: (folder / name).stat().st_gid for name in inside} == dict.fromkeys(inside, 0)
