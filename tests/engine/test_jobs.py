"""Jobs as compose projects: the same bytes as natively, few rights, stopped and resumed, nothing left behind."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.core.images import versions
from builder.core.jobs import compose, sandbox
from builder.core.weights.model import model_digest
from builder.edges.jobs import folder
from builder.edges.machine import project, voices
from tests.engine import private_engine
from tests.engine.conftest import OTHER_STORE, ROOT, Engine, copy_project, results
from tests.shared import EXAMPLE, SAME, native_python, state_folder
from tests.unit.test_voices import voice

CLIP = (*SAME, "--start", "1", "--end", "5", "--language", "en")
"""A short piece, for what doesn't depend on length."""

FEW = (*CLIP, "--workflow", "transcribe", "--no-diarization")
"""The same by five stages, for what doesn't depend on which: a container costs more than what it does with a short piece."""


def wait_for(test: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def prepared(engine: Engine, *more: str, env: Mapping[str, str] | None = None) -> Path:
    """A new job of the example."""
    done = engine.bake("prepare", EXAMPLE, *more, "--mode", "docker-cpu", "--no-build", "--json", env=env)
    assert done.code == 0, done.err
    return Path(done.data["folder"])


def said(place: Path, stage: str, event: str) -> bool:
    return any(e.get("stage") == stage and e["event"] == event for e in folder.events(place))


@pytest.fixture
def clean(engine: Engine, built: Any) -> Any:
    """What a job leaves on the engine must be nothing."""
    before = engine.left()
    yield
    assert engine.left() == before


@OTHER_STORE  # test_job_faults.py compares jobs on the other one
def test_a_job_in_containers_gives_what_native_gives(engine: Engine, native: Path, clean: None) -> None:
    """Byte for byte: two Pythons, one in an image without a network; and the image has what the other formats need."""
    done = engine.job(EXAMPLE, *SAME, "--formats", "all")
    assert done.code == 0, done.err
    assert "every stage ran in a container without network" in done.said
    place = engine.home / "jobs" / done.data["job"]
    found, expected = results(place), results(native)
    written = set(found.pop("subtitles/outputs")) - set(expected.pop("subtitles/outputs"))
    ends = ("words.vtt", "karaoke.ass", "ttml", "scc", "docx", "csv", "tsv")
    assert written == {f"output/dialogue.{end}" for end in ends}
    assert b"imsc1.1/text" in found["output/dialogue.ttml"]
    assert found["output/dialogue.scc"].startswith(b"Scenarist_SCC V1.0\n")
    assert {name: data for name, data in found.items() if name not in written} == expected
    shown = engine.bake("jobs", "show", place.name, "--json").data
    assert [s["state"] for s in shown["stages"]] == ["done"] * 7
    spans = {s["name"]: (s["began"], s["ended"]) for s in shown["stages"]}
    assert spans["diarize"][0] < spans["asr"][1], "diarize runs beside asr, not after it"
    assert sorted(p.name for p in place.iterdir()) == [
        ".lock",
        "compose.yaml",
        "events.jsonl",
        "input",
        "job.yaml",
        "logs",
        "output",
        "pipeline.log",
        "work",
    ]


ADA = tuple(
    (x - 128) / 637.25  # to unit length
    for x in base64.b64decode(
        "fmmod3OcS2yBbmxmZkuVIkuGQzyFXpVdZnqBl5NNrqNaTHgzDIe+U4SIfHlINWdon63DxK2XmMJGdrulQ8auaVWyf06rOalJf+dFJ5GVdzahhd"
        "lubHeQcGeIVW5+lH53UWhyzoxTMDaRU1ThlnVyhJOHtaFPp6u4iYyCmSp+sqZdZnOcqJqdm7Zh2EaYZYSFoTL/5j0kTUa1Yz2mi41RuUV1khTY"
        "oGRJnyONZadTaHTDsY+oRJxQjH9NZV9YfTOU"
    )
)
"""The example's second voice, eSpeak's: what ``voices add`` writes of 20.8 to 27 s, rounded to a byte each."""


@OTHER_STORE
def test_a_known_voice_has_its_name_in_containers(engine: Engine, clean: None, tmp_path: Path) -> None:
    """Byte for byte as natively: the containers' user reads the file of voices, which nobody else may."""
    home = state_folder(tmp_path / "home")
    pins = project.load(ROOT, env={}).pins
    voices.put(home / "voices", voice("Ada", model_digest(pins["campplus"]), vector=ADA))
    env = {"BAKE_HOME": str(home), "BAKE_JOBS": str(tmp_path / "jobs")}
    words = (*SAME, "--models", "campplus", "--start", "20", "--end", "28", "--until", "diarize")
    done = engine.job(EXAMPLE, *words, env=env)
    assert done.code == 0, done.err
    place = tmp_path / "jobs" / done.data["job"]
    heard = (place / "work/diarize/01.json").read_bytes()
    assert [known["name"] for known in json.loads(heard)["known"]] == ["Ada"]
    assert (place / "input/voices.json").stat().st_mode & 0o007 == 0
    shutil.rmtree(place / "work/diarize")
    stage = [native_python(), ROOT / "stages/diarize/main.py", "--job", place]
    subprocess.run(stage, env={**os.environ, "BAKE_MODELS": str(engine.home / "models")}, check=True)
    assert (place / "work/diarize/01.json").read_bytes() == heard


@OTHER_STORE
def test_docker_compose_up_does_it_alone(engine: Engine, native: Path, clean: None, tmp_path: Path) -> None:
    """In a folder whose name means something to a shell, to YAML and to compose; and run then keeps every stage."""
    env = {"BAKE_JOBS": str(tmp_path / 'it\'s $HOME "${X}" é: #1\n{{ y }}')}
    place = prepared(engine, *SAME, env=env)
    words = ["docker", "--host", engine.host, "compose"]
    up = subprocess.run([*words, "up"], cwd=place, capture_output=True, text=True, check=False)
    codes = subprocess.run([*words, "ps", "-a", "--format", "{{.ExitCode}}"], cwd=place, capture_output=True, text=True)
    down = subprocess.run([*words, "down"], cwd=place, capture_output=True, text=True, check=False)
    assert up.returncode == down.returncode == 0, up.stderr
    assert codes.stdout.split() == ["0"] * 7
    assert results(place) == results(native)
    assert engine.bake("jobs", "list", "--json", env=env).data[0]["state"] == "done"
    done = engine.job(place.name, env=env)
    assert all(s["kept"] for s in done.data["stages"])


def compose_up(engine: Engine, place: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """``docker compose up`` in a job's folder (with another compose file), then ``down``."""
    words = ["docker", "--host", engine.host, "compose", "--project-directory", str(place)]
    words += ["--file", "-" if text else str(place / "compose.yaml")]
    up, _ = (
        subprocess.run([*words, w], input=text, capture_output=True, text=True, check=False) for w in ("up", "down")
    )
    return up


@OTHER_STORE
def test_docker_compose_up_stays_possible_whatever_is_built_later(
    engine: Engine, clean: None, restored: None, tmp_path: Path
) -> None:
    """Of a job in containers and of a native one: with the images that it names, until it is removed."""
    env = {"BAKE_JOBS": str(tmp_path / "jobs")}
    place = prepared(engine, *FEW, env=env)
    native = engine.bake("prepare", EXAMPLE, *FEW, "--mode", "native", "--json", env=env)
    assert native.code == 0, native.err
    other = Path(native.data["folder"])
    old = yaml.safe_load((place / "compose.yaml").read_text())["services"]["subtitles"]["image"]
    assert yaml.safe_load((other / "compose.yaml").read_text())["services"]["subtitles"]["image"] == old
    project = copy_project(tmp_path)
    main = project / "stages/subtitles/main.py"
    for _ in range(versions.KEPT):  # until it is none of the versions that are kept
        main.write_text(main.read_text() + "\n# a change\n")
        built = engine.bake("build", "--mode", "docker-cpu", root=project, env=env)
        assert built.code == 0, built.err
    assert engine.docker("image", "prune", "--force").code == 0
    pruned = engine.bake("prune", "--json", env=env).data
    assert [(kept["tag"].partition(":")[0], kept["jobs"]) for kept in pruned["kept"]] == [
        (f"{engine.prefix}/subtitles", sorted([place.name, other.name]))
    ]
    assert place.name in engine.bake("prune", env=env).out
    for folder_ in (place, other):
        up = compose_up(engine, folder_)
        assert up.returncode == 0, up.stderr
        assert (folder_ / "output/dialogue.srt").is_file()
    assert f"{engine.prefix}/subtitles:slim-cpu" in {i["tag"] for i in engine.bake("images", "--json").data}
    assert engine.bake("jobs", "remove", place.name, other.name, env=env).code == 0
    released = engine.bake("prune", "--json", env=env).data["released"]
    assert len(released) == 5
    assert engine.docker("image", "inspect", pruned["kept"][0]["tag"]).code == 1


@OTHER_STORE
def test_docker_compose_up_goes_on_without_an_optional_stage(engine: Engine, clean: None) -> None:
    """As ``run`` does: exit code 0, the others' results, and ``run`` tries the stage again; one that is needed ends it."""
    place = prepared(engine, *CLIP)
    text = (place / "compose.yaml").read_text()

    def failing(*stages: str) -> str:
        project = yaml.safe_load(text)
        for stage in stages:
            project["services"][stage]["entrypoint"] = ["python3", "-c", "raise SystemExit(1)"]
        return yaml.safe_dump(project)

    ended = compose_up(engine, place, failing("demux"))
    assert ended.returncode == 1, ended.stderr
    assert not list((place / "output").iterdir())
    up = compose_up(engine, place, failing("align", "diarize", "mux"))
    assert up.returncode == 0, up.stderr
    assert (place / "output/dialogue.srt").is_file()
    assert not (place / "output/dialogue.mp4").exists()
    assert folder.state(place) == "partial"
    done = engine.job(place.name)
    assert done.code == 0, done.err
    again = [s["name"] for s in done.data["stages"] if not s["kept"]]
    assert again == ["diarize", "align", "subtitles", "mux"]


@OTHER_STORE
def test_what_a_container_may_do(engine: Engine, clean: None) -> None:
    """As the engine sees it, after compose has read our file."""
    place = prepared(engine, *SAME)
    words = ["docker", "--host", engine.host, "compose"]
    subprocess.run([*words, "create"], cwd=place, capture_output=True, check=True)
    try:
        containers = engine.client.containers.list(all=True, filters={"label": f"{compose.JOB}={place.name}"})
        assert len(containers) == 7
        for found in containers:
            host, image = found.attrs["HostConfig"], found.attrs["Config"]["Image"]
            assert image.startswith("sha256:")
            assert host["NetworkMode"] == "none"
            assert host["ReadonlyRootfs"] is True
            assert host["CapDrop"] == ["ALL"]
            assert host["SecurityOpt"] == ["no-new-privileges"]
            assert host["Privileged"] is False
            assert 0 < host["PidsLimit"] <= 1024
            assert 64_000_000 < host["Memory"] == host["MemorySwap"]
            assert 0 < host["NanoCpus"] <= 1e9 * engine.client.info()["NCPU"]
            assert found.attrs["Config"]["User"] == "65532:0"
            for mount in found.attrs["Mounts"]:
                if mount["Destination"] == "/models":
                    assert mount["RW"] is False
                else:
                    assert Path(mount["Source"]).parent == place
                    assert mount["RW"] == (mount["Destination"] in ("/job/work", "/job/output", "/job/events.jsonl"))
    finally:
        subprocess.run([*words, "down"], cwd=place, capture_output=True, check=True)


ESCAPE = """
import pathlib
for name in ("compose.yaml", "compose.override.yaml", ".env", "job.yaml", "input/01.mp4", "input/new", ".cancel"):
    try:
        pathlib.Path("/job", name).write_text("services: {}")
        print("wrote", name)
    except OSError:
        pass
"""


@OTHER_STORE
def test_a_stage_cannot_change_what_it_may_do(engine: Engine, clean: None) -> None:
    """A recording that takes over its decoder must not write the compose file that the next ``up`` follows."""
    place = prepared(engine, *SAME)
    text = yaml.safe_load((place / "compose.yaml").read_text())
    text["services"] = {"demux": {**text["services"]["demux"], "entrypoint": ["python3", "-c", ESCAPE]}}
    words = ["docker", "--host", engine.host, "compose", "--project-directory", str(place), "--file", "-"]
    done = subprocess.run(
        [*words, "run", "--rm", "-T", "demux"], input=yaml.safe_dump(text), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


@OTHER_STORE
def test_results_belong_to_the_caller(engine: Engine, clean: None) -> None:
    """As a user who isn't root, and to whom the folder belongs."""
    place = prepared(engine, *FEW)
    file = place / "compose.yaml"
    file.write_text(file.read_text().replace('user: "65532:0"', f'user: "{sandbox.user(12345, 678)}"'))
    for path in [place, *place.rglob("*")]:
        if path.name != "01.mp4":
            shutil.chown(path, 12345, 678)
    words = ["docker", "--host", engine.host, "compose"]
    subprocess.run([*words, "up"], cwd=place, capture_output=True, check=True)
    subprocess.run([*words, "down"], cwd=place, capture_output=True, check=True)
    made = [p.stat() for p in place.rglob("*") if p.is_file() and "output" in p.parts]
    assert made
    assert {(s.st_uid, s.st_gid) for s in made} == {(12345, 678)}


@OTHER_STORE
def test_ctrl_c_stops_the_containers_and_the_job_goes_on(engine: Engine, clean: None) -> None:
    """Within ten seconds; and what was done is kept."""
    place = prepared(engine, *FEW)
    before = engine.left()
    process = engine.begin(place.name)
    wait_for(lambda: said(place, "asr", "start"))
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert time.monotonic() - began < 10
    assert engine.left() == before
    assert folder.state(place) == "interrupted"
    done = engine.job(place.name)
    assert done.code == 0, done.err
    assert {s["name"]: s["kept"] for s in done.data["stages"]}["demux"] is True


@OTHER_STORE
def test_cancel_stops_one_job_of_a_queue(engine: Engine, clean: None) -> None:
    """Two at once, a third waits: the first is cancelled while it runs, the third before it runs."""
    places = [prepared(engine, *FEW) for _ in range(3)]
    process = engine.begin(*(p.name for p in places), "--parallel", "2")
    wait_for(lambda: said(places[0], "vad", "start"))
    assert folder.state(places[2]) == "queued"
    done = engine.bake("jobs", "cancel", places[0].name, places[2].name, "--json")
    assert [(d["was_running"], d["state"]) for d in done.data] == [(True, "interrupted"), (True, "interrupted")]
    assert process.wait(120) == 130
    found = json.loads(process.communicate()[0])["jobs"]
    assert ["error" in job for job in found] == [True, False, True]
    assert [folder.state(p) for p in places] == ["interrupted", "done", "interrupted"]


@OTHER_STORE
def test_parts_of_a_job(engine: Engine, clean: None) -> None:
    """--until, --from, --only: what runs, what is kept, and what is refused."""
    place = prepared(engine, *FEW)

    def ran(*flags: str) -> list[str]:
        done = engine.job(place.name, *flags)
        assert done.code == 0, done.err
        return [s["name"] for s in done.data["stages"] if not s["kept"]]

    assert ran("--until", "vad") == ["demux", "vad"]
    assert folder.state(place) == "part"
    refused = engine.job(place.name, "--only", "subtitles")
    assert refused.code == 2
    assert "stage align comes first" in refused.said
    assert ran() == ["asr", "align", "subtitles"]
    assert ran("--from", "subtitles") == ["subtitles"]
    assert ran("--only", "align") == ["align"]
    assert engine.job(place.name, "--from", "asrr").code == 2
    assert engine.job(place.name, "--from", "subtitles", "--until", "asr").code == 2


@OTHER_STORE
def test_preflight_looks_at_engine_compose_and_images(engine: Engine, clean: None) -> None:
    """Cached by what it saw; an image that has gone is seen at once."""
    place = prepared(engine, *CLIP)
    first, second = (engine.bake("preflight", place.name, "--mode", "docker-cpu", "--json") for _ in range(2))
    assert first.code == second.code == 0, first.err
    assert [first.data["cached"], second.data["cached"]] == [False, True]
    names = [c["name"] for c in first.data["checks"]]
    assert names[:4] == ["engine", "compose", "images", "secrets"]
    assert names[-2:] == ["disk", "memory"]
    tag = f"{engine.prefix}/mux:slim-cpu"
    engine.docker("tag", tag, "wb-keep:mux")
    engine.docker("rmi", tag)
    try:
        failed = engine.bake("preflight", place.name, "--mode", "docker-cpu", "--json")
        assert failed.code == 3
        assert tag in failed.said
    finally:
        engine.docker("tag", "wb-keep:mux", tag)
        engine.docker("rmi", "wb-keep:mux")


@OTHER_STORE
def test_logs_and_the_list_follow_a_job(engine: Engine, clean: None) -> None:
    """While it runs: what is running is in the list; -f ends when the job does."""
    place = prepared(engine, *FEW)
    process = engine.begin(place.name)
    wait_for(lambda: folder.state(place) == "running")
    follow = engine.bake("jobs", "logs", place.name, "--follow", "--json")
    assert follow.code == 0
    assert process.wait(60) == 0
    listed = {j["id"]: j for j in engine.bake("jobs", "list", "--json").data}
    assert listed[place.name]["state"] == "done"
    assert engine.bake("jobs", "logs", place.name, "nosuch").code == 2


@OTHER_STORE
def test_remove_takes_a_killed_runs_containers_along(engine: Engine, clean: None) -> None:
    """kill -9 of the orchestrator leaves containers; removing the job removes them."""
    place = prepared(engine, *FEW)
    process = engine.begin(place.name)
    wait_for(lambda: said(place, "demux", "start"))
    process.kill()
    process.wait()
    assert engine.left()["containers"]
    assert engine.bake("jobs", "remove", place.name).code == 0
    assert not place.exists()


@OTHER_STORE
def test_remove_leaves_a_running_job_alone(engine: Engine, clean: None) -> None:
    """Its containers were killed before the lock was found; several jobs, one of which runs: none goes."""
    place, other = prepared(engine, *FEW, "--end", "20"), prepared(engine, *FEW)  # the first can be paused in time
    process = engine.begin(place.name)
    wait_for(lambda: said(place, "asr", "start"))
    (asr,) = engine.docker("ps", "--quiet", "--filter", f"name={compose.project(place.name)}-asr").out.split()
    assert engine.docker("pause", asr).code == 0  # the job runs until it was asked three times
    for words in ((place.name,), (other.name, place.name), (place.name, "--dry-run")):
        refused = engine.bake("jobs", "remove", *words)
        assert refused.code == 2
        assert f"job {place.name} is running" in refused.said
    assert engine.docker("unpause", asr).code == 0
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert not [s for s in json.loads(out)["stages"] if s["kept"]]
    assert other.exists()
    assert engine.bake("jobs", "remove", place.name, other.name).code == 0
    assert not place.exists()


def long_silence(path: Path, hours: int) -> Path:
    """Two hours take no room: a file with a hole."""
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(16_000)
        wav.writeframes(b"\0\0")
    size = hours * 3600 * 32_000
    with path.open("r+b") as file:
        for at, value in ((4, 36 + size), (40, size)):
            file.seek(at)
            file.write(value.to_bytes(4, "little"))
        file.truncate(44 + size)
    return path


@OTHER_STORE
@pytest.mark.parametrize("after", ["run", "remove", pytest.param("cancel", marks=pytest.mark.heavy)])
def test_containers_of_a_native_job_that_was_killed_are_ended_first(
    engine: Engine, clean: None, tmp_path: Path, after: str
) -> None:
    """They write in a folder that root is about to work in."""
    assert engine.bake("build", "--mode", "native").code == 0
    env = {"BAKE_JOBS": str(tmp_path / "jobs")}
    words = [sys.executable, str(ROOT / "build.py"), "run", str(long_silence(tmp_path / "long.wav", 4))]
    process = subprocess.Popen(words, env=engine.env | env, cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_for(lambda: any(said(p.parent, "demux", "start") for p in (tmp_path / "jobs").glob("2*/job.yaml")))
    process.kill()
    process.wait()
    [left] = engine.left()["containers"]
    place = next((tmp_path / "jobs").glob("2*"))
    assert left == f"whisperbake-{place.name}-demux"
    if after == "run":
        process = subprocess.Popen([*words[:3], place.name], env=engine.env | env, cwd=ROOT, stderr=subprocess.DEVNULL)
        first = engine.client.containers.get(left).id
        wait_for(lambda: first not in {c.id for c in engine.client.containers.list()})
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    else:
        assert engine.bake("jobs", after, place.name, env=env).code == 0
    assert engine.left()["containers"] == []
    assert not (place / ".containers").exists()


PLANT = """
import os, pathlib
for part in ("work", "output"):
    place = pathlib.Path("/job", part)
    for name in ("x", "y"):
        (place / name).write_text("theirs")
        (place / name).chmod(0o600)
        os.link(place / name, place / f"{name}2")
        (place / f".{name}.copy").symlink_to(TARGET)
    for name in ("vad", "asr", "align", "diarize", "subtitles", "mux", ".scratch"):
        (place / name).symlink_to(pathlib.Path(TARGET).parent)
    for stage in ("subtitles", "mux"):
        for number in range(1, 100):
            for suffix in ("srt", "vtt", "json", "mp4"):
                (place / f".{stage}-{number}.tmp.{suffix}").symlink_to(TARGET)
    os.mkfifo(place / "fifo")
"""


@OTHER_STORE
@pytest.mark.parametrize("mode", ["native", "docker-cpu"])
def test_what_a_container_left_leads_nowhere(engine: Engine, clean: None, tmp_path: Path, mode: str) -> None:
    """A stage that a recording took over, then the same job again by root: no file of the host changes."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "crontab").write_text("mine")
    (victim / "crontab").chmod(0o600)
    place = prepared(engine, *CLIP)
    text = yaml.safe_load((place / "compose.yaml").read_text())
    code = PLANT.replace("TARGET", repr(str(victim / "crontab")))
    text["services"] = {"demux": {**text["services"]["demux"], "entrypoint": ["python3", "-c", code]}}
    words = ["docker", "--host", engine.host, "compose", "--project-directory", str(place), "--file", "-"]
    done = subprocess.run(
        [*words, "run", "--rm", "-T", "demux"], input=yaml.safe_dump(text), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    if mode == "native":
        assert engine.bake("build", "--mode", "native").code == 0
    ran = engine.bake("run", place.name, "--mode", mode, "--no-build")
    assert ran.code == 0, ran.err
    assert (place / "output/dialogue.srt").is_file()
    assert [p.name for p in victim.iterdir()] == ["crontab"]
    assert (victim / "crontab").read_text() == "mine"
    assert (victim / "crontab").stat().st_mode & 0o777 == 0o600


CDI = {
    "cdiVersion": "0.6.0",
    "kind": "nvidia.com/gpu",
    "devices": [{"name": "0", "containerEdits": {"env": ["CDI_GAVE=0"]}}],
}


@OTHER_STORE
def test_a_gpu_by_its_cdi_name(engine: Engine, clean: None, tmp_path: Path) -> None:
    """With a device that only sets a variable: the engine takes our reservation, and refuses one it doesn't know."""
    place = prepared(engine, *CLIP)
    text = yaml.safe_load((place / "compose.yaml").read_text())
    golden = yaml.safe_load((ROOT / "tests/golden/files/cdi.compose.yaml").read_text())["services"]["asr"]
    code = "import os; print(os.environ['CDI_GAVE'])"
    asr = {
        **text["services"]["asr"],
        "deploy": golden["deploy"],
        "depends_on": {},
        "entrypoint": ["python3", "-c", code],
    }
    text["services"] = {"asr": asr}
    words = ["docker", "--host", engine.host, "compose", "--project-directory", str(place), "--file", "-"]

    def run() -> subprocess.CompletedProcess[str]:
        words_ = [*words, "run", "--rm", "-T", "asr"]
        return subprocess.run(words_, input=yaml.safe_dump(text), capture_output=True, text=True, check=False)

    (tmp_path / "fake.json").write_text(json.dumps(CDI))
    with private_engine.reconfigured(engine.host, {"features": {"cdi": True}, "cdi-spec-dirs": [str(tmp_path)]}):
        done = run()
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "0"
        (tmp_path / "fake.json").unlink()
        wrong = run()
        assert wrong.returncode != 0
        assert "nvidia.com/gpu=0" in wrong.stderr
    subprocess.run([*words, "down"], input=yaml.safe_dump(text), capture_output=True, text=True, check=True)
