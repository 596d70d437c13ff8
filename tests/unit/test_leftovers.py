"""Containers that a killed run left: ended and gone before a run works in their folder, and before it says that it ended."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder.core.jobs.sandbox import ContainerLimits
from builder.edges.jobs.folder import MARK
from builder.edges.jobs.hosts import compose, media
from builder.edges.system import shell
from builder.errors import MissingError
from builder.node.client import await_container
from builder.node.steps import _Program


class Engine:
    """An engine with one container, whose state changes each time that it is listed; None once it is gone."""

    def __init__(self, *states: str | None) -> None:
        self.states = list(states)
        self.removals = 0

    @property
    def api(self) -> Engine:
        return self

    def containers(self, **_: Any) -> list[dict[str, str]]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return [{"Id": "id", "State": state}] if state else []

    def remove_container(self, *_: Any, **__: Any) -> None:
        self.removals += 1
        raise OSError("removal of container id is already in progress")


def test_a_container_that_is_being_removed_is_waited_for() -> None:
    engine = Engine("running", "removing", "removing", None)
    compose.remove_all(engine, "job")
    assert engine.states == [None]


def test_one_that_an_engine_is_just_starting_is_removed_again() -> None:
    engine = Engine("created", "running", None)
    compose.remove_all(engine, "job")
    assert engine.removals == 2


@pytest.mark.parametrize("state", ["running", "paused", "restarting"])
def test_one_that_runs_on_is_an_error(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    monkeypatch.setattr(compose, "REMOVAL", 0.1)
    with pytest.raises(MissingError, match="can't be ended"):
        compose.remove_all(Engine(state), "job")


def test_one_that_stays_and_does_not_run_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "REMOVAL", 0.1)
    compose.remove_all(Engine("removing"), "job")


class Stages:
    """A native host that is interrupted while it ends what a killed run left."""

    def open(self, stages: Any) -> None:
        raise KeyboardInterrupt

    def close(self) -> None:
        pass


def test_a_run_that_is_stopped_while_it_ends_them_does_not_forget_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark is what makes the next run look."""
    compose.mark(tmp_path, "unix:///tmp/none.sock")
    cleaned: list[Path] = []
    monkeypatch.setattr(compose, "clean", cleaned.append)
    limits = ContainerLimits(memory=1, cpus=1)
    host = media.Media(Stages(), host="", images={}, folder=tmp_path, limits=lambda _: limits)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        host.open(["demux"])
    host.close()
    assert cleaned == [tmp_path]
    assert (tmp_path / MARK).exists()


CLIENT = """
import pathlib, signal, sys, time
def early(*_):
    pathlib.Path(sys.argv[2]).touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, early)
pathlib.Path(sys.argv[1] + ".begun").touch()
time.sleep(0.6)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
pathlib.Path(sys.argv[1]).write_text("id")
time.sleep(60)
"""
"""As ``docker run --cidfile``: one that is ended before it has the id leaves a container that nobody knows of."""


@pytest.mark.parametrize("way", ["a job's", "a look's", "a look's that takes too long", "a shard's"])
def test_a_client_is_not_ended_before_it_knows_its_container(tmp_path: Path, way: str) -> None:
    cidfile, early = tmp_path / "id", tmp_path / "early"
    words = [sys.executable, "-c", CLIENT, str(cidfile), str(early)]
    begun = tmp_path / "id.begun"

    def settle(process: shell.Process) -> None:
        await_container(cidfile, process.poll)

    def once_begun(then: Callable[[], None]) -> None:
        while not begun.exists():
            time.sleep(0.01)
        then()

    if way == "a job's":
        log: Any = SimpleNamespace(add=lambda _: None, close=lambda: None)
        client = media.Client(words, log, lambda: None, cidfile=cidfile)
        once_begun(client.terminate)
        client.stop()
    elif way == "a look's":
        threading.Thread(target=once_begun, args=(lambda: os.kill(os.getpid(), signal.SIGINT),)).start()
        with pytest.raises(KeyboardInterrupt):
            shell.run(words, settle=settle)
    elif way == "a look's that takes too long":
        assert shell.run(words, settle=settle, timeout=0.3).code == -9
    else:
        scratch: Any = SimpleNamespace(logs=tmp_path)
        program = _Program(words, {}, scratch, "demux", cidfile)
        program.start()
        once_begun(program.stop)
    assert cidfile.read_text() == "id"
    assert not early.exists()
