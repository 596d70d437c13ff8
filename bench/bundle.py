"""make bench-bundle: a bundle of images with random bytes as weights, against cp, sha256sum, docker save, and what it leaves out.

Wall times are medians of alternating runs (A B A B …) in one go. Sender and receiver are private engines (root, dockerd).
``docker save | gzip`` runs once: it takes minutes. Weights come in models of two sizes; the second is added for a delta.

    .venv/bin/python bench/bundle.py [--megabytes 2048] [--added 256] [--runs 3] [--store containerd] [--save]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness import BUILD, ROOT, Row, alternating, publish, ratio, spread
from harness import WORK as ALL

from tests.engine import private_engine
from tests.engine.conftest import copy_project

WORK = ALL / "bundle"
PREFIX = "wb-bench"
MB = 1_000_000

MODEL = """
  {id}:
    purpose: {purpose}
    title: random bytes
    licence: MIT
    hub: bench/{id}
"""
LOCK = """
  {id}:
    revision: {revision}
    files:
      - {{path: model.bin, size: {size}, sha256: {sha256}}}
    records: ["made by bench/bundle.py", "made by bench/bundle.py, again"]
"""

# VmHWM starts anew with a program, unlike ru_maxrss, which begins at its parent's.
LOADER = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""


def random_model(project: Path, stick: Path, id_: str, purpose: str, size: int) -> None:
    """A model of random bytes in the catalogue and the lock, its file on a stick."""
    place = stick / id_ / "model.bin"
    place.parent.mkdir(parents=True)
    digest = hashlib.sha256()
    with place.open("wb") as out:
        left = size
        while left:
            block = os.urandom(min(left, 16 << 20))
            digest.update(block)
            out.write(block)
            left -= len(block)
    words = {
        "id": id_,
        "purpose": purpose,
        "size": size,
        "sha256": digest.hexdigest(),
        "revision": digest.hexdigest()[:40],
    }
    for name, text in (("models.yaml", MODEL), ("models.lock", LOCK)):
        path = project / name
        path.write_text(path.read_text().rstrip("\n") + "\n" + text.format(**words).lstrip("\n"))


def run(words: Sequence[object], **more: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False, **more)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words[:4]))} … ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class Sender:
    """A checkout with models of random bytes, an engine, a state folder."""

    def __init__(self, project: Path, host: str) -> None:
        self.project = project
        self.env = {
            **os.environ,
            "DOCKER_HOST": host,
            "BAKE_REGISTRY": PREFIX,
            "BAKE_HOME": str(WORK / "home"),
            "BAKE_PRESET": "tiny-en",
        }

    def bake(self, *words: object) -> subprocess.CompletedProcess[str]:
        return run([*BUILD, *words], env=self.env, cwd=self.project)

    def create(self, out: Path, models: str, *more: object) -> dict[str, Any]:
        words = ("bundle", "create", out, "--mode", "docker-cpu", "--models", models, "--no-example", "--json", *more)
        return dict(json.loads(self.bake(*words).stdout))


def load(folder: Path, host: str, target: Path) -> dict[str, float]:
    """Run a bundle's loader; seconds, bytes sent, kB of memory."""
    began = time.perf_counter()
    words = [sys.executable, "-I", "-c", LOADER, folder / "load.py", "--to", target, "--no-accept", "--allow-unsigned"]
    done = run(words, env={"PATH": os.environ["PATH"], "DOCKER_HOST": host})
    sent = re.search(r"loaded: .*?([\d.]+) MB sent", done.stderr)
    assert sent is not None
    return {"seconds": time.perf_counter() - began, "mb": float(sent[1]), "memory": int(done.stdout.split()[-1]) / 1000}


def save_and_gzip(host: str, images: Sequence[str], target: Path) -> tuple[float, int]:
    """``docker save | gzip`` into a file, flushed; seconds, and the bytes before gzip."""
    began = time.perf_counter()
    with target.open("wb") as out:
        save = subprocess.Popen(["docker", "--host", host, "save", *images], stdout=subprocess.PIPE)
        gzip = subprocess.Popen(["gzip"], stdin=subprocess.PIPE, stdout=out)
        assert save.stdout is not None
        assert gzip.stdin is not None
        size = 0
        while chunk := save.stdout.read(1 << 20):
            size += len(chunk)
            gzip.stdin.write(chunk)
        gzip.stdin.close()
        if save.wait() or gzip.wait():
            raise SystemExit("docker save failed")
        os.fsync(out.fileno())
    return time.perf_counter() - began, size


def compare(sender: Sender, host: str, far: str, arguments: argparse.Namespace) -> list[Row]:
    one, two = "random-asr,silero-vad,d-vector", "random-asr,silero-vad,d-vector,random-align"
    out = WORK / "first"
    summary = sender.create(out, one)  # builds the images, packs their code
    inventory = json.loads((out / "inventory.json").read_bytes())
    blobs = [f for f in inventory["files"] if f["path"].startswith("blobs/")]
    unique = sum(f["size"] for f in blobs)
    plain = WORK / "blobs"
    plain.mkdir()
    with contextlib.ExitStack() as stack:  # the same bytes as plain files, for cp
        parts = [stack.enter_context((out / p["name"]).open("rb")) for p in inventory["parts"]]
        for f in blobs:
            with (plain / f["sha256"]).open("wb") as target:
                at, left = f["at"], f["size"]
                for part, described in zip(parts, inventory["parts"], strict=True):
                    take = min(left, max(described["size"] - at, 0))
                    if take > 0:
                        part.seek(at)
                        while take:
                            chunk = part.read(min(take, 16 << 20))
                            target.write(chunk)
                            take -= len(chunk)
                            left -= len(chunk)
                        at = 0
                    else:
                        at -= described["size"]

    def cp() -> float:
        shutil.rmtree(WORK / "copy", ignore_errors=True)
        (WORK / "copy").mkdir()
        copies = [WORK / "copy" / f["sha256"] for f in blobs]
        return seconds(lambda: (run(["cp", *plain.iterdir(), WORK / "copy"]), run(["sync", *copies])))

    def create() -> float:
        shutil.rmtree(WORK / "again", ignore_errors=True)
        return seconds(lambda: sender.create(WORK / "again", one))

    def sha256sum() -> float:
        return seconds(lambda: run(["sha256sum", *(out / p["name"] for p in inventory["parts"])]))

    def check() -> float:
        words = [sys.executable, "-I", out / "load.py", "--check", "--allow-unsigned"]
        return seconds(lambda: run(words, env={"PATH": os.environ["PATH"]}))

    create_, cp_ = alternating(arguments.runs, create, cp)
    shutil.rmtree(WORK / "again")
    verify_, check_, sum_ = alternating(
        arguments.runs, lambda: seconds(lambda: sender.bake("bundle", "verify", out)), check, sha256sum
    )
    created = statistics.median(create_)
    idle = [seconds(lambda: sender.create(out, one)) for _ in range(arguments.runs)]
    shutil.rmtree(WORK / "copy")
    names = [i["name"] for i in inventory["images"]]
    saved, raw = save_and_gzip(host, names, WORK / "saved.tar.gz")
    packed = (WORK / "saved.tar.gz").stat().st_size
    (WORK / "saved.tar.gz").unlink()
    rows = [
        (
            "create, against cp of the unique bytes with fsync",
            f"{ratio(create_, cp_)} ({spread(create_)}, {spread(cp_)})",
            "≤ 1.6 ×",
        ),
        *(
            (
                f"{name}, against sha256sum of the parts",
                f"{ratio(ours, sum_)} ({spread(ours)}, {spread(sum_)})",
                "≤ 1.15 ×",
            )
            for name, ours in (("verify", verify_), ("load.py --check", check_))
        ),
        ("create of a bundle that is there: nothing is written", spread(idle), ""),
        ("create, against docker save piped to gzip", f"{saved / created:.1f} × faster ({saved:.0f} s)", "≥ 8 ×"),
        (
            "size / docker save",
            f"{summary['bytes'] / raw:.3f} ({raw / MB:.0f} MB; with gzip {packed / MB:.0f} MB)",
            "< 1",
        ),
        ("size / unique bytes", f"{summary['bytes'] / unique:.4f} ({summary['bytes'] / MB:.0f} MB)", "≤ 1.01"),
    ]
    whole = load(out, far, WORK / "target")
    main = sender.project / "stages/asr/main.py"
    main.write_text(main.read_text() + "\n# a change\n")
    mine = WORK / "target/inventory.json"
    code = sender.create(WORK / "code", one, "--base", mine)
    updated = load(WORK / "code", far, WORK / "target")
    more = sender.create(WORK / "more", two, "--base", mine)
    added = load(WORK / "more", far, WORK / "target")
    nothing = load(WORK / "more", far, WORK / "target")
    words = [sys.executable, "-I", WORK / "more/load.py", "--rollback", "--to", WORK / "target"]
    back = [
        seconds(lambda: run(words, env={"PATH": os.environ["PATH"], "DOCKER_HOST": far}))
        for _ in range(2 * arguments.runs)
    ]
    fleet, union = one_for_all(sender, main, two, [out, WORK / "code"])
    size = arguments.added * MB
    return [
        *rows,
        ("delta: a line of a stage", f"{code['bytes'] / MB:.2f} MB", "≤ 1 MB"),
        ("delta: a model added, beyond the model", f"{(more['bytes'] - size) / MB:.2f} MB", "≤ 1 MB"),
        ("20 sites in 5 states, against what they lack", f"{fleet / union:.4f} × ({fleet / MB:.1f} MB)", "≤ 1.02 ×"),
        ("load: everything", f"{whole['seconds']:.1f} s, {whole['mb']:.0f} MB", ""),
        ("load: nothing new", f"{nothing['seconds']:.1f} s, {nothing['mb']:.1f} MB", ""),
        ("load: a line of a stage", f"{updated['seconds']:.1f} s, {updated['mb']:.1f} MB", "follows the delta"),
        ("load: a model added", f"{added['seconds']:.1f} s, {added['mb']:.0f} MB", "follows the delta"),
        ("load.py --rollback, there and back", spread(back), "≤ 1 s"),
        ("memory of the loader", f"{max(x['memory'] for x in (whole, updated, added)):.0f} MB", "≤ 100 MB"),
    ]


def one_for_all(sender: Sender, source: Path, models: str, states: list[Path]) -> tuple[int, int]:
    """Bytes of one bundle for 20 sites in 5 states, and of what bundles of their own would hold, each file once.

    Args:
        source: a stage's file, which differs from state to state.
        states: bundles that sites have loaded; others are made.
    """
    for k in range(len(states), 5):
        source.write_text(source.read_text() + f"\n# state {k}\n")
        states.append(WORK / f"state-{k}")
        sender.create(states[-1], models.rpartition(",")[0], "--base", states[0])
    source.write_text(source.read_text() + "\n# what all of them get\n")
    files: dict[str, int] = {}
    for k, state in enumerate(states):
        sender.create(WORK / f"own-{k}", models, "--base", state)
        files |= {
            f["path"]: f["size"] for f in json.loads((WORK / f"own-{k}" / "inventory.json").read_bytes())["files"]
        }
    sites = [word for k in range(20) for word in ("--base", states[k % 5])]
    return sender.create(WORK / "fleet", models, *sites)["bytes"], sum(files.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=2048, help="of weights that are there from the start")
    parser.add_argument("--added", type=int, default=256, help="of the model that is added")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--save", action="store_true", help="keep the table in bench/results.md")
    parser.add_argument("--store", default="containerd", choices=private_engine.STORES)
    arguments = parser.parse_args()
    if why := private_engine.why_not():
        raise SystemExit(f"private engines can't be started here: {why}")
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, WORK, ignore_errors=True)
        project = copy_project(WORK)
        random_model(project, WORK / "stick", "random-asr", "asr", arguments.megabytes * MB)
        random_model(project, WORK / "stick", "random-align", "alignment", arguments.added * MB)
        host = stack.enter_context(private_engine.engine(arguments.store))
        sender = Sender(project, host)
        sender.bake("models", "fetch", "random-asr", "random-align", "--from", WORK / "stick")
        sender.bake("models", "fetch", "silero-vad", "d-vector", "--from", ROOT / ".bake" / "models")
        shutil.rmtree(WORK / "stick")
        netns = stack.enter_context(private_engine.namespace())
        far = stack.enter_context(private_engine.engine(arguments.store, netns=netns))
        rows = compare(sender, host, far, arguments)
    note = f"{arguments.megabytes} MB of random weights, {arguments.store} store, Docker Engine {version()}"
    publish("bench-bundle", rows, save=arguments.save, note=note)


def version() -> str:
    done = run(["dockerd", "--version"])
    return done.stdout.split()[2].rstrip(",")


if __name__ == "__main__":
    main()
