"""stages/several.py: a stage works through a list of jobs in one process, and each ends as if it were alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import several

ROOT = Path(__file__).resolve().parents[2]


class Jobs:
    """A stage named ``toy``, and jobs that have it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stages, self.list = folder, folder / "stages", folder / "jobs/list"
        (self.stages / "toy").mkdir(parents=True)
        for shared in (ROOT / "stages").glob("*.py"):
            shutil.copy(shared, self.stages)
        (folder / "jobs").mkdir()

    def add(self, *names: str, before: dict[str, Any] | None = None, **settings: Any) -> None:
        """Jobs, also in the list.

        Args:
            before: a stage that comes before.
        """
        for name in names:
            (self.job(name) / "input").mkdir(parents=True)
            (self.job(name) / "input/01.wav").write_bytes(b"sound")
            toy = {"name": "toy", "needs": [], "settings": settings, "models": {}}
            spec = {
                "schema": 1,
                "id": name,
                "variant": "slim",
                "inputs": [{"id": "01", "name": f"{name}.wav", "path": "input/01.wav", "output": name}],
                "stages": [toy] if before is None else [before, toy],
            }
            (self.job(name) / "job.yaml").write_text(json.dumps(spec))
            with self.list.open("a") as out:
                out.write(f"{name}\n")

    def job(self, name: str) -> Path:
        return self.folder / "jobs" / name

    def write(self, body: str, how: str = "") -> list[str]:
        """``body`` is the stage's work, on the job ``n``; returns the command."""
        main = self.stages / "toy/main.py"
        main.write_text(
            "import os, signal, sys, time\nfrom pathlib import Path\n"
            "sys.path.insert(0, str(Path(__file__).resolve().parents[1]))\n"
            "import contract\nfrom contract import *\nfrom loading import carried\nTOP = os.getpid()\n"
            f"def work(job):\n    n = job.root.name\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
            f"contract.main('toy', work{how})\n"
        )
        return [sys.executable, str(main), "--jobs", str(self.list)]

    def run(self, body: str, how: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.write(body, how), capture_output=True, text=True, env={}, check=False)

    @property
    def ended(self) -> list[tuple[str, int, str]]:
        """What became of the jobs, by the stage."""
        path = self.folder / "jobs/ended-toy.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [(line["job"], line["code"], line["message"]) for line in lines]

    def result(self, name: str) -> Any:
        return json.loads((self.job(name) / "work/toy/01.json").read_text())

    def manifest(self, name: str) -> Any:
        return json.loads((self.job(name) / "work/toy/manifest.json").read_text())

    def left(self) -> list[str]:
        """Files that no stage finished."""
        return [str(path) for path in self.folder.rglob("*.tmp*")]


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path)


SAVE = "job.save(job.inputs[0], {'pid': os.getpid(), 'of': n})"


def test_one_process_does_them_all_in_the_lists_order(jobs: Jobs) -> None:
    jobs.add("b", "a", "0c")
    jobs.list.write_text("b\na\n0c\na\n")
    done = jobs.run(SAVE)
    assert done.returncode == 0, done.stderr
    assert jobs.ended == [("b", 0, ""), ("a", 0, ""), ("0c", 0, "")]
    assert len({jobs.result(name)["pid"] for name in ("a", "b", "0c")}) == 1
    assert [jobs.result(name)["of"] for name in ("a", "b", "0c")] == ["a", "b", "0c"]
    assert jobs.left() == []


@pytest.mark.parametrize("name", ["../job", "/etc", "a/b", "A", ".a", "-a", "a\0", "ä", "", "a b"])
def test_a_name_that_is_no_folders_of_ours(jobs: Jobs, name: str) -> None:
    """The list may be anybody's: nothing but what lies beside it is worked on."""
    jobs.add("a")
    jobs.list.write_bytes(f"a\n{name}\n".encode())
    done = jobs.run(SAVE)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert jobs.ended == []


def test_links_lead_nowhere(jobs: Jobs, tmp_path: Path) -> None:
    jobs.add("a", "b")
    jobs.job("a").rename(tmp_path / "elsewhere")
    jobs.job("a").symlink_to(tmp_path / "elsewhere")
    assert jobs.run(SAVE).returncode == 0
    assert jobs.ended == [("a", 2, "no job in this folder: it is a link"), ("b", 0, "")]
    assert not (tmp_path / "elsewhere/work").exists()
    jobs.list.rename(tmp_path / "list")
    jobs.list.symlink_to(tmp_path / "list")
    assert jobs.run(SAVE).returncode == 2


def test_what_others_did_not_finish_is_passed_over(jobs: Jobs) -> None:
    """A recording that an earlier stage refused has its reason already; a stage that may fail is not waited for."""
    jobs.add("needed", "done", before={"name": "demux", "optional": False})
    jobs.add("spared", before={"name": "music", "optional": True})
    (jobs.job("done") / "work/demux").mkdir(parents=True)
    (jobs.job("done") / "work/demux/manifest.json").write_text("{}")
    assert jobs.run(SAVE).returncode == 0
    assert jobs.ended == [("done", 0, ""), ("spared", 0, "")]
    assert not (jobs.job("needed") / "work").exists()


def test_what_is_done_is_kept(jobs: Jobs) -> None:
    jobs.add("a", "b")
    assert jobs.run(SAVE).returncode == 0
    before = jobs.result("a")
    shutil.rmtree(jobs.job("b") / "work")
    assert jobs.run(SAVE).returncode == 0
    assert jobs.result("a") == before
    assert jobs.ended[2:] == [("a", 0, ""), ("b", 0, "")]
    assert jobs.run(f"{SAVE}  # other code").returncode == 0
    assert jobs.result("a") != before, "results of other code were kept"


@pytest.mark.parametrize(("name", "said"), [("SIGSEGV", "the stage crashed (SIGSEGV)"), ("SIGKILL", "killed")])
def test_a_crash_is_one_jobs(jobs: Jobs, name: str, said: str) -> None:
    jobs.add("a", "b", "c", "d")
    done = jobs.run(
        f"""
        if n == "b":
            with job.writing("half") as path:
                path.write_text("half")
                os.kill(os.getpid(), signal.{name})
        {SAVE}
        """
    )
    assert done.returncode == 0, done.stderr
    assert [(job, code) for job, code, _ in jobs.ended] == [("a", 0), ("b", 1), ("c", 0), ("d", 0)]
    assert said in jobs.ended[1][2]
    assert jobs.left() == []
    assert jobs.result("c")["pid"] == jobs.result("d")["pid"] != jobs.result("a")["pid"]


def test_each_failure_has_its_code(jobs: Jobs) -> None:
    jobs.add("a", "b", "c")
    done = jobs.run(
        """
        if n == "a":
            raise InputFault("a.wav: no audio stream")
        if n == "b":
            raise ValueError("oh\\nno")
        """
    )
    assert done.returncode == 0
    assert jobs.ended == [("a", 2, "a.wav: no audio stream"), ("b", 1, "ValueError: oh no"), ("c", 0, "")]


@pytest.mark.parametrize(
    ("body", "code", "said", "how"),
    [
        ("open('/dev/full', 'w').write('x' * 100_000)", 3, "No space left on device", ""),
        ("open('/dev/full', 'w').write('x' * 100_000)", 3, "No space left on device", ", media=True"),
        ("raise MemoryError", 3, "not enough memory", ""),
        ("raise ModelFault('model m is not here')", 5, "model m is not here", ""),
    ],
)
def test_what_the_next_job_would_meet_too_ends_the_list(jobs: Jobs, body: str, code: int, said: str, how: str) -> None:
    jobs.add("a", "b", "c")
    done = jobs.run(f"if n == 'b':\n    {body}\n{SAVE}", how)
    assert done.returncode == code, done.stderr
    assert jobs.ended == [("a", 0, ""), ("b", code, said)]
    assert not (jobs.job("c") / "work").exists()


@pytest.mark.parametrize("how", ["", ", media=True"])
@pytest.mark.parametrize(("sent", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_leaves_nothing_half_written(jobs: Jobs, how: str, sent: str, code: int) -> None:
    """What is finished stays; the job that it was at is as if it had not begun."""
    jobs.add("a", "b", "c")
    done = jobs.run(
        f"""
        if n == "b":
            with job.writing("half") as path:
                path.write_text("half")
                os.kill(TOP, signal.{sent})
                time.sleep(60)
        {SAVE}
        """,
        how,
    )
    assert done.returncode == code, done.stderr
    assert jobs.ended == [("a", 0, "")]
    assert jobs.left() == []
    assert jobs.manifest("a")
    assert list((jobs.job("b") / "work/toy").iterdir()) == []
    assert not (jobs.job("c") / "work").exists()


def test_weights_are_loaded_once_for_jobs_of_one_kind(jobs: Jobs) -> None:
    jobs.add("a", "b", size=1)
    jobs.add("c", "d", size=2)
    jobs.add("e", size=1)
    body = """
    def load():
        with open(job.root.parent / "loaded", "a") as out:
            out.write(n + "\\n")
        return job.settings["size"]
    model, other = (carried(job, part, load, *also) for part, also in (("model", ()), ("other", ("en",))))
    job.save(job.inputs[0], {"size": model, "pid": os.getpid()})
    """
    assert jobs.run(body).returncode == 0
    assert (jobs.folder / "jobs/loaded").read_text().split() == ["a", "a", "c", "c", "e", "e"]
    assert [jobs.result(name)["size"] for name in "abcde"] == [1, 1, 2, 2, 1]
    assert len({jobs.result(name)["pid"] for name in "abcde"}) == 3


@pytest.mark.parametrize("how", ["", ", media=True"])
def test_a_manifest_has_the_cost_of_its_own_job(jobs: Jobs, how: str) -> None:
    """Whoever adds them up gets what the processors did."""
    jobs.add("a", "b", "c")
    body = """
    if n == "b":
        held = bytearray(b"x" * 150_000_000)
        while time.process_time() < 0.5:
            pass
    """
    assert jobs.run(body, how).returncode == 0
    spent = {name: jobs.manifest(name)["cpu_seconds"] for name in "abc"}
    assert spent["b"] > 0.2
    assert spent["c"] < 0.5 * spent["b"]
    if sys.platform == "linux":
        peaks = {name: jobs.manifest(name)["peak_bytes"] for name in "abc"}
        assert peaks["b"] > 150_000_000
        assert peaks["c"] < 100_000_000


def test_a_childs_words_reach_the_list(jobs: Jobs) -> None:
    """A stage that reads recordings does it in a child, whose crash is the recording's."""
    jobs.add("a", "b", "c")
    done = jobs.run(
        """
        import confined
        confined.begin(job.inputs[0].name, 5)
        if n == "a":
            raise InputFault("a.wav: no audio stream")
        if n == "b":
            os.kill(os.getpid(), signal.SIGSEGV)
        """,
        ", media=True, ready=lambda: print('ready', file=sys.stderr)",
    )
    assert done.returncode == 0, done.stderr
    assert jobs.ended == [
        ("a", 2, "a.wav: no audio stream"),
        ("b", 2, "b.wav: FFmpeg breaks off while it reads it (SIGSEGV)"),
        ("c", 0, ""),
    ]
    assert "ready" in done.stderr


def test_a_list_that_is_not_there(jobs: Jobs) -> None:
    done = jobs.run(SAVE)
    assert done.returncode == 2
    assert "list" in done.stderr


def test_many_jobs_keep_no_files_open(jobs: Jobs) -> None:
    """Each job is held while it is worked on, and no longer."""
    jobs.add(*(f"j{k}" for k in range(30)))
    assert jobs.run("job.save(job.inputs[0], {'open': len(os.listdir('/proc/self/fd'))})").returncode == 0
    assert jobs.result("j1")["open"] == jobs.result("j29")["open"]


def test_which_errors_are_the_machines() -> None:
    import errno

    assert several.at_fault(OSError(errno.EROFS, "read-only"))
    assert several.at_fault(MemoryError())
    assert not several.at_fault(FileNotFoundError(errno.ENOENT, "gone"))


def test_a_worker_ends_with_its_parent(jobs: Jobs) -> None:
    """kill -9 of the stage: nobody goes on writing where the next run does."""
    jobs.add("a", "b")
    read, write = os.pipe()
    command = jobs.write(f"os.write({write}, str(os.getpid()).encode())\ntime.sleep(60)")
    process = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL, env={})
    os.close(write)
    assert int(os.read(read, 100)) != process.pid
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert os.read(read, 100) == b"", "the pipe ends when the last process that has it ends"
    os.close(read)
