"""From an empty engine to images: what is built, how large, how often, and what a failure leaves."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from builder.edges.images import installed
from tests.engine.conftest import ONE_STORE, ROOT, Engine, copy_project, results
from tests.shared import EXAMPLE, state_folder

MB = 1_000_000
WEIGHTS = {"asr": 42_005_106, "vad": 1_245_151, "diarize": 5_695_313}
"""Bytes of the models in the images of tiny-en; budgets are for what stands beside them."""

NAMES = {"base", "base-ml", "demux", "mux", "subtitles", "vad", "asr", "align", "diarize"}


def test_every_image_of_the_mode_is_there(engine: Engine, built: Any) -> None:
    """Named, tagged, labelled, each layer counted once, and smaller than promised."""
    images = {i["name"]: i for i in built["images"]}
    assert images.keys() == NAMES
    assert "up to date" not in {i["state"] for i in images.values()}
    assert images["base"]["size_bytes"] <= 120 * MB
    assert images["asr"]["size_bytes"] - WEIGHTS["asr"] <= 290 * MB
    assert built["unique_bytes"] - sum(WEIGHTS.values()) <= 350 * MB
    for image in images.values():
        assert image["own_bytes"] + image["shared_bytes"] == image["size_bytes"]
    assert images["asr"]["models"] == ["tiny.en-int8"]
    labels = engine.client.images.get(images["asr"]["tag"]).labels
    assert re.fullmatch(r"[0-9a-f]{40}", labels["org.opencontainers.image.revision"])
    assert labels["org.opencontainers.image.base.digest"].startswith("sha256:")
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0 AND MIT"


def test_a_second_build_does_nothing(engine: Engine, built: Any) -> None:
    done = engine.bake("build", "--mode", "docker-cpu", "--json")
    assert done.code == 0, done.err
    assert {i["state"] for i in done.data["images"]} == {"up to date"}
    assert {i["up_to_date"] for i in done.data["images"]} == {True}


@ONE_STORE
def test_one_image_serves_several_presets(engine: Engine, built: Any, restored: None) -> None:
    """Built with the models of two, it is current for a job with either, and keeps both when its code changes."""
    done = engine.bake("build", "diarize", "--mode", "docker-cpu", "--preset", "tiny-en,starter", "--json")
    assert done.code == 0, done.err
    models = {"d-vector", "campplus", "segmentation-3.0"}
    assert {m for i in done.data["images"] for m in i["models"]} == models
    for preset in ("tiny-en", "starter"):
        listed = engine.bake("images", "--json", env={"BAKE_PRESET": preset})
        found = {i["name"]: i["up_to_date"] for i in listed.data}
        assert found["diarize"], preset
        assert found["asr"] == (preset == "tiny-en"), "it has no other preset's model"


@ONE_STORE
def test_native_has_the_small_set_and_takes_what_is_there(engine: Engine, built: Any) -> None:
    """The same images as docker-cpu's; together at most 220 MB."""
    done = engine.bake("build", "--mode", "native", "--json")
    assert done.code == 0, done.err
    images = done.data["images"]
    assert {i["name"]: i["state"] for i in images} == dict.fromkeys(("base", "base-ml", "demux", "mux"), "up to date")
    listed = engine.bake("images", "--json").data
    assert {i["name"] for i in listed} == NAMES
    assert done.data["unique_bytes"] <= 220 * MB


def test_no_image_dangles_and_no_package_manager_is_left(engine: Engine, built: Any) -> None:
    assert engine.docker("images", "--filter", "dangling=true", "--quiet").out == ""
    tag = f"{engine.prefix}/asr:slim-cpu"
    code = "import os, shutil; print([n for n in 'sh apt dpkg pip uv perl'.split() if shutil.which(n)], os.path.exists('/cache'))"
    done = engine.docker("run", "--rm", "--network", "none", "--entrypoint", "python3", tag, "-c", code)
    assert done.out.strip() == "[] False", done.err


def test_a_changed_line_of_a_stage_changes_one_layer_of_one_image(engine: Engine, built: Any, tmp_path: Path) -> None:
    """A comment in the code of asr must not unpack numpy again."""
    before = engine.layers()
    project = copy_project(tmp_path)
    main = project / "stages/asr/main.py"
    main.write_text(main.read_text() + "\n# changed\n")
    env = {"BAKE_HOME": str(state_folder(project / "home"))}
    done = engine.bake("build", "--mode", "docker-cpu", "--json", root=project, env=env)
    assert done.code == 0, done.err
    after = engine.layers()
    differing = {name for name in before if before[name] != after[name]}
    assert differing == {"asr:slim-cpu"}
    assert before["asr:slim-cpu"][:-1] == after["asr:slim-cpu"][:-1]
    again = engine.bake("build", "--mode", "docker-cpu", "--json")
    assert {i["name"]: i["state"] for i in again.data["images"]}["asr"] in ("built", "cached", "assembled")


@ONE_STORE
def test_a_rendered_folder_is_compared(engine: Engine, built: Any, tmp_path: Path) -> None:
    """``--check`` exits 1 on a difference."""
    done = engine.bake("render", "--mode", "docker-cpu", "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    assert engine.bake("render", "--mode", "docker-cpu", "--out", tmp_path / "out", "--check").code == 0
    (tmp_path / "out/Dockerfile").write_text("FROM scratch\n")
    checked = engine.bake("render", "--mode", "docker-cpu", "--out", tmp_path / "out", "--check", "--json")
    assert checked.code == 1


def test_collected_snapshots_are_unpacked_again(engine: Engine) -> None:
    """A containerd store may drop the snapshots of an image that it still lists: sizes are read all the same."""
    socket = Path(engine.host.removeprefix("unix://")).with_name("c.sock")
    if engine.store != "containerd" or not socket.exists():
        pytest.skip("a graph driver keeps an image's layers; another engine's containerd is not ours to touch")
    tag = f"{engine.prefix}/collected:1"
    made = subprocess.run(["tar", "-C", str(ROOT), "-c", "bake.yaml"], capture_output=True, check=True).stdout
    subprocess.run(["docker", "--host", engine.host, "import", "-", tag], input=made, capture_output=True, check=True)
    image = engine.client.images.get(tag)
    layer = image.attrs["RootFS"]["Layers"][0]
    subprocess.run(["ctr", "--address", socket, "--namespace", "moby", "snapshots", "rm", layer], check=True)
    assert engine.docker("history", tag).code != 0
    assert installed._layers(image)[0][0] == layer
    engine.docker("rmi", tag)


@ONE_STORE
def test_a_package_of_other_bytes_is_refused(engine: Engine, tmp_path: Path) -> None:
    """Exit 5; the step's last lines and the log are named; the images that were there stay."""
    project = copy_project(tmp_path)
    lock = project / "stages/subtitles/requirements-slim.txt"
    for path in project.glob("stages/*/requirements-slim.txt"):
        path.write_text(
            re.sub(
                r"(pyyaml==.*\n)((?:    --hash=sha256:)([0-9a-f]{64})( \\)?\n)+",
                rf"\1    --hash=sha256:{'0' * 64}\n",
                path.read_text(),
            )
        )
    assert "0" * 64 in lock.read_text()
    before = engine.layers()
    env = {"BAKE_HOME": str(state_folder(project / "home"))}
    failed = engine.bake("build", "base", "--mode", "docker-cpu", "--json", root=project, env=env)
    assert failed.code == 5, failed.err
    assert "not the one that is locked" in failed.said
    assert engine.layers() == before


def files_in_memory(session: int) -> set[Path]:
    """The folders of secrets that the processes of a session were given; another worker builds with its own."""
    found: set[bytes] = set()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(place.name)) == session:
                found |= set(re.findall(rb"/dev/shm/whisperbake-\w+", (place / "environ").read_bytes()))
    return {Path(os.fsdecode(name)) for name in found}


def test_ctrl_c_stops_the_build_and_leaves_nothing_dangling(engine: Engine, built: Any) -> None:
    """Exit 130 within seconds; no secret is left behind; the next build goes on."""
    before = engine.layers()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "build.py"), "build", "--mode", "docker-cpu", "--no-cache"],
        env=engine.env,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "tools" in line:
            break
    secrets = files_in_memory(process.pid)
    assert secrets
    os.killpg(process.pid, signal.SIGINT)
    began = time.monotonic()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert time.monotonic() - began < 15
    assert [path for path in secrets if path.exists()] == []
    assert engine.docker("images", "--filter", "dangling=true", "--quiet").out == ""
    assert engine.layers() == before


@pytest.mark.heavy  # every image anew; what Python 3.13 installs is tested on a bare Debian 13
@ONE_STORE
@pytest.mark.parametrize("mode", ["native", "docker-cpu"])
def test_images_of_the_next_debian(engine: Engine, native: Path, tmp_path: Path, mode: str) -> None:
    """``base.suite: trixie`` has Python 3.13: other wheels, the same sound and the same film; all stages, the same text."""
    project = copy_project(tmp_path)
    bake = project / "bake.yaml"
    bake.write_text(
        bake.read_text().replace("kind: auto ", "kind: debian ").replace("suite: bookworm", "suite: trixie")
    )
    prefix = f"{engine.prefix}-next"
    env = {
        "BAKE_HOME": str(state_folder(project / "home")),
        "BAKE_REGISTRY": prefix,
        "BAKE_JOBS": str(project / "jobs"),
    }
    built = engine.bake("build", "--mode", mode, "--progress", "plain", root=project, env=env)
    assert built.code == 0, built.err
    try:
        said = engine.docker(
            "run", "--rm", "--network", "none", "--entrypoint", "python3", f"{prefix}/demux:slim-cpu", "-V"
        )
        assert said.out.startswith("Python 3.13"), said
        words = ("run", EXAMPLE, "--mode", mode, "--threads", "2", "--batch-size", "0", "--json")
        done = engine.bake(*words, root=project, env=env)
        assert done.code == 0, done.err
        assert {"native": "media were read", "docker-cpu": "every stage ran"}[mode] in done.err
        assert "without network" in done.err
        found, wanted = results(project / "jobs" / done.data["job"]), results(native)
        # Another libm: its asr and align hear the same words, up to 20 ms earlier or later.
        same = ["demux/01.wav", "vad/01.json", "output/dialogue.txt", "output/dialogue.rttm"]
        for name in [*same, *(["output/dialogue.mp4"] if mode == "native" else [])]:
            assert found[name] == wanted[name], name
    finally:
        for image in engine.client.images.list(filters={"label": "io.whisperbake.inputs"}):
            for tag in image.tags:
                if tag.startswith(f"{prefix}/"):
                    engine.client.images.remove(tag, force=True)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (
            "base",
            "import sys, importlib as i, pkgutil as p; [i.import_module(m.name) for m in p.iter_modules([DYNLOAD])]",
        ),
        (
            "mux",
            "from PIL import Image as I, ImageDraw as D\nx = I.new('L', (40, 20))\n"
            "D.Draw(x).text((2, 2), 'a', 255); assert x.getbbox()",
        ),
        ("mux", "import av; [av.codec.Codec(c, 'w') for c in ('libx264', 'libx265', 'aac')]"),
        (
            "demux",
            "import numpy as n; assert n.linalg.svd(n.eye(3))[1].sum() == 3; n.fft.rfft(n.random.default_rng(1).random(8))",
        ),
        ("subtitles", "import docx, lxml.etree as e; assert e.fromstring('<a><b/></a>').xpath('count(//b)') == 1"),
        (
            "asr",
            "import ctranslate2 as c, numpy as n; assert c.StorageView.from_array(n.ones((2, 2), 'float32')).shape == [2, 2]",
        ),
    ],
    ids=["standard library", "letters", "codecs", "numbers", "documents", "tensors"],
)
@ONE_STORE
def test_what_is_left_of_packages_works(engine: Engine, built: Any, name: str, code: str) -> None:
    """Libraries that nothing here needs are not in an image (images/tools/prune.py, rootfs.py): none of the others needs one."""
    code = code.replace("DYNLOAD", "[p for p in sys.path if p.endswith('lib-dynload')][0]")
    tag = f"{engine.prefix}/{name}:slim-cpu"
    done = engine.docker("run", "--rm", "--network", "none", "--read-only", "--entrypoint", "python3", tag, "-c", code)
    assert done.code == 0, done.err


@ONE_STORE
def test_a_build_that_would_fill_the_disk_is_refused(engine: Engine, tmp_path: Path) -> None:
    """Before the first byte of a package: nothing is tagged, and no blob written."""
    project = copy_project(tmp_path)
    sizes = project / "images/sizes.json"
    known = json.loads(sizes.read_text())
    sizes.write_text(json.dumps({**known, **{name: 10**15 for name in known if name.startswith("ctranslate2")}}))
    home = state_folder(project / "home")
    env = {"BAKE_HOME": str(home), "BAKE_REGISTRY": f"{engine.prefix}-large"}
    done = engine.bake("build", "--mode", "docker-cpu", "--json", root=project, env=env)
    assert done.code == 3
    assert re.search(r"the disk has \d+ MB free; this needs \d+ MB", done.data["error"]["what"])
    assert not [i for i in engine.client.images.list() for tag in i.tags if f"{engine.prefix}-large/" in tag]
    assert not (home / "layout/blobs").exists()


@ONE_STORE
def test_no_engine_is_said_in_one_line(engine: Engine, tmp_path: Path) -> None:
    done = engine.bake("build", "--mode", "docker-cpu", "--json", env={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert done.code == 3
    assert json.loads(done.out)["error"]["what"].startswith("no container engine on this machine")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
@ONE_STORE
def test_no_permission_on_the_socket_is_said(engine: Engine, tmp_path: Path) -> None:
    """Asked as another user, the socket closed to others as engines make it."""
    path = Path(engine.host.removeprefix("unix://"))
    code = (
        "import sys, os; sys.path.insert(0, sys.argv[1]); from builder.edges.engine import connection as engine\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "print(engine.why_not(sys.argv[2]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), engine.host], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(("no permission", "no container engine")), done.stdout
    assert path.exists()
