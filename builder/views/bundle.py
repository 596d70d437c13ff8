"""Results of the commands about bundles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from builder.core.bundle import contents
from builder.core.bundle.contents import InventoryChange
from builder.core.text import format_size, table
from builder.program import shell_word
from builder.receiver.record import about
from builder.views import View

if TYPE_CHECKING:
    from builder.workflows.bundle import BundleCreated, BundleInspected, BundleRepaired, BundleVerified, KeysMade

BOUND = "not for commercial use"

SPOKEN = 32
"""Hex digits of a fingerprint that a receiver is told to type."""


class PartJson(TypedDict):
    """One file of a bundle's tar."""

    name: str
    """Of the file in the bundle's folder."""
    size: int
    """Bytes."""
    cuts: list[str]
    """Hex sha256 of each file that this part has only in part, at most two; whole files have theirs in inventory.json."""


class BundleSizesJson(TypedDict):
    """What a bundle holds, in bytes."""

    content: str
    """complete, difference, code or models."""
    bytes: int
    """Of all parts together."""
    weights_bytes: int
    """Of layers of weights."""
    code_bytes: int
    """Of layers of code."""
    other_bytes: int
    """Of files that are not layers, manifests or configs: licences, the acceptance run, the native set, the index."""
    left_out_bytes: int
    """Of layers that its images have and that are not in it, because the receiver has them."""


class BundleCreateJson(BundleSizesJson):
    """A bundle that was written, or was there already."""

    folder: str
    """The bundle's folder, as it was typed."""
    state: str
    """``created``, or ``up to date``: the folder held this very bundle."""
    signed: bool
    """Whether this command signed it."""
    fingerprint: str
    """Hex sha256 of inventory.json."""
    parts: list[PartJson]
    """Its files, in the order in which they make one tar."""


class BundleVerifyJson(TypedDict):
    """What a look at every byte of a bundle found."""

    folder: str
    """The bundle's folder, as it was typed."""
    fingerprint: str
    """Hex sha256 of inventory.json."""
    damaged: list[str]
    """Names of files that are missing or have other bytes than the inventory says."""
    inside: dict[str, list[str]]
    """Name of a damaged part -> what in it is damaged: paths of the tar, or their headers or padding, and whose they are."""
    signed: bool
    """Whether the signature was checked with a key, and is right."""


class BundleInspectJson(BundleSizesJson):
    """An inventory: of a bundle, or of a receiver."""

    fingerprint: str
    """Hex sha256 of inventory.json."""
    inventory: dict[str, Any]
    """inventory.json itself; docs/air-gap.md has its format."""


class BundleDiffJson(TypedDict):
    """What the second bundle or receiver has that the first hasn't."""

    images: list[tuple[str, str]]
    """Name, and what happened: ``new``, ``gone`` or ``other``."""
    layers: list[tuple[str, str, int]]
    """Digest, what the layer holds, and bytes, of the layers that only the second has; the largest first."""
    bytes: int
    """Of these layers together."""


class BundleRepairJson(TypedDict):
    """A bundle whose damaged files were replaced."""

    folder: str
    """The bundle's folder, as it was typed."""
    replaced: list[str]
    """Names of files; empty when none was damaged."""


class BundleKeysJson(TypedDict):
    """A new pair of keys."""

    private: str
    """Path of the private key (PEM, PKCS #8)."""
    public: str
    """Path of the public key, for receivers (PEM, SubjectPublicKeyInfo)."""


def _sizes(inventory: Mapping[str, Any]) -> BundleSizesJson:
    sizes = contents.sizes(inventory)
    return {
        "content": sizes.content,
        "bytes": sizes.whole,
        "weights_bytes": sizes.weights,
        "code_bytes": sizes.code,
        "other_bytes": sizes.other,
        "left_out_bytes": sizes.left_out,
    }


def _create_data(created: BundleCreated) -> BundleCreateJson:
    return {
        "folder": str(created.folder),
        "state": "up to date" if created.up_to_date else "created",
        "signed": created.signed,
        "fingerprint": created.fingerprint,
        "parts": created.inventory["parts"],
        **_sizes(created.inventory),
    }


def _create_text(created: BundleCreated) -> list[str]:
    inventory, folder = created.inventory, created.folder
    sizes = contents.sizes(inventory)
    lines = [
        f"{folder}: {sizes.content}, {format_size(sizes.whole)} in {len(inventory['parts'])} parts"
        f" (weights {format_size(sizes.weights)}, code {format_size(sizes.code)}, rest {format_size(sizes.other)})"
    ]
    if sizes.left_out:
        whose = "all receivers have" if inventory.get("bases") else "the receiver has"
        lines.append(f"left out, {whose} it: {format_size(sizes.left_out)}")
    if inventory.get("bases"):
        lines.append(f"for receivers in {len(inventory['bases'])} states: each takes what it lacks")
    if bound := [m["id"] for m in inventory["models"] if not m["commercial"]]:
        lines.append(f"{BOUND}: {', '.join(bound)}")
    oldest, platform = inventory["engine"]["oldest"], inventory["engine"]["platform"]
    loader = PurePath(folder.resolve().name) / "load.py"
    lines += [
        f"for Docker Engine {oldest} or later on {platform}; fingerprint {_aloud(created.fingerprint)}",
        f"next: copy the folder, then there: python3 {shell_word(loader)} {_vouching(created)}",
    ]
    return lines


def _vouching(created: BundleCreated) -> str:
    """What the receiver types beside the command, so that somebody vouches for the bundle."""
    if created.key is not None:
        public = created.key.name if created.by_command else f"{created.key.name}.pub.pem"
        return f"--key {shell_word(PurePath(public))}"
    return f"--fingerprint '{_aloud(created.fingerprint[:SPOKEN])}'"


def _verify_data(verified: BundleVerified) -> BundleVerifyJson:
    return {
        "folder": str(verified.folder),
        "fingerprint": verified.fingerprint,
        "damaged": [fault.part for fault in verified.faults],
        "inside": {fault.part: list(fault.inside) for fault in verified.faults if fault.inside},
        "signed": verified.signed,
    }


def _verify_text(verified: BundleVerified) -> list[str]:
    return [] if verified.faults else [f"whole: {verified.parts} parts, fingerprint {_aloud(verified.fingerprint)}"]


def _inspect_data(inspected: BundleInspected) -> BundleInspectJson:
    return {
        "fingerprint": inspected.fingerprint,
        **_sizes(inspected.inventory),
        "inventory": dict(inspected.inventory),
    }


def _inspect_text(inspected: BundleInspected) -> list[str]:
    inventory = inspected.inventory
    rows = [
        (i.name, i.manifest[7:19], format_size(i.size), f"{i.held} of {i.layers}", ", ".join(i.models))
        for i in contents.image_rows(inventory)
    ]
    lines = table(("IMAGE", "MANIFEST", "SIZE", "LAYERS HERE", "MODELS"), rows) if rows else ["no images"]
    licences = [(m["id"], m["licence"], "" if m["commercial"] else BOUND, m["page"] or "") for m in inventory["models"]]
    if licences:
        lines += ["", *table(("MODEL", "LICENCE", "", "PAGE"), licences)]
    kind, content = inventory["kind"], inventory["content"]
    return [*lines, "", f"{kind}, {content}, {about(inventory)}; fingerprint {_aloud(inspected.fingerprint)}"]


def _aloud(fingerprint: str) -> str:
    """Hex digits in fours, as they are read out; load.py takes them so."""
    return " ".join(fingerprint[k : k + 4] for k in range(0, len(fingerprint), 4))


def _diff_data(change: InventoryChange) -> BundleDiffJson:
    return {"images": list(change.images), "layers": list(change.layers), "bytes": change.size}


def _diff_text(change: InventoryChange) -> list[str]:
    rows = [
        *((what, name, "") for name, what in change.images),
        *(("layer", what, format_size(size)) for _, what, size in change.layers),
    ]
    if not rows:
        return ["the same"]
    return [*table(("", "WHAT", "SIZE"), rows), "", f"new layers: {format_size(change.size)}"]


def _repair_data(repaired: BundleRepaired) -> BundleRepairJson:
    return {"folder": str(repaired.folder), "replaced": list(repaired.replaced)}


def _repair_text(repaired: BundleRepaired) -> list[str]:
    return [f"replaced: {', '.join(repaired.replaced)}" if repaired.replaced else "nothing was damaged"]


def _keys_data(keys: KeysMade) -> BundleKeysJson:
    return {"private": str(keys.private), "public": str(keys.public)}


def _keys_text(keys: KeysMade) -> list[str]:
    return [
        f"{keys.private}: yours alone (bundle create --sign {shell_word(keys.private)})",
        f"{keys.public}: for receivers, by another way than the bundle",
    ]


CREATE = View(command="bundle create", shape=BundleCreateJson, data=_create_data, lines=_create_text, version=2)
VERIFY = View(command="bundle verify", shape=BundleVerifyJson, data=_verify_data, lines=_verify_text)
INSPECT = View(command="bundle inspect", shape=BundleInspectJson, data=_inspect_data, lines=_inspect_text)
DIFF = View(command="bundle diff", shape=BundleDiffJson, data=_diff_data, lines=_diff_text)
REPAIR = View(command="bundle repair", shape=BundleRepairJson, data=_repair_data, lines=_repair_text)
KEYS = View(command="bundle keys", shape=BundleKeysJson, data=_keys_data, lines=_keys_text)
