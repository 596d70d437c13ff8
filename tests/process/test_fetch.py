"""Fetching from a hub over real connections: resumed, refused with the right advice, given up, never wrong."""

from __future__ import annotations

import email.utils
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from builder.core.progress import Progress
from builder.core.terms import Purpose
from builder.core.weights.model import FilePin, HubSource, Model, UrlSource
from builder.edges.system import files
from builder.edges.weights.download.traffic import Limits, Traffic
from builder.edges.weights.fetch import fetch_models
from builder.edges.weights.store import Store
from builder.errors import BakeError, IntegrityError, SourceError, UsageError
from tests.hub.client import MODEL, QUICK, contents, fetch, pin_of, wrong_files
from tests.hub.server import REVISION, Fault, Hub

FILES = contents(1, model_bin=1_000_000, config_json=300)
PIN = pin_of(FILES)
WEIGHTS = FILES["model.bin"].data
CHUNK = QUICK.chunk
WHOLE = replace(QUICK, chunk=8 << 20)
"""One connection a file."""


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No token and no proxy of the developer."""
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Hub]:
    with Hub(repos={"org/name": dict(FILES)}) as running:
        yield running


def asked(server: Hub, host: str = "content") -> list[tuple[int, int]]:
    """Ranges that a host was asked for, as (start, stop)."""
    ranges = [r.range for r in server.requests if r.host == host and r.method == "GET" and r.path != "/"]
    return [(int(a), int(b) + 1) for a, b in (r[6:].split("-") for r in ranges if r)]


def refusal(place: Store, server: Hub, model: Model = MODEL, **env: str) -> BakeError:
    with pytest.raises(SourceError) as caught:
        fetch(place, server, PIN, model=model, **env)
    return caught.value


def test_a_model_comes_from_the_hub_at_its_revision(tmp_path: Path, server: Hub) -> None:
    """The pinned commit, not whatever main is today; progress never goes backwards and ends at the total."""
    place = Store(tmp_path)
    told = fetch(place, server, PIN)
    assert place.verify(MODEL, PIN, deep=True) == ()
    paths = {r.path for r in server.requests if r.host == "hub" and r.method == "GET"}
    assert paths == {f"/org/name/resolve/{REVISION}/{f.path}" for f in PIN.files}
    for what in {p.what for p in told}:
        steps = [p.done for p in told if p.what == what]
        assert steps == sorted(steps)
    assert told[-1].finished
    assert told[-1].done == told[-1].total == PIN.size
    assert [p.name for p in place.incoming.iterdir() if p.suffix != ".lock"] == []


def test_a_large_file_comes_in_parallel_ranges_each_once(tmp_path: Path, server: Hub) -> None:
    """Together they are the file, and none overlaps; the hub is asked for the link once."""
    server.rate = 2e6
    fetch(Store(tmp_path), server, PIN)
    ranges = sorted(asked(server))
    assert len(ranges) > 8
    assert ranges[0][0] == 0
    assert ranges[-1][1] == len(WEIGHTS)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(ranges))
    assert len([r for r in server.requests if "resolve" in r.path and "model.bin" in r.path]) == 1


def test_a_broken_connection_is_gone_on_with_where_it_broke(tmp_path: Path, server: Hub) -> None:
    """No byte is downloaded twice."""
    server.faults["model.bin"] = [Fault("drop", after=150_000), Fault("drop", after=200_000)]
    place = Store(tmp_path)
    fetch(place, server, PIN, limits=WHOLE)
    assert asked(server) == [(150_000, len(WEIGHTS)), (350_000, len(WEIGHTS))]
    assert place.verify(MODEL, PIN, deep=True) == ()


def test_what_a_killed_process_left_is_gone_on_with(tmp_path: Path, server: Hub) -> None:
    """The part file is named by the digest it will have; without a note of ranges it is a plain beginning."""
    place = Store(tmp_path)
    with place.fetching(PIN.files[1]) as incoming:
        incoming.write_bytes(WEIGHTS[:400_000])
    fetch(place, server, PIN)
    assert min(asked(server))[0] == 400_000
    assert sum(b - a for a, b in asked(server)) == 600_000
    assert place.verify(MODEL, PIN, deep=True) == ()


def test_what_had_arrived_whole_is_not_asked_for_again(tmp_path: Path, server: Hub) -> None:
    """A process killed between the last byte and the tree."""
    place = Store(tmp_path)
    with place.fetching(PIN.files[1]) as incoming:
        incoming.write_bytes(WEIGHTS)
    fetch(place, server, PIN)
    assert server.sent("model.bin") == 0
    assert place.verify(MODEL, PIN, deep=True) == ()


def test_a_spoilt_beginning_is_dropped_and_fetched_anew(tmp_path: Path, server: Hub) -> None:
    """A disk that lied costs one more download, not an error that comes back every time."""
    place = Store(tmp_path)
    with place.fetching(PIN.files[1]) as incoming:
        incoming.write_bytes(b"?" * 400_000)
    fetch(place, server, PIN)
    assert place.verify(MODEL, PIN, deep=True) == ()


@pytest.mark.parametrize("begun", [0, 100_000])
def test_a_server_without_ranges_is_read_from_the_start(tmp_path: Path, server: Hub, begun: int) -> None:
    """200 in answer to a range means: all of it. What is there and hashed is not written over."""
    server.ranges = False
    server.faults["model.bin"] = [Fault("drop", after=300_000)]
    place = Store(tmp_path)
    with place.fetching(PIN.files[1]) as incoming:
        incoming.write_bytes(WEIGHTS[:begun])
    fetch(place, server, PIN)
    assert place.verify(MODEL, PIN, deep=True) == ()


def test_bytes_that_were_hashed_are_never_replaced(tmp_path: Path, server: Hub) -> None:
    """Right bytes on the disk, then a server without ranges that sends other ones for them: no wrong file comes of it."""
    bad = bytearray(WEIGHTS)
    bad[10] ^= 1
    server.ranges = False
    server.repos["org/name"]["model.bin"] = replace(FILES["model.bin"], data=bytes(bad))
    place = Store(tmp_path)
    with place.fetching(PIN.files[1]) as incoming:
        incoming.write_bytes(WEIGHTS[:400_000])
    fetch(place, server, PIN)
    assert place.verify(MODEL, PIN, deep=True) == ()


@pytest.mark.parametrize("kind", ["busy", "error", "drop", "reset", "stall", "expired", "elsewhere"])
@pytest.mark.parametrize("limits", [QUICK, WHOLE], ids=["ranges", "one connection"])
def test_a_passing_fault_is_no_failure(tmp_path: Path, server: Hub, kind: str, limits: Limits) -> None:
    """Twice each, at the content host: the file is right in the end."""
    server.faults["model.bin"] = [Fault(kind, times=2, after=7000)]
    place = Store(tmp_path)
    fetch(place, server, PIN, limits=limits)
    assert place.verify(MODEL, PIN, deep=True) == ()


@pytest.mark.parametrize("date", [False, True])
def test_retry_after_is_honoured(tmp_path: Path, server: Hub, date: bool) -> None:
    """As seconds and as a date: nobody asks before."""
    when = email.utils.formatdate(time.time() + 2, usegmt=True) if date else "1"
    server.faults["model.bin"] = [Fault("busy", host="hub", retry_after=when)]
    began = time.monotonic()
    fetch(Store(tmp_path), server, PIN)
    assert time.monotonic() - began > 0.9  # a date has whole seconds


def test_a_wait_that_is_too_long_is_said(tmp_path: Path, server: Hub) -> None:
    """An hour is no pause but a refusal, and the message says how long."""
    server.faults["model.bin"] = [Fault("busy", host="hub", retry_after="3600")]
    assert "3600 s" in " ".join(refusal(Store(tmp_path), server).detail)


@pytest.mark.parametrize("kind", ["shorter", "longer", "bytes", "page"])
@pytest.mark.parametrize("redirects", [True, False])
def test_other_bytes_never_enter_the_tree(tmp_path: Path, server: Hub, kind: str, redirects: bool) -> None:
    """Another content, a longer file, a shorter one, a sign-in page: exit code 5, and nothing to load."""
    server.redirects = redirects
    server.faults["model.bin"] = [Fault(kind, times=-1, host="content" if redirects else "hub")]
    place = Store(tmp_path)
    with pytest.raises(IntegrityError):
        fetch(place, server, PIN)
    assert not (place.folder(MODEL, PIN) / "model.bin").exists()
    assert wrong_files(tmp_path, PIN) == []
    assert not (tmp_path / "hub/models--org--name/refs/main").exists()


def test_a_hub_that_names_another_file_is_not_asked_for_its_bytes(tmp_path: Path, server: Hub) -> None:
    """X-Linked-Size and X-Linked-ETag come before the first byte."""
    server.repos["org/name"]["model.bin"] = contents(2, model_bin=1_000_000)["model.bin"]
    with pytest.raises(IntegrityError, match="another file there"):
        fetch(Store(tmp_path), server, PIN)
    assert server.sent("model.bin") == 0


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
    gated = replace(MODEL, gated=True, page="https://page")
    error = refusal(Store(tmp_path), server, gated, **({"HF_TOKEN": token} if token else {}))
    assert says in " ".join(error.detail)
    assert advice in str(error.hint)
    assert not token or token not in repr((error.what, error.hint, error.detail))


def test_the_token_stays_with_the_hub(tmp_path: Path, server: Hub) -> None:
    """The content host does not get it, neither at the first request nor at a later range."""
    server.faults["model.bin"] = [Fault("expired"), Fault("drop", after=100)]
    fetch(Store(tmp_path), server, PIN, model=replace(MODEL, gated=True), HF_TOKEN="hf_secret")
    tokens = {(r.host, r.token) for r in server.requests if r.method == "GET"}
    assert tokens == {("hub", "Bearer hf_secret"), ("content", None)}
    assert not any(r.token for r in server.requests if r.method == "HEAD")


def test_a_model_that_everybody_may_have_is_fetched_without_the_token(tmp_path: Path, server: Hub) -> None:
    """The hub need not know who does."""
    fetch(Store(tmp_path), server, PIN, HF_TOKEN="hf_secret")
    assert {r.token for r in server.requests} == {None}


@pytest.mark.parametrize("token", ["hf_sec ret", "hf_sécret", "hf_a\nX-Evil: 1"])
def test_a_token_that_no_header_can_carry_is_refused_unseen(tmp_path: Path, server: Hub, token: str) -> None:
    """The client's own error would quote it."""
    with pytest.raises(UsageError) as caught:
        fetch(Store(tmp_path), server, PIN, HF_TOKEN=token)
    assert token not in repr((caught.value.what, caught.value.hint, caught.value.detail))


def test_a_hub_that_says_nothing_is_given_up_once() -> None:
    """Within the patience for it, and not asked again for the next model."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        traffic = Traffic(QUICK)
        for _ in range(3):
            with pytest.raises(SourceError, match="could not be reached"):
                traffic.reach(address)
        assert time.monotonic() - began < 2 * QUICK.patience


def test_a_content_host_behind_a_wall_is_named(tmp_path: Path, server: Hub) -> None:
    """The hub answers, its content host does not: as in many companies."""
    server.faults["model.bin"] = [Fault("gone", host="hub", times=-1)]
    assert "http://127.0.0.1:9 could not be reached" in " ".join(refusal(Store(tmp_path), server).detail)


def test_one_file_at_an_address(tmp_path: Path, server: Hub) -> None:
    """torchaudio's checkpoints have no repository: they go where the library looks."""
    model = Model(
        id="u",
        purpose=Purpose.ALIGNMENT,
        title="t",
        licence="MIT",
        target="torch/hub/checkpoints",
        sources=(UrlSource(url=f"{server.address}/org/name/resolve/main/model.bin"),),
    )
    pin = pin_of({"model.bin": FILES["model.bin"]})
    fetch_models(Store(tmp_path), [(model, pin)], env={}, on_progress=lambda _: None, limits=QUICK)
    assert (tmp_path / "torch/hub/checkpoints/model.bin").read_bytes() == WEIGHTS


def test_all_there_asks_nobody(tmp_path: Path, server: Hub) -> None:
    """A second run touches no network."""
    place = Store(tmp_path)
    fetch(place, server, PIN)
    server.clear()
    fetch(place, server, PIN)
    assert server.requests == []


def test_a_file_that_another_process_has_is_waited_for_and_found(tmp_path: Path, server: Hub) -> None:
    """One fetch at a time: the second says that it waits, and downloads nothing."""
    place = Store(tmp_path)
    weights = PIN.files[1]
    waits = threading.Event()

    def on_progress(step: Progress) -> None:
        if "waiting for it" in step.note:
            waits.set()

    second = threading.Thread(
        target=fetch_models,
        args=(place, [(MODEL, PIN)]),
        kwargs={"env": {"HF_ENDPOINT": server.address}, "on_progress": on_progress, "limits": QUICK},
    )
    with place.fetching(weights) as incoming:
        second.start()
        assert waits.wait(20)
        incoming.write_bytes(WEIGHTS)
        place.admit(MODEL, PIN, weights, incoming)
    second.join(20)
    assert server.sent("model.bin") == 0
    assert place.verify(MODEL, PIN, deep=True) == ()


def test_models_that_share_a_file_fetch_it_once(tmp_path: Path, server: Hub) -> None:
    """Whisper's tokenizer is the same in several repositories; side by side or not, it comes over the network once."""
    server.repos["org/other"] = dict(FILES)
    server.rate = 3e6
    other = replace(MODEL, id="n", sources=(HubSource(repo="org/other"),))
    place = Store(tmp_path)
    env = {"HF_ENDPOINT": server.address}
    found = fetch_models(place, [(MODEL, PIN), (other, PIN)], env=env, on_progress=lambda _: None, limits=QUICK)
    assert [f.model for f in found] == ["m", "n"]
    assert place.verify(MODEL, PIN, deep=True) == place.verify(other, PIN, deep=True) == ()
    assert sum(r.sent for r in server.requests) == PIN.size
    assert len(files.read_json(tmp_path / ".checked.json")) == 4  # type: ignore[arg-type]


@pytest.mark.parametrize("whole", [True, False])
def test_what_the_hub_client_has_is_copied(tmp_path: Path, server: Hub, whole: bool) -> None:
    """Its cache is looked at first; with all of it there, no hub is needed. A spoilt file in it does no harm."""
    from huggingface_hub import snapshot_download

    snapshot_download("org/name", revision=REVISION, cache_dir=tmp_path / "cache", endpoint=server.address)
    if not whole:
        blob = tmp_path / "cache/models--org--name/blobs" / PIN.files[1].sha256
        blob.write_bytes(b"?" * len(WEIGHTS))
    server.clear()
    place = Store(tmp_path / "models")
    offline = {"HF_HUB_OFFLINE": "1"} if whole else {}
    fetch(place, server, PIN, HF_HUB_CACHE=str(tmp_path / "cache"), **offline)
    assert place.verify(MODEL, PIN, deep=True) == ()
    assert sum(r.sent for r in server.requests) == (0 if whole else len(WEIGHTS))


def test_two_models_that_fail_are_both_named(tmp_path: Path, server: Hub) -> None:
    """One run, one message."""
    lost = [replace(MODEL, id=i, sources=(HubSource(repo=f"org/{i}"),)) for i in ("a", "b")]
    with pytest.raises(SourceError) as caught:
        fetch_models(
            Store(tmp_path),
            [(m, PIN) for m in lost],
            env={"HF_ENDPOINT": server.address},
            on_progress=lambda _: None,
            limits=QUICK,
        )
    assert caught.value.what == "no source had model a"
    assert "no source had model b" in caught.value.detail


def test_an_empty_file_is_a_file(tmp_path: Path, server: Hub) -> None:
    """Some repositories have them."""
    server.repos["org/name"]["empty.txt"] = contents(1, x=0)["x"]
    pin = replace(PIN, files=(FilePin(path="empty.txt", size=0, sha256=contents(1, x=0)["x"].sha256),))
    fetch(Store(tmp_path), server, pin)
    assert Store(tmp_path).verify(MODEL, pin, deep=True) == ()
