"""load.py --rollback: names, files and inventory of the version before, all of it or nothing, and forward again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builder.core.bundle import plan as core
from builder.edges.bundle import folder as edge
from builder.edges.bundle.part_writer import PartSource
from builder.receiver.jobs.kept import kept_name
from builder.receiver.record import fingerprint_of
from tests import bundles
from tests.small_engine import SmallEngine, small_engine

# Kills this process at the nth thing that it does to a file or an engine.
KILLED = """
import os, runpy, signal, sys
at, sys.argv = int(sys.argv[1]), sys.argv[2:]
seen = 0
def count(event, arguments):
    global seen
    if event in ("os.rename", "os.link", "os.remove", "http.client.send") or event == "open" and arguments[2] & os.O_CREAT:
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass
class Site:
    """A machine that gets one bundle after the other."""

    folder: Path
    engine: SmallEngine

    @property
    def target(self) -> Path:
        return self.folder / "whisperbake"

    def bundle(self, name: str, stages: dict[str, str], extras: dict[str, bytes], day: int) -> Path:
        """A bundle of images: stage -> code; with the licences that belong to it."""
        made = bundles.Set()
        base = made.layer({"etc/base": b"base"})
        for stage, code in stages.items():
            made.image(stage, [base, made.layer({f"opt/{stage}.py": code.encode()})])
        made.blobs |= {core.digest(data): data for data in extras.values()}
        described = {path: (len(data), core.digest(data)[7:]) for path, data in extras.items()}
        plan = core.dated(bundles.planned(made, made={}, extras=described), f"2026-11-{day:02}T08:00:00Z")
        source = PartSource(open=made.open)
        edge.create(self.folder / name, plan, source, texts={"load.py": edge.loader()}, on_progress=lambda _: None)
        return self.folder / name

    def run(
        self, *words: str, python: tuple[str, ...] = ("-I",), loader: str = "a"
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *python, str(self.folder / loader / "load.py"), *words],
            env={"PATH": os.environ["PATH"], "DOCKER_HOST": self.engine.host, "HOME": str(self.folder)},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def load(self, bundle: str, *words: str) -> None:
        done = self.run("--allow-unsigned", "--no-accept", *words, loader=bundle)
        assert done.returncode == 0, done.stderr

    def back(self) -> str:
        done = self.run("--rollback")
        assert done.returncode == 0, done.stderr
        return done.stderr

    @property
    def names(self) -> dict[str, str]:
        return {n: id_ for n, id_ in self.engine.names.items() if ":previous-" not in n}

    @property
    def state(self) -> dict[str, Any]:
        """What a version is: names of images, inventory, files beside."""
        files = {p.relative_to(self.target).as_posix(): p.read_bytes() for p in (self.target / "licences").rglob("*")}
        inventory = (self.target / "inventory.json").read_bytes()
        return {"names": self.names, "inventory": inventory, "files": files}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """It has a first bundle, and two more are at hand."""
    with small_engine(tmp_path) as engine:
        made = Site(tmp_path, engine)
        made.bundle("a", {"asr": "1", "vad": "1"}, {"licences/m.md": b"old", "licences/gone.md": b"x"}, 1)
        made.bundle("b", {"asr": "2", "vad": "1", "mux": "1"}, {"licences/m.md": b"new", "licences/n.md": b"n"}, 2)
        made.bundle("c", {"asr": "3", "vad": "3"}, {"licences/m.md": b"newest"}, 3)
        made.load("a")
        yield made


def events(site: Site) -> list[str]:
    return [json.loads(line)["event"] for line in (site.target / "loaded.jsonl").read_text().splitlines()]


def test_it_goes_back_and_forward_again(site: Site) -> None:
    first = site.state
    site.load("b")
    second = site.state
    assert set(second["names"]) > set(first["names"])
    assert second["files"]["licences/m.md"] == b"new"
    began = time.monotonic()
    told = site.back()
    assert time.monotonic() - began < 10, (
        "seconds, on a machine that does other things; it has one or two tenths of work"
    )
    assert "--rollback once more goes forward" in told
    assert site.state == first
    site.back()
    assert site.state == second
    assert events(site) == ["loaded", "loaded", "restored", "restored"]
    shown = site.run("--log").stdout
    assert shown.count("restored") == 2


def test_two_versions_are_kept_and_no_more(site: Site) -> None:
    """What the third bundle replaces stays, what the second had replaced goes: images, names, files."""
    old = site.names["wb-bundle/asr:slim-cpu"]
    site.load("b")
    second = site.state
    site.load("c")
    assert old in site.engine.removed
    held = {id_ for name, id_ in site.engine.names.items() if ":previous-" in name}
    assert held == {second["names"][f"wb-bundle/{stage}:slim-cpu"] for stage in ("asr", "vad")}, (
        "mux has its own name still"
    )
    kept = [path.read_bytes() for path in (site.target / ".previous/files").iterdir()]
    assert kept == [b"new"]
    site.back()
    assert site.state == second


def test_the_same_bundle_again_is_no_new_version(site: Site) -> None:
    first = site.state
    site.load("b")
    site.load("b")
    site.back()
    assert site.state == first
    site.load("b")
    site.back()
    assert site.state == first, "a version that was loaded again after a rollback is after the same one"


def test_without_a_version_before_nothing_changes(site: Site) -> None:
    first = site.state
    done = site.run("--rollback")
    assert (done.returncode, "no version before" in done.stderr) == (3, True)
    assert "--allow-older" in done.stderr
    nowhere = site.run("--rollback", "--to", "elsewhere")
    assert (nowhere.returncode, "nothing was loaded" in nowhere.stderr) == (3, True)
    assert site.state == first
    assert not (site.folder / "elsewhere").exists()


@pytest.mark.parametrize("kind", ["image", "name", "file"])
def test_what_is_gone_or_somebody_elses_is_said_and_nothing_changes(site: Site, kind: str) -> None:
    site.load("b")
    asr = "wb-bundle/asr:slim-cpu"
    if kind == "image":
        [held] = [n for n in site.engine.names if n.startswith("wb-bundle/asr:previous-")]
        del site.engine.held[site.engine.names[held]]
    elif kind == "name":
        site.engine.own(asr)
    else:
        for path in (site.target / ".previous/files").iterdir():
            path.unlink()
    second = site.state
    done = site.run("--rollback")
    assert done.returncode == (5 if kind == "name" else 3)
    assert {"image": "no longer what wb-bundle/asr", "name": "somebody else", "file": "licences/"}[kind] in done.stderr
    assert site.state == second
    assert not (site.target / ".rollback.json").exists()


def test_an_image_that_a_job_names_stays_through_all_of_it(site: Site) -> None:
    """Its job's folder has its id: neither a third bundle nor a rollback removes it."""
    old = site.names["wb-bundle/asr:slim-cpu"]
    jobs = site.target / "jobs"
    (jobs / "j1").mkdir(parents=True)
    (jobs / "j1/compose.yaml").write_text(json.dumps({"image": old}))
    site.engine.tag(old, kept_name("wb-bundle/asr", jobs, old))
    site.load("b")
    site.load("c")
    site.back()
    site.back()
    assert old in site.engine.held


def test_a_rollback_that_can_no_longer_be_finished_is_given_up_by_hand(site: Site) -> None:
    """Cut short, and then an image went: every load.py says so, with the file to remove; then it loads again."""
    site.load("b")
    killed = next(
        k
        for k in range(3, 60, 3)
        if site.run("--rollback", python=("-c", KILLED, str(k))).returncode
        and (site.target / ".rollback.json").exists()
    )
    assert killed
    [held] = [n for n in site.engine.names if n.startswith("wb-bundle/asr:previous-")]
    del site.engine.held[site.engine.names[held]]
    for words in (("--rollback",), ("--run", "none.wav"), ("--allow-unsigned",)):
        done = site.run(*words)
        assert (done.returncode, ".rollback.json to give it up" in done.stderr) == (3, True), done.stderr
    (site.target / ".rollback.json").unlink()
    site.load("a", "--allow-older")
    assert set(site.names) >= {"wb-bundle/asr:slim-cpu"}


def test_a_file_that_somebody_had_removed_stays_away(site: Site) -> None:
    """Its folder, too: another file of its name, further up, is not taken for it."""
    shutil.rmtree(site.target / "licences")
    (site.target / "m.md").write_bytes(b"mine")
    site.load("b")
    site.back()
    assert not (site.target / "licences/m.md").exists()
    assert (site.target / "m.md").read_bytes() == b"mine"
    site.back()
    assert (site.target / "licences/m.md").read_bytes() == b"new"


def test_a_link_on_the_way_to_a_file_is_not_followed(site: Site, tmp_path: Path) -> None:
    """Neither to keep what lies behind it, nor to put something there: nothing is changed."""
    site.load("b")
    elsewhere = tmp_path / "elsewhere"
    (site.target / "licences").rename(elsewhere)
    (site.target / "licences").symlink_to(elsewhere)
    names, files = site.names, {p.name: p.read_bytes() for p in elsewhere.iterdir()}
    done = site.run("--rollback")
    assert (done.returncode, "is a link" in done.stderr) == (3, True)
    assert (site.names, {p.name: p.read_bytes() for p in elsewhere.iterdir()}) == (names, files)
    assert not (site.target / ".rollback.json").exists()


def test_a_folder_on_the_stick_rolls_nothing_back(site: Site, tmp_path: Path) -> None:
    """Whoever prepared it decided what its journal and its version before say."""
    site.load("b")
    stick = tmp_path / "stick"
    shutil.copytree(site.folder / "a", stick / "a")
    shutil.copytree(site.target, stick / "whisperbake")
    mine, before = (json.loads((stick / "whisperbake/inventory.json").read_bytes()) for _ in range(2))
    before["base"] = "0" * 64
    journal = {"schema": 1, "at": "2026-11-28T08:00:00Z", "from": mine, "to": before}
    (stick / "whisperbake/.rollback.json").write_text(json.dumps(journal))
    names, files = site.names, (stick / "whisperbake/inventory.json").read_bytes()
    for words in (("--rollback",), ("--run", "none.wav")):
        done = site.run(*words, "--to", str(stick / "whisperbake"), loader="stick/a")
        assert done.returncode == 3, done.stderr
    assert (site.names, (stick / "whisperbake/inventory.json").read_bytes()) == (names, files)


def test_no_bundle_gets_a_name_that_holds_a_version(site: Site) -> None:
    """A sender could have the next load remove it, or keep another image alive."""
    from builder.receiver import inventory as checking

    site.load("b")
    [held] = [n for n in site.engine.names if n.startswith("wb-bundle/asr:previous-")]
    assert checking.RESERVED.fullmatch(held)


def test_a_kill_leaves_all_old_or_all_new(site: Site) -> None:
    """kill -9 at anything that it does: the inventory is one of both, and whoever comes next finishes what was decided."""
    first = site.state
    site.load("b")
    second = site.state
    at, outcomes = 1, set()
    while True:
        done = site.run("--rollback", python=("-c", KILLED, str(at)))
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        inventory = (site.target / "inventory.json").read_bytes()
        assert inventory in (first["inventory"], second["inventory"])
        decided = (site.target / ".rollback.json").exists()
        if decided:  # a run of recordings finishes it, before it finds that there is no example
            site.run("--run", "none.wav")
            assert not (site.target / ".rollback.json").exists()
        outcomes.add((decided, inventory == first["inventory"]))
        assert site.state == (first if decided or inventory == first["inventory"] else second), at
        if site.state == first:
            site.back()
        assert site.state == second
        at += 3
    assert outcomes >= {(False, False), (True, False), (True, True)}, "before it, in it, after it"
    assert site.state == first
    site.back()
    assert site.state == second, "nothing of it was lost"


def test_a_load_that_was_killed_leaves_the_version_before(site: Site) -> None:
    """While the third goes in, the first is given up only when the third is there."""
    site.load("b")
    second, at = site.state, 20
    while True:
        words = ("--allow-unsigned", "--no-accept")
        done = site.run(*words, python=("-c", KILLED, str(at)), loader="c")
        if done.returncode == 0:
            break
        at += 7
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert json.loads(site.state["inventory"])["made"]["created"].startswith("2026-11-03")
    site.back()
    assert site.state == second


def test_an_inventory_of_before_makes_the_next_bundle_smaller(site: Site) -> None:
    """After a rollback it is what the sender's --base takes: its fingerprint is that of the version."""
    mine = json.loads(site.state["inventory"])
    site.load("b")
    site.back()
    assert fingerprint_of(mine) == fingerprint_of(json.loads(site.state["inventory"]))
