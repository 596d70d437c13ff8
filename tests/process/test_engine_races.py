"""An engine whose images go between two questions: what another process removes is asked anew, then named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from builder.edges.engine import connection
from builder.errors import MissingError
from tests import loopback


class Races:
    """What an engine answers, by path; ``gone`` counts down the inspections that come too late."""

    def __init__(self) -> None:
        self.gone = 0
        self.address = ""


@pytest.fixture
def engine() -> Iterator[Races]:
    state = Races()

    class Handler(loopback.Handler):
        def do_GET(self) -> None:
            if self.path.endswith("/version"):
                return self.reply(200, json.dumps({"ApiVersion": "1.44", "Version": "26.1.5"}).encode())
            if "/images/json" in self.path:
                return self.reply(200, json.dumps([{"Id": "sha256:one"}]).encode())
            if state.gone:
                state.gone -= 1
                return self.reply(404, json.dumps({"message": "No such image: sha256:one"}).encode())
            return self.reply(200, json.dumps({"Id": "sha256:one", "RepoTags": []}).encode())

    server = loopback.server_of(Handler)
    with loopback.answering(server):
        state.address = f"tcp://127.0.0.1:{server.server_port}"
        yield state


def listed(engine: Races) -> list[Any]:
    client = docker.DockerClient(base_url=engine.address, version="1.44")
    return connection.steady(client.images.list)


def test_an_image_that_goes_meanwhile_is_asked_for_anew(engine: Races) -> None:
    """Twice a listing comes too late; then the engine is at rest."""
    engine.gone = 2
    assert [image.id for image in listed(engine)] == ["sha256:one"]


def test_an_engine_that_never_rests_is_named(engine: Races, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 3 with the engine's own words, not a bug."""
    monkeypatch.setattr(connection, "PAUSE", 0.001)
    engine.gone = 99
    with pytest.raises(MissingError, match="No such image") as found:
        listed(engine)
    assert found.value.hint
