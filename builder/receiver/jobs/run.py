"""A job in containers without a network: the acceptance run, and recordings of the receiver's own."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from builder.receiver.engine import EngineSocket
from builder.receiver.inventory import CHUNK, Inventory, LoaderError

Sandbox = Mapping[str, Any]
"""What a container may do, as JSON types (builder's core/jobs/sandbox.py, ``as_data``); load.py carries it."""

WORDS_WRONG = 0.05
"""Share of words that may differ in the acceptance run: another processor rounds differently."""

TAIL = 8
"""Lines of a failed stage that are shown."""

CPU_PERIOD = 100_000
"""Microseconds; a container's quota of processors is counted in it."""


def new_job(template: Path, recording: Path, name: str, folder: Path) -> dict[str, Any]:
    """A job folder like the template's, for another recording (docs/job-format.md); what its job.yaml says."""
    job: dict[str, Any] = json.loads(template.read_bytes())
    suffix = recording.suffix.lower() if re.fullmatch(r"\.[a-z0-9]{1,8}", recording.suffix.lower()) else ".bin"
    if folder.exists():
        shutil.rmtree(folder)
    for part in ("input", "work", "output", "logs"):
        (folder / part).mkdir(parents=True)
    digest, size, target = hashlib.sha256(), 0, folder / "input" / f"01{suffix}"
    with recording.open("rb") as source, target.open("wb") as out:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            out.write(chunk)
    stem = (
        "".join(c if c.isprintable() and c not in "/\\" else "_" for c in Path(name).stem).strip(". -") or "recording"
    )
    first = {**job["inputs"][0], "name": name, "path": f"input/01{suffix}", "sha256": digest.hexdigest(), "size": size}
    job |= {"id": folder.name, "inputs": [{**first, "output": stem, "clip": None, "duration": None}]}
    # JSON is YAML.
    (folder / "job.yaml").write_text(json.dumps(job, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "events.jsonl").touch()
    return job


def let_in(folder: Path) -> None:
    """Let the containers' user, who is in group 0 beside a caller who is root, into a job's folder.

    It reads the recipe and the recording, and writes results and events; nothing else of the folder is its business.
    """
    (folder / "job.yaml").chmod(0o640)
    (folder / "events.jsonl").chmod(0o660)
    for recording in (folder / "input").iterdir():
        recording.chmod(0o640)
    (folder / "input").chmod(0o750)
    for name in ("work", "output"):
        (folder / name).chmod(0o770)
    for path in (folder, folder / "logs"):
        path.chmod(0o700)


def container(
    sandbox: Sandbox,
    *,
    image: str,
    folder: Path,
    uid: int,
    gid: int,
    threads: int,
    memory: int,
    cpus: int,
) -> dict[str, Any]:
    """A stage's container, as the engine's API takes it (POST /containers/create).

    Args:
        folder: the job's.
        uid: the caller's; results belong to the caller.
        memory: bytes of memory and swap together.
        cpus: logical processors.
    """
    mounts = [
        {
            "Type": "bind",
            "Source": str(folder / mount["source"]),
            "Target": mount["target"],
            "ReadOnly": not mount["writable"],
        }
        for mount in sandbox["mounts"]
    ]
    path, _, options = sandbox["tmpfs"].partition(":")
    return {
        "Image": image,
        "Cmd": ["--job", "/job"],
        "User": sandbox["user_beside_root"] if uid == 0 else f"{uid}:{gid}",
        "Env": [f"OMP_NUM_THREADS={threads}", *(f"{name}=" for name in sandbox["emptied"])],
        "HostConfig": {
            "NetworkMode": sandbox["network"],
            "ReadonlyRootfs": sandbox["read_only"],
            "CapDrop": sandbox["cap_drop"],
            "SecurityOpt": sandbox["security"],
            "PidsLimit": sandbox["pids"],
            "Memory": memory,
            "MemorySwap": memory,
            "CpuPeriod": CPU_PERIOD,
            "CpuQuota": cpus * CPU_PERIOD,
            "Tmpfs": {path: options},
            "Mounts": mounts,
        },
    }


def memory_limit(sandbox: Sandbox, wish: int | None, machine: int) -> int:
    """Bytes that a container gets of a machine with ``machine`` bytes of memory.

    Args:
        wish: what the inventory says of the stage; None when it says nothing (an older loader wrote it).
    """
    rule = sandbox["memory"]
    least, wished = int(rule["least"]), int(rule["default"]) if wish is None else wish
    return max(least, min(wished, int(rule["share"] * machine)))


def run_job(
    engine: EngineSocket,
    images: Mapping[str, str],
    job: Mapping[str, Any],
    folder: Path,
    on_line: Callable[[str], None],
    *,
    sandbox: Sandbox,
    memory: Mapping[str, int],
) -> list[str]:
    """Run a job's stages in their order, each in a container without network or rights.

    Returns:
        Stages that failed and that the job can do without.

    Args:
        images: stage -> image id.
        on_line: gets one line a stage.
        memory: stage -> bytes that it should get.

    Raises:
        LoaderError: a stage has no image here, or fails; or the engine does.
    """
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        let_in(folder)
    lost = []
    for stage in job["stages"]:
        name = stage["name"]
        if name not in images:
            raise LoaderError(3, f"no image for stage {name} here", "load a bundle that has all images")
        began = time.monotonic()
        settings = container(
            sandbox,
            image=images[name],
            folder=folder,
            uid=uid,
            gid=gid,
            threads=max(1, min(int(stage["settings"].get("threads") or 1), engine.cpus)),
            memory=memory_limit(sandbox, memory.get(name), engine.memory),
            cpus=engine.cpus,
        )
        code, log = _run_container(engine, f"whisperbake-{folder.name}-{name}", settings)
        if code != 0:
            lines = "\n  | ".join(log)
            if stage.get("optional"):
                lost.append(name)
                on_line(f"  {name} failed with {code}; the job goes on without it\n  | {lines}")
                continue
            raise LoaderError(7, f"stage {name} failed with {code}\n  | {lines}", f"the job's folder is {folder}")
        on_line(f"  {name}: {time.monotonic() - began:.1f} s")
    return lost


def _run_container(engine: EngineSocket, name: str, settings: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Exit code and last lines of a container, which is removed afterwards."""
    engine.ask("DELETE", f"/containers/{name}?force=1")  # of a run that was killed
    id_ = engine.need("POST", f"/containers/create?name={name}", settings)["Id"]
    try:
        engine.need("POST", f"/containers/{id_}/start")
        code = engine.need("POST", f"/containers/{id_}/wait")["StatusCode"]
        _, raw = engine.ask("GET", f"/containers/{id_}/logs?stdout=1&stderr=1&tail={TAIL}")
    finally:
        engine.ask("DELETE", f"/containers/{id_}?force=1")
    return int(code), log_lines(raw)


def log_lines(raw: bytes) -> list[str]:
    """Lines of a container's log: frames of an 8-byte head with the length in its last four bytes, then the text."""
    text, at = b"", 0
    while at + 8 <= len(raw):
        size = int.from_bytes(raw[at + 4 : at + 8], "big")
        text += raw[at + 8 : at + 8 + size]
        at += 8 + size
    return text.decode("utf-8", "replace").splitlines()


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
    lost = run_job(engine, stage_images(inventory), job, job_folder, on_line, sandbox=sandbox, memory=memory)
    if lost:
        raise LoaderError(7, f"the acceptance run lacks {', '.join(lost)}", f"the job's folder is {job_folder}")
    results = [path for path in expected["files"] if (job_folder / path).is_file()]
    digests = {path: hashlib.sha256((job_folder / path).read_bytes()).hexdigest() for path in results}
    if digests == expected["files"]:
        return f"accepted: {len(digests)} files, byte for byte what the sender's images made"
    words = words_of(json.loads((job_folder / expected["result"]).read_bytes()))
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


def words_of(result: dict[str, Any]) -> list[str]:
    """The words of a result, in lower case, without punctuation."""
    text = " ".join(str(s["text"]) for s in result["segments"]).lower()
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text)


def count_changes(first: list[str], second: list[str]) -> int:
    """Words that were changed, left out or added between the two."""
    pairs = difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes()
    return sum(max(b - a, d - c) for kind, a, b, c, d in pairs if kind != "equal")
