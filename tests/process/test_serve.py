"""`models serve` as a process of its own on the loopback: who gets what, and what odd or many clients can do to it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from tests import small_project
from tests.serving import TOKEN, Serving, serving
from tests.small_project import REVISION, Small

WEIGHTS = random.Random(7).randbytes(6_000_000)
MODELS = {
    "served": Small(
        entry="hub: org/served",
        files={"model.bin": WEIGHTS, "config.json": b"{}", "deep/er/vocab.txt": b"a\nb\n", "empty": b""},
    ),
    "twin": Small(entry="hub: org/twin", files={"config.json": b"{}"}, revision="d" * 40),
    "flat": Small(
        entry="url: https://h.invalid/flat.pt, target: torch/hub/checkpoints", files={"flat.pt": b"torch" * 99}
    ),
    "locked": Small(entry="hub: org/locked, gated: true, page: https://p.invalid", files={"w": b"gated"}),
    "partly": Small(entry="hub: org/partly", files={"a": b"there", "b": b"gone"}),
    "spoilt": Small(entry="hub: org/spoilt", files={"w": b"as the lock says"}),
}
MODEL_BIN = "/org/served/resolve/main/model.bin"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    root = small_project.make(tmp_path_factory.mktemp("project"), MODELS)
    hub = root / ".bake/models/hub"
    (hub / f"models--org--partly/snapshots/{REVISION}/b").unlink()
    (hub / f"models--org--spoilt/snapshots/{REVISION}/w").resolve().write_bytes(b"as another says.")
    with serving(root) as running:
        yield running


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_the_hubs_own_client_gets_a_whole_repository(server: Serving, tmp_path: Path) -> None:
    """snapshot_download by name: the pinned commit, every byte, folders and empty files too."""
    place = Path(snapshot_download("org/served", cache_dir=tmp_path, endpoint=server.address, token=TOKEN))
    assert place.name == REVISION
    for name, data in MODELS["served"].files.items():
        assert (place / name).read_bytes() == data
    again = snapshot_download("org/served", cache_dir=tmp_path, endpoint=server.address, revision=REVISION)
    assert Path(again) == place


def test_what_a_client_asks_of_a_repository(server: Serving) -> None:
    """Info, tree, refs, list: as the hub's client reads them, with sizes and sha256."""
    api = server.hub()
    info = api.model_info("org/served", files_metadata=True)
    assert (info.sha, info.gated, info.card_data and info.card_data.license) == (REVISION, False, "mit")
    assert {s.rfilename: (s.size, s.lfs and s.lfs.sha256) for s in info.siblings or []} == {
        n: (len(d), hashlib.sha256(d).hexdigest()) for n, d in MODELS["served"].files.items()
    }
    assert [r.target_commit for r in api.list_repo_refs("org/served").branches] == [REVISION]
    top = {e.path: type(e).__name__ for e in api.list_repo_tree("org/served")}
    assert top == {"deep": "RepoFolder", "config.json": "RepoFile", "empty": "RepoFile", "model.bin": "RepoFile"}
    assert [e.path for e in api.list_repo_tree("org/served", "deep", recursive=True)] == [
        "deep/er",
        "deep/er/vocab.txt",
    ]
    assert [m.id for m in api.list_models()] == ["org/locked", "org/served", "org/twin"]


def test_the_clients_own_errors_come_out(server: Serving, tmp_path: Path) -> None:
    """transformers and faster-whisper probe for files that a repository may lack: they must hear "no such file"."""

    cases: list[tuple[type[Exception], str, str, str | None]] = [
        (EntryNotFoundError, "org/served", "nothing.json", None),
        (RevisionNotFoundError, "org/served", "config.json", "0" * 40),
        (RepositoryNotFoundError, "org/none", "config.json", None),
    ]
    for error, repo, name, revision in cases:
        with pytest.raises(error):
            hf_hub_download(repo, name, revision=revision, cache_dir=tmp_path, endpoint=server.address, token=False)


def test_only_what_is_whole_and_as_the_lock_says(server: Serving, tmp_path: Path) -> None:
    """A model with a missing or a spoilt file is not there at all; and a read-only server moves nothing away."""
    for repo, name in (("org/partly", "a"), ("org/spoilt", "w")):
        assert server.get(f"/{repo}/resolve/main/{name}").headers["X-Error-Code"] == "RepoNotFound"
    spoilt = server.root / f".bake/models/hub/models--org--spoilt/snapshots/{REVISION}/w"
    assert spoilt.read_bytes() == b"as another says."
    ids = [m["id"] for m in server.get("/whisperbake/models").json()["models"]]
    assert sorted(ids) == ["flat", "locked", "served", "twin"]


def test_files_that_no_repository_has_come_by_their_digest(server: Serving) -> None:
    """torch checkpoints and ONNX: for our own fetch, which knows the sha256."""
    data = MODELS["flat"].files["flat.pt"]
    answer = server.get(f"/whisperbake/sha256/{hashlib.sha256(data).hexdigest()}")
    assert (answer.status_code, answer.content) == (200, data)
    assert server.get(f"/whisperbake/sha256/{'0' * 64}").status_code == 404


def test_a_file_that_two_models_share_is_told_with_the_right_commit(server: Serving) -> None:
    """One digest, two repositories: each client caches it under its own revision."""
    for repo, revision in (("served", REVISION), ("twin", "d" * 40)):
        answer = httpx.head(f"{server.address}/org/{repo}/resolve/main/config.json", trust_env=False)
        assert answer.headers["X-Repo-Commit"] == revision


def test_head_says_what_a_client_needs_and_sends_nothing(server: Serving) -> None:
    """ETag and linked size are the digest's and the file's."""
    answer = httpx.head(server.address + MODEL_BIN, trust_env=False)
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    assert (answer.status_code, answer.content) == (200, b"")
    wanted = {
        "ETag": f'"{digest}"',
        "X-Linked-Etag": f'"{digest}"',
        "X-Linked-Size": str(len(WEIGHTS)),
        "Content-Length": str(len(WEIGHTS)),
        "X-Repo-Commit": REVISION,
        "Accept-Ranges": "bytes",
    }
    assert {k: answer.headers.get(k) for k in wanted} == wanted
    assert not [k for k in answer.headers if "xet" in k.lower() or k.lower() == "server"]


@pytest.mark.parametrize(
    ("asked", "status", "data"),
    [
        ("bytes=0-0", 206, WEIGHTS[:1]),
        ("bytes=5999990-", 206, WEIGHTS[-10:]),
        ("bytes=-7", 206, WEIGHTS[-7:]),
        (f"bytes=-{'9' * 30}", 206, WEIGHTS),
        (f"bytes=1000-{'9' * 30}", 206, WEIGHTS[1000:]),
        (f"bytes={'9' * 30}-", 416, None),
        ("bytes=6000000-", 416, None),
        ("bytes=9-2", 400, None),
        ("bytes=-", 400, None),
        ("lines=1-2", 400, None),
        ("bytes=" + "0-," * 5000 + "0-1", 200, WEIGHTS),
        ("bytes=" + ",".join(f"{k}-" for k in range(90)), 206, None),
        ("bytes=١-٢", 400, None),
    ],
)
def test_ranges_odd_and_huge(server: Serving, asked: str, status: int, data: bytes | None) -> None:
    """The bytes that were asked for, or a refusal; never more than the file, however many pieces are asked for."""
    answer = httpx.get(server.address + MODEL_BIN, headers={"Range": asked.encode()}, trust_env=False, timeout=30)
    assert answer.status_code == status
    assert len(answer.content) <= len(WEIGHTS) + 1000
    if data is not None:
        assert answer.content == data
        assert status == 200 or answer.headers["Content-Range"].endswith(f"/{len(WEIGHTS)}")


def raw(server: Serving, request: bytes, *, end: bool = False) -> bytes:
    """What comes back for bytes that no client would send."""
    with socket.create_connection(_place(server), timeout=10) as line:
        with contextlib.suppress(ConnectionError):
            line.sendall(request)
        if end:
            with contextlib.suppress(OSError):  # the server may have closed it already
                line.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := line.recv(65536):
                answer += piece
        return answer


def _place(server: Serving) -> tuple[str, int]:
    host, port = server.address.removeprefix("http://").split(":")
    return host, int(port)


OUT = [
    "/../../../../../../etc/passwd",
    "/org/served/resolve/main/../../../../../../../../etc/passwd",
    "/org/served/resolve/main/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/org/served/resolve/main/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/org/served/resolve/main//etc/passwd",
    "/org/served/resolve/%2e%2e/model.bin",
    "/%2e%2e/%2e%2e/resolve/main/etc/passwd",
    "/org/served/resolve/main/model.bin%00.txt",
    "/org/served/resolve/main/..\\..\\models.lock",
    "/api/models/../../etc/passwd",
    "/api/models/org/served/tree/main/..%2f..",
    "/whisperbake/sha256/..%2f..%2fmodels.lock",
    "/.checked.json",
    "/.incoming/x",
    "/hub/models--org--served/refs/main",
    "//etc/passwd",
    "http://x.invalid/etc/passwd",
]


@pytest.mark.parametrize("path", OUT)
def test_no_address_leads_out_of_the_lock(server: Serving, path: str) -> None:
    """Dots, escapes, absolute paths, backslashes, NUL, the store's own files: all only names that nobody has."""
    answer = raw(server, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    assert answer.split(b" ", 2)[1] in (b"404", b"400"), answer[:200]
    assert b"root:" not in answer
    assert b"revision:" not in answer


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_written(server: Serving, method: str) -> None:
    """Read-only: every other method is refused, wherever."""
    for path in ("/", MODEL_BIN, "/api/models/org/served", "/whisperbake/models"):
        assert httpx.request(method, server.address + path, trust_env=False).status_code == 405


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET /" + b"a" * 200_000,
        b"\r\n" * 999,
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"b" * 200_000 + b"\r\n\r\n",
        b"",
    ],
)
def test_what_is_no_request_harms_nobody(server: Serving, request_: bytes) -> None:
    """TLS on a plain port, endless headers: an error or nothing, and the next client is served."""
    answer = raw(server, request_, end=True)
    assert not answer or answer.split(b" ", 2)[1] in (b"400", b"404")
    assert server.get("/").status_code == 200


def test_fifty_clients_at_once_and_memory_stays_bounded(server: Serving) -> None:
    """Each gets every byte, while forty more hold a download open and take nothing."""
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    slow = [socket.create_connection(_place(server)) for _ in range(40)]
    try:
        for line in slow:
            line.sendall(f"GET {MODEL_BIN} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

        def client(number: int) -> str:
            seen = hashlib.sha256()
            with httpx.stream("GET", server.address + MODEL_BIN, timeout=60, trust_env=False) as answer:
                for piece in answer.iter_bytes():
                    seen.update(piece)
            return seen.hexdigest()

        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            running = [pool.submit(client, k) for k in range(50)]
            peak = before
            while not all(r.done() for r in running):
                peak = max(peak, process.memory_info().rss)
                concurrent.futures.wait(running, timeout=0.02)
        assert {r.result() for r in running} == {digest}
    finally:
        for line in slow:
            line.close()
    assert peak - before < 150e6, f"{(peak - before) / 1e6:.0f} MB for 90 clients"


def test_clients_that_stall_are_let_go(tmp_path: Path) -> None:
    """One that takes no byte and one that never ends its request: both connections are closed (here after two seconds)."""
    big = {"big": Small(entry="hub: org/big", files={"w": bytes(64_000_000)})}
    with serving(
        small_project.make(tmp_path, big),
        before="from builder.edges.weights import serve; serve.STALL = serve.REQUEST = 2",
    ) as server:
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(_place(server))
        slow.sendall(b"GET /org/big/resolve/main/w HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        idle = socket.create_connection(_place(server))
        idle.sendall(b"GET / HTTP/1.1\r\nHo")
        with slow, idle:
            until = time.monotonic() + 60
            while len(_connections(server)) < 2 and time.monotonic() < until:
                time.sleep(0.02)  # both are accepted
            while _connections(server) and time.monotonic() < until:
                assert server.get("/").status_code == 200
                time.sleep(0.2)
            assert _connections(server) == []


@pytest.mark.parametrize(
    "rest",
    [b"GET / HTTP/1.1\r\nHo", b"G", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n", b"\r\n"],
)
def test_half_requests_after_a_whole_one_hold_nobody_out(tmp_path: Path, rest: bytes) -> None:
    """As many as the server takes, from one address and at one instant: others are served, and all are let go (here after 2 s).

    Of the places one address has a quarter at most, as in the defaults: uvicorn counts a request that ends and the next one of
    its connection both, for an instant.
    """
    before = "from builder.edges.weights import serve; serve.REQUEST = 2; serve.EACH = 15; serve.CLIENTS = 60"
    with serving(small_project.make(tmp_path, {}), before=before) as server, contextlib.ExitStack() as stack:
        lines = []
        server.process.send_signal(signal.SIGSTOP)  # it finds all of them waiting, and takes them in one go
        for _ in range(60):
            line = stack.enter_context(socket.create_connection(_place(server)))
            line.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + rest)
            lines.append(line)
        with socket.socket() as other:
            other.bind(("127.0.0.2", 0))
            other.connect(_place(server))
            other.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            server.process.send_signal(signal.SIGCONT)
            assert other.recv(100).startswith(b"HTTP/1.1 200")
        ended = []
        for line in lines:
            line.settimeout(20)
            with contextlib.suppress(ConnectionError):
                while line.recv(65536):
                    pass
            ended.append(line)
        assert len(ended) == 60
        assert server.get("/").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:8377", 200),
        ("[::1]:8377", 200),
        ("192.168.0.7", 200),
        (socket.gethostname(), 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("127.0.0.1, evil.example", 421),
        ("\xe9", 421),
    ],
)
def test_it_answers_to_its_own_names(server: Serving, host: str, status: int) -> None:
    """A page in a browser can make its own name mean this machine, and would read what is served."""
    answer = raw(server, f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("latin-1"))
    assert answer.split(b" ", 2)[1] in (str(status).encode(), b"400" if status == 421 else b"200")


def test_it_answers_to_a_name_that_is_allowed(tmp_path: Path) -> None:
    with serving(small_project.make(tmp_path, {}), "--allow-host", "Weights.example") as server:
        assert server.get("/", Host="weights.example:80").status_code == 200
        assert server.get("/", Host="other.example").status_code == 421


def _connections(server: Serving) -> list[Any]:
    """Open connections of the server's that are not just being closed."""
    return [c for c in psutil.Process(server.process.pid).net_connections() if c.status == "ESTABLISHED"]


def test_what_changes_while_it_serves(tmp_path: Path) -> None:
    """A model that comes is served without a restart; a file that changes is not served any more, nor one that is gone."""
    models = {k: MODELS[k] for k in ("served", "twin")}
    root = small_project.make(tmp_path, models, fill=False)
    with serving(root, before="from builder.edges.weights import serve; serve.LOOK_AGAIN = 0") as server:
        assert server.get(MODEL_BIN).status_code == 404
        store = small_project.stock(root, models)
        assert server.get(MODEL_BIN).content == WEIGHTS
        blob = (store.root / f"hub/models--org--served/snapshots/{REVISION}/model.bin").resolve()
        blob.write_bytes(WEIGHTS[:-1] + b"?")
        assert server.get(MODEL_BIN).status_code == 404
        (store.root / f"hub/models--org--twin/snapshots/{'d' * 40}/config.json").resolve().unlink()
        assert server.get("/org/twin/resolve/main/config.json").status_code == 404


def test_a_link_out_of_the_store_is_not_followed(tmp_path: Path) -> None:
    """Right bytes in a wrong place: what lies outside of the store is not the store's to give."""
    root = small_project.make(tmp_path / "p", {"twin": MODELS["twin"]})
    link = root / f".bake/models/hub/models--org--twin/snapshots/{'d' * 40}/config.json"
    (tmp_path / "own").write_bytes(b"{}")
    link.unlink()
    link.symlink_to(tmp_path / "own")
    with serving(root) as server:
        assert server.get("/org/twin/resolve/main/config.json").status_code == 404


def test_gated_models_stay_on_this_machine_unless_said_otherwise(tmp_path: Path) -> None:
    """Bound wider, with a warning: a gated model is refused in the hub's words; --gated gives it out."""
    root = small_project.make(tmp_path, {k: MODELS[k] for k in ("twin", "locked")})
    with serving(root, "--bind", "0.0.0.0:0") as server:
        near = Serving(**{**server.__dict__, "address": server.address.replace("0.0.0.0", "127.0.0.1")})
        with pytest.raises(GatedRepoError):
            near.hub().model_info("org/locked")
        assert near.get(f"/whisperbake/sha256/{hashlib.sha256(b'gated').hexdigest()}").status_code == 404
        assert near.get("/org/twin/resolve/main/config.json").status_code == 200
        text = server.log.read_text()
        assert "warning: everyone who reaches 0.0.0.0" in text
        assert "left out, gated: org/locked" in text
    with serving(root, "--bind", "0.0.0.0:0", "--gated") as server:
        address = server.address.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(address + "/org/locked/resolve/main/w", trust_env=False).content == b"gated"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_and_its_log_holds_no_secret(tmp_path: Path, how: signal.Signals) -> None:
    """Ctrl-C and SIGTERM: exit code 0, a summary; with clients under way. No token in the log, however it was sent."""
    root = small_project.make(tmp_path, {"served": MODELS["served"]})
    with serving(root, "--json") as server:
        snapshot_download("org/served", cache_dir=tmp_path / "c", endpoint=server.address, token=TOKEN)
        server.get(f"/?token={TOKEN}", Authorization=f"Bearer {TOKEN}", Cookie=f"token={TOKEN}")
        server.get(f"/{TOKEN}/{TOKEN}/resolve/main/x")
        server.get(f"/a%0d%0aforged%20line/b/resolve/main/{TOKEN}")
        raw(server, f"{TOKEN} / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        with socket.create_connection(_place(server)) as open_:
            open_.sendall(f"GET {MODEL_BIN} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            open_.recv(10)
            os.kill(server.process.pid, how)
            assert server.process.wait(20) == 0
        text = server.log.read_text()
    assert TOKEN not in text
    assert TOKEN[3:] not in text
    assert not [line for line in text.splitlines() if line.startswith("forged")]
    assert "Traceback" not in text
    assert text.count(MODEL_BIN.split("/resolve")[0]) >= 4, "nothing was logged"
    data = json.loads(text[text.index("\n{") :])
    assert data["models"] == ["served"]
    assert data["requests"] >= 8
    assert data["bytes"] > len(WEIGHTS)


@pytest.mark.parametrize("bind", ["nonsense", "127.0.0.1", "127.0.0.1:99999", "host:port", "", "/a:1", "[::1"])
def test_an_address_that_is_none_is_said(tmp_path: Path, bind: str) -> None:
    """Exit code 2, with an example."""
    done = small_project.bake(small_project.make(tmp_path, {}), "models", "serve", "--bind", bind)
    assert done.code == 2
    assert "127.0.0.1:8377" in done.err


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    """Exit code 3, and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = small_project.bake(
            small_project.make(tmp_path, {}), "models", "serve", "--bind", f"127.0.0.1:{taken.getsockname()[1]}"
        )
    assert done.code == 3
    assert "127.0.0.1:0" in done.err


def test_our_own_fetch_takes_everything_from_another_machine(server: Serving, tmp_path: Path) -> None:
    """HF_ENDPOINT is all that is set: a hub repository by commit, a torch checkpoint by its digest; each verified."""
    own = small_project.make(tmp_path / "own", MODELS, fill=False)
    env = {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path)}
    done = small_project.bake(own, "models", "fetch", "served", "flat", "twin", "--json", env=env)
    assert done.code == 0, done.err
    assert {f["model"]: f["source"] for f in json.loads(done.out)["fetched"]} == {
        "served": "hub org/served",
        "flat": "models serve",
        "twin": "hub org/twin",
    }
    assert small_project.bake(own, "models", "verify", "--deep", env=env).code == 0
    assert (own / ".bake/models/torch/hub/checkpoints/flat.pt").read_bytes() == MODELS["flat"].files["flat.pt"]
