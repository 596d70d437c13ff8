"""Images of another platform: what is rendered for them, what they share, and what they never run."""

from __future__ import annotations

import functools
import json
import re
import struct
from pathlib import Path

import pytest

from builder.core import platforms
from builder.core.images import oci, plan, render
from builder.core.images.build_log import BuildLog
from builder.core.images.oci import Layer, Written
from builder.core.platforms import Platform
from builder.core.terms import LABEL, Mode
from builder.edges.images import build, rootfs
from builder.edges.images.layout import Layout
from builder.edges.images.rendered import context, rendered
from builder.edges.machine import project
from builder.errors import UsageError
from builder.workflows.layout import _assembled
from tests import small_project
from tests.golden import project as fixed
from tests.unit.test_image_tools import tool

ROOT = Path(__file__).resolve().parents[2]
ARM64 = fixed.ARM64


@functools.cache
def made(platform: Platform | None = ARM64, mode: Mode = Mode.DOCKER_CPU) -> plan.Plan:
    settings = fixed.read({"mode": mode.value})
    models = fixed.models(settings)
    return plan.plan(settings, locks=fixed.LOCKS, base=fixed.DEBIAN, models=models, platform=platform)


def keys(platform: Platform | None, *, templates: str = "", tool: str = "") -> dict[str, str]:
    """Image -> its key, with some of what other platforms are made by changed."""
    texts = {n: text + (templates if n.startswith("foreign/") else "") for n, text in fixed.templates().items()}
    files = {**fixed.CONTEXT, render.FOREIGN: "foreign\n" + tool}
    bake = json.loads(render.render(made(platform), texts, files, version="1")["docker-bake.json"])
    return {name: target["labels"][f"{LABEL}inputs"] for name, target in bake["target"].items()}


def test_platforms_are_named_as_docker_names_them() -> None:
    parsed = platforms.parse("linux/amd64, linux/arm64,linux/amd64", where="--platform")
    assert [p.name for p in parsed] == ["linux/amd64", "linux/arm64"]
    assert platforms.parse(None, where="--platform") == ()
    assert platforms.foreign(parsed, "amd64") == (ARM64,)
    for text in ("", " , ", "arm64", "linux/arm64/v8", "linux/riscv64", "windows/amd64", "linux/amd64;linux/arm64"):
        with pytest.raises(UsageError, match=r"platform|no images"):
            platforms.parse(text, where="--platform")


def test_an_image_of_another_platform_has_a_name_of_its_own() -> None:
    """The engine's own keeps its tag, and nothing of the other's can take it."""
    own, other = made(None), made()
    assert [f"{i.tag}-arm64" for i in own.images] == [i.tag for i in other.images]
    assert [i.name for i in own.images] == [i.name for i in other.images]
    with pytest.raises(UsageError, match="images for GPUs"):
        made(ARM64, Mode.DOCKER_GPU)


def test_other_platforms_don_t_make_the_engine_s_own_images_again() -> None:
    """Who never asks for them keeps the ids of images, whatever changes in how the others are made."""
    assert keys(None) == keys(None, templates="# changed\n") == keys(None, tool="changed\n")
    assert render.FOREIGN not in fixed.rendered(*fixed.CASES["docker-cpu-slim"])
    other = keys(ARM64)
    for changed in (keys(ARM64, templates="# changed\n"), keys(ARM64, tool="changed\n"), keys(None)):
        assert not set(other.items()) & set(changed.items())


@pytest.mark.parametrize("case", ["docker-cpu-slim-arm64", "docker-cpu-full-arm64"])
def test_no_build_step_runs_in_a_root_of_the_other_platform(case: str) -> None:
    """Without an emulator it would fail there; with one that happens to be registered, it would take minutes."""
    text = fixed.rendered(*fixed.CASES[case])["Dockerfile"].replace("\\\n", " ")
    on_builder: dict[str, bool] = {}
    stage, steps = "", 0
    for line in text.splitlines():
        if found := re.fullmatch(r"FROM (--platform=\$BUILDPLATFORM )?(\S+) AS (\S+)", line):
            explicit, below, stage = found.groups()
            on_builder[stage] = bool(explicit) or on_builder.get(below, False)
        elif line.startswith("RUN "):
            steps += 1
            assert on_builder[stage], f"{stage}: {line}"
    assert steps > 10
    assert not on_builder["root"]
    assert not on_builder["asr"], "images are of the other platform"


def test_layers_have_one_order_on_all_platforms() -> None:
    """Weights lie as deep on each, so that an index shares what an engine has unpacked in neither."""
    config = project.load(ROOT, env={}, overrides={"mode": "docker-cpu"})
    models = [(config.models[name], config.pins[name]) for name in ("tiny.en", "silero-vad")]
    own, other = (rendered(config, fixed.DEBIAN, models, platform=platform) for platform in (None, ARM64))
    assert own.order == other.order
    assert own.fingerprints.keys() == other.fingerprints.keys()
    assert not set(own.fingerprints.values()) & set(other.fingerprints.values())
    assert render.FOREIGN in context(ROOT)


def test_root_file_systems_of_platforms_are_kept_apart(tmp_path: Path) -> None:
    paths = {rootfs._path(fixed.DEBIAN, ["python3"], tmp_path, p) for p in (None, *platforms.ALL)}
    assert len(paths) == 3


def written(architecture: str, *layers: Layer, **more: str) -> Written:
    config = {"architecture": architecture, "os": "linux", "config": {"Labels": {"who": architecture}}, **more}
    return oci.write(oci.Image(config=config, layers=layers, rest=()))


def test_an_index_says_what_each_config_says() -> None:
    """By the configs' own words, in one order whatever was asked for; never two manifests for one platform."""
    weights = oci.weight_layer("sha256:" + "ab" * 32, 2048, "tiny.en")
    amd64, arm64 = written("amd64", weights), written("arm64", weights, variant="v8")
    data = oci.platform_index([amd64, arm64])
    assert data == oci.platform_index([arm64, amd64])
    value = json.loads(data)
    assert value["mediaType"] == oci.INDEX
    assert [m["platform"] for m in value["manifests"]] == [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm64", "variant": "v8"},
    ]
    assert [m["digest"] for m in value["manifests"]] == [oci.digest(amd64.manifest), oci.digest(arm64.manifest)]
    with pytest.raises(ValueError, match="one platform"):
        oci.platform_index([amd64, written("amd64")])


def test_labels_of_an_image_that_is_not_whole_are_none(tmp_path: Path) -> None:
    """What was lost of another platform's image is assembled again: no engine has it."""
    layout = Layout(tmp_path / "layout", tmp_path)
    assert layout.labels("x:1") == {}
    image = written("arm64")
    config = layout.put(image.config)
    layout.record("x:1", {"manifest": layout.put(image.manifest), "platform": "linux/arm64"})
    assert layout.labels("x:1") == {"who": "arm64"}
    layout.path(config).unlink()
    assert layout.labels("x:1") == {}


def test_an_export_has_other_platforms_only_by_their_whole_name(tmp_path: Path) -> None:
    """``docker load`` would take what is in it, whatever the engine can run."""
    layout = Layout(tmp_path / "layout", tmp_path)
    for tag, more in (("slim-cpu", {}), ("slim-cpu-arm64", {"platform": "linux/arm64"})):
        layout.record(f"wb/asr:{tag}", {"manifest": "sha256:1", **more})
    assert _assembled(layout, []) == _assembled(layout, ["asr"]) == ["wb/asr:slim-cpu"]
    assert _assembled(layout, ["wb/asr:slim-cpu-arm64"]) == ["wb/asr:slim-cpu-arm64"]


def test_what_can_t_be_is_said_before_an_engine_is_asked(tmp_path: Path) -> None:
    """Native jobs run here alone; a folder that is rendered has one Dockerfile."""
    root = small_project.make(tmp_path, {}, fill=False)
    none = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    native = small_project.bake(root, "build", "--mode", "native", "--platform", "linux/arm64", env=none)
    assert (native.code, "native jobs run on this machine" in native.err) == (2, True), native.err
    several = small_project.bake(root, "render", "--platform", "linux/arm64,linux/amd64", env=none)
    assert (several.code, "for one platform" in several.err) == (2, True), several.err


def test_a_base_without_the_platform_is_said_in_our_words(tmp_path: Path) -> None:
    """BuildKit's own text says neither which base nor what to do."""
    log = tmp_path / "build.log"
    log.write_text("#3 ERROR: no match for platform in manifest: not found\n")
    failure = build._failure(BuildLog(tags={}), "buildx ended with 1", log)
    assert failure.what == "the base has no image for this platform"
    assert failure.exit_code == 6
    assert failure.hint == "base.kind: debian in bake.yaml"


def elf(path: Path, machine: int, *, big: bool = False) -> None:
    order = ">" if big else "<"
    ident = b"\x7fELF\x02" + (b"\x02" if big else b"\x01") + bytes(10)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ident + struct.pack(f"{order}HH", 3, machine) + bytes(40))


def test_a_program_of_another_machine_ends_the_build(tmp_path: Path) -> None:
    """A wheel that calls itself pure, or a root of another platform, is not found out by the first user."""
    foreign = tool("foreign")
    elf(tmp_path / "a.so", 183)
    (tmp_path / "text.py").write_text("x")
    (tmp_path / "link").symlink_to("/bin/sh")
    foreign.refuse_others(tmp_path, "aarch64")
    elf(tmp_path / "deep/big", 183, big=True)
    foreign.refuse_others(tmp_path, "aarch64")
    elf(tmp_path / "deep/b", 62)
    with pytest.raises(SystemExit, match="not for aarch64: deep/b"):
        foreign.refuse_others(tmp_path, "aarch64")
    elf(tmp_path / "deep/b", 40)
    assert foreign.machine_of(tmp_path / "deep/b") == "machine 40"
    with pytest.raises(SystemExit, match="deep/b"):
        foreign.refuse_others(tmp_path, "aarch64")


def test_wheels_may_ask_for_the_c_library_that_images_have(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = tool("foreign")
    monkeypatch.setattr(foreign.os, "confstr", lambda name: {"CS_GNU_LIBC_VERSION": "glibc 2.36"}[name])
    assert foreign.platform("aarch64") == "aarch64-manylinux_2_36"
    monkeypatch.setattr(foreign.os, "confstr", lambda name: {"CS_GNU_LIBC_VERSION": "glibc 2.55"}[name])
    assert foreign.platform("aarch64") == "aarch64-manylinux_2_40"
