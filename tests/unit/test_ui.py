"""What the user reads is exact and never wrapped."""

from __future__ import annotations

import pytest

from builder import ui
from builder.core.progress import Progress
from builder.errors import MissingError, SourceError


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
    assert lines[1].startswith("asr: 1000.0 of 1000.0 s")


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
    assert ui._amount(step, 10.0, 900e6) == "950.0 MB of 1.0 GB, 5.0 MB/s, 10.0 s left"
