"""A job in containers without a network: the acceptance run, and recordings of the receiver's own."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builder.receiver.engine import Engine
from builder.receiver.inventory import CHUNK, Inventory, Stop

WORDS_WRONG = 0.05
"""Share of words that may differ in the acceptance run: another processor rounds differently."""

TAIL = 8
"""Lines of a failed stage that are shown."""


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
    if os.getuid() == 0:  # the container's user is in group 0
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o770 if path.is_dir() else 0o660)
    return job


def run_job(
    engine: Engine, images: dict[str, str], job: dict[str, Any], folder: Path, tell: Callable[[str], None]
) -> None:
    """Run a job's stages in their order, each in a container without network or rights. Raises Stop.

    Args:
        images: stage -> image id.
    """
    user = "1000:0" if os.getuid() == 0 else f"{os.getuid()}:{os.getgid()}"
    for stage in job["stages"]:
        if stage["name"] not in images:
            raise Stop(3, f"there is no image for stage {stage['name']} here", "load a bundle that has all images")
        threads = max(1, min(int(stage["settings"].get("threads") or 1), os.cpu_count() or 1))
        began = time.monotonic()
        settings = {
            "Image": images[stage["name"]],
            "Cmd": ["--job", "/job"],
            "User": user,
            "Env": [f"OMP_NUM_THREADS={threads}"],
            "HostConfig": {
                "NetworkMode": "none",
                "ReadonlyRootfs": True,
                "CapDrop": ["ALL"],
                "PidsLimit": 1024,
                "SecurityOpt": ["no-new-privileges"],
                "Tmpfs": {"/tmp": "rw,nosuid,nodev,size=256m,mode=1777"},
                "Mounts": [{"Type": "bind", "Source": str(folder), "Target": "/job"}],
            },
        }
        name = f"whisperbake-{folder.name}-{stage['name']}"
        engine.ask("DELETE", f"/containers/{name}?force=1")  # of a run that was killed
        made = engine.need("POST", f"/containers/create?name={name}", settings)["Id"]
        try:
            engine.need("POST", f"/containers/{made}/start")
            code = engine.need("POST", f"/containers/{made}/wait")["StatusCode"]
            _, raw = engine.ask("GET", f"/containers/{made}/logs?stdout=1&stderr=1&tail={TAIL}")
        finally:
            engine.ask("DELETE", f"/containers/{made}?force=1")
        if code != 0:
            lines = "\n  | ".join(logged(raw))
            raise Stop(7, f"stage {stage['name']} failed with {code}\n  | {lines}", f"the job's folder is {folder}")
        tell(f"  {stage['name']}: {time.monotonic() - began:.1f} s")


def logged(raw: bytes) -> list[str]:
    """Lines of a container's log: frames of an 8-byte head with the length in its last four bytes, then the text."""
    text, at = b"", 0
    while at + 8 <= len(raw):
        size = int.from_bytes(raw[at + 4 : at + 8], "big")
        text += raw[at + 8 : at + 8 + size]
        at += 8 + size
    return text.decode("utf-8", "replace").splitlines()


def accept(engine: Engine, inventory: Inventory, folder: Path, tell: Callable[[str], None]) -> str:
    """Run the example, compare with what the sender's images made of it; how it went. Raises Stop."""
    given = inventory["acceptance"]
    if not given:
        raise Stop(2, "this bundle has no acceptance run", "load one that has")
    try:
        expected = json.loads((folder / given["expected"]).read_bytes())
        recording = folder / given["recording"]
        job = new_job(folder / given["job"], recording, expected["name"], folder / "acceptance")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Stop(
            3, f"the acceptance job is not whole ({error})", "run load.py again, in the bundle's folder"
        ) from None
    tell("acceptance run: the example, in containers without a network")
    images = {i["stage"]: i.get("id") or i["manifest"] for i in inventory["images"] if i["stage"]}
    place = folder / "acceptance"
    run_job(engine, images, job, place, tell)
    got = {p: hashlib.sha256((place / p).read_bytes()).hexdigest() for p in expected["files"] if (place / p).is_file()}
    if got == expected["files"]:
        return f"accepted: {len(got)} files, byte for byte what the sender's images made"
    words = spoken(json.loads((place / expected["result"]).read_bytes()))
    wrong = different(expected["words"], words)
    if wrong > WORDS_WRONG * len(expected["words"]):
        raise Stop(
            7,
            f"the result is another: {wrong} of {len(expected['words'])} words differ",
            f"compare {place / 'output'} with {folder / given['expected']}",
        )
    return f"accepted: {wrong} of {len(expected['words'])} words differ (another processor rounds differently)"


def spoken(result: dict[str, Any]) -> list[str]:
    """The words of a result, in lower case, without punctuation."""
    text = " ".join(str(s["text"]) for s in result["segments"]).lower()
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text)


def different(first: list[str], second: list[str]) -> int:
    """Words that were changed, left out or added between the two."""
    pairs = difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes()
    return sum(max(b - a, d - c) for kind, a, b, c, d in pairs if kind != "equal")
