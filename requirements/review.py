"""What the locks have, against what there is (make outdated) and against advisories (make audit).

requirements/review.py outdated [--json]
    Packages of which the package index has a newer version, and why a lock holds them back. uv asks the index, as for the
    locks themselves.
requirements/review.py audit [--advisories PATH] [--json]
    Pins that an advisory names. PATH is a folder, a zip file or a file of advisories in the OSV format (PyPA's advisory
    database, OSV's all.zip for PyPI); without it, PyPI's own pages are asked about each version. Either way
    requirements/advisories.yaml is read, too.

Reasons to hold a package back, and why an advisory doesn't concern this project, are in requirements/held.yaml.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess  # a developer's script, not part of the builder
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml
from packaging.version import InvalidVersion, Version
from pip._internal.models.index import PyPI  # pip's own name for it; a mirror may have no such pages

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from builder.core.config.requirements import parse  # noqa: E402
from builder.core.text import table  # noqa: E402

HELD = ROOT / "requirements" / "held.yaml"
OURS = ROOT / "requirements" / "advisories.yaml"
PAGE = f"{PyPI.pypi_url}/{{}}/json"
PATIENCE = 300
"""Seconds that uv may take for all packages."""


@dataclass(frozen=True, kw_only=True, order=True)
class Pin:
    """One package in one lock."""

    package: str
    locked: str
    marker: str
    """For which machines; "" for all."""
    file: str


@dataclass(frozen=True, kw_only=True, order=True)
class Outdated:
    """A pin and what is newer."""

    package: str
    locked: str
    newest: str
    file: str
    why: str
    """Why it is held back; "" where `make lock ARGS=--upgrade` moves it."""


@dataclass(frozen=True, kw_only=True, order=True)
class Finding:
    """An advisory about a pin."""

    package: str
    locked: str
    advisory: str
    fixed: str
    files: str
    why: str
    """Why it doesn't concern this project; "" where nobody has said."""


def pins() -> list[Pin]:
    """Everything that is locked."""
    locks = [*(ROOT / "requirements").glob("*.txt"), *(ROOT / "stages").glob("*/requirements-*.txt")]
    found = []
    for path in sorted(locks):
        name = str(path.relative_to(ROOT))
        for pin in parse(name, path.read_text()):
            marker = re.match(r"\S+ ; ([^\\\n]+?) \\", pin.text)
            which = marker[1] if marker else ""
            found.append(Pin(package=pin.name, locked=pin.version, marker=which, file=name))
    return found


# Outdated.


def newest(locked: Iterable[Pin]) -> dict[str, list[tuple[str, str]]]:
    """Package -> its newest version and the marker it is for, for each range of Pythons; the oldest Python first.

    Raises:
        SystemExit: the index doesn't answer.
    """
    markers: dict[str, set[str]] = defaultdict(set)
    for pin in locked:
        markers[pin.package].add(pin.marker)
    wanted = [
        name if "" in found else f"{name} ; {' or '.join(f'({m})' for m in sorted(found))}"
        for name, found in sorted(markers.items())
    ]
    options = ["--quiet", "--universal", "--python-version", "3.10", "--no-deps", "--no-header", "--no-annotate"]
    command = [sys.executable, "-m", "uv", "pip", "compile", *options, "--fork-strategy", "requires-python", "-"]
    try:
        done = subprocess.run(
            command, input="\n".join(wanted), capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired as late:
        raise SystemExit(f"the package index didn't answer within {PATIENCE} s") from late
    if done.returncode:
        raise SystemExit(f"uv can't tell what is newest:\n{done.stderr.strip()}")
    versions = defaultdict(list)
    for name, version, marker in re.findall(r"^([^\s=]+)==(\S+)(?: ; (.+))?$", done.stdout, re.MULTILINE):
        versions[name].append((version, marker))
    return {name: sorted(each, key=lambda v: Version(v[0])) for name, each in versions.items()}


def outdated(locked: Iterable[Pin], there: Mapping[str, Sequence[tuple[str, str]]]) -> list[Outdated]:
    """The pins that aren't the newest for the machines that they are for, or not for all of them."""
    held: Mapping[str, str] = reasons()["held"]
    found = []
    for pin in locked:
        versions = there.get(pin.package, [])
        if not versions or Version(pin.locked) >= Version(versions[-1][0]):
            continue
        why = next((reason for name, reason in held.items() if fnmatch(pin.package, name)), "")
        if not why and (last := [marker for version, marker in versions[:-1] if version == pin.locked]):
            why = _last_for(last[0]) + ("" if pin.marker else ", and this lock has one version for every Python")
        found.append(Outdated(package=pin.package, locked=pin.locked, newest=versions[-1][0], file=pin.file, why=why))
    return sorted(found)


def _last_for(marker: str) -> str:
    """``python_full_version < '3.11' and …`` -> ``the last for Python 3.10``."""
    if older := re.search(r"python_full_version < '3\.(\d+)'", marker):
        return f"the last for Python 3.{int(older[1]) - 1}"
    exactly = re.search(r"python_full_version == '(3\.\d+)", marker)
    return f"the last for Python {exactly[1]}" if exactly else f"the last for {marker}"


# Advisories.


def read(place: Path) -> Iterator[dict[str, Any]]:
    """Advisories in the OSV format: files of a folder or a zip file, or one file, with one or a list of them."""
    if place.is_dir():
        for path in sorted(place.rglob("*")):
            if path.suffix in (".json", ".yaml", ".yml"):
                yield from _records(path.name, path.read_text())
    elif zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as archive:
            for name in archive.namelist():
                if name.endswith((".json", ".yaml")):
                    yield from _records(name, archive.read(name).decode())
    else:
        yield from _records(place.name, place.read_text())


def _records(name: str, text: str) -> list[dict[str, Any]]:
    """One or a list of them, in JSON or YAML. A date stays the text that it is."""
    found = json.loads(text) if name.endswith(".json") else yaml.load(text, Loader=yaml.BaseLoader)
    return found if isinstance(found, list) else [found]


def named(record: Mapping[str, Any], package: str, version: str) -> str | None:
    """Whether an advisory is about a version: the version that has the fix, "" where there is none; None when it isn't."""
    for affected in record.get("affected", []):
        about = affected.get("package", {})
        if about.get("ecosystem") != "PyPI" or re.sub(r"[-_.]+", "-", about.get("name", "")).lower() != package:
            continue
        for range_ in affected.get("ranges", []):
            if range_.get("type") == "ECOSYSTEM" and (fix := _within(range_.get("events", []), version)) is not None:
                return fix
        if version in affected.get("versions", []):
            return ""
    return None


def _within(events: Iterable[Mapping[str, str]], version: str) -> str | None:
    """The version that ends the range of events which has ``version``."""
    inside, ours = False, Version(version)
    for event in events:
        for kind, text in event.items():
            try:
                edge = Version(text)
            except InvalidVersion:
                continue
            if kind == "introduced":
                inside = inside or ours >= edge
            elif inside and kind == "fixed":
                if ours < edge:
                    return text
                inside = False
            elif inside and kind == "last_affected":
                inside = ours <= edge
    return "" if inside else None


def from_records(locked: Iterable[Pin], records: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Pin, str, str]]:
    """Pin, advisory and fix."""
    wanted = defaultdict(list)
    for pin in locked:
        wanted[pin.package].append(pin)
    for record in records:
        names = {
            re.sub(r"[-_.]+", "-", a.get("package", {}).get("name", "")).lower() for a in record.get("affected", [])
        }
        for pin in (pin for name in names for pin in wanted.get(name, [])):
            fix = None if record.get("withdrawn") else named(record, pin.package, pin.locked)
            if fix is not None:
                yield pin, record["id"], fix


def from_pages(locked: Sequence[Pin]) -> tuple[list[tuple[Pin, str, str]], list[str]]:
    """The same from PyPI's pages; and the versions that have none, of which nothing is known."""
    import httpx

    versions = sorted({(pin.package, pin.locked) for pin in locked})
    with httpx.Client(timeout=20, follow_redirects=False) as client, ThreadPoolExecutor(8) as pool:

        def ask(about: tuple[str, str]) -> list[dict[str, Any]] | None:
            for page in ("/".join(about), about[0]):  # a mirror may have the page of the newest version alone
                answer = client.get(PAGE.format(page))
                if answer.status_code == 200 and (found := answer.json())["info"]["version"] == about[1]:
                    return list(found.get("vulnerabilities", []))
            return None

        answers = dict(zip(versions, pool.map(ask, versions), strict=True))
    found = [
        (pin, each["id"], ", ".join(each.get("fixed_in", [])))
        for pin in locked
        for each in answers[pin.package, pin.locked] or ()
        if not each.get("withdrawn")
    ]
    return found, [f"{name} {version}" for (name, version), answer in answers.items() if answer is None]


def findings(found: Iterable[tuple[Pin, str, str]]) -> list[Finding]:
    """One for each advisory and version, with the locks that have it."""
    accepted: Mapping[str, str] = reasons()["accepted"]
    files: dict[tuple[str, str, str, str], set[str]] = defaultdict(set)
    for pin, advisory, fix in found:
        files[pin.package, pin.locked, advisory, fix].add(pin.file)
    return sorted(
        Finding(
            package=package,
            locked=version,
            advisory=advisory,
            fixed=fix,
            files=", ".join(sorted(places)),
            why=accepted.get(advisory, ""),
        )
        for (package, version, advisory, fix), places in files.items()
    )


def reasons() -> dict[str, dict[str, str]]:
    """requirements/held.yaml: ``held`` by package, ``accepted`` by advisory."""
    found = yaml.safe_load(HELD.read_text())
    return {"held": found.get("held") or {}, "accepted": found.get("accepted") or {}}


# What is printed.


def show_outdated(rows: Sequence[Outdated]) -> None:
    """A row for each version, with the locks that have it."""
    files = defaultdict(list)
    for row in rows:
        files[row.package, row.locked, row.newest, row.why].append(short(row.file))
    cells = [
        (package, version, new, _first(places), why or "make lock ARGS=--upgrade")
        for (package, version, new, why), places in files.items()
    ]
    print(table(("PACKAGE", "LOCKED", "NEWEST", "LOCKS", "WHY"), cells))


def _first(places: Sequence[str]) -> str:
    """Three of them, and how many more."""
    return " ".join(places[:3]) + (f" +{len(places) - 3}" if len(places) > 3 else "")


def short(file: str) -> str:
    """``stages/asr/requirements-full.txt`` -> ``asr-full``."""
    return re.sub(r"^(?:requirements/|stages/(\w+)/requirements(-[\w-]+))", r"\1\2", file).removesuffix(".txt")


def main(words: Sequence[str] | None = None) -> int:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["outdated", "audit"])
    parser.add_argument("--advisories", type=Path, metavar="PATH", help="OSV records: a folder, .zip, .json or .yaml")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(words)
    locked = pins()
    if options.what == "outdated":
        rows = outdated(locked, newest(locked))
        print(json.dumps([asdict(row) for row in rows], indent=2)) if options.json else show_outdated(rows)
        return 0
    return audit(locked, options.advisories, as_json=options.json)


def audit(locked: Sequence[Pin], place: Path | None, *, as_json: bool) -> int:
    """Print the findings; 1 when one of them has no reason."""
    unknown: list[str] = []
    found = list(from_records(locked, read(OURS)))
    if place:
        records = list(read(place))
        latest = max((str(record.get("modified", "")) for record in records), default="")
        said = f"{len(records)} advisories, the latest of {latest[:10] or 'no date'}, and {OURS.name}"
        found += from_records(locked, records)
    else:
        told, unknown = from_pages(locked)
        found += told
        said = (
            f"PyPI's pages and {OURS.name}; PyPI tells nothing of {len(unknown)} versions: {', '.join(unknown) or '-'}"
        )
    results = findings(found)
    if as_json:
        print(json.dumps({"findings": [asdict(f) for f in results], "unknown": unknown, "source": said}, indent=2))
    else:
        rows = [(f.package, f.locked, f.advisory, f.fixed or "-", f.why or "UNEXPLAINED") for f in results]
        print(table(("PACKAGE", "LOCKED", "ADVISORY", "FIXED IN", "WHY IT STAYS"), rows))
        print(f"{len({(p.package, p.locked) for p in locked})} versions against {said}")
    return 1 if any(not f.why for f in results) else 0


if __name__ == "__main__":
    raise SystemExit(main())
