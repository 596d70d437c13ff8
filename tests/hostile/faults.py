"""Faults at random points: whatever is struck, what was there stays, and the same command ends right afterwards.

Each attempt strikes one of the works of tests/hostile/works.py at one point (kill -9, Ctrl-C, a full disk, a clock that
moves by years, a server that is started again), looks at what is left, types the same again, and compares the whole place
with that of a run that nothing struck.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import util
from pathlib import Path

from tests.hostile import Attempt, works
from tests.hostile.struck import Strike, Workers
from tests.hub.server import Content, Hub
from tests.process.registry_server import Server, registry

WORKS = (
    "fetch", "take", "give", "tidy", "layout", "render", "project_", "send", "pack", "mend", "load", "stage", "run", "begin",
    "remove", "deliver",
)  # fmt: skip

KINDS = ("kill", "kill", "kill", "stop", "full", "room", "clock", "pause")
"""Of strikes; ``room`` is a small disk that fills up by what is written."""

AGAIN = {"remove": (0, 2), "project_": (0, 1, 2), "pack": (0, 2)}
"""Exit codes of the run after the fault, where 0 isn't the only right one: the job is gone, the project made, the
bundle finished."""

ENDED = {
    "kill": (-9,),
    "stop": (130,),
    "full": (3,),
    "room": (3,),
    "clock": (),
    "pause": (6,),
}
SAID = "No space left on device"
"""The last words of a stage by which the runner knows a full disk; its exit code is 1."""
"""How a work may end that was struck, beside ending well."""

VOLATILE = re.compile(
    r"(^|/)(\.lock|[^/]+\.lock|[^/]*(loaded|events)\.jsonl|pipeline\.log|speeds\.json|(logs|uploads|__pycache__|\.incoming)/.*"
    r"|layout/incoming/.*|jobs/\.new-.*|\.bake/(.*/)?\.[^/]+\.tmp)$"
)
"""What two good runs may leave differently: times, locks that nobody holds, and in the state folder what is swept later (by
prune, the next prepare, the next writer of the file)."""

TIMED = re.compile(r"(^|/)(job\.yaml|manifest\.json|id|hardware\.json|project\.json|\.checked\.json)$")
"""What has times or ids in it."""

CHANCE = re.compile(r"[0-9]{8}-[0-9]{6}-talk-[0-9a-f]{4}")
"""Ids of jobs; the same moment doesn't come twice."""


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """A work that nothing struck."""

    lines: int
    changes: int
    tree: dict[str, str]
    size: int
    """Bytes that it added to its place."""


def tree(place: Path) -> dict[str, str]:
    """Everything in a place: path -> what it is."""
    found = {}
    for path in sorted(place.rglob("*")):
        name = CHANCE.sub("ID", path.relative_to(place).as_posix())
        if VOLATILE.search(name) or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif TIMED.search(name):
            found[name] = "there"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return found


@functools.cache
def workers() -> Workers:
    return Workers()


@functools.cache
def templates() -> Path:
    """Places as they are before each work; made once by each process that tries."""
    folder = Path(tempfile.mkdtemp(prefix="wb-faults-"))
    util.Finalize(workers(), shutil.rmtree, (folder, True), exitpriority=1)
    return folder


def fresh(work: str, place: Path) -> Path:
    """A new place for a work."""
    template = templates() / work
    if not template.exists():
        template.mkdir()
        getattr(works, f"{work.rstrip('_')}_place")(template)
    shutil.copytree(template, place, symlinks=True, dirs_exist_ok=True)
    return place


@dataclass
class Around:
    """The servers of a work, if it needs one."""

    env: dict[str, str]
    restart: Callable[[], None]
    server: Server | None = None


@contextlib.contextmanager
def around(work: str, place: Path) -> Iterator[Around]:
    """What a work talks to."""
    if work == "fetch":
        with Hub(repos={"org/one": {n: Content(d) for n, d in works.ONE.files.items()}}) as hub:

            def drop() -> None:
                with hub.lock:
                    for connection in hub.connections:
                        with contextlib.suppress(OSError):
                            connection.shutdown(2)

            yield Around({"HF_ENDPOINT": hub.address}, drop)
    elif work == "send":
        with registry(place.parent / f"{place.name}-registry") as server:

            def again() -> None:
                server.stop()
                server.start()

            yield Around({"REGISTRY": server.host}, again, server)
    else:
        yield Around({}, lambda: None)


@functools.cache
def undisturbed(work: str) -> Undisturbed:
    """Run a work once, and count its points."""
    place = fresh(work, templates() / f"{work}-whole")
    before = sum(p.stat().st_size for p in place.rglob("*") if p.is_file())
    with around(work, place) as there:
        done = workers().run(work, place, None, env=there.env, pause=there.restart)
        log = place.parent / f"{place.name}.log"
        assert done["code"] == 0, (work, done, log.read_text())
        sent(there)
    after = sum(p.stat().st_size for p in place.rglob("*") if p.is_file())
    return Undisturbed(lines=done["lines"], changes=done["changes"], tree=tree(place), size=after - before)


def sent(there: Around) -> str | None:
    """What of two images a registry lacks."""
    if there.server is None:
        return None
    made, known = works.images()
    if lacking := set(known) - there.server.blobs():
        return f"the registry lacks {len(lacking)} blobs"
    for image in made:
        folder = (
            there.server.folder
            / f"data/docker/registry/v2/repositories/tests/{image.name}/_manifests/tags/t/current/link"
        )
        if not folder.exists() or folder.read_text() != image.manifest.digest:
            return f"tag {image.name}:t is not the image"
    return None


@contextlib.contextmanager
def small_disk(place: Path, free: int) -> Iterator[None]:
    """A place that is a disk of its own, with so many bytes free; away again is its limit after the first ``next``."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={max(free, 4096)}", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def attempt(number: int) -> Attempt:
    """One fault, chosen by its number."""
    chance = random.Random(number)
    work, kind = WORKS[number % len(WORKS)], chance.choice(KINDS)
    if kind == "pause" and work not in ("fetch", "send"):
        kind = "kill"
    by = chance.choice(("lines", "changes", "changes", "changes")) if kind != "full" else "changes"
    seconds = chance.choice((-1, 1)) * 10 ** chance.uniform(1, 8.5)
    return tried(str(number), work, kind, by, chance.random(), seconds)


def tried(number: str, work: str, kind: str, by: str, part: float, seconds: float = 0.0) -> Attempt:
    """Strike a work.

    Args:
        part: where, from 0 to 1 of its points.
        seconds: by which a clock moves.
    """
    name = f"{number}: {work.rstrip('_')}, {kind} at {part:.4f} of its {by}"

    def run(folder: Path) -> str | None:
        usual = undisturbed(work)
        at = 1 + int(part * (usual.lines if by == "lines" else usual.changes))
        place = folder / "place"
        with contextlib.ExitStack() as stack:
            if kind == "room":
                full = sum(4096 + (p.stat().st_size + 4095) // 4096 * 4096 for p in fresh_size(work))
                stack.enter_context(small_disk(place, full + int(part * (usual.size + 40_000))))
            fresh(work, place)
            there = stack.enter_context(around(work, place))
            strike = None if kind == "room" else Strike(kind=kind, by=by, at=at, seconds=seconds)
            done = workers().run(work, place, strike, env=there.env, pause=there.restart)
            said = (folder / "place.log").read_text(errors="replace")
            right = done["code"] in (0, *ENDED[kind], *AGAIN.get(work, ())) and "Traceback" not in said
            if not right and not (work == "stage" and done["code"] == 1 and SAID in said.splitlines()[-1]):
                return f"it ended with {done['code']}: {' | '.join(said.splitlines()[-4:])}"
            holds = getattr(works, f"{work.rstrip('_')}_holds", None)
            if holds is not None and (wrong := holds(place)):
                return f"afterwards {wrong}"
            if kind == "room":
                subprocess.run(["mount", "-o", "remount,size=256m", str(place)], check=True)
            (folder / "place.log").unlink()
            an_hour_later(place)
            done = workers().run(work, place, None, env=there.env, pause=there.restart)
            said = (folder / "place.log").read_text(errors="replace")
            if done["code"] not in AGAIN.get(work, (0,)):
                return f"the next run ended with {done['code']}: {' | '.join(said.splitlines()[-4:])}"
            return sent(there) or difference(usual.tree, tree(place))

    return Attempt(name=name, run=run)


def an_hour_later(place: Path) -> None:
    """What killed writers left is older than any file that is being written."""
    for path in place.rglob(".*.tmp"):
        os.utime(path, (time.time() - 4000,) * 2)


def fresh_size(work: str) -> list[Path]:
    """What a place has before its work."""
    undisturbed(work)
    return list((templates() / work).rglob("*"))


def difference(right: dict[str, str], left: dict[str, str]) -> str | None:
    """What is other than after an undisturbed run."""
    parts = {
        "lacks": sorted(set(right) - set(left)),
        "has beside": sorted(set(left) - set(right)),
        "has otherwise": sorted(n for n in right if n in left and left[n] != right[n]),
    }
    found = {k: v[:3] for k, v in parts.items() if v}
    return json.dumps(found) if found else None
