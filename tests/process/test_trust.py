"""Whom a loader believes, and whose images it leaves alone: each by what the user's engine has afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from builder.core.bundle import plan as core
from builder.edges.bundle import folder as edge
from builder.edges.bundle import signing
from builder.edges.bundle.part_writer import PartSource
from tests import bundles
from tests.small_engine import SmallEngine, small_engine

NAME = f"{bundles.REGISTRY}/asr:slim-cpu"
DAYS = [f"2026-11-{day}T08:00:00Z" for day in (23, 25, 27)]


@dataclass
class Desk:
    """A user with an engine, a home, and the keys of two senders."""

    folder: Path
    engine: SmallEngine
    home: Path | None

    def key(self, sender: str = "sender") -> Path:
        """A sender's public key, by another way than the bundle."""
        private = self.folder / "keys" / sender
        if not private.exists():
            signing.make_keys(private, private.with_suffix(".pem"))
        return private.with_suffix(".pem")

    def bundle(self, name: str, code: str = "1", *, sender: str | None = "sender", day: int = 1) -> Path:
        """A signed bundle of one image, made on one of the days."""
        folder = self.folder / name
        made = bundles.Set()
        made.image("asr", [made.layer({"opt/asr.py": code.encode()})])
        plan = core.dated(bundles.planned(made, made={}), DAYS[day])
        raw = edge.create(
            folder, plan, PartSource(open=made.open), texts={"load.py": edge.loader()}, on_progress=lambda _: None
        )
        if sender:
            self.key(sender)
            (folder / edge.SIGNATURE).write_bytes(signing.sign(self.folder / "keys" / sender, raw))
        return folder

    def load(self, bundle: Path, *words: str | Path, isolated: bool = True) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "DOCKER_HOST": self.engine.host}
        done = subprocess.run(
            [sys.executable, *(["-I"] if isolated else []), str(bundle / "load.py"), *map(str, words)],
            env={**env, **({"HOME": str(self.home)} if self.home else {})},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "home").mkdir()
    with small_engine(tmp_path) as engine:
        yield Desk(tmp_path, engine, tmp_path / "home")


@pytest.fixture(params=["home", "no home"])
def either(desk: Desk, request: pytest.FixtureRequest) -> Desk:
    """Whether or not the environment names a home."""
    return desk if request.param == "home" else replace(desk, home=None)


def test_a_bundle_that_nobody_vouches_for_is_not_loaded(desk: Desk) -> None:
    """Neither one without a signature nor one whose signature nobody checks; what to type is said, and works."""
    for name, sender in (("unsigned", None), ("signed", "sender")):
        bundle = desk.bundle(name, name, sender=sender)
        done = desk.load(bundle)
        assert (done.returncode, desk.engine.names) == (5, {}), done.stderr
        assert "nobody vouches" in done.stderr
        assert all(word in done.stderr for word in ("--key", "--fingerprint", "--allow-unsigned"))
        assert not (desk.folder / "whisperbake").exists()
    assert desk.load(desk.folder / "unsigned", "--native").returncode == 5
    assert desk.load(desk.folder / "unsigned", "--allow-unsigned").returncode == 0
    assert list(desk.engine.names) == [NAME]


def test_a_fingerprint_vouches(desk: Desk) -> None:
    bundle = desk.bundle("bundle", sender=None)
    fingerprint, _ = edge.read_with_fingerprint(bundle)
    assert desk.load(bundle, "--fingerprint", "0" * 16).returncode == 5
    assert desk.load(bundle, "--fingerprint", fingerprint[:15]).returncode == 2
    assert desk.load(bundle, "--fingerprint", f"{fingerprint[:16]} please").returncode == 2
    assert desk.engine.names == {}
    assert desk.load(bundle, "--fingerprint", fingerprint[:16].upper()).returncode == 0


def test_a_name_of_somebody_elses_image_is_not_taken(desk: Desk) -> None:
    """Exit 5 before a byte is sent: the user's image keeps its name, and nothing of the target changes."""
    mine = desk.engine.own(NAME)
    done = desk.load(desk.bundle("bundle"), "--key", desk.key())
    assert done.returncode == 5
    assert NAME in done.stderr
    assert "nothing was changed" in done.stderr
    assert desk.engine.names == {NAME: mine}
    assert not [asked for asked in desk.engine.asked if not asked.startswith("GET")]
    assert not (desk.folder / "whisperbake/inventory.json").exists()


def test_what_the_sender_gave_out_is_replaced_and_removed_and_nothing_else(either: Desk) -> None:
    """The version before stays. A name that the user has moved to an image of the user's own isn't the sender's any more."""
    assert either.load(either.bundle("first", "1", day=0), "--key", either.key()).returncode == 0
    first = either.engine.names[NAME]
    assert either.load(either.bundle("second", "2")).returncode == 0, "the key is remembered"
    assert (either.engine.removed, first in either.engine.held) == ([], True)
    either.engine.tag(either.engine.names[NAME], "mine/kept:1")
    second = either.engine.names[NAME]
    assert either.load(either.bundle("third", "3", day=2)).returncode == 0
    assert either.engine.names["mine/kept:1"] == second, "another name holds it"
    assert either.engine.removed == [first]
    mine = either.engine.own(NAME)
    done = either.load(either.bundle("fourth", "4", day=2))
    assert (done.returncode, either.engine.names[NAME]) == (5, mine), done.stderr
    assert either.engine.removed == [first]


def test_the_same_image_built_here_is_no_stranger(desk: Desk) -> None:
    """Of the same layers and settings under another id: a builder that tries its own bundle."""
    made = bundles.Set()
    image = made.image("asr", [made.layer({"opt/asr.py": b"1"})], Cmd=["x"])
    made.write(desk.folder / "bundle")
    config = json.loads(image.config)
    built = desk.engine.add(json.dumps({**config, "history": []}).encode(), image.name)
    done = desk.load(desk.folder / "bundle", "--allow-unsigned")
    assert done.returncode == 0, done.stderr
    assert built in desk.engine.held, "it lost its name, and is not the loader's to remove"
    desk.engine.add(json.dumps({**config, "config": {"Cmd": ["y"]}}).encode(), image.name)
    assert desk.load(desk.folder / "bundle", "--allow-unsigned").returncode == 5


def test_a_sender_has_no_claim_to_anothers_names(desk: Desk) -> None:
    """Unsigned bundles of before become the signer's; what was signed is nobody else's, unless the key is renewed."""
    assert desk.load(desk.bundle("unsigned", "0", sender=None), "--allow-unsigned").returncode == 0
    assert desk.load(desk.bundle("first", "1"), "--key", desk.key()).returncode == 0
    before = desk.engine.names
    other = desk.bundle("other", "2", sender="other")
    for words in ((), ("--allow-unsigned",), ("--key", desk.key("other"))):
        done = desk.load(other, *words)
        assert (done.returncode, desk.engine.names) == (5, before), done.stderr
    assert "--new-key" in done.stderr
    assert desk.load(other, "--new-key", desk.key("other")).returncode == 0
    assert desk.load(desk.bundle("last", "3")).returncode == 5, "the key before is not taken any more"


def test_a_signature_that_was_left_out_is_missed(desk: Desk) -> None:
    """After a key was given, and after a signed bundle was let in without one."""
    for words in (("--key", desk.key()), ("--allow-unsigned",)):
        target = f"target{len(words)}"
        assert desk.load(desk.bundle(target + "-a"), *words, "--to", target).returncode == 0
        stripped = desk.bundle(target + "-b", "2")
        (stripped / edge.SIGNATURE).unlink()
        done = desk.load(stripped, "--allow-unsigned", "--to", target)
        assert done.returncode == 5, done.stderr
        assert "not signed" in done.stderr
        assert "left out" in done.stderr


def test_another_folder_doesnt_forget_the_key_or_the_dates(either: Desk) -> None:
    """``--to``: what the user's machine remembers counts in every folder of that user's."""
    assert either.load(either.bundle("first", day=1), "--key", either.key(), "--to", "here").returncode == 0
    before = either.engine.names
    stranger = either.bundle("stranger", "2", sender="stranger", day=2)
    unsigned = either.bundle("unsigned", "3", sender=None, day=2)
    for n, bundle in enumerate((stranger, unsigned)):
        done = either.load(bundle, "--to", f"elsewhere{n}")
        assert (done.returncode, either.engine.names) == (5, before), done.stderr
    if either.home:
        assert either.load(unsigned, "--to", "elsewhere", "--allow-unsigned").returncode == 5
        assert either.load(stranger, "--to", "elsewhere", "--key", either.key("stranger")).returncode == 5
        older = either.load(either.bundle("older", "4", day=0), "--to", "elsewhere")
        assert (older.returncode, DAYS[1] in older.stderr) == (2, True), older.stderr
        assert either.engine.names == before
        newer = either.load(either.bundle("newer", "5", day=2), "--to", "elsewhere")
        assert newer.returncode == 0, newer.stderr


def test_going_back_is_said_even_where_it_is_meant(desk: Desk) -> None:
    assert desk.load(desk.bundle("first", day=1), "--key", desk.key()).returncode == 0
    older = desk.bundle("older", "2", day=0)
    assert desk.load(older).returncode == 2
    done = desk.load(older, "--allow-older")
    assert (done.returncode, f"warning: this bundle was made on {DAYS[0]}" in done.stderr) == (0, True), done.stderr


def test_a_folder_on_the_stick_vouches_for_nothing(either: Desk) -> None:
    """A target that came with the bundle has a key, and an inventory that claims the user's image."""
    mine = either.engine.own(NAME)
    bundle = either.bundle("bundle", sender="stranger")
    target = (either.folder if either.home else bundle) / "whisperbake"
    target.mkdir()
    shutil.copy(either.key("stranger"), target / "sender.pem")
    claimed = edge.read_inventory(bundle)
    claimed["kind"] = "receiver"
    claimed["images"][0]["id"] = mine
    (target / "inventory.json").write_text(json.dumps(claimed))
    for words in ((), ("--allow-unsigned",)):
        done = either.load(bundle, "--to", target, *words)
        assert (done.returncode, either.engine.names) == (5, {NAME: mine}), done.stderr


def test_a_module_beside_load_py_is_not_imported(desk: Desk) -> None:
    """Whoever compared the sha256 of load.py by hand runs load.py, and nothing else that lies on the stick."""
    bundle = desk.bundle("bundle")
    for module in ("argparse", "json", "hashlib", "dataclasses"):
        (bundle / f"{module}.py").write_text("open('owned', 'w')\n")
    for folder in (desk.folder, bundle):
        done = subprocess.run(
            [sys.executable, str(bundle / "load.py"), "--check"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not (folder / "owned").exists()


def test_the_bytes_that_were_signed_are_the_bytes_that_are_used(desk: Desk) -> None:
    """Two inventories take turns under one name: whichever is read, it is loaded only if it is the signed one."""
    good, evil = desk.bundle("good"), desk.bundle("evil", "2", sender=None)
    stick = desk.folder / "stick"
    shutil.copytree(good, stick)
    shutil.copy(good / edge.SIGNATURE, evil / edge.SIGNATURE)
    for name in ("inventory.json", "whisperbake.tar.000"):
        for source in (good, evil):
            os.link(source / name, stick / f"{source.name}-{name}")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for which in ("evil", "good"):
                for name in ("inventory.json", "whisperbake.tar.000"):
                    os.link(stick / f"{which}-{name}", stick / "new")
                    (stick / "new").replace(stick / name)

    thread = threading.Thread(target=swap)
    thread.start()
    signed = json.loads((good / "inventory.json").read_bytes())["images"][0]["config"]
    try:
        for _ in range(6):
            desk.load(stick, "--key", desk.key())
            assert set(desk.engine.names.values()) <= {signed}
    finally:
        stop.set()
        thread.join()


def test_links_in_a_target_lead_nowhere(desk: Desk) -> None:
    """Everything that the loader writes there: its lock, key, inventory, log, record, and what it unpacks."""
    outside = desk.folder / "outside"
    outside.mkdir()
    names = [".lock", "sender.pem", ".sender.pem.part", ".inventory.json.part", "loaded.jsonl", ".received.json.part"]
    names += [".incoming", "received.json"]
    for name in names:
        target = desk.folder / f"target{name}"
        target.mkdir()
        victim = outside / name.strip(".")
        victim.write_text("mine")
        (target / name).symlink_to(victim)
        bundle = desk.folder / "bundle"
        if not bundle.exists():
            desk.bundle("bundle")
        desk.load(bundle, "--key", desk.key(), "--to", target)
        assert victim.read_text() == "mine", name
    assert sorted(p.name for p in outside.iterdir()) == sorted(name.strip(".") for name in names)
