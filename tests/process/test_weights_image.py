"""One blob, several uses: a weight layer in stage images, in the weights image, in a ModelPack artifact, in a layout.

The registry is Debian's docker-registry; the artifact is moved by skopeo and oras.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from builder.core.bundle import plan as planning
from builder.core.images import oci
from builder.core.images.oci import Image, Layer
from builder.core.images.plan import PlannedImage
from builder.core.images.reference import target
from builder.core.images.weights import image as weights
from builder.core.images.weights import modelpack
from builder.core.progress import silent
from builder.core.terms import Purpose
from builder.core.weights import layers as weight_layers
from builder.core.weights.model import FilePin, HubSource, Model, Pin, PinnedModel, model_digest, snapshot_path
from builder.edges.bundle.blobs import Packing
from builder.edges.engine import connection
from builder.edges.images import weights_image
from builder.edges.images.layout import Layout, Stored
from builder.edges.images.weights_image import StoredWeights
from builder.edges.registry import http as registry_http
from builder.edges.registry import push
from builder.edges.registry.blobs import Registry
from builder.edges.registry.credentials import Login
from builder.edges.registry.push import PushedImage
from builder.receiver.tar import END, header, padding
from tests.process.registry_server import Proxy, Server, proxy
from tests.process.registry_server import registry as run_registry
from tests.small_engine import small_engine

MIB = 1 << 20
PLATFORM = {"architecture": "amd64", "os": "linux"}
MOST = 1.002
"""Bytes of a registry with images, weights image and artifact, against images alone."""


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        assert os.environ.get("CI", "").lower() not in ("1", "true"), f"CI installs {name}"
        pytest.skip(f"no {name} on this machine")
    return found


def run(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def model(id_: str, files: dict[str, bytes], store: Path) -> PinnedModel:
    """A model whose files are in the store."""
    made = Model(id=id_, purpose=Purpose.ASR, title=id_.upper(), licence="MIT", sources=(HubSource(repo=f"org/{id_}"),))
    pins = [FilePin(path=p, size=len(data), sha256=hashlib.sha256(data).hexdigest()) for p, data in files.items()]
    pin = Pin(revision="1" * 40, files=tuple(pins))
    for path, data in files.items():
        place = store / snapshot_path(made, pin) / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return made, pin


class Made:
    """A layout with two stage images that carry a model each, and share a third; and the weights of all."""

    def __init__(self, folder: Path, size: int = weight_layers.OWN + 12345) -> None:
        noise = random.Random(1)
        large = noise.randbytes(size)
        self.layout = Layout(folder / "layout", folder / "models")
        self.models = [
            model("tiny", {"model.bin": large, "config.json": b"{}"}, self.layout.store),
            model("vad", {"vad.onnx": noise.randbytes(MIB)}, self.layout.store),
        ]
        self.images = [self.image("asr", self.models, 3), self.image("vad", self.models[1:], 4)]
        self.weights: StoredWeights = weights_image.make(
            self.layout, "wb/weights:tiny-en", self.models, PLATFORM, silent
        )

    def image(self, name: str, models: Sequence[PinnedModel], seed: int, *, above: int = 0) -> Stored:
        """An image: a layer of code, its weights, and with ``above`` another layer of code."""
        baked = [self.layout.weights(part) for part in weights.layers(models)]
        layers = (self.code(name, seed), *baked, *([self.code(name, above)] if above else []))
        written = oci.write(Image(config={**PLATFORM, "config": {}}, layers=layers, rest=()))
        self.layout.put(written.config)
        ref = f"wb/{name}:slim-cpu"
        self.layout.record(ref, {"manifest": self.layout.put(written.manifest)})
        return self.layout.image(ref)

    def code(self, name: str, seed: int) -> Layer:
        file = random.Random(seed).randbytes(MIB)
        data = header(f"code/{name}", len(file)) + file + bytes(padding(len(file)) + END)
        self.layout.put(data)
        return Layer(blob=oci.describe(oci.TAR, data), diff_id=oci.digest(data), history={"created_by": name})

    @property
    def pushed(self) -> list[PushedImage]:
        stage = [self.as_pushed(image.ref.partition("/")[2].partition(":")[0], image) for image in self.images]
        tag = f"tiny-en{modelpack.SUFFIX}"
        artifact = PushedImage(
            name="weights", tag=tag, manifest=self.weights.artifact, data=self.weights.data, blobs=self.weights.blobs
        )
        return [*stage, self.as_pushed("weights", self.weights.image), artifact]

    def as_pushed(self, name: str, stored: Stored) -> PushedImage:
        blobs = tuple(blob for blob in stored.blobs if blob != stored.manifest)
        tag = stored.ref.rpartition(":")[2]
        return PushedImage(name=name, tag=tag, manifest=stored.manifest, data=stored.written.manifest, blobs=blobs)

    def push(
        self,
        host: str,
        images: Sequence[PushedImage],
        tmp: Path,
        login: Login | None = None,
        servers: Sequence[str] = (),
    ) -> list[tuple[push.PushStep, int]]:
        where, stop = target(f"{host}/wb", where="test"), registry_http.StopSignal()
        http = registry_http.connect(
            where, login=login, authorities="", insecure=lambda: False, stop=stop, token_servers=servers
        )
        server = Registry(http, tmp / "uploads")
        steps = push.decide(images, server, where, others={}, on_progress=silent)
        return list(push.carry_out(steps, server, open_=self.layout.open, stop=stop, on_progress=silent))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def line(server: Server) -> Iterator[Proxy]:
    with proxy(server.port) as found:
        yield found


def disk(server: Server) -> int:
    """Bytes of all files in a registry's storage."""
    return sum(path.stat().st_size for path in (server.folder / "data").rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def sizes(made: Made, server: Server, line: Proxy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Bytes in the registry and on the line: after the images alone, and after all four kinds."""
    tmp, everything = tmp_path_factory.mktemp("journals"), made.pushed
    made.push(line.host, everything[:2], tmp)
    images, sent = disk(server), line.body_bytes()
    made.push(line.host, everything, tmp)
    return {"images": images, "all": disk(server), "sent": sent, "sent again": line.body_bytes() - sent}


def test_a_registry_keeps_each_layer_once(sizes: dict[str, int], made: Made, server: Server) -> None:
    """Images, weights image and artifact take 1.002 times the bytes of images, on disk and on the line."""
    assert sizes["images"] > weight_layers.OWN
    assert sizes["all"] <= MOST * sizes["images"]
    assert sizes["sent again"] < (MOST - 1) * sizes["sent"], "weights were sent twice"
    assert made.weights.artifact.digest in server.blobs()


def test_a_second_push_sends_nothing(made: Made, line: Proxy, sizes: dict[str, int], tmp_path: Path) -> None:
    """Both tags of the one repository are known as they are."""
    line.seen.clear()
    assert all(step.there for step, _ in made.push(line.host, made.pushed, tmp_path))
    assert line.body_bytes() == 0


def test_layers_that_only_the_weights_have_are_sent_once(made: Made, tmp_path: Path) -> None:
    """Without stage images the weights image brings them, and the artifact beside it in the repository sends nothing more."""
    with run_registry(tmp_path / "registry") as server, proxy(server.port) as line:
        steps = made.push(line.host, made.pushed[2:], tmp_path)
        weights = sum(blob.size for blob in made.weights.blobs)
        assert line.body_bytes() < weights + 20_000
        assert [len(step.send) for step, _ in steps] == [len(made.weights.blobs), 1], "the artifact's config alone"
        assert not steps[1][0].mount, "its layers are in the repository already"


def test_skopeo_moves_the_artifact(made: Made, server: Server, sizes: dict[str, int], tmp_path: Path) -> None:
    """``skopeo inspect`` reads it and ``skopeo copy`` brings every blob, byte for byte."""
    skopeo, reference = tool("skopeo"), f"docker://{server.host}/wb/weights:tiny-en{modelpack.SUFFIX}"
    shown = json.loads(run(skopeo, "inspect", "--tls-verify=false", "--raw", reference))
    assert shown["artifactType"] == modelpack.ARTIFACT
    assert {layer["mediaType"] for layer in shown["layers"]} == {modelpack.WEIGHT}
    run(skopeo, "copy", "--src-tls-verify=false", reference, f"oci:{tmp_path}/copy:x")
    for blob in made.weights.blobs:
        assert oci.digest((tmp_path / "copy" / oci.blob_path(blob.digest)).read_bytes()) == blob.digest
    config = json.loads((tmp_path / "copy" / oci.blob_path(made.weights.blobs[-1].digest)).read_bytes())
    assert config["modelfs"] == {"type": "layers", "diffIds": [blob.digest for blob in made.weights.blobs[:-1]]}
    assert config["descriptor"] == {"name": "tiny-en", "title": "TINY, VAD", "licenses": ["MIT"]}


def test_oras_pulls_the_models(made: Made, server: Server, sizes: dict[str, int], tmp_path: Path) -> None:
    """Each layer becomes a tar with a name that says what it is; unpacked they are the tree of models."""
    oras = tool("oras")
    run(oras, "pull", "--plain-http", "--output", tmp_path, f"{server.host}/wb/weights:tiny-en{modelpack.SUFFIX}")
    assert {path.name for path in tmp_path.iterdir()} == {"tiny-model.bin.tar", "tiny-rest.tar", "vad-rest.tar"}
    unpacked = {}
    for path in tmp_path.iterdir():
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
            unpacked |= {m.name: archive.extractfile(m).read() for m in archive.getmembers() if m.isfile()}  # type: ignore[union-attr]
    for one, pin in made.models:
        for file in pin.files:
            data = unpacked[f"models/{snapshot_path(one, pin)}/{file.path}"]
            assert hashlib.sha256(data).hexdigest() == file.sha256


def test_a_layout_keeps_each_layer_once(made: Made, tmp_path: Path) -> None:
    """The layout has manifests and configs of the weights image, and no byte of weights; an export has each layer once."""
    own = [path for path in made.layout.root.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in own) < 2 * MIB + 100_000
    alone = made.layout.export(tmp_path / "alone", made.images, silent)
    every = made.layout.export(tmp_path / "all", [*made.images, made.weights.image], silent)
    assert every <= MOST * alone
    needed = made.layout.needed(["wb/weights:tiny-en"])
    assert {made.weights.artifact.digest, made.weights.image.manifest.digest} <= needed, "prune would take it"


def test_the_same_models_give_the_same_image(made: Made, tmp_path: Path) -> None:
    """On another machine: one digest for image and artifact."""
    other = weights_image.make(
        Layout(tmp_path / "layout", made.layout.store), "x/weights:tiny-en", made.models, PLATFORM, silent
    )
    assert (other.image.manifest, other.artifact) == (made.weights.image.manifest, made.weights.artifact)


def test_a_bundle_has_the_same_blobs_once(made: Made, tmp_path: Path) -> None:
    """The layers of weights are those of the registry, by digest, and two images that share one bring it once."""
    packing = Packing(made.layout, tmp_path / "packed", silent)
    planned = [
        PlannedImage(name=i.ref, tag=i.ref, parent=None, stage=None, gpu=False, libraries=(), models=())
        for i in made.images
    ]
    bundled = packing.images(planned)
    bundle = planning.plan(bundled, loader=b"", made_by="test", platform="linux/amd64", part_size=1 << 40)
    paths = [entry.path for entry in bundle.entries]
    layers = [layer.blob for layer in made.weights.image.layers]
    assert [paths.count(oci.blob_path(blob.digest)) for blob in layers] == [1] * len(layers)
    assert b"".join(packing.open(layers[-1].digest.removeprefix("sha256:"))) == b"".join(made.layout.open(layers[-1]))


def test_an_engine_gets_it_and_the_one_before_goes(tmp_path: Path) -> None:
    """Containers mount it by id. It is found by its tag, or under another preset's that has all that is wanted."""
    small = Made(tmp_path, size=MIB)
    digests = {model_digest(pin) for _, pin in small.models}
    ref, jobs = "wb/weights:tiny-en", tmp_path / "jobs"
    with small_engine(tmp_path) as server:
        engine = connection.connect({"DOCKER_HOST": server.host}, builds=False)
        assert weights_image.in_engine(engine, ref, digests) is None
        older = weights_image.make(small.layout, ref, small.models[:1], PLATFORM, silent).image
        weights_image.load_into(engine, small.layout, older, jobs, silent)
        assert weights_image.in_engine(engine, ref, digests) is None, "it lacks a model"
        newer = weights_image.make(small.layout, ref, small.models, PLATFORM, silent).image
        weights_image.load_into(engine, small.layout, newer, jobs, silent)
        assert weights_image.in_engine(engine, ref, digests) == (ref, newer.config.digest, tuple(sorted(digests)))
        assert server.removed == [older.config.digest]
        found = weights_image.in_engine(engine, "wb/weights:another", digests)
        assert found is not None
        assert found[0] == ref
        assert weights_image.in_engine(engine, "other/weights:tiny-en", digests) is None
