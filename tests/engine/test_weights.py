"""Images carry their weights: the same files either way, in the planned order, checked at the start, moved once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from builder.core.config.types import NetworkSpec
from builder.edges.images import site as network
from tests.engine.conftest import ONE_STORE, ROOT, Engine, copy_project
from tests.shared import state_folder

CARRIERS = {"asr": "tiny.en-int8", "vad": "silero-vad", "diarize": "d-vector"}

TREE = """
import hashlib, os
seen = hashlib.sha256()
skip = {"proc", "sys", "dev", "tmp", "run", ".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"}
for root, folders, names in os.walk("/"):
    folders[:] = sorted(f for f in folders if os.path.join(root, f).lstrip("/") not in skip)
    for name in sorted([*folders, *names]):
        path = os.path.join(root, name)
        if path.lstrip("/") in skip:
            continue
        found = os.lstat(path)
        row = [path, oct(found.st_mode), found.st_uid, found.st_gid]
        if os.path.islink(path):
            row.append(os.readlink(path))
        elif os.path.isfile(path):
            row.append(hashlib.sha256(open(path, "rb").read()).hexdigest())
        seen.update(repr(row).encode())
        if path.startswith("/models/"):
            print(*row, int(found.st_mtime))
print(seen.hexdigest())
"""
"""Every file below /models, and one hash over the whole root file system."""


def tree(engine: Engine, tag: str) -> str:
    done = engine.docker("run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "python3", tag, "-c", TREE)
    assert done.code == 0, done.err
    return done.out


def test_images_carry_what_their_stage_loads(engine: Engine, built: Any) -> None:
    """Named with digests in the labels; readable by any user, writable by none; plain files, no links."""
    images = {i["name"]: i for i in built["images"]}
    for name, model in CARRIERS.items():
        assert list(images[name]["baked"]) == [model]
        labels = engine.client.images.get(images[name]["tag"]).labels
        assert labels["io.whisperbake.weights"] == "baked"
        assert labels["io.whisperbake.model-digests"] == f"{model}={images[name]['baked'][model]}"
    assert images["subtitles"]["baked"] == {}
    assert "io.whisperbake.weights" not in engine.client.images.get(images["subtitles"]["tag"]).labels
    rows = [line.split() for line in tree(engine, images["asr"]["tag"]).splitlines()[:-1]]
    assert {row[1] for row in rows} == {"0o100444", "0o40555", "0o40755"}
    assert {tuple(row[2:4]) for row in rows} == {("0", "0")}
    assert {row[-1] for row in rows} == {"0"}
    assert [r[0] for r in rows if r[1] == "0o40755"] == ["/models/.baked", "/models/ctranslate2"]


def test_layers_stand_in_the_planned_order(engine: Engine, built: Any) -> None:
    """What plan says is what the engine has; code is last."""
    planned = engine.bake("plan", "--mode", "docker-cpu", "--json").data
    (asr,) = (i for i in planned["images"] if i["name"] == "asr")
    history = engine.client.images.get(f"{engine.prefix}/asr:slim-cpu").history()
    steps = [h["CreatedBy"] for h in reversed(history) if h["Size"]]
    kinds = ["weights" if "whisperbake: weights" in step else "code" for step in steps]
    names = [block["kind"] for block in asr["order"]]
    above = len(names) - 1 - names.index("model")
    assert names[-1] == "code"
    assert above < len(names) - 1, "with 42 MB, weights are not what is heaviest"
    assert kinds == ["code"] * (len(kinds) - 1 - above) + ["weights"] + ["code"] * above
    assert planned["unpacked_again"]["code asr"] < planned["unpacked_again"]["base"]


@ONE_STORE
@pytest.mark.parametrize(
    "names",
    [("vad", "asr"), pytest.param((*CARRIERS, "subtitles"), marks=pytest.mark.heavy)],
    ids=["two", "all that carry weights"],
)
def test_the_dockerfile_way_gives_the_same_files(
    engine: Engine, built: Any, tmp_path: Path, names: tuple[str, ...]
) -> None:
    """Fetched inside build stages from the same sources, converted there; ENVIRONMENT leaves them out."""
    env = {"BAKE_REGISTRY": f"{engine.prefix}-plain"}
    assert engine.bake("render", "--mode", "docker-cpu", "--out", tmp_path / "out", env=env).code == 0

    def bake(*names: str, **more: str) -> None:
        with network.secrets(network.find(NetworkSpec(), os.environ)) as secrets:
            done = subprocess.run(
                ["docker", "buildx", "bake", "--progress", "plain", *names],
                cwd=tmp_path / "out",
                env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DOCKER_HOST": engine.host, **secrets, **more},
                capture_output=True,
                text=True,
                check=False,
            )
        assert done.returncode == 0, done.stderr[-3000:]

    try:
        bake(*names)
        for name in names:
            plain = f"{engine.prefix}-plain/{name}:slim-cpu"
            assert tree(engine, plain) == tree(engine, f"{engine.prefix}/{name}:slim-cpu")
            assert ("io.whisperbake.weights" in engine.client.images.get(plain).labels) == (name in CARRIERS)
        bake("vad", WITH_SILERO_VAD="no")
        bake("asr", ENVIRONMENT="development")
        for name in ("vad", "asr"):
            tag = f"{engine.prefix}-plain/{name}:slim-cpu"
            assert "io.whisperbake.weights" not in engine.client.images.get(tag).labels
            assert engine.docker("run", "--rm", tag, "--verify").out.strip() == "this image carries no weights"
    finally:
        for image in built["images"]:
            engine.docker("rmi", "--force", f"{engine.prefix}-plain/{image['name']}:slim-cpu")


@ONE_STORE
def test_a_container_says_before_any_work_what_its_weights_lack(engine: Engine, built: Any, tmp_path: Path) -> None:
    """By size at once, by sha256 with --verify; all of it in one list, exit 5."""
    tag = f"{engine.prefix}/asr:slim-cpu"
    listing = json.loads(
        engine.docker(
            "run",
            "--rm",
            "--entrypoint",
            "python3",
            tag,
            "-c",
            "print(open('/models/.baked/tiny.en-int8.json').read())",
        ).out
    )
    folder = "/models/" + listing["files"][0]["path"].rpartition("/")[0]
    short, other = tmp_path / "short", tmp_path / "other"
    short.write_bytes(b"x")
    size = next(f["size"] for f in listing["files"] if f["path"].endswith("tokenizer.json"))
    other.write_bytes(bytes(size))
    assert engine.docker("run", "--rm", tag, "--verify").out.strip() == "tiny.en-int8: intact"
    job = tmp_path / "job"
    job.mkdir()
    (job / "job.yaml").write_text(
        json.dumps(
            {
                "schema": 1,
                "id": "j",
                "variant": "slim",
                "inputs": [],
                "stages": [{"name": "asr", "settings": {}, "models": {}}],
            }
        )
    )
    mounts = ["--volume", f"{short}:{folder}/model.bin:ro", "--volume", f"{other}:{folder}/tokenizer.json:ro"]
    done = engine.docker("run", "--rm", *mounts, "--volume", f"{job}:/job", tag, "--job", "/job")
    assert done.code == 5
    assert done.err.strip() == "model tiny.en-int8: model.bin has 1 bytes, not 39452014"
    assert not (job / "work").exists()
    deep = engine.docker("run", "--rm", *mounts, tag, "--verify")
    assert deep.code == 5
    assert "model tiny.en-int8: tokenizer.json has a different sha256 than its list" in deep.err


def test_a_change_of_code_moves_no_weights(engine: Engine, built: Any, tmp_path: Path) -> None:
    """One small layer goes to the engine; the layers below are the ones that were there."""
    project = copy_project(tmp_path)
    home = state_folder(project / "home")
    shutil.copytree(engine.home / "layout", home / "layout")
    main = project / "stages/asr/main.py"
    main.write_text(main.read_text() + "\n# changed for weights\n")
    before = engine.layers()["asr:slim-cpu"]
    done = engine.bake("build", "asr", "--mode", "docker-cpu", "--json", root=project, env={"BAKE_HOME": str(home)})
    assert done.code == 0, done.err
    (asr,) = (i for i in done.data["images"] if i["name"] == "asr")
    assert asr["sent_bytes"] < 1_000_000
    assert engine.layers()["asr:slim-cpu"][:-1] == before[:-1]
    again = engine.bake("build", "asr", "--mode", "docker-cpu", "--json")
    assert again.code == 0, again.err


def test_a_damaged_blob_of_code_is_made_again(engine: Engine, built: Any) -> None:
    """A layout whose blobs were cut short, with an image gone: the next build repairs both."""
    layout = engine.home / "layout"
    records = json.loads((layout / "images.json").read_text())
    ref = f"{engine.prefix}/vad:slim-cpu"
    manifest = json.loads((layout / "blobs/sha256" / records[ref]["code"].partition(":")[2]).read_text())
    path = layout / "blobs/sha256" / manifest["layers"][-1]["digest"].partition(":")[2]
    path.write_bytes(path.read_bytes()[:-10])
    before = engine.layers()["vad:slim-cpu"]
    engine.docker("rmi", "--force", ref)
    done = engine.bake("build", "vad", "--mode", "docker-cpu", "--json")
    assert done.code == 0, done.err
    assert engine.layers()["vad:slim-cpu"] == before
    assert engine.docker("run", "--rm", ref, "--verify").code == 0


@ONE_STORE
def test_prune_frees_what_no_image_needs_and_says_it_first(engine: Engine, built: Any, tmp_path: Path) -> None:
    layout = engine.home / "layout"
    left = layout / "blobs/sha256" / ("0" * 64)
    left.write_bytes(b"x" * 1000)
    first = engine.bake("prune", "--dry-run", "--json")
    assert first.code == 0, first.err
    assert str(left) in {f["path"] for f in first.data["files"]}
    assert left.exists()
    assert engine.bake("prune", "--json").data["bytes"] == first.data["bytes"]
    assert not left.exists()
    again = engine.bake("build", "--mode", "docker-cpu", "--json")
    assert {i["state"] for i in again.data["images"]} == {"up to date"}
    out = tmp_path / "out"
    done = engine.bake("layout", "export", out, "asr", "vad", "--json")
    assert done.code == 0, done.err
    index = json.loads((out / "index.json").read_text())
    assert len(index["manifests"]) == 2
    assert any(p.stat().st_size > 42_000_000 for p in (out / "blobs/sha256").iterdir())


@ONE_STORE
def test_a_wrong_digest_in_the_lock_is_named(engine: Engine, built: Any, tmp_path: Path) -> None:
    """models.lock says other layers than its files make: exit 5, before there is a tag."""
    project = copy_project(tmp_path)
    home = state_folder(project / "home")
    shutil.copytree(engine.home / "layout", home / "layout")
    lock = project / "models.lock"
    text = lock.read_text()
    start = text.index("  silero-vad:")
    at = text.index("rest:", start)
    lock.write_text(text[:at] + 'rest: "sha256:' + "0" * 64 + '"' + text[text.index("\n", at) :])
    env = {"BAKE_HOME": str(home), "BAKE_REGISTRY": f"{engine.prefix}-wrong"}
    done = engine.bake("build", "vad", "--mode", "docker-cpu", "--json", root=project, env=env)
    assert done.code == 5, done.err
    assert "models.lock has another digest for layer silero-vad/rest" in done.said
    assert "models lock --layers silero-vad" in done.said
    listed = engine.client.images.list()
    assert f"{engine.prefix}-wrong/vad:slim-cpu" not in {tag for image in listed for tag in image.tags}
    for image in listed:
        for tag in image.tags:
            if tag.startswith(f"{engine.prefix}-wrong/"):
                engine.client.images.remove(tag, force=True)


@ONE_STORE
def test_no_room_is_said_before_a_byte_moves(engine: Engine, built: Any, tmp_path: Path) -> None:
    """A state folder on a full disk: exit 3."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk], check=True)
    try:
        (disk / "models").symlink_to((engine.home / "models").resolve())
        (disk / "cache").symlink_to(engine.home / "cache")
        env = {"BAKE_HOME": str(disk), "BAKE_REGISTRY": f"{engine.prefix}-none"}
        done = engine.bake("build", "vad", "--mode", "docker-cpu", "--json", env=env)
        assert done.code == 3, done.err
        assert "MB free; this needs" in done.said
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_what_ships_pins_the_layers_of_every_model_that_can_be_had(built: Any) -> None:
    """So that another machine's layers are compared with these."""
    assert (ROOT / "models.lock").read_text().count("    layers:") >= 4
