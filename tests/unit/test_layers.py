"""Weight layers: the same bytes on every machine, their size known without a read, in an order that costs least."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import tarfile
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.images import assembly, oci, plan, render
from builder.core.images import graph_driver as piecewise
from builder.core.images import layer_order as order
from builder.core.images.layer_order import Block, Stack
from builder.core.terms import Mode, Purpose, Variant
from builder.core.weights import layers
from builder.core.weights.model import FilePin, HubSource, Model, Pin
from builder.errors import BuildError, IntegrityError
from tests.golden import project as fixed

MB = 1 << 20
GB = 1_000_000_000


def hub(name: str = "org/m", files: Iterable[tuple[str, int]] = (("a.json", 3), ("model.bin", 5))) -> tuple[Model, Pin]:
    model = Model(id="m", purpose=Purpose.ASR, title="", licence="MIT", sources=(HubSource(repo=name),))
    pins = tuple(FilePin(path=p, size=n, sha256=hashlib.sha256(f"{p} {n}".encode()).hexdigest()) for p, n in files)
    return model, Pin(revision="1" * 40, files=pins)


def written(layer: layers.WeightLayer) -> bytes:
    """The tar, with x for every byte of a file."""
    return b"".join(p if isinstance(p, bytes) else b"x" * p.size for p in layers.pieces(layer))


def test_a_layer_is_the_same_bytes_everywhere_and_for_ever() -> None:
    """Another digest here means that every image and every line of models.lock changes: never by accident."""
    (layer,) = layers.layers(*hub())
    data = written(layer)
    assert len(data) == layer.size
    assert hashlib.sha256(data).hexdigest() == "3263e32d1049b8d94e608b5cf2140d74c68d2ba6bae488fac0394efaecfb1bcf"


def test_a_tar_reads_as_it_was_meant() -> None:
    """Sorted, parents included, fixed owner, time and modes; read by another reader than our writer."""
    (layer,) = layers.layers(*hub())
    with tarfile.open(fileobj=io.BytesIO(written(layer))) as archive:
        found = archive.getmembers()
        listing = json.loads(archive.extractfile("models/.baked/m.json").read())  # type: ignore[union-attr]
    own = "models/hub/models--org--m"
    assert [(m.name, oct(m.mode)) for m in found] == [
        ("models", "0o755"),
        ("models/.baked", "0o755"),
        ("models/.baked/m.json", "0o444"),
        ("models/hub", "0o755"),
        (own, "0o555"),
        (f"{own}/refs", "0o555"),
        (f"{own}/refs/main", "0o444"),
        (f"{own}/snapshots", "0o555"),
        (f"{own}/snapshots/{'1' * 40}", "0o555"),
        (f"{own}/snapshots/{'1' * 40}/a.json", "0o444"),
        (f"{own}/snapshots/{'1' * 40}/model.bin", "0o444"),
    ]
    assert {(m.uid, m.gid, m.mtime, m.uname) for m in found} == {(0, 0, 0, "")}
    assert [f["path"].rpartition("/")[2] for f in listing["files"]] == ["a.json", "model.bin"]


def test_a_large_file_has_a_layer_of_its_own() -> None:
    """From 64 MiB on; the rest of the model shares one."""
    made = layers.layers(*hub(files=[("a", 64 * MB - 1), ("b", 64 * MB), ("c", 10 * GB)]))
    assert [layer.name for layer in made] == ["m/b", "m/c", "m/rest"]
    assert [layer.size > layers.LARGEST for layer in made] == [False, True, False]


@given(st.lists(st.tuples(st.text("ab/é.", min_size=1, max_size=180), st.integers(0, 3000)), max_size=5))
def test_the_size_is_known_before(files: list[tuple[str, int]]) -> None:
    """Whatever names: long ones, those outside ASCII."""
    named = {f"f/{k}{name.replace('/', '_')}": size for k, (name, size) in enumerate(files)}
    for layer in layers.layers(*hub(files=named.items())):
        assert len(written(layer)) == layer.size


def test_layers_are_folded_past_the_limit() -> None:
    """The smallest together, in the place of the first; nothing is lost."""
    model, pin = hub()
    made = [
        layers.layers(Model(id=f"m{k}", purpose=model.purpose, title="", licence="", target=f"t/m{k}"), pin)[0]
        for k in range(7)
    ]
    folded = layers.fold(made, 3)
    assert len(folded) == 3
    assert {m.path for layer in folded for m in layer.members} == {m.path for layer in made for m in layer.members}
    assert {m for layer in folded for m in layer.models} == {f"m{k}" for k in range(7)}
    for layer in folded:
        assert len(written(layer)) == layer.size
    assert layers.fold(made, 7) == tuple(made)


# Order


def stack(image: str, models: dict[str, int], **blocks: int) -> Stack:
    kinds = {"base": "base", "code": "code"}
    own = tuple(
        Block(name=f"{n} {image}" if n == "code" else n, kind=kinds.get(n, "requirement"), size=s)
        for n, s in blocks.items()
    )
    return Stack(image=image, blocks=own, models=tuple(Block(name=n, kind="model", size=s) for n, s in models.items()))


def names(found: dict[str, tuple[Block, ...]], image: str) -> list[str]:
    return [b.name for b in found[image]]


@pytest.mark.parametrize(
    ("weights", "libraries", "expected"),
    [
        (3 * GB, GB // 3, ["w", "base", "libraries", "code a"]),
        (75_000_000, 7 * GB, ["base", "libraries", "w", "code a"]),
        (1_000_000, GB // 3, ["base", "libraries", "w", "code a"]),
    ],
)
def test_the_heavier_of_weights_and_dependencies_stands_lowest(
    weights: int, libraries: int, expected: list[str]
) -> None:
    """Code is last, whatever else."""
    found = order.arrange([stack("a", {"w": weights}, base=60_000_000, libraries=libraries, code=100_000)])
    assert names(found, "a") == expected


def test_what_images_share_stands_below_what_they_do_not() -> None:
    """The shared weights first, then each one's own; and one chain of them for all."""
    stacks = [stack(n, {f"own {n}": 2 * GB, "shared": 2 * GB}, base=60_000_000, code=100_000) for n in "abc"]
    found = order.arrange(stacks)
    for name in "abc":
        assert names(found, name)[:2] == ["shared", f"own {name}"]
    small = order.arrange([stack(n, {f"own {n}": 1_000_000}, base=60_000_000, code=100_000) for n in "abc"])
    assert {names(small, n)[0] for n in "abc"} == {"base"}, "a base is not unpacked thrice for a megabyte of weights"


def test_a_model_that_is_added_stands_on_those_that_were_there() -> None:
    """Time follows the new model's bytes: the chain below stays."""
    before = order.arrange([stack("a", {"one": 2 * GB, "two": GB}, base=60_000_000, code=100_000)])
    after = order.arrange([stack("a", {"one": 2 * GB, "two": GB, "three": 3 * GB}, base=60_000_000, code=100_000)])
    assert names(after, "a")[:2] == names(before, "a")[:2]
    assert names(after, "a").index("three") == 2


def test_no_dependency_is_unpacked_again_for_a_small_model() -> None:
    before = order.arrange([stack("a", {"one": 20 * MB}, base=60_000_000, libraries=2 * GB, code=100_000)])
    after = order.arrange(
        [stack("a", {"one": 20 * MB, "two": 30 * MB}, base=60_000_000, libraries=2 * GB, code=100_000)]
    )
    assert names(before, "a")[:2] == names(after, "a")[:2] == ["base", "libraries"]
    assert order.again(after, "two") == 30 * MB + 100_000


@given(st.lists(st.integers(1, 4000), min_size=3, max_size=3), st.lists(st.integers(1, 4000), max_size=2))
def test_no_single_image_has_a_cheaper_order(blocks: list[int], models: list[int]) -> None:
    """Against every possible order of one image that keeps its models' own, tried by hand."""
    base, libraries, code = blocks
    found = stack("a", {f"m{k}": s for k, s in enumerate(models)}, base=base, libraries=libraries, code=code)
    best = order.cost(order.arrange([found]))
    for choice in itertools.combinations_with_replacement(range(3), len(models)):
        assert best <= order.cost({"a": order.merged(found, found.models, choice)}) + 1e-6


# Images


def code_image(count: int) -> oci.Image:
    layer_list = []
    for k in range(count):
        digest = oci.digest(str(k).encode())
        blob = oci.Descriptor(media_type=oci.TAR, digest=digest, size=1)
        layer_list.append(oci.Layer(blob=blob, diff_id=digest, history={"created_by": f"step {k}", "created": "later"}))
    config = {
        "created": "2020-01-01T00:00:00Z",
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {"a": "b"}},
    }
    return oci.Image(config=config, layers=tuple(layer_list), rest=((1, {"created_by": "ENV", "empty_layer": True}),))


def test_weights_join_the_layers_of_the_code() -> None:
    """Diff ids, blobs and history agree; the code's own layers keep their order; empty entries stay where they were."""
    blocks = [
        Block(name="base", kind="base", size=1),
        Block(name="model m", kind="model", size=1),
        Block(name="libraries x", kind="requirement", size=1),
        Block(name="code a", kind="code", size=1),
    ]
    model, pin = hub(files=[("model.bin", 64 * MB), ("small", 3)])
    found = assembly.slots(blocks, [(model, pin)], 4, "image")
    assert [s.code if s.weights is None else s.weights.name for s in found] == [0, 1, "m/model.bin", "m/rest", 2, 3]
    baked = {
        s.weights.name: oci.weight_layer(oci.digest(s.weights.name.encode()), s.weights.size, s.weights.name)
        for s in found
        if s.weights
    }
    made = assembly.joined(code_image(4), found, baked, {"c": "d"})
    again = oci.read(made.manifest, made.config, "here")
    config = json.loads(made.config)
    assert [layer.diff_id for layer in again.layers] == config["rootfs"]["diff_ids"]
    assert [h["created_by"] for h in config["history"]] == [
        "step 0",
        "ENV",
        "step 1",
        "whisperbake: weights of m/model.bin",
        "whisperbake: weights of m/rest",
        "step 2",
        "step 3",
    ]
    assert {h["created"] for h in config["history"]} == {"2020-01-01T00:00:00Z"}
    assert config["config"]["Labels"] == {"a": "b", "c": "d"}
    assert oci.write(again).manifest == made.manifest


def test_an_image_that_lacks_layers_is_refused() -> None:
    blocks = [Block(name=str(k), kind="requirement", size=1) for k in range(5)]
    with pytest.raises(BuildError, match="fewer than planned"):
        assembly.slots(blocks, [], 4, "image")
    made = oci.write(code_image(2))
    broken = json.loads(made.config)
    broken["rootfs"]["diff_ids"].pop()
    with pytest.raises(IntegrityError, match="not an image"):
        oci.read(made.manifest, json.dumps(broken).encode(), "here")


def test_a_place_kept_free_for_a_model_is_no_layer() -> None:
    """A Dockerfile that leaves weights out copies an empty folder: its layer goes, with its history."""
    image = code_image(3)
    empty = oci.Layer(blob=image.layers[1].blob, diff_id=oci.EMPTY, history={"created_by": "COPY nothing"})
    made = oci.write(oci.Image(config=image.config, layers=(image.layers[0], empty, image.layers[2]), rest=image.rest))
    again = oci.read(made.manifest, made.config, "here")
    assert [layer.history["created_by"] for layer in again.layers] == ["step 0", "step 2"]
    assert again.rest[0][0] == 1


def test_no_image_has_more_layers_than_an_engine_takes() -> None:
    """120 models of one large file each: 100 layers with the code's."""
    many = []
    for k in range(120):
        model = Model(id=f"m{k}", purpose=Purpose.OTHER, title="", licence="", target=f"onnx/m{k}")
        many.append((model, Pin(revision="1", files=(FilePin(path="m", size=(65 + k) * MB, sha256="0" * 64),))))
    blocks = [
        Block(name="base", kind="base", size=1),
        *(Block(name=f"model {m.id}", kind="model", size=1) for m, _ in many),
        Block(name="code", kind="code", size=1),
    ]
    found = assembly.slots(blocks, many, 5, "image")
    assert len(found) == layers.MOST


# Layer by layer


def test_a_layer_is_made_again_only_when_what_it_is_made_of_changes() -> None:
    """A change of asr's code leaves the keys of every other layer."""
    made = fixed.rendered(Mode.DOCKER_CPU, Variant.SLIM, fixed.DEBIAN)
    settings = fixed.read({"mode": "docker-cpu"})
    planned = plan.plan(settings, locks=fixed.LOCKS, base=fixed.DEBIAN, models=fixed.models(settings))

    def keys(files: dict[str, str]) -> dict[str, str]:
        return {p.stage: p.key for i in planned.images for p in piecewise.parts(planned, i, files, "sha256:0")}

    before, after = keys(made), keys({**made, "stages/asr/main.py": "changed\n"})
    assert {stage for stage in before if before[stage] != after[stage]} == {"code-asr"}
    assert keys({**made, "tools/steps.py": "changed\n"}).items().isdisjoint(before.items())
    targets = json.loads(piecewise.bake_file({"code-asr": "/tmp/x.tar"}, made))["target"]
    assert targets["code-asr"]["args"]["SOURCE_DATE_EPOCH"] == render.EPOCH, "a commit's time would change every layer"


def test_the_config_is_what_the_dockerfile_says() -> None:
    """Environment, user and entry point of the parents too; labels with their variables filled in."""
    made = fixed.rendered(Mode.DOCKER_CPU, Variant.SLIM, fixed.DEBIAN)
    settings = fixed.read({"mode": "docker-cpu"})
    planned = plan.plan(settings, locks=fixed.LOCKS, base=fixed.DEBIAN, models=fixed.models(settings))
    blob = oci.Descriptor(media_type=oci.TAR, digest=oci.digest(b"1"), size=1)
    image = piecewise.image(
        planned,
        planned.image("asr"),
        [blob],
        made,
        {"REVISION": "abc"},
        created="2020-01-01T00:00:00Z",
        architecture="arm64",
        base=None,
    )
    config = json.loads(image.config)
    assert config["architecture"] == "arm64"
    assert config["config"]["User"] == "1000:0"
    assert config["config"]["Entrypoint"][-1] == "/opt/bake/stages/asr/main.py"
    assert {"HF_HUB_OFFLINE=1", "BAKE_MODELS=/models", piecewise.PATH} <= set(config["config"]["Env"])
    assert config["config"]["Labels"]["org.opencontainers.image.revision"] == "abc"
    assert assembly.BAKED not in config["config"]["Labels"]
    assert render.plain_labels(made, planned.image("asr"))["io.whisperbake.models"] == "base"
