"""Pushing to a real registry: what is sent, what goes on after a break, who may, and what is never left half done."""

from __future__ import annotations

import json
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from builder.core.images import oci
from builder.core.images.oci import Descriptor
from builder.core.images.reference import Target, target
from builder.core.progress import silent
from builder.edges.registry import blobs as registry
from builder.edges.registry import http as registry_http
from builder.edges.registry import push
from builder.edges.registry.blobs import Registry
from builder.edges.registry.credentials import Login
from builder.edges.registry.push import PushedImage
from builder.errors import IntegrityError, SourceError
from tests.process.registry_server import PASSWORD, USER, Proxy, Seen, Server, htpasswd, proxy
from tests.process.registry_server import registry as run_registry

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries are a tenth."""
    monkeypatch.setattr(registry_http, "PAUSE", 0.05)


class Bytes:
    """Blobs by their digest; each read is counted."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}

    def add(self, data: bytes, kind: str = oci.TAR) -> Descriptor:
        found = oci.describe(kind, data)
        self.known[found.digest] = data
        return found

    def random(self, seed: int, size: int) -> Descriptor:
        return self.add(random.Random(seed).randbytes(size))

    def open(self, blob: Descriptor) -> Iterator[bytes]:
        data = self.known[blob.digest]
        for at in range(0, len(data), MIB):
            yield data[at : at + MIB]
        if oci.digest(data) != blob.digest:
            raise IntegrityError("damaged", expected=blob.digest)

    def image(self, name: str, *layers: Descriptor) -> PushedImage:
        config = self.add(json.dumps({"name": name, "rootfs": {"type": "layers"}}).encode(), oci.CONFIG)
        manifest = {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            "config": config.json,
            "layers": [b.json for b in layers],
        }
        data = json.dumps(manifest).encode()
        return PushedImage(
            name=name, tag="slim-cpu", manifest=oci.describe(oci.MANIFEST, data), data=data, blobs=(*layers, config)
        )


def repository(tmp: Path) -> str:
    """A name of the test's own, also for its second process: a folder's comes again when the folder of a test is gone."""
    kept = tmp / "repository"
    if not kept.exists():
        kept.write_text(f"test-{secrets.token_hex(8)}")
    return kept.read_text()


def connected(
    host: str, tmp: Path, login: Login | None = None, authorities: str = "", token_servers: Sequence[str] = ()
) -> tuple[Registry, Target, registry_http.StopSignal]:
    where, stop = target(f"{host}/{repository(tmp)}", where="test"), registry_http.StopSignal()
    http = registry_http.connect(
        where,
        login=login,
        authorities=authorities,
        insecure=lambda: False,
        stop=stop,
        token_servers=token_servers,
    )
    return Registry(http, tmp / "uploads"), where, stop


def run(
    host: str,
    tmp: Path,
    blobs: Bytes,
    *images: PushedImage,
    login: Login | None = None,
    authorities: str = "",
    token_servers: Sequence[str] = (),
) -> list[tuple[push.PushStep, int]]:
    found, where, stop = connected(host, tmp, login, authorities, token_servers)
    steps = push.decide(images, found, where, others={}, on_progress=silent)
    return list(push.carry_out(steps, found, open_=blobs.open, stop=stop, on_progress=silent))


def test_each_blob_is_sent_once_for_all_images_and_never_again(server: Server, tmp_path: Path) -> None:
    """Cold: shared layers are mounted. Again: no byte. One layer changed: that layer alone."""
    blobs = Bytes()
    base, weights, code = blobs.random(1, 3 * MIB), blobs.random(2, 20 * MIB + 77), blobs.random(3, 4000)
    images = [blobs.image("base", base), blobs.image("asr", base, weights, code), blobs.image("vad", base, weights)]
    with proxy(server.port) as line:
        steps = run(line.host, tmp_path, blobs, *images)
        unique = {b.digest: b.size for i in images for b in i.blobs} | {
            i.manifest.digest: i.manifest.size for i in images
        }
        assert line.body_bytes() == sum(unique.values()), "a blob was sent twice, or not whole"
        assert [set(s.mount) for s, _ in steps] == [set(), {base.digest}, {base.digest, weights.digest}]
        assert set(unique) <= server.blobs()
        line.seen.clear()
        assert all(s.there for s, _ in run(line.host, tmp_path, blobs, *images))
        assert line.body_bytes() == 0
        assert {s.method for s in line.seen} == {"GET", "HEAD"}
        line.seen.clear()
        newer = blobs.image("asr", base, weights, blobs.random(4, 5000))
        run(line.host, tmp_path, blobs, images[0], newer, images[2])
        assert line.body_bytes() == 5000 + newer.manifest.size


def test_a_manifest_comes_after_all_its_blobs(server: Server, tmp_path: Path) -> None:
    """A tag never names what isn't there."""
    blobs = Bytes()
    with proxy(server.port) as line:
        run(line.host, tmp_path, blobs, blobs.image("one", blobs.random(5, 9 * MIB), blobs.random(6, 100)))
        kinds = ["manifests" in s.path for s in line.seen if s.method == "PUT"]
        assert kinds == [False, False, False, True]


def test_a_registry_that_is_busy_is_asked_again(server: Server, tmp_path: Path) -> None:
    """429 and 5xx, at every kind of request, and a connection that breaks without an answer."""
    blobs = Bytes()
    failed: set[str] = set()

    def once(seen: Seen) -> int | None:
        method = seen.method
        for status in (429, 503):
            if (key := f"{method} {status}") not in failed:
                failed.add(key)
                return status
        if method not in failed:
            failed.add(method)
            raise ConnectionError
        return None

    with proxy(server.port, fault=once) as line:
        run(line.host, tmp_path, blobs, blobs.image("one", blobs.random(7, 9 * MIB)))
    assert {"PATCH", "POST", "PUT", "HEAD"} <= failed


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.process.test_push import Bytes, run
blobs = Bytes()
image = blobs.image("killed", blobs.random(11, {size}))
from builder.errors import BakeError
try:
    run(sys.argv[1], Path(sys.argv[2]), blobs, image)
except BakeError as error:
    sys.exit((print(error.what, error.hint, file=sys.stderr), error.exit_code)[1])
"""
SIZE = 40 * MIB + 5


def pushing(line: Proxy, tmp: Path) -> subprocess.Popen[bytes]:
    code = KILLED.format(root=str(ROOT), size=SIZE)
    return subprocess.Popen([sys.executable, "-c", code, line.host, str(tmp)], stderr=subprocess.PIPE)


@pytest.mark.parametrize("keeps", [False, True], ids=["behind nginx", "keeps what broke off"])
def test_after_kill_9_an_upload_goes_on(server: Server, tmp_path: Path, keeps: bool) -> None:
    """The next process asks the registry what it has, and sends the rest alone."""
    held, go = threading.Event(), threading.Event()

    def hold(seen: Seen) -> int | None:
        if seen.method == "PATCH" and len([s for s in line.seen if s.method == "PATCH"]) == 3:
            held.set()
            go.wait(20)
            raise ConnectionError
        return None

    with proxy(server.port, fault=hold, keeps=keeps) as line:
        first = pushing(line, tmp_path)
        assert held.wait(30)
        (journal,) = (tmp_path / "uploads").glob("*.json")
        assert journal.stat().st_mode & 0o777 == 0o600, "the address of an upload may be all one needs"
        first.send_signal(signal.SIGKILL)
        first.wait()
        go.set()
        line.seen.clear()
        line.fault = lambda _: None
        second = pushing(line, tmp_path)
        _, said = second.communicate(timeout=60)
        assert second.returncode == 0, said.decode()
        assert line.body_bytes("PATCH") == SIZE - 2 * registry.CHUNK
    assert not list((tmp_path / "uploads").glob("*.json")), "an upload that ended is still remembered"


def test_ctrl_c_waits_for_the_chunk_under_way(server: Server, tmp_path: Path) -> None:
    """Exit 130 with what to type; what had arrived, that chunk with it, isn't sent again."""
    held, go = threading.Event(), threading.Event()

    def hold(seen: Seen) -> int | None:
        if seen.method == "PATCH" and len([s for s in line.seen if s.method == "PATCH"]) == 2:
            held.set()
            go.wait(20)
        return None

    with proxy(server.port, fault=hold) as line:
        first = pushing(line, tmp_path)
        assert held.wait(30)
        first.send_signal(signal.SIGINT)
        time.sleep(0.5)
        go.set()
        _, said = first.communicate(timeout=30)
        assert first.returncode == 130, said.decode()
        assert b"resumes from there" in said
        line.seen.clear()
        second = pushing(line, tmp_path)
        assert second.wait(60) == 0
        assert line.body_bytes("PATCH") == SIZE - 2 * registry.CHUNK


def test_bytes_of_a_request_that_broke_are_kept_where_the_registry_keeps_them(server: Server, tmp_path: Path) -> None:
    """In the middle of a chunk: only what is missing of it is sent."""
    blobs = Bytes()
    broken = threading.Event()
    image = blobs.image("middle", blobs.random(12, 20 * MIB))
    pieces = registry_http.Http._pieces

    def breaks(self: registry_http.Http, content: bytes, tell: object) -> Iterator[bytes]:
        for count, piece in enumerate(pieces(self, content, tell)):  # type: ignore[arg-type]
            if count == 40 and not broken.is_set() and len(content) == registry.CHUNK:
                broken.set()
                raise httpx.WriteError("pulled out")
            yield piece

    import httpx

    with proxy(server.port, keeps=True) as line, pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry_http.Http, "_pieces", breaks)
        run(line.host, tmp_path, blobs, image)
        assert broken.is_set()
        whole = [s.body for s in line.seen if s.method == "PATCH"]
    assert sum(whole) + 40 * registry_http.PIECE == 20 * MIB


def test_an_upload_that_the_registry_dropped_begins_anew(server: Server, tmp_path: Path) -> None:
    """Debian's version drops one whose request broke: the blob is sent again, whole and right."""
    blobs = Bytes()
    big = blobs.random(13, 20 * MIB)
    found, where, _ = connected(server.host, tmp_path)
    (tmp_path / "uploads").mkdir()

    def cut(blob: Descriptor) -> Iterator[bytes]:
        yield from list(blobs.open(blob))[:17]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found.send(where.repository("x"), big, cut, lambda _: None)
    (journal,) = (tmp_path / "uploads").glob("*.json")
    address = json.loads(journal.read_text())["address"]
    import httpx

    with pytest.raises(RuntimeError, match="mid"):
        httpx.patch(address, content=_broken(), headers={"Content-Length": "5000"})
    time.sleep(0.2)
    run(server.host, tmp_path, blobs, blobs.image("x", big))
    assert big.digest in server.blobs()


def _broken() -> Iterator[bytes]:
    yield b"x" * 2000
    raise RuntimeError("mid")


def test_a_registry_that_goes_away_is_said_and_the_next_push_goes_on(server: Server, tmp_path: Path) -> None:
    """Exit 4, no tag, and the blobs that had arrived are not sent again."""
    blobs = Bytes()
    image = blobs.image("gone", blobs.random(14, 9 * MIB), blobs.random(15, 30 * MIB))

    def gone(seen: Seen) -> int | None:
        if len([s for s in line.seen if s.method == "PATCH"]) > 3:
            raise ConnectionError
        return None

    with proxy(server.port, fault=gone) as line:
        with pytest.raises(SourceError, match="gone") as raised:
            run(line.host, tmp_path, blobs, image)
        assert raised.value.exit_code == 4
        assert "same command" in (raised.value.hint or "")
        line.fault = lambda _: None
        found, where, _ = connected(line.host, tmp_path)
        assert found.manifest(where.repository("gone"), "slim-cpu") is None
        line.seen.clear()
        run(line.host, tmp_path, blobs, image)
        assert line.body_bytes("PATCH") <= 39 * MIB - 2 * registry.CHUNK


def test_chunks_that_are_too_large_for_a_registry_become_smaller(server: Server, tmp_path: Path) -> None:
    """ghcr.io answers 416 to more than 4 MiB; some proxies 413."""
    blobs = Bytes()
    for number, status in enumerate((416, 413)):
        with proxy(server.port, fault=lambda s, n=status: n if s.body > 4 * MIB else None) as line:
            run(line.host, tmp_path, blobs, blobs.image(f"small{number}", blobs.random(20 + number, 9 * MIB)))
    with proxy(server.port, fault=lambda s: 413 if s.body > MIB else None) as line:
        with pytest.raises(SourceError, match="4 MiB") as raised:
            run(line.host, tmp_path, blobs, blobs.image("none", blobs.random(22, 9 * MIB)))
        assert "client_max_body_size" in (raised.value.hint or "")


def test_damaged_bytes_never_become_a_blob(server: Server, tmp_path: Path) -> None:
    """A file that changed under our feet: exit 5, and neither blob nor tag."""
    blobs = Bytes()
    big = blobs.random(30, 9 * MIB)
    blobs.known[big.digest] = blobs.known[big.digest][:-1] + b"?"
    with pytest.raises(IntegrityError):
        run(server.host, tmp_path, blobs, blobs.image("bad", big))
    assert big.digest not in server.blobs()
    found, where, _ = connected(server.host, tmp_path)
    assert found.manifest(where.repository("bad"), "slim-cpu") is None


def test_a_wrong_login_is_exit_4_and_the_right_one_pushes(tmp_path: Path) -> None:
    """Name and password (htpasswd). Neither is in an error."""
    blobs = Bytes()
    image = blobs.image("private", blobs.random(50, 5 * MIB))
    with run_registry(tmp_path / "registry", auth=htpasswd(tmp_path / "registry")) as server:
        for login in (None, Login(user=USER, secret="wrong horse")):
            with pytest.raises(SourceError, match="no right to push") as raised:
                run(server.host, tmp_path, blobs, image, login=login)
            assert raised.value.exit_code == 4
            assert raised.value.hint == f"docker login {server.host}"
            assert "horse" not in repr(vars(raised.value))
        run(server.host, tmp_path, blobs, image, login=Login(user=USER, secret=PASSWORD))
        assert image.manifest.digest in server.blobs()


def test_pushing_takes_little_memory(server: Server, tmp_path: Path) -> None:
    """A blob of 300 MB of which no one has all: well under its size is ever held."""
    code = f"""
import hashlib, resource, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from builder.core.images.oci import Descriptor
from tests.process.test_push import connected
def data(_=None):
    for number in range(300):
        yield bytes([number % 251]) * 1_000_000
digest = hashlib.sha256()
for part in data(): digest.update(part)
blob = Descriptor(media_type="", digest="sha256:" + digest.hexdigest(), size=300_000_000)
found, where, _ = connected({server.host!r}, Path({str(tmp_path)!r}))
Path({str(tmp_path)!r}, "uploads").mkdir()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found.send(where.repository("memory"), blob, data, lambda _: None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60_000, "kB more than before"
