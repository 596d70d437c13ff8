"""What the user reads is exact and never wrapped."""

from __future__ import annotations

import contextlib
import os
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builder import ui
from builder.core.progress import Progress
from builder.errors import MissingError, SourceError
from builder.ui import rows


def test_errors_say_what_where_expected_and_next(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, however long: a log must stay searchable."""
    long = "x" * 300
    ui.show_error(MissingError(long, where="bake.yaml:3", expected="y", hint="type z", detail=["last line"]))
    assert capsys.readouterr().err.splitlines() == [
        f"error: bake.yaml:3: {long}",
        "  | last line",
        "  expected: y",
        "  next: type z",
    ]


def test_without_a_terminal_a_bar_is_a_line_at_start_and_end(capsys: pytest.CaptureFixture[str]) -> None:
    """A thousand steps in a pipe are not a thousand lines."""
    with ui.Live() as live:
        for done in range(1000):
            live.on_progress(Progress(what="asr", done=done, total=1000, unit="s"))
        live.on_progress(Progress(what="asr", done=1000, total=1000, unit="s", finished=True))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("asr: 16:40 of 16:40")


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """--quiet leaves errors only."""
    with ui.Live(quiet=True) as live:
        live.on_progress(Progress(what="asr", finished=True))
    assert capsys.readouterr().err == ""


def test_secrets_of_others_errors_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    """A token in a header's error, a password in an index's address; commits and paths stay readable."""
    ui.say("Illegal header value b'Bearer hf_abcDEF123456' at https://me:secret@index.invalid/simple")
    ui.say("https://hub.invalid/org/name/resolve/" + "a" * 40 + "/hf_x.json and user@host")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "Illegal header value b'Bearer ***' at https://***@index.invalid/simple"
    assert second.endswith("/hf_x.json and user@host")
    error = SourceError("no", detail=["https://me:secret@index.invalid"], hint="hf_abcDEF123456")
    assert "secret" not in repr(ui.error_data(error))
    assert "abcDEF" not in repr(ui.error_data(error))


def test_a_part_has_no_lines_of_its_own_but_its_notes(capsys: pytest.CaptureFixture[str]) -> None:
    """A hundred files of a fetch are one line in a log; that one is waited for is said."""
    with ui.Live() as live:
        live.on_progress(Progress(what="m model.bin", done=1, total=9, unit="bytes", part=True))
        live.on_progress(Progress(what="m model.bin", note="being fetched already", part=True))
        live.on_progress(Progress(what="m model.bin", done=9, total=9, unit="bytes", part=True, finished=True))
    assert capsys.readouterr().err.splitlines() == ["m model.bin: being fetched already"]


def test_a_rate_leaves_out_what_was_there_before() -> None:
    """A resumed download that had 900 of 1000 MB isn't one of 900 MB/s."""
    step = Progress(what="m", done=950e6, total=1000e6, unit="bytes")
    assert ", ".join(rows.words(step, 10.0, 900e6)) == "950.0 MB of 1.0 GB, 5.0 MB/s, 0:10 left"


def test_a_name_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A recording's name or text is shown, never obeyed; letters of every script stay."""
    ui.say("\x1b]0;owned\x07 \u202egnp.exe \x9b2J کتاب‌ها 👨‍👩‍👧 tab\there")
    said = capsys.readouterr().err
    assert said == "\\x1b]0;owned\\x07 \\u202egnp.exe \\x9b2J کتاب‌ها 👨‍👩‍👧 tab\there\n"


def test_a_closed_standard_error_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job of `run 2>&1 | head` goes on, whoever reads."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        with ui.Live() as live:
            live.on_progress(Progress(what="asr", note="x", finished=True))
        monkeypatch.undo()
        with contextlib.suppress(BrokenPipeError):
            gone.close()


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (60, "⠋ models               ━━━━──── 70.1 MB of 145.2 MB"),
        (80, "⠋ models                     ━━━━━━━━──────── 70.1 MB of 145.2 MB, 0:11 left"),
        (
            120,
            "⠋ models                       ━━━━━━━━──────── 70.1 MB of 145.2 MB, 7.0 MB/s, 0:11 left, from hub.example",
        ),
        (30, "⠋ models     70.1 MB of 145.2…"),
    ],
)
def test_a_row_says_as_much_as_there_is_room_for(width: int, line: str) -> None:
    """The amount first, then the time left, the rate, where it comes from."""
    step = Progress(what="models", done=70.1e6, total=145.2e6, unit="bytes", source="hub.example")
    assert rows.row(step, width=width, seconds=10.0) == line


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (
            Progress(what="asr", done=723, total=1872, unit="s"),
            "⠋ asr                  ━━━───── 12:03 of 31:12, 24.1 ×",
        ),
        (Progress(what="asr", note="loading large-v3"), "⠋ asr                  loading large-v3"),
        (
            Progress(what="job", done=43, total=100, unit="%", left=130.0),
            "⠋ job                  ━━━───── 43 %, 2:05 left",
        ),
        (
            Progress(what="jobs", done=1, total=3, unit="jobs", left=70.0),
            "⠋ jobs                 1 of 3 jobs done, 1:05 left",
        ),
        (Progress(what="mux", unit="s"), "⠋ mux                  0:30"),
    ],
)
def test_rows_of_a_job_at_sixty_columns(step: Progress, line: str) -> None:
    """Times are mm:ss; the time left runs on between two reports (5 s here)."""
    assert rows.row(step, width=60, seconds=30.0, age=5.0) == line


@example(what="a\nb\x1b[2J", note="", width=77, done=0.0, unit="s")
@example(what="a", note="", width=20, done=1e-308, unit="bytes")
@given(
    what=st.text(max_size=40), note=st.text(max_size=80), width=st.integers(20, 200), done=st.floats(0, 1e12),
    unit=st.sampled_from(["s", "bytes", "%", "jobs", "steps"]),
)  # fmt: skip
def test_a_row_is_never_wider_than_the_terminal(what: str, note: str, width: int, done: float, unit: str) -> None:
    """Whatever it is called and says: else every refresh would leave lines behind."""
    step = Progress(what=what, note=note, done=done, total=1e11, unit=unit, left=done / 1e6, source=what)
    line = rows.row(step, width=width, seconds=1.0)
    assert rows.cells(line) <= width
    assert "\n" not in line
    assert "\x1b" not in line
