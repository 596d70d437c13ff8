"""Parts of a job, when they worked, and the rights that its containers share with others."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from builder.cli.places import PlacesOptions
from builder.core.config.types import StageSpec
from builder.core.jobs import compose, sandbox, timeline
from builder.core.jobs.job import Job, JobInput, JobStage, Selection, select
from builder.core.jobs.record.events import parsed_lines
from builder.edges.engine import needs
from builder.edges.jobs import budget as budgets
from builder.edges.jobs import edits as kept
from builder.edges.jobs import folder as jobs
from builder.edges.jobs import preflight
from builder.edges.jobs.budget import Budget
from builder.errors import MissingError, UsageError

NEEDS = {
    "demux": (),
    "vad": ("demux",),
    "asr": ("demux", "vad"),
    "align": ("demux", "asr"),
    "diarize": ("demux", "vad"),
    "subtitles": ("align", "diarize"),
    "mux": ("demux", "subtitles"),
}
JOB = Job(
    id="j",
    created="",
    workflow="subtitle",
    variant="slim",
    preset="p",
    key="k",
    inputs=(),
    stages=tuple(JobStage(name=n, needs=needs) for n, needs in NEEDS.items()),
)


def test_what_a_selection_runs() -> None:
    """--until stops, --from begins anew with all that follows and nothing that doesn't, --only is alone."""
    assert select(JOB).run == tuple(NEEDS)
    assert select(JOB).again == frozenset()
    assert select(JOB, until="asr").run == ("demux", "vad", "asr")
    assert select(JOB, until="mux").run == tuple(NEEDS)
    assert select(JOB, first="align").run == tuple(NEEDS)
    assert select(JOB, first="align").again == {"align", "subtitles", "mux"}
    both = select(JOB, first="asr", until="subtitles")
    assert "mux" not in both.run
    assert both.again == {"asr", "align", "subtitles"}
    assert select(JOB, only="vad") == Selection(run=("vad",), again=frozenset({"vad"}))


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"only": "asrr"}, 'no stage "asrr"'),
        ({"only": "asr", "until": "mux"}, "--only says it all"),
        ({"first": "mux", "until": "asr"}, "asr doesn't need mux"),
    ],
)
def test_selections_that_make_no_sense(words: dict[str, str], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        select(JOB, **words)  # type: ignore[arg-type]


def test_spans_are_the_last_run_of_each_stage() -> None:
    """Of a job that was killed, went on, and is at work now; lines that make no sense are left out."""
    lines = [
        {"t": 1.0, "event": "begin"},
        {"t": 1.0, "stage": "demux", "event": "start"},
        {"t": 2.0, "stage": "demux", "event": "done"},
        {"t": 2.0, "stage": "vad", "event": "start"},
        {"t": 9.0, "event": "begin"},
        {"t": "x", "stage": "vad", "event": "start"},
        {"t": 9.5, "stage": "asr", "event": "start"},
        {"t": 9.6, "stage": "asr", "event": "progress", "done": 1.0, "total": 4.0},
        {"t": 9.7, "stage": "asr", "event": "progress", "done": "?", "total": 0},
        {"t": 9.8, "stage": "mux", "event": "done"},
    ]
    written = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    found = timeline.spans(parsed_lines(written), NEEDS)
    assert [(s.stage, s.state, s.end) for s in found.values()] == [
        ("demux", "done", 2.0),
        ("vad", "stopped", 9.0),
        ("asr", "running", None),
    ]
    assert found["asr"].progress == 0.25
    bars = timeline.bars(list(found.values()), now=10.0, width=20)
    assert [len(b) <= 20 for b in bars] == [True] * 3
    assert [b.strip()[0] for b in bars] == ["█", "░", "▒"]
    assert bars[2].startswith(" ")
    assert timeline.bars([], now=0) == []


def test_a_night_between_two_runs_leaves_room_for_the_bars() -> None:
    spans = [timeline.Span(stage=n, start=at, end=at + 10, state="done") for n, at in (("a", 0), ("b", 90_000))]
    first, second = timeline.bars(spans, now=0, width=40)
    assert len(first.strip()) > 10
    assert len(second.strip()) > 10


def test_memory_is_never_given_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is granted together fits; who asks first gets first; what is given back is free."""
    budget = Budget(tmp_path / "budget.json", memory=1000, gpus=0)
    monkeypatch.setattr(budgets, "EVERY", 0.0)
    assert budget.take("a", memory=500)
    assert budget.take("a", memory=500), "once more is no more"
    assert not budget.take("large", memory=5000)
    assert not budget.take("small", memory=100), "it came after the large one"
    budget.give("a")
    assert budget.take("large", memory=5000), "alone, with all there is"
    assert not budget.take("small", memory=100)
    budget.give("large")
    assert budget.take("small", memory=100)


def test_a_gpu_has_one_stage_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And who waits for a GPU doesn't hold up those that need none, or another."""
    monkeypatch.setattr(budgets, "EVERY", 0.0)
    budget = Budget(tmp_path / "budget.json", memory=1000, gpus=2)
    assert budget.quietest() == 0
    assert budget.take("a", memory=100, gpu=0)
    assert budget.quietest() == 1
    assert not budget.take("b", memory=100, gpu=0)
    assert budget.take("c", memory=100)
    assert budget.take("d", memory=100, gpu=1)
    budget.give("a")
    assert budget.take("b", memory=100, gpu=0)


def test_the_dead_hold_nothing(tmp_path: Path) -> None:
    """A claim counts while its process lives: a number that another process has now is not it; nor is nonsense."""
    path = tmp_path / "budget.json"
    claims = [
        {"name": "x", "memory": 900, "gpu": None, "granted": True, "pid": pid, "born": 1.0}
        for pid in (os.getppid(), 1 << 22)
    ]
    path.write_text(json.dumps(claims))
    assert Budget(path, memory=1000, gpus=0).take("a", memory=500)
    path.write_text('[{"name"')
    assert Budget(path, memory=1000, gpus=0).take("b", memory=500)


def test_a_log_cannot_steer_the_terminal(tmp_path: Path) -> None:
    """A recording's metadata may hold escape sequences; a line without an end waits for it."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/demux.log").write_bytes(b"title \x1b]0;owned\x07\ttab\nsecond\nhalf")
    lines, offset = jobs.log_lines(tmp_path, "demux", 0, whole=True)
    assert lines == ["title \\x1b]0;owned\\x07\ttab", "second"]
    assert jobs.log_lines(tmp_path, "demux", offset, whole=False)[0] == ["half"]
    assert jobs.log_lines(tmp_path, "none", 0, whole=True) == ([], 0)


def test_containers_outside_of_a_project_have_the_same_rights() -> None:
    """The command line says what compose.yaml says; any path stands in one mount."""
    mounts = [
        sandbox.Mount(source='/a,b "c"', target="/in/x"),
        sandbox.Mount(source="/w", target="/out", writable=True),
    ]
    words = compose.run_command(
        "unix:///s",
        "img",
        ["--probe"],
        name="n",
        mounts=mounts,
        limits=sandbox.ContainerLimits(memory=500, cpus=2),
        user=sandbox.user(0, 0),
        variables={"A": "1"},
    )
    text = " ".join(words)
    for right in (
        "--network none",
        "--read-only",
        "--cap-drop ALL",
        "no-new-privileges",
        "--user 65532:0",
        "--pids-limit 1024",
        "--memory 500 --memory-swap 500",
        "--cpu-period 100000 --cpu-quota 200000",
    ):
        assert right in text
    assert 'type=bind,"source=/a,b ""c""",target=/in/x,readonly' in words
    assert "type=bind,source=/w,target=/out" in words
    assert sandbox.user(1000, 100) == "1000:100"


def test_the_full_variant_has_its_own_memory() -> None:
    """PyTorch alone is more than a slim stage takes; what says nothing has one figure."""
    assert StageSpec(name="a", summary="", memory_mb=100, memory_full_mb=900).memory("full") == 900_000_000
    assert StageSpec(name="a", summary="", memory_mb=100, memory_full_mb=900).memory("slim") == 100_000_000
    assert StageSpec(name="a", summary="", memory_mb=100).memory("full") == 100_000_000


def test_memory_grows_with_all_recordings_and_in_the_full_variant_with_the_longest() -> None:
    spec = StageSpec(
        name="a", summary="", memory_mb=100, memory_mb_hour=10, memory_full_mb=900, memory_full_mb_hour=1000
    )
    assert spec.memory("slim", [3600, 7200]) == 130_000_000
    assert spec.memory("full", [3600, 7200]) == 2_930_000_000
    careless = StageSpec(name="a", summary="", memory_mb=100)
    assert careless.memory("slim", [3600]) == 1_180_000_000, "who doesn't say keeps the whole sound"


INFO = {
    "ServerVersion": "26.1.5+dfsg1",
    "NCPU": 2,
    "MemTotal": 8_000_000_000,
    "ClientInfo": {"Plugins": [{"Name": "compose", "Version": "v2.26.1"}]},
}


def test_an_engine_that_will_do() -> None:
    assert needs.engine(INFO, "unix:///s").startswith("26.1.5")
    assert needs.compose(INFO) == "2.26.1"


@pytest.mark.parametrize(
    ("size", "seconds", "channels", "megabytes"),
    [
        (355, 130_000.0, "mix", 4147),  # a few bytes that last for a day and a half
        (355, 3600.0, "mix", 115),
        (355, None, "mix", 58),  # the silence that its clock may ask for
        (5_000_000, 3600.0, "mix", 115),
        (50_000_000, 60.0, "mix", 500),
        (9_000_000_000, 7200.0, "mix", 4147),
        (1_000_000, 3600.0, "split", 346),
    ],
)
def test_room_for_what_a_recording_becomes(size: int, seconds: float | None, channels: str, megabytes: int) -> None:
    """max(size x 10, duration x 32 kB/s): 355 B said 8 MB, and became 4.1 GB."""
    entry = JobInput(id="01", name="a.mka", path="input/01.mka", sha256="", size=size, output="a", duration=seconds)
    demux = JobStage(name="demux", needs=(), settings={"channels": channels})
    job = replace(JOB, inputs=(entry,), stages=(demux,))
    assert round(preflight.room(job) / 1e6) == 8 + megabytes
    film = replace(job, stages=(demux, JobStage(name="mux", needs=("demux",))))
    assert preflight.room(film) == preflight.room(job) + size


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"ServerVersion": "20.10.24"}, "the engine is 20.10.24"),
        ({"SecurityOptions": ["name=seccomp", "name=rootless"]}, "rootless"),
        ({"ClientInfo": {"Plugins": []}}, "no compose"),
        ({"ClientInfo": None}, "no compose"),
        ({"ClientInfo": {"Plugins": [{"Name": "compose", "Version": "2.5.0"}]}}, "compose is 2.5.0"),
    ],
)
def test_an_engine_that_will_not(more: dict[str, object], words: str) -> None:
    """Each named, before a container of the job is made."""
    looks = [lambda: needs.engine(INFO | more, "unix:///s"), lambda: needs.compose(INFO | more)]
    failures = [c.note for c in (preflight._inspect("x", look) for look in looks) if c.failure]
    assert len(failures) == 1
    assert words in failures[0]


def test_the_way_to_a_gpu(tmp_path: Path) -> None:
    """By runtime or by CDI; what lacks is named with what to type."""
    assert needs.gpu(INFO | {"Runtimes": {"runc": {}, "nvidia": {}}}, "nvidia") == "NVIDIA runtime"
    with pytest.raises(MissingError, match="no NVIDIA runtime"):
        needs.gpu(INFO | {"Runtimes": {"runc": {}}}, "nvidia")
    with pytest.raises(MissingError, match="no CDI device"):
        needs.gpu(INFO | {"CDISpecDirs": [str(tmp_path), "/nowhere"]}, "cdi")
    (tmp_path / "nvidia.yaml").write_text('kind: "nvidia.com/gpu"')
    assert needs.gpu(INFO | {"CDISpecDirs": [str(tmp_path)]}, "cdi") == "nvidia.com/gpu by CDI"


def test_a_folder_of_jobs_that_cannot_be_is_named(tmp_path: Path) -> None:
    """A file in its place is neither a bug nor a recording that has gone."""
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "jobs"):
        with pytest.raises(OSError, match="file") as caught:
            folder.mkdir(parents=True, exist_ok=True)
        error = jobs.disk_error(caught.value, folder)
        assert isinstance(error, MissingError)
        assert "BAKE_JOBS" in str(error.hint)


def test_deep_json_is_no_json(tmp_path: Path) -> None:
    """Whoever wrote it, Python's reader ends it with an error of its own."""
    deep = "[" * 200_000
    (tmp_path / "events.jsonl").write_text(f'{deep}\n{{"event": "begin"}}\n')
    assert [event["event"] for event in jobs.events(tmp_path)] == ["begin"]
    (tmp_path / "names.json").write_text(deep)
    with pytest.raises(UsageError, match="not JSON"):
        kept.names_file(tmp_path / "names.json")


def test_a_home_that_nobody_has_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell leaves ~nobody-at-all as it is, and so do we."""
    monkeypatch.chdir(tmp_path)
    Path("~nobody-at-all").mkdir()
    kept.save(Path("~nobody-at-all/text"), "said")
    assert kept.read_text(Path("~nobody-at-all/text")) == "said"
    wanted = PlacesOptions(output=Path("~nobody-at-all")).delivery()
    assert wanted is not None
    assert wanted.folder == tmp_path / "~nobody-at-all"
