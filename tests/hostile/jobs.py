"""Hostile job folders: what job.yaml says, what its files are, what containers left, swapped meanwhile or not.

Each attempt takes a finished job, changes some of it, and gives it to a command, in a process of its own. It had an effect
when something outside the job's folder changed, the command hung, or it ended with what it calls a bug.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import multiprocessing
import os
import random
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from builder.core.jobs import job_file
from builder.edges.machine import project
from builder.edges.system import files
from builder.receiver.jobs import places
from tests.golden.report import SAID
from tests.hostile import Attempt

ROOT = Path(__file__).resolve().parents[2]

ID = "20261123-200312-talk-4f2a"

PATIENCE = 60.0
"""Seconds until a command counts as hanging; they take one or two on a busy machine."""

MEMORY = 3 << 30
"""Bytes of address space for a command: what reads a file without a bound fails."""

SECRET = "canary-7f3a91"
"""What stands in a file that only links lead to."""

NOBODY = 65534

CODES = (0, 2, 3, 4, 5, 6, 7, 8)
"""Exit codes that say what is wrong; 1 is a bug."""

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("jobs", "list"),
    ("jobs", "show", ID),
    ("jobs", "show", ID, "--json"),
    ("jobs", "logs", ID),
    ("jobs", "logs", ID, "asr"),
    ("jobs", "report", ID),
    ("jobs", "report", "--out", "{out}/page.html"),
    ("jobs", "cancel", ID),
    ("jobs", "remove", ID),
    ("jobs", "remove", ID),
    ("jobs", "remove", ID, "--dry-run"),
    ("jobs", "name", ID, "S1=Ada"),
    ("jobs", "edit", ID, "--to", "{out}/text.txt"),
    ("jobs", "edit", ID, "--from", "{out}/given.txt"),
    ("jobs", "undo", ID),
    ("preflight", ID, "--mode", "docker-cpu"),
    ("run", ID, "--mode", "docker-cpu", "--no-build"),
    ("run", ID, "--mode", "docker-cpu", "--no-build", "--output", "{out}"),
    ("native", ID),
    ("native", ID),
    ("deliver", ID),
    ("give", ID),
    ("give", ID),
)
"""Every command that takes a job; native, deliver and give are what ``run`` does once everything is set up."""

PARTS = (
    ".",
    "job.yaml",
    "events.jsonl",
    ".lock",
    ".cancel",
    ".containers",
    ".scratch",
    ".recording.copy",
    "pipeline.log",
    "compose.yaml",
    "report.html",
    "edits",
    "edits/0001.json",
    "input",
    "input/01.mp4",
    "input/edits.json",
    "input/font-01.ttf",
    "work",
    "work/demux",
    "work/demux/01.json",
    "work/demux/01.wav",
    "work/asr",
    "work/asr/manifest.json",
    "work/subtitles",
    "work/subtitles/manifest.json",
    "work/subtitles/01.transcript.json",
    "work/.x.copy",
    "output",
    "output/talk.srt",
    "output/talk.json",
    "output/talk.mp4",
    "output/.asr-1-0.tmp.json",
    "logs",
    "logs/asr.log",
    "logs/demux.log",
)

TEXTS: tuple[Any, ...] = (
    "../../canary/secret",
    "../canary",
    "{canary}/secret",
    "{canary}",
    "/etc/passwd",
    "/dev/zero",
    "input/../../../canary/secret",
    "",
    ".",
    "..",
    "~root",
    "-rf",
    "a\0b",
    "a\nb",
    "\x1b]0;x\x07",
    "\u202egpj.exe",
    "\ud800",
    "x" * 300,
    "x" * 100_000,
    "$(touch {canary}/x)",
    "${{HOME}}",
    "{{ 7*7 }}",
    "%s%n",
    "<script>alert(1)</script>",
    "01",
    "asr",
    "cuda",
    "subtitle",
    None,
    True,
    0,
    -1,
    1 << 63,
    1 << 70,
    10**400,
    1e308,
    math.inf,
    math.nan,
    0.1,
    [],
    {},
    ["x"],
    {"x": {"y": ["z"]}},
    [[[[[[[[[[]]]]]]]]]],
)
"""Values of any kind for any field."""


@functools.cache
def good() -> str:
    """job.yaml of a job as prepare makes it."""
    from tests.process.test_hostile_jobs import made

    return job_file.to_yaml(made(ROOT))


def plant(place: Path) -> Path:
    """A finished job with everything that a run leaves; its folder."""
    folder = place / "jobs" / ID
    for part in ("input", "work/demux", "work/asr", "work/subtitles", "output", "logs", "edits"):
        (folder / part).mkdir(parents=True)
    (folder / "job.yaml").write_text(good())
    events = [{"t": 1.0, "event": "begin"}, {"t": 2.0, "stage": "asr", "event": "start"}, {"t": 3.0, "event": "end"}]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (folder / "input/01.mp4").write_bytes(b"film")
    for stage in ("demux", "asr", "subtitles"):
        manifest = {"schema": 1, "stage": stage, "outputs": {}, "notes": [], "timings": {"total": 1.0}, "inputs": {}}
        if stage == "subtitles":
            manifest["outputs"] = {"output/talk.srt": "sha256:0", "output/talk.json": "sha256:0"}
        (folder / "work" / stage / "manifest.json").write_text(json.dumps(manifest))
    (folder / "work/demux/01.json").write_text(json.dumps({"duration": 9.5, "video": True, "streams": []}))
    (folder / "work/demux/01.wav").write_bytes(b"RIFF" + bytes(100))
    (folder / "work/subtitles/01.transcript.json").write_text(json.dumps(SAID))
    (folder / "output/talk.json").write_text(json.dumps(SAID))
    (folder / "output/talk.srt").write_text("1\n00:00:00,500 --> 00:00:02,000\nGood morning\n")
    (folder / "logs/asr.log").write_text("12:00:00 asr: begins\n")
    (folder / "edits/0001.json").write_text("null\n")
    return folder


def canary(place: Path) -> Path:
    """Files of the host that no job has to do with."""
    folder = place / "canary"
    (folder / "sub/deeper").mkdir(parents=True)
    for name, mode in (("secret", 0o600), ("program", 0o755), ("log", 0o644), ("sub/deep", 0o400)):
        (folder / name).write_text(f"{SECRET} {name}\n")
        (folder / name).chmod(mode)
    (folder / "sub").chmod(0o700)
    (folder / "sub/deeper").chmod(0o777)
    return folder


def state(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Mode, owner, time of change and bytes of everything there; of folders what they hold."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        about = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(about.st_mode) else b""
        found[str(path.relative_to(folder))] = (about.st_mode, about.st_uid, about.st_gid, about.st_mtime_ns, data)
    return found


# What a part of a job becomes


def _gone(path: Path) -> None:
    """Make room for something else."""
    if path.is_dir() and not path.is_symlink():
        places.remove_tree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)


def link_to(target: str) -> Callable[[Path, Path], None]:
    def made(path: Path, where: Path) -> None:
        _gone(path)
        path.symlink_to(target.format(canary=where))

    made.__name__ = f"link to {target}"
    return made


def hard_link(path: Path, where: Path) -> None:
    _gone(path)
    os.link(where / "secret", path)


def fifo(path: Path, where: Path) -> None:
    _gone(path)
    os.mkfifo(path)


def listening(path: Path, where: Path) -> None:
    """A socket; its name is too long for the system where the path is."""
    _gone(path)
    with socket.socket(socket.AF_UNIX) as made, contextlib.suppress(OSError):
        made.bind(str(path))


def device(path: Path, where: Path) -> None:
    _gone(path)
    with contextlib.suppress(PermissionError):
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero


def full_folder(path: Path, where: Path) -> None:
    _gone(path)
    (path / "inner").mkdir(parents=True)
    (path / "inner/file").write_text("x")


def deep_folder(path: Path, where: Path) -> None:
    """Deeper than the stack, and than a path may be long."""
    _gone(path)
    path.mkdir()
    here = os.open(path, os.O_RDONLY)
    for _ in range(2500):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)


def empty(path: Path, where: Path) -> None:
    _gone(path)
    path.touch()


def vast(path: Path, where: Path) -> None:
    """A hole of two terabytes."""
    _gone(path)
    path.touch()
    with contextlib.suppress(OSError):  # a file system without such files
        os.truncate(path, 2 << 40)


def noise(path: Path, where: Path) -> None:
    _gone(path)
    path.write_bytes(random.Random(len(str(path))).randbytes(5000))


def deep_json(path: Path, where: Path) -> None:
    _gone(path)
    path.write_text("[" * 100_000)


def odd_json(path: Path, where: Path) -> None:
    _gone(path)
    path.write_text(json.dumps({"segments": [{"words": 1}], "outputs": [1], "inputs": 3, "notes": {"a": 1}}))


def leads_out(path: Path, where: Path) -> None:
    """A manifest that names files elsewhere."""
    _gone(path)
    names = (f"{where}/secret", "output/../../../canary/secret", "/dev/zero", "output/x\0y")
    out = dict.fromkeys(names, "sha256:0")
    path.write_text(json.dumps({"schema": 1, "outputs": out, "inputs": out, "notes": ["\x1b[2J", 1], "timings": "x"}))


def no_rights(path: Path, where: Path) -> None:
    if path.exists() and not path.is_symlink():
        path.chmod(0)


def others(path: Path, where: Path) -> None:
    """It is somebody else's."""
    if os.path.lexists(path):
        with contextlib.suppress(PermissionError):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


KINDS: tuple[Callable[[Path, Path], None], ...] = (
    link_to("{canary}/secret"),
    link_to("{canary}"),
    link_to("{canary}/new"),
    link_to("{canary}/sub/deeper"),
    link_to("."),
    link_to("/dev/zero"),
    link_to("/dev/full"),
    link_to("/proc/self/mem"),
    hard_link,
    fifo,
    listening,
    device,
    full_folder,
    deep_folder,
    empty,
    vast,
    noise,
    deep_json,
    odd_json,
    leads_out,
    no_rights,
    others,
)

LINES: tuple[str, ...] = (
    '{"t": 1e999, "event": "begin"}',
    '{"t": "x", "stage": ["a"], "event": {"b": 1}}',
    '{"event": "end", "without": {"x": 1}}',
    '{"t": -1e300, "stage": "asr", "event": "start"}',
    '{"t": 1, "stage": "asr", "event": "progress", "done": "x", "total": [], "input": {}}',
    '{"t": 1, "stage": "asr", "event": "done", "seconds": "many"}',
    '{"t": 1, "stage": "asr\\u001b[2J", "event": "start"}',
    '{"event": "queue"}',
    '{"event": null, "stage": null}',
    "[" * 50_000,
    "\ud800",
    "null",
    "x" * 1_000_000,
)

ADDRESSES = (
    "unix://{canary}/socket",
    "unix:///etc/passwd",
    "tcp://127.0.0.1:1",
    "\0",
    "unix:/" + "x" * 5000,
    "unix://",
)


def mutate_fields(folder: Path, rng: random.Random, where: Path) -> str:
    """Give one to three fields of job.yaml other values."""
    data = yaml.safe_load((folder / "job.yaml").read_text())
    told = []
    for _ in range(rng.randint(1, 3)):
        spots = list(_spots(data))
        holder, key, name = rng.choice(spots)
        value = rng.choice(TEXTS)
        value = value.replace("{canary}", str(where)) if isinstance(value, str) else value
        verb = rng.random()
        if verb < 0.1 and isinstance(holder, dict):
            del holder[key]
            told.append(f"no {name}")
        elif verb < 0.2 and isinstance(holder, dict):
            holder[str(value)[:50]] = holder[key]
            told.append(f"{name} as {value!r:.40}")
        elif verb < 0.25 and isinstance(holder, list):
            holder.append(holder[key])
            told.append(f"{name} twice")
        else:
            holder[key] = value
            told.append(f"{name} = {value!r:.40}")
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=False)
    (folder / "job.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    return ", ".join(told)


def _spots(value: Any, name: str = "") -> Any:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield value, key, f"{name}.{key}"
        yield from _spots(inner, f"{name}.{key}")


def mutate_parts(folder: Path, rng: random.Random, where: Path) -> str:
    """Put other kinds of files in the place of one to three parts."""
    told = []
    for _ in range(rng.randint(1, 3)):
        part, kind = rng.choice(PARTS), rng.choice(KINDS)
        path = folder / part if part != "." else folder
        if part == "." and kind in (vast, noise, deep_json, odd_json, leads_out, empty):
            continue
        with contextlib.suppress(OSError):  # an earlier one is in the way
            kind(path, where)
            told.append(f"{part}: {kind.__name__}")
    return ", ".join(told)


def mutate_words(folder: Path, rng: random.Random, where: Path) -> str:
    """Lines of events, and the address of an engine."""
    lines = [rng.choice(LINES) for _ in range(rng.randint(1, 4))]
    with contextlib.suppress(OSError), (folder / "events.jsonl").open("ab") as out:
        out.writelines(line.encode("utf-8", "surrogatepass") + b"\n" for line in lines)
    if rng.random() < 0.5:
        (folder / ".containers").write_text(rng.choice(ADDRESSES).format(canary=where))
        return f"events {[line[:30] for line in lines]}, an engine's address"
    return f"events {[line[:30] for line in lines]}"


class Swapper(threading.Thread):
    """What a container does that runs on: it swaps what it can write, as fast as it can, until the command ends."""

    def __init__(self, folder: Path, where: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self._folder, self._where, self._rng = folder, where, random.Random(seed)
        self._stop_asked = threading.Event()

    def run(self) -> None:
        names = (
            "work/asr",
            "work/x",
            "output/talk.srt",
            "output/talk.json",
            "work/subtitles/manifest.json",
            "work/demux",
        )
        while not self._stop_asked.is_set():
            path = self._folder / self._rng.choice(names)
            with contextlib.suppress(OSError):
                real = path.parent.resolve()  # in a container, a link out of the job leads nowhere
                if not real.is_dir() or not real.is_relative_to(self._folder.parent.resolve() / self._folder.name):
                    time.sleep(0.001)
                    continue
                aside = path.with_name(f".swapped-{self._rng.randint(0, 3)}")
                path.rename(aside)
                if self._rng.random() < 0.5:
                    path.symlink_to(self._where / self._rng.choice(("secret", "sub", "", "program")))
                else:
                    os.mkfifo(path)
                path.unlink()
                aside.rename(path)

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(10)


# Running


def attempt(number: int) -> Attempt:
    """One hostile job and one command."""
    rng = random.Random(number)
    words = rng.choice(COMMANDS)
    chosen = rng.choices((mutate_fields, mutate_words, mutate_parts), (3, 1, 5), k=rng.choice((1, 1, 2)))
    ways = [way for way in (mutate_fields, mutate_words, mutate_parts) if way in chosen]  # parts are unreadable then
    swapped = rng.random() < 0.15

    def run(place: Path) -> str | None:
        where, folder = canary(place), plant(place)
        (place / "out").mkdir()
        (place / "out/given.txt").write_text("S1: Good morning, everyone.\n")
        told = [way(folder, rng, where) for way in ways]
        before = state(where), _around(place)
        swapper = Swapper(folder, where, number) if swapped else None
        if swapper:
            swapper.start()
        try:
            code, said = command([word.format(out=place / "out") for word in words], place)
        finally:
            if swapper:
                swapper.stop()
        wrong = _judge(code, said, place)
        if (state(where), _around(place)) != before:
            wrong = f"outside of the job something changed: {_difference(before[0], state(where))}"
        _open_again(place)
        return wrong and f"{wrong} [{'; '.join(told)}]"

    swap = ", swapped meanwhile" if swapped else ""
    return Attempt(name=f"jobs {number}: {' '.join(words)}{swap}", run=run)


def _around(place: Path) -> list[str]:
    """Names beside the job that no command may add to."""
    return sorted(path.name for path in place.iterdir() if path.name not in ("home", "said"))


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    return ", ".join(sorted(name for name in {*before, *after} if before.get(name) != after.get(name))) or "a name"


def _judge(code: int | None, said: str, place: Path) -> str | None:
    if code is None:
        return f"it hangs: more than {PATIENCE:.0f} s"
    if code not in CODES or "this is a bug" in said or "Traceback" in said:
        return f"exit code {code}: {' '.join(said.split())[-400:]}"
    if "too little memory for it" in said:
        return "it reads without a bound"
    if SECRET in said:
        return "it prints a file of the host"
    for path in (place / "out").iterdir():
        if path.is_file() and path.name != "given.txt" and SECRET in path.read_text(errors="replace"):
            return f"a file of the host is in {path.name}"
    return None


def _open_again(place: Path) -> None:
    """What was closed to its owner can be removed by whoever tried the attack."""
    places.remove_if_there(place / "jobs")


@functools.cache
def _context() -> multiprocessing.context.ForkServerContext:
    """Processes that have the program loaded already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.hostile.jobs", "builder.cli", "builder.workflows.run"])
    return context


def command(words: Sequence[str], place: Path) -> tuple[int | None, str]:
    """Run a command in a process of its own; its exit code (None: it hangs) and what it said."""
    process = _context().Process(target=_child, args=(list(words), str(place)))
    process.start()
    process.join(PATIENCE)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    data = files.read_file(place / "said", limit=1 << 30) or b""
    return code, data.decode("utf-8", "replace")


def _child(words: list[str], place: str) -> None:
    """In the new process: the command with its output in a file, as in a terminal of the user's."""
    import resource

    here = Path(place)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    out = os.open(here / "said", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - for as long as the process lives
    os.chdir(ROOT)
    os.umask(0o022)
    for name in [name for name in os.environ if name.startswith(("BAKE_", "HF_"))]:
        del os.environ[name]
    os.environ.update(
        BAKE_JOBS=str(here / "jobs"),
        BAKE_HOME=str(here / "home"),
        BAKE_MODE="docker-cpu",  # else an edit would set up an environment
        DOCKER_HOST=f"unix://{here}/none.sock",
        TMPDIR=str(here / "home"),
    )
    (here / "home").mkdir(exist_ok=True)
    own = {"native": _native, "deliver": _deliver, "give": _give}
    from builder.cli import main

    if words[0] in own:
        code = _as_command(own[words[0]])
    else:
        try:
            code = int(main(words) or 0)
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _as_command(work: Callable[[], None]) -> int:
    """What the command line makes of errors."""
    from builder.cli.failures import meaning
    from builder.errors import BakeError

    try:
        work()
    except BakeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except BaseException as error:  # noqa: BLE001 - the kind of the error is what is asked for
        known = meaning(error)
        if known is None:
            import traceback

            traceback.print_exc()
            return 1
        print(known, file=sys.stderr)
        return known.exit_code
    return 0


def _found() -> tuple[Any, Any, Path]:
    from builder.edges.jobs import folder as jobs
    from builder.edges.jobs import listing

    config = project.load(ROOT, env=dict(os.environ))
    job = listing.find(config, ID)
    return config, job, jobs.folder(config, job)


def _native() -> None:
    """What a native run does in a job's folder; the first stage has no libraries here, and fails."""
    from builder.core.jobs.job import Selection
    from builder.core.progress import silent
    from builder.edges.jobs import runner
    from builder.edges.jobs.hosts.native import Native

    config, job, folder = _found()
    host = Native(
        stages=ROOT / "stages",
        models=config.paths.models,
        folder=folder,
        python=Path(sys.executable),
        env=dict(os.environ),
    )
    names = tuple(stage.name for stage in job.stages)
    again = frozenset(names)
    runner.run(config, job, host=host, on_progress=silent, selection=Selection(run=names, again=again))


def _deliver() -> None:
    """What a finished run does for ``--output``."""
    from builder.core.jobs.naming import CopyOptions, Place
    from builder.edges.jobs import delivery, outcome

    _, job, folder = _found()
    out = Path(os.environ["BAKE_JOBS"]).parent / "out"
    collected = outcome.collect(job, folder, stages=(), seconds=1.0)
    wanted = [Place(folder=out, stem="talk", recording=None) for _ in job.inputs]
    done = delivery.deliver(collected, CopyOptions(folder=out), wanted, folder)
    if done.undelivered is not None:
        raise done.undelivered


def _give() -> None:
    """What a run in containers does before they start, and after a native part."""
    from builder.edges.jobs import folder as jobs
    from builder.edges.jobs.hosts import compose
    from builder.edges.system import permissions

    _, _, folder = _found()
    with jobs.held(folder):
        compose.clean(folder)
        for part in permissions.SHARED:
            (folder / part).mkdir(exist_ok=True)
        (folder / permissions.EVENTS).touch()
        for _ in range(20):
            permissions.give(folder)
        jobs.append_event(folder, "begin")
