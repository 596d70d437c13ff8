"""A job in containers without a network: the acceptance run, and recordings of the receiver's own."""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from builder.receiver.display import DISPLAY, clock, shown
from builder.receiver.engine import EngineSocket
from builder.receiver.inventory import Inventory, LoaderError
from builder.receiver.jobs.container import Ended, Sandbox, container, memory_limit, run_container
from builder.receiver.jobs.job import LABEL, new_job
from builder.receiver.jobs.untrusted import (
    append_below,
    json_below,
    names_below,
    parse_json,
    sha256_below,
    size_below,
    slice_below,
)
from builder.receiver.missing import NO_ROOM

WORDS_WRONG = 0.05
"""Share of words that may differ in the acceptance run: another processor rounds differently."""

TAIL = 8
"""Lines of a failed stage that are shown."""

INPUT_FAULT, MODEL_FAULT = 2, 5
"""Exit codes with which a stage says that a recording, or a model, is at fault; see stages/contract.py."""

MOST_EVENTS = 1 << 20
"""Bytes of events that are read at once."""

MOST_SEEN = 10_000
"""Recordings of which a stage's progress is kept."""

LARGEST_RESULT = 1 << 30
"""Bytes of a result of the example, which is a minute long."""


def let_in(folder: Path) -> None:
    """Let the containers' user, who is in group 0 beside a caller who is root, into a job's folder.

    It reads the recipe, the recording and known voices, and writes results and events; the rest is not its business.
    """
    _to_group(folder / "job.yaml", 0o640)
    _to_group(folder / "events.jsonl", 0o660)
    for handed in (folder / "input").iterdir():
        _to_group(handed, 0o640)
    _to_group(folder / "input", 0o750)
    for name in ("work", "output"):
        _to_group(folder / name, 0o770)
    for path in (folder, folder / "logs"):
        path.chmod(0o700)


def _to_group(path: Path, mode: int) -> None:
    """To group 0: a folder with the set-group-ID bit gives what is made in it another one."""
    with contextlib.suppress(OSError):  # a stick has no groups
        os.chown(path, -1, 0)
    path.chmod(mode)


def run_job(
    engine: EngineSocket,
    images: Mapping[str, str],
    job: Mapping[str, Any],
    folder: Path,
    on_line: Callable[[str], None],
    *,
    sandbox: Sandbox,
    memory: Mapping[str, int],
    on_status: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Run a job's stages in their order, each in a container without network or rights.

    Args:
        images: stage -> image id.
        on_line: gets a line for each stage, when it has ended.
        memory: stage -> bytes that it should get.
        on_status: gets twice a second how far the stage is that runs.

    Returns:
        Stages that failed and that the job can do without.

    Raises:
        LoaderError: the recording is at fault (2), a model (5), this machine or a stage (7); a stage has no image here, or
            the engine went away (3).
    """
    if os.getuid() == 0:
        let_in(folder)
    append_event(folder, "begin", stages=[stage["name"] for stage in job["stages"]])
    lost: list[str] = []
    with _held(folder, engine.host):
        try:
            for stage in job["stages"]:
                settings = stage_container(
                    engine, images, job, stage, source=folder, sandbox=sandbox, memory=memory.get(stage["name"])
                )
                if failure := _run_stage(engine, job, stage, folder, settings, on_line, on_status):
                    lost.append(stage["name"])
                    on_line(f"  {stage['name']} failed, the job goes on without it: {failure.what}")
        except KeyboardInterrupt:
            append_event(folder, "stop")
            raise
        except LoaderError as error:
            append_event(folder, "fail", message=error.what)
            raise
    append_event(folder, "end", **({"without": lost} if lost else {}))
    return lost


def stage_container(
    engine: EngineSocket,
    images: Mapping[str, str],
    job: Mapping[str, Any],
    stage: Mapping[str, Any],
    *,
    source: Path,
    sandbox: Sandbox,
    memory: int | None,
) -> dict[str, Any]:
    """The container of a job's stage on an engine; see :func:`container`.

    Args:
        source: the job's folder, or what stands for it in compose.yaml.

    Raises:
        LoaderError: the stage has no image here.
    """
    name = stage["name"]
    if name not in images:
        raise LoaderError(3, f"no image for stage {name} here", "load a bundle that has all images")
    settings = container(
        sandbox,
        image=images[name],
        folder=source,
        uid=os.getuid(),
        gid=os.getgid(),
        threads=max(1, min(int(stage["settings"].get("threads") or 1), engine.cpus)),
        memory=memory_limit(sandbox, memory, engine.memory),
        cpus=engine.cpus,
    )
    return {**settings, "Labels": {f"{LABEL}job": job["id"], f"{LABEL}stage": name}}


@contextlib.contextmanager
def _held(folder: Path, host: str) -> Iterator[None]:
    """Hold a job as the builder does: ``jobs list`` shows it running, ``jobs remove`` ends what a kill left of it."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / ".containers").write_text(host)
        yield
        (folder / ".containers").unlink()


def append_event(folder: Path, event: str, **facts: Any) -> None:
    """Write the orchestrator's own line into events.jsonl; it has no stage."""
    line = json.dumps({"t": round(time.time(), 3), "event": event, **facts})
    handle = append_below(folder, "events.jsonl")
    try:
        os.write(handle, f"{line}\n".encode())
    finally:
        os.close(handle)


def _run_stage(
    engine: EngineSocket,
    job: Mapping[str, Any],
    stage: Mapping[str, Any],
    folder: Path,
    settings: Mapping[str, Any],
    on_line: Callable[[str], None],
    on_status: Callable[[str], None],
) -> LoaderError | None:
    """Run a stage; why it failed, if the job can do without it. Raises LoaderError: it can't."""
    name, began = stage["name"], time.monotonic()
    seconds = sum(entry.get("duration") or 0.0 for entry in job["inputs"])
    events = StageEvents(folder)

    def look() -> None:
        done = min(sum(events.progress(name).values()), seconds or 1e9)
        of = f"{clock(done)} of {clock(seconds)} ({100 * done / seconds:.0f} %)" if seconds else clock(done)
        on_status(f"  {name}: {of if done else 'begins'}, for {clock(time.monotonic() - began)}")

    ended = run_container(engine, f"whisperbake-{folder.name}-{name}", settings, look)
    with os.fdopen(append_below(folder, f"logs/{name}.log"), "a", encoding="utf-8") as log:
        log.writelines(f"{line}\n" for line in ended.lines)
    if ended.code == 0:
        on_line(f"  {name}: {time.monotonic() - began:.1f} s")
        return None
    failure = _failure(name, ended, folder, settings)
    if not stage.get("optional") or failure.code == 3:
        raise failure
    return failure


def _failure(name: str, ended: Ended, folder: Path, settings: Mapping[str, Any]) -> LoaderError:
    """What a stage's end means (docs/job-format.md, Running a stage)."""
    last = shown(ended.lines[-1]) if ended.lines else "it said nothing"
    log = f"the job's folder is {folder}"
    if NO_ROOM.search(last):
        return LoaderError(3, f"stage {name}: the disk is full", "free some space, then run this again")
    if ended.out_of_memory:
        limit = settings["HostConfig"]["Memory"] / 1e6
        return LoaderError(7, f"stage {name} ran out of memory: its limit is {limit:.0f} MB", log)
    if ended.code == INPUT_FAULT:
        return LoaderError(2, last, "check the recording")
    if ended.code == MODEL_FAULT:
        return LoaderError(5, f"stage {name}: {last}", "load.py --check reads the whole bundle; then load it again")
    return LoaderError(7, f"stage {name} failed with {ended.code}", log, ended.lines[-TAIL:])


class StageEvents:
    """What stages tell of their progress in a file that they write: read on, never believed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.offset = folder, 0
        self.seen: dict[tuple[str, str], float] = {}

    def progress(self, stage: str) -> dict[str, float]:
        """Seconds of sound that a stage is done with, for each recording."""
        if size_below(self.folder, "events.jsonl") is None:
            return {}
        data = slice_below(self.folder, "events.jsonl", self.offset, MOST_EVENTS)
        whole = data[: data.rfind(b"\n") + 1] or (data if len(data) == MOST_EVENTS else b"")
        self.offset += len(whole)
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                event = parse_json(line)
                if isinstance(event, dict) and event.get("event") == "progress":
                    self._note(event)
        return {entry: done for (name, entry), done in self.seen.items() if name == stage}

    def _note(self, event: Mapping[str, Any]) -> None:
        done: Any = event.get("done")
        key = str(event.get("stage"))[:16], str(event.get("input"))[:16]
        if _is_number(done) and (key in self.seen or len(self.seen) < MOST_SEEN):
            self.seen[key] = max(0.0, float(done))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def probe(
    engine: EngineSocket, image: str, folder: Path, recording: Path, name: str, *, sandbox: Sandbox
) -> tuple[bool, float | None]:
    """Look into a recording, in a container: whether it has moving pictures, and its seconds if its header says.

    Args:
        image: of the demux stage.
        folder: the job's; the recording is in its folder ``input``.
        name: of the recording, for errors.

    Raises:
        LoaderError: the recording can't be used (2), or the container fails (7).
    """
    if os.getuid() == 0:
        _to_group(folder / "input", 0o750)
        _to_group(recording, 0o640)
    settings = container(
        {**sandbox, "mounts": [mount for mount in sandbox["mounts"] if mount["target"] == "/job/input"]},
        image=image,
        folder=folder,
        uid=os.getuid(),
        gid=os.getgid(),
        threads=1,
        memory=memory_limit(sandbox, sandbox["memory"]["look"], engine.memory),
        cpus=engine.cpus,
    )
    words = ["/opt/bake/stages/demux/clip.py", "--probe", f"/job/input/{recording.name}"]
    ended = run_container(
        engine, f"whisperbake-look-{os.getpid()}", {**settings, "Entrypoint": ["python3"], "Cmd": words}
    )
    if ended.code == INPUT_FAULT:
        raise LoaderError(
            2, f"{name}: {shown(ended.lines[-1]) if ended.lines else 'not usable'}", "check the recording"
        )
    try:
        answer = parse_json(ended.out.encode())
        length = answer["duration"]
        return bool(answer["video"]), float(length) if _is_number(length) and 0 < length < 1e7 else None
    except (ValueError, KeyError, TypeError):
        what = f"{name} could not be read: exit code {ended.code}"
        raise LoaderError(7, what, detail=ended.lines[-TAIL:]) from None


def accept(
    engine: EngineSocket, inventory: Inventory, folder: Path, on_line: Callable[[str], None], *, sandbox: Sandbox
) -> str:
    """Run the example, compare its result with that of the sender's images; one line about how it went.

    Args:
        inventory: this machine's.
        folder: where the bundle's files were unpacked.

    Raises:
        LoaderError: the result is another (7), the example is not there, or a stage fails.
    """
    paths = inventory["acceptance"]
    if not paths:
        raise LoaderError(2, "this bundle has no acceptance run", "load one that has")
    job_folder = folder / "acceptance"
    try:
        expected = json.loads((folder / paths["expected"]).read_bytes())
        job = new_job(folder / paths["job"], folder / paths["recording"], expected["name"], job_folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoaderError(
            3, f"the acceptance job is not whole ({error})", "run load.py again, in the bundle's folder"
        ) from None
    on_line("acceptance run: the example, in containers without a network")
    memory = inventory.get("memory", {})
    try:
        lost = run_job(
            engine,
            stage_images(inventory),
            job,
            job_folder,
            on_line,
            sandbox=sandbox,
            memory=memory,
            on_status=DISPLAY.status,
        )
    except LoaderError as error:
        raise LoaderError(7 if error.code == INPUT_FAULT else error.code, error.what, error.do) from None
    if lost:
        raise LoaderError(7, f"the acceptance run lacks {', '.join(lost)}", f"the job's folder is {job_folder}")
    results = [path for path in expected["files"] if size_below(job_folder, path) is not None]
    digests = {path: sha256_below(job_folder, path, LARGEST_RESULT) for path in results}
    if digests == expected["files"]:
        return f"accepted: {len(digests)} files, byte for byte what the sender's images made"
    words = words_of(json_below(job_folder, expected["result"]))
    wrong = count_changes(expected["words"], words)
    if wrong > WORDS_WRONG * len(expected["words"]):
        raise LoaderError(
            7,
            f"the result is another: {wrong} of {len(expected['words'])} words differ",
            f"compare {job_folder / 'output'} with {folder / paths['expected']}",
        )
    return f"accepted: {wrong} of {len(expected['words'])} words differ (another processor rounds differently)"


def stage_images(inventory: Inventory) -> dict[str, str]:
    """Stage -> id of its image on this engine."""
    return {i["stage"]: i.get("id") or i["manifest"] for i in inventory["images"] if i["stage"]}


def results_of(folder: Path) -> list[str]:
    """A job's results, as paths in its folder: containers write there, and only files count."""
    paths = [f"output/{name}" for name in names_below(folder, "output")]
    return [path for path in paths if size_below(folder, path) is not None]


def words_of(result: Any) -> list[str]:
    """The words of a result, in lower case, without punctuation; none where it isn't one."""
    segments = result.get("segments") if isinstance(result, dict) else None
    said = [s.get("text") for s in segments if isinstance(s, dict)] if isinstance(segments, list) else []
    text = " ".join(map(str, said)).lower()
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text)


def count_changes(first: list[str], second: list[str]) -> int:
    """Words that were changed, left out or added between the two."""
    pairs = difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes()
    return sum(max(b - a, d - c) for kind, a, b, c, d in pairs if kind != "equal")
