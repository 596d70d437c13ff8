"""An index of several platforms in a real registry: sent in an order that holds, shared layers once, read by other tools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.core.images import oci
from builder.core.images.oci import Descriptor, Layer
from builder.core.images.reference import target
from builder.edges.registry import http as registry_http
from builder.edges.registry.push import PushedImage
from builder.edges.registry.read import RegistryReader
from builder.errors import IntegrityError
from tests.process.registry_server import Proxy, Seen, Server, proxy
from tests.process.registry_server import registry as run_registry
from tests.process.test_push import MIB, Bytes, repository, run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries are a tenth."""
    monkeypatch.setattr(registry_http, "PAUSE", 0.05)


@pytest.fixture
def line(server: Server) -> Iterator[Proxy]:
    with proxy(server.port) as found:
        yield found


@dataclass(frozen=True)
class Two:
    """An image of two platforms with the same weights."""

    index: PushedImage
    weights: Descriptor
    code: dict[str, Descriptor]
    manifests: dict[str, Descriptor]


def two(blobs: Bytes, *, seed: int = 1) -> Two:
    weights = blobs.random(seed, 9 * MIB + 5)
    code = {name: blobs.random(seed * 10 + k, 3000 + k) for k, name in enumerate(("amd64", "arm64"))}
    layers = {name: [Layer(blob=b, diff_id=b.digest, history={}) for b in (weights, code[name])] for name in code}
    images = {
        name: oci.write(oci.Image(config={"architecture": name, "os": "linux"}, layers=tuple(layers[name]), rest=()))
        for name in code
    }
    configs = {name: blobs.add(image.config, oci.CONFIG) for name, image in images.items()}
    manifests = {name: oci.describe(oci.MANIFEST, image.manifest) for name, image in images.items()}
    data = oci.platform_index(list(images.values()))
    index = PushedImage(
        name="asr",
        tag="slim-cpu",
        manifest=oci.describe(oci.INDEX, data),
        data=data,
        blobs=(weights, *code.values(), *configs.values()),
        parts=tuple((f"linux/{name}", manifests[name], image.manifest) for name, image in images.items()),
    )
    return Two(index, weights, code, manifests)


def test_what_platforms_share_is_sent_once(line: Proxy, server: Server, tmp_path: Path) -> None:
    """One tag, each platform's manifest by its digest, and again: one question and no byte."""
    blobs = Bytes()
    made = two(blobs)
    ((step, sent),) = run(line.host, tmp_path, blobs, made.index)
    assert sent == step.send_bytes == sum(b.size for b in made.index.blobs)
    manifests = [made.index.manifest, *made.manifests.values()]
    assert line.body_bytes() == sent + sum(m.size for m in manifests)
    assert {m.digest for m in manifests} <= server.blobs()
    line.seen.clear()
    ((again, _),) = run(line.host, tmp_path, blobs, made.index)
    assert again.there
    assert line.body_bytes() == 0


def test_the_tag_comes_last_and_the_manifests_of_an_index_before_it(line: Proxy, tmp_path: Path) -> None:
    """Killed between them, no tag names what isn't there; the next push sends the manifests alone."""
    blobs = Bytes()
    made = two(blobs, seed=2)

    def cut(seen: Seen) -> int | None:
        if seen.method == "PUT" and seen.path.endswith("/manifests/slim-cpu"):
            raise ConnectionError
        return None

    line.fault = cut
    with pytest.raises(Exception, match="the registry is gone"):
        run(line.host, tmp_path, blobs, made.index)
    puts = [s.path.rpartition("/")[2] for s in line.seen if s.method == "PUT" and "/manifests/" in s.path]
    parts = [part.digest for _, part, _ in made.index.parts]
    assert puts[:2] == parts
    assert set(puts[2:]) == {"slim-cpu"}
    line.fault = lambda _: None
    line.seen.clear()
    ((step, sent),) = run(line.host, tmp_path, blobs, made.index)
    assert (step.there, sent) == (False, 0)
    assert line.body_bytes() == sum(m.size for m in (made.index.manifest, *made.manifests.values()))


def test_other_tools_read_the_index_and_each_platform(line: Proxy, server: Server, tmp_path: Path) -> None:
    """skopeo and oras see one tag of two platforms, and on each the same layer of weights."""
    for program in ("skopeo", "oras"):
        if shutil.which(program) is None:
            assert os.environ.get("CI", "").lower() not in ("1", "true"), f"CI installs {program}"
            pytest.skip(f"no {program} on this machine")
    blobs = Bytes()
    made = two(blobs, seed=3)
    run(line.host, tmp_path, blobs, made.index)
    reference = f"{server.host}/{repository(tmp_path)}/asr:slim-cpu"

    def read(*words: str) -> str:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    raw = read("skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{reference}")
    assert raw.encode() == made.index.data
    for name, manifest in made.manifests.items():
        fetched = read("oras", "manifest", "fetch", "--plain-http", "--platform", f"linux/{name}", reference)
        assert oci.digest(fetched.encode()) == manifest.digest
        seen = json.loads(
            read("skopeo", "--override-arch", name, "inspect", "--tls-verify=false", f"docker://{reference}")
        )
        assert seen["Architecture"] == name
        assert seen["Layers"] == [made.weights.digest, made.code[name].digest]


def test_a_reader_gets_the_manifest_of_its_own_platform(server: Server, tmp_path: Path) -> None:
    """By the digest that the index names; a platform that isn't in it is an error."""
    blobs = Bytes()
    made = two(blobs, seed=5)
    run(server.host, tmp_path, blobs, made.index)
    where = target(f"{server.host}/{repository(tmp_path)}", where="test")
    stop = registry_http.StopSignal()
    http = registry_http.connect(where, login=None, authorities="", insecure=lambda: False, stop=stop)
    reader, name = RegistryReader(http), where.repository("asr")
    for architecture, manifest in made.manifests.items():
        found = reader.manifest(name, "slim-cpu", architecture)
        assert found is not None
        assert found[0] == manifest
    with pytest.raises(IntegrityError, match="no image for linux/s390x is there"):
        reader.manifest(name, "slim-cpu", "s390x")


ROW = {"mediaType": oci.MANIFEST, "digest": "sha256:" + "0" * 64, "size": 2}
OURS = {"os": "linux", "architecture": "amd64"}


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"manifests": None},
        {"manifests": [1]},
        {"manifests": [ROW]},
        {"manifests": [{**ROW, "platform": "linux/amd64"}]},
        {"manifests": [{**ROW, "platform": {"os": "windows", "architecture": "amd64"}}]},
        {"manifests": [{**ROW, "platform": OURS, "digest": "../../etc/passwd"}]},
        {"manifests": [{**ROW, "platform": OURS, "size": -1}]},
        {"manifests": [{**ROW, "platform": OURS, "size": float("inf")}]},
        {"manifests": [{**ROW, "platform": OURS, "mediaType": oci.INDEX}]},
    ],
)
def test_an_index_that_none_wrote_names_nothing(value: object) -> None:
    with pytest.raises(IntegrityError):
        oci.received_of(json.dumps(value).encode(), "amd64", "somewhere")
