"""make bench-weights: weights as layers against BuildKit's ``COPY --link`` from a named context, in one run.

Weights are random bytes, new ones for every first bake. Both ways have the code's layers in BuildKit's cache and end with a
tagged image in the same engine. The image: a base of 20 MB, 0.3 GB of dependencies, weights, 100 kB of code, in the order
that core/images/layer_order.py plans; the peer's Dockerfile has the weights on the dependencies, as Dockerfiles do.
Needs an engine with a containerd store; disk: about eight times the largest size.

    PYTHONPATH=. .venv/bin/python bench/weights.py [--sizes 256,1024,4096] [--runs 3] [--save]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import WORK, Row, publish, ratio, spread

from builder.core.images import assembly
from builder.core.images.layer_order import Block, Stack, arrange
from builder.core.terms import Purpose
from builder.core.weights.model import FilePin, Model, Pin
from builder.edges.engine import connection as engines
from builder.edges.images import assemble, load
from builder.edges.images import code_image as code
from builder.edges.images.layout import Layout
from builder.edges.system import files, shell

MB = 1 << 20
FOLDER = WORK / "weights"
LAYOUT = Layout(FOLDER / "layout", FOLDER / "models")
DOCKERFILE = "FROM scratch\nCOPY --link base /\nCOPY --link {deps} /opt/deps\n{weights}COPY --link code /opt/code\n"
PEER = "COPY --link --from=weights / /models/\n"


def fill(path: Path, megabytes: int, *, half: bool = False) -> None:
    """Random bytes; with ``half``, every other stretch of 32 kB is zeros, as compressible as libraries are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        for _ in range(megabytes):
            if half:
                out.write(b"".join(os.urandom(1 << 15) + bytes(1 << 15) for _ in range(16)))
            else:
                out.write(os.urandom(MB))


def renew(path: Path) -> None:
    """Other bytes in a file, without writing all of it: a stretch in every 16 MB."""
    with path.open("r+b") as out:
        for at in range(0, path.stat().st_size, 16 * MB):
            out.seek(at)
            out.write(os.urandom(4096))


def tree(name: str, megabytes: int) -> Path:
    """A folder of the build context with that much in files of 4 MB."""
    folder = FOLDER / "context" / name
    if not folder.is_dir() or (megabytes and sum(p.stat().st_size for p in folder.glob("*")) != megabytes * MB):
        shutil.rmtree(folder, ignore_errors=True)
        for k in range(max(megabytes // 4, 1)):
            fill(folder / f"f{k}.so", min(megabytes, 4), half=True)
    return folder


def weights(name: str, megabytes: int) -> Path:
    path = LAYOUT.store / "onnx" / name / "model.bin"
    if not path.is_file() or path.stat().st_size != megabytes * MB:
        fill(path, megabytes)
    return path


def buildx(tag: str, text: str, *more: str) -> None:
    argv = [
        "docker",
        "buildx",
        "build",
        "--progress",
        "plain",
        "--provenance=false",
        "--tag",
        tag,
        "--file",
        "-",
        *more,
        str(FOLDER / "context"),
    ]
    done = shell.run(argv, stdin=text.encode())
    if done.code:
        raise SystemExit(done.err[-3000:])


def once(tag: str, deps: str, models: Sequence[str], sizes: dict[str, int]) -> dict[str, Any]:
    """One bake our way, in this process: what it took."""
    engine = engines.connect(os.environ)
    began = time.perf_counter()
    with files.locked(LAYOUT.lock):
        buildx(tag, DOCKERFILE.format(deps=deps, weights=""), "--output", code.output(LAYOUT))
        exported = code.exported(LAYOUT, tag)
        pins = []
        for name in models:
            path = LAYOUT.store / "onnx" / name / "model.bin"
            pin = FilePin(
                path="model.bin",
                size=path.stat().st_size,
                sha256=name.encode().hex().ljust(64, "0")[:52] + format(path.stat().st_mtime_ns, "x")[-12:],
            )
            model = Model(id=name, purpose=Purpose.OTHER, title=name, licence="MIT", target=f"onnx/{name}")
            pins.append((model, Pin(revision="1", files=(pin,))))
        own = [
            Block(name="base", kind="base", size=20 * MB),
            Block(name="libraries", kind="requirement", size=sizes[deps] * MB),
            Block(name="code", kind="code", size=100_000),
        ]
        carried = tuple(Block(name=f"model {m.id}", kind="model", size=p.size) for m, p in pins)
        blocks = arrange([Stack(image=tag, blocks=tuple(own), models=carried)])[tag]
        labels = assembly.labels(blocks, pins)
        image = assemble.assemble(LAYOUT, tag, exported, blocks, pins, labels=labels, on_progress=lambda _: None)
        built = {layer.blob.digest for layer in code.image(LAYOUT, exported).layers}
        contents = load.inspect(engine, LAYOUT)
        loaded = load.load(engine, LAYOUT, image, contents=contents, built=built, on_bytes=lambda done, total: None)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds": time.perf_counter() - began,
        "memory": memory,
        "sent": loaded.sent,
        "lacked": loaded.lacked,
        "order": [b.name for b in blocks],
    }


class Bench:
    def __init__(self, runs: int) -> None:
        self.runs = runs
        self.engine = engines.connect(os.environ)
        if self.engine.store != "containerd":
            raise SystemExit("bench-weights needs an engine with a containerd store")
        self.sizes = {"deps": 300, "few": 4, "many": 2048}
        tree("base", 20)
        tree("code", 0)
        self.change("code")
        self.memory = 0

    def ours(self, tag: str, deps: str, *models: str) -> dict[str, Any]:
        """In a process of its own, whose start counts."""
        argv = [sys.executable, __file__, "--once", json.dumps([tag, deps, models, self.sizes])]
        before = shell.run(["docker", "images", "--quiet", "--no-trunc", tag]).out.split()
        began = time.perf_counter()
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        found: dict[str, Any] = json.loads(done.stdout)
        self.memory = max(self.memory, found["memory"])
        if before and before != shell.run(["docker", "images", "--quiet", "--no-trunc", tag]).out.split():
            self.drop(*before)  # it would dangle
        return {**found, "seconds": seconds}

    def peer(self, tag: str, deps: str, *models: str) -> float:
        began = time.perf_counter()
        (name,) = models
        buildx(
            tag,
            DOCKERFILE.format(deps=deps, weights=PEER),
            "--load",
            "--build-context",
            f"weights={LAYOUT.store / 'onnx' / name}",
        )
        return time.perf_counter() - began

    def drop(self, *tags: str) -> None:
        shell.run(["docker", "rmi", "--force", *tags])

    def change(self, name: str) -> None:
        """Other files of the same size below a folder of the context."""
        for path in (FOLDER / "context" / name).glob("*"):
            if name == "code":
                path.write_bytes(os.urandom(100_000))
            else:
                renew(path)

    def layers(self, tag: str) -> list[str]:
        return list(self.engine.client.images.get(tag).attrs["RootFS"]["Layers"])

    def size(self, megabytes: int) -> tuple[list[Row], dict[str, float]]:
        """All rows of one size; the seconds that are compared between sizes."""
        tree("deps", 300)
        tree("few", 4)
        path, label = weights("large", megabytes), f"{megabytes} MiB"
        self.ours("wbb/plain:1", "deps")  # the code into BuildKit's cache, for both
        runs = self.runs if megabytes < 4096 else 1
        first: list[float] = []
        theirs: list[float] = []
        for _ in range(runs):
            renew(path)
            first.append(self.ours("wbb/ours:1", "deps", "large")["seconds"])
            theirs.append(self.peer("wbb/peer:1", "deps", "large"))
            self.drop("wbb/peer:1")
        rows: list[Row] = [
            (f"{label}: first bake", f"{spread(first)}, peer {spread(theirs)}: {ratio(first, theirs)}", "≤ 0.45 ×")
        ]
        changed, bare, coded = [], [], []
        for _ in range(self.runs):
            self.change("deps")
            bare.append(self.ours("wbb/plain:1", "deps")["seconds"])
            self.change("deps")
            changed.append(self.ours("wbb/ours:1", "deps", "large")["seconds"])
            self.change("code")
            coded.append(self.ours("wbb/ours:1", "deps", "large")["seconds"])
        more = statistics.median(changed) - statistics.median(bare)
        rows.append(
            (
                f"{label}: a requirement changes",
                f"{spread(changed)}; without weights {spread(bare)}: + {more:.2f} s",
                "+ ≤ 1 s",
            )
        )
        rows.append((f"{label}: code changes", spread(coded), "≤ 1.5 s"))
        added = []
        new = weights("new", 256)
        for _ in range(self.runs):
            self.ours("wbb/add:1", "few", "large")
            renew(new)
            added.append(self.ours("wbb/add:1", "few", "large", "new"))
        seconds = [a["seconds"] for a in added]
        most = max(a["sent"] for a in added) / MB
        rows.append(
            (f"{label}: a model of 256 MiB is added", f"{spread(seconds)}, {most:.0f} MiB sent", "its bytes alone")
        )
        renew(path)
        sent = []
        for k in range(5):
            self.change("code")
            sent.append(self.ours(f"wbb/five:{k}", "deps", "large")["sent"])
        chains = {tuple(self.layers(f"wbb/five:{k}")[:2]) for k in range(5)}
        rows.append(
            (
                f"{label}: the same weights in five images",
                f"{sum(sent) / megabytes / MB:.2f} × sent, {len(chains)} chain in the engine",
                "1 ×, 1",
            )
        )
        rows.append(
            (f"{label}: layout on disk", f"{self.written() / MB:.0f} MiB, no weights among them", "nothing extra")
        )
        self.drop(*(f"wbb/five:{k}" for k in range(5)), "wbb/add:1", "wbb/ours:1", "wbb/plain:1")
        shell.run(["docker", "buildx", "prune", "--all", "--force"])
        shutil.rmtree(LAYOUT.root, ignore_errors=True)
        return rows, {
            "requirement": statistics.median(changed),
            "code": statistics.median(coded),
            "added": statistics.median(seconds),
        }

    def small_on_many(self) -> Row:
        """A small model on 2 GB of dependencies: the layers below it are the ones that were there."""
        tree("many", 2048)
        weights("small", 20)
        weights("other", 30)
        self.ours("wbb/many:1", "many", "small")
        before = self.layers("wbb/many:1")
        found = self.ours("wbb/many:1", "many", "small", "other")
        kept = self.layers("wbb/many:1")[:2] == before[:2]
        self.drop("wbb/many:1")
        shutil.rmtree(FOLDER / "context/many")
        return (
            "a model of 30 MB on 2 GB of dependencies",
            f"{found['seconds']:.2f} s, {found['sent'] / MB:.0f} MiB sent, dependencies "
            + ("not unpacked again" if kept else "unpacked again"),
            "not unpacked again",
        )

    def written(self) -> int:
        return sum(p.stat().st_size for p in LAYOUT.root.rglob("*") if p.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="256,1024,4096", help="MiB")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--once", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(once(*json.loads(arguments.once))))
        return
    bench = Bench(arguments.runs)
    rows, seconds = [], {}
    for megabytes in [int(s) for s in arguments.sizes.split(",")]:
        more, seconds[megabytes] = bench.size(megabytes)
        rows += more
    if len(seconds) > 1:
        low, high = min(seconds), max(seconds)
        if {1024, 4096} <= seconds.keys():
            low, high = 1024, 4096
        for what in ("requirement", "code", "added"):
            rows.append(
                (
                    f"{what}: {high} MiB against {low} MiB of weights",
                    f"{seconds[high][what] / seconds[low][what]:.2f} ×",
                    "≤ 1.25 ×",
                )
            )
    rows.append(bench.small_on_many())
    rows.append(("memory of the builder, at most", f"{bench.memory / 1e6:.0f} MB", "≤ 150 MB"))
    publish(
        "bench-weights", rows, save=arguments.save, note=f"Engine {bench.engine.version}, {bench.engine.store} store"
    )


if __name__ == "__main__":
    main()
