"""make bench-int8: a model's weights in int8 against the float16 that they are made from, in one run.

Both are loaded by the CTranslate2 of the native environment, each time in a process of its own that computes in int8: from
float16 CTranslate2 makes that at each load (compute type int8_float32), from ours it takes what is there. Loading
is the call that makes the model, and memory the process's peak then, less what it had before; the first encoder run, which both
do alike, is told beside it.
Words are those of faster-whisper with word times, greedy, of the first recordings of bench-speech that are in a language of
the model's.

What making the int8 takes of memory is measured on a file of large-v3's shapes, all zeros.

    PYTHONPATH=. .venv/bin/python bench/int8.py [--models tiny.en,base] [--runs 7] [--count 20] [--save]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import ROOT, Row, native_python, publish, ratio
from speech import corpus, peers

from builder.edges.machine import project
from builder.edges.weights.store import Store

LOAD = """
import json, sys, time
import ctranslate2, numpy
place, compute, mels = sys.argv[1], sys.argv[2], int(sys.argv[3])
def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")  # the peak of the imports is forgotten (proc(5))
before, began = status("VmRSS"), time.perf_counter()
model = ctranslate2.models.Whisper(place, device="cpu", compute_type=compute, intra_threads=2)
loaded, memory = time.perf_counter() - began, status("VmHWM") - before
model.encode(ctranslate2.StorageView.from_array(numpy.zeros((1, mels, 3000), numpy.float32)))
print(json.dumps({"load": loaded, "ready": time.perf_counter() - began, "memory": memory}))
"""

WORDS = """
import json, sys
from faster_whisper import WhisperModel
place, compute, paths = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
model = WhisperModel(place, device="cpu", compute_type=compute, cpu_threads=2)
found = []
for path, language in paths:
    segments, _ = model.transcribe(path, word_timestamps=True, beam_size=1, temperature=0.0, language=language)
    found.append([[w.word, w.start, w.end, w.probability] for s in segments for w in s.words])
print(json.dumps(found))
"""

MAKE = """
import resource, sys
from builder.edges.weights.convert import int8
with open(sys.argv[1], "rb") as source:
    size = sum(map(len, int8.pieces(source)))
print('{"size": %d, "memory": %d}' % (size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
"""

FORMS = (("-int8", "int8"), ("", "int8_float32"))
"""What is added to a model's id, and the compute type with which each is loaded."""


class Bench:
    def __init__(self, runs: int, count: int) -> None:
        self.runs, self.count = runs, count
        self.python = native_python()
        self.config = project.load(ROOT, env={})
        self.store = Store(self.config.paths.models)

    def ask(self, code: str, *words: str, python: Path | None = None) -> Any:
        argv = [str(python or self.python), "-c", code, *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        return json.loads(done.stdout)

    def place(self, id_: str) -> Path:
        model, pin = self.config.models[id_], self.config.pins[id_]
        self.store.require(model, pin)
        return Path(self.store.folder(model, pin))

    def rows(self, id_: str) -> list[Row]:
        places = [self.place(id_ + end) for end, _ in FORMS]
        mels = "128" if "large-v3" in id_ or id_ == "turbo" else "80"
        sizes = [(place / "model.bin").stat().st_size for place in places]
        told: list[list[dict[str, float]]] = [[], []]
        for turn in range(self.runs + 1):
            for form, ((_, compute), place) in enumerate(zip(FORMS, places, strict=True)):
                found = self.ask(LOAD, str(place), compute, mels)
                if turn:  # the first reads the disk
                    told[form].append(found)
        rows = [(f"{id_}: model.bin", f"{sizes[0]:,} of {sizes[1]:,} bytes: {sizes[0] / sizes[1]:.3f} ×", "≤ 0.53 ×")]
        for what, aim in (("load", "≤ 0.6 ×"), ("ready", ""), ("memory", "≤ 0.6 ×")):
            ours, theirs = ([one[what] for one in form] for form in told)
            unit, scale = ("MB", 1e6) if what == "memory" else ("ms", 1e-3)
            shown = [f"{statistics.median(v) / scale:.0f} {unit}" for v in (ours, theirs)]
            rows.append((f"{id_}: {NAMES[what]}", f"{shown[0]}, of float16 {shown[1]}: {ratio(ours, theirs)}", aim))
        known = [r for r in corpus.readings() if r.language == "en" or not id_.endswith(".en")]
        asked = json.dumps([(str(r.path), r.language) for r in known[: self.count]])
        python = peers.python()  # the stages' environment has no hub client, which faster-whisper imports
        heard = [
            self.ask(WORDS, str(place), form[1], asked, python=python)
            for form, place in zip(FORMS, places, strict=True)
        ]
        same = sum(a == b for a, b in zip(*heard, strict=True))
        figure = f"{same} of {len(heard[0])} recordings identical ({sum(map(len, heard[0])):,} words)"
        return [*rows, (f"{id_}: words, times, probabilities", figure, "all")]


def shapes(layers: int = 32, width: int = 1280, words: int = 51866) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The matrices of large-v3, as CTranslate2 names them, nearly all of its 1.54 billion numbers."""
    yield "decoder/embeddings/weight", (words, width)
    for half in ("encoder", "decoder"):
        for layer in range(layers):
            for part in ("self_attention", *(["attention"] if half == "decoder" else [])):
                yield f"{half}/layer_{layer}/{part}/linear_0/weight", (3 * width, width)
                yield f"{half}/layer_{layer}/{part}/linear_1/weight", (width, width)
            yield f"{half}/layer_{layer}/ffn/linear_0/weight", (4 * width, width)
            yield f"{half}/layer_{layer}/ffn/linear_1/weight", (width, 4 * width)


def largest(path: Path) -> None:
    """A float16 file of large-v3's shapes; its numbers are holes of the file system's."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    with path.open("wb") as out:
        every = list(shapes())
        out.write(struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(every)))
        for name, shape in every:
            size = 2 * math.prod(shape)
            out.write(text(name) + struct.pack("<BIIBI", 2, *shape, 4, size))
            out.seek(size, os.SEEK_CUR)
        out.write(struct.pack("<I", 0))


def making() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.bin"
        largest(path)
        argv = [sys.executable, "-c", MAKE, str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT)
        told, size = json.loads(done.stdout), path.stat().st_size
    figure = f"{told['memory'] / 1e6:.0f} MB, interpreter and NumPy included ({size / 1e9:.2f} → {told['size'] / 1e9:.2f} GB)"
    return [("making large-v3's: memory", figure, "≤ 400 MB")]


NAMES = {"load": "load", "ready": "load to the first encoder run", "memory": "memory that the load takes, at most"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="tiny.en,base")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--count", type=int, default=20, help="recordings whose words are compared")
    arguments = parser.parse_args()
    bench = Bench(arguments.runs, arguments.count)
    rows = [*making(), *(row for id_ in arguments.models.split(",") for row in bench.rows(id_))]
    note = bench.ask("import ctranslate2, json; print(json.dumps('CTranslate2 ' + ctranslate2.__version__))")
    publish("bench-int8", rows, save=arguments.save, note=note)


if __name__ == "__main__":
    main()
