"""What a terminal gets: rows that fit, on terminals that can show them; and plain lines elsewhere."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from builder.core.text import visible
from builder.ui import rows

ROOT = Path(__file__).resolve().parents[2]

PLAY = """
import sys, time
from builder import ui
from builder.core.progress import Progress
with ui.Live() as live:
    live.reads_along = "live" in sys.argv
    live.on_progress(Progress(what="warning", note="no isolation", finished=True))
    live.on_progress(Progress(what="asr", note="loading tiny.en"))
    live.on_progress(Progress(what="job", done=10, total=100, unit="%", left=90))
    time.sleep(0.3)
    live.on_progress(Progress(what="asr", done=10, total=100, unit="s"))
    live.on_progress(Progress(what="asr", note="[0:01] Good \\x1b[31mmorning", heard=True))
    time.sleep(0.3)
    live.on_progress(Progress(what="asr", note="done in 0:12", finished=True))
    live.on_progress(Progress(what="job", done=100, total=100, unit="%", finished=True))
print("result", flush=True)
"""


def played(term: str | None, columns: int = 60, *words: str) -> str:
    """What a terminal gets."""
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("TERM", "COLUMNS", "LINES", "NO_COLOR")}
    env |= {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **({"TERM": term} if term else {})}
    process = subprocess.Popen([sys.executable, "-c", PLAY, *words], env=env, stdout=secondary, stderr=secondary)
    os.close(secondary)
    got = b""
    with contextlib.suppress(OSError):  # Linux says EIO when the last writer has gone
        while data := os.read(primary, 65536):
            got += data
    assert process.wait(30) == 0
    os.close(primary)
    return got.decode()


def test_a_terminal_of_sixty_columns() -> None:
    """Rows fit, what ended stands above them, nothing that isn't at work has a bar, and they leave no trace."""
    got = played("xterm-256color", 60, "live")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", got)
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]
    assert all(rows.cells(line) < 60 for line in lines), lines
    stay = [line for line in lines if line[0] not in rows.SPINNER]
    assert stay == ["warning: no isolation", "[0:01] Good \\x1b[31mmorning", "asr: done in 0:12", "result"]
    live = [line for line in lines if line[0] in rows.SPINNER]
    assert any("loading tiny.en" in line for line in live)
    assert any("10 %, 1:30 left" in line for line in live)
    assert not [line for line in live if "warning" in line]
    assert "\x1b[31m" not in got
    assert got.rfind("\x1b[2K") < got.rfind("result")  # the rows were erased


@pytest.mark.parametrize("term", ["dumb", None])
def test_a_dumb_terminal_gets_plain_lines(term: str | None) -> None:
    """No movement of the cursor, no colours; what is spoken only with --live."""
    assert played(term).splitlines() == [
        "warning: no isolation",
        "asr: loading tiny.en",
        "job: 10 %, 1:30 left",
        "asr: done in 0:12",
        "result",
    ]


EVIL = "\x1b]0;evil\x07\x9b31m\u202e\nerror: evil\u2028\r"


@pytest.mark.parametrize(
    "words", [("jobs", "show", EVIL), ("--debug", "run", EVIL), ("models", "import", EVIL, "--json"), (EVIL,)]
)
def test_a_terminal_obeys_no_name(tmp_path: Path, words: tuple[str, ...]) -> None:
    """The whole program on a terminal: what was typed comes back as text, in the line that is about it."""
    primary, secondary = pty.openpty()
    env = {**os.environ, "BAKE_HOME": str(tmp_path / "state"), "BAKE_JOBS": str(tmp_path / "jobs"), "TERM": "xterm"}
    command = [sys.executable, "-m", "builder", *words]
    with subprocess.Popen(
        command, cwd=tmp_path, env={**env, "PYTHONPATH": str(ROOT)}, stdout=secondary, stderr=secondary
    ):
        os.close(secondary)
        got = b""
        with contextlib.suppress(OSError):
            while data := os.read(primary, 65536):
                got += data
    os.close(primary)
    lines = got.decode().replace("\r\n", "\n")
    assert "evil" in lines
    assert visible(lines, keep="\n\t") == lines
    assert not [line for line in lines.split("\n") if line.startswith("error: evil")]
