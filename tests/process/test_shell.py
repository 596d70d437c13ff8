"""Programs that are run: what becomes of their pipes when whoever waits is interrupted."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType

import pytest

from builder.edges.system import shell


class Interruption(Exception):
    """Ctrl-C, in a test."""


def test_a_pipe_that_outlives_its_program_is_read_by_its_own_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program is killed and its pipe closed; a child of it prints later. The number may be another file's by then."""
    ready, word, faults = tmp_path / "ready", tmp_path / "word", []
    os.mkfifo(ready)
    os.mkfifo(word)
    monkeypatch.setattr(threading, "excepthook", faults.append)

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise Interruption

    signal.signal(signal.SIGUSR1, interrupt)
    main = threading.get_ident()  # another thread would not wake who waits
    threading.Thread(target=lambda: (ready.read_text(), signal.pthread_kill(main, signal.SIGUSR1)), daemon=True).start()
    before = set(threading.enumerate())
    try:
        with pytest.raises(Interruption):
            shell.run(["sh", "-c", f"(echo > {ready}; read line < {word}; echo one; echo two) & wait"])
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    readers = [thread for thread in threading.enumerate() if thread not in before]
    assert readers
    word.write_text("\n")
    for thread in readers:
        thread.join(30)
    assert not faults
    assert not any(thread.is_alive() for thread in readers)
