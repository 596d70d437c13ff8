"""make bench-jobs: what it costs to run a job in containers, and that many of them leave nothing behind.

Needs an engine (DOCKER_HOST or the client's context); the images are built when they are missing. ``--whisperx`` builds
an image of the whisperX command line (8 GB, 10 minutes) and compares whole runs; ``--variant full`` compares the full
variant with it.

    .venv/bin/python bench/jobs.py [--runs 5] [--jobs 20] [--whisperx] [--variant slim] [--save]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from harness import BUILD, EXAMPLE, WORK, Row, alternating, build, publish, ratio, spread, timed, whisper, working

from builder.core.jobs import compose, sandbox
from builder.edges.engine import connection as engines
from builder.edges.jobs import folder as jobs

WHISPERX = "whisperx==3.8.6"
FFMPEG = "imageio-ffmpeg==0.6.0"
"""The whisperX command line calls ffmpeg; this wheel has one."""


class Bench:
    """Jobs of their own on an engine, with the project's weights."""

    def __init__(self, folder: Path, preset: str, variant: str) -> None:
        self.engine = engines.connect(os.environ)
        self.jobs = folder / "jobs"
        self.mode = ["--mode", "docker-cpu", "--variant", variant]
        self.env = {
            "DOCKER_HOST": self.engine.host,
            "BAKE_JOBS": str(self.jobs),
            "BAKE_PRESET": preset,
            "BAKE_VARIANT": variant,
        }
        # The whole engine: what is measured is orchestration, not what a limit slows down.
        self.limits = sandbox.ContainerLimits(memory=self.engine.memory, cpus=self.engine.cpus)
        self.beyond: list[float] = []
        self.plain: list[float] = []

    def bake(self, *arguments: str | Path) -> dict[str, object]:
        """A command's JSON."""
        return build(*arguments, env=self.env)

    def prepare(self, *more: str) -> Path:
        words: list[str | Path] = [
            "prepare",
            EXAMPLE,
            *self.mode,
            "--threads",
            "2",
            "--batch-size",
            "0",
            "--no-build",
            *more,
        ]
        return Path(str(self.bake(*words)["folder"]))

    def run(self, *more: str) -> float:
        """Seconds of ``run`` on a prepared job; what isn't a stage's own work goes to ``beyond``."""
        place = self.prepare(*more)
        seconds = timed([*BUILD, "run", place.name, *self.mode, "--no-build"], env=self.env)
        self.beyond.append(seconds - working(place))
        return seconds

    def one_by_one(self) -> float:
        """The same containers by ``docker run``, one after the other; what isn't their own work goes to ``plain``."""
        place = self.prepare()
        file = yaml.safe_load((place / "compose.yaml").read_text())
        began = time.perf_counter()
        for name, service in file["services"].items():
            given = [
                compose.Mount(source=str(place / m["source"]), target=m["target"], writable=not m["read_only"])
                for m in service["volumes"]
            ]
            words = compose.run_command(
                self.engine.host,
                service["image"],
                service["command"],
                name=f"bench-{place.name}-{name}",
                mounts=given,
                limits=self.limits,
                user=service["user"],
                variables=service["environment"],
            )
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{name}: {done.stderr}")
        seconds = time.perf_counter() - began
        self.plain.append(seconds - working(place))
        return seconds

    def ready(self) -> float:
        """Seconds from the start of the asr container until its model can transcribe."""
        place = self.prepare("--no-diarization")
        timed([*BUILD, "run", place.name, *self.mode, "--no-build", "--until", "vad"], env=self.env)
        began = time.time()
        timed([*BUILD, "run", place.name, *self.mode, "--no-build", "--only", "asr"], env=self.env)
        found = self.engine_start(place, began)
        timings = json.loads((place / "work/asr/manifest.json").read_text())["timings"]
        start = next(e["t"] for e in jobs.events(place) if e.get("stage") == "asr" and e["event"] == "start")
        return float(start) - found + float(timings["total"]) - float(timings["work"])

    def engine_start(self, place: Path, since: float) -> float:
        """When the engine began to start the asr container: its own event, in seconds since the epoch."""
        filters = {"type": "container", "event": "create", "label": f"{compose.JOB}={place.name}"}
        for event in self.engine.client.events(since=since, until=time.time(), decode=True, filters=filters):
            if event["Actor"]["Attributes"].get(compose.STAGE) == "asr":
                return float(event["timeNano"]) / 1e9
        raise SystemExit("the engine has no event of the container")

    def many(self, count: int) -> list[Row]:
        """``count`` jobs, two at once: how many are right, and what is left."""
        places = [self.prepare() for _ in range(count)]
        before, handles = self.left(), engine_handles(self.engine.host)
        began = time.perf_counter()
        words = [*BUILD, "run", *(p.name for p in places), *self.mode, "--no-build", "--parallel", "2", "--json"]
        process = subprocess.Popen(
            words, env=os.environ | self.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        with open_files(process.pid) as own:
            out, _ = process.communicate()
        seconds = time.perf_counter() - began
        wanted = {p.read_bytes() for p in places[0].glob("output/*.srt")}
        right = sum({p.read_bytes() for p in place.glob("output/*.srt")} == wanted for place in places)
        right = right if len(json.loads(out)["jobs"]) == count else 0
        time.sleep(2)
        after, later = self.left(), engine_handles(self.engine.host)
        leaks = {kind: len(set(after[kind]) - set(before[kind])) for kind in before}
        quarter = max(1, len(own) // 4)
        growth = max(own[-quarter:]) - max(own[quarter : 2 * quarter]) if len(own) > 8 else 0
        return [
            (f"{count} jobs, --parallel 2", f"{seconds:.0f} s, {seconds / count:.1f} s a job", ""),
            ("… of them right", f"{right} of {count}", "all"),
            ("… left: containers, networks, volumes", " ".join(str(leaks[k]) for k in leaks), "0 0 0"),
            (
                "… file handles: ours, last against second quarter; the engine's, after against before",
                f"{growth:+d}; {'not seen' if handles is None or later is None else f'{later - handles:+d}'}",
                "≤ 0; about 0",
            ),
        ]

    def left(self) -> dict[str, list[str]]:
        client = self.engine.client
        return {
            "containers": [c.id for c in client.containers.list(all=True)],
            "networks": [n.id for n in client.networks.list()],
            "volumes": [v.id for v in client.volumes.list()],
        }

    def whisperx(self) -> str:
        """An image with the whisperX command line on our base, built when it is missing; its tag."""
        tag = "wb-bench/whisperx:3.8.6"
        if engines.image_ids(self.engine.host, [tag]) is not None:
            return tag
        if sys.version_info[:2] != (3, 11):
            raise SystemExit("the base image has Python 3.11, and so has to have who installs for it")
        print(f"building {tag} (8 GB), once…", file=sys.stderr)
        base = next(i for i in self.engine.client.images.list() for t in i.tags if t.endswith("/base:slim-cpu"))
        context = WORK / "whisperx-image"
        shutil.rmtree(context, ignore_errors=True)
        context.mkdir(parents=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(context / "lib"), WHISPERX, FFMPEG]
        subprocess.run(pip, check=True)
        binary = next((context / "lib/imageio_ffmpeg/binaries").glob("ffmpeg-*"))
        (context / "bin").mkdir()
        binary.rename(context / "bin/ffmpeg")
        (context / "Dockerfile").write_text(
            f"FROM {base.tags[0]}\nCOPY bin /opt/peer/bin\nCOPY lib /opt/peer/lib\n"
            "ENV PYTHONPATH=/opt/peer/lib PATH=/opt/peer/bin:/usr/local/bin:/usr/bin:/bin\n"
            'ENTRYPOINT ["python3", "-m", "whisperx"]\n'
        )
        subprocess.run(
            ["docker", "--host", self.engine.host, "build", "--quiet", "--tag", tag, str(context)], check=True
        )
        shutil.rmtree(context)
        return tag

    def peer(self, tag: str, model: Path) -> float:
        """Seconds of one ``docker run`` of the whisperX command line on the example."""
        options = (
            "--model /model --device cpu --compute_type int8 --threads 2 --batch_size 4 --no_align --vad_method pyannote"
            " --language en --output_dir /tmp/out /in/recording.mp4"
        )
        sources = {EXAMPLE: "/in/recording.mp4", model: "/model"}
        given = [compose.Mount(source=str(source), target=target) for source, target in sources.items()]
        words = compose.run_command(
            self.engine.host,
            tag,
            options.split(),
            name=f"bench-whisperx-{time.time_ns()}",
            mounts=given,
            limits=self.limits,
            user=sandbox.user(0, 0),
            variables={"HF_HUB_OFFLINE": "1", "HOME": "/tmp", "OMP_NUM_THREADS": "2"},
        )
        return timed(words)


@contextmanager
def open_files(pid: int) -> Iterator[list[int]]:
    """How many files a process has open, ten times a second."""
    counts: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            try:
                counts.append(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))
            except OSError:
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield counts
    finally:
        over.set()
        thread.join()


def engine_handles(host: str) -> int | None:
    """Files that the engine's process has open; None where it can't be seen."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
            ours = host in words or host == engines.DEFAULT
            if Path(words[0]).name == "dockerd" and ours:
                return sum(1 for _ in (process / "fd").iterdir())
        except OSError:
            continue
    return None


def measure(asked: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=WORK) as folder:
        bench = Bench(Path(folder), "tiny-en", "slim")
        subprocess.run(
            [*BUILD, "build", "--mode", "docker-cpu"], env=os.environ | bench.env, stdout=subprocess.DEVNULL, check=True
        )
        place = bench.prepare()
        rows.append(("prepare", seconds(bench, asked.runs, "prepare", EXAMPLE, *bench.mode, "--no-build"), "≤ 1.0 s"))
        rows.append(("preflight, cached", seconds(bench, asked.runs, "preflight", place.name, *bench.mode), "≤ 0.3 s"))
        ours, plain = alternating(asked.runs, bench.run, bench.one_by_one)
        ours_beyond, plain_beyond = bench.beyond[1:], bench.plain[1:]
        rows += [
            ("seven stages, run", spread(ours), ""),
            ("the same containers, docker run one by one", spread(plain), ""),
            ("orchestration: beyond the stages' own work", spread(ours_beyond), ""),
            ("the same of docker run one by one", spread(plain_beyond), ""),
            ("orchestration / docker run one by one", ratio(ours_beyond, plain_beyond), "≤ 1.3 ×"),
        ]
        rows.append(
            ("container start to model ready, tiny.en", spread([bench.ready() for _ in range(asked.runs)]), "≤ 2.0 s")
        )
        if asked.jobs:
            rows += bench.many(asked.jobs)
        if asked.whisperx:
            model = whisper("base")
            starter = Bench(Path(folder), "starter", asked.variant)
            subprocess.run(
                [*BUILD, "build", *starter.mode], env=os.environ | starter.env, stdout=subprocess.DEVNULL, check=True
            )
            tag = starter.whisperx()
            same = ("--no-diarization", "--workflow", "transcribe", "--language", "en")
            ours, theirs = alternating(
                max(3, asked.runs // 2), lambda: starter.run(*same), lambda: starter.peer(tag, model)
            )
            rows += [
                (f"job in containers with what both have, {asked.variant}", spread(ours), ""),
                (f"{WHISPERX} command line in its own image, no alignment", spread(theirs), ""),
                ("job / whisperX", ratio(ours, theirs), "≤ 0.8 ×"),
            ]
    return rows


def seconds(bench: Bench, runs: int, *words: str | Path) -> str:
    """Of a whole command; the first run is left out."""
    found = [timed([*BUILD, *words], env=bench.env) for _ in range(runs + 1)][1:]
    return spread(found)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=20, help="jobs of the leak run; 0: none")
    parser.add_argument("--whisperx", action="store_true", help="compare with the whisperX command line (8 GB)")
    parser.add_argument("--variant", default="slim", help="what is compared with it: slim or full")
    parser.add_argument("--save", action="store_true", help="keep the table in bench/results.md")
    asked = parser.parse_args(arguments)
    rows = measure(asked)
    engine = engines.connect(os.environ)
    publish("bench-jobs", rows, save=asked.save, note=f"Engine {engine.version}, {engine.store} store")
    return 0


if __name__ == "__main__":
    sys.exit(main())
