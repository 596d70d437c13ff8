"""What a new pin changes, in words; and what the hub's protocol says of a pin."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from builder.core.terms import Purpose
from builder.core.weights import hub_api, lock_diff
from builder.core.weights.model import FilePin, HubSource, Model, Pin

OLD, NEW = "a" * 40, "b" * 40
MODEL = Model(id="m", purpose=Purpose.ASR, title="t", licence="MIT", sources=(HubSource(repo="o/n"),))


def pin(revision: str, licence: str = "", **files: bytes) -> Pin:
    made = (
        FilePin(path=n.replace("__", "/"), size=len(d), sha256=hashlib.sha256(d).hexdigest()) for n, d in files.items()
    )
    return Pin(revision=revision, files=tuple(made), licence=licence)


def test_each_file_that_changes_is_one_line() -> None:
    """Added, removed, changed; what stays is not shown."""
    lines = lock_diff.changes(MODEL, pin(OLD, a=b"1", b=b"2", c=b"3"), pin(NEW, a=b"1", b=b"22", d=b"4"))
    assert lines[0] == "m: aaaaaaaaaaaa → bbbbbbbbbbbb, 4 B, 3 files"
    assert [line.split()[:2] for line in lines[1:]] == [["~", "b"], ["-", "c"], ["+", "d"]]
    assert lines[1].split() == ["~", "b", "1", "B", "d4735e3a…", "→", "2", "B", "785f3ec7…"]
    assert lock_diff.changes(MODEL, None, pin(NEW, a=b"1"))[0].startswith("m: not pinned → ")
    assert lock_diff.changes(MODEL, pin(NEW, a=b"1"), pin(NEW, a=b"1")) == ["m: bbbbbbbbbbbb, 1 B, 1 files, unchanged"]


def test_a_licence_is_compared_as_people_write_it() -> None:
    """SPDX here, the hub's short names there; only another licence is a line."""
    assert len(lock_diff.changes(MODEL, None, pin(NEW, licence="mit", a=b"1"))) == 2
    assert "models.yaml says MIT" in lock_diff.changes(MODEL, None, pin(NEW, licence="apache-2.0", a=b"1"))[-1]


def test_what_is_a_step_back() -> None:
    """Forward in the history is fine, and so is the first pin; an unknown past is not."""
    before, after = pin(OLD, a=b"1"), pin(NEW, a=b"2")
    assert lock_diff.lowered(None, after, None) == []
    assert lock_diff.lowered(before, after, [NEW, OLD]) == []
    assert lock_diff.lowered(before, before, None) == []
    assert len(lock_diff.lowered(before, after, [NEW])) == len(lock_diff.lowered(before, after, None)) == 1
    assert lock_diff.lowered(pin(OLD, a=b"1", b=b"2"), after, [NEW, OLD]) == ["b is gone"]


def test_a_pointer_is_what_git_lfs_would_write() -> None:
    """Its length and git's id are known for a file that git-lfs made: 12 bytes, sha256 of "hello world\\n"."""
    file = pin(NEW, f=b"hello world\n").files[0]
    data = hub_api.pointer(file)
    assert data.decode().splitlines() == [
        "version https://git-lfs.github.com/spec/v1",
        "oid sha256:a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447",
        "size 12",
    ]
    weights = FilePin(
        path="weights.safetensors",
        size=1613977612,
        sha256="951ed3fc1203e6a62467abb2144a96ce7eafca8fa77e3704fdb8635ff3e7f8a6",
    )
    assert hub_api.git_id("blob", hub_api.pointer(weights)) == "26b12d9fb292a7bee72610f6e7e2ec84225feab7"
    assert hub_api.git_id("blob", b"hello world\n") == "3b18e512dba79e4c8300dd08aeb37f8e728b8dad"


def test_a_tree_has_its_folders() -> None:
    """One level or all of them; an unknown folder is none."""
    found = pin(NEW, top=b"1", d__e__f=b"2", d__g=b"3")
    flat = hub_api.tree(found, "", recursive=False)
    assert flat is not None
    assert [(e["type"], e["path"]) for e in flat] == [("directory", "d"), ("file", "top")]
    deep = hub_api.tree(found, "", recursive=True)
    assert deep is not None
    assert {e["path"] for e in deep} == {"d", "d/e", "d/e/f", "d/g", "top"}
    assert [e["path"] for e in hub_api.tree(found, "d", recursive=False) or []] == ["d/e", "d/g"]
    assert hub_api.tree(found, "x", recursive=True) is None


REPO = {id_: Model(id=id_, purpose=Purpose.ASR, title="t", licence="MIT", sources=MODEL.sources) for id_ in "abc"}
NO_REPO = Model(id="u", purpose=Purpose.ASR, title="t", licence="MIT", target="t")


def planned(named: str = "", update: str = "", pinned: str = "a") -> list[tuple[str, bool, bool]]:
    """(model, pinned before, the hub is asked)."""
    models = {**REPO, "u": NO_REPO}
    plan = lock_diff.plan_pins(
        models,
        {id_: pin(OLD, a=b"1") for id_ in pinned},
        named=[models[id_] for id_ in named],
        update=[models[id_] for id_ in update],
    )
    return [(p.model.id, p.before is not None, p.ask) for p in plan]


def test_without_names_all_that_can_be_pinned_and_are_not() -> None:
    """A model without a repository can't be asked for; one that is pinned stays."""
    assert planned() == [("b", False, True), ("c", False, True)]
    assert planned(pinned="abc") == []


def test_a_pin_moves_only_when_its_update_is_asked_for() -> None:
    """Named alone, a pinned model isn't asked for; named twice, it is asked for once. An update alone pins nothing else."""
    assert planned(named="ab") == [("a", True, False), ("b", False, True)]
    assert planned(named="ba", update="a") == [("b", False, True), ("a", True, True)]
    assert planned(update="a") == [("a", True, True)]
    assert planned(named="u") == [("u", False, True)]


def test_the_same_files_keep_their_records_and_layers() -> None:
    """Another commit with the same bytes: what others said of these bytes stays true, each record once."""
    before = replace(pin(OLD, a=b"1"), records=("index", "hub"), layers={"rest": "sha256:0"})
    answer = replace(pin(NEW, a=b"1"), records=("hub", "mirror"))
    change = lock_diff.pin_change(MODEL, before, answer, [NEW, OLD])
    assert change.after.revision == NEW
    assert change.after.records == ("index", "hub", "mirror")
    assert change.after.layers == {"rest": "sha256:0"}
    assert (change.before, change.lowered) == (before, ())
    assert change.lines == ("m: aaaaaaaaaaaa → bbbbbbbbbbbb, 1 B, 1 files",)


def test_other_files_have_only_the_records_of_the_answer() -> None:
    """Nobody has confirmed the new bytes yet; and a step back says why."""
    before = replace(pin(OLD, a=b"1"), records=("index",), layers={"rest": "sha256:0"})
    answer = replace(pin(NEW, a=b"2"), records=("hub",))
    change = lock_diff.pin_change(MODEL, before, answer, None)
    assert change.after == answer
    assert change.lowered == (f"the pinned {OLD[:12]} may be newer than {NEW[:12]}",)
    first = lock_diff.pin_change(MODEL, None, answer, None)
    assert (first.before, first.after, first.lowered) == (None, answer, ())


def test_a_step_back_is_named_exactly() -> None:
    """Each reason in words, since --force overrides it."""
    before = pin(OLD, a=b"1", b=b"2")
    assert lock_diff.lowered(before, pin(NEW, a=b"1", b=b"2"), [NEW]) == [
        f"the pinned {OLD[:12]} is not among the commits that led to {NEW[:12]}"
    ]
    assert lock_diff.lowered(before, pin(OLD, a=b"9", b=b"2"), [OLD]) == ["a is another file under the same commit"]
    assert lock_diff.lowered(before, pin(OLD, a=b"1", b=b"2", c=b"3"), None) == []


def test_a_repository_as_hub_clients_read_it() -> None:
    """Name, commit, licence and files; sizes and LFS objects only when they are asked for."""
    found = replace(pin(NEW, f=b"hello world\n"), licence="mit")
    info = hub_api.model_info(MODEL, found, sizes=True)
    assert (info["id"], info["modelId"], info["author"], info["sha"]) == ("o/n", "o/n", "o", NEW)
    assert (info["private"], info["gated"], info["disabled"], info["usedStorage"]) == (False, False, False, 12)
    assert (info["tags"], info["cardData"]) == (["license:mit"], {"license": "mit"})
    assert (info["downloads"], info["likes"], len(info["_id"])) == (0, 0, 24)
    sha256 = found.files[0].sha256
    pointer = hub_api.pointer(found.files[0])
    assert info["siblings"] == [
        {
            "rfilename": "f",
            "size": 12,
            "blobId": hub_api.git_id("blob", pointer),
            "lfs": {"sha256": sha256, "size": 12, "pointerSize": len(pointer)},
        }
    ]
    assert hub_api.model_info(MODEL, found, sizes=False)["siblings"] == [{"rfilename": "f"}]


def test_a_repository_has_one_branch_at_the_pin() -> None:
    """Hub clients resolve main by it."""
    branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": NEW}
    assert hub_api.refs(pin(NEW, f=b"1")) == {"branches": [branch], "tags": [], "converts": []}


def test_an_entry_of_a_tree_is_complete() -> None:
    """A file is an LFS object; a folder's id changes with what is below it, and only with that."""
    found = pin(NEW, d__f=b"22", top=b"1")
    listed = {e["path"]: e for e in hub_api.tree(found, "", recursive=True) or []}
    file = found.files[0]
    pointer = hub_api.pointer(file)
    assert listed["d/f"] == {
        "type": "file",
        "oid": hub_api.git_id("blob", pointer),
        "size": 2,
        "path": "d/f",
        "lfs": {"oid": file.sha256, "size": 2, "pointerSize": len(pointer)},
    }
    assert (listed["d"]["type"], listed["d"]["size"], len(listed["d"]["oid"])) == ("directory", 0, 40)

    def folder_id(**files: bytes) -> str:
        return str((hub_api.tree(pin(NEW, **files), "", recursive=False) or [])[0]["oid"])

    assert folder_id(d__f=b"22", top=b"other") == listed["d"]["oid"]
    assert len({folder_id(d__f=b"22"), folder_id(d__f=b"23"), folder_id(d__g=b"22")}) == 3


def test_an_entry_of_the_shelf_has_what_another_machine_needs() -> None:
    """Also for models without a repository."""
    found = pin("v1", f=b"hello world\n")
    assert hub_api.shelf_entry(NO_REPO, found) == {
        "id": "u",
        "purpose": "asr",
        "title": "t",
        "licence": "MIT",
        "commercial": True,
        "repo": None,
        "target": "t",
        "revision": "v1",
        "size": 12,
        "files": [{"path": "f", "size": 12, "sha256": found.files[0].sha256}],
    }
