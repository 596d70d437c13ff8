"""Programs that are run: what becomes of their pipes when whoever waits is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

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
    before: set[threading.Thread] = set()

    def once_both_pipes_are_read() -> None:
        ready.read_text()
        while len(set(threading.enumerate()) - before) < 2:
            time.sleep(0.01)
        signal.pthread_kill(main, signal.SIGUSR1)

    sender = threading.Thread(target=once_both_pipes_are_read, daemon=True)
    sender.start()
    before.update(threading.enumerate())
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


def test_a_program_ends_with_whoever_is_interrupted_before_its_pipes_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may come at any moment; who doesn't kill the program then waits for its end."""
    made: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def remember(*words: Any, **options: Any) -> subprocess.Popen[bytes]:
        made.append(start(*words, **options))
        return made[-1]

    def interrupt(pipe: object) -> None:
        raise Interruption

    monkeypatch.setattr(subprocess, "Popen", remember)
    monkeypatch.setattr(shell, "_Kept", interrupt)
    with pytest.raises(Interruption):
        shell.run(["sleep", "20"])
    assert [process.returncode for process in made] == [-signal.SIGKILL]
