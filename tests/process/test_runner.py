"""Jobs run, fail, are killed and go on: with real processes, the stages are small scripts that keep the contract."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.core.config.types import Config, Defaults, StageSpec
from builder.core.jobs.job import Job, JobInput, JobStage
from builder.core.jobs.job import select as chosen
from builder.core.jobs.job_file import to_yaml
from builder.core.machine import GB, Hardware
from builder.core.progress import Progress
from builder.edges.jobs import folder, listing, outcome, preflight, runner
from builder.edges.jobs import folder as jobs
from builder.edges.jobs.budget import Budget
from builder.edges.jobs.hosts.native import Native
from builder.edges.jobs.outcome import Outcome
from builder.edges.machine import environment
from builder.edges.system import shell
from builder.errors import BakeError, InputError, IntegrityError, Interrupted, MissingError, StageError, UsageError
from builder.workflows.host import JobHost
from builder.workflows.run import QueueContext, QueueRan, RunOptions, run_several

ROOT = Path(__file__).resolve().parents[2]

STAGE = """\
import sys, time, os
from pathlib import Path
from typing import Any
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import contract

def work(job):
    for recording in job.inputs:
        with job.reading(recording) as path:
            text = path.read_text()
        for need in filter(job.has, {needs}):
            text += job.work(need, "01.txt").read_text()
        job.progress(recording, 1.0, 2.0)
        {body}
        job.write("01.txt", text + "{name};", output="{name}" == "last")
        job.write("01.txt", text + "{name};")

contract.main("{name}", work)
"""


SHA256 = hashlib.sha256(b"input").hexdigest()

NEEDS: dict[str, list[str]] = {"first": [], "middle": ["first"], "last": ["middle"]}


@pytest.fixture
def project(tmp_path: Path) -> Config:
    """A project of three stages, first → middle → last, and none of the real ones."""
    root = tmp_path / "p"
    (root / "stages").mkdir(parents=True)
    for shared in (ROOT / "stages").glob("*.py"):
        shutil.copy(shared, root / "stages")
    for name, needs in NEEDS.items():
        write_stage(root, name, needs)
    return Config(
        root=root,
        shipped=root,
        home=root / ".bake",
        jobs=root / "jobs",
        defaults=Defaults(),
        presets={},
        models={},
        pins={},
        stages={name: StageSpec(name=name, summary="", needs=tuple(needs)) for name, needs in NEEDS.items()},
        images={},
    )


def write_stage(root: Path, name: str, needs: list[str], body: str = "pass") -> None:
    folder = root / "stages" / name
    folder.mkdir(exist_ok=True)
    (folder / "main.py").write_text(STAGE.format(name=name, needs=needs, body=body))


def make(config: Config, number: int = 0, **bodies: str) -> Job:
    for name, body in bodies.items():
        write_stage(config.root, name, NEEDS[name], body)
    job = Job(
        id=f"20260101-00000{number}-x-0000",
        created="2026-01-01T00:00:00Z",
        workflow="subtitle",
        variant="slim",
        preset="p",
        key="k",
        inputs=(JobInput(id="01", name="talk.mp4", path="input/01.txt", sha256=SHA256, size=5, output="talk"),),
        stages=tuple(JobStage(name=n, needs=tuple(needs)) for n, needs in NEEDS.items()),
    )
    place = jobs.folder(config, job)
    for part in ("input", "work", "output", "logs"):
        (place / part).mkdir(parents=True, exist_ok=True)
    (place / "input/01.txt").write_text("input")
    (place / "job.yaml").write_text(to_yaml(job))
    return job


def go(config: Config, job: Job, seen: list[Progress] | None = None, **words: str) -> Outcome:
    on_progress = (seen if seen is not None else []).append
    return runner.run(config, job, host=host(config, job), on_progress=on_progress, selection=chosen(job, **words))


def host(config: Config, job: Job) -> Native:
    place = jobs.folder(config, job)
    return Native(
        stages=config.root / "stages", models=config.home, folder=place, python=Path(sys.executable), env=os.environ
    )


def test_stages_run_in_order_and_name_their_files(project: Config) -> None:
    """The result is there, the notes and events too, and nothing is left over."""
    job = make(project)
    seen: list[Progress] = []
    outcome = go(project, job, seen)
    assert [p.name for p in outcome.files] == ["01.txt"]
    assert outcome.files[0].read_text() == "inputinputinputfirst;middle;last;"
    assert [s.kept for s in outcome.stages] == [False, False, False]
    assert folder.state(outcome.folder.parent) == "done"
    assert not (outcome.folder.parent / ".scratch").exists()
    assert not list(outcome.folder.parent.rglob("*.tmp*"))


def test_a_second_run_keeps_everything_and_says_so(project: Config) -> None:
    """No stage is skipped without a word."""
    job = make(project)
    go(project, job)
    seen: list[Progress] = []
    outcome = go(project, job, seen)
    assert [s.kept for s in outcome.stages] == [True, True, True]
    assert sum("kept" in p.note for p in seen) == 3


def test_only_what_changed_runs_again(project: Config) -> None:
    """A broken result of the middle stage: it and what reads other bytes from it."""
    job = make(project)
    before = go(project, job).files[0].read_bytes()
    (jobs.folder(project, job) / "work/middle/01.txt").write_text("spoilt")
    outcome = go(project, job)
    assert [s.kept for s in outcome.stages] == [True, False, True]  # last read the same bytes as before
    assert outcome.files[0].read_bytes() == before


FAILURES = [
    ("raise contract.InputFault('talk.mp4: no audio stream')", InputError, "talk.mp4: no audio stream"),
    ("raise contract.ModelFault('model base is broken')", IntegrityError, "model base is broken"),
    ("raise ValueError('odd')", StageError, "stage middle failed: ValueError: odd"),
    ("os.kill(os.getpid(), 9)", StageError, "signal 9 .*memory"),
    ("os._exit(0)", StageError, "said it was done, but not run yet"),
    ("raise OSError(28, 'No space left on device')", MissingError, "the disk is full"),
]


@pytest.mark.parametrize(("body", "error", "words"), FAILURES)
def test_a_failed_stage_is_named_and_the_job_can_be_resumed(
    project: Config, body: str, error: type[BakeError], words: str
) -> None:
    """Each way to fail has its own message; after the cause is gone, the rest runs."""
    job = make(project, middle=body)
    with pytest.raises(error, match=words):
        go(project, job)
    assert folder.state(jobs.folder(project, job)) == "failed"
    write_stage(project.root, "middle", ["first"])
    outcome = go(project, job)
    assert [s.kept for s in outcome.stages] == [True, False, False]


@pytest.mark.parametrize("body", [body for body, _, _ in FAILURES])
def test_what_is_heard_is_not_lost_to_an_optional_stage(project: Config, body: str) -> None:
    """However it ends: the others do their work, the exit code says so, and the next run tries that one again."""
    project.stages["middle"] = replace(project.stages["middle"], optional=True)  # type: ignore[index]
    job = make(project, middle=body)
    job = replace(job, stages=tuple(replace(s, optional=s.name == "middle") for s in job.stages))
    (jobs.folder(project, job) / "job.yaml").write_text(to_yaml(job))
    outcome = go(project, job)
    assert outcome.files[0].read_text() == "inputlast;"
    assert outcome.failure is not None
    assert outcome.failure.exit_code == 8
    assert "is done without middle: " in outcome.failure.what
    assert folder.state(jobs.folder(project, job)) == "partial"
    assert go(project, job, only="last").files[0].read_text() == "inputlast;"
    write_stage(project.root, "middle", ["first"])
    outcome = go(project, job)
    assert [s.why for s in outcome.stages] == ["done before", "not run yet", "it ran without the results of middle"]
    assert outcome.failure is None
    assert outcome.files[0].read_text() == "inputinputinputfirst;middle;last;"
    assert folder.state(jobs.folder(project, job)) == "done"


def test_an_optional_stage_that_was_never_tried_comes_first(project: Config) -> None:
    """It has not failed: a job without it would be less than it can be."""
    project.stages["middle"] = replace(project.stages["middle"], optional=True)  # type: ignore[index]
    job = make(project)
    job = replace(job, stages=tuple(replace(s, optional=s.name == "middle") for s in job.stages))
    (jobs.folder(project, job) / "job.yaml").write_text(to_yaml(job))
    go(project, job, until="first")
    with pytest.raises(UsageError, match="stage middle comes first"):
        go(project, job, only="last")


def test_the_end_of_a_long_log_is_read(project: Config) -> None:
    """A stage may write gigabytes; the last lines are what tells."""
    job = make(project, middle="[print('y' * 999) for _ in range(3000)]; raise ValueError('odd')")
    with pytest.raises(StageError) as caught:
        go(project, job)
    assert caught.value.detail[-1] == "ValueError: odd"
    lines = outcome._lines(jobs.folder(project, job), "middle", 0)
    assert len(lines) < 1100


def test_the_log_and_its_last_lines_come_with_a_failure(project: Config) -> None:
    """Of this run, not of the one before."""
    job = make(project, middle="print('old'); raise ValueError('one')")
    with pytest.raises(StageError):
        go(project, job)
    write_stage(project.root, "middle", ["first"], "print('fresh'); raise ValueError('two')")
    with pytest.raises(StageError) as caught:
        go(project, job)
    assert caught.value.exit_code == 7
    assert caught.value.detail[-1] == "ValueError: two"
    assert not any("one" in line for line in caught.value.detail)
    assert Path(str(caught.value.where)).name == "middle.log"


def test_a_stage_never_sees_a_token_or_a_proxy(project: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline by construction: its environment is a list of its own."""
    monkeypatch.setenv("HF_TOKEN", "canary")
    monkeypatch.setenv("HTTPS_PROXY", "canary")
    job = make(project, first="text = ' '.join(f'{k}={v}' for k, v in sorted(os.environ.items()))")
    text = go(project, job).files[0].read_text()
    assert "canary" not in text
    assert "HF_HUB_OFFLINE=1" in text


GATE = "gate = job.root / 'work/gate'; gate.exists() and gate.open().read()"
"""In a stage: waits while somebody holds the writing end of the job's gate."""


def gated(place: Path) -> Path:
    """The gate at which a stage of a job waits; there until it is removed."""
    gate = place / "work/gate"
    os.mkfifo(gate)
    return gate


def reached(gate: Path) -> int:
    """Wait until a stage is at the gate; the writing end, which holds it there until it is closed."""
    ends: queue.Queue[int] = queue.Queue()
    threading.Thread(target=lambda: ends.put(os.open(gate, os.O_WRONLY)), daemon=True).start()
    return ends.get(timeout=30)


def test_two_runs_of_one_job_at_once(project: Config) -> None:
    """The second is refused at once, and the first isn't disturbed."""
    job = make(project, middle=GATE)
    gate = gated(jobs.folder(project, job))
    first = threading.Thread(target=lambda: go(project, job), daemon=True)
    first.start()
    writer = reached(gate)
    with pytest.raises(UsageError, match="already running"):
        go(project, job)
    assert folder.state(jobs.folder(project, job)) == "running"
    with pytest.raises(UsageError, match="is running"):
        listing.remove(project, [job.id], dry_run=False)
    os.close(writer)
    first.join()
    assert folder.state(jobs.folder(project, job)) == "done"


def queue_of(config: Config, parallel: int) -> QueueContext:
    """What jobs of the project share that run in this process's own python."""
    python = Path(sys.executable)
    here = JobHost(
        stages=lambda job, gpu: host(config, job),
        media=environment.media(config, python, os.environ),
        python=python,
        note="here",
    )
    return QueueContext(
        config=config,
        env=os.environ,
        on_progress=lambda step: None,
        host=here,
        hardware=Hardware(system="", machine="", cpu="", cores=2, threads=2, memory=8 * GB),
        budget=Budget(config.paths.budget, memory=8 * GB, gpus=0),
        options=RunOptions(parallel=parallel),
    )


def test_a_failed_job_stops_no_other_of_its_queue(project: Config) -> None:
    """Results stand in the queue's order, and the failure is the queue's."""
    pair = [make(project, number) for number in (1, 2)]
    (jobs.folder(project, pair[0]) / "input/01.txt").write_bytes(b"\xff none")
    ran = run_several(queue_of(project, parallel=1), pair)
    assert [job.id for job, _ in ran.results] == [job.id for job in pair]
    failed, done = (result for _, result in ran.results)
    assert isinstance(failed, InputError)  # the preflight sees other bytes than prepare did
    assert ran.failure is failed
    assert isinstance(done, Outcome)
    assert done.files[0].read_text() == "inputinputinputfirst;middle;last;"
    assert [folder.state(jobs.folder(project, job)) for job in pair] == ["interrupted", "done"]


def test_a_queued_job_is_held_waits_and_can_be_cancelled(project: Config) -> None:
    """While the first one runs nobody else runs or removes the second; whoever cancels it stops it alone."""
    pair = [make(project, number, middle=GATE) for number in (1, 2)]
    places = [jobs.folder(project, job) for job in pair]
    gate = gated(places[0])
    results: list[QueueRan] = []
    thread = threading.Thread(
        target=lambda: results.append(run_several(queue_of(project, parallel=1), pair)), daemon=True
    )
    thread.start()
    writer = reached(gate)
    assert [folder.state(place) for place in places] == ["running", "queued"]
    with pytest.raises(UsageError, match="already running"):
        go(project, pair[1])
    assert jobs.ask_to_stop(places[1])
    os.close(writer)
    thread.join(30)
    first, second = (result for _, result in results[0].results)
    assert isinstance(first, Outcome)
    assert isinstance(second, Interrupted)
    assert [folder.state(place) for place in places] == ["done", "interrupted"]


def test_a_queue_with_a_job_that_runs_elsewhere_begins_nothing(project: Config) -> None:
    """And holds none of its jobs afterwards."""
    pair = [make(project, number) for number in (1, 2)]
    places = [jobs.folder(project, job) for job in pair]
    with jobs.held(places[1]), pytest.raises(UsageError, match=f"job {pair[1].id} is already running"):
        run_several(queue_of(project, parallel=2), pair)
    assert not list(places[0].glob("work/*"))
    with jobs.held(places[0]):
        pass


DRIVER = """\
import os, sys, signal
from pathlib import Path
from typing import Any
sys.path.insert(0, {root!r})
from builder.core.config.types import Config, Defaults, StageSpec
from builder.edges.jobs import folder as jobs, runner
from builder.edges.jobs.budget import Budget
from builder.edges.jobs.hosts.native import Native
from builder.edges.jobs.outcome import Outcome
from builder.edges.machine import environment
from builder.errors import Interrupted
root = Path({project!r})
config = Config(root=root, shipped=root, home=root / ".bake", jobs=root / "jobs", defaults=Defaults(), presets={{}}, models={{}},
                pins={{}}, images={{}},
                stages={{n: StageSpec(name=n, summary="", needs=tuple(needs)) for n, needs in {needs!r}.items()}})
job = jobs.read(config, next((root / "jobs").iterdir()))
try:
    host = Native(stages=root / "stages", models=root, folder=jobs.folder(config, job), python=Path(sys.executable),
                  env=os.environ)
    runner.run(config, job, host=host, on_progress=lambda p: None)
except Interrupted:
    sys.exit(130)
"""


@pytest.mark.parametrize("stage", NEEDS)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_resumes_and_ends_with_the_same_bytes(project: Config, how: signal.Signals, stage: str) -> None:
    """kill -9 and Ctrl-C of the orchestrator in each stage; no stage outlives it, and what was done is kept."""
    job = make(project, **{stage: GATE})
    place = jobs.folder(project, job)
    gate = gated(place)
    script = DRIVER.format(root=str(ROOT), project=str(project.root), needs=NEEDS)
    process = subprocess.Popen([sys.executable, "-c", script])
    writer = reached(gate)
    process.send_signal(how)
    assert process.wait(10) == (-9 if how == signal.SIGKILL else 130)
    assert folder.state(place) == "interrupted"
    broken = select.poll()
    broken.register(writer, 0)
    assert broken.poll(5000) == [(writer, select.POLLERR)], "nobody reads from the gate any more"
    os.close(writer)
    gate.unlink()
    outcome = go(project, job)
    assert [s.name for s in outcome.stages if s.kept] == list(NEEDS)[: list(NEEDS).index(stage)]
    assert outcome.files[0].read_text() == "inputinputinputfirst;middle;last;"
    assert not list(place.rglob("*.tmp*"))


def test_events_that_are_cut_or_nonsense_are_left_out(project: Config) -> None:
    """Somebody truncates the file, or a killed writer left half a line."""
    job = make(project, middle="open(job.root / 'events.jsonl', 'w').write('{\"half')")
    go(project, job)
    place = jobs.folder(project, job)
    assert folder.state(place) == "done"
    events = [(e.get("stage"), e["event"]) for e in jobs.events(place)]
    assert ("first", "done") not in events, "what was truncated"
    assert events[-2:] == [("last", "done"), (None, "end")]


def test_interrupt_stops_the_stage_within_ten_seconds(project: Config) -> None:
    """Also one that ignores SIGTERM."""
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); job.note(recording, 'deaf'); time.sleep(60)"
    job = make(project, middle=deaf)

    began: list[float] = []

    def interrupt(step: Progress) -> None:
        if step.what == "middle note":
            began.append(time.monotonic())
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        runner.run(project, job, host=host(project, job), on_progress=interrupt)
    assert time.monotonic() - began[0] < 10
    assert caught.value.exit_code == 130
    assert folder.state(jobs.folder(project, job)) == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupt_while_a_stage_is_being_started_ends_that_stage(
    project: Config, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """The process exists, and nobody knows it yet: a container would run on for hours."""
    job = make(project, first="time.sleep(60)")
    place, started = host(project, job), []
    start = shell.start

    def slow(*words: Any, **options: Any) -> Any:
        started.append(start(*words, **options))
        signal.raise_signal(number)
        return started[-1]

    monkeypatch.setattr(shell, "start", slow)
    before = signal.signal(number, signal.default_int_handler)  # as the command does
    try:
        with pytest.raises(Interrupted):
            runner.run(project, job, host=place, on_progress=lambda _: None)
        assert [process.poll() is not None for process in started] == [True]
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_finding_and_removing_jobs(project: Config) -> None:
    """By id, by its beginning; a dry run removes nothing."""
    job = make(project)
    assert listing.find(project, "20260101").id == job.id
    assert listing.find(project, str(jobs.folder(project, job))).id == job.id
    with pytest.raises(UsageError, match="no job"):
        listing.find(project, "20260102")
    assert [j.state for j in listing.listing(project)] == ["prepared"]
    [(place, size)] = listing.remove(project, [job.id, "20260101"], dry_run=True)
    assert size > 0
    assert place.exists()
    listing.remove(project, [job.id], dry_run=False)
    assert list(project.jobs.iterdir()) == []


def test_a_cached_preflight_looks_again_when_something_changes(project: Config) -> None:
    """Cached for 24 hours, by what it looked at; never for the room on the disk."""
    job = make(project)
    python = Path(sys.executable)
    assert not preflight.check(project, job, python=python, now=1000.0).cached
    assert preflight.check(project, job, python=python, now=1000.0 + 86_000).cached
    assert not preflight.check(project, job, python=python, now=1000.0 + 87_000).cached
    assert not preflight.check(project, job, python=python, refresh=True).cached
    recording = jobs.folder(project, job) / "input/01.txt"
    recording.write_text("longer than before")
    found = preflight.check(project, job, python=python, now=1000.0)
    assert not found.cached
    with pytest.raises(InputError, match="bytes"):
        found.raise_failure()
    with pytest.raises(MissingError, match="environment"):
        preflight.check(project, job, python=None).raise_failure()


def test_a_stage_s_own_environment_is_looked_at(project: Config, tmp_path: Path) -> None:
    """Its absence is told with the stage; one that is made anew is looked at again."""
    job = make(project)
    python, own = Path(sys.executable), tmp_path / "bin/python"
    found = preflight.check(project, job, python=python, apart={"names": None})
    assert [(c.name, c.note) for c in found.checks[:2]] == [
        ("environment", "ready"),
        ("environment of names", "the native environment of stage names is missing"),
    ]
    with pytest.raises(MissingError, match="of stage names is missing") as caught:
        found.raise_failure()
    assert f"run {job.id}" in str(caught.value.hint)
    (tmp_path / "ready").write_text("")
    assert not preflight.check(project, job, python=python, apart={"names": own}).cached
    assert preflight.check(project, job, python=python, apart={"names": own}).cached
    (tmp_path / "ready").rename(tmp_path / "before")
    (tmp_path / "ready").write_text("")
    assert not preflight.check(project, job, python=python, apart={"names": own}).cached
    assert not preflight.check(project, job, python=python).cached


def test_a_job_whose_model_left_the_lock_says_so(project: Config) -> None:
    """Not a stack trace in the middle of the night."""
    from builder.core.jobs.job import ModelUse

    job = make(project)
    use = ModelUse(id="gone", path="x", digest="d", revision="r")
    job = replace(job, stages=(replace(job.stages[0], models={"asr": use}), *job.stages[1:]))
    with pytest.raises(MissingError, match="gone is no longer"):
        preflight.check(project, job, python=Path(sys.executable)).raise_failure()


def test_code_digests_agree_between_builder_and_stages(project: Config) -> None:
    """They share a contract, not code: both must compute the same."""
    sys.path.insert(0, str(project.root / "stages"))
    done = subprocess.run(
        [sys.executable, "-c", "import contract; print(contract.code_digest('first'))"],
        cwd=project.root / "stages",
        capture_output=True,
        text=True,
        check=True,
    )
    with contextlib.suppress(ValueError):
        sys.path.remove(str(project.root / "stages"))
    assert done.stdout.strip() == outcome.code_digest(project.root / "stages", "first")


def sounding(config: Config, *, cleaned: bool = False) -> tuple[Config, Job]:
    """A job of stages with the real ones' names: demux makes sound that asr hears, and a text that both others read.

    With ``cleaned`` asr hears what separate makes of it.
    """
    needs: dict[str, list[str]] = {"demux": [], "asr": ["demux"], "subtitles": ["demux", "asr"]}
    write_stage(config.root, "demux", [], body='job.write("01.wav", "sound"); job.write("01.c2.wav", "more")')
    heard = "separate" if cleaned else "demux"
    if cleaned:
        needs = {"demux": [], "separate": ["demux"], "asr": ["demux", "separate"], "subtitles": ["demux", "asr"]}
        body = 'job.write("01.wav", job.work("demux", "01.wav").read_text())'
        write_stage(config.root, "separate", ["demux"], body=body)
    write_stage(config.root, "asr", needs["asr"], body=f'text += job.work("{heard}", "01.wav").read_text()')
    write_stage(config.root, "subtitles", ["demux", "asr"])
    config = replace(config, stages={n: StageSpec(name=n, summary="", needs=tuple(each)) for n, each in needs.items()})
    job = replace(make(config), stages=tuple(JobStage(name=n, needs=tuple(each)) for n, each in needs.items()))
    (jobs.folder(config, job) / "job.yaml").write_text(to_yaml(job))
    return config, job


def kept(outcome: Outcome) -> dict[str, bool]:
    return {stage.name: stage.kept for stage in outcome.stages}


def test_removed_sound_is_made_again_only_for_who_hears_it(project: Config) -> None:
    config, job = sounding(project)
    go(config, job)
    heard = jobs.folder(config, job) / "work/demux"
    assert listing.remove_sound(config, [], dry_run=True) == [(heard.parents[1], 9)]
    assert (heard / "01.wav").exists()
    assert listing.remove_sound(config, [], dry_run=False) == [(heard.parents[1], 9)]
    assert sorted(path.name for path in heard.iterdir()) == ["01.txt", "manifest.json"]
    assert listing.remove_sound(config, [], dry_run=False) == []
    assert folder.state(heard.parents[1]) == "done"
    assert all(kept(go(config, job)).values())
    assert kept(go(config, job, first="subtitles")) == {"demux": True, "asr": True, "subtitles": False}
    assert not (heard / "01.wav").exists(), "nobody had to hear it"
    with pytest.raises(UsageError, match=r"demux comes first: the sound was removed"):
        go(config, job, only="asr")
    assert kept(go(config, job, first="asr")) == {"demux": False, "asr": False, "subtitles": False}
    assert (heard / "01.wav").read_text() == "sound"


def test_sound_without_noise_goes_and_comes_with_the_other(project: Config) -> None:
    config, job = sounding(project, cleaned=True)
    go(config, job)
    assert listing.remove_sound(config, [], dry_run=False) == [(jobs.folder(config, job), 14)]
    assert all(kept(go(config, job)).values())
    assert kept(go(config, job, first="subtitles"))["separate"]
    with pytest.raises(UsageError, match=r"comes first: the sound was removed"):
        go(config, job, only="asr")
    assert not any(kept(go(config, job, first="asr")).values())


def test_a_changed_stage_hears_the_sound_again(project: Config) -> None:
    """What runs for another reason needs it as much."""
    config, job = sounding(project)
    go(config, job)
    listing.remove_sound(config, [job.id], dry_run=False)
    write_stage(config.root, "asr", ["demux"], body='text += "2" + job.work("demux", "01.wav").read_text()')
    assert kept(go(config, job)) == {"demux": False, "asr": False, "subtitles": False}


def test_a_link_in_the_place_of_the_sound_is_neither_removed_nor_taken_for_it(project: Config, tmp_path: Path) -> None:
    config, job = sounding(project)
    go(config, job)
    heard = jobs.folder(config, job) / "work/demux"
    (heard / "01.wav").unlink()
    (tmp_path / "mine").write_text("sound")
    (heard / "01.wav").symlink_to(tmp_path / "mine")
    assert listing.remove_sound(config, [job.id], dry_run=False) == [(heard.parents[1], 4)]
    assert (tmp_path / "mine").read_text() == "sound"
    assert (heard / "01.wav").is_symlink()
    assert not kept(go(config, job))["demux"]
    assert not (heard / "01.wav").is_symlink()


def test_the_sound_of_a_running_job_stays(project: Config) -> None:
    config, job = sounding(project)
    go(config, job)
    with jobs.held(jobs.folder(config, job)):
        with pytest.raises(UsageError, match="running"):
            listing.remove_sound(config, [job.id], dry_run=False)
        assert listing.remove_sound(config, [], dry_run=False) == []
    assert (jobs.folder(config, job) / "work/demux/01.wav").exists()
