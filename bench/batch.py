"""make bench-batch: thousands of short recordings on one machine, and the plan of a hundred thousand.

Clips are espeak-ng's voices (examples/make.py), each other words or another order of them. ``core`` runs a batch, two
shards at once, and beside it the decoding alone: one process, the same weights and settings, the model loaded once, and of
each clip nothing but the encoder, the text and the words' times. Some of the clips, 1 in ``--every``, are also jobs of their
own. Shards, decoding and jobs take turns. ``plan`` times plan, status and collect over sparse files whose lengths a cache knows.

    PYTHONPATH=.:bench .venv/bin/python bench/batch.py [core] [plan] [--clips 2000] [--every 5] [--runs 3] [--save]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import random
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import yaml
from harness import BUILD, ROOT, WORK, Row, native_python, publish, whisper
from speech.sound import DECODE

from builder.edges.batch.probes import probe_key
from builder.node.items import Item, compact, from_lines

SHORTEST, LONGEST = 3.0, 10.0
"""Seconds of a clip."""

WORKERS = 2
"""Shards at once, each with as many threads as its share of two cores."""

OPTIONS = ["--preset", "tiny-en", "--mode", "native", "--variant", "slim", "--threads", "1"]

SHARD = 30.0
"""Minutes of a shard, the command's own choice; fewer where there are few clips."""

ALONE = """
import json, sys
from pathlib import Path
asked = json.load(sys.stdin)
sys.path[:0] = [asked["stages"], asked["stages"] + "/asr"]
import contract, slim
from windows import Window, read
job = contract.StageJob(root=Path(asked["scratch"]), stage="asr", variant="slim", settings=asked["settings"],
                        uses={}, inputs=(), stages=("asr",))
model = slim.load(job, Path(asked["model"]))
for path in asked["sounds"]:
    sound = read(Path(path), Window(start=0.0, end=30.0))
    heard, = slim.hear(job, model, slim.encode(model, [sound]), "en")
    print("".join(word["word"] for word in heard.words).strip())
"""
"""The least that asr has to do, by its own backend: the floor has the same words, and no vad, files or second hearing."""

KEPT = f"import sys; sys.path.insert(0, {str(ROOT / 'stages')!r}); import watched; watched.keep_memory()\n{ALONE}"
"""The same with memory that is kept from clip to clip, as stages keep it and a plain program doesn't."""

PEER = """
import json, sys, wave
asked = json.load(sys.stdin)
how = asked["settings"]
sys.path.insert(0, asked["stages"])
from loading import stand_in
stand_in("huggingface_hub")
import numpy as np
from faster_whisper import WhisperModel
model = WhisperModel(asked["model"], device=how["device"], compute_type=how["compute_type"],
                     cpu_threads=how["threads"], local_files_only=True)
for path in asked["sounds"]:
    with wave.open(path) as wav:
        sound = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").astype(np.float32) / 32768
    segments, _ = model.transcribe(sound, language="en", beam_size=how["beam_size"], word_timestamps=True)
    print("".join(s.text for s in segments).strip())
"""
"""faster-whisper's own loop over the same clips, to see that the floor is none that nobody reaches."""

PEERED = 200
"""Clips that it gets at most."""


@dataclass(frozen=True)
class Clip:
    """A recording, and what demux makes of it."""

    path: Path
    sound: Path
    """16 kHz."""
    seconds: float


@dataclass(frozen=True)
class Cost:
    """Of commands that ran at the same time: seconds of wall time and of all their processes' processor time."""

    wall: float
    core: float


def maker() -> ModuleType:
    """examples/make.py, which no package has."""
    spec = importlib.util.spec_from_file_location("example_maker", ROOT / "examples/make.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def clips(folder: Path, count: int, seed: int = 17) -> list[Clip]:
    """``count`` WAV files of 3–10 s below ``folder``, and their sound at 16 kHz beside it: the same bytes every time."""
    make, chance = maker(), random.Random(seed)
    lines = [*make.LINES, *(text for _, text in make.EXAMPLE)]
    said = [make.speak(text, voice) for voice in make.VOICES for text in lines]
    said = [s * (0.25 / max(float(np.sqrt(np.mean(s**2))) * 2, 1e-6)) for s in said]
    recordings, sounds = folder / "recordings", folder / "sounds"
    recordings.mkdir(parents=True)
    sounds.mkdir()
    made = []
    for number in range(count):
        whole = _utterance(said, len(lines), make.RATE, chance)
        noise = np.random.default_rng(number).standard_normal(len(whole)).astype(np.float32) * 0.0005
        path = recordings / f"clip-{number:06}.wav"
        make.write_wav(np.clip(whole + noise, -1, 1), path)
        made.append(Clip(path, sounds / path.name, len(whole) / make.RATE))
    pairs = [(str(clip.path), str(clip.sound)) for clip in made]
    subprocess.run([native_python(), "-c", DECODE], input=json.dumps(pairs), text=True, check=True)
    return made


def _utterance(said: Sequence[Any], lines: int, rate: int, chance: random.Random) -> Any:
    """Sentences of one voice, with pauses between them, until the length that chance chose is nearly full."""
    room, voice = chance.uniform(SHORTEST, LONGEST) * rate, chance.randrange(len(said) // lines)
    parts = [np.zeros(round(chance.uniform(0.2, 0.5) * rate), np.float32)]
    for number in chance.sample(range(lines), lines):
        pause = np.zeros(round(chance.uniform(0.2, 0.6) * rate), np.float32)
        if sum(map(len, parts)) + len(said[voice * lines + number]) + len(pause) <= room:
            parts += [said[voice * lines + number], pause]
    whole = np.concatenate(parts)
    return np.pad(whole, (0, max(0, round(SHORTEST * rate) - len(whole))))


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process', in which programs may keep their bytecode, as they do where nobody forbids it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | dict(more)


def cost(commands: Sequence[Sequence[str | Path]], *, given: str | None = None, env: dict[str, str]) -> Cost:
    """Run commands at the same time; ends the program when one fails.

    The processor's seconds are those of every process that a command waited for.

    Args:
        given: standard input of each.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    running = []
    for words in commands:
        with tempfile.TemporaryFile() as told:
            told.write((given or "").encode())
            told.seek(0)
            out = tempfile.TemporaryFile()  # noqa: SIM115  closed below, after the process
            process = subprocess.Popen(
                [str(w) for w in words], env=environment(env), stdin=told, stdout=out, stderr=subprocess.STDOUT
            )
            running.append((words, process, out))
    for words, process, out in running:
        code = process.wait()
        if code:
            out.seek(0)
            raise SystemExit(f"{' '.join(map(str, words[:6]))} … ended with {code}:\n{out.read()[-2000:].decode()}")
        out.close()
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


class Batch:
    """A batch of clips, planned so that both workers have something to do."""

    def __init__(self, folder: Path, recordings: Path, minutes: float, options: Sequence[str]) -> None:
        self.folder = folder
        self.plan: list[str | Path] = [*BUILD, "batch", "plan", recordings, "--out", folder]
        rounds = math.ceil(minutes / SHARD / WORKERS)
        # A little more, since what is longer than its share by a second would make one shard more.
        self.plan += ["--shard-minutes", f"{1.02 * minutes / rounds / WORKERS:.3f}", *OPTIONS, *options]

    @property
    def shards(self) -> list[int]:
        """Their numbers."""
        rounds = yaml.safe_load((self.folder / "batch.yaml").read_text())["rounds"]
        return [n for one in rounds for n in range(one["first"], one["first"] + one["shards"])]

    def items(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "items.jsonl").read_text().splitlines()]

    def run(self, shards: Sequence[int]) -> Cost:
        """Shards at the same time."""
        return cost([[*BUILD, "batch", "run", self.folder, "--shard", str(n)] for n in shards], env={})

    def settings(self) -> dict[str, Any]:
        """Those of asr."""
        stages = yaml.safe_load((self.folder / "batch.yaml").read_text())["job"]["stages"]
        found: dict[str, Any] = next(stage["settings"] for stage in stages if stage["name"] == "asr")
        return found

    def published(self, key: str) -> Path:
        """An item's folder of results."""
        return self.folder / "results" / key[:2] / key

    def stages(self) -> dict[str, float]:
        """Stage -> the processor's seconds of all items, as the stages' manifests say them."""
        found: dict[str, float] = {}
        for item in self.items():
            for path in sorted((self.published(item["key"]) / "work").glob("*/manifest.json")):
                manifest = json.loads(path.read_text())
                found[manifest["stage"]] = found.get(manifest["stage"], 0.0) + manifest["cpu_seconds"]
        return found

    def words(self) -> int:
        """How many asr wrote."""
        count = 0
        for item in self.items():
            heard = json.loads((self.published(item["key"]) / "work/asr/01.json").read_text())
            count += sum(len(segment["words"]) for segment in heard["segments"])
        return count


def alone(script: str, batch: Batch, sounds: Sequence[Path], scratch: Path) -> Cost:
    """One process that loads the model once and hears the sounds one after the other."""
    asked = {
        "stages": str(ROOT / "stages"),
        "scratch": str(scratch),
        "model": str(whisper("tiny.en")),
        "settings": batch.settings(),
        "sounds": [str(s) for s in sounds],
    }
    env = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(batch.settings()["threads"])}
    return cost([[native_python(), "-c", script]], given=json.dumps(asked), env=env)


def as_jobs(names: Sequence[Path], folder: Path, options: Sequence[str]) -> Cost:
    """Each recording as a job of its own, two jobs at once."""
    words: list[str | Path] = [*BUILD, "run", *names, "--parallel", str(WORKERS), *OPTIONS, *options, "--json"]
    return cost([words], env={"BAKE_JOBS": str(folder)})


def core(asked: argparse.Namespace, folder: Path) -> list[Row]:
    """A batch beside its decoding alone and beside jobs, shard pair by shard pair."""
    made = clips(folder, asked.clips)
    sounds = {clip.path.name: clip.sound for clip in made}
    seconds = sum(clip.seconds for clip in made)
    batch = Batch(folder / "batch", folder / "recordings", seconds / 60, asked.options)
    planned = cost([batch.plan], env={})
    ours: list[Cost] = []
    floor: list[Cost] = []
    jobs: list[float] = []  # seconds of wall time for as many as the pair has
    items, shards = batch.items(), batch.shards
    for first in range(0, len(shards), WORKERS):
        pair = shards[first : first + WORKERS]
        ours.append(batch.run(pair))
        mine = [Path(item["path"]) for item in items if item["shard"] in pair]
        floor.append(alone(ALONE, batch, [sounds[path.name] for path in mine], folder))
        some = mine[:: asked.every]
        recordings = [folder / "recordings" / path.name for path in some]
        jobs.append(as_jobs(recordings, folder / f"jobs-{first}", asked.options).wall * len(mine) / len(some))
        told(
            f"shards {pair}: {ours[-1].core:.0f} s of the cores, decoding alone {floor[-1].core:.0f} s; "
            f"{ours[-1].wall:.0f} s by the clock, as jobs {jobs[-1]:.0f} s"
        )
    few = [clip.sound for clip in made[:PEERED]]
    least, kept, peer = (alone(script, batch, few, folder).core for script in (ALONE, KEPT, PEER))
    core_time, decoding = sum(c.core for c in ours), sum(c.core for c in floor)
    ratios = [a.core / b.core for a, b in zip(ours, floor, strict=True)]
    wall = planned.wall + sum(c.wall for c in ours)
    faster = [b / a.wall for a, b in zip(ours, jobs, strict=True)]
    what = f"{len(made)} clips, {seconds / 60:.0f} minutes, {len(shards)} shards, two at once"
    middle = f"{statistics.median(ratios):.2f} × ({min(ratios):.2f}–{max(ratios):.2f})"
    stages = batch.stages()
    each = ", ".join(f"{name} {took / decoding:.2f}" for name, took in stages.items())
    words = core_time - sum(stages.get(name, 0.0) for name in ("align", "diarize"))
    return [
        (f"{what}: wall time with the plan", f"{wall:.0f} s, {seconds / wall:.1f} × real time", ""),
        ("… core time; that of the plan", f"{core_time:.0f} s; {planned.core:.0f} s", ""),
        ("decoding alone, one process: core time", f"{decoding:.0f} s", ""),
        (f"batch run / decoding alone, core time, median of {len(ratios)} pairs of shards", middle, "≤ 1.25 ×"),
        ("… all together, with the plan", f"{(planned.core + core_time) / decoding:.2f} ×", ""),
        ("each stage / decoding alone", each, ""),
        ("the same without align and diarize, which decoding alone doesn't do", f"{words / decoding:.2f} ×", ""),
        (f"decoding alone / faster-whisper's own loop, {len(few)} clips", f"{least / peer:.2f} ×", ""),
        (f"decoding alone with memory kept as stages keep it / without, {len(few)} clips", f"{kept / least:.2f} ×", ""),
        (f"run --parallel 2, a job each, 1 in {asked.every} of the clips: wall time for all", f"{sum(jobs):.0f} s", ""),
        (
            "batch, faster than jobs: all together, with the plan; by pair",
            f"{sum(jobs) / wall:.1f} × ({min(faster):.1f}–{max(faster):.1f})",
            "≥ 4 ×",
        ),
        ("words that asr wrote", f"{batch.words()}", ""),
    ]


def plan(asked: argparse.Namespace, folder: Path) -> list[Row]:
    """Plan, status and collect of very many recordings: sparse files, whose lengths the cache of looks knows."""
    state, recordings, batch = folder / "state", folder / "recordings", folder / "batch"
    (state / "cache").mkdir(parents=True)
    home = Path(os.environ.get("BAKE_HOME") or ROOT / ".bake")
    for shared in ("models", "native"):
        (state / shared).symlink_to((home / shared).resolve())
    sparse(recordings, state / "cache/probes.jsonl", asked.items)
    env = {"BAKE_HOME": str(state)}
    words = [*BUILD, "batch", "plan", recordings, "--out", batch, *OPTIONS, *asked.options, "--json"]
    planned = measured(words, env=env)
    again = measured(words, env=env)
    half_done(batch)
    asking = [measured([*BUILD, "batch", "status", batch, "--json"], env=env) for _ in range(asked.runs)]
    said = json.loads(asking[-1].out)
    if said["items"] != asked.items or said["done"] != asked.items // 2:
        raise SystemExit(f"status counts {said['done']} of {said['items']}")
    collected = measured([*BUILD, "batch", "collect", batch, "--no-pages", "--json"], env=env)
    middle = statistics.median(one.wall for one in asking)
    most = max(planned.peak, again.peak, *(one.peak for one in asking), collected.peak)
    return [
        (f"plan of {asked.items} items", f"{planned.wall:.1f} s, {planned.peak / 1e6:.0f} MB", "≤ 60 s"),
        ("the same planned again, nothing new", f"{again.wall:.1f} s, {again.peak / 1e6:.0f} MB", ""),
        ("status, half of them done", f"{middle:.2f} s, {asking[-1].peak / 1e6:.0f} MB", "≤ 2 s"),
        ("collect --no-pages", f"{collected.wall:.1f} s, {collected.peak / 1e6:.0f} MB", ""),
        ("memory of each, at most", f"{most / 1e6:.0f} MB", "≤ 200 MB"),
    ]


def sparse(recordings: Path, cache: Path, count: int) -> None:
    """Files with a length and no bytes, 500 a folder, and what the cache says of them: 3 s to two hours each."""
    chance = random.Random(29)
    with cache.open("w") as out:
        for number in range(count):
            path = recordings / f"tape-{number // 500:04}" / f"take-{number % 500:03}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            seconds = round(min(7200.0, 3.0 * 2 ** chance.expovariate(0.35)), 3)
            with path.open("w") as file:
                file.truncate(44 + round(seconds * 32_000))
            status = path.stat()
            key = probe_key(str(path), status.st_size, status.st_mtime_ns)
            out.write(compact({"key": key, "seconds": seconds}) + "\n")


def half_done(batch: Path) -> None:
    """Journals of runs that had a result for every other item."""
    shards: dict[int, list[Item]] = {}
    with (batch / "items.jsonl").open("rb") as source:
        for number, item in enumerate(from_lines(source)):
            if item.shard is not None:
                shards.setdefault(item.shard, [])
                if number % 2 == 0:
                    shards[item.shard].append(item)
    journals, now = batch / "results/journal", time.time()
    journals.mkdir(parents=True, exist_ok=True)
    for shard, items in shards.items():
        lines: list[dict[str, Any]] = [
            {"event": "begin", "shard": shard, "host": "node", "pid": 7, "t": now - 3600, "items": len(items)}
        ]
        lines += [{"event": "done", "key": item.key, "seconds": item.seconds, "took": item.seconds} for item in items]
        lines += [{"event": "alive", "t": now - 3000 + 10 * k} for k in range(30)]
        lines.append({"event": "end", "code": 143, "t": now - 2000})
        text = "".join(f"{compact(line)}\n" for line in lines)
        (journals / f"{shard:05}-node-7-0123abcd.jsonl").write_text(text)


@dataclass(frozen=True)
class Measured:
    """A command that ended."""

    out: str
    wall: float
    """Seconds."""
    peak: int
    """Bytes of memory of its largest process."""


def measured(command: Sequence[str | Path], *, env: dict[str, str]) -> Measured:
    """Run a command; ends the program when it fails."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
        words = [str(w) for w in command]
        process = subprocess.Popen(words, env=environment(env), stdout=out, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
        for file in (out, said):
            file.seek(0)
        if process.returncode:
            raise SystemExit(
                f"{' '.join(words[1:4])} … ended with {process.returncode}:\n{said.read()[-2000:].decode()}"
            )
        return Measured(out.read().decode(), wall, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def told(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


PARTS: dict[str, Callable[[argparse.Namespace, Path], list[Row]]] = {"core": core, "plan": plan}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--clips", type=int, default=2000, help="of core")
    parser.add_argument(
        "--every", type=int, default=5, help="how many clips of core there are for each that is also a job"
    )
    parser.add_argument("--items", type=int, default=100_000, help="of plan")
    parser.add_argument("--runs", type=int, default=3, help="of status")
    parser.add_argument("--options", default="", help="job options beside the benchmark's own, as one word")
    parser.add_argument("--save", action="store_true", help="keep the table in bench/results.md")
    asked = parser.parse_args(arguments)
    asked.options = shlex.split(asked.options)
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    rows: list[Row] = []
    WORK.mkdir(exist_ok=True)
    for name in asked.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="batch-", dir=WORK) as folder:
            rows += PARTS[name](asked, Path(folder))
    note = f"espeak-ng's voices; {' '.join(asked.options) or 'the default options'} with tiny.en"
    publish("bench-batch", rows, save=asked.save, note=note)
    return 0


if __name__ == "__main__":
    sys.exit(main())
