"""What a new pin changes, in words; and what the hub's protocol says of a pin."""

from __future__ import annotations

import hashlib

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
