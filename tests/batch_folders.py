"""Batches as a plan and nodes leave them, made without either: a plan, journals, results, and tars of them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder import __version__
from builder.core.batch import batch_file
from builder.core.batch.batch_file import Batch, Round
from builder.node.items import Item, compact, item_key, to_line
from builder.node.jobs import BegunItem, job_text
from builder.node.results.folder import folder_of, write_result
from builder.node.results.publish import digest_of
from builder.node.shard import read_batch
from tests.golden.report import SAID

STAGES = [
    {"name": "demux", "needs": [], "settings": {"stream": 0}, "models": {}, "optional": False},
    {"name": "subtitles", "needs": ["demux"], "settings": {}, "models": {}, "optional": False},
]

SIZE, MTIME = 1000, 1_700_000_000_000_000_000


def item(path: str, *, seconds: float = 60.0, shard: int = 0, unreadable: str = "", again: int = 0) -> Item:
    """An item of a plan; one that is unreadable has neither seconds nor a shard."""
    key = item_key(path, SIZE, str(MTIME))
    if unreadable:
        return Item(key=key, path=path, size=SIZE, mtime_ns=MTIME, unreadable=unreadable, again=again)
    return Item(key=key, path=path, size=SIZE, mtime_ns=MTIME, seconds=seconds, shard=shard, again=again)


@dataclass
class BatchFolder:
    """A batch's folder that a test fills."""

    folder: Path
    items: list[Item] = field(default_factory=list)

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def plan(self, *items: Item) -> BatchFolder:
        """Write batch.yaml and items.jsonl."""
        self.items = sorted(items, key=lambda one: one.path)
        (self.results / "journal").mkdir(parents=True, exist_ok=True)
        shards = 1 + max((one.shard for one in items if one.shard is not None), default=0)
        batch = Batch(
            version=__version__,
            created="2026-11-23T20:03:12Z",
            root="/archive",
            identity="mtime",
            shard_minutes=30.0,
            options={},
            mode="native",
            variant="slim",
            preset="starter",
            workflow="transcribe",
            images={},
            models={},
            job={
                "schema": 1,
                "workflow": "transcribe",
                "mode": "native",
                "variant": "slim",
                "preset": "starter",
                "stages": STAGES,
            },
            rounds=(Round(first=0, shards=shards),),
        )
        (self.folder / "batch.yaml").write_text(batch_file.to_text(batch))
        (self.folder / "items.jsonl").write_text("".join(f"{to_line(one)}\n" for one in self.items))
        return self

    def journal(self, shard: int, *events: Mapping[str, Any], name: str = "", torn: str = "") -> Path:
        """Write a journal; ``torn`` is a last line without its end."""
        file = self.results / "journal" / (name or f"{shard}-node-77-{len(events):08x}.jsonl")
        file.write_text("".join(f"{compact(event)}\n" for event in events) + torn)
        return file

    def publish(self, one: Item, said: Any = SAID, *, results: Path | None = None) -> Path:
        """An item's published folder."""
        folder = folder_of(self.results if results is None else results, one.key)
        files = {
            "work/subtitles/01.transcript.json": json.dumps(said),
            "work/demux/01.json": json.dumps({"duration": one.seconds, "video": False, "streams": []}),
            "output/talk.txt": f"Good morning, everyone ({said.get('language')}).\n",
        }
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        for stage in ("demux", "subtitles"):
            (folder / "work" / stage / "manifest.json").write_text("{}")
        (folder / "job.yaml").write_text(job_text(read_batch(self.folder), BegunItem(one, "ab" * 32)))
        (folder / "events.jsonl").write_text("")
        digest = digest_of({path: _sha256(text.encode()) for path, text in files.items()})
        write_result(folder, key=one.key, name=one.path, seconds=one.seconds, digest=digest)
        return folder


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def begin(shard: int = 0, *, t: float = 1000.0, items: int = 1, host: str = "node") -> dict[str, Any]:
    return {"event": "begin", "shard": shard, "host": host, "pid": 77, "t": t, "items": items}


def done(one: Item, *, took: float = 2.5, kept: bool = False) -> dict[str, Any]:
    rest = {"kept": True} if kept else {"took": took}
    return {"event": "done", "key": one.key, "seconds": one.seconds, **rest}


def failed(one: Item, reason: str = "it has no sound", **more: Any) -> dict[str, Any]:
    return {"event": "failed", "key": one.key, "kind": "recording", "stage": "demux", "reason": reason, **more}


def end(code: int = 0, *, t: float = 1060.0) -> dict[str, Any]:
    return {"event": "end", "code": code, "t": t}


def alive(t: float | None = None) -> dict[str, Any]:
    return {"event": "alive", "t": time.time() if t is None else t}


def members_of(results: Path) -> dict[str, bytes]:
    """The files below a folder of results, as a run packs them."""
    return {path.relative_to(results).as_posix(): path.read_bytes() for path in results.rglob("*") if path.is_file()}


def tar(
    members: Mapping[str, bytes],
    *,
    said: Mapping[str, str] | None = None,
    odd: Iterable[tarfile.TarInfo] = (),
    end: bytes | None = None,
) -> bytes:
    """A tar as a run packs it, or as somebody else would.

    Args:
        said: what end.json says in place of the members' sha256.
        odd: members without data, before the others.
        end: end.json in place of the right one; empty: none.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info in odd:
            archive.addfile(info)
        sums = {name: _sha256(data) for name, data in members.items()} if said is None else dict(said)
        right = json.dumps({"schema": 1, "shard": 0, "code": 0, "members": sums}).encode()
        last = right if end is None else end
        for name, data in [*members.items(), *([("end.json", last)] if last else [])]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
