"""``docker load`` of an image that an engine has in part, against a server that answers as engines do."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import docker
import pytest

from builder.core.images import oci
from builder.edges.engine.connection import Engine
from builder.edges.images import load
from builder.edges.images.layout import Layout, Stored
from builder.errors import BuildError, IntegrityError, MissingError
from builder.receiver.missing import EngineContents
from tests import bundles, loopback

REF = "r/asr:x"
CUT = "the connection ends here"
DEAD = "no answer at all"


class Server(ThreadingHTTPServer):
    """An engine's API: what it got by ``/images/load``, and what it answers next."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, str]] = []
        self.loads: list[dict[str, bytes]] = []
        self.tagged: list[str] = []


class Handler(loopback.Handler):
    """Answers like Docker: JSON lines in chunks."""

    server: Server

    def do_POST(self) -> None:
        path = urlsplit(self.path)
        if path.path.endswith("/tag"):
            self.server.tagged.append(path.query)
            return self.reply(201)
        assert path.path.endswith("/images/load")
        assert "quiet" in path.query
        with tarfile.open(fileobj=io.BytesIO(self.chunks()), mode="r") as archive:
            members = [(m.name, archive.extractfile(m)) for m in archive.getmembers()]
            self.server.loads.append({name: data.read() for name, data in members if data})
        status, text = self.server.answers.pop(0)
        if text == DEAD:
            self.close_connection = True
            return
        if status >= 400:
            return self.reply(status, json.dumps({"message": text}).encode(), Content_Type="application/json")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if text == CUT:
            self.wfile.write(b"40\r\n{")
            self.close_connection = True
            return
        body = text.encode() + b"\n"
        self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")

    def do_GET(self) -> None:
        self.reply(404, b'{"message": "no such image"}')

    def chunks(self) -> bytes:
        """The body of a request that doesn't say its length."""
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    with loopback.answering(running):
        yield running


@pytest.fixture
def engine(server: Server) -> Engine:
    host = f"tcp://127.0.0.1:{server.server_address[1]}"
    client = docker.DockerClient(base_url=host, version="1.43", timeout=20)
    return Engine(
        host=host,
        version="27.0",
        store="containerd",
        architecture="amd64",
        root="/nowhere",
        client=client,
        cpus=1,
        memory=1,
    )


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout", tmp_path / "models")


@pytest.fixture
def image(layout: Layout) -> Stored:
    """An image of two layers, in the layout."""
    layers = []
    for seed in (1, 2):
        data = bundles.noise(70_000, seed)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        layout.path(digest).parent.mkdir(parents=True, exist_ok=True)
        layout.path(digest).write_bytes(data)
        blob = oci.Descriptor(media_type=oci.TAR, digest=digest, size=len(data))
        layers.append(oci.Layer(blob=blob, diff_id=digest, history={}))
    written = oci.write(oci.Image(config={"architecture": "amd64", "os": "linux"}, layers=tuple(layers), rest=()))
    return Stored(
        ref=REF,
        manifest=oci.describe(oci.MANIFEST, written.manifest),
        config=written.config_descriptor,
        layers=tuple(layers),
        written=written,
    )


def loaded(image: Stored) -> str:
    return json.dumps({"stream": f"Loaded image ID: {image.manifest.digest}\n"})


def bring(engine: Engine, layout: Layout, image: Stored, *present: int) -> load.Loaded:
    """Load it into an engine that has the layers at these positions."""
    blobs = frozenset(image.layers[k].blob.digest for k in present)
    contents = EngineContents(store="containerd", blobs=blobs)
    return load.load(engine, layout, image, contents=contents, built=(), on_bytes=lambda done, total: None)


def paths(sent: dict[str, bytes]) -> set[str]:
    return {path for path in sent if path.startswith("blobs/")}


def path(blob: oci.Descriptor) -> str:
    return oci.blob_path(blob.digest)


def test_what_an_engine_has_is_not_sent(server: Server, engine: Engine, layout: Layout, image: Stored) -> None:
    """One tar: the layer it lacks, config, manifest, and what graph drivers and containerd read; the tag comes last."""
    server.answers = [(200, loaded(image))]
    done = bring(engine, layout, image, 0)
    assert (done.id, done.sent, done.lacked) == (image.manifest.digest, 70_000, False)
    [sent] = server.loads
    assert paths(sent) == {path(image.layers[1].blob), path(image.config), path(image.manifest)}
    assert set(sent) - paths(sent) == {"oci-layout", "index.json", "manifest.json"}
    assert sent[path(image.layers[1].blob)] == bundles.noise(70_000, 2)
    assert [word for query in server.tagged for word in query.split("&")[:2]] == ["tag=x", "repo=r%2Fasr"]


def test_a_layer_that_the_engine_turns_out_to_lack_is_sent_after_all(
    server: Server, engine: Engine, layout: Layout, image: Stored
) -> None:
    error = {"error": f"content digest {image.layers[0].blob.digest}: not found", "errorDetail": {}}
    server.answers = [(200, json.dumps(error)), (200, loaded(image))]
    done = bring(engine, layout, image, 0)
    assert (done.sent, done.lacked) == (140_000, True)
    assert len(paths(server.loads[1])) == 4


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        ("write /var/lib/x: no space left on device", MissingError, "disk is full"),
        ("unexpected commit digest sha256:a, expected sha256:b", IntegrityError, "other bytes"),
        ("archive/tar: invalid tar header", BuildError, "refused"),
    ],
)
def test_what_the_engine_says_becomes_our_error(
    server: Server,
    engine: Engine,
    layout: Layout,
    image: Stored,
    status: int,
    answer: str,
    error: type[Exception],
    says: str,
) -> None:
    """Whether it refuses at once or in the middle of its answer; nothing is tagged."""
    server.answers = [(status, json.dumps({"error": answer}) if status == 200 else answer)]
    with pytest.raises(error, match=says):
        bring(engine, layout, image)
    assert server.tagged == []


@pytest.mark.parametrize("answer", [CUT, DEAD])
def test_an_engine_that_goes_away(server: Server, engine: Engine, layout: Layout, image: Stored, answer: str) -> None:
    server.answers = [(200, answer)]
    with pytest.raises(MissingError, match="went away"):
        bring(engine, layout, image)
    assert server.tagged == []


def test_an_engine_that_loads_something_else(server: Server, engine: Engine, layout: Layout, image: Stored) -> None:
    """Another id than the image's is not what was asked for."""
    server.answers = [(200, json.dumps({"stream": "Loaded image ID: sha256:" + "0" * 64}))]
    with pytest.raises(BuildError, match="refused"):
        bring(engine, layout, image)
    assert server.tagged == []
