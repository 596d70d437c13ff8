"""What bad bundles get from an engine: exit 5 or 3, what is wrong and what to do in a line, nothing named, nothing outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from builder.core.bundle import contents
from builder.edges.bundle import folder as edge
from builder.receiver import images as receiving
from tests import bundles
from tests.engine import private_engine
from tests.engine.conftest import Engine, Ran
from tests.hostile import bundles as hostile_bundles
from tests.hostile.bundles import EXTRA, HOSTILE, NOTE, Hostile


def load(engine: Engine, folder: Path, *options: str, host: str | None = None) -> Ran:
    """Run a bundle's own loader, on the way to the engine that ``host`` names or on its socket."""
    done = hostile_bundles.load(host or engine.host, folder, *options)
    return Ran(done.returncode, done.stdout, done.stderr)


def names(engine: Engine) -> set[str]:
    """What the engine calls images of bundles, temporary names too."""
    tags = {t for i in engine.client.images.list() for t in i.tags}
    return {t for t in tags if t.startswith((f"{bundles.REGISTRY}/", f"{receiving.TEMPORARY}/"))}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good bundle of three images, in three parts."""
    return hostile_bundles.good_bundle(tmp_path_factory.mktemp("good") / "bundle")


@pytest.fixture
def clean(engine: Engine) -> Iterator[None]:
    """No image of a bundle, before and after."""
    for _ in range(2):
        for name in names(engine):
            engine.client.images.remove(name, force=True)
        if _ == 0:
            yield


@pytest.mark.parametrize("hostile", [h for h in HOSTILE if not h.alone], ids=lambda h: h.name)
def test_a_hostile_bundle_gets_nothing_named(
    engine: Engine, clean: None, good: Path, tmp_path: Path, hostile: Hostile
) -> None:
    """Found out while bytes go to the engine, or by the engine itself."""
    hostile_bundles.refused(hostile, good, tmp_path, engine.host)
    assert names(engine) == set()


def test_the_good_one_is_loaded_and_again_nothing_is_sent(
    engine: Engine, clean: None, good: Path, tmp_path: Path
) -> None:
    """What all the others began as; without it they could fail for any reason."""
    folder = tmp_path / "bundle"
    shutil.copytree(good, folder)
    done = load(engine, folder)
    assert done.code == 0, done.err
    assert names(engine) == {f"{bundles.REGISTRY}/{n}:slim-cpu" for n in ("base", "asr", "vad")}
    assert (tmp_path / "target" / EXTRA).read_bytes() == NOTE
    again = load(engine, folder)
    assert "3 images, 0.0 MB sent" in again.err


def test_docker_load_takes_the_parts_as_they_are(engine: Engine, clean: None, tmp_path: Path) -> None:
    """``cat parts | docker load``, for whoever has no Python."""
    bundles.three(mark="docker load").write(tmp_path / "bundle")
    parts = b"".join(p.read_bytes() for p in sorted((tmp_path / "bundle").glob("whisperbake.tar.*")))
    done = subprocess.run(["docker", "--host", engine.host, "load"], input=parts, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert names(engine) == {f"{bundles.REGISTRY}/{n}:slim-cpu" for n in ("base", "asr", "vad")}


def test_code_and_weights_apart(engine: Engine, clean: None, tmp_path: Path) -> None:
    """The one without the other is refused with what to add; together they are all of it."""
    bundles.three().write(tmp_path / "code", content="code")
    bundles.three().write(tmp_path / "weights", content="models")
    alone = load(engine, tmp_path / "code")
    assert alone.code == 3
    assert "--with FOLDER" in alone.err
    assert load(engine, tmp_path / "weights").code == 2
    assert names(engine) == set()
    both = load(engine, tmp_path / "code", "--with", str(tmp_path / "weights"))
    assert both.code == 0, both.err
    assert names(engine) == {f"{bundles.REGISTRY}/{n}:slim-cpu" for n in ("base", "asr", "vad")}


def test_a_difference_needs_what_it_is_a_difference_to(engine: Engine, clean: None, good: Path, tmp_path: Path) -> None:
    """On an engine without it: exit 3, with what to ask for. On one that has it: the changed layer alone is sent."""
    base = contents.base_of(edge.read_inventory(good))
    bundles.three(code=b"print(3)\n").write(tmp_path / "next", bases=[base])
    empty = load(engine, tmp_path / "next")
    assert empty.code == 3
    assert "this machine's inventory.json" in empty.err
    shutil.copytree(good, tmp_path / "first")
    assert load(engine, tmp_path / "first").code == 0
    before = engine.client.images.get(f"{bundles.REGISTRY}/asr:slim-cpu").id
    done = load(engine, tmp_path / "next")
    assert done.code == 0, done.err
    assert "asr:slim-cpu: 1 of 3 layers sent" in done.err
    assert engine.client.images.get(f"{bundles.REGISTRY}/asr:slim-cpu").id != before
    assert engine.docker("images", "--filter", "dangling=true", "--quiet").out == ""


def test_an_engine_that_lacks_what_it_should_have_gets_it(engine: Engine, clean: None, tmp_path: Path) -> None:
    """The machine's own inventory says that the weights are there, and they are not: they are sent after all."""
    made = bundles.three(weights=1_234_567)  # of no other test: a store keeps what was removed for a while
    made.write(tmp_path / "whole")
    small = bundles.Set(images=[i for i in made.images if i.stage == "base"], blobs=made.blobs)
    small.write(tmp_path / "first")
    assert load(engine, tmp_path / "first").code == 0
    path = tmp_path / "target/inventory.json"
    mine = json.loads(path.read_bytes())
    whole = edge.read_inventory(tmp_path / "whole")
    mine["layers"] = whole["layers"]
    mine["images"][0]["layers"] = next(i["layers"] for i in whole["images"] if i["stage"] == "asr")
    path.write_text(json.dumps(mine))
    done = load(engine, tmp_path / "whole")
    assert done.code == 0, done.err
    # A graph driver is asked for its chains, and nothing else is believed.
    assert f"asr:slim-cpu: {3 if engine.store == 'containerd' else 2} of 3 layers sent" in done.err
    assert names(engine) == {f"{bundles.REGISTRY}/{n}:slim-cpu" for n in ("base", "asr", "vad")}


def test_a_link_in_the_target_is_not_followed(engine: Engine, clean: None, good: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "target/job").symlink_to(tmp_path / "elsewhere")
    shutil.copytree(good, tmp_path / "bundle")
    done = load(engine, tmp_path / "bundle")
    assert done.code == 3, done.err
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert names(engine) == set()


def test_no_image_of_the_users_loses_its_name_or_is_removed(engine: Engine, clean: None, tmp_path: Path) -> None:
    """A name of the user's image: exit 5, nothing changed. Of what a bundle brought, the one after the next removes its own."""
    asr = f"{bundles.REGISTRY}/asr:slim-cpu"
    bundles.three(mark="users").write(tmp_path / "users")
    assert load(engine, tmp_path / "users", "--to", str(tmp_path / "elsewhere"), "--allow-unsigned").code == 0
    mine = engine.client.images.get(asr).id
    for name in names(engine) - {asr}:
        engine.client.images.remove(name, force=True)
    bundles.three(mark="first").write(tmp_path / "first")
    done = load(engine, tmp_path / "first")
    assert done.code == 5, done.err
    assert f"{asr} from somebody else; nothing was changed" in done.err
    assert names(engine) == {asr}
    assert engine.client.images.get(asr).id == mine
    assert engine.docker("tag", asr, f"{bundles.REGISTRY}/mine:1").code == 0
    engine.client.images.remove(asr)
    assert load(engine, tmp_path / "first").code == 0
    first = engine.client.images.get(asr).id
    bundles.three(mark="second", code=b"print(3)\n").write(tmp_path / "second")
    assert load(engine, tmp_path / "second").code == 0
    assert engine.client.images.get(f"{bundles.REGISTRY}/mine:1").id == mine
    assert first in {i.id for i in engine.client.images.list()}, "the version before"
    bundles.three(mark="third", code=b"print(4)\n").write(tmp_path / "third")
    assert load(engine, tmp_path / "third").code == 0
    assert first not in {i.id for i in engine.client.images.list()}, "it brought that one itself"


@contextmanager
def between(engine: Engine, most: int) -> Iterator[str]:
    """A way to the engine over TCP that ends, in both directions, after ``most`` bytes of one connection."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            behind = socket.socket(socket.AF_UNIX)
            behind.connect(engine.host.removeprefix("unix://"))
            for pair in ((client, behind), (behind, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    def pump(source: socket.socket, target: socket.socket) -> None:
        left = most
        try:
            while left > 0 and (data := source.recv(min(left, 1 << 16))):
                target.sendall(data)
                left -= len(data)
        except OSError:
            pass
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize("most", [100, 40_000, 1_000_000, 2_400_000])
def test_an_engine_that_goes_away_in_the_middle(
    engine: Engine, clean: None, good: Path, tmp_path: Path, most: int
) -> None:
    """Exit 3, no name; the next run brings it to the end."""
    shutil.copytree(good, tmp_path / "bundle")
    with between(engine, most) as host:
        done = load(engine, tmp_path / "bundle", host=host)
    assert done.code == 3, done.err
    assert "run this again" in done.err
    assert {n for n in names(engine) if n.startswith(bundles.REGISTRY)} == set()
    assert load(engine, tmp_path / "bundle").code == 0
    assert names(engine) == {f"{bundles.REGISTRY}/{n}:slim-cpu" for n in ("base", "asr", "vad")}


@pytest.mark.parametrize("after", [0.05, 0.15, 0.3, 0.5, 0.8])
def test_a_loader_that_is_killed_is_run_again(
    engine: Engine, clean: None, good: Path, tmp_path: Path, after: float
) -> None:
    """kill -9 at any time: names are all old or all new, and the next run finishes."""
    shutil.copytree(good, tmp_path / "bundle")
    process = subprocess.Popen(
        [sys.executable, "-I", str(tmp_path / "bundle/load.py"), "--to", str(tmp_path / "target"), "--allow-unsigned"],
        env={"PATH": os.environ["PATH"], "DOCKER_HOST": engine.host},
        stderr=subprocess.DEVNULL,
    )
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = load(engine, tmp_path / "bundle")
    assert done.code == 0, done.err
    assert names(engine) == {f"{bundles.REGISTRY}/{n}:slim-cpu" for n in ("base", "asr", "vad")}


@pytest.mark.parametrize("store", private_engine.STORES)
def test_an_engine_is_killed_in_the_middle(tmp_path: Path, store: str) -> None:
    """kill -9 of dockerd while layers go in: exit 3, no name; with the engine back the same command ends well."""
    if why := private_engine.why_not():
        assert os.environ.get("CI", "").lower() not in ("1", "true"), why
        pytest.skip(why)
    folder, data = tmp_path / "bundle", tmp_path / "data"
    bundles.three(weights=120_000_000).write(folder, part_size=200_000_000)
    with private_engine.engine(store, data) as host:
        process = subprocess.Popen(
            [sys.executable, "-I", str(folder / "load.py"), "--to", str(tmp_path / "target"), "--allow-unsigned"],
            env={"PATH": os.environ["PATH"], "DOCKER_HOST": host},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        while "base:slim-cpu" not in (line := process.stderr.readline()):  # the next is the one with the weights
            assert line
        time.sleep(0.1)
        os.kill(int(Path(host.removeprefix("unix://")).with_name("d.pid").read_text()), signal.SIGKILL)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 3, said
        assert "run this again" in said
    with private_engine.engine(store, data) as host:
        back = Engine(host, store, "wb-test", tmp_path)
        assert {n for n in names(back) if n.startswith(bundles.REGISTRY)} == set()
        assert load(back, folder).code == 0
        assert names(back) == {f"{bundles.REGISTRY}/{n}:slim-cpu" for n in ("base", "asr", "vad")}


@pytest.mark.parametrize("store", private_engine.STORES)
def test_the_engines_disk_fills_in_the_middle(good: Path, tmp_path: Path, store: str) -> None:
    """Of a small disk of its own: refused before, where the loader can look; else the engine's word is told. Exit 3."""
    if why := private_engine.why_not():
        assert os.environ.get("CI", "").lower() not in ("1", "true"), why
        pytest.skip(why)
    folder = tmp_path / "bundle"
    bundles.three(weights=60_000_000).write(folder, part_size=20_000_000)
    disk, place = tmp_path / "disk.img", tmp_path / "disk"
    place.mkdir()
    with disk.open("wb") as out:
        out.truncate(100 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    subprocess.run(["mount", "-o", "loop", str(disk), str(place)], check=True)
    try:
        with private_engine.engine(store, place / "data") as host:
            small = Engine(host, store, "wb-test", tmp_path)
            before = load(small, folder)
            assert before.code == 3, before.err
            assert "GB free; this bundle needs" in before.err
            with between(small, 1 << 40) as far:
                done = load(small, folder, host=far)
            assert done.code == 3, done.err
            assert "the engine's disk is full" in done.err
            assert names(small) == set()
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
