"""The one rule of missing layers, and that the builder, bundles and the loader follow it."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.bundle import contents as bundles
from builder.core.bundle.image import PLAIN, BundledImage, BundledLayer
from builder.core.images import oci
from builder.edges.images import load
from builder.edges.images.layout import Stored
from builder.receiver import images as loader
from builder.receiver.missing import (
    DISK_FULL,
    LACKS_LAYER,
    REFUSED,
    WRONG_BYTES,
    EngineContents,
    chain_ids,
    image_id,
    meaning,
    missing_layers,
)

A, B, C, D = (f"sha256:{hashlib.sha256(name.encode()).hexdigest()}" for name in "abcd")


def diff(blob: str) -> str:
    """The diff id of a blob in these tests."""
    return "sha256:" + hashlib.sha256(f"tar {blob}".encode()).hexdigest()


def chains(*blobs: str) -> frozenset[str]:
    return frozenset(chain_ids([diff(blob) for blob in blobs]))


def missing(blobs: list[str], contents: EngineContents) -> list[str]:
    return [blobs[k] for k in missing_layers([(blob, diff(blob)) for blob in blobs], contents)]


def test_containerd_finds_a_blob_wherever_it_is() -> None:
    assert missing([A, B, C], EngineContents(store="containerd", blobs=frozenset([B]))) == [A, C]
    assert missing([A, B, C], EngineContents(store="containerd", chains=chains(A, B, C))) == [A, B, C]


def test_a_graph_driver_needs_all_above_its_highest_chain() -> None:
    known = EngineContents(store="overlay2", chains=chains(A, B), blobs=frozenset([A, B, C, D]))
    assert missing([A, B, C], known) == [C]
    assert missing([A, D, B], known) == [D, B], "B is there, but on another chain"
    assert missing([B, A], known) == [B, A]
    assert missing([A, B], known) == []


def test_an_unknown_store_is_treated_as_the_stricter_one() -> None:
    known = EngineContents(blobs=frozenset([A, B]), chains=chains(A))
    assert missing([A, B], known) == [B]


def test_a_layer_that_stands_twice_is_sent_once() -> None:
    assert missing([A, B, A], EngineContents(store="containerd")) == [A, B]
    assert missing([A, B, A], EngineContents(store="overlay2", chains=chains(A))) == [B, A]


def test_chain_ids_are_those_of_the_specification() -> None:
    """The lowest is its diff id; each next is the sha256 of the one below, a space, and the diff id."""
    second = "sha256:" + hashlib.sha256(f"{A} {B}".encode()).hexdigest()
    assert chain_ids([A, B, C]) == (A, second, "sha256:" + hashlib.sha256(f"{second} {C}".encode()).hexdigest())
    assert chain_ids([]) == ()


def test_an_image_is_known_by_what_its_store_calls_it() -> None:
    assert (image_id("containerd", A, B), image_id("overlay2", A, B), image_id(None, A, B)) == (A, B, B)
    assert EngineContents(store="containerd", ids=frozenset([A])).has_image(A, B) == A
    assert EngineContents(store="overlay2", ids=frozenset([A])).has_image(A, B) == ""


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        (f"content digest {A}: not found", LACKS_LAYER),
        (f"open /var/lib/docker/tmp/docker-import-1/blobs/sha256/{A[7:]}: no such file or directory", LACKS_LAYER),
        ("write /var/lib/docker/x: no space left on device", DISK_FULL),
        ("write /var/lib/docker/x: disk quota exceeded", DISK_FULL),
        ("No Space Left On Device", DISK_FULL),
        (f"invalid diffID for layer 1: expected {A!r}, got {B!r}", WRONG_BYTES),
        (f"unexpected commit digest {A}, expected {B}: failed precondition", WRONG_BYTES),
        ("digest mismatch", WRONG_BYTES),
        ("archive/tar: invalid tar header", REFUSED),
        ("no such image", REFUSED),
        ("", REFUSED),
    ],
)
def test_what_an_engine_says_has_one_meaning(error: str, meant: str) -> None:
    """The builder and the loader read the same words alike."""
    assert meaning(error) == meant


POOL = [f"sha256:{hashlib.sha256(bytes([k])).hexdigest()}" for k in range(6)]
STACKS = st.lists(st.sampled_from(POOL), min_size=1, max_size=5, unique=True)


@given(
    image=STACKS,
    present=st.lists(STACKS, max_size=3),
    store=st.sampled_from(["containerd", "overlay2"]),
)
def test_the_three_callers_agree(image: list[str], present: list[list[str]], store: str) -> None:
    """What a build, a bundle and the loader would send of an image to an engine that has others."""
    contents = EngineContents(
        store=store,
        blobs=frozenset(blob for stack in present for blob in stack),
        chains=frozenset(chain for stack in present for chain in chains(*stack)),
    )
    layers = tuple(
        BundledLayer(digest=blob, size=1, diff_id=diff(blob), unpacked=1, media_type=PLAIN) for blob in image
    )
    bundled = BundledImage(name="r/asr:x", stage="asr", config=b"{}", layers=layers)
    by_bundle = [layer.digest for layer in bundles.lacking(bundled, contents)]

    inventory = {
        "images": [{"name": "r/asr:x", "manifest": D, "config": C, "layers": image}],
        "layers": {blob: {"diff_id": diff(blob)} for blob in image},
    }
    by_loader = loader.plan(inventory, contents)[0].layers

    descriptors = [oci.Descriptor(media_type=oci.TAR, digest=blob, size=1) for blob in image]
    oci_layers = tuple(oci.Layer(blob=d, diff_id=diff(d.digest), history={}) for d in descriptors)
    written = oci.write(oci.Image(config={}, layers=oci_layers, rest=()))
    stored = Stored(
        ref="r/asr:x",
        manifest=oci.describe(oci.MANIFEST, written.manifest),
        config=written.config_descriptor,
        layers=oci_layers,
        written=written,
    )
    by_build = [blob.digest for blob in load.lacking(contents, stored, ())]
    assert by_bundle == by_loader == by_build


def test_an_earlier_image_brings_layers_for_a_later_one() -> None:
    """The loader sends a shared base once, in either store."""
    for store in ("containerd", "overlay2"):
        inventory = {
            "images": [
                {"name": "r/base:x", "manifest": A, "config": A, "layers": [A]},
                {"name": "r/asr:x", "manifest": B, "config": B, "layers": [A, B]},
            ],
            "layers": {blob: {"diff_id": diff(blob)} for blob in (A, B)},
        }
        plan = loader.plan(inventory, EngineContents(store=store))
        assert [delivery.layers for delivery in plan] == [[A], [B]]


def test_blobs_of_a_build_count_for_containerd_alone() -> None:
    """BuildKit's export is in a containerd store already; a graph driver doesn't see it."""
    layer = oci.Layer(blob=oci.Descriptor(media_type=oci.TAR, digest=A, size=1), diff_id=diff(A), history={})
    image = SimpleNamespace(layers=(layer,))
    assert load.lacking(EngineContents(store="containerd"), image, [A]) == ()  # type: ignore[arg-type]
    assert load.lacking(EngineContents(store="overlay2"), image, [A]) == (layer.blob,)  # type: ignore[arg-type]
