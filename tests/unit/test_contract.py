"""stages/contract.py as every stage uses it: a toy stage is run as a program of its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import contract
import loading
import pytest
import yaml

from builder.edges.jobs import folder as jobs

ROOT = Path(__file__).resolve().parents[2]


class Toy:
    """A stage named ``toy`` and a job that has it."""

    def __init__(self, folder: Path, name: str = "talk.mp4", **entry: Any) -> None:
        self.stages, self.job = folder / "stages", folder / "job"
        (self.stages / "toy").mkdir(parents=True)
        for shared in (ROOT / "stages").glob("*.py"):
            shutil.copy(shared, self.stages)
        (self.job / "input").mkdir(parents=True)
        (self.job / "input/01.mp4").write_bytes(b"film")
        spec = {
            "schema": 1,
            "id": "test",
            "variant": "slim",
            "inputs": [{"id": "01", "name": name, "path": "input/01.mp4", "output": "talk"}],
            "stages": [{"name": "toy", "needs": [], "settings": {"a": 1}, "models": {}, **entry}],
        }
        (self.job / "job.yaml").write_text(yaml.safe_dump(spec))

    def write(self, body: str) -> list[str]:
        """``body`` is the stage's work; returns the command."""
        main = self.stages / "toy/main.py"
        main.write_text(
            "import sys, time\nfrom pathlib import Path\n"
            "sys.path.insert(0, str(Path(__file__).resolve().parents[1]))\n"
            "import contract\nfrom contract import *\n"
            f"def work(job):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
            "contract.main('toy', work)\n"
        )
        return [sys.executable, str(main), "--job", str(self.job)]

    def run(self, body: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.write(body), capture_output=True, text=True, env=env, check=False)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.job / "events.jsonl").read_text().splitlines()]

    @property
    def work(self) -> Path:
        return self.job / "work/toy"


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


def said(errors: str) -> list[str]:
    """The lines of a stage without their times."""
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in errors.splitlines()]


def test_a_manifest_names_what_was_read_and_made(toy: Toy) -> None:
    """The runner decides by it whether a stage has to run again."""
    (toy.job / "work/demux").mkdir(parents=True)
    (toy.job / "work/demux/01.json").write_text('{"duration": 2}')
    done = toy.run(
        """
        with job.timed("imports"):
            pass
        read = job.load("demux", job.inputs[0])
        job.note(job.inputs[0], "no speech found")
        job.progress(job.inputs[0], 2.0, 2.0)
        job.text(job.inputs[0], 0.1, 1.2, " Good morning ")
        job.save(job.inputs[0], {"b": read["duration"], "a": "é"})
        """
    )
    assert done.returncode == 0
    assert [re.sub(r"in \d\.\d s", "in 0.0 s", line) for line in said(done.stderr)] == [
        "toy: begins: talk.mp4",
        "toy: talk.mp4: no speech found",
        "toy: done: 2.0 s of sound in 0.0 s; wrote work/toy/01.json",
    ]
    manifest = json.loads((toy.work / "manifest.json").read_text())

    def digest(path: str) -> str:
        return "sha256:" + hashlib.sha256((toy.job / path).read_bytes()).hexdigest()

    assert manifest["inputs"] == {"work/demux/01.json": digest("work/demux/01.json")}
    assert manifest["outputs"] == {"work/toy/01.json": digest("work/toy/01.json")}
    assert manifest["notes"] == ["talk.mp4: no speech found"]
    assert manifest["settings"] == {"a": 1}
    assert set(manifest["timings"]) == {"imports", "total"}
    if sys.platform == "linux":
        assert 4e6 < manifest["peak_bytes"] < 200e6
    assert 0 < manifest["cpu_seconds"] < 60
    assert (toy.work / "01.json").read_text() == '{\n "a": "é",\n "b": 2\n}\n'
    assert [e["event"] for e in toy.events()] == ["start", "note", "progress", "text", "done"]
    assert [e["text"] for e in toy.events() if e["event"] == "text"] == ["Good morning"]


@pytest.mark.parametrize("kind", ["link", "file", "dangling"])
def test_what_stands_in_place_of_its_folder_goes(toy: Toy, tmp_path: Path, kind: str) -> None:
    """A stage that was taken over left links where others write: nothing is written through them, and the job runs."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").write_text("mine")
    toy.work.parent.mkdir(parents=True)
    if kind == "file":
        toy.work.write_text("x")
    else:
        toy.work.symlink_to(victim if kind == "link" else tmp_path / "nowhere")
    (toy.job / "output").mkdir()
    for suffix in ("srt", "json"):
        (toy.job / f"output/.toy-1.tmp.{suffix}").symlink_to(victim / "kept")
        (toy.job / f"output/talk.{suffix}").symlink_to(victim / "kept")
    done = toy.run("job.write('talk.srt', 'made', output=True); job.write('x', 'made')")
    assert done.returncode == 0
    assert toy.work.is_dir()
    assert not toy.work.is_symlink()
    assert not (toy.job / "output/talk.srt").is_symlink()
    assert {p.name: p.read_text() for p in victim.iterdir()} == {"kept": "mine"}


@pytest.mark.parametrize(
    ("path", "output"),
    [
        ("/etc/passwd", "talk"),
        ("input/../../x.mp4", "talk"),
        ("output/x.mp4", "talk"),
        ("input/01.mp4", "../../x"),
        ("input/01.mp4", "/tmp/x"),
        ("input/01.mp4", ".."),
        ("input/01.mp4", ""),
        ("input/01.mp4\n", "talk"),
    ],
)
def test_a_job_that_leads_out_of_its_folder_is_refused(toy: Toy, path: str, output: str) -> None:
    """Exit 2, before anything is read or written: the stage may be the first that looks at the job."""
    spec = yaml.safe_load((toy.job / "job.yaml").read_text())
    spec["inputs"][0] |= {"path": path, "output": output}
    (toy.job / "job.yaml").write_text(yaml.safe_dump(spec))
    done = toy.run("job.write('x.srt', 'made', output=True)")
    assert done.returncode == 2
    assert done.stderr.startswith("job.yaml names a file outside the job's folder: ")
    assert not toy.work.exists()


@pytest.mark.parametrize(
    ("body", "code", "last"),
    [
        ('raise InputFault("talk.mp4: no audio stream")', 2, "talk.mp4: no audio stream"),
        ('raise InputFault("two\\nlines.mp4: no audio stream")', 2, "two lines.mp4: no audio stream"),
        ('raise ModelFault("model base is broken")', 5, "model base is broken"),
        ('job.model("asr")', 5, "the job names no model for asr"),
        ('open("/nowhere/here")', 1, "No such file or directory: here"),
        ('raise OSError(28, "No space left on device")', 1, "No space left on device"),
        ('raise KeyError("x")', 1, "KeyError: 'x'"),
        ('raise ValueError("one\\ntwo")', 1, "ValueError: one two"),
        ("raise MemoryError", 1, "not enough memory"),
    ],
)
def test_a_failure_ends_with_one_sentence(toy: Toy, body: str, code: int, last: str) -> None:
    """Exit 2: the recording; 5: a model; 1: anything else, with the traceback before it. No manifest, no leftovers."""
    done = toy.run(f"with job.writing('01.json') as path:\n    path.write_text('half')\n    {body}")
    assert done.returncode == code
    assert done.stderr.splitlines()[-1] == last
    assert ("Traceback" in done.stderr) is (code == 1)
    assert list(toy.work.iterdir()) == []
    assert toy.events()[-1]["event"] == "failed"
    assert toy.events()[-1]["message"] == last


def hashed(toy: Toy, data: bytes = b"film", **clip: Any) -> None:
    """job.yaml says the sha256 of its recording."""
    spec = yaml.safe_load((toy.job / "job.yaml").read_text())
    says = {"sha256": hashlib.sha256(data).hexdigest()}
    spec["inputs"][0] |= {"sha256": "0" * 64, "clip": says | clip} if clip else says
    (toy.job / "job.yaml").write_text(yaml.safe_dump(spec))


READ = """
import os
[recording] = job.inputs
with job.reading(recording) as path:
    time.sleep(0.05)
    {}
    job.write_bytes("heard.bin", path.read_bytes(), output=True)
    {}
"""


@pytest.mark.parametrize("clip", [{}, {"start": 1.0}])
def test_the_recording_that_is_read_is_the_one_that_was_prepared(toy: Toy, clip: dict[str, Any]) -> None:
    """Of a cut the bytes that were cut; and the manifest says them, so that a change makes the results old."""
    hashed(toy, **clip)
    done = toy.run(READ.format("", ""))
    assert done.returncode == 0, done.stderr
    manifest = json.loads((toy.work / "manifest.json").read_bytes())
    assert manifest["inputs"] == {"input/01.mp4": f"sha256:{hashlib.sha256(b'film').hexdigest()}"}


@pytest.mark.parametrize("harmless", ["path.chmod(0o600)", "os.link(path, path.with_name('x'))", "path.unlink()"])
def test_what_changes_no_byte_is_no_change(toy: Toy, harmless: str) -> None:
    """A recording's owner may remove it meanwhile: the job has its own link."""
    hashed(toy)
    done = toy.run(READ.format("", harmless))
    assert done.returncode == 0, done.stderr


SET_BACK = "old = path.stat(); path.open('r+b').write(b'F'); os.utime(path, ns=(1, old.st_mtime_ns))"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SET_BACK, ""),
        ("", SET_BACK),
        ("path.write_bytes(b'longer')", "path.write_bytes(b'film')"),  # read in between
        ("", "path.write_bytes(b'')"),
        ("path.unlink(); path.write_bytes(b'FILM')", ""),
        (f"{SET_BACK}; raise ValueError('not a film')", ""),
        (f"{SET_BACK}; raise InputFault('not a film')", ""),
    ],
)
def test_a_recording_that_changes_is_not_heard(toy: Toy, before: str, after: str) -> None:
    """Exit code 2, whatever else it led to, and whatever times are set back; nothing of it stays."""
    hashed(toy)
    done = toy.run(READ.format(before, after))
    assert done.returncode == 2, done.stderr
    assert said(done.stderr)[-1] == "talk.mp4: the recording was changed after this job was made; prepare it again"
    assert not list((toy.job / "output").glob("*"))
    assert not (toy.work / "manifest.json").exists()


def test_a_recording_that_was_changed_before_is_refused(toy: Toy) -> None:
    hashed(toy, b"another")
    done = toy.run(READ.format("", ""))
    assert (done.returncode, said(done.stderr)[-1][:40]) == (2, "talk.mp4: the recording was changed afte")


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    """By its id and its place in the tree of weights."""
    use = {"asr": {"id": "base", "path": "hub/models--x/snapshots/1", "digest": "sha256:0"}}
    toy = Toy(tmp_path, models=use)
    done = toy.run('job.model("asr")', BAKE_MODELS=str(tmp_path))
    assert done.returncode == 5
    assert done.stderr.splitlines()[-1] == "model base is not in the tree of weights: hub/models--x/snapshots/1"


def test_a_killed_run_leaves_nothing_for_the_next(toy: Toy) -> None:
    """Stale results and temporary files of the stage are removed before it starts; other stages' files stay."""
    (toy.job / "output").mkdir()
    toy.work.mkdir(parents=True)
    (toy.work / "99.json").write_text("stale")
    (toy.job / "output/.toy-123.tmp.mkv").write_text("half")
    (toy.job / "output/talk.srt").write_text("kept")
    assert toy.run("pass").returncode == 0
    assert [p.name for p in toy.work.iterdir()] == ["manifest.json"]
    assert [p.name for p in (toy.job / "output").iterdir()] == ["talk.srt"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal(toy: Toy, number: signal.Signals) -> None:
    """128 + its number, at once, without a traceback or a half-written file."""
    command = toy.write(
        """
        with job.writing("film.mkv", output=True) as path:
            path.write_text("half")
            print(path.name, flush=True)
            time.sleep(30)
        """
    )
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    half = process.stdout.readline().strip()
    assert [p.name for p in (toy.job / "output").iterdir()] == [half]
    process.send_signal(number)
    _, errors = process.communicate(timeout=5)
    assert process.returncode == 128 + number
    assert said(errors) == ["toy: begins: talk.mp4"]
    assert list((toy.job / "output").iterdir()) == []


def test_loading_a_model_is_told(tmp_path: Path) -> None:
    """In the log with its place and how long it took, in the events before: the display says what is waited for."""
    use = {"asr": {"id": "base", "path": "hub/models--x", "digest": "sha256:0"}}
    (tmp_path / "hub/models--x").mkdir(parents=True)
    toy = Toy(tmp_path, models=use)
    done = toy.run('with job.timed("load"):\n    pass', BAKE_MODELS=str(tmp_path))
    assert said(done.stderr)[1] == "toy: model base loaded from hub/models--x in 0.0 s"
    assert [e.get("models") for e in toy.events() if e["event"] == "load"] == ["base"]


def test_a_log_cannot_steer_a_terminal(toy: Toy) -> None:
    """`docker compose up` shows it as it is."""
    done = toy.run('job.note(job.inputs[0], "\\x1b]0;owned\\x07 \\u202eexe")')
    assert "\x1b" not in done.stderr
    assert said(done.stderr)[1] == "toy: talk.mp4: \\u001b]0;owned\\u0007 \\u202eexe"


def test_a_stage_that_runs_marks_its_job(toy: Toy) -> None:
    """`docker compose up` in the folder holds no lock of ours: its stages hold the events, and nobody removes the job."""
    command = toy.write("print('here', flush=True); time.sleep(30)")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    with pytest.raises(TimeoutError), jobs.held(toy.job):
        pass
    assert jobs.state(toy.job) == "running"
    (toy.job / jobs.MARK).touch()  # left by a killed run of ours, which ends them
    with jobs.held(toy.job):
        pass
    (toy.job / jobs.MARK).unlink()
    process.kill()
    process.communicate()
    with jobs.held(toy.job):
        pass
    assert jobs.state(toy.job) == "interrupted"


@pytest.mark.skipif(sys.platform != "linux", reason="a stage can only follow its parent's end on Linux")
def test_a_stage_ends_with_its_orchestrator(toy: Toy) -> None:
    """Whoever started it is gone already: two runs of one stage must never write at once."""
    done = toy.run("job.save(job.inputs[0], 1)", BAKE_PARENT="1")
    assert done.returncode == 128 + signal.SIGKILL
    assert not toy.work.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("schema: 1\nid: [", "job.yaml is damaged: "),
        ("", "job.yaml is damaged: "),
        ("schema: 1\nid: x\n", "job.yaml is damaged: "),
        ("- a\n", "job.yaml is damaged: "),
        ("schema: 2\nid: x\n", "job.yaml has schema 2; these stages read schema 1"),
        ("schema: 1\nvariant: thin\n", "job.yaml names the variant 'thin', not slim or full"),
        ("schema: 1\nid: x\nvariant: slim\nstages: []\n", "stage toy is not part of job x"),
        (None, "no job in this folder: No such file or directory"),
    ],
)
def test_a_job_that_cannot_be_read_is_refused(toy: Toy, text: str | None, reason: str) -> None:
    """One sentence, no traceback; an image of an older release never guesses at a newer job."""
    if text is None:
        (toy.job / "job.yaml").unlink()
    else:
        (toy.job / "job.yaml").write_text(text)
    done = toy.run("pass")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(reason)
    assert not toy.work.exists()


def test_progress_is_at_most_ten_a_second(toy: Toy) -> None:
    """However often a stage reports; the end is always reported."""
    assert toy.run("for k in range(5001):\n    job.progress(job.inputs[0], k / 100, 50.0)").returncode == 0
    reports = [e for e in toy.events() if e["event"] == "progress"]
    spent = toy.events()[-1]["seconds"]
    assert 1 <= len(reports) <= 2 + spent * 10
    assert (reports[-1]["done"], reports[-1]["total"], reports[-1]["unit"]) == (50.0, 50.0, "s")


def test_code_digest_follows_the_code(toy: Toy) -> None:
    """Results of older code are made again."""
    toy.run("pass")
    first = json.loads((toy.work / "manifest.json").read_text())["code"]
    toy.run("x = 1")
    second = json.loads((toy.work / "manifest.json").read_text())["code"]
    toy.run("pass")
    assert json.loads((toy.work / "manifest.json").read_text())["code"] == first != second


def test_every_stage_shares_versions_with_the_others() -> None:
    """Locks go into one native environment, and `make lock` resolves the full variant's with them: a version for each package."""
    locks = sorted((ROOT / "stages").glob("*/requirements-slim.txt"))
    assert [p.parent.name for p in locks] == [
        "align",
        "asr",
        "demux",
        "diarize",
        "metadata",
        "music",
        "mux",
        "names",
        "separate",
        "subtitles",
        "translate",
        "vad",
    ]
    seen: dict[tuple[str, str], str] = {}
    for lock in (*locks, *sorted((ROOT / "stages").glob("*/requirements-full.txt"))):
        text = lock.read_text()
        assert "://" not in text
        for line in text.splitlines():
            if "==" in line and not line.startswith((" ", "#")):
                requirement, _, marker = line.rstrip(" \\").partition(" ; ")
                name, version = requirement.split("==")
                if name != "tokenizers":  # Transformers 4 needs an older one than faster-whisper takes
                    assert seen.setdefault((name, marker), version) == version, lock
        assert text.count("--hash=sha256:") > 1


def test_a_digest_names_its_algorithm(tmp_path: Path) -> None:
    """As job.yaml and the store write it."""
    path = tmp_path / "x"
    path.write_bytes(b"film")
    assert contract.sha256(path) == "sha256:" + hashlib.sha256(b"film").hexdigest()


def tree(root: Path, *, size: int = 3) -> dict[str, str]:
    """Write a tree of weights as in an image, with one model of two files; returns the job's name for the model."""
    folder = root / "onnx/m"
    folder.mkdir(parents=True)
    entries = []
    for name in ("a.onnx", "b.json"):
        (folder / name).write_bytes(b"x" * size)
        entries.append({"path": f"onnx/m/{name}", "size": 3, "sha256": hashlib.sha256(b"xxx").hexdigest()})
    (root / ".baked").mkdir()
    (root / ".baked/m.json").write_text(json.dumps({"id": "m", "digest": "sha256:1", "files": entries}))
    return {"id": "m", "path": "onnx/m", "digest": "sha256:1"}


def test_weights_of_an_image_are_compared_with_their_list(tmp_path: Path) -> None:
    """Every fault in one list: missing, of another size, another revision than the job's."""
    use = tree(tmp_path)
    assert loading.lacking(tmp_path, [use]) == []
    assert loading.lacking(tmp_path, [{**use, "digest": "sha256:2"}]) == [
        "this image's model m is not the one that the job names: sha256:1…"
    ]
    assert loading.lacking(tmp_path, [{"id": "n", "path": "onnx/n", "digest": ""}]) == [
        "model n is not in the tree of weights: onnx/n"
    ]
    (tmp_path / "onnx/m/a.onnx").write_bytes(b"yyy")
    assert loading.lacking(tmp_path, [use]) == []
    assert loading.lacking(tmp_path, [use], deep=True) == ["model m: a.onnx has a different sha256 than its list"]
    (tmp_path / "onnx/m/a.onnx").write_bytes(b"x")
    (tmp_path / "onnx/m/b.json").unlink()
    assert loading.lacking(tmp_path, [use]) == [
        "model m: a.onnx has 1 bytes, not 3",
        "model m: b.json is missing",
    ]


def test_verify_reads_the_weights_and_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--verify``: 0 and each model's name, or 5 and the list."""
    assert loading.verify(tmp_path) == 0
    assert capsys.readouterr().out == "this image carries no weights\n"
    tree(tmp_path)
    assert loading.verify(tmp_path) == 0
    assert capsys.readouterr().out == "m: intact\n"
    (tmp_path / "onnx/m/b.json").write_bytes(b"zzz")
    assert loading.verify(tmp_path) == 5
    assert "b.json has a different sha256" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["link", "folder", "fifo", "hole"])
def test_what_another_stage_left_is_a_file_of_the_job_or_not_there(tmp_path: Path, kind: str) -> None:
    """A native stage may read what a container left: a link there leads to this machine, and a FIFO waits for ever."""
    toy = Toy(tmp_path)
    secret = tmp_path / "secret"
    secret.mkdir()
    for name in ("01.json", "manifest.json"):
        (secret / name).write_text('{"text": "c4n4ry"}')
    left = toy.job / "work/other"
    left.mkdir(parents=True)
    if kind == "link":
        (left / "01.json").symlink_to(secret / "01.json")
        (left / "manifest.json").symlink_to(secret / "manifest.json")
    elif kind == "folder":
        left.rmdir()
        left.symlink_to(secret)
    else:
        for name in ("01.json", "manifest.json"):
            os.mkfifo(left / name) if kind == "fifo" else (left / name).touch()
            if kind == "hole":
                os.truncate(left / name, 1 << 40)
    words = toy.write("""
        job.stages = ("other", "toy")
        job.say(f"has: {job.has('other')}")
        try:
            job.say(str(handed.load(job.root, "work/other/01.json")))
        except (OSError, ValueError) as error:
            job.say(f"refused: {type(error).__name__}")
    """)
    done = subprocess.run(words, capture_output=True, text=True, env={}, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "refused: " in done.stderr
    assert "c4n4ry" not in done.stderr
    assert ("has: True" in done.stderr) == (kind == "hole")


def test_what_a_stage_tells_has_an_end(tmp_path: Path) -> None:
    """A recording that makes it tell without end; how it ends is told all the same."""
    toy = Toy(tmp_path)
    done = toy.run("""
        for number in range(3_000):
            job.text(job.inputs[0], 0.0, 1.0, "x" * 5000)
        for number in range(3000):
            job.note(job.inputs[0], "y" * 5000)
    """)
    assert done.returncode == 0
    assert (toy.job / "events.jsonl").stat().st_size < contract.TOLD + 2000
    assert [e["event"] for e in (toy.events()[0], toy.events()[-1])] == ["start", "done"]
    notes = json.loads((toy.job / "work/toy/manifest.json").read_text())["notes"]
    assert (len(notes), max(map(len, notes)) < 600) == (contract.NOTES, True)
