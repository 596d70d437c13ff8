"""What can go wrong under a job does: each run ends in a right result after ``run`` again, or names the cause.

``python3 build.py test -m heavy tests/engine/test_job_faults.py`` makes 30 fault runs, and prints their table.
"""

from __future__ import annotations

import contextlib
import functools
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.core.jobs import compose
from builder.edges.engine.events import REMEMBERED, restarted_since
from builder.edges.jobs import folder
from tests.engine import private_engine
from tests.engine.conftest import ONE_STORE, Engine, Ran, copy_project, results
from tests.engine.test_jobs import CLIP, FEW, prepared, said, wait_for
from tests.shared import EXAMPLE


@dataclass(frozen=True)
class Case:
    """What a fault works on."""

    engine: Engine
    place: Path
    chance: random.Random
    tmp: Path
    stages: tuple[str, ...]
    """Of the job, in their order."""

    def begin(self) -> subprocess.Popen[str]:
        return self.engine.begin(self.place.name, env=self.env)

    @property
    def env(self) -> dict[str, str]:
        return {"BAKE_JOBS": str(self.place.parent)}

    def sometime(self, process: subprocess.Popen[str], stages: tuple[str, ...] = ()) -> str:
        """A moment during a stage; which one."""
        stage = self.chance.choice(stages or self.stages)
        wait_for(lambda: said(self.place, stage, "start") or process.poll() is not None)
        time.sleep(self.chance.uniform(0.0, 0.4))
        return stage

    def hit(self, process: subprocess.Popen[str], do: Callable[[Any], object]) -> None:
        """Do something to a container of the job that runs; to the next one when that has just ended."""
        client = self.engine.client
        while process.poll() is None:
            for container in client.containers.list(filters={"label": f"{compose.JOB}={self.place.name}"}):
                with contextlib.suppress(Exception):  # it ended meanwhile
                    do(container)
                    return
            time.sleep(0.02)


@dataclass(frozen=True)
class Found:
    """When it was done, what the run that met it said, and what it must have said when it failed."""

    when: str
    first: Ran
    words: tuple[str, ...]
    survives: bool = True
    """Whether the first run may end well."""


def ended(process: subprocess.Popen[str]) -> Ran:
    out, err = process.communicate(timeout=180)
    assert "Traceback" not in err, err
    return Ran(process.returncode, out, err)


def container_killed(case: Case) -> Found:
    process = case.begin()
    when = case.sometime(process, case.stages[:-2])
    case.hit(process, lambda container: container.kill())
    return Found(when, ended(process), ("was killed from outside", "signal 9"))


def container_removed(case: Case) -> Found:
    process = case.begin()
    when = case.sometime(process, case.stages[:-2])
    case.hit(process, lambda container: container.remove(force=True))
    return Found(when, ended(process), ("vanished",))


def engine_restarted(case: Case) -> Found:
    process = case.begin()
    when = case.sometime(process, ("demux", "vad", "asr"))
    how = case.chance.choice([signal.SIGTERM, signal.SIGKILL])
    private_engine.restart(case.engine.host, how)
    return Found(f"{when}, {how.name}", ended(process), ("engine",))


def engine_restarted_unseen(case: Case) -> Found:
    """The run gets no processor before the engine is back: nothing that it asks the engine fails."""
    process = case.begin()
    when = case.sometime(process, ("asr",))
    process.send_signal(signal.SIGSTOP)
    private_engine.restart(case.engine.host, signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    return Found(when, ended(process), ("engine",))


def memory_low(case: Case) -> Found:
    """The project of somebody who wrote a limit into stage.yaml that the stage doesn't keep."""
    stage, figure = "asr", case.chance.choice([1, 10, 20])
    root = copy_project(case.tmp)
    file = root / "stages" / stage / "stage.yaml"
    lines = [
        f"memory_mb: {figure}" if line.startswith("memory_mb:") else line for line in file.read_text().splitlines()
    ]
    file.write_text("\n".join(lines))
    done = case.engine.bake("run", case.place.name, "--mode", "docker-cpu", "--no-build", root=root, env=case.env)
    return Found(
        f"{stage}, {figure} MB", done, (f"stage {stage} ran out of memory: its limit is", "memory_mb"), survives=False
    )


def disk_full(case: Case) -> Found:
    """On a small disk of its own: somebody else fills it, before or during the run."""
    filler = case.place.parent / "filler"
    before = case.chance.random() < 0.4
    if not before:
        process = case.begin()
        when = case.sometime(process, ("demux", "vad", "asr"))
    with contextlib.suppress(OSError), filler.open("wb") as out:
        while True:
            out.write(b"\0" * 65536)
            out.flush()
    words = ("run", case.place.name, "--mode", "docker-cpu", "--no-build")
    done = case.engine.bake(*words, env=case.env) if before else ended(process)
    filler.unlink()
    return Found("before" if before else when, done, ("the disk ", "free some space"), survives=not before)


def image_removed(case: Case) -> Found:
    stage = case.chance.choice(case.stages)
    tag = f"{case.engine.prefix}/{stage}:slim-cpu"
    case.engine.docker("rmi", "--force", tag)
    done = case.engine.bake("run", case.place.name, "--mode", "docker-cpu", "--no-build", env=case.env)
    assert case.engine.bake("build", "--mode", "docker-cpu", "--progress", "plain").code == 0
    return Found(stage, done, (tag, "build.py build"), survives=False)


def events_cut(case: Case) -> Found:
    process = case.begin()
    when = case.sometime(process)
    path = case.place / "events.jsonl"
    how = case.chance.choice(["emptied", "cut", "garbage"])
    if how == "emptied":
        path.write_bytes(b"")
    elif how == "cut":
        with path.open("rb+") as file:
            file.truncate(path.stat().st_size * 2 // 3)
    else:
        with path.open("ab") as file:
            file.write(b'\xff\xfe{"stage": "asr", "event": {}}\n[1]\nnull\n{"half')
    done = ended(process)
    assert done.code == 0, done.err
    return Found(f"{when}, {how}", done, ())


def orchestrator_killed(case: Case) -> Found:
    process = case.begin()
    when = case.sometime(process)
    process.kill()
    process.communicate()
    return Found(when, Ran(-9, "", ""), ())


KINDS: dict[Callable[[Case], Found], int] = {
    container_killed: 6,
    container_removed: 4,
    engine_restarted: 3,
    engine_restarted_unseen: 1,
    memory_low: 3,
    disk_full: 4,
    image_removed: 2,
    events_cut: 3,
    orchestrator_killed: 4,
}
"""Each fault, and how many of the 30 runs it has."""

ALL = [(kind, seed) for kind, count in KINDS.items() for seed in range(count)]
SOME = [(kind, 100) for kind in (container_killed, engine_restarted, memory_low, disk_full, orchestrator_killed)]
"""What the others do comes to the same as one of these, or is one of :data:`ALL` only."""


@pytest.fixture(scope="module")
def table(pytestconfig: pytest.Config) -> Iterator[list[tuple[str, ...]]]:
    """The runs' rows; printed at the end."""
    rows: list[tuple[str, ...]] = []
    yield rows
    from builder.core.text import table

    head = ("FAULT", "STORE", "WHEN", "THAT RUN", "IT SAID", "RUN AGAIN")
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("", *table(head, rows), sep="\n")


Truth = Callable[[tuple[str, ...]], Path]


@pytest.fixture(scope="session")
def truth(state: Path, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """The job of some settings, run on this machine."""

    @functools.cache
    def run(settings: tuple[str, ...]) -> Path:
        home = tmp_path_factory.mktemp("truth")
        engine = Engine("unix:///nowhere.sock", "", "wb-test", state)
        done = engine.bake("run", EXAMPLE, *settings, "--json", env={"BAKE_JOBS": str(home)})
        assert done.code == 0, done.err
        return home / str(done.data["job"])

    return run


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def survive(
    case: tuple[Callable[[Case], Found], int],
    settings: tuple[str, ...],
    engine: Engine,
    truth: Truth,
    tmp: Path,
    table: list[tuple[str, ...]],
) -> None:
    kind, seed = case
    before = engine.left()
    with contextlib.ExitStack() as stack:
        jobs = tmp / "jobs"
        if kind is disk_full:
            stack.enter_context(small_disk(jobs, 32))
        env = {"BAKE_JOBS": str(jobs)}
        place = prepared(engine, *settings, env=env)
        stages = tuple(stage["name"] for stage in yaml.safe_load((place / "job.yaml").read_text())["stages"])
        found = kind(Case(engine, place, random.Random(f"{kind.__name__} {seed}"), tmp, stages))
        first = found.first
        if first.code not in (0, -9):
            assert first.code in (3, 7, 8), first.err  # 8: it hit an optional stage
            for words in found.words:
                assert words in first.said, first.said
            assert engine.left()["containers"] == before["containers"], "nothing runs on after a failure"
        else:
            assert found.survives, f"{kind.__name__} was not noticed"
        again = engine.job(place.name, env=env)
        assert again.code == 0, again.err
        assert results(place) == results(truth(settings))
        assert folder.state(place) == "done"
        assert engine.left() == before
        kept = sum(s["kept"] for s in again.data["stages"])
        lines = [line for line in first.said.splitlines() if line.startswith("error: ")] or [first.said.strip()]
        fate = "right" if first.code == 0 else "killed" if first.code == -9 else f"exit {first.code}"
        said_ = lines[0].removeprefix("error: ").split(".log: ")[-1].replace(str(tmp), "…")[:90]
        table.append((kind.__name__, engine.store, found.when, fate, said_, f"right, {kept} of {len(stages)} kept"))
        shutil.rmtree(place)


def names(cases: list[tuple[Callable[[Case], Found], int]]) -> list[str]:
    return [f"{kind.__name__}-{seed}" for kind, seed in cases]


@ONE_STORE
@pytest.mark.parametrize("case", SOME, ids=names(SOME))
def test_a_fault_of_each_kind(
    engine: Engine,
    built: Any,
    case: tuple[Callable[[Case], Found], int],
    truth: Truth,
    tmp_path: Path,
    table: list[tuple[str, ...]],
) -> None:
    """One of each, of a job of few stages."""
    survive(case, FEW, engine, truth, tmp_path, table)


@pytest.mark.heavy
@pytest.mark.parametrize("case", ALL, ids=names(ALL))
def test_thirty_faults(
    engine: Engine,
    built: Any,
    case: tuple[Callable[[Case], Found], int],
    truth: Truth,
    tmp_path: Path,
    table: list[tuple[str, ...]],
) -> None:
    """All of them, on both stores; at random moments that are the same in every session."""
    survive(case, CLIP, engine, truth, tmp_path, table)


def test_there_are_thirty() -> None:
    assert len(ALL) == 30


ENDS_WHEN_ASKED = """\
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("ready", flush=True)
while True:
    signal.pause()
"""


def killed(engine: Engine, container: Any) -> None:
    container.kill()


def engine_goes(engine: Engine, container: Any) -> None:
    private_engine.restart(engine.host, signal.SIGTERM)


def engine_dies(engine: Engine, container: Any) -> None:
    """When it is back it asks the container to end, as somebody else could."""
    private_engine.restart(engine.host, signal.SIGKILL)


def engine_dies_and_goes_on(engine: Engine, container: Any) -> None:
    """Then somebody else ends the container."""
    engine_dies(engine, container)
    begun(container)
    container.kill()


def engine_forgets_and_killed(engine: Engine, container: Any) -> None:
    """So much has happened since the container began that its beginning isn't remembered any more."""
    for _ in range(REMEMBERED // 2 + 1):
        engine.client.images.get(container.image.id).tag("wb-test/again", "x")
        engine.client.images.remove("wb-test/again:x")
    container.kill()


WHO: dict[Callable[[Engine, Any], None], bool] = {
    killed: False,
    engine_goes: True,
    engine_dies: True,
    engine_dies_and_goes_on: False,
    engine_forgets_and_killed: False,
}
"""What ends a container, and whether that was its engine."""


def begun(container: Any) -> None:
    before = container.logs()
    container.start()
    wait_for(lambda: container.logs() != before)


@ONE_STORE
@pytest.mark.parametrize("ends", WHO, ids=lambda ends: ends.__name__)
def test_who_ended_a_container(engine: Engine, built: Any, ends: Callable[[Engine, Any], None]) -> None:
    """Asked afterwards, by somebody who noticed nothing: a busy machine can keep a run from it."""
    words = ["-c", ENDS_WHEN_ASKED]
    image = f"{engine.prefix}/demux:slim-cpu"
    client = engine.client
    container = client.containers.create(image, words, entrypoint="python3", network_mode="none")
    try:
        begun(container)
        ends(engine, container)
        wait_for(lambda: client.containers.get(container.id).status == "exited")
        assert restarted_since(client.api, container.id) == WHO[ends]
    finally:
        container.remove(force=True)
