"""What a push sends, from real images to a real registry, and that a plain engine runs what it pulls from there."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import parse_wheel_filename

from builder.edges.images.code_image import ChunkStream, unpacked
from builder.edges.images.layout import Layout
from builder.edges.registry import blobs as registry
from tests.engine import private_engine
from tests.engine.conftest import OTHER_STORE, ROOT, Engine, copy_project
from tests.process.registry_server import PASSWORD, USER, Proxy, Seen, Server, htpasswd, proxy
from tests.process.registry_server import registry as run_registry

MODE = ("--mode", "docker-cpu")
ALONE = (*MODE, "--no-papers")
"""Where bytes are counted: those of images."""


@pytest.fixture(scope="module")
def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def line(server: Server) -> Iterator[Proxy]:
    with proxy(server.port) as found:
        yield found


@pytest.fixture(scope="module")
def pushed(engine: Engine, built: Any, line: Proxy) -> Any:
    """All images, pushed to an empty repository; the command's own summary, and as ``wire`` what the registry got."""
    line.seen.clear()
    dry = engine.bake("push", *ALONE, "--registry", f"{line.host}/wb", "--dry-run", "--json")
    assert dry.code == 0, dry.err
    assert {s.method for s in line.seen} == {"GET", "HEAD"}, "a dry run changed something"
    done = engine.bake("push", *ALONE, "--registry", f"{line.host}/wb", "--json")
    assert done.code == 0, done.err
    assert dry.data["sent_bytes"] == done.data["sent_bytes"]
    return {**done.data, "wire": line.body_bytes()}


def test_each_layer_of_the_set_is_sent_once(engine: Engine, built: Any, pushed: Any) -> None:
    """Nine images share their lower layers: the bytes on the line are those of distinct blobs, and the manifests."""
    wire = pushed["wire"]
    sizes: dict[str, int] = {}
    for image in pushed["images"]:
        assert image["state"] == "pushed"
        manifest = json.loads((engine.home / "layout" / blob(image["digest"])).read_bytes())
        sizes |= {b["digest"]: b["size"] for b in [manifest["config"], *manifest["layers"]]}
    assert pushed["sent_bytes"] == sum(sizes.values())
    assert wire == pushed["on_the_wire_bytes"]
    assert wire - pushed["sent_bytes"] < 50_000, "more than the manifests was sent beside the blobs"
    assert sum(i["mounted_bytes"] for i in pushed["images"]) > 100_000_000
    asr = next(image["digest"] for image in pushed["images"] if image["name"] == "asr")
    manifest = json.loads((engine.home / "layout" / blob(asr)).read_bytes())
    kinds = {layer["mediaType"] for layer in manifest["layers"]} | {
        manifest["mediaType"],
        manifest["config"]["mediaType"],
    }
    assert all(kind.startswith("application/vnd.oci.image.") for kind in kinds)


def blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def test_a_second_push_sends_nothing(engine: Engine, pushed: Any, line: Proxy) -> None:
    """One question for each tag of an image."""
    line.seen.clear()
    again = engine.bake("push", *ALONE, "--registry", f"{line.host}/wb", "--json")
    assert again.code == 0, again.err
    assert {i["state"] for i in again.data["images"]} == {"up to date"}
    assert line.body_bytes() == 0
    assert len(line.seen) == sum(1 + len(image["also"]) for image in pushed["images"]) + 1


def test_papers_name_what_real_images_have(engine: Engine, pushed: Any, line: Proxy, tmp_path: Path) -> None:
    """Debian's packages with version and hash, and of each package the wheel that uv took: its tags are those in the image.

    A second push asks one question for each tag of an image and two for its papers, and sends nothing."""
    first = engine.bake("push", *MODE, "--registry", f"{line.host}/wb", "--json")
    assert first.code == 0, first.err
    stages = [image for image in first.data["images"] if image["name"] != "weights"]
    assert len(first.data["papers"]) == 4 * len(stages)
    line.seen.clear()
    again = engine.bake("push", *MODE, "--registry", f"{line.host}/wb", "--json")
    assert {paper["state"] for paper in again.data["papers"]} == {"up to date"}
    assert line.body_bytes() == 0
    assert len(line.seen) == sum(1 + len(image["also"]) for image in first.data["images"]) + 2 * len(stages) + 1
    done = engine.bake("images", "asr", "--sbom", "cyclonedx", "--out", tmp_path)
    assert done.code == 0, done.err
    parts = json.loads((tmp_path / "asr-slim-cpu.cdx.json").read_text())["components"]
    debian = [p for p in parts if p.get("purl", "").startswith("pkg:deb/")]
    assert {"libc6", "python3-minimal", "ca-certificates"} <= {p["name"] for p in debian}
    assert all(p["version"] and p["hashes"][0]["content"] for p in debian)
    wheels = {p["name"]: p["properties"][0]["value"] for p in parts if p.get("purl", "").startswith("pkg:pypi/")}
    tags = installed(engine.home, first.data, "asr")
    assert set(wheels) == set(tags)
    assert {"numpy", "ctranslate2", "faster-whisper"} <= set(wheels)
    wrong = {
        name: (file, tags[name])
        for name, file in wheels.items()
        if name != "jellyfish" and not {str(tag) for tag in parse_wheel_filename(file)[3]} & tags[name]
    }  # (jellyfish's own file has its tags in one.)
    assert wrong == {}


def installed(home: Path, data: Any, name: str) -> dict[str, set[str]]:
    """Package -> the tags of its wheel, as an image has them."""
    layout = Layout(home / "layout", home / "models")
    [digest] = [image["digest"] for image in data["images"] if image["name"] == name]
    found: dict[str, set[str]] = {}
    for layer in layout.stored(name, digest).layers:
        if layout.is_weights(layer.blob.digest):
            continue
        stream = ChunkStream(unpacked(layer.blob, layout.open(layer.blob)))
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                match = re.fullmatch(r"opt/bake/lib/([^/-]+)-[^/]+\.dist-info/WHEEL", member.name.removeprefix("./"))
                if match and (source := archive.extractfile(member)):
                    package = re.sub(r"[-_.]+", "-", match[1]).lower()
                    found[package] = set(re.findall(r"^Tag: (\S+)", source.read().decode(), re.MULTILINE))
    return found


def test_a_plain_engine_pulls_and_runs_what_was_pushed(
    engine: Engine, pushed: Any, server: Server, tmp_path: Path
) -> None:
    """A fresh engine: the same image id, the same weights byte for byte, and no network."""
    if why := private_engine.why_not():
        assert os.environ.get("CI", "").lower() not in ("1", "true"), why
        pytest.skip(why)
    image = next(i for i in pushed["images"] if i["name"] == "asr")
    reference = f"{server.host}/wb/asr:slim-cpu"
    with private_engine.engine(engine.store) as host:
        plain = Engine(host, engine.store, "", tmp_path)
        pulled = plain.docker("pull", "--quiet", reference)
        assert pulled.code == 0, pulled.err
        assert image["digest"] in plain.docker("image", "inspect", "--format", "{{.RepoDigests}}", reference).out
        mine = engine.client.images.get(f"{engine.prefix}/asr:slim-cpu").id
        assert plain.client.images.get(reference).id == mine
        shown = plain.docker("run", "--rm", "--network", "none", reference, "--help")
        assert shown.code == 0, shown.err
        code = (
            "import hashlib, pathlib\n"
            "for p in sorted(pathlib.Path('/models').rglob('*.bin')): print(hashlib.sha256(p.read_bytes()).hexdigest())"
        )
        hashed = plain.docker("run", "--rm", "--network", "none", "--entrypoint", "python3", reference, "-c", code)
        assert "728f2bcbf40a42cbf7ba9ecac6e35662355df23056ec0ba01e09583993c44319" in hashed.out, hashed.err


@OTHER_STORE
def test_a_changed_line_of_code_sends_the_layer_of_code_only(
    engine: Engine, pushed: Any, line: Proxy, tmp_path: Path
) -> None:
    """The weights below the code are there already. Before the build a push refuses: exit 3."""
    project = copy_project(tmp_path)
    main = project / "stages/asr/main.py"
    main.write_text(main.read_text() + "\n# changed\n")
    stale = engine.bake("push", "asr", *MODE, "--registry", f"{line.host}/wb", root=project)
    assert stale.code == 3
    assert "asr: not of today's code" in stale.said
    assert "build.py build" in stale.said
    try:
        assert engine.bake("build", *MODE, root=project).code == 0
        line.seen.clear()
        done = engine.bake("push", *ALONE, "--registry", f"{line.host}/wb", "--json", root=project)
        assert done.code == 0, done.err
        assert {i["name"]: i["state"] for i in done.data["images"] if i["state"] == "pushed"} == {"asr": "pushed"}
        digest = next(i["digest"] for i in done.data["images"] if i["name"] == "asr")
        manifest = json.loads((engine.home / "layout" / blob(digest)).read_bytes())
        code = manifest["layers"][-1]["size"]
        assert done.data["sent_bytes"] == code + manifest["config"]["size"], (
            "more than the layer of the stage's own code"
        )
        assert code < 500_000
        assert line.body_bytes() - done.data["sent_bytes"] < 50_000
    finally:
        assert engine.bake("build", *MODE).code == 0  # what other tests stand on


@OTHER_STORE
def test_a_push_that_was_killed_goes_on(engine: Engine, built: Any, line: Proxy) -> None:
    """kill -9 in the middle of the weights: no tag of it, and the rest alone is sent."""
    held, go = threading.Event(), threading.Event()

    def hold(seen: Seen) -> int | None:
        if seen.method == "PATCH" and len([s for s in line.seen if s.method == "PATCH"]) > 6:
            held.set()
            go.wait(60)
            raise ConnectionError
        return None

    line.seen.clear()
    line.fault = hold
    arguments = ["push", "asr", *ALONE, "--registry", f"{line.host}/killed", "--json"]
    first = subprocess.Popen(
        [sys.executable, str(ROOT / "build.py"), *arguments],
        env=engine.env,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert held.wait(60)
        time.sleep(1)  # the answers to the chunks before are read
        first.send_signal(signal.SIGKILL)
        first.wait()
    finally:
        line.fault = lambda _: None
        go.set()
    before = sum(s.body for s in line.seen if s.status < 300 and s.status)
    line.seen.clear()
    done = engine.bake(*arguments)
    assert done.code == 0, done.err
    (image,) = done.data["images"]
    assert image["state"] == "pushed"
    manifest = (engine.home / "layout" / blob(image["digest"])).stat().st_size * (1 + len(image["also"]))
    assert before > 4 * registry.CHUNK  # six chunks passed, of which the last of a blob is shorter
    assert before + line.body_bytes() == image["bytes"] + manifest


@OTHER_STORE
def test_a_registry_that_goes_away_is_exit_4(engine: Engine, built: Any, line: Proxy) -> None:
    """In the middle of a push; what to type is said."""

    def gone(seen: Seen) -> int | None:
        if any(s.method == "PATCH" for s in line.seen):
            raise ConnectionError
        return None

    line.seen.clear()
    line.fault = gone
    try:
        done = engine.bake("push", "asr", *MODE, "--registry", f"{line.host}/gone", "--json")
    finally:
        line.fault = lambda _: None
    assert done.code == 4, done.err
    assert "the registry is gone" in done.said
    assert "same command again" in done.said


@OTHER_STORE
def test_a_wrong_password_is_exit_4_and_is_nowhere(engine: Engine, built: Any, tmp_path: Path) -> None:
    """From Docker's own config.json; then the right one, from a credential helper."""
    settings = tmp_path / "docker"
    settings.mkdir()
    env = {"DOCKER_CONFIG": str(settings), "PATH": f"{settings}:{os.environ['PATH']}"}
    with run_registry(tmp_path / "registry", auth=htpasswd(tmp_path / "registry")) as guarded:
        wrong = base64.b64encode(f"{USER}:purple horse".encode()).decode()
        (settings / "config.json").write_text(json.dumps({"auths": {guarded.host: {"auth": wrong}}}))
        arguments = ("push", "subtitles", *MODE, "--registry", f"{guarded.host}/private", "--json")
        done = engine.bake(*arguments, env=env)
        assert done.code == 4
        assert f"docker login {guarded.host}" in done.said
        assert "horse" not in done.out + done.err
        assert wrong not in done.out + done.err
        helper = settings / "docker-credential-tests"
        helper.write_text(f'#!/bin/sh\necho \'{{"Username":"{USER}","Secret":"{PASSWORD}"}}\'\n')
        helper.chmod(0o755)
        (settings / "config.json").write_text(json.dumps({"credsStore": "tests"}))
        done = engine.bake(*arguments, env=env)
        assert done.code == 0, done.err
        assert done.data["images"][0]["state"] == "pushed"


@OTHER_STORE
def test_two_pushes_at_once_send_each_blob_once(engine: Engine, built: Any, line: Proxy) -> None:
    """The second waits, and finds there what the first sent."""
    line.seen.clear()
    arguments = ["push", "demux", *ALONE, "--registry", f"{line.host}/twice", "--json"]
    both = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "build.py"), *arguments],
            env=engine.env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    found = [json.loads(out)["images"][0] for out, _ in said]
    assert sorted(image["state"] for image in found) == ["pushed", "up to date"]
    manifest = (engine.home / "layout" / blob(found[0]["digest"])).stat().st_size * (1 + len(found[0]["also"]))
    assert line.body_bytes() == found[0]["bytes"] + manifest
