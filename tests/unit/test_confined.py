"""stages/confined.py: a child process with limits, and how its end is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.shared import ROOT

BEGIN = "confined.begin('talk.mp3', 5_000_000)\n"
QUICK = "confined.SECONDS = 0\n" + BEGIN
"""With the least time that there is: the system counts whole seconds, and one more is given."""


def confined(body: str, folder: Path, *, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``body`` as the work of a child; the parent prints why it ended."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    text = (
        f"import os, signal, sys, time, errno\nsys.path.insert(0, {str(ROOT / 'stages')!r})\nimport confined\n{before}\n"
        f"def work():\n{lines}    return 0\n"
        "ended = confined.run(work)\nprint(ended.why)\nsys.exit(ended.code)\n"
    )
    (folder / "program.py").write_text(text)
    return subprocess.run(
        [sys.executable, folder / "program.py"], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("body", "code", "why"),
    [
        ("return 5", 5, ""),
        (QUICK + "while True: pass", 2, "talk.mp3: it takes too long to read"),
        ("while True: pass", 2, "it takes too long to read"),
        (QUICK + "time.sleep(60)", 2, "talk.mp3: it takes too long to read"),
        (BEGIN + "os.kill(os.getpid(), 9)", 2, "talk.mp3: it takes more memory to read than there is"),
        (BEGIN + "os.kill(os.getpid(), signal.SIGSEGV)", 2, "talk.mp3: FFmpeg breaks off while it reads it (SIGSEGV)"),
        (BEGIN + "os.abort()", 2, "talk.mp3: FFmpeg breaks off while it reads it (SIGABRT)"),
    ],
)
def test_how_a_child_ends(tmp_path: Path, body: str, code: int, why: str) -> None:
    done = confined(
        body,
        tmp_path,
        before=f"confined.SECONDS, confined.PATIENCE, confined.PACE = 1, {2 if 'sleep' in body else 900}, 1e8",
    )
    assert (done.returncode, done.stdout.strip()[: len(why)] if why else done.stdout.strip()) == (code, why)
    assert done.stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of private memory is Linux's")
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("bytearray(1 << 31)", "it takes more than 1"),
        ("[bytearray(1 << 20) for _ in range(2000)]", "it takes more than 1"),
        ("raise OSError(errno.ENOMEM, 'no')", "it takes more than 1"),
        ("confined.begin('a', 1, copies=True); open('x', 'wb').write(bytes(65_000_000))", "a copy of it takes more than 64 MB"),
        ("bytearray(900_000_000)", ""),
        ("raise OSError(errno.EFBIG, 'no')", ""),
        ("raise ValueError", ""),
    ],
)  # fmt: skip
def test_what_is_too_much(tmp_path: Path, body: str, why: str) -> None:
    """Memory and bytes written end as errors, which are told from others."""
    body = (
        "import resource\ntry:\n    "
        + BEGIN
        + f"    {body}\nexcept BaseException as error:\n    print(confined.blame(error))"
    )
    done = confined(body.replace("'x'", repr(str(tmp_path / "x"))), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0][: len(why)] == why
    assert bool(done.stdout.splitlines()[0]) == bool(why)


def test_what_comes_out_earns_time(tmp_path: Path) -> None:
    """As long as something comes out of a recording, it is read on."""
    body = QUICK + "began = time.process_time()\nwhile time.process_time() < began + 1.6: confined.earn(0.01)"
    done = confined(body, tmp_path, before="confined.SECONDS, confined.PATIENCE, confined.PACE = 1, 900, 1e8")
    assert (done.returncode, done.stdout.strip()) == (0, "")


def test_outside_of_a_child_nothing_is_limited(tmp_path: Path) -> None:
    text = "import confined, resource\nb = resource.getrlimit(resource.RLIMIT_CPU)\nconfined.begin('a', 1)\nconfined.earn(9)\n"
    text += "assert resource.getrlimit(resource.RLIMIT_CPU) == b\nassert not confined.blame(MemoryError())\n"
    assert subprocess.run([sys.executable, "-c", text], cwd=ROOT / "stages", check=False).returncode == 0


@pytest.mark.parametrize("hears", [True, False])
def test_a_signal_reaches_the_child(tmp_path: Path, hears: bool) -> None:
    """Also one that doesn't hear; and the parent waits for its end."""
    hear = "signal.signal(signal.SIGTERM, lambda *_: (print('cleans up', flush=True), os._exit(143)))"
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    text = f"import os, signal, sys, time\nsys.path.insert(0, {str(ROOT / 'stages')!r})\nimport confined\n"
    text += f"confined.GRACE = 0.2\ndef work():\n    {hear if hears else deaf}\n    print('ready', os.getpid(), flush=True)\n"
    text += "    time.sleep(60)\nsys.exit(confined.run(work).code)\n"
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline().split()[1])
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    assert process.wait(30) == 143
    assert ("cleans up" in rest) == hears
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_parent_that_is_killed_takes_the_child_along(tmp_path: Path) -> None:
    text = f"import os, sys, time\nsys.path.insert(0, {str(ROOT / 'stages')!r})\nimport confined\n"
    text += "def work():\n    print(os.getpid(), flush=True)\n    time.sleep(60)\nconfined.run(work)\n"
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    assert process.stdout.read() == ""  # the child has it open until it ends
    process.wait()
    until = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split(")")[1][:3]:
        assert time.monotonic() < until
