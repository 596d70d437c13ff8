"""Pulling what was pushed: only what an engine lacks, resumed after any death, and nothing that a registry made up.

The good registry is Debian's docker-registry; the bad one answers what a test tells it to.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from builder.core.images import oci
from builder.core.images.oci import Descriptor
from builder.core.images.reference import target
from builder.core.progress import silent
from builder.edges.engine import connection
from builder.edges.images.layout import Layout
from builder.edges.images.remote import pull
from builder.edges.images.remote.pull import PullStep, WantedImage
from builder.edges.registry import http as registry_http
from builder.edges.registry.credentials import Login
from builder.edges.registry.push import PushedImage
from builder.edges.registry.read import RegistryReader
from builder.errors import BakeError, IntegrityError, MissingError, SourceError
from tests import loopback
from tests.process.registry_server import PASSWORD, USER, htpasswd, tokens
from tests.process.registry_server import registry as run_registry
from tests.process.test_weights_image import MIB, Made
from tests.small_engine import SmallEngine, small_engine

ROOT = Path(__file__).resolve().parents[2]
SIZE = 6 * MIB


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"), size=SIZE)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SmallEngine]:
    with small_engine(tmp_path) as found:
        yield found


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries are a tenth."""
    monkeypatch.setattr(registry_http, "PAUSE", 0.05)


@dataclass
class Answers:
    """A registry's blobs and manifests, and what it does in place of sending them."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, bytes] = field(default_factory=dict)
    """``name:tag`` -> manifest."""
    cut: Callable[[str, int], int | None] = lambda digest, start: None
    """Bytes after which an answer with a blob breaks off, from the digest and where the answer begins."""
    ranges: bool = True
    seen: list[tuple[str, int]] = field(default_factory=list)
    """Digest and first byte of each blob that was asked for."""
    looks: int = 0
    """Manifests that were asked for."""
    on_manifest: Callable[[], None] = lambda: None
    port: int = 0

    def begins(self, digest: str) -> list[int]:
        return [start for asked, start in self.seen if asked == digest]


@contextlib.contextmanager
def answering(images: Sequence[PushedImage], layout: Layout) -> Iterator[Answers]:
    """A registry that has images, and does to them what a test wants."""
    state = Answers()
    for image in images:
        state.tags[f"{image.name}:{image.tag}"] = image.data
        state.blobs |= {blob.digest: b"".join(layout.open(blob)) for blob in image.blobs}

    class Handler(loopback.Handler):
        def do_GET(self) -> None:
            if self.path == "/v2/":
                return self.reply(200)
            if found := re.fullmatch(r"/v2/wb/(\S+)/manifests/(\S+)", self.path):
                state.looks += 1
                data = state.tags.get(f"{found[1]}:{found[2]}")
                self.reply(404) if data is None else self.reply(200, data, Content_Type=oci.MANIFEST)
                return state.on_manifest()
            digest = self.path.rpartition("/")[2]
            if digest not in state.blobs:
                return self.reply(404)
            self.blob(digest)

        def blob(self, digest: str) -> None:
            data, asked = state.blobs[digest], re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(asked[1]) if asked and state.ranges else 0
            state.seen.append((digest, start))
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            least = state.cut(digest, start)
            self.wfile.write(data[start:] if least is None else data[start : start + least])
            if least is not None:
                self.close_connection = True

    server = loopback.server_of(Handler)
    state.port = server.server_port
    with loopback.answering(server):
        yield state


def wanted(images: Sequence[PushedImage]) -> list[WantedImage]:
    return [
        WantedImage(name=i.name, repository=f"wb/{i.name}", tag=i.tag, ref=f"mine/{i.name}:{i.tag}") for i in images
    ]


def reader(
    host: str, login: Login | None = None, servers: Sequence[str] = ()
) -> tuple[RegistryReader, registry_http.StopSignal]:
    where, stop = target(f"{host}/wb", where="test"), registry_http.StopSignal()
    http = registry_http.connect(
        where, login=login, authorities="", insecure=lambda: False, stop=stop, token_servers=servers
    )
    return RegistryReader(http), stop


def run(
    host: str,
    engine: str,
    folder: Path,
    images: Sequence[PushedImage],
    login: Login | None = None,
    servers: Sequence[str] = (),
) -> list[tuple[PullStep, int]]:
    """Pull into an engine, with a layout in a folder."""
    found, stop = reader(host, login, servers)
    here, layout = connection.connect({"DOCKER_HOST": engine}, builds=False), Layout(folder / "layout", folder / "none")
    steps = pull.decide(here, layout, pull.resolve(found, wanted(images), here.architecture))
    pull.require_room(layout, here, steps)
    return list(pull.carry_out(steps, found, here, layout, stop=stop, on_progress=silent))


def ids(images: Sequence[PushedImage]) -> dict[str, str]:
    """Names and ids that a graph driver gives them."""
    return {f"mine/{i.name}:{i.tag}": oci.named(i.data, "")[0].digest for i in images}


def test_an_engine_gets_what_was_pushed_and_nothing_twice(made: Made, engine: SmallEngine, tmp_path: Path) -> None:
    """From Debian's registry: the same ids under the names of a build here; every layer comes once for all images."""
    images = made.pushed[:3]
    with run_registry(tmp_path / "registry") as server:
        made.push(server.host, made.pushed, tmp_path / "journals")
        done = run(server.host, engine.host, tmp_path, images)
        assert engine.names == ids(images)
        layers = {b for image in images for b in image.blobs if b.media_type == oci.TAR}
        assert sum(came for _, came in done) == sum(blob.size for blob in layers)
        left = [path for path in (tmp_path / "layout").rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in left) < 20_000, "blobs that the engine has are kept here"
        again = run(server.host, engine.host, tmp_path, images)
    assert [(step.there, came) for step, came in again] == [(True, 0)] * 3
    assert engine.asked.count("POST /images/load") == 3


def test_only_what_an_engine_lacks_comes(made: Made, engine: SmallEngine, tmp_path: Path) -> None:
    """Of an image that changed above its weights: the layer above, and not the weights."""
    older = made.image("asr", made.models, 3)
    newer = made.image("asr", made.models, 3, above=9)
    old, new = made.as_pushed("asr", older), made.as_pushed("asr", newer)
    with answering([old], made.layout) as server:
        run(f"127.0.0.1:{server.port}", engine.host, tmp_path, [old])
    with answering([new], made.layout) as server:
        run(f"127.0.0.1:{server.port}", engine.host, tmp_path, [new])
        assert {digest for digest, _ in server.seen} == {newer.layers[-1].blob.digest, newer.config.digest}
    assert engine.names == ids([new])


def test_what_breaks_off_resumes(made: Made, engine: SmallEngine, tmp_path: Path) -> None:
    """Each answer ends after 2 MiB: each byte is asked for once."""
    image = made.pushed[0]
    large = max(image.blobs, key=lambda blob: blob.size)
    with answering([image], made.layout) as server:
        server.cut = lambda digest, start: 2 * MIB if digest == large.digest else None
        run(f"127.0.0.1:{server.port}", engine.host, tmp_path, [image])
        assert server.begins(large.digest) == list(range(0, large.size, 2 * MIB))
    assert engine.names == ids([image])


def test_a_registry_without_ranges_is_read_from_the_start(made: Made, engine: SmallEngine, tmp_path: Path) -> None:
    """The bytes that had arrived are not counted twice."""
    image, first = made.pushed[0], []
    large = max(image.blobs, key=lambda blob: blob.size)
    with answering([image], made.layout) as server:
        server.ranges = False
        server.cut = lambda digest, start: first.append(1) or MIB if digest == large.digest and not first else None  # type: ignore[func-returns-value]
        run(f"127.0.0.1:{server.port}", engine.host, tmp_path, [image])
        assert server.begins(large.digest) == [0, 0]
    assert engine.names == ids([image])


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.process import test_pull as here
from tests.process.test_weights_image import Made
images = Made(Path(sys.argv[3]), size=here.SIZE).pushed[:1]
here.run(sys.argv[1], sys.argv[2], Path(sys.argv[4]), images)
"""


def test_after_kill_9_a_pull_resumes(made: Made, engine: SmallEngine, tmp_path: Path) -> None:
    """The next process asks for the bytes that are missing, and the engine has no tag in between."""
    image = made.pushed[0]
    large = max(image.blobs, key=lambda blob: blob.size)
    held, go = threading.Event(), threading.Event()

    def hold(digest: str, start: int) -> int | None:
        if digest != large.digest or held.is_set():
            return None
        part = tmp_path / "layout/incoming" / f"pull-{large.digest.removeprefix('sha256:')}"
        threading.Thread(target=lambda: (_arrived(part, 2 * MIB), held.set()), daemon=True).start()
        return 2 * MIB + 7

    with answering([image], made.layout) as server:
        server.cut = hold
        words = [sys.executable, "-c", KILLED.format(root=str(ROOT)), f"127.0.0.1:{server.port}", engine.host]
        with subprocess.Popen([*words, str(tmp_path / "made"), str(tmp_path)], stderr=subprocess.PIPE) as process:
            server.on_manifest = lambda: None
            assert held.wait(60)
            process.send_signal(signal.SIGKILL)
        go.set()
        assert engine.names == {}
        first = server.begins(large.digest)[0]
        server.seen.clear()
        run(f"127.0.0.1:{server.port}", engine.host, tmp_path, [image])
        assert first == 0
        assert server.begins(large.digest)[0] >= 2 * MIB, "what had arrived came again"
    assert engine.names == ids([image])


def _arrived(part: Path, size: int) -> None:
    """Wait until a file has so many bytes."""
    waiting = threading.Event()
    while not (part.is_file() and part.stat().st_size >= size):
        waiting.wait(0.005)


def test_a_part_that_was_damaged_comes_again(made: Made, engine: SmallEngine, tmp_path: Path) -> None:
    """What a power cut left is not believed."""
    image = made.pushed[0]
    large = max(image.blobs, key=lambda blob: blob.size)
    part = tmp_path / "layout/incoming" / f"pull-{large.digest.removeprefix('sha256:')}"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(MIB))
    with answering([image], made.layout) as server:
        run(f"127.0.0.1:{server.port}", engine.host, tmp_path, [image])
        assert server.begins(large.digest) == [MIB, 0]
    assert engine.names == ids([image])


# A registry that lies


def refused(server: Answers, engine: SmallEngine, tmp_path: Path, image: PushedImage) -> BakeError:
    """Why a pull fails, which leaves the engine without the image."""
    with pytest.raises(BakeError) as raised:
        run(f"127.0.0.1:{server.port}", engine.host, tmp_path, [image])
    assert engine.held == {}
    return raised.value


@pytest.mark.parametrize("how", ["flipped", "longer", "shorter"])
def test_other_bytes_than_the_digest_reach_no_engine(made: Made, engine: SmallEngine, tmp_path: Path, how: str) -> None:
    """A layer that is changed, too long or too short; nothing of it stays on this disk but what may resume."""
    image = made.pushed[0]
    layer = image.blobs[0]
    with answering([image], made.layout) as server:
        data = server.blobs[layer.digest]
        changed = {"flipped": data[:-1] + bytes([data[-1] ^ 1]), "longer": data + b"x", "shorter": data[:-1]}
        server.blobs[layer.digest] = changed[how]
        error = refused(server, engine, tmp_path, image)
    assert isinstance(error, SourceError if how == "shorter" else IntegrityError)
    blobs = tmp_path / "layout" / "blobs"
    assert not (tmp_path / "layout" / oci.blob_path(layer.digest)).exists(), list(blobs.rglob("*"))


def test_a_layer_without_end_is_cut(made: Made, engine: SmallEngine, tmp_path: Path) -> None:
    """At the size that the manifest names: no more is read, and nothing is kept."""
    image = made.pushed[0]
    layer, written = image.blobs[0], []

    class Endless(loopback.Handler):
        def do_GET(self) -> None:
            if "/manifests/" in self.path:
                return self.reply(200, image.data, Content_Type=oci.MANIFEST)
            digest = self.path.rpartition("/")[2]
            with contextlib.suppress(OSError):  # the other side has enough
                if digest != layer.digest:
                    known = {blob.digest: blob for blob in image.blobs}
                    return self.reply(200, b"".join(made.layout.open(known[digest])) if digest in known else b"")
                self.send_response(200)
                self.end_headers()
                self.close_connection = True
                while len(written) < 200:
                    self.wfile.write(bytes(MIB))
                    written.append(MIB)

    server = loopback.server_of(Endless)
    with loopback.answering(server), pytest.raises(IntegrityError, match="other bytes"):
        run(f"127.0.0.1:{server.server_port}", engine.host, tmp_path, [image])
    assert sum(written) < 40 * MIB, "it was read on"
    parts = [path.name for path in (tmp_path / "layout/incoming").glob(f"*{layer.digest.removeprefix('sha256:')}")]
    assert parts == []


def test_a_config_that_is_not_the_manifests(made: Made, engine: SmallEngine, tmp_path: Path) -> None:
    """It is compared before any layer comes."""
    image = made.pushed[0]
    config = oci.named(image.data, "")[0]
    with answering([image], made.layout) as server:
        server.blobs[config.digest] = server.blobs[config.digest].replace(b"linux", b"Linux")
        error = refused(server, engine, tmp_path, image)
        assert {digest for digest, _ in server.seen} == {config.digest}
    assert isinstance(error, IntegrityError)


def test_a_tag_that_moves_midway(made: Made, engine: SmallEngine, tmp_path: Path) -> None:
    """The image is the one that the tag named when it was looked up: it is asked for once."""
    image, other = made.pushed[:2]
    with answering([image, other], made.layout) as server:

        def moved() -> None:
            server.tags[f"{image.name}:{image.tag}"] = other.data

        server.on_manifest = moved
        run(f"127.0.0.1:{server.port}", engine.host, tmp_path, [image])
        assert server.looks == 1
    assert engine.names == ids([image])


def manifest(config: Descriptor, *layers: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "config": config.json, "layers": [*layers]}).encode()


CONFIG = oci.describe(oci.CONFIG, b"{}")
ROW = {"mediaType": oci.TAR, "digest": "sha256:" + "0" * 64, "size": 1}
ODD = {
    "no JSON": b"\xff",
    "too deep": b"[" * 200_000,
    "a list": b"[]",
    "a path for a digest": manifest(CONFIG, {**ROW, "digest": "sha256:../../etc/passwd"}),
    "another hash": manifest(CONFIG, {**ROW, "digest": "md5:" + "0" * 32}),
    "a negative size": manifest(CONFIG, {**ROW, "size": -1}),
    "an endless size": manifest(CONFIG, {**ROW, "size": 10**30}),
    "a size of text": manifest(CONFIG, {**ROW, "size": "a"}),
    "a foreign layer": manifest(CONFIG, {**ROW, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar"}),
    "an artifact": manifest(Descriptor(media_type="application/x", digest=CONFIG.digest, size=2), ROW),
    "layers without end": manifest(CONFIG, *[ROW] * 500),
    "a config of 1 GB": manifest(Descriptor(media_type=oci.CONFIG, digest=CONFIG.digest, size=1 << 30)),
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_a_manifest_that_no_image_has(made: Made, engine: SmallEngine, tmp_path: Path, data: bytes) -> None:
    """It is refused before a blob is asked for, in words of ours."""
    image = made.pushed[0]
    with answering([image], made.layout) as server:
        server.tags[f"{image.name}:{image.tag}"] = data
        error = refused(server, engine, tmp_path, image)
        assert server.seen == []
    assert isinstance(error, IntegrityError)
    assert error.what.startswith("not a")


ODD_CONFIGS = {
    "no object": b"[]",
    "too deep": b"[" * 100_000,
    "labels of numbers": b'{"config": {"Labels": {"a": 1}}, "rootfs": {"diff_ids": []}}',
    "a list of labels": b'{"config": {"Labels": [1]}, "rootfs": {"diff_ids": []}}',
    "a config of text": b'{"config": "x", "rootfs": {"diff_ids": []}}',
    "other ids": b'{"config": {}, "rootfs": {"diff_ids": [5]}}',
}


@pytest.mark.parametrize("data", ODD_CONFIGS.values(), ids=ODD_CONFIGS)
def test_a_config_that_no_image_has(made: Made, engine: SmallEngine, tmp_path: Path, data: bytes) -> None:
    """The same of its config, whose digest is right."""
    image, config = made.pushed[0], oci.describe(oci.CONFIG, data)
    layers = [ROW] if b"[5]" in data else []
    with answering([image], made.layout) as server:
        server.tags[f"{image.name}:{image.tag}"] = manifest(config, *layers)
        server.blobs[config.digest] = data
        error = refused(server, engine, tmp_path, image)
    assert isinstance(error, IntegrityError)


def test_an_image_that_isnt_there_is_named(made: Made, engine: SmallEngine, tmp_path: Path) -> None:
    """All that lack are named at once, and nothing comes."""
    with answering(made.pushed[:1], made.layout) as server:
        with pytest.raises(MissingError, match="the registry doesn't have vad, weights") as raised:
            run(f"127.0.0.1:{server.port}", engine.host, tmp_path, made.pushed[:3])
        assert {d for d, _ in server.seen} <= {oci.named(made.pushed[0].data, "")[0].digest}
    assert raised.value.exit_code == 3


def test_a_blob_that_the_registry_lacks(made: Made, engine: SmallEngine, tmp_path: Path) -> None:
    """Exit 4, and what to do."""
    image = made.pushed[0]
    with answering([image], made.layout) as server:
        del server.blobs[image.blobs[0].digest]
        error = refused(server, engine, tmp_path, image)
    assert isinstance(error, SourceError)
    assert error.hint == "push it anew"


# Who may, and who hears of it


def test_a_login_is_asked_for_and_used(made: Made, engine: SmallEngine, tmp_path: Path) -> None:
    """Debian's registry with names and passwords: none is exit 4 with what to type; the right one brings all."""
    images = made.pushed[:1]
    login = Login(user=USER, secret=PASSWORD)
    with run_registry(tmp_path / "registry", auth=htpasswd(tmp_path / "registry")) as server:
        made.push(server.host, images, tmp_path / "journals", login)
        with pytest.raises(SourceError, match="no right to pull") as raised:
            run(server.host, engine.host, tmp_path, images)
        assert raised.value.hint == f"docker login {server.host}"
        run(server.host, engine.host, tmp_path, images, login)
    assert engine.names == ids(images)


def test_a_token_is_for_pulling_alone(made: Made, engine: SmallEngine, tmp_path: Path) -> None:
    """The token server is asked for no right to push."""
    images, login = made.pushed[:1], Login(user=USER, secret=PASSWORD)
    with tokens(tmp_path) as server, run_registry(tmp_path / "registry", auth=server.settings) as registry:
        made.push(registry.host, images, tmp_path / "journals", login, [server.host])
        server.scopes.clear()
        run(registry.host, engine.host, tmp_path, images, login, [server.host])
        assert server.scopes
        assert {scope for scopes in server.scopes for scope in scopes} == {"repository:wb/asr:pull"}
    assert engine.names == ids(images)


def test_the_host_that_has_the_blobs_hears_no_login(made: Made, engine: SmallEngine, tmp_path: Path) -> None:
    """Registries send blobs from other hosts: ranges go there, the password doesn't."""
    image, heard = made.pushed[0], []

    class Elsewhere(loopback.Handler):
        def do_GET(self) -> None:
            heard.append((self.headers.get("Authorization"), self.headers.get("Range")))
            self.reply(200, b"".join(made.layout.open(known[self.path.rpartition("/")[2]])))

    known = {blob.digest: blob for blob in image.blobs}
    other = loopback.server_of(Elsewhere)

    class Registry(loopback.Handler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") is None:
                return self.reply(401, WWW_Authenticate="Basic realm=tests")
            if "/manifests/" in self.path:
                return self.reply(200, image.data, Content_Type=oci.MANIFEST)
            if self.path == "/v2/":
                return self.reply(200)
            self.reply(307, Location=f"http://127.0.0.1:{other.server_port}/{self.path.rpartition('/')[2]}")

    registry = loopback.server_of(Registry)
    with loopback.answering(other), loopback.answering(registry):
        login = Login(user=USER, secret=PASSWORD)
        run(f"127.0.0.1:{registry.server_port}", engine.host, tmp_path, [image], login)
    assert len(heard) == len(known)
    assert {authorization for authorization, _ in heard} == {None}
    assert engine.names == ids([image])


def test_ctrl_c_keeps_what_has_arrived(made: Made, engine: SmallEngine, tmp_path: Path) -> None:
    """Exit 130 with what to type; the next pull asks for the rest."""
    image = made.pushed[0]
    large = max(image.blobs, key=lambda blob: blob.size)
    held, go = threading.Event(), threading.Event()
    with answering([image], made.layout) as server:

        def slow(digest: str, start: int) -> int | None:
            if digest == large.digest and not held.is_set():
                held.set()
                go.wait(30)
                return 2 * MIB
            return None

        server.cut = slow
        words = [sys.executable, "-c", KILLED.format(root=str(ROOT)), f"127.0.0.1:{server.port}", engine.host]
        with subprocess.Popen([*words, str(tmp_path / "made"), str(tmp_path)], stderr=subprocess.PIPE) as process:
            assert held.wait(60)
            process.send_signal(signal.SIGINT)
            go.set()
            _, said = process.communicate(timeout=60)
        assert b"the pull was stopped" in said
        assert engine.names == {}
        run(f"127.0.0.1:{server.port}", engine.host, tmp_path, [image])
    assert engine.names == ids([image])
