"""What goes wrong while weights go into an engine: a tag is old or whole, and the next run repairs it or names it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.errors import ImageNotFound

from builder.core.images import oci
from builder.edges.images import load
from builder.edges.system import files
from builder.errors import BakeError, BuildError, IntegrityError, MissingError
from builder.receiver.missing import EngineContents, chain_ids
from tests.engine import private_engine
from tests.engine.conftest import ROOT, Engine
from tests.engine.weights_kit import MB, POINTS, Kit, connect, tar, weights_in

CODE = (tar({"x": b"base"}), tar({"y": b"code"}))


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(tmp_path)


@pytest.fixture
def own(engine: Engine) -> Iterator[Any]:
    """The engine, without the images of these tests afterwards."""
    found = connect(engine.host, engine.store)
    yield found
    for image in found.client.images.list():
        for tag in image.tags:
            if tag.startswith("wb-kill/"):
                found.client.images.remove(tag, force=True)


def tagged(engine: Any, ref: str) -> str | None:
    try:
        return str(engine.client.images.get(ref).id)
    except ImageNotFound:
        return None


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_the_tag_is_absent_or_whole_and_the_next_run_ends(
    own: Any, kit: Kit, point: str, tmp_path: Path
) -> None:
    """kill -9: nothing has to be cleaned by hand."""
    ref = "wb-kill/image:1"
    model, pin = kit.model("killed", 8 * MB)
    kit.code(ref, CODE)
    argv = [sys.executable, "-m", "tests.engine.weights_kit", str(tmp_path), own.host, own.store, point]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, f"{point} was never reached: {done.stderr}"
    image = kit.assemble(ref, [(model, pin)])
    assert tagged(own, ref) in (None, load.identity(own, image))
    assert (tagged(own, ref) is not None) == (point == "tagged")
    kit.load(own, image)
    assert tagged(own, ref) == load.identity(own, image)
    assert weights_in(own, ref, "/models/onnx/killed/model.bin") == pin.files[0].sha256


def test_a_weight_file_that_changes_under_our_feet_is_named(own: Any, kit: Kit) -> None:
    """Same size, same place, other bytes: exit 5 with the file's name, and the old tag stays."""
    ref = "wb-kill/changed:1"
    model, pin = kit.model("changed", 8 * MB)
    manifest = kit.code(ref, CODE)
    image = kit.assemble(ref, [(model, pin)])
    path = kit.layout.store / "onnx/changed/model.bin"
    with path.open("r+b") as out:
        out.seek(5 * MB)
        out.write(b"other bytes")
    with pytest.raises(IntegrityError) as caught:
        kit.load(own, image)
    assert caught.value.exit_code == 5
    assert caught.value.where == str(path)
    assert tagged(own, ref) is None
    path.write_bytes(b"short")
    with pytest.raises(IntegrityError, match=r"model\.bin changed while it was read"):
        kit.load(own, kit.assemble(ref, [(model, pin)], manifest=manifest))
    path.unlink()
    with pytest.raises(MissingError, match="not in the store"):
        kit.load(own, kit.assemble(ref, [(model, pin)], manifest=manifest))
    assert tagged(own, ref) is None


@pytest.mark.parametrize("damage", ["a flipped byte", "a missing blob", "a blob cut short"])
def test_a_damaged_layout_never_reaches_a_tag(own: Any, kit: Kit, damage: str) -> None:
    """The blob is named, and removed when it is there: what made it once makes it again."""
    ref = "wb-kill/damaged:1"
    model, pin = kit.model("small", MB)
    kit.code(ref, CODE)
    image = kit.assemble(ref, [(model, pin)])
    path = kit.layout.path(image.layers[-1].blob.digest)
    data = path.read_bytes()
    if damage == "a missing blob":
        path.unlink()
    else:
        path.write_bytes(data[:-600] if damage == "a blob cut short" else data[:700] + b"!" + data[701:])
    with pytest.raises(BakeError) as caught:
        kit.load(own, image)
    assert caught.value.where == str(path)
    assert caught.value.exit_code == (3 if damage == "a missing blob" else 5)
    assert not path.exists()
    assert tagged(own, ref) is None
    kit.code(ref, CODE)
    kit.load(own, kit.assemble(ref, [(model, pin)]))
    assert tagged(own, ref) == load.identity(own, image)


def test_what_the_engine_lost_meanwhile_is_sent_after_all(own: Any, kit: Kit) -> None:
    """It was believed to have a layer, from a build that was pruned since: the load says that it lacked it."""
    ref = "wb-kill/pruned:1"
    model, pin = kit.model("small", MB)
    kit.code(ref, (*CODE[:1], tar({"z": os.urandom(2000)})))
    image = kit.assemble(ref, [(model, pin)])
    contents = EngineContents(
        store=own.store,
        blobs=frozenset(layer.blob.digest for layer in image.layers),
        chains=frozenset(chain_ids([layer.diff_id for layer in image.layers])),
    )
    loaded = load.load(own, kit.layout, image, contents=contents, built=(), on_bytes=lambda done, total: None)
    assert loaded.lacked
    assert tagged(own, ref) == load.identity(own, image)


def test_the_same_weights_in_five_images_are_sent_and_kept_once(own: Any, kit: Kit) -> None:
    """Counted in bytes: what goes to the engine, and what its layers are."""
    model, pin = kit.model("shared", 8 * MB)
    sent, chains = [], set()
    for k in range(5):
        ref = f"wb-kill/five:{k}"
        kit.code(ref, (CODE[0], tar({"y": f"code {k}".encode()})))
        image = kit.assemble(ref, [(model, pin)])
        sent.append(kit.load(own, image).sent)
        chains.add(tuple(own.client.images.get(ref).attrs["RootFS"]["Layers"][:2]))
    assert sent[0] > 8 * MB
    assert max(sent[1:]) < MB
    assert len(chains) == 1, "one chain of weights for all"


def test_a_model_is_added_and_only_its_bytes_go(own: Any, kit: Kit) -> None:
    """What is there below stays."""
    ref = "wb-kill/added:1"
    first, second = kit.model("first", 9 * MB), kit.model("second", 7 * MB)
    manifest = kit.code(ref, CODE)
    kit.load(own, kit.assemble(ref, [first]))
    sent = kit.load(own, kit.assemble(ref, [first, second], manifest=manifest)).sent
    assert 7 * MB < sent < 8 * MB


def test_two_processes_at_once_make_one_image(own: Any, kit: Kit, tmp_path: Path) -> None:
    """The second waits, and finds it done."""
    ref = "wb-kill/image:1"
    model, pin = kit.model("killed", 8 * MB)
    kit.code(ref, CODE)
    argv = [sys.executable, "-m", "tests.engine.weights_kit", str(tmp_path), own.host, own.store, "never"]
    both = [subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert tagged(own, ref) == load.identity(own, kit.assemble(ref, [(model, pin)]))


@pytest.fixture(scope="module", params=private_engine.STORES)
def store(request: pytest.FixtureRequest) -> str:
    if why := private_engine.why_not():
        assert os.environ.get("CI", "").lower() not in ("1", "true"), why
        pytest.skip(f"no private engine here: {why}")
    return str(request.param)


@pytest.fixture
def root() -> Iterator[Path]:
    """A data root that outlives an engine; what the engine left mounted goes with it."""
    with private_engine._folder("wb-root-") as folder:
        yield Path(folder)


def test_an_engine_that_stops_in_the_middle_keeps_no_tag(store: str, kit: Kit, root: Path) -> None:
    """Exit 3; the same engine, started again, gets the image."""
    ref = "wb-kill/stopped:1"
    model, pin = kit.model("large", 24 * MB)
    kit.code(ref, CODE)
    image = kit.assemble(ref, [(model, pin)])
    with private_engine.engine(store, root) as host:
        engine = connect(host, store)
        pid = int(Path(host.removeprefix("unix://")).with_name("d.pid").read_text())

        def tell(done: int, total: int) -> None:
            if done > 12 * MB:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

        with pytest.raises(MissingError, match="went away"):
            load.load(engine, kit.layout, image, contents=load.inspect(engine, kit.layout), built=(), on_bytes=tell)
    with private_engine.engine(store, root) as host:
        engine = connect(host, store)
        assert tagged(engine, ref) is None
        kit.load(engine, image)
        assert weights_in(engine, ref, "/models/onnx/large/model.bin") == pin.files[0].sha256


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_an_engine_whose_disk_fills_keeps_no_tag(store: str, kit: Kit, small_disk: Path) -> None:
    """Refused before by the estimate; and when that was wrong, by what the engine says: exit 3 both times."""
    ref = "wb-kill/full:1"
    model, pin = kit.model("large", 200 * MB)
    kit.code(ref, CODE)
    image = kit.assemble(ref, [(model, pin)])
    with private_engine.engine(store, small_disk / "engine") as host:
        engine = connect(host, store)
        contents = load.inspect(engine, kit.layout)
        assert engine.free is not None
        assert load.room(engine, contents, image, ()) > engine.free, "the estimate sees it"
        with pytest.raises(MissingError, match="disk is full"):
            load.load(engine, kit.layout, image, contents=contents, built=(), on_bytes=lambda done, total: None)
        assert tagged(engine, ref) is None
        small, its = kit.model("little", 20 * MB)
        kit.code("wb-kill/little:1", CODE)
        kit.load(engine, kit.assemble("wb-kill/little:1", [(small, its)]))


def test_a_layout_whose_disk_is_full_has_nothing_half_written(kit: Kit, small_disk: Path) -> None:
    """An export that wouldn't fit is refused before its first byte; a blob that doesn't fit leaves none."""
    model, pin = kit.model("large", 200 * MB)
    other, its = kit.model("other", 200 * MB)
    kit.code("wb-kill/out:1", CODE)
    image = kit.assemble("wb-kill/out:1", [(model, pin), (other, its)])
    with pytest.raises(MissingError, match="this needs"):
        kit.layout.export(small_disk / "out", [image], lambda _: None)
    filled = Kit(small_disk)
    with pytest.raises(OSError, match="No space left"):
        filled.layout.take((bytes(MB) for _ in range(400)), oci.TAR)
    assert [p for p in filled.layout.root.rglob("*") if p.is_file()] == []


def test_an_export_is_a_whole_layout_and_goes_on_where_it_was(kit: Kit, tmp_path: Path) -> None:
    """Every blob is what its name says; weights have their bytes."""
    model, pin = kit.model("large", 8 * MB)
    kit.code("wb-kill/out:1", CODE)
    image = kit.assemble("wb-kill/out:1", [(model, pin)])
    out = tmp_path / "out"
    kit.layout.export(out, [image], lambda _: None)
    (blob,) = (p for p in out.rglob("*") if p.is_file() and p.stat().st_size > 7 * MB)
    before = blob.stat().st_mtime_ns
    next(p for p in (out / "blobs/sha256").iterdir() if p != blob).unlink()
    kit.layout.export(out, [image], lambda _: None)
    assert blob.stat().st_mtime_ns == before
    for path in (out / "blobs/sha256").iterdir():
        assert files.sha256(path) == path.name
    assert len(list((out / "blobs/sha256").iterdir())) == len(image.blobs)


def test_the_second_assembly_reads_no_weight_file(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest is known by what decides the bytes."""
    model, pin = kit.model("large", 8 * MB)
    kit.code("wb-kill/once:1", CODE)
    first = kit.assemble("wb-kill/once:1", [(model, pin)])

    def never(path: Path) -> Iterator[bytes]:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(kit.layout, "_bytes", never)
    assert kit.assemble("wb-kill/once:1", [(model, pin)]).manifest == first.manifest


def test_an_image_the_engine_refuses_is_said(own: Any, kit: Kit) -> None:
    """A layer that is no tar: exit 6, no tag."""
    ref = "wb-kill/refused:1"
    manifest = kit.code(ref, (CODE[0], b"not a tar" * 200))
    image = kit.assemble(ref, [], manifest=manifest)
    with pytest.raises(BuildError):
        kit.load(own, image)
    assert tagged(own, ref) is None
