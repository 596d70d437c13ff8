"""A container that was asked to end, and an engine that answers for a while before it goes: the stage starts again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from builder.edges.jobs.hosts import compose


class Leaving:
    """An engine that ends a container with ``code``, answers some pings more, is away once, and is back."""

    def __init__(self, code: int, answers: int) -> None:
        self.code, self.answers, self.starts = code, answers, 0
        self.ended = threading.Event()

    # Of a project

    @property
    def api(self) -> Leaving:
        return self

    def command(self, stage: str) -> str:
        return stage

    def find(self, stage: str) -> str:
        return "id"

    def drop(self, container: str) -> None:
        pass

    # Of an engine

    def start(self, container: str) -> None:
        self.starts += 1

    def logs(self, *_: Any, **__: Any) -> Iterator[bytes]:
        return iter(())

    def wait(self, container: str, timeout: None) -> dict[str, int]:
        return {"StatusCode": self.code if self.starts == 1 else 0}

    def inspect_container(self, container: str) -> dict[str, Any]:
        state = {"OOMKilled": False, "Running": False, "ExitCode": self.code}
        return {"State": state, "HostConfig": {"Memory": 1}}

    def events(self, **_: Any) -> Iterator[dict[str, str]]:
        return iter([{"Action": "start"}, {"Action": "die"}])

    def ping(self) -> None:
        self.answers -= 1
        if self.answers == 0:
            raise ConnectionError


class Log:
    def add(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("code", "again"),
    [(143, True), (137, False)],
    ids=["asked to end: others may not hear", "killed: it goes at once or stays"],
)
def test_how_long_a_leaving_engine_may_answer(code: int, again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "LEAVING", 0.0)
    engine = Leaving(code, answers=3)
    container = compose.Container(engine, "asr", Log(), engine.ended.set)  # type: ignore[arg-type]
    assert engine.ended.wait(30)
    assert (container.poll(), engine.starts) == ((0, 2) if again else (code, 1))
    assert ("from outside" in container.cause) is not again
