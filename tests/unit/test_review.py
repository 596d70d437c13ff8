"""make outdated and make audit: what is held back has a reason, and an advisory is matched as OSV means it."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("review", ROOT / "requirements" / "review.py")
assert SPEC is not None
assert SPEC.loader is not None
review = importlib.util.module_from_spec(SPEC)
sys.modules["review"] = review
SPEC.loader.exec_module(review)

LOCKED = {pin.package for pin in review.pins()}


def bounded() -> set[str]:
    """Packages that a .in file or pyproject.toml gives an upper bound, or one version alone."""
    files = [*(ROOT / "stages").glob("requirements-*.in"), *(ROOT / "stages").glob("*/requirements-*.in")]
    lines = [line for path in files for line in path.read_text().splitlines() if not line.startswith(("#", "-r"))]
    lines += re.findall(r'^    "(.*?)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    found = [(re.match(r"[A-Za-z0-9_.-]+", line), line.split(";")[0].split("#")[0]) for line in lines]
    return {re.sub(r"[-_.]+", "-", name[0]).lower() for name, want in found if name and re.search(r"<|==", want)}


def test_what_is_held_back_has_a_reason() -> None:
    """And no reason is left of a package or an advisory that is gone."""
    said = review.reasons()
    ours = {"whisperx", "pyannote-audio"}  # the newest: the code of full stages is written against one version
    assert {name for name in bounded() - ours if not any(fnmatch(name, held) for held in said["held"])} == set()
    assert {held for held in said["held"] if not any(fnmatch(name, held) for name in LOCKED)} == set()
    named = {advisory for _, advisory, _ in review.from_records(review.pins(), review.read(review.OURS))}
    assert named == set(said["accepted"])


def test_a_row_says_what_holds_a_version_back() -> None:
    """The reason in held.yaml, the last version for a Python, or nothing."""

    def why(package: str, locked: str, there: list[tuple[str, str]], marker: str = "") -> list[str]:
        pin = review.Pin(package=package, locked=locked, marker=marker, file="requirements/dev.txt")
        return [row.why for row in review.outdated([pin], {package: there})]

    last = ("1.0", "python_full_version < '3.11'")
    assert why("torch", "2.8.0", [("2.9", "")]) == [review.reasons()["held"]["torch"]]
    assert why("a", "1.0", [last, ("2.0", "")], last[1]) == ["the last for Python 3.10"]
    assert why("a", "1.0", [last, ("2.0", "")]) == [
        "the last for Python 3.10, and this lock has one version for every Python"
    ]
    assert why("a", "1.5", [last, ("2.0", "")]) == [""]
    assert why("a", "2.0", [last, ("2.0", "")]) == []
    assert why("a", "10.0", [("9.0", "")]) == []


def record(*events: dict[str, str], name: str = "A_b", **more: Any) -> dict[str, Any]:
    package = {"ecosystem": "PyPI", "name": name}
    return {
        "id": "X-1",
        "affected": [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}],
        **more,
    }


@pytest.mark.parametrize(
    ("events", "version", "fix"),
    [
        ([{"introduced": "0"}, {"fixed": "1.10"}], "1.9", "1.10"),
        ([{"introduced": "0"}, {"fixed": "1.10"}], "1.10", None),
        ([{"introduced": "1.2"}], "1.1", None),
        ([{"introduced": "1.2"}], "1.2", ""),
        ([{"introduced": "0"}, {"last_affected": "2"}], "2", ""),
        ([{"introduced": "0"}, {"last_affected": "2"}], "2.1", None),
        ([{"introduced": "0"}, {"fixed": "1"}, {"introduced": "2"}, {"fixed": "2.5"}], "1.5", None),
        ([{"introduced": "0"}, {"fixed": "1"}, {"introduced": "2"}, {"fixed": "2.5"}], "2.4", "2.5"),
    ],
)
def test_an_advisory_is_about_the_versions_of_its_ranges(
    events: list[dict[str, str]], version: str, fix: str | None
) -> None:
    pin = review.Pin(package="a-b", locked=version, marker="", file="f")
    assert [found[2] for found in review.from_records([pin], [record(*events)])] == ([] if fix is None else [fix])
    assert list(review.from_records([pin], [record(*events, withdrawn="2026-01-01"), record(*events, name="c")])) == []


def test_advisories_come_as_a_folder_a_zip_or_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An advisory about a pin that nobody explained is exit 1."""
    advisory = record({"introduced": "0"}, name="pyyaml", modified="2026-05-06T07:08:09Z")
    folder = tmp_path / "vulns" / "pyyaml"
    folder.mkdir(parents=True)
    (folder / "X-1.json").write_text(json.dumps(advisory))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(folder / "X-1.json", "X-1.json")
    for place in (tmp_path / "vulns", tmp_path / "all.zip", folder / "X-1.json"):
        assert review.main(["audit", "--advisories", str(place), "--json"]) == 1
        said = json.loads(capsys.readouterr().out)
        assert [f["why"] for f in said["findings"] if f["package"] == "pyyaml"] == [""]
        assert said["source"].startswith("1 advisories, the latest of 2026-05-06")
    (folder / "X-1.json").write_text("[]")
    assert review.main(["audit", "--advisories", str(folder)]) == 0
