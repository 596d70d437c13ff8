"""What the commands about images and registries print: every key and column, from real results."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from builder.core.config.requirements import Requirement
from builder.core.config.types import BaseSpec
from builder.core.images import estimate
from builder.core.images.layer_order import Block, arrange
from builder.core.images.oci import Descriptor
from builder.core.images.plan import Library, Plan, PlannedImage
from builder.core.images.reference import Target
from builder.core.images.versions import Hold, ImageVersion, Versions
from builder.core.machine import Hardware, Recommendation
from builder.core.platforms import Platform
from builder.core.terms import Mode, Purpose, Variant
from builder.core.weights.model import FilePin, HubSource, Model, Pin
from builder.edges.images.build import Built
from builder.edges.images.installed import InstalledImage
from builder.edges.images.layout import Unneeded
from builder.edges.images.past.versions import Move
from builder.edges.registry.push import PushedImage, PushStep
from builder.edges.registry.referrers import Attachment
from builder.errors import BakeError
from builder.receiver.jobs.kept import KeptImage
from builder.views import images as views
from builder.views import layout as layout_views
from builder.views import registry as registry_views
from builder.views.past import versions as version_views
from builder.workflows.images import (
    FilesCompared,
    FilesRendered,
    ImageBuilt,
    ImagesBuilt,
    ImagesListed,
    ImagesPlanned,
    OtherBuilt,
)
from builder.workflows.layout import LayersLocked, LayoutExported, LayoutPruned, ModelLayers
from builder.workflows.machine import NativeReady
from builder.workflows.pushing.commands import ImagesPushed, PaperAttached
from builder.workflows.registry import PipelineCompared, PipelineMade
from builder.workflows.versions.commands import Released, RolledBack

MB = 1_000_000
MODEL = Model(id="tiny", purpose=Purpose.ASR, title="Tiny", licence="MIT", sources=(HubSource(repo="o/tiny"),))
PIN = Pin(revision="0" * 40, files=(FilePin(path="model.bin", size=70 * MB, sha256="0" * 64),))
BASE = BaseSpec(kind="debian", suite="bookworm")
BASE_JSON = {"kind": "debian", "reference": "", "digest": "", "suite": "bookworm"}


def requirement(name: str) -> Requirement:
    return Requirement(name=name, version="1.0", text="")


def image(
    name: str, parent: str | None, stage: str | None, libraries: tuple[str, ...], models: tuple[str, ...] = ()
) -> PlannedImage:
    return PlannedImage(
        name=name, tag=f"wb/{name}:slim-cpu", parent=parent, stage=stage, gpu=False, libraries=libraries, models=models
    )


PLAN = Plan(
    mode=Mode.DOCKER_CPU,
    variant=Variant.SLIM,
    base=BASE,
    debian_packages=("python3",),
    images=(image("base", None, None, ("base",)), image("asr", "base", "asr", ("asr",), ("tiny",))),
    libraries={
        "base": Library(name="base", packages=(requirement("dumb-init"),)),
        "asr": Library(name="asr", packages=(requirement("ctranslate2"), requirement("numpy"))),
    },
    models=((MODEL, PIN),),
)
ROOT = Block(name="base", kind="base", size=50 * MB)
INIT = Block(name="libraries base", kind="requirement", size=MB)
CODE = Block(name="code asr", kind="code", size=2 * MB)
WEIGHTS = Block(name="model tiny", kind="model", size=70 * MB)
SIZES = {"base==root": 50 * MB, "dumb-init==1.0": MB, "numpy==1.0": 30 * MB}


def planned(base: BaseSpec = BASE) -> ImagesPlanned:
    return ImagesPlanned(
        plan=dataclasses.replace(PLAN, base=base),
        order={"base": (ROOT, INIT), "asr": (ROOT, INIT, WEIGHTS, CODE)},
        estimate=estimate.estimate(PLAN, SIZES),
        memory={"asr": 700 * MB},
    )


def test_a_plan_is_told_in_json() -> None:
    assert views.PLAN.data(planned()) == {
        "mode": "docker-cpu",
        "variant": "slim",
        "base": BASE_JSON,
        "images": [
            {
                "name": "base",
                "tag": "wb/base:slim-cpu",
                "parent": None,
                "stage": None,
                "gpu": False,
                "layers": [{"name": "base", "packages": ["dumb-init==1.0"], "estimated_bytes": MB}],
                "models": [],
                "estimated_bytes": 51 * MB,
                "estimate_complete": True,
                "order": [
                    {"name": "base", "kind": "base", "bytes": 50 * MB},
                    {"name": "libraries base", "kind": "requirement", "bytes": MB},
                ],
                "memory_bytes": None,
            },
            {
                "name": "asr",
                "tag": "wb/asr:slim-cpu",
                "parent": "base",
                "stage": "asr",
                "gpu": False,
                "layers": [{"name": "asr", "packages": ["ctranslate2==1.0", "numpy==1.0"], "estimated_bytes": 30 * MB}],
                "models": ["tiny"],
                "estimated_bytes": 81 * MB,
                "estimate_complete": False,
                "order": [
                    {"name": "base", "kind": "base", "bytes": 50 * MB},
                    {"name": "libraries base", "kind": "requirement", "bytes": MB},
                    {"name": "model tiny", "kind": "model", "bytes": 70 * MB},
                    {"name": "code asr", "kind": "code", "bytes": 2 * MB},
                ],
                "memory_bytes": 700 * MB,
            },
        ],
        "models": [{"id": "tiny", "purpose": "asr", "bytes": 70 * MB}],
        "estimated_unique_bytes": 81 * MB,
        "model_bytes": 70 * MB,
        "unpacked_again": {
            "base": 123 * MB,
            "libraries base": 73 * MB,
            "model tiny": 72 * MB,
            "code asr": 2 * MB,
        },
    }


def test_a_plan_is_told_in_tables() -> None:
    """A size that is not whole says so; what costs least to change comes first."""
    text = views.PLAN.text(planned())
    first, base, order, again = text.split("\n\n")
    rows = [line.split() for line in first.splitlines()]
    assert rows[0] == ["IMAGE", "ON", "SIZE", "MEMORY", "LAYERS", "MODELS"]
    assert rows[1][:2] == ["wb/base:slim-cpu", "debian"]
    assert "≥" not in rows[1]
    assert rows[2][:3] == ["wb/asr:slim-cpu", "base", "≥"]
    assert rows[2][-4:] == ["700.0", "MB", "asr", "tiny"]
    assert base.startswith(
        "memory: the limit of its container for a recording of an hour\n"
        "base: Debian bookworm's packages\nall images together: 81.0 MB of layers, 70.0 MB of models"
    )
    assert order.splitlines()[0].startswith("IMAGE")
    assert "base 50.0 MB  base 1.0 MB  model tiny 70.0 MB  code asr 2.0 MB" in order
    assert [line.rsplit("  ", 1)[0].strip() for line in again.splitlines()][1:] == [
        "code asr",
        "model tiny",
        "libraries base",
        "base",
    ]
    assert "base: r/python:3\n" in views.PLAN.text(planned(BaseSpec(kind="registry", reference="r/python:3")))


def test_sizes_are_added_up_once() -> None:
    """An image has its parents' bytes; a set has each layer once; what nobody measured makes the sum a lower bound."""
    found = estimate.estimate(PLAN, SIZES)
    assert found.libraries["asr"] == estimate.Estimate(size=30 * MB, complete=False)
    assert found.images["base"] == estimate.Estimate(size=51 * MB, complete=True)
    assert found.images["asr"] == estimate.Estimate(size=81 * MB, complete=False)
    assert found.unique_bytes == 81 * MB
    whole = estimate.estimate(PLAN, {**SIZES, "ctranslate2==1.0": 100 * MB})
    assert whole.images["asr"] == estimate.Estimate(size=181 * MB, complete=True)
    assert not estimate.estimate(PLAN, {"dumb-init==1.0": MB}).images["base"].complete


def test_stacks_guess_what_nobody_measured() -> None:
    """CUDA and PyTorch are guessed large, so that they land low."""
    library = Library(name="x", packages=(requirement("nvidia-cudnn"), requirement("torch"), requirement("small")))
    plan = dataclasses.replace(PLAN, libraries={**PLAN.libraries, "asr": library}, models=())
    plan = dataclasses.replace(
        plan, images=(plan.images[0], dataclasses.replace(plan.images[1], libraries=("asr",), models=()))
    )
    base, asr = estimate.stacks(plan, {"base==root": 50 * MB})
    assert [b.kind for b in asr.blocks] == ["base", "requirement", "requirement", "code"]
    assert asr.blocks[2].size == estimate.UNKNOWN_HEAVY + estimate.UNKNOWN_TORCH["torch"] + estimate.UNKNOWN
    assert [b.name for b in base.blocks] == ["base", "libraries base"]
    assert base.blocks[0].size == 50 * MB
    assert arrange([base, asr])["asr"][-1].kind == "code"


def test_a_build_needs_room_for_what_its_images_lack() -> None:
    """Packages that an image stands on which is there count no more; what nobody has measured is guessed, not left out."""
    assert estimate.code_bytes(PLAN, SIZES, ["base", "asr"]) == 31 * MB + estimate.UNKNOWN
    assert estimate.code_bytes(PLAN, SIZES, ["asr"]) == 30 * MB + estimate.UNKNOWN
    assert estimate.code_bytes(PLAN, SIZES, []) == 0
    torch = [dataclasses.replace(requirement("torch"), version=version) for version in ("9.0", "9.0+cpu")]
    needs = [estimate.installed_bytes([pin], {}) for pin in torch]
    assert needs == [estimate.UNKNOWN_TORCH["torch"], estimate.UNKNOWN_CPU_TORCH]
    assert needs[1] < needs[0] / 2, "no CUDA in it"
    twice = [dataclasses.replace(requirement("scipy"), version=version) for version in ("1.0", "2.0")]
    assert estimate.installed_bytes(twice, {"scipy==2.0": 5, "scipy==1.0": 5}) == 5, "another Python has the other one"


def test_a_rendered_folder_is_told() -> None:
    made = FilesRendered(folder=Path("/x"), files=("Dockerfile", "docker-bake.json"))
    assert views.RENDER.data(made) == {"folder": "/x", "files": ["Dockerfile", "docker-bake.json"]}
    assert views.RENDER.text(made) == "/x: 2 files\nnext: cd /x && docker buildx bake    (docs/images.md)"
    same = FilesCompared(folder=Path("/x"), differences=(), failure=None)
    other = FilesCompared(folder=Path("/x"), differences=("Dockerfile: other",), failure=BakeError("x"))
    assert (views.COMPARE.text(same), views.COMPARE.text(other)) == ("as rendered", "")
    assert views.COMPARE.data(other) == {"folder": "/x", "differences": ["Dockerfile: other"]}


INSTALLED = InstalledImage(
    name="asr",
    tag="wb/asr:slim-cpu",
    id="sha256:0123456789abcdef",
    mode="docker-cpu",
    variant="slim",
    size_bytes=150 * MB,
    own_bytes=100 * MB,
    shared_bytes=50 * MB,
    models=("tiny",),
    baked={"tiny": "sha256:1"},
    differences=(),
)
INSTALLED_JSON = {
    "name": "asr",
    "tag": "wb/asr:slim-cpu",
    "id": "sha256:0123456789abcdef",
    "mode": "docker-cpu",
    "variant": "slim",
    "size_bytes": 150 * MB,
    "own_bytes": 100 * MB,
    "shared_bytes": 50 * MB,
    "models": ["tiny"],
    "baked": {"tiny": "sha256:1"},
    "up_to_date": True,
    "versions": [],
    "held": None,
}


def test_images_are_listed() -> None:
    """Weights are baked, mounted, or none are loaded."""
    mounted = dataclasses.replace(INSTALLED, baked={}, differences=("models",))
    plain = dataclasses.replace(mounted, models=(), differences=())
    held = dataclasses.replace(mounted, versions=("wb/asr:slim-cpu-0.1.0",), held="0.1.0")
    listed = ImagesListed(images=(INSTALLED, mounted, plain, held), versions=VERSIONS)
    assert views.IMAGES.data(listed) == [
        INSTALLED_JSON,
        {**INSTALLED_JSON, "baked": {}, "up_to_date": False},
        {**INSTALLED_JSON, "baked": {}, "models": []},
        {
            **INSTALLED_JSON,
            "baked": {},
            "up_to_date": False,
            "versions": ["wb/asr:slim-cpu-0.1.0"],
            "held": "0.1.0",
        },
    ]
    rows = [" ".join(line.split()) for line in views.IMAGES.text(listed).splitlines()]
    assert rows == [
        "IMAGE ID SIZE SHARED OWN MODELS WEIGHTS UP TO DATE",
        "wb/asr:slim-cpu 0123456789ab 150.0 MB 50.0 MB 100.0 MB tiny baked yes",
        "wb/asr:slim-cpu 0123456789ab 150.0 MB 50.0 MB 100.0 MB tiny mounted no",
        "wb/asr:slim-cpu 0123456789ab 150.0 MB 50.0 MB 100.0 MB yes",
        "wb/asr:slim-cpu 0123456789ab 150.0 MB 50.0 MB 100.0 MB tiny mounted held at 0.1.0",
        "",
        "versions of docker-cpu slim, newest first: 0.1.0-r2 (gaaaaaaaaaaaa), 0.1.0; held at 0.1.0",
    ]
    assert views.IMAGES.text(ImagesListed(images=(), versions=Versions())) == "no images here"


FIRST = ImageVersion(name="0.1.0", commit="", at="2026-11-28T10:00:00Z", mode="docker-cpu", variant="slim", images=())
SECOND = dataclasses.replace(FIRST, name="0.1.0-r2", commit="g" + "a" * 12, at="2026-11-28T11:00:00Z")
HOLD = Hold(mode="docker-cpu", variant="slim", name="0.1.0", at="2026-11-28T12:00:00Z", moving=False, ids={}, codes={})
VERSIONS = Versions(known=(FIRST, SECOND), holds=(HOLD,))


def test_a_rollback_is_told() -> None:
    """Which tags moved, what is kept, and how to let go."""
    moves = (
        Move(tag="wb/asr:slim-cpu", before="sha256:" + "1" * 64, after="sha256:" + "2" * 64),
        Move(tag="wb/vad:slim-cpu", before=None, after="sha256:" + "3" * 64),
    )
    done = RolledBack(version=FIRST, before=SECOND, dry_run=False, held=True, moves=moves, kept=(SECOND, FIRST))
    first = {"mode": "docker-cpu", "variant": "slim", "name": "0.1.0", "commit": "", "built": "2026-11-28T10:00:00Z"}
    assert version_views.ROLLBACK.data(done) == {
        "mode": "docker-cpu",
        "variant": "slim",
        "dry_run": False,
        "before": "0.1.0-r2",
        "version": first,
        "held": True,
        "tags": [
            {"tag": "wb/asr:slim-cpu", "id_before": moves[0].before, "id": moves[0].after, "moved": True},
            {"tag": "wb/vad:slim-cpu", "id_before": None, "id": moves[1].after, "moved": True},
        ],
        "kept": [
            {**first, "name": "0.1.0-r2", "commit": "gaaaaaaaaaaaa", "built": "2026-11-28T11:00:00Z"},
            first,
        ],
    }
    lines = [" ".join(line.split()) for line in version_views.ROLLBACK.text(done).splitlines()]
    assert lines == [
        "IMAGE WAS IS TAG",
        "wb/asr:slim-cpu 111111111111 222222222222 moved",
        "wb/vad:slim-cpu 333333333333 moved",
        "",
        "VERSION COMMIT BUILT (UTC)",
        "0.1.0-r2 gaaaaaaaaaaaa 2026-11-28 11:00:00",
        "0.1.0 2026-11-28 10:00:00 this one",
        "",
        "docker-cpu slim is at 0.1.0, built 2026-11-28 10:00:00",
        "held: jobs use it until python3 build.py build or python3 build.py rollback --mode docker-cpu --release",
    ]
    dry = version_views.ROLLBACK.text(dataclasses.replace(done, dry_run=True))
    assert dry.endswith("docker-cpu slim would be at 0.1.0, built 2026-11-28 10:00:00")
    assert "would be" in dry.splitlines()[1]
    released = Released(mode="docker-cpu", variant="slim", hold=HOLD)
    assert version_views.RELEASE.data(released) == {"mode": "docker-cpu", "variant": "slim", "held_at": "0.1.0"}
    assert version_views.RELEASE.text(released).startswith("docker-cpu slim is no longer held at 0.1.0")
    nothing = dataclasses.replace(released, hold=None)
    assert version_views.RELEASE.data(nothing)["held_at"] is None
    assert version_views.RELEASE.text(nothing) == "docker-cpu slim is not held"


BUILT = ImagesBuilt(
    mode=Mode.DOCKER_CPU,
    variant=Variant.SLIM,
    base=BASE,
    images=(
        ImageBuilt(
            built=Built(name="asr", tag="wb/asr:slim-cpu", state="built", seconds=61.5, sent=7), installed=INSTALLED
        ),
    ),
    unique_bytes=160 * MB,
)
BUILT_JSON = {**INSTALLED_JSON, "state": "built", "seconds": 61.5, "sent_bytes": 7}


def test_a_build_is_told() -> None:
    assert views.BUILD.data(BUILT) == {
        "mode": "docker-cpu",
        "variant": "slim",
        "base": BASE_JSON,
        "images": [BUILT_JSON],
        "unique_bytes": 160 * MB,
        "other_platforms": [],
    }
    head, row, _, total = views.BUILD.text(BUILT).splitlines()
    assert head.split() == ["IMAGE", "SIZE", "SHARED", "OWN", "TIME", "STATE"]
    assert row.split()[:7] == ["wb/asr:slim-cpu", "150.0", "MB", "50.0", "MB", "100.0", "MB"]
    assert row.endswith("built")
    assert total == "all together: 160.0 MB unpacked, each layer counted once"


def test_images_of_another_platform_are_told_as_not_run() -> None:
    """Beside the engine's own, or alone."""
    tag = "wb/asr:slim-cpu-arm64"
    built = Built(name="asr", tag=tag, state="built", seconds=9.5)
    arm64 = Platform(architecture="arm64")
    other = OtherBuilt(built=built, platform=arm64, manifest="sha256:7", size_bytes=120 * MB)
    both = dataclasses.replace(BUILT, others=(other,))
    row = {
        "name": "asr",
        "tag": tag,
        "platform": "linux/arm64",
        "manifest": "sha256:7",
        "size_bytes": 120 * MB,
        "state": "built",
        "seconds": 9.5,
    }
    assert views.BUILD.data(both)["other_platforms"] == [row]
    lines = views.BUILD.text(both).splitlines()
    assert lines[:4] == views.BUILD.text(BUILT).splitlines()
    alone = views.BUILD.text(dataclasses.replace(both, images=())).splitlines()
    assert lines[5:] == alone
    assert " ".join(alone[1].split()) == f"{tag} linux/arm64 120.0 MB 9.5 s built"
    assert "not run here" in alone[-1]


def ready(images: ImagesBuilt | None, no_images: str, why: str = "") -> NativeReady:
    return NativeReady(
        preset="starter",
        preset_reason=why,
        models={Purpose.ASR: (MODEL, PIN)},
        fetched=("tiny",),
        environment=Path("/env"),
        images=images,
        no_images=no_images,
        hardware=Hardware(
            system="Linux", machine="x86_64", cpu="CPU", cores=4, threads=8, memory=8000 * MB, gpus=(), mps=False
        ),
        recommended=Recommendation(
            preset="fast", reason="4 cores", device="cpu", compute_type="int8", batch_size=0, threads=4
        ),
    )


def test_the_native_mode_says_what_it_has() -> None:
    """With an engine, the images that read media; without one, why there are none."""
    whole = views.NATIVE_BUILD.data(ready(BUILT, ""))
    assert whole == {
        "mode": "native",
        "preset": "starter",
        "preset_reason": "",
        "images": [BUILT_JSON],
        "unique_bytes": 160 * MB,
        "images_note": "media files are parsed in these containers",
        "environment": "/env",
        "models": [{"id": "tiny", "purpose": "asr", "size": 70 * MB}],
        "fetched": ["tiny"],
        "ready": True,
    }
    none = views.NATIVE_BUILD.data(ready(None, "no socket"))
    assert (none["images"], none["unique_bytes"]) == ([], 0)
    assert none["images_note"] == "no images are built: no socket"
    text = views.NATIVE_BUILD.text(ready(None, "no socket"))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines == [
        "PURPOSE MODEL SIZE LICENCE",
        "asr tiny 70.0 MB MIT",
        "",
        "machine: 4 cores, 8.0 GB; recommended preset: fast (4 cores)",
        "native: no images are built: no socket",
        "ready to run jobs: python3 build.py run RECORDING",
    ]
    left = views.NATIVE_BUILD.text(ready(None, "no socket", "fast is recommended"))
    assert "machine: 4 cores, 8.0 GB; preset starter; fast is recommended" in left.splitlines()
    assert views.BUILD.text(BUILT) in views.NATIVE_BUILD.text(ready(BUILT, ""))
    assert "no images are built" not in views.NATIVE_BUILD.text(ready(BUILT, ""))


def test_what_prune_frees_is_told() -> None:
    file = Unneeded(path=Path("/l/blobs/sha256/0123456789abcdef0123"), what="blob", size=5 * MB)
    freed = LayoutPruned(files=(file,), removed=True, engine=True, versions=(FIRST,))
    assert layout_views.PRUNE.data(freed) == {
        "removed": True,
        "bytes": 5 * MB,
        "engine": True,
        "files": [{"path": str(file.path), "what": "blob", "bytes": 5 * MB}],
        "kept": [],
        "released": [],
        "builder": None,
        "versions": [version_views.version_data(FIRST)],
    }
    rows = [" ".join(line.split()) for line in layout_views.PRUNE.text(freed).splitlines()]
    kept = "kept: docker-cpu slim 0.1.0, which rollback can go to"
    assert rows == ["WHAT SIZE NAME", "blob 5.0 MB 0123456789abcdef", "", "freed 5.0 MB", kept]
    nothing = layout_views.PRUNE.text(LayoutPruned(files=(), removed=False, engine=False))
    assert nothing.splitlines() == [
        "would free 0 B",
        "no engine answers: images were kept, whether it has them or not",
    ]


def test_what_prune_leaves_to_jobs_is_told_with_their_ids() -> None:
    """And what no job needs any more goes."""
    kept = KeptImage("wb/asr:job-1a-2b", "sha256:1", ("20261123-1", "20261124-2", "20261125-3"), True, 9 * MB)
    gone = KeptImage("wb/vad:job-1a-3c", "sha256:2", (), True, 2 * MB)
    pruned = LayoutPruned(files=(), removed=True, engine=True, kept=(kept,), released=(gone,))
    data = layout_views.PRUNE.data(pruned)
    assert data["kept"] == [{"tag": kept.tag, "bytes": 9 * MB, "jobs": list(kept.jobs)}]
    assert data["released"] == [{"tag": gone.tag, "bytes": 2 * MB, "jobs": []}]
    rows = [" ".join(line.split()) for line in layout_views.PRUNE.text(pruned).splitlines()]
    assert rows == [
        "WHAT SIZE NAME",
        "image for no job 2.0 MB wb/vad:job-1a-3c",
        "",
        "freed 0 B",
        "kept: wb/asr:job-1a-2b, which job 20261123-1 (and 2 more) needs for docker compose up",
    ]


def test_an_exported_layout_and_locked_layers_are_told() -> None:
    exported = LayoutExported(folder=Path("/o"), images=("wb/asr:slim-cpu", "wb/vad:slim-cpu"), size=3 * MB)
    assert layout_views.EXPORT.data(exported) == {
        "folder": "/o",
        "images": ["wb/asr:slim-cpu", "wb/vad:slim-cpu"],
        "bytes": 3 * MB,
    }
    assert layout_views.EXPORT.text(exported) == (
        "/o: 2 images, 3.0 MB\nnext: skopeo copy oci:/o:wb/asr:slim-cpu …, or tar -C /o -c . | docker load"
    )
    a = ModelLayers(id="a", digests={"model.bin": "sha256:1", "config": "sha256:2"}, size=5 * MB, changed=True)
    b = dataclasses.replace(a, id="b", digests={}, changed=False)
    assert layout_views.LOCK_LAYERS.data(LayersLocked(models=(a, b))) == {"a": dict(a.digests), "b": {}}
    assert layout_views.LOCK_LAYERS.text(LayersLocked(models=(a, b))).splitlines() == [
        "a: written, 5.0 MB in 2 layers",
        "b: unchanged, 5.0 MB in 0 layers",
    ]


def blob(digit: str, size: int) -> Descriptor:
    return Descriptor(media_type="x", digest=f"sha256:{digit * 64}", size=size)


def test_a_push_is_told() -> None:
    """A blob that an image has twice counts once; bytes are those that the registry lacked."""
    weights, code = blob("1", 70 * MB), blob("2", 2 * MB)
    pushed = PushedImage(name="asr", tag="slim-cpu", manifest=blob("3", 100), data=b"", blobs=(weights, code, code))
    pushed = dataclasses.replace(pushed, also=("slim-cpu-0.1.0",))
    new = PushStep(image=pushed, repository="me/asr", tags=pushed.tags, mount={weights.digest: "me/x"}, send=(code,))
    old = dataclasses.replace(new, tags=(), mount={}, send=())
    named = dataclasses.replace(old, tags=pushed.also)
    result = ImagesPushed(
        signatures={},
        target=Target(host="r.example", prefix="me"),
        dry_run=False,
        steps=((new, 2 * MB), (old, 0), (named, 0)),
        wire_bytes=3 * MB,
        seconds=1.5,
    )
    row = {
        "name": "asr",
        "reference": "r.example/me/asr:slim-cpu",
        "also": ["slim-cpu-0.1.0"],
        "digest": pushed.manifest.digest,
        "bytes": 72 * MB,
        "sent_bytes": 2 * MB,
        "mounted_bytes": 70 * MB,
        "state": "pushed",
        "signature": "",
        "platforms": {},
    }
    assert registry_views.PUSH.data(result) == {
        "registry": "r.example/me",
        "dry_run": False,
        "images": [
            row,
            {**row, "sent_bytes": 0, "mounted_bytes": 0, "state": "up to date"},
            {**row, "sent_bytes": 0, "mounted_bytes": 0, "state": "tagged"},
        ],
        "papers": [],
        "sent_bytes": 2 * MB,
        "mounted_bytes": 70 * MB,
        "on_the_wire_bytes": 3 * MB,
        "seconds": 1.5,
    }
    lines = [" ".join(line.split()) for line in registry_views.PUSH.text(result).splitlines()]
    assert lines[:2] == [
        "IMAGE ALSO DIGEST SIZE SENT MOUNTED STATE",
        "r.example/me/asr:slim-cpu slim-cpu-0.1.0 333333333333 72.0 MB 2.0 MB 70.0 MB pushed",
    ]
    index = dataclasses.replace(
        pushed, parts=(("linux/amd64", blob("4", 90), b""), ("linux/arm64", blob("5", 90), b""))
    )
    several = dataclasses.replace(result, steps=((dataclasses.replace(new, image=index), 0),))
    (told,) = registry_views.PUSH.data(several)["images"]
    assert told["platforms"] == {"linux/amd64": blob("4", 90).digest, "linux/arm64": blob("5", 90).digest}
    assert lines[-1].startswith("2.0 MB sent in ")
    dry = dataclasses.replace(result, dry_run=True, target=Target(host="r.example", prefix=""))
    data = registry_views.PUSH.data(dry)
    assert data["registry"] == "r.example"
    assert [i["state"] for i in data["images"]] == ["would be pushed", "up to date", "would be tagged"]
    assert registry_views.PUSH.text(dry).endswith("\n\n2.0 MB would be sent")


def test_papers_of_a_push_are_told() -> None:
    """How many are new, or that none is; each in JSON with the digest of the file and of what attaches it."""
    attachment = Attachment(
        subject=blob("3", 100),
        artifact_type="application/spdx+json",
        media_type="x",
        data=b"paper\n",
        name="asr.spdx.json",
    )
    new, old = (PaperAttached(attachment=attachment, there=there) for there in (False, True))
    result = ImagesPushed(
        target=Target(host="r.example", prefix="me"),
        dry_run=False,
        steps=(),
        wire_bytes=0,
        seconds=1.5,
        papers={"asr": (new, old)},
    )
    rows = registry_views.PUSH.data(result)["papers"]
    assert rows[0] == {
        "image": "asr",
        "kind": "application/spdx+json",
        "file": "asr.spdx.json",
        "digest": attachment.descriptor.digest,
        "file_digest": attachment.blob.digest,
        "bytes": 6,
        "state": "attached",
    }
    assert rows[1] == {**rows[0], "state": "up to date"}
    assert registry_views.PUSH.text(result).endswith("1 paper attached (6 B): SBOM, provenance, VEX")
    dry = dataclasses.replace(result, dry_run=True)
    assert registry_views.PUSH.text(dry).endswith("1 paper would be attached (6 B): SBOM, provenance, VEX")
    known = dataclasses.replace(result, papers={"asr": (old, old)})
    assert registry_views.PUSH.text(known).endswith("2 papers are attached already")


def test_a_pipeline_is_printed_or_said_to_be_written() -> None:
    made = PipelineMade(
        service="github",
        file=Path("a b.yml"),
        images=("base", "asr"),
        text="jobs:\n",
        options=("--mode", "docker-cpu"),
        folder="rendered",
        written=False,
    )
    data = {"service": "github", "file": "a b.yml", "jobs": ["base", "asr"], "text": "jobs:\n"}
    assert registry_views.CI.data(made) == data
    assert registry_views.CI.text(made) == "jobs:"
    written = dataclasses.replace(made, written=True)
    assert registry_views.CI.text(written) == (
        "a b.yml: 2 images\ncommit it with: python3 build.py render --mode docker-cpu --out rendered"
    )
    same, other = (PipelineCompared(pipeline=made, failure=f) for f in (None, BakeError("x")))
    assert registry_views.CI_CHECK.data(same) == {**data, "same": True}
    assert registry_views.CI_CHECK.data(other) == {**data, "same": False}
    assert (registry_views.CI_CHECK.text(same), registry_views.CI_CHECK.text(other)) == ("as rendered", "")
