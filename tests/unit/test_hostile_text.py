"""The first of tests/hostile/text.py, and the doors that hold them off."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder import cli, program
from builder.core.text import visible
from builder.receiver import display
from tests.hostile import text
from tests.shared import ROOT

SAMPLE = 120
"""Every sink twelve times; make bench-hostile ARGS=text tries ten thousand."""


@pytest.mark.parametrize("sink", range(len(text.SINKS)))
def test_a_string_is_nothing_but_text_wherever_it_stands(sink: int) -> None:
    attempts = [text.attempt(number) for number in range(sink, SAMPLE, len(text.SINKS))]
    found = [
        f"{attempt.name}: {effect}" for attempt in attempts if (effect := attempt.run(Path("/nowhere"))) is not None
    ]
    assert found == []


def test_a_word_to_type_is_that_word() -> None:
    assert program.shell_word("plain-1.0") == "plain-1.0"
    assert program.shell_word("it's") == "'it'\"'\"'s'"
    assert program.shell_word("a\nb'\\\x9b") == r"$'a\x0ab\'\\\xc2\x9b'"
    assert program.shell_word(Path("-rf")) == "./-rf"
    assert program.command("models import", Path("/a b"), "x") == f"{program.name()} models import '/a b' x"


def test_what_libraries_write_goes_through_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings, prompts and tracebacks have lines; what is in them steers nothing. What is ours goes behind it."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    display.guard(visible)
    display.guard(visible)
    print("a\x1b[31m\tb\r\nc\u202e")
    sys.stderr.writelines(["x\x9b\n", "y"])
    display.behind(sys.stderr).write("\x1b[K")
    assert (out.getvalue(), err.getvalue()) == ("a\\x1b[31m\tb\\x0d\nc\\u202e\n", "x\\x9b\ny\x1b[K")


EVIL = "\x1b]0;evil\x07\x9b31m\u202e\nerror: evil\u2028\r"

TYPED = (
    (EVIL,),
    ("run", EVIL),
    ("run", f"https://{EVIL}/x"),
    ("run", "--mode", EVIL, "x.wav"),
    ("run", "--set", f"asr.{EVIL}=1", "x.wav"),
    ("run", "--language", EVIL, "x.wav"),
    ("run", "--formats", EVIL, "x.wav"),
    ("run", "--track", EVIL, "x.wav"),
    ("run", f"--{EVIL}"),
    ("run", "--threads", EVIL, "x.wav"),
    ("jobs", EVIL),
    ("jobs", "show", EVIL),
    ("jobs", "logs", EVIL),
    ("jobs", "name", EVIL, f"S1={EVIL}"),
    ("jobs", "report", EVIL, "--out", EVIL),
    ("models", "verify", EVIL),
    ("models", "fetch", EVIL, "--from", EVIL),
    ("models", "import", EVIL),
    ("bundle", "verify", EVIL),
    ("bundle", "inspect", EVIL),
    ("bundle", "diff", EVIL, EVIL),
    ("settings", EVIL),
    ("init", f"{EVIL}\0"),
    ("ci", EVIL),
    ("completion", EVIL),
    ("push", "--registry", EVIL),
    ("--home", EVIL, "--debug", "jobs", "list"),
    ("--debug", "jobs", "show", EVIL),
    ("--preset", EVIL, "plan"),
)
"""Command lines whose errors repeat what was typed."""


@pytest.mark.parametrize("json", [False, True])
@pytest.mark.parametrize("words", TYPED, ids=lambda words: "-".join(w for w in words if w.isalpha()) or "evil")
def test_a_word_that_was_typed_comes_back_as_text(
    words: tuple[str, ...],
    json: bool,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one line of the error, in words and as JSON."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BAKE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("BAKE_JOBS", str(tmp_path / "jobs"))
    code = cli.main([*words, *(["--json"] if json else [])])
    monkeypatch.undo()
    out, err = capfd.readouterr()
    assert code in (0, 2, 3, 5)  # never 1, a bug
    assert visible(out + err, keep="\n\t") == out + err
    assert not [line for line in (out + err).split("\n") if line.startswith("error: evil")]


def test_the_launcher_shows_what_a_folder_is_called(tmp_path: Path) -> None:
    """Before there is an environment; pip's lines go the same way."""
    words = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from builder.bootstrap import venv; venv._say({EVIL!r})"
    done = subprocess.run(
        [sys.executable, "-c", words], capture_output=True, check=True, env={**os.environ, "PYTHONUTF8": "1"}
    )
    assert done.stderr.decode().count("\n") == 1
    assert visible(done.stderr.decode(), keep="\n") == done.stderr.decode()
