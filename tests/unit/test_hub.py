"""Fetching from a hub over a real connection: resumed, refused with the right advice, given up, never wrong.

The hub is a small server on this machine that misbehaves as told.
"""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.core.progress import Progress
from builder.core.types import FilePin, HubSource, Model, Pin, Purpose, UrlSource
from builder.edges import hub, web
from builder.edges.store import Store
from builder.errors import BakeError, IntegrityError, SourceError

WEIGHTS = bytes(range(256)) * 20_000
REVISION = "b" * 40


class Hub:
    """What the server does next, and what it was asked."""

    def __init__(self) -> None:
        self.files = {"model.bin": WEIGHTS, "config.json": b"{}"}
        self.break_after: list[int] = []
        self.refuse: tuple[int, str] | None = None
        self.busy = 0
        self.elsewhere = ""
        self.ranges = True
        self.asked: list[tuple[str, str, str | None, str | None]] = []
        self.address = ""


@pytest.fixture
def server() -> Iterator[Hub]:
    state = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_GET(self) -> None:
            state.asked.append(("GET", self.path, self.headers.get("Range"), self.headers.get("Authorization")))
            if state.refuse:
                self.send_response(state.refuse[0])
                self.send_header("X-Error-Code", state.refuse[1])
                self.end_headers()
                return
            if state.busy:
                state.busy -= 1
                self.send_response(503)
                self.end_headers()
                return
            if state.elsewhere:
                self.send_response(302)
                self.send_header("Location", state.elsewhere + self.path)
                self.end_headers()
                return
            data = state.files[self.path.rsplit("/", 1)[-1]]
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if state.ranges else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            stop = start + state.break_after.pop(0) if state.break_after and len(data) > 100 else len(data)
            self.wfile.write(data[start:stop])

        def log_message(self, *_: Any) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    state.address = f"http://127.0.0.1:{running.server_port}"
    yield state
    running.shutdown()
    running.server_close()


def pin_of(files: dict[str, bytes]) -> Pin:
    return Pin(
        revision=REVISION,
        files=tuple(
            FilePin(path=n, size=len(d), sha256=hashlib.sha256(d).hexdigest()) for n, d in sorted(files.items())
        ),
    )


PIN = pin_of({"model.bin": WEIGHTS, "config.json": b"{}"})
MODEL = Model(id="m", purpose=Purpose.ASR, title="t", licence="MIT", sources=(HubSource(repo="org/name"),))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(web.random, "random", lambda: -0.45)  # nearly no pause
    monkeypatch.setattr(web, "PATIENCE", 0.5)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def fetch(place: Store, server: Hub, model: Model = MODEL, **env: str) -> list[Progress]:
    told: list[Progress] = []
    hub.fetch(place, [(model, PIN)], env={"HF_ENDPOINT": server.address, **env}, report=told.append)
    return told


def refusal(place: Store, server: Hub, model: Model = MODEL, **env: str) -> BakeError:
    with pytest.raises(SourceError) as caught:
        fetch(place, server, model, **env)
    return caught.value


def test_a_model_comes_from_the_hub_at_its_revision(tmp_path: Path, server: Hub) -> None:
    """The pinned commit, not whatever main is today; progress never goes backwards and ends at the total."""
    place = Store(tmp_path)
    told = fetch(place, server)
    assert place.verify(MODEL, PIN, deep=True) == ()
    assert {path for _, path, _, _ in server.asked} == {f"/org/name/resolve/{REVISION}/{f.path}" for f in PIN.files}
    steps = [p.done for p in told]
    assert steps == sorted(steps)
    assert told[-1].finished
    assert told[-1].done == told[-1].total == PIN.size


def test_a_broken_connection_is_gone_on_with_where_it_broke(tmp_path: Path, server: Hub) -> None:
    """No byte is downloaded twice."""
    server.break_after = [1_500_000, 2_000_000]
    place = Store(tmp_path)
    fetch(place, server)
    assert [r for _, path, r, _ in server.asked if path.endswith("model.bin")] == [
        None, "bytes=1500000-", "bytes=3500000-",
    ]  # fmt: skip
    assert place.verify(MODEL, PIN, deep=True) == ()


def test_what_a_killed_process_left_is_gone_on_with(tmp_path: Path, server: Hub) -> None:
    """The part file is named by the digest it will have."""
    place = Store(tmp_path)
    with place.fetching(PIN.files[1]) as incoming:
        incoming.write_bytes(WEIGHTS[:4_000_000])
    fetch(place, server)
    assert ("bytes=4000000-") in [r for _, _, r, _ in server.asked]
    assert place.verify(MODEL, PIN, deep=True) == ()


def test_a_spoilt_beginning_is_dropped_and_fetched_anew(tmp_path: Path, server: Hub) -> None:
    """A disk that lied costs one more download, not an error that comes back every time."""
    place = Store(tmp_path)
    with place.fetching(PIN.files[1]) as incoming:
        incoming.write_bytes(b"?" * 4_000_000)
    fetch(place, server)
    assert place.verify(MODEL, PIN, deep=True) == ()


def test_a_server_without_ranges_is_read_from_the_start(tmp_path: Path, server: Hub) -> None:
    """200 in answer to a range means: all of it."""
    server.ranges = False
    server.break_after = [1_000_000]
    place = Store(tmp_path)
    fetch(place, server)
    assert place.verify(MODEL, PIN, deep=True) == ()


def test_a_busy_hub_is_asked_again(tmp_path: Path, server: Hub) -> None:
    """503 twice is no failure."""
    server.busy = 2
    place = Store(tmp_path)
    fetch(place, server)
    assert place.missing(MODEL, PIN) == ()


@pytest.mark.parametrize("wrong", [WEIGHTS[:-1] + b"!", WEIGHTS + b"more", WEIGHTS[:-7]])
def test_other_bytes_never_enter_the_tree(tmp_path: Path, server: Hub, wrong: bytes) -> None:
    """Another content, a longer file, a shorter one: exit code 5, and nothing to load."""
    server.files["model.bin"] = wrong
    place = Store(tmp_path)
    with pytest.raises(IntegrityError):
        fetch(place, server)
    assert not (place.folder(MODEL, PIN) / "model.bin").exists()
    assert not (tmp_path / "hub/models--org--name/refs/main").exists()


@pytest.mark.parametrize(
    ("status", "code", "token", "says", "advice"),
    [
        (401, "GatedRepo", "", "wants a token", "https://page"),
        (401, "", "hf_wrong", "refused the token", "HF_TOKEN"),
        (403, "GatedRepo", "hf_fine", "not accepted", "https://page"),
        (404, "RevisionNotFound", "hf_fine", "no such repository or revision", "--from"),
    ],
)
def test_refusals_are_told_apart(
    tmp_path: Path, server: Hub, status: int, code: str, token: str, says: str, advice: str
) -> None:
    """No token, a bad one, a licence that was not accepted: each has its own way out. The token is in no message."""
    server.refuse = (status, code)
    gated = Model(
        id="g", purpose=Purpose.OTHER, title="t", licence="MIT", gated=True, page="https://page",
        sources=(HubSource(repo="org/name"),),
    )  # fmt: skip
    error = refusal(Store(tmp_path), server, gated, **({"HF_TOKEN": token} if token else {}))
    assert says in " ".join(error.detail)
    assert advice in str(error.hint)
    assert not token or token not in repr((error.what, error.hint, error.detail))


def test_the_token_stays_with_the_hub(tmp_path: Path, server: Hub) -> None:
    """A redirect to a content host does not get it."""
    server.elsewhere = server.address.replace("127.0.0.1", "localhost") + "/elsewhere"
    asked = server.asked
    with pytest.raises(SourceError):  # it redirects for ever; what matters is who was told what
        fetch(Store(tmp_path), server, HF_TOKEN="hf_secret")
    assert asked[0][3] == "Bearer hf_secret"
    assert len(asked) > 1
    assert all(token is None for _, path, _, token in asked if path.startswith("/elsewhere"))


def test_a_hub_that_says_nothing_is_given_up_once(tmp_path: Path) -> None:
    """Within the patience for it, and not asked again for the next model."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        down: set[str] = set()
        for _ in range(3):
            with pytest.raises(SourceError, match="could not be reached"):
                web.reach(address, down)
        assert time.monotonic() - began < 2 * web.PATIENCE


def test_one_file_at_an_address(tmp_path: Path, server: Hub) -> None:
    """torchaudio's checkpoints have no repository: they go where the library looks."""
    model = Model(
        id="u", purpose=Purpose.ALIGNMENT, title="t", licence="MIT", target="torch/hub/checkpoints",
        sources=(UrlSource(url=f"{server.address}/some/model.bin"),),
    )  # fmt: skip
    pin = pin_of({"model.bin": WEIGHTS})
    hub.fetch(Store(tmp_path), [(model, pin)], env={}, report=lambda _: None)
    assert (tmp_path / "torch/hub/checkpoints/model.bin").read_bytes() == WEIGHTS


def test_all_there_asks_nobody(tmp_path: Path, server: Hub) -> None:
    """A second run touches no network."""
    place = Store(tmp_path)
    fetch(place, server)
    server.asked.clear()
    fetch(place, server)
    assert server.asked == []
