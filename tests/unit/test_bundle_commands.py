"""What the bundle commands say: JSON and text of made-up results, and what an inventory tells of sizes and licences."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.core.bundle import contents, licences
from builder.core.bundle.contents import InventoryChange
from builder.core.text import format_size
from builder.errors import IntegrityError
from builder.receiver.parts import Fault
from builder.views import bundle as views
from builder.workflows.bundle import (
    BundleCreated,
    BundleInspected,
    BundleOptions,
    BundleRepaired,
    BundleVerified,
    KeysMade,
)
from tests import bundles
from tests.golden import project

FINGERPRINT = "ab" * 32
ALOUD = " ".join([FINGERPRINT[k : k + 4] for k in range(0, 64, 4)])


def inventory(**more: Any) -> dict[str, Any]:
    """A bundle's inventory with a model that is not for commercial use."""
    made = bundles.three()
    settings = project.read({})
    two = [(m, pin) for m, pin in project.models(settings) if m.id in ("base", "campplus")]
    models = [(replace(m, commercial=m.id != "campplus"), pin) for m, pin in two]
    plan = bundles.planned(made, licences=licences.licences(models), **more)
    return dict(json.loads(bundles.finished(plan)))


def test_sizes_are_those_of_the_files_and_layers() -> None:
    """Weights, code and the rest add up; what a difference leaves out is counted apart."""
    whole = inventory(extras={"licences/models.md": (7, "1" * 64)})
    sizes = contents.sizes(whole)
    layers = whole["layers"].values()
    assert sizes.content == "complete"
    assert sizes.whole == sum(p["size"] for p in whole["parts"])
    assert sizes.weights == sum(x["size"] for x in layers if x["model"] == "tiny") > 2_000_000
    assert sizes.code == sum(x["size"] for x in layers if x["model"] is None)
    assert sizes.other == 7 + contents.sizes(inventory()).other, "the index of docker load is counted too"
    assert sizes.left_out == 0
    code = contents.sizes(inventory(content=contents.CODE))
    assert (code.weights, code.left_out, code.other) == (0, sizes.weights, 0)


def test_an_image_row_counts_what_the_bundle_holds() -> None:
    rows = {row.name: row for row in contents.image_rows(inventory(content=contents.CODE))}
    asr = rows["wb-bundle/asr:slim-cpu"]
    assert (asr.held, asr.layers, asr.models) == (2, 3, ("tiny",))
    assert asr.size == sum(
        x["size"] for d, x in inventory()["layers"].items() if d in image("asr", inventory())["layers"]
    )
    assert rows["wb-bundle/base:slim-cpu"].held == 1


def image(stage: str, of: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(i for i in of["images"] if i["stage"] == stage)
    return found


def created(**more: Any) -> BundleCreated:
    values = {"folder": Path("/stick/first"), "up_to_date": False, "key": Path("/k/sender"), "fingerprint": FINGERPRINT}
    return BundleCreated(**{**values, "inventory": inventory(), **more})  # type: ignore[arg-type]


def test_create_says_what_was_written_and_what_to_do_next() -> None:
    lines = views.CREATE.text(created()).splitlines()
    assert lines[0].startswith("/stick/first: complete, 2.")
    assert " in 3 parts (weights 2." in lines[0]
    assert lines[1].startswith("not for commercial use: ")
    assert lines[2] == f"for Docker Engine 23.0 or later on linux/amd64; fingerprint {ALOUD}"
    assert lines[3] == "next: copy the folder, then there: python3 first/load.py --key sender.pub.pem"
    assert len(lines) == 4
    token = views.CREATE.text(created(key=Path("/k/token.pub.pem"), by_command=True)).splitlines()[-1]
    assert token.endswith("load.py --key token.pub.pem")
    unsigned = views.CREATE.text(created(key=None)).splitlines()[-1]
    assert unsigned.endswith(f"load.py --fingerprint '{ALOUD[:39]}'")
    code = views.CREATE.text(created(inventory=inventory(content=contents.CODE)))
    assert "left out, the receiver has it: 2." in code


def test_the_json_of_create() -> None:
    data = views.CREATE.data(created())
    assert list(data) == [
        "folder",
        "state",
        "signed",
        "fingerprint",
        "parts",
        "content",
        "bytes",
        "weights_bytes",
        "code_bytes",
        "other_bytes",
        "left_out_bytes",
    ]
    assert (data["folder"], data["state"], data["signed"], data["fingerprint"]) == (
        "/stick/first",
        "created",
        True,
        FINGERPRINT,
    )
    assert data["bytes"] == sum(part["size"] for part in data["parts"])
    assert views.CREATE.data(created(up_to_date=True))["state"] == "up to date"
    json.dumps(data)


def test_verify_fails_with_the_names_of_damaged_files() -> None:
    whole = BundleVerified(folder=Path("/b"), fingerprint=FINGERPRINT, faults=(), signed=False, parts=3)
    assert whole.failure is None
    assert views.VERIFY.text(whole) == f"whole: 3 parts, fingerprint {ALOUD}"
    bad = replace(whole, faults=(Fault("load.py"), Fault("whisperbake.tar.001", ("blobs/x",))), signed=True)
    assert views.VERIFY.text(bad) == ""
    assert views.VERIFY.data(bad) == {
        "folder": "/b",
        "fingerprint": FINGERPRINT,
        "damaged": ["load.py", "whisperbake.tar.001"],
        "inside": {"whisperbake.tar.001": ["blobs/x"]},
        "signed": True,
    }
    assert isinstance(bad.failure, IntegrityError)
    assert bad.failure.what == "damaged or missing: load.py, whisperbake.tar.001 (blobs/x)"
    assert bad.failure.hint == "bundle repair /b --from ANOTHER-COPY"


def test_inspect_shows_images_licences_and_the_fingerprint() -> None:
    inspected = BundleInspected(fingerprint=FINGERPRINT, inventory=inventory())
    lines = views.INSPECT.text(inspected).splitlines()
    assert lines[0].split() == ["IMAGE", "MANIFEST", "SIZE", "LAYERS", "HERE", "MODELS"]
    row = next(line for line in lines if line.startswith("wb-bundle/asr:slim-cpu"))
    assert row.split()[-4:] == ["3", "of", "3", "tiny"]
    assert any("not for commercial use" in line for line in lines)
    assert lines[-1] == f"bundle, complete, made by test; fingerprint {ALOUD}"
    data = views.INSPECT.data(inspected)
    assert next(iter(data)) == "fingerprint"
    assert data["inventory"] == inspected.inventory
    empty = {**inventory(content=contents.MODELS), "models": []}
    assert views.INSPECT.text(BundleInspected(fingerprint=FINGERPRINT, inventory=empty)).startswith("no images\n\n")


def test_diff_shows_images_and_new_layers() -> None:
    change = InventoryChange(images=(("r/asr:x", "other"),), layers=(("sha256:1", "code of asr", 1500),))
    assert views.DIFF.data(change) == {
        "images": [("r/asr:x", "other")],
        "layers": [("sha256:1", "code of asr", 1500)],
        "bytes": 1500,
    }
    text = views.DIFF.text(change)
    assert "other" in text
    assert "code of asr" in text
    assert text.splitlines()[-2:] == ["", f"new layers: {format_size(1500)}"]
    assert views.DIFF.text(InventoryChange(images=())) == "the same"


def test_repair_and_keys() -> None:
    repaired = BundleRepaired(folder=Path("/b"), replaced=("load.py", "inventory.json"))
    assert views.REPAIR.text(repaired) == "replaced: load.py, inventory.json"
    assert views.REPAIR.data(repaired) == {"folder": "/b", "replaced": ["load.py", "inventory.json"]}
    assert views.REPAIR.text(replace(repaired, replaced=())) == "nothing was damaged"
    keys = KeysMade(private=Path("/k/sender"), public=Path("/k/sender.pub.pem"))
    assert views.KEYS.data(keys) == {"private": "/k/sender", "public": "/k/sender.pub.pem"}
    assert views.KEYS.text(keys).splitlines() == [
        "/k/sender: yours alone (bundle create --sign /k/sender)",
        "/k/sender.pub.pem: for receivers, by another way than the bundle",
    ]


def test_the_options_say_what_a_bundle_holds() -> None:
    out = Path("/b")
    assert BundleOptions(out=out).content == "complete"
    assert BundleOptions(out=out, code_only=True).content == "code"
    assert BundleOptions(out=out, models_only=True).content == "models"


def test_licences_are_a_table_of_all_models() -> None:
    models = project.models(project.read({}))
    lines = licences.licence_table(models).splitlines()
    assert lines[0] == "| model | what it is | licence | commercial use | page | revision |"
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == [m.id for m, _ in models]
    first, pin = models[0]
    assert lines[2] == (
        f"| {first.id} | {first.title} | {first.licence} | {'yes' if first.commercial else 'no'}"
        f" | {first.page or first.repo or ''} | {pin.revision} |"
    )
    assert "| no |" in licences.licence_table([(replace(first, commercial=False), pin)])
    described = licences.licences(models)[0]
    assert (described.id, described.size, described.revision) == (first.id, pin.size, pin.revision)
