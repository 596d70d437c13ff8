"""Works that faults strike: each makes its place, does its work there, and says what must hold whatever happens.

``NAME_place(place)`` makes the place, ``NAME(place)`` works in it (in a process of its own), ``NAME_holds(place)``
names what is wrong right after a fault.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.cli import main
from builder.core.config.types import StageSpec
from builder.core.images import oci
from builder.core.images.reference import target
from builder.core.jobs.job import Job, JobInput, JobStage
from builder.core.jobs.job_file import to_yaml
from builder.core.jobs.naming import CopyOptions, places
from builder.core.progress import silent
from builder.edges.images.layout import Layout
from builder.edges.jobs import delivery, folder, prepare, runner
from builder.edges.jobs.hosts.native import Native
from builder.edges.jobs.outcome import Outcome
from builder.edges.machine import project
from builder.edges.registry import http, push
from builder.edges.registry.blobs import Registry
from builder.edges.system import files, shell
from builder.edges.weights.store import Store
from tests import bundles, small_project
from tests.hub.server import REVISION
from tests.small_project import ROOT, Small, of_stages

ID = "20260101-000000-talk-0000"
KEPT = Small(entry="hub: org/kept", files={"kept.bin": b"kept" * 5000})
ONE = Small(
    entry="hub: org/one",
    files={"model.bin": bundles.noise(150_000, 5), "sub/config.json": b'{"one": 1}'},
    revision=REVISION,
)
OTHER = "d" * 40


def stored(place: Path, id_: str) -> str | None:
    """What is wrong with a model that was whole before."""
    config = project.load(place / "p", env={})
    return (
        "; ".join(map(str, Store(config.paths.models).verify(config.models[id_], config.pins[id_], deep=True))) or None
    )


def stray(place: Path) -> str | None:
    """A file of the store that is not what its pin says."""
    good = {small_project.pin_of(m.files).files[k].sha256 for m in (KEPT, ONE) for k in range(len(m.files))}
    for path in (place / "p/.bake/models/hub").rglob("*"):
        if path.is_file() and "refs" not in path.parts and files.sha256(path) not in good:
            return f"{path.relative_to(place)} is in the store, and not what a pin says"
    return None


def typed(place: Path, *words: str) -> int:
    """A command, typed in the project."""
    os.chdir(place / "p")
    return main(list(words))


# Weights


def fetch_place(place: Path) -> None:
    small_project.make(place / "p", {"kept": KEPT, "one": ONE}, fill=False)
    small_project.stock(place / "p", {"kept": KEPT})


def fetch(place: Path) -> int:
    return typed(place, "models", "fetch", "one")


def fetch_holds(place: Path) -> str | None:
    return stored(place, "kept") or stray(place)


def take_place(place: Path) -> None:
    fetch_place(place)
    (place / "stick").mkdir()
    (place / "stick/some.bin").write_bytes(ONE.files["model.bin"])
    (place / "stick/other").write_bytes(ONE.files["sub/config.json"])


def take(place: Path) -> int:
    return typed(place, "models", "import", str(place / "stick"))


take_holds = fetch_holds


def give_place(place: Path) -> None:
    small_project.make(place / "p", {"kept": KEPT, "one": ONE})


def give(place: Path) -> int:
    return typed(place, "models", "export", str(place / "out"), "kept", "one")


def give_holds(place: Path) -> str | None:
    return stored(place, "kept") or stored(place, "one")


def tidy_place(place: Path) -> None:
    small_project.make(place / "p", {"kept": KEPT, "one": ONE})
    newer = replace(ONE, revision=OTHER)
    shutil.rmtree(place / "p/stages")
    shutil.rmtree(place / "p/images")
    small_project.make(place / "p", {"kept": KEPT, "one": newer}, fill=False)


def tidy(place: Path) -> int:
    return typed(place, "models", "prune")


def tidy_holds(place: Path) -> str | None:
    return stored(place, "kept")


# Images


def layout_place(place: Path) -> None:
    pass


def layout(place: Path) -> int:
    made = Layout(place / "layout", place / "models")
    layers = []
    with files.locked(made.lock):
        for seed in (1, 2, 3):
            data = bundles.noise(70_000, seed)
            blob = made.take(iter([data[:30_000], data[30_000:]]), oci.TAR)
            layers.append(oci.Layer(blob=blob, diff_id=blob.digest, history={"created_by": "x"}))
        made.keep_parts({f"part-{k}": layer.blob for k, layer in enumerate(layers)})
        written = oci.write(oci.Image(config={"architecture": "amd64", "os": "linux"}, layers=tuple(layers), rest=()))
        made.put(written.config)
        manifest = made.put(written.manifest)
        made.record("x/asr:slim-cpu", {"manifest": manifest})
    made.export(place / "out", [made.image("x/asr:slim-cpu")], silent)
    return 0


def layout_holds(place: Path) -> str | None:
    """A blob is the one that it is called, whenever it can be seen."""
    for root in (place / "layout/blobs", place / "out/blobs"):
        for path in root.rglob("*"):
            if path.is_file() and not path.name.startswith(".") and files.sha256(path) != path.name.partition(".")[0]:
                return f"{path.relative_to(place)} is not what its name says"
    return None


def render_place(place: Path) -> None:
    (place / "p").mkdir()


def render(place: Path) -> int:
    return typed(place, "render", "--mode", "docker-cpu", "--preset", "starter", "--out", str(place / "out"))


def project_place(place: Path) -> None:
    (place / "p").mkdir()
    (place / "p/.gitignore").write_text("mine\n")


def project_(place: Path) -> int:
    return typed(place, "init", ".")


def project_holds(place: Path) -> str | None:
    return None if (place / "p/.gitignore").read_text().startswith("mine\n") else "a file of the user is gone"


def send_place(place: Path) -> None:
    pass


def images() -> tuple[list[push.PushedImage], dict[str, bytes]]:
    """Two images that share a layer, and the bytes of all blobs."""
    known: dict[str, bytes] = {}

    def add(data: bytes, kind: str) -> oci.Descriptor:
        found = oci.describe(kind, data)
        known[found.digest] = data
        return found

    layers = [add(bundles.noise(size, size), oci.TAR) for size in (300_000, 40_000, 7000)]
    made = []
    for name, parts in (("base", layers[:1]), ("asr", layers)):
        config = add(json.dumps({"name": name, "rootfs": {"type": "layers"}}).encode(), oci.CONFIG)
        manifest = {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            "config": config.json,
            "layers": [p.json for p in parts],
        }
        data = json.dumps(manifest).encode()
        described = oci.describe(oci.MANIFEST, data)
        made.append(push.PushedImage(name=name, tag="t", manifest=described, data=data, blobs=(*parts, config)))
    return made, known


def connected(place: Path) -> Registry:
    where = target(f"{os.environ['REGISTRY']}/tests", where="test")
    line = http.connect(where, login=None, authorities="", insecure=lambda: False, stop=http.StopSignal())
    return Registry(line, place / "uploads")


def send(place: Path) -> int:
    found, (made, known) = connected(place), images()
    where = target(f"{os.environ['REGISTRY']}/tests", where="test")
    steps = push.decide(made, found, where, others={}, on_progress=silent)
    stop = http.StopSignal()
    list(push.carry_out(steps, found, open_=lambda blob: iter([known[blob.digest]]), stop=stop, on_progress=silent))
    return 0


# Bundles


def pack_place(place: Path) -> None:
    pass


def pack(place: Path) -> int:
    bundles.three(weights=500_000).write(place / "bundle", part_size=200_000, extras={"job/note.txt": b"note"})
    return 0


def mend_place(place: Path) -> None:
    for name in ("bundle", "copy"):
        bundles.three(weights=300_000).write(place / name, part_size=200_000)
    (place / "bundle/whisperbake.tar.001").write_bytes(b"damaged")
    (place / "bundle/load.py").unlink()
    (place / "p").mkdir()


def mend(place: Path) -> int:
    return typed(place, "bundle", "repair", str(place / "bundle"), "--from", str(place / "copy"))


def mend_holds(place: Path) -> str | None:
    """What was whole stays, and the copy is only read."""
    parts = sorted(p.name for p in (place / "copy").iterdir())
    if "load.py" not in parts or len(parts) < 4:
        return "the copy has changed"
    same = [n for n in parts if n not in ("load.py", "whisperbake.tar.001")]
    broken = [n for n in same if (place / "bundle" / n).read_bytes() != (place / "copy" / n).read_bytes()]
    return f"{broken[0]} was whole" if broken else None


def load_place(place: Path) -> None:
    from tests.process.test_receiver import make

    make(place / "bundle", python="3.11")


def load(place: Path) -> int:
    os.environ["DOCKER_HOST"] = "unix:///nowhere.sock"
    sys.argv = [str(place / "bundle/load.py"), "--native", "--allow-unsigned", "--to", str(place / "target")]
    runpy.run_path(sys.argv[0], run_name="__main__")
    return 0


# Jobs

NEEDS: dict[str, tuple[str, ...]] = {"first": (), "last": ("first",)}


def a_job(place: Path) -> Job:
    """A job of stages that write what they read."""
    text = b"recording" * 1000
    sha256 = hashlib.sha256(text).hexdigest()
    entry = JobInput(id="01", name="talk.wav", path="input/01.wav", sha256=sha256, size=len(text), output="talk")
    job = Job(
        id=ID,
        created="2026-01-01T00:00:00Z",
        workflow="transcribe",
        variant="slim",
        preset="p",
        key="k",
        inputs=(entry,),
        stages=tuple(JobStage(name=n, needs=needs) for n, needs in NEEDS.items()),
    )
    for part in ("input", "work", "output", "logs"):
        (place / "jobs" / ID / part).mkdir(parents=True, exist_ok=True)
    (place / "jobs" / ID / "input/01.wav").write_bytes(text)
    (place / "jobs" / ID / "job.yaml").write_text(to_yaml(job))
    return job


def stage_place(place: Path) -> None:
    a_job(place)


def work(job: Any) -> None:
    """Of both toy stages."""
    for recording in job.inputs:
        with job.reading(recording) as path:
            data = path.read_bytes()
        if job.stage == "last":
            data += job.work("first", "01.bin").read_bytes()
            job.write_bytes("talk.txt", data, output=True)
        job.progress(recording, 1.0, 1.0)
        job.write_bytes("01.bin", data)
        job.save(recording, {"bytes": len(data)})


def stage(place: Path) -> int:
    import contract

    for name in NEEDS:
        sys.argv = [name, "--job", str(place / "jobs" / ID)]
        try:
            contract.main(name, work)
        except SystemExit as end:
            if end.code:
                return int(end.code or 1)
    return 0


def stage_holds(place: Path) -> str | None:
    """A manifest says what is there."""
    for path in (place / "jobs" / ID / "work").glob("*/manifest.json"):
        for name, digest in json.loads(path.read_bytes())["outputs"].items():
            if digest != f"sha256:{files.sha256(place / 'jobs' / ID / name)}":
                return f"{name} is not what its manifest says"
    return None


def run_place(place: Path) -> None:
    a_job(place)
    (place / "stages").mkdir()
    for shared in (ROOT / "stages").glob("*.py"):
        shutil.copy(shared, place / "stages")
    for name in NEEDS:
        (place / "stages" / name).mkdir()
        (place / "stages" / name / "main.py").write_text(
            "import sys\nfrom pathlib import Path\nfrom typing import Any\n"
            "sys.path.insert(0, str(Path(__file__).resolve().parents[1]))\nimport contract\n"
            f"{inspect.getsource(work)}\ncontract.main({name!r}, work)\n"
        )


def run(place: Path) -> int:
    stages = [StageSpec(name=n, summary="", needs=needs) for n, needs in NEEDS.items()]
    config = replace(of_stages(stages, root=place, home=place / "home"), jobs=place / "jobs")
    job = folder.read(config, place / "jobs" / ID)
    host = Native(
        stages=place / "stages",
        models=place / "home",
        folder=place / "jobs" / ID,
        python=Path(sys.executable),
        env=os.environ,
    )
    runner.run(config, job, host=host, on_progress=silent)
    return 0


run_holds = stage_holds


def media(options: Any, source: Path, out: Path | None) -> shell.Done:
    """In the place of stages/demux/clip.py."""
    if out is None:
        return shell.Done(code=0, out='{"video": false, "duration": 2.0}', err="")
    out.write_bytes(source.read_bytes()[:5000])
    return shell.Done(code=0, out='{"start": 1.0, "end": 2.0, "lead": 0.0}', err="")


def begin_place(place: Path) -> None:
    (place / "talk.wav").write_bytes(bundles.noise(60_000, 8))
    (place / "p").mkdir()


def begin(place: Path) -> int:
    from tests.unit.test_job import request

    config = project.load(ROOT, env={"BAKE_HOME": str(place / "home"), "BAKE_JOBS": str(place / "jobs")})
    prepare.prepare(config, [place / "talk.wav"], request(), media=media, on_progress=silent, resume=True)
    return 0


def begin_holds(place: Path) -> str | None:
    """A job is whole, or isn't there; the recording stays."""
    if files.sha256(place / "talk.wav") != hashlib.sha256(bundles.noise(60_000, 8)).hexdigest():
        return "the recording has changed"
    config = project.load(ROOT, env={"BAKE_HOME": str(place / "home"), "BAKE_JOBS": str(place / "jobs")})
    for job in (place / "jobs").glob("2*"):
        entry = folder.read(config, job).inputs[0]
        if files.sha256(job / entry.path) != entry.sha256:
            return "a job has another recording than it says"
    return None


def remove_place(place: Path) -> None:
    begin_place(place)
    begin(place)
    [job] = (place / "jobs").iterdir()
    (place / "id").write_text(job.name)
    for name in ("work/demux/01.wav", "work/demux/01.json", "output/talk.srt", "logs/demux.log"):
        (job / name).parent.mkdir(exist_ok=True)
        (job / name).write_text("made")


def remove(place: Path) -> int:
    os.environ["BAKE_JOBS"] = str(place / "jobs")
    return typed(place, "jobs", "remove", (place / "id").read_text())


def remove_holds(place: Path) -> str | None:
    return None if (place / "talk.wav").exists() else "the recording is gone"


def deliver_place(place: Path) -> None:
    for name, text in (("talk.srt", "one"), ("talk.json", '{"language": "de"}'), ("talk.txt", "words" * 5000)):
        (place / "jobs" / ID / "output").mkdir(parents=True, exist_ok=True)
        (place / "jobs" / ID / "output" / name).write_text(text)
    (place / "out").mkdir()
    (place / "out/mine.txt").write_text("mine")


def deliver(place: Path) -> int:
    results = place / "jobs" / ID / "output"
    entry = JobInput(id="01", name="talk.wav", path="input/01.wav", sha256="0" * 64, size=1, output="talk")
    job = Job(id=ID, created="", workflow="transcribe", variant="slim", preset="p", key="k", inputs=(entry,), stages=())
    outcome = Outcome(job=job, folder=results, files=tuple(sorted(results.iterdir())), stages=(), notes=(), seconds=1.0)
    wanted = CopyOptions(folder=place / "out", overwrite=True)
    done = delivery.deliver(outcome, wanted, places(wanted, [("talk.wav", None)]), results.parent)
    return 0 if done.undelivered is None else done.undelivered.exit_code


def deliver_holds(place: Path) -> str | None:
    """A copy is whole, or isn't there; what else is in the folder stays."""
    if (place / "out/mine.txt").read_text() != "mine":
        return "another file was changed"
    for path in (place / "out").glob("talk*"):
        if path.read_bytes() != (place / "jobs" / ID / "output" / path.name).read_bytes():
            return f"{path.name} is half a copy"
    return None
