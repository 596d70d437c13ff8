"""What the user's shell, disk and machine do to a command is said as theirs: never "a bug", never a traceback."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from builder.cli import failures
from builder.edges.system import files
from builder.errors import BakeError, MissingError, SourceError, UsageError
from tests import small_project
from tests.small_project import Small

ROOT = Path(__file__).resolve().parents[2]
BAKE = f'{shlex.quote(sys.executable)} -c "import sys; from builder.cli import main; sys.exit(main())"'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return small_project.make(tmp_path / "p", {"ours": Small(entry="hub: org/m", files={"model.bin": b"x" * 100})})


def shell(project: Path, line: str, **env: str | None) -> subprocess.CompletedProcess[str]:
    """A line of bash inside the project; ``$BAKE`` is the command."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "DOCKER_HOST": "unix:///nowhere.sock", **env}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("$BAKE", BAKE)],
        cwd=project,
        env={k: v for k, v in variables.items() if v is not None},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr + done.stdout
    return done


@pytest.mark.parametrize("words", ["models list", "models list --json", "--help", "jobs list --json", "nope --json"])
def test_a_full_standard_output(project: Path, words: str) -> None:
    """/dev/full: the result is not there, and the exit code says so; standard error says why."""
    done = shell(project, f"$BAKE {words} > /dev/full")
    assert done.returncode == 3, done.stderr
    assert "No space left" in done.stderr


def test_a_closed_standard_output_takes_nothing_elses_place(project: Path) -> None:
    """Its number would be the next file's, and the result would be written into it."""
    done = shell(project, "$BAKE models list >&- && $BAKE models lock --layers <&- 2>&-; head -c 20 models.lock")
    assert done.returncode == 0
    assert done.stdout.startswith((project / "models.lock").read_text()[:20])


def test_a_reader_that_goes(project: Path) -> None:
    """`| head` is no failure; standard error that goes stops nothing."""
    assert shell(project, "$BAKE models list --json | head -c 1; exit ${PIPESTATUS[0]}").returncode == 0
    done = shell(project, "$BAKE models verify ours 2> >(exec 0<&-) ; echo $?")
    assert done.stdout.splitlines()[-1] == "0"


@pytest.mark.parametrize(
    "env", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_an_output_that_knows_ascii_only(project: Path, env: dict[str, str]) -> None:
    """Text is written with escapes, and JSON stays JSON; so do names that are not UTF-8."""
    place = project / "é…"
    place.mkdir()
    done = shell(project, "cd é… && $BAKE models list && $BAKE jobs show ünknown --json", **env)
    assert done.returncode == 2
    assert "nknown" in json.loads(done.stdout[done.stdout.index("{\n") :])["error"]["what"]
    done = shell(project, "$BAKE run $'\\xff.mp4'", **env)
    assert done.returncode == 2
    assert "udcff" in done.stderr


def test_a_home_that_is_not_known(project: Path) -> None:
    """HOME unset, a user that /etc/passwd doesn't have: no ~ is looked into."""
    for line in (
        "$BAKE models list",
        "$BAKE doctor; true",
        "$BAKE models verify ours",
        "$BAKE run '~nobody-x/a.mp4'; true",
    ):
        assert shell(project, line, HOME=None).returncode == 0
    if os.geteuid() == 0:
        ids = "setpriv --reuid 54321 --regid 54321 --clear-groups"
        found = shell(project, f"{ids} $BAKE models list", HOME=None, BAKE_HOME="/tmp/whisperbake-none")
        assert found.returncode in (0, 3, 127), found.stderr


def test_a_folder_that_is_gone(project: Path) -> None:
    done = shell(project, "mkdir gone && cd gone && rmdir ../gone && $BAKE models list")
    assert done.returncode == 3
    assert done.stderr.startswith("error: the current folder is gone")


@pytest.mark.parametrize("home", ["/dev/null/state", "/proc/state", "bake.yaml"])
@pytest.mark.parametrize("words", ["models verify", "hardware", "models fetch ours", "models prune"])
def test_a_state_folder_that_cannot_be_written(project: Path, home: str, words: str) -> None:
    """Where it is, and what to do; exit 3, or no failure at all where nothing has to be written."""
    done = shell(project, f"$BAKE --home {home} {words}")
    assert done.returncode in (0, 2, 3, 4, 5), done.stderr
    if done.returncode == 3:
        assert "next: " in done.stderr


def test_too_few_files_may_be_open(project: Path) -> None:
    """The limit is named, with the way to raise it."""
    done = shell(project, "ulimit -n 6; $BAKE models verify ours")
    if "ImportError" not in done.stderr:  # so few that Python itself can't start
        assert done.returncode in (0, 3), done.stderr
    assert "ulimit -n" in failures.meaning(OSError(24, "Too many open files", "x")).hint  # type: ignore[union-attr, operator]


def test_a_clock_that_went_back(project: Path) -> None:
    """Caches of tomorrow are looked at again, and nothing is negative."""
    assert shell(project, "$BAKE hardware").returncode == 0
    cache = project / ".bake/cache/hardware.json"
    cache.write_text(re.sub(r'"at": [0-9.]+', '"at": 99999999999', cache.read_text()))
    os.utime(cache, (4e9, 4e9))
    assert shell(project, "$BAKE hardware && $BAKE models prune && $BAKE jobs list").returncode == 0


def test_debug_tells_and_keeps_secrets(project: Path) -> None:
    """Anywhere in the line: what is run, and where an error comes from; never a token."""
    done = shell(
        project, "$BAKE models fetch ours --debug", HF_TOKEN="hf_abcdefghijkl", HF_ENDPOINT="http://127.0.0.1:9"
    )
    assert done.returncode == 0  # all there
    (project / ".bake/models").rename(project / "away")
    done = subprocess.run(
        [sys.executable, "-m", "builder", "models", "fetch", "ours", "--debug"],
        cwd=project,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "HF_TOKEN": "hf_abcdefghijkl", "HF_ENDPOINT": "http://u:pw@127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert "debug: Traceback" in done.stderr
    assert "hf_abc" not in done.stderr
    assert "u:pw" not in done.stderr


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (PermissionError(13, "Permission denied", "/x"), MissingError, "Permission denied"),
        (OSError(28, "No space left on device"), MissingError, "No space left on device"),
        (FileNotFoundError(2, "No such file or directory", "/x"), MissingError, "No such file"),
        (MemoryError(), MissingError, "too little memory"),
    ],
)
def test_what_the_machine_says(error: BaseException, kind: type[BakeError], said: str) -> None:
    found = failures.meaning(error)
    assert isinstance(found, kind)
    assert said in found.what
    assert found.hint


def test_what_others_say() -> None:
    """An engine's 404 while another process builds, a connection that breaks; a mistake of ours stays a bug."""
    import docker.errors
    import httpx

    missing = failures.meaning(docker.errors.NotFound("404", explanation="No such image: x"))
    assert isinstance(missing, MissingError)
    assert "No such image: x" in missing.what
    assert isinstance(failures.meaning(httpx.ReadTimeout("slow")), SourceError)
    assert failures.meaning(TypeError("ours")) is None
    assert failures.meaning(KeyError("ours")) is None


def test_an_output_goes_where_its_name_leads(tmp_path: Path) -> None:
    """A link is followed and stays; a device, a FIFO and /dev/stdout are written to; a mode is kept."""
    real, link = tmp_path / "real.html", tmp_path / "link.html"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to("real.html")
    assert files.write_output(link, "new", instead="--out") == real
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o600
    dangling = tmp_path / "dangling"
    dangling.symlink_to("made")
    files.write_output(dangling, "x", instead="--out")
    assert (tmp_path / "made").read_text() == "x"
    files.write_output(Path("/dev/null"), "x" * 100_000, instead="--out")
    assert Path("/dev/null").is_char_device()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", str(fifo)], stdout=subprocess.PIPE) as reader:
        files.write_output(fifo, "through", instead="--out")
        assert reader.stdout is not None
        assert reader.stdout.read() == b"through"
    assert fifo.is_fifo()
    for name, kind in (("/dev/full", MissingError), (str(tmp_path), UsageError), (str(tmp_path / "no/x"), UsageError)):
        with pytest.raises(kind):
            files.write_output(Path(name), "x" * 100_000, instead="--out FILE")
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    with pytest.raises(MissingError):
        files.write_output(loop, "x", instead="--out FILE")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_written_to_not_replaced(tmp_path: Path, name: str) -> None:
    """Also where it leads into a file: what follows stands behind it."""
    code = f"from pathlib import Path; from builder.edges.system import files; print('a'); files.write_output(Path({name!r}), 'b\\n', instead=''); print('c')"  # noqa: E501
    for out in ("file", "pipe"):
        target = tmp_path / out
        line = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} " + (
            f"> {target}" if out == "file" else f"| cat > {target}"
        )
        subprocess.run(["bash", "-c", line], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
        assert target.read_text() == "a\nb\nc\n"
