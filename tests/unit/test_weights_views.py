"""What the commands about weights print: JSON for scripts, lines for people."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from builder.core.terms import Purpose, Variant
from builder.core.weights.groups import LeftOut
from builder.core.weights.listing import ListedModel
from builder.core.weights.lock_diff import PinChange, PlannedPin
from builder.core.weights.model import FilePin, HubSource, Model, Pin
from builder.edges.weights.fetch import Fetched
from builder.edges.weights.importing import ImportedFile, ImportResult
from builder.edges.weights.prune import Leftover
from builder.edges.weights.store import Problem
from builder.errors import IntegrityError
from builder.views import weights
from builder.workflows.weights import (
    ModelsExported,
    ModelsFetched,
    ModelsImported,
    ModelsListed,
    ModelsLocked,
    ModelsPruned,
    ModelsServed,
    ModelsVerified,
    VerifiedModel,
)

PIN = Pin(revision="a" * 40, files=(FilePin(path="f", size=1500, sha256="0" * 64),), records=("hub", "index"))
OPEN = Model(id="open", purpose=Purpose.VAD, title="Open", licence="MIT", target="onnx/open")
CLOSED = Model(
    id="closed",
    purpose=Purpose.ASR,
    title="Closed",
    licence="CC-BY-NC-4.0",
    commercial=False,
    gated=True,
    page="https://page",
    languages=("en", "de"),
    variants=(Variant.FULL,),
    sources=(HubSource(repo="org/closed"),),
)


def listed(model: Model, pin: Pin | None = PIN, missing: int = 0, **used: tuple[str, ...]) -> ListedModel:
    uses = {"presets": (), "images": (), **used}
    return ListedModel(model=model, pin=pin, missing=missing, presets=uses["presets"], images=uses["images"])


def test_the_list() -> None:
    """Every key by its value; a model without a pin has no size, revision or records."""
    found = ModelsListed(models=(listed(CLOSED, presets=("fast", "high"), images=("asr",)), listed(OPEN, pin=None)))
    closed, open_ = weights.LIST.data(found)
    assert closed == {
        "id": "closed",
        "purpose": "asr",
        "group": "speech",
        "title": "Closed",
        "size": 1500,
        "licence": "CC-BY-NC-4.0",
        "commercial": False,
        "gated": True,
        "page": "https://page",
        "languages": ["en", "de"],
        "repo": "org/closed",
        "revision": "a" * 40,
        "pinned": True,
        "records": ["hub", "index"],
        "present": True,
        "begun": False,
        "variants": ["full"],
        "presets": ["fast", "high"],
        "images": ["asr"],
    }
    unpinned = {"size": None, "revision": None, "pinned": False, "records": [], "present": False, "begun": False}
    assert {key: open_[key] for key in unpinned} == unpinned
    assert weights.LIST.text(found).splitlines() == [
        "MODEL   GROUP   PURPOSE  SIZE    LICENCE                                PINNED  PRESENT  PRESETS    IMAGES",
        "closed  speech  asr      1.5 kB  CC-BY-NC-4.0 (non-commercial) (gated)  yes     yes      fast high  asr",
        "open    speech  vad      ?       MIT                                    no      no       -          -",
    ]


def test_a_model_that_is_here_in_part() -> None:
    """Partly, in a table; begun, for scripts."""
    two = Pin(revision="v", files=tuple(FilePin(path=p, size=1, sha256="0" * 64) for p in "ab"))
    found = ModelsListed(models=(listed(OPEN, pin=two, missing=1),))
    assert weights.LIST.text(found).split()[-3:] == ["partly", "-", "-"]
    assert weights.LIST.data(found)[0]["begun"]


def test_a_fetch() -> None:
    """Fetched, present, skipped: one line each."""
    fetched = Fetched(model="a", source="hub org/a", size=2_000_000, seconds=61.2)
    found = ModelsFetched(
        fetched=(fetched,), present=("b",), skipped=("c",), left_out=(LeftOut(model="d", why="not pinned"),)
    )
    assert weights.FETCH.text(found).splitlines() == [
        "a: 2.0 MB from hub org/a in 1:01",
        "b: there already",
        "c: skipped, gated (python3 build.py models fetch c says what it wants)",
        "d: left out, not pinned",
    ]
    assert weights.FETCH.data(found) == {
        "fetched": [{"model": "a", "source": "hub org/a", "size": 2_000_000, "seconds": 61.2}],
        "present": ["b"],
        "skipped": ["c"],
        "left_out": [{"model": "d", "why": "not pinned"}],
    }


def test_a_verification() -> None:
    """Each problem of a model, and where the file is now."""
    problems = (
        Problem(path=Path("/s/f"), what="not there"),
        Problem(path=Path("/s/g"), what="its sha256 is not the lock's", moved_to=Path("/q/g")),
    )
    models = (VerifiedModel(model="a", problems=()), VerifiedModel(model="b", problems=problems))
    found = ModelsVerified(models=models, failure=IntegrityError("2 files"))
    assert weights.VERIFY.text(found).splitlines() == [
        "MODEL  FOUND",
        "a      as models.lock says",
        "b      f: not there; g: its sha256 is not the lock's, moved to /q/g",
    ]
    assert weights.VERIFY.data(found) == [
        {"id": "a", "ok": True, "problems": []},
        {
            "id": "b",
            "ok": False,
            "problems": [
                {"file": "f", "what": "not there", "moved_to": None},
                {"file": "g", "what": "its sha256 is not the lock's", "moved_to": "/q/g"},
            ],
        },
    ]
    assert weights.VERIFY.text(ModelsVerified(models=(), failure=None)) == "no models here"


def imported(ignored: int = 1) -> ModelsImported:
    result = ImportResult(
        took=[ImportedFile(path="/s/x", model="a", file="f", size=1500)],
        present=[ImportedFile(path="/s/y", model="b", file="g", size=3)],
        ignored=[(f"/s/{k}", "why") for k in range(ignored)],
    )
    return ModelsImported(result=result, missing={"a": (), "b": ("h", "i")}, failure=None)


def test_an_import() -> None:
    """What became of every file, then what each model still lacks."""
    assert weights.IMPORT.text(imported()).splitlines() == [
        "took /s/x as a f (1.5 kB)",
        "there already: /s/y is b g",
        "ignored /s/0: why",
        "a: whole",
        "b: still lacks h, i",
    ]
    assert weights.IMPORT.data(imported()) == {
        "took": [{"path": "/s/x", "model": "a", "file": "f", "size": 1500}],
        "there": [{"path": "/s/y", "model": "b", "file": "g"}],
        "ignored": [{"path": "/s/0", "why": "why"}],
        "models": {"a": [], "b": ["h", "i"]},
    }


def test_an_import_of_a_large_folder_shows_the_first_ignored_files() -> None:
    """Twenty lines for people, all for scripts."""
    lines = weights.IMPORT.text(imported(21)).splitlines()
    assert len([line for line in lines if line.startswith("ignored ")]) == 20
    assert "… and 1 more ignored  (--json lists them)" in lines
    assert len(weights.IMPORT.data(imported(21))["ignored"]) == 21
    assert not any("more ignored" in line for line in weights.IMPORT.text(imported(20)).splitlines())


def test_an_export() -> None:
    """Each model with the terms under which it may be passed on."""
    found = ModelsExported(models=((OPEN, PIN), (CLOSED, PIN)), files=2, size=3000, folder=Path("/media/stick"))
    assert weights.EXPORT.text(found).splitlines() == [
        "open: 1.5 kB, MIT",
        "closed: 1.5 kB, CC-BY-NC-4.0, not for commercial use, gated: who gets it must have accepted its licence",
        "2 files, 3.0 kB written to /media/stick",
        "there: python3 build.py models import /media/stick",
    ]
    assert weights.EXPORT.data(found) == {
        "models": ["open", "closed"],
        "files": 2,
        "bytes": 3000,
        "folder": "/media/stick",
    }


def pruned(*, removed: int, dry_run: bool = False) -> ModelsPruned:
    leftovers = (
        Leftover(path=Path("/s/hub/old"), why="an old revision", size=1000),
        Leftover(path=Path("/s/.incoming/x"), why="begun, for no pin", size=500),
    )
    return ModelsPruned(
        store=Path("/s"),
        leftovers=leftovers,
        removed=leftovers[:removed],
        foreign=(Path("/s/hub/models--some--body"),),
        dry_run=dry_run,
    )


def test_a_prune() -> None:
    """What no pin needs, whose repositories stay, what could not be removed, what it freed."""
    assert weights.PRUNE.text(pruned(removed=1)).splitlines() == [
        "WHAT         SIZE    WHY",
        "hub/old      1.0 kB  an old revision",
        ".incoming/x  500 B   begun, for no pin",
        "left alone, not in models.yaml: hub/models--some--body",
        "left: .incoming/x is in use or can't be removed",
        "1.0 kB freed",
    ]
    assert weights.PRUNE.data(pruned(removed=1)) == {
        "removed": [{"path": "/s/hub/old", "why": "an old revision", "size": 1000}],
        "bytes": 1000,
        "dry_run": False,
        "foreign": ["/s/hub/models--some--body"],
    }
    assert weights.PRUNE.text(pruned(removed=2, dry_run=True)).splitlines()[-1] == "1.5 kB would be freed  (--dry-run)"
    assert weights.PRUNE.data(pruned(removed=2, dry_run=True))["dry_run"] is True
    nothing = ModelsPruned(store=Path("/s"), leftovers=(), removed=(), foreign=(), dry_run=False)
    assert weights.PRUNE.text(nothing) == "0 B freed"


CHANGE = PinChange(
    model=OPEN,
    before=None,
    after=Pin(revision="b" * 40, files=PIN.files, licence="mit", layers=MappingProxyType({})),
    lines=("open: not pinned → bbb", "  + f"),
    lowered=("reason",),
)


def locked(*entries: PlannedPin | PinChange, dry_run: bool = False, failed: bool = False) -> ModelsLocked:
    return ModelsLocked(entries=entries, dry_run=dry_run, failure=IntegrityError("x") if failed else None)


def test_a_lock() -> None:
    """Pins that stay and answers of the hub, in the order of the question; scripts get the answers."""
    kept = PlannedPin(model=CLOSED, before=PIN, ask=False)
    found = locked(kept, CHANGE, dry_run=True)
    assert weights.LOCK.text(found).splitlines() == [
        "closed: pinned already at aaaaaaaaaaaa  (--update closed asks again)",
        "open: not pinned → bbb",
        "  + f",
        "models.lock is as it was (--dry-run)",
    ]
    assert weights.LOCK.data(found) == [
        {
            "id": "open",
            "before": None,
            "after": "b" * 40,
            "size": 1500,
            "licence": "mit",
            "changes": ["  + f"],
            "lowered": ["reason"],
        }
    ]


def test_a_lock_with_nothing_to_do_says_so() -> None:
    """Unless it failed: then the error says what happened."""
    assert weights.LOCK.text(locked()) == "every model that has a repository is pinned  (--update MODEL asks again)"
    assert weights.LOCK.text(locked(failed=True)) == ""
    assert weights.LOCK.data(locked()) == []


def test_a_served_store() -> None:
    """What went over the line until Ctrl-C."""
    found = ModelsServed(address="http://h:1", models=("a",), requests=3, size=1500)
    assert weights.SERVE.text(found) == "served 1.5 kB in 3 answers"
    assert weights.SERVE.data(found) == {"address": "http://h:1", "models": ["a"], "requests": 3, "bytes": 1500}


def test_each_view_has_its_command_and_just_the_keys_of_its_shape() -> None:
    """docs/json.md is generated from the shapes: a key that only one side has would be a false promise."""
    shown = {
        weights.LIST: ModelsListed(models=(listed(CLOSED),)),
        weights.FETCH: ModelsFetched(fetched=(), present=(), skipped=()),
        weights.VERIFY: ModelsVerified(models=(VerifiedModel(model="a", problems=()),), failure=None),
        weights.IMPORT: imported(),
        weights.EXPORT: ModelsExported(models=(), files=0, size=0, folder=Path("/x")),
        weights.PRUNE: pruned(removed=0),
        weights.LOCK: locked(CHANGE),
        weights.SERVE: ModelsServed(address="", models=(), requests=0, size=0),
    }
    commands = ["list", "fetch", "verify", "import", "export", "prune", "lock", "serve"]
    assert [view.command for view in shown] == [f"models {name}" for name in commands]
    for view, found in shown.items():
        data = view.data(found)  # type: ignore[arg-type]
        shape, row = (view.shape.__args__[0], data[0]) if isinstance(data, list) else (view.shape, data)
        assert list(row) == list(shape.__annotations__), view.command
