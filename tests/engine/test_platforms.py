"""Images of linux/arm64 from an amd64 machine: built without its code being run, pushed as one index, run by an emulator."""

from __future__ import annotations

import array
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from builder.core.images import oci
from builder.core.images.reference import target
from builder.core.progress import silent
from builder.edges.images.layout import Layout, Stored
from builder.edges.registry.blobs import Registry
from builder.edges.registry.http import StopSignal, connect
from builder.edges.registry.push import PushedImage, carry_out, decide
from tests.engine import emulated, private_engine
from tests.engine.conftest import ONE_STORE, Engine, copy_project
from tests.process.registry_server import Proxy, Server, proxy
from tests.process.registry_server import registry as run_registry
from tests.shared import state_folder
from tests.unit.test_image_tools import tool

BOTH = ("--platform", "linux/amd64,linux/arm64")
MODE = ("--mode", "docker-cpu")
NAMES = ("demux", "subtitles", "vad")
SUFFIXES = {"amd64": "", "arm64": "-arm64"}

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the other platform is arm64 here")


@pytest.fixture(scope="module")
def both(engine: Engine, built: Any) -> Any:
    """Three stages for both platforms; the command's own summary."""
    done = engine.bake("build", *NAMES, *MODE, *BOTH, "--json")
    assert done.code == 0, done.err
    return done.data


@pytest.fixture
def layout(engine: Engine, both: Any) -> Layout:
    return Layout(engine.home / "layout", engine.home / "models")


def other(engine: Engine, layout: Layout, name: str) -> Stored:
    return layout.image(f"{engine.prefix}/{name}:slim-cpu-arm64")


def test_an_engine_gets_the_images_of_its_own_platform_alone(
    engine: Engine, built: Any, both: Any, layout: Layout
) -> None:
    """And keeps the ones that it had: nobody's images change because others are built beside them."""
    before = {image["tag"]: image["id"] for image in built["images"]}
    assert {image["tag"]: image["id"] for image in both["images"]}.items() <= before.items()
    assert {image["state"] for image in both["images"]} == {"up to date"}
    others = {image["name"]: image for image in both["other_platforms"]}
    assert set(others) == {"base", "base-ml", *NAMES}
    assert {image["platform"] for image in others.values()} == {"linux/arm64"}
    for name, image in others.items():
        config = json.loads(other(engine, layout, name).written.config)
        assert (config["os"], config["architecture"]) == ("linux", "arm64")
        assert image["manifest"] == other(engine, layout, name).manifest.digest
    tags = [tag for image in engine.client.images.list() for tag in image.tags]
    assert [tag for tag in tags if "arm64" in tag] == []
    again = engine.bake("build", *NAMES, *MODE, "--platform", "linux/arm64", "--json")
    assert again.code == 0, again.err
    assert again.data["images"] == []
    assert {image["state"] for image in again.data["other_platforms"]} == {"up to date"}


def members(layout: Layout, blob: oci.Descriptor) -> Iterator[tuple[str, bytes]]:
    """Files of a layer of code with their first bytes."""
    data = b"".join(layout.open(blob))
    if blob.media_type != oci.TAR:
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            if member.isreg():
                inside = archive.extractfile(member)
                assert inside is not None
                yield member.name, inside.read(64)


def test_every_program_and_library_is_of_the_platform(engine: Engine, layout: Layout, tmp_path: Path) -> None:
    """By its ELF header; Python's own extensions, wheels and their bundled libraries among them."""
    foreign, seen = tool("foreign"), dict.fromkeys(NAMES, 0)
    head = tmp_path / "head"
    for name in NAMES:
        for layer in other(engine, layout, name).layers:
            if layout.is_weights(layer.blob.digest):
                continue
            for path, start in members(layout, layer.blob):
                head.write_bytes(start)
                if (machine := foreign.machine_of(head)) is not None:
                    assert machine == "aarch64", f"{name}: {path}"
                    seen[name] += 1
    assert seen["subtitles"] > 30
    assert seen["vad"] > seen["subtitles"], "NumPy and ONNX Runtime"
    assert seen["demux"] > seen["subtitles"] + 20, "FFmpeg's libraries"


def test_platforms_share_weights_and_bytecode(engine: Engine, layout: Layout) -> None:
    """The same layer of weights, as deep in the image; and of a stage's code the same files."""
    own = layout.image(f"{engine.prefix}/vad:slim-cpu")
    theirs = other(engine, layout, "vad")
    kinds = [[layout.is_weights(x.blob.digest) for x in image.layers] for image in (own, theirs)]
    assert kinds[0] == kinds[1]
    assert sum(kinds[0]) == 1
    weights = [[x for x in image.layers if layout.is_weights(x.blob.digest)] for image in (own, theirs)]
    assert weights[0] == weights[1]
    assert own.layers[-1].diff_id == theirs.layers[-1].diff_id, "code and its bytecode are the same everywhere"
    assert own.layers[0].diff_id != theirs.layers[0].diff_id


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def line(server: Server) -> Iterator[Proxy]:
    with proxy(server.port) as found:
        yield found


@ONE_STORE
def test_one_tag_has_both_platforms_and_each_layer_once(
    engine: Engine, both: Any, layout: Layout, server: Server, line: Proxy
) -> None:
    """What skopeo reads is an index of two; a second platform costs its code; the first one's manifest is as it was."""
    push = ("push", *NAMES, *MODE, "--registry", f"{line.host}/wb", "--json")
    first = engine.bake(*push)
    assert first.code == 0, first.err
    dry = engine.bake(*push, *BOTH, "--dry-run")
    line.seen.clear()
    done = engine.bake(*push, *BOTH)
    assert done.code == 0, done.err
    assert dry.data["sent_bytes"] == done.data["sent_bytes"]
    weights = {
        x.blob.digest: x.blob.size for x in other(engine, layout, "vad").layers if layout.is_weights(x.blob.digest)
    }
    code = {
        blob.digest: blob.size
        for name in NAMES
        for blob in other(engine, layout, name).blobs[:-1]
        if blob not in layout.image(f"{engine.prefix}/{name}:slim-cpu").blobs
    }
    assert not set(weights) & set(code)
    assert done.data["sent_bytes"] == sum(code.values()), "what the first push sent was sent again, or weights were"
    assert engine.bake(*push, *BOTH).data["on_the_wire_bytes"] == 0
    for image in done.data["images"]:
        raw = json.loads(inspected(server, image["name"], "--raw"))
        assert raw["mediaType"] == oci.INDEX
        assert {f"linux/{m['platform']['architecture']}": m["digest"] for m in raw["manifests"]} == image["platforms"]
        mine = layout.image(f"{engine.prefix}/{image['name']}:slim-cpu")
        assert image["platforms"]["linux/amd64"] == mine.manifest.digest, "the manifest of a push without --platform"


def inspected(server: Server, name: str, *options: str) -> str:
    words = ["skopeo", "inspect", "--tls-verify=false", *options, f"docker://{server.host}/wb/{name}:slim-cpu"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@ONE_STORE
def test_an_engine_pulls_its_own_part_of_an_index(engine: Engine, both: Any, server: Server, tmp_path: Path) -> None:
    """A fresh one: it has the layers of its platform, and runs them."""
    push = ("push", "subtitles", *MODE, *BOTH, "--registry", f"{server.host}/pulled", "--json")
    assert engine.bake(*push).code == 0
    reference = f"{server.host}/pulled/subtitles:slim-cpu"
    with private_engine.engine(engine.store) as host:
        plain = Engine(host, engine.store, "", tmp_path)
        pulled = plain.docker("pull", "--quiet", reference)
        assert pulled.code == 0, pulled.err
        image = plain.client.images.get(reference)
        assert image.attrs["Architecture"] == "amd64"
        assert image.attrs["RootFS"] == engine.client.images.get(f"{engine.prefix}/subtitles:slim-cpu").attrs["RootFS"]
        shown = plain.docker("run", "--rm", "--network", "none", reference, "--help")
        assert shown.code == 0, shown.err


def test_a_push_of_what_is_not_built_says_what_to_type(engine: Engine, both: Any, line: Proxy) -> None:
    done = engine.bake("push", "asr", *MODE, *BOTH, "--registry", f"{line.host}/wb", "--json")
    assert done.code == 3
    assert "asr: not built here for linux/arm64" in done.said
    assert "build --mode docker-cpu --platform linux/arm64" in done.said
    assert not any(seen.method == "PUT" for seen in line.seen)


@pytest.fixture(scope="module")
def roots(engine: Engine, both: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The arm64 images, unpacked."""
    if why := emulated.why_not():
        assert os.environ.get("CI", "").lower() not in ("1", "true"), why
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("roots")
    layout = Layout(engine.home / "layout", engine.home / "models")
    for name in NAMES:
        emulated.unpack(layout, other(engine, layout, name), folder / name)
    yield {name: folder / name for name in NAMES}
    shutil.rmtree(folder)


@ONE_STORE
def test_images_start_and_check_their_weights(engine: Engine, layout: Layout, roots: dict[str, Path]) -> None:
    """By their own entry point, which starts Python for the stage: its libraries load, its weights are whole."""
    for name, root in roots.items():
        words, env = emulated.entry(other(engine, layout, name))
        shown = emulated.run(root, [*words, "--help"], env)
        assert shown.code == 0, shown.err
        assert "--job" in shown.out
        verified = emulated.run(root, [*words, "--verify"], env)
        assert verified.code == 0, verified.err


def sound(path: Path) -> list[int]:
    with wave.open(str(path)) as opened:
        assert (opened.getframerate(), opened.getnchannels(), opened.getsampwidth()) == (16_000, 1, 2)
        return list(array.array("h", opened.readframes(opened.getnframes())))


@ONE_STORE
@pytest.mark.parametrize("stage", NAMES)
def test_a_stage_gives_the_results_of_the_engine_s_platform(
    engine: Engine, layout: Layout, roots: dict[str, Path], native: Path, stage: str
) -> None:
    """The example, from the results of the stages before it, by another processor's instructions.

    FFmpeg's resampler rounds otherwise there: samples may differ by 1. Everything else is the same, byte for byte.
    """
    job = roots[stage] / "job"
    shutil.copytree(native, job)
    own = [f"work/{stage}", *(["output"] if stage == "subtitles" else [])]
    for folder in own:
        shutil.rmtree(job / folder)
        (job / folder).mkdir()
    words, env = emulated.entry(other(engine, layout, stage))
    done = emulated.run(roots[stage], [*words, "--job", "/job"], env)
    assert done.code == 0, done.err + done.out
    wanted = {path.relative_to(native): path for folder in own for path in (native / folder).iterdir()}
    assert len(wanted) >= 2
    for name, path in wanted.items():
        if name.suffix == ".wav":
            pairs = zip(sound(job / name), sound(path), strict=True)
            assert max(abs(a - b) for a, b in pairs) <= 1, name
        elif name.name not in ("manifest.json", "dialogue.mp4"):
            assert (job / name).read_bytes() == path.read_bytes(), name


@ONE_STORE
def test_a_base_from_a_registry_is_an_index_too(
    engine: Engine, both: Any, layout: Layout, server: Server, tmp_path: Path
) -> None:
    """Each platform stands on its own part of it; a base without the platform is refused by BuildKit, and that is said."""
    roots = {name: layout.image(f"{engine.prefix}/base:slim-cpu{suffix}") for name, suffix in SUFFIXES.items()}
    images = {
        name: oci.write(
            oci.Image(config={"architecture": name, "os": "linux", "config": {}}, layers=image.layers[:1], rest=())
        )
        for name, image in roots.items()
    }
    kept = {oci.digest(data): data for image in images.values() for data in (image.config,)}

    def open_(blob: oci.Descriptor) -> Iterator[bytes]:
        return iter([kept[blob.digest]]) if blob.digest in kept else layout.open(blob)

    def push(tag: str, names: tuple[str, ...]) -> None:
        written = [images[name] for name in names]
        data = oci.platform_index(written)
        parts = [(name, oci.describe(oci.MANIFEST, images[name].manifest), images[name].manifest) for name in names]
        blobs = [layer.blob for image in written for layer in image.image.layers]
        blobs += [image.config_descriptor for image in written]
        manifest = oci.describe(oci.INDEX, data)
        index = PushedImage(
            name="python", tag=tag, manifest=manifest, data=data, blobs=tuple(blobs), parts=tuple(parts)
        )
        where, stop = target(f"{server.host}/roots", where="test"), StopSignal()
        http = connect(where, login=None, authorities="", insecure=lambda: True, stop=stop)
        registry = Registry(http, tmp_path / "uploads")
        steps = decide([index], registry, where, others={}, on_progress=silent)
        list(carry_out(steps, registry, open_=open_, stop=stop, on_progress=silent))

    push("both", ("amd64", "arm64"))
    push("amd64", ("amd64",))
    project = copy_project(tmp_path)
    bake, env = project / "bake.yaml", {"BAKE_HOME": str(state_folder(project / "home"))}
    text = re.sub(r"kind: auto\b", "kind: registry", bake.read_text())
    build = ("build", "subtitles", *MODE, "--platform", "linux/arm64", "--json")
    for tag in ("amd64", "both"):
        bake.write_text(re.sub(r"reference: \S+", f"reference: {server.host}/roots/python:{tag}", text, count=1))
        done = engine.bake(*build, root=project, env=env)
        if tag == "amd64":
            assert done.code == 6, done.err
            assert "the base has no image for this platform" in done.said
            continue
        assert done.code == 0, done.err
    made = Layout(project / "home" / "layout", project / "home" / "models")
    stored = made.image(f"{engine.prefix}/subtitles:slim-cpu-arm64")
    assert stored.layers[0].diff_id == roots["arm64"].layers[0].diff_id
    assert oci.architecture(stored.written.config) == "arm64"


@ONE_STORE
def test_prune_keeps_other_platforms_until_they_are_named(engine: Engine, both: Any, layout: Layout) -> None:
    """No engine has them, so nobody else can say that they are wanted."""
    manifest = other(engine, layout, "vad").manifest
    done = engine.bake("prune", "--json")
    assert done.code == 0, done.err
    assert layout.has(manifest)
    would = engine.bake("prune", "--other-platforms", "--dry-run", "--json")
    assert would.code == 0, would.err
    assert layout.has(manifest)
    assert str(layout.path(manifest.digest)) in would.out
