"""Bundles as plans: what goes where, what a receiver lacks, what two inventories differ in; the loader as one file."""

from __future__ import annotations

import ast
import json
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from builder.core.bundle import contents
from builder.core.bundle import plan as core
from builder.core.bundle.image import BundledImage, full_name, platform
from builder.core.images.oci import digest
from builder.core.jobs import sandbox
from builder.edges.bundle import folder as edge
from builder.errors import UsageError
from builder.receiver import inventory as checking
from builder.receiver.inventory import LoaderError
from builder.receiver.jobs.container import log_lines
from builder.receiver.jobs.run import count_changes, words_of
from builder.receiver.missing import EngineContents
from builder.receiver.parts import Guard
from tests import bundles


def plan(made: bundles.Set, **more: object) -> core.BundlePlan:
    return bundles.planned(made, loader=b"loader", **more)


def test_the_plan_is_the_tar_to_the_byte() -> None:
    """Offsets, parts and sizes are those that the loader demands; the same images give the same plan."""
    made = plan(bundles.three(), extras={"native/" + "n" * 200: (7, "0" * 64)})
    checking.check_inventory(bundles.finished(made))
    assert sum(p.size for p in made.parts) == made.size
    assert made.key == plan(bundles.three(), extras={"native/" + "n" * 200: (7, "0" * 64)}).key
    blobs = [e.path for e in made.entries if e.path.startswith("blobs/")]
    assert len(blobs) == len(set(blobs)) == 4 + 3 + 3, "each of four layers once, manifests and configs"
    assert made.entries[-1].size > 2_000_000, "weights come last"


@pytest.mark.parametrize("text", ["4G", "3GiB", "700M", "1000000", "2T"])
def test_sizes_are_read(text: str) -> None:
    wanted = {"4G": 4_000_000_000, "3GiB": 3 << 30, "700M": 700_000_000, "1000000": 1_000_000, "2T": 2_000_000_000_000}
    assert core.parse_size(text) == wanted[text]


@pytest.mark.parametrize("text", ["", "4X", "-1G", "1", "1.5G", "G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        core.parse_size(text)


def test_a_part_of_4g_fits_on_a_fat_stick() -> None:
    assert core.parse_size("4G") < 1 << 32


def test_a_bundle_has_at_most_999_parts() -> None:
    """Their numbers have three digits."""
    size = plan(bundles.three()).size
    fitting = plan(bundles.three(), part_size=-(-size // 999))
    assert len(fitting.parts) == 999
    assert [p.name for p in fitting.parts[::499]] == [f"whisperbake.tar.{n:03}" for n in (0, 499, 998)]
    assert fitting.parts[-1].end == size
    with pytest.raises(UsageError, match="that makes 1000 parts"):
        plan(bundles.three(), part_size=size // 1000 + 1)


def test_an_inventory_says_what_a_receiver_needs() -> None:
    made = bundles.three()
    inventory = plan(made, memory={"asr": 7}, acceptance={"job": "job/job.json"}).inventory
    assert {k: inventory[k] for k in ("schema", "kind", "content", "made_by", "base", "known", "memory")} == {
        "schema": 2,
        "kind": "bundle",
        "content": "complete",
        "made_by": "test",
        "base": None,
        "known": [],
        "memory": {"asr": 7},
    }
    assert inventory["engine"] == {"oldest": "23.0", "platform": "linux/amd64"}
    assert inventory["loader"] == {"name": "load.py", "size": 6, "sha256": digest(b"loader")[7:]}
    assert inventory["acceptance"] == {"job": "job/job.json"}
    first = made.images[0]
    assert inventory["images"][0] == {
        "name": "wb-bundle/base:slim-cpu",
        "stage": "base",
        "manifest": digest(first.manifest),
        "config": digest(first.config),
        "layers": [first.layers[0].digest],
    }
    layer = made.images[1].layers[1]
    assert inventory["layers"][layer.digest] == {
        "size": layer.size,
        "diff_id": layer.diff_id,
        "unpacked": layer.unpacked,
        "media_type": "application/vnd.oci.image.layer.v1.tar",
        "model": "tiny",
    }
    assert platform(first) == "linux/amd64"


def test_docker_load_finds_its_way_in_a_complete_bundle() -> None:
    """index.json for containerd, manifest.json for graph drivers, both of the same blobs."""
    made = bundles.three()
    small = plan(made).small
    index, legacy = json.loads(small["index.json"]), json.loads(small["manifest.json"])
    assert [m["digest"] for m in index["manifests"]] == [digest(i.manifest) for i in made.images]
    assert index["manifests"][1]["size"] == len(made.images[1].manifest)
    assert index["manifests"][1]["annotations"] == {
        "io.containerd.image.name": "docker.io/wb-bundle/asr:slim-cpu",
        "org.opencontainers.image.ref.name": "slim-cpu",
    }
    assert legacy[1] == {
        "Config": f"blobs/sha256/{digest(made.images[1].config)[7:]}",
        "RepoTags": ["wb-bundle/asr:slim-cpu"],
        "Layers": [f"blobs/sha256/{x.digest[7:]}" for x in made.images[1].layers],
    }
    manifest = json.loads(small[f"blobs/sha256/{digest(made.images[1].manifest)[7:]}"])
    assert [x["digest"] for x in manifest["layers"]] == [x.digest for x in made.images[1].layers]
    assert manifest["config"]["size"] == len(made.images[1].config)


def test_weights_of_no_image_travel_for_native_runs_unless_the_receiver_has_them() -> None:
    made = bundles.three()
    loose = made.layer({"models/other.bin": b"w" * 1000}, model="other")
    whole = plan(made, loose=[loose])
    assert loose.digest in whole.inventory["layers"]
    assert f"blobs/sha256/{loose.digest[7:]}" in {e.path for e in whole.entries}
    base = contents.Base(contents=EngineContents(blobs=frozenset([loose.digest])))
    assert f"blobs/sha256/{loose.digest[7:]}" not in {e.path for e in plan(made, loose=[loose], bases=[base]).entries}


def test_a_receiver_lacks_what_its_store_can_not_use() -> None:
    """containerd finds a blob anywhere; a graph driver only on the chain it has: what is above a new layer goes again."""
    made = bundles.Set()
    low, mid, top = (made.layer({name: b"x"}) for name in "abc")
    image = made.image("asr", [low, mid, top])
    new = made.layer({"b": b"y"})
    changed = made.image("asr2", [low, new, top])
    inventory = json.loads(bundles.finished(plan_of(made, image)))
    known = contents.base_of(inventory).contents
    assert contents.lacking(image, known) == ()
    assert contents.lacking(changed, known) == (new, top), "its store is not known"
    assert contents.lacking(changed, EngineContents(store="containerd", blobs=known.blobs)) == (new,)


def plan_of(made: bundles.Set, *images: BundledImage, **more: object) -> core.BundlePlan:
    return plan(bundles.Set(images=list(images), blobs=made.blobs), **more)


def test_a_difference_holds_what_is_new_and_says_so() -> None:
    first, second = bundles.three(), bundles.three(code=b"print(3)\n")
    base = contents.base_of(json.loads(bundles.finished(plan(first))))
    made = plan(second, bases=[base])
    assert made.content == "difference"
    assert "index.json" not in {e.path for e in made.entries}, "docker load alone can't use it"
    layers = [e for e in made.entries if f"sha256:{e.sha256}" in made.inventory["layers"]]
    assert len(layers) == 1
    assert layers[0].size < 1000
    assert made.inventory["base"] == base.fingerprint


def test_a_difference_may_leave_out_files_of_the_acceptance_run() -> None:
    """The receiver has them; a job that leads elsewhere is refused all the same."""
    paths = {"job": "job/job.json", "expected": "job/expected.json"}
    extras = {"job/job.json": (3, "1" * 64), "job/expected.json": (3, "2" * 64)}
    first = plan(bundles.three(), extras=extras, acceptance=paths)
    base = contents.base_of(json.loads(bundles.finished(first)))
    made = plan(bundles.three(), extras=extras, acceptance=paths, bases=[base])
    assert not {e.path for e in made.entries} & set(extras)
    checking.check_inventory(bundles.finished(made))


def test_code_and_models_apart_are_all_of_it() -> None:
    whole, code, models = (
        plan(bundles.three(), content=c) for c in (contents.COMPLETE, contents.CODE, contents.MODELS)
    )

    def layers(of: core.BundlePlan) -> set[str]:
        return {e.path for e in of.entries if f"sha256:{e.sha256}" in whole.inventory["layers"]}

    assert layers(code) | layers(models) == layers(whole)
    assert not layers(code) & layers(models)
    assert len(layers(models)) == 1
    assert models.inventory["images"] == []


def test_two_inventories_are_compared() -> None:
    first, second = plan(bundles.three()).inventory, plan(bundles.three(code=b"x")).inventory
    found = contents.compare(first, second)
    assert found.images == (("wb-bundle/asr:slim-cpu", "other"),)
    assert [what for _, what, _ in found.layers] == ["code of asr"]
    assert found.size == found.layers[0][2]


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("whisperbake/asr:x", "docker.io/whisperbake/asr:x"),
        ("asr:x", "docker.io/library/asr:x"),
        ("ghcr.io/a/b:x", "ghcr.io/a/b:x"),
        ("localhost/a:x", "localhost/a:x"),
        ("host:5000/a:x", "host:5000/a:x"),
    ],
)
def test_names_as_containerd_has_them(name: str, full: str) -> None:
    assert full_name(name) == full


def test_the_loader_is_one_file_of_its_modules() -> None:
    """No import of the builder, no name twice, syntax of Python 3.9."""
    text = edge.loader().decode()
    tree = ast.parse(text, feature_version=(3, 9))
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [ast.unparse(t) for target in node.targets for t in getattr(target, "elts", [target])]
    assert len(names) == len(set(names)), "two modules use one name"
    modules = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    modules |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not any(m.startswith("builder") for m in modules)
    assert {m.split(".")[0] for m in modules} <= set(__import__("sys").stdlib_module_names)


def test_the_loader_carries_the_rights_of_containers(tmp_path: Path) -> None:
    """As data that its last lines hand on; what compose.yaml has is compared in tests/golden/test_sandbox.py."""
    (tmp_path / "load.py").write_bytes(edge.loader())
    module = runpy.run_path(str(tmp_path / "load.py"), run_name="load")
    assert module["SANDBOX"] == sandbox.as_data()
    assert [m["source"] for m in module["SANDBOX"]["mounts"]] == [
        "./job.yaml",
        "./input",
        "./work",
        "./output",
        "./events.jsonl",
    ]


def test_memory_of_stages_is_checked() -> None:
    """It may be missing (an older loader wrote the inventory); a stage or size that can't be is refused."""
    plan_ = plan(bundles.three(), memory={"asr": 5_000_000_000})
    data = json.loads(bundles.finished(plan_))
    assert checking.check_inventory(contents.dump(data))["memory"] == {"asr": 5_000_000_000}
    for memory in ({"../asr": 1}, {"asr": -1}, {"asr": "1"}, {"asr": True}):
        with pytest.raises(LoaderError, match="memory of"):
            checking.check_inventory(contents.dump({**data, "memory": memory}))
    del data["memory"]
    checking.check_inventory(contents.dump(data))


def test_who_made_a_bundle_and_when_is_checked() -> None:
    """It may be missing; a date that can't be compared, or text where a commit should be, is refused."""
    made = core.dated(
        bundles.planned(bundles.three(), made={"commit": "a" * 40, "python": "3.11"}), "2026-11-26T08:00:00Z"
    )
    data = json.loads(bundles.finished(made))
    assert checking.check_inventory(contents.dump(data))["made"]["created"] == "2026-11-26T08:00:00Z"
    for wrong in ({"created": "later"}, {"commit": "\x1b[31m"}, {"python": "3; rm"}, {"created": None}):
        with pytest.raises(LoaderError, match="who made it"):
            checking.check_inventory(contents.dump({**data, "made": {**data["made"], **wrong}}))
    checking.check_inventory(contents.dump({**data, "made": None}))


GROWN = zstandard.ZstdCompressor().compress(bytes(8 << 20))


@pytest.mark.parametrize("step", [1, 3, 4096, 1 << 20])
@pytest.mark.parametrize("write_checksum", [True, False])
def test_zstd_of_any_making_passes_the_guard(step: int, write_checksum: bool) -> None:
    """With or without a size in its header, in one frame or more, however it is cut."""
    data = bundles.noise(300_000) if step > 100 else bundles.noise(2_000)
    pack = zstandard.ZstdCompressor(write_checksum=write_checksum)
    stream = pack.compressobj()
    for blob, size in (
        (pack.compress(data), len(data)),
        (pack.compress(data) + pack.compress(data), 2 * len(data)),
        (stream.compress(data) + stream.flush(), len(data)),
        (pack.compress(b""), 0),
    ):
        guard = Guard("x", size)
        for at in range(0, len(blob), step):
            guard(blob[at : at + step])
        guard.finish()


@pytest.mark.parametrize(
    "feed",
    [
        lambda g: g(GROWN),
        lambda g: (g(GROWN[:20]), g.finish()),
        lambda g: (g(b"\x28\xb5\x2f"), g.finish()),
        lambda g: g(b"none at all"),
    ],
    ids=["grows", "cut short", "no header", "no zstd"],
)
def test_the_guard_stops(feed: Callable[[Guard], object]) -> None:
    with pytest.raises(LoaderError) as stop:
        feed(Guard("x", 1000))
    assert stop.value.code == 5


def test_results_are_compared_by_their_words() -> None:
    result = {"segments": [{"text": " Good morning, and"}, {"text": " it's 8 o’clock."}]}
    assert words_of(result) == ["good", "morning", "and", "it's", "8", "o’clock"]
    assert count_changes(["a", "b", "c", "d"], ["a", "x", "c"]) == 2


def test_a_containers_log_is_read_from_its_frames() -> None:
    raw = b"\x01\0\0\0\0\0\0\x06hello\n" + b"\x02\0\0\0\0\0\0\x04bye\n"
    assert log_lines(raw) == ["hello", "bye"]
