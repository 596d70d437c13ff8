"""Single bits of a signed bundle, by number: ``attempt(17)`` always flips the same one.

Every kind of file comes in turn, whatever its size: a layer of code, weights, a config, a manifest, what engines read first, a
licence, a bill of materials, the expected result, headers and padding of the tar; load.py, README.txt, the inventory and its
signature beside it. ``bundle verify`` and ``load.py --check`` have to refuse the bundle, and to name what the bit is in.
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from builder.core.bundle import manual
from builder.core.bundle import plan as core
from builder.core.images.oci import digest
from builder.edges.bundle import folder as edge
from builder.edges.bundle import signing
from builder.edges.bundle.part_writer import PartSource
from builder.errors import BakeError
from builder.receiver.inventory import INVENTORY, MANUAL, SIGNATURE
from builder.receiver.parts import Bundle, faults_text
from tests import bundles
from tests.hostile import Attempt
from tests.hostile.made_bundles import MADE, keys, temporary_folder, three

PART_SIZE = 60_000
"""Bytes: weights are cut between parts, and other files lie whole in one."""

BESIDE = (edge.LOADER, MANUAL, INVENTORY, SIGNATURE)

EXTRAS = {
    "job/expected.json": b'{"words": ["good", "morning"]}\n',
    "job/job.json": b'{"id": "example"}\n',
    "licences/models.md": b"MIT\n",
    "licences/sbom.spdx.json": b'{"spdxVersion": "SPDX-2.3"}\n' * 40,
    "native/project/build.py": b"print(1)\n",
}


@functools.cache
def good() -> Path:
    """A signed bundle with all that one can have."""
    folder = temporary_folder("wb-flips-") / "bundle"
    made = three()
    made.blobs |= {digest(data): data for data in EXTRAS.values()}
    described = {path: (len(data), digest(data)[7:]) for path, data in EXTRAS.items()}
    plan = core.dated(bundles.planned(made, extras=described, made={}, part_size=PART_SIZE), MADE)
    text = manual.manual(plan.inventory)
    texts = {edge.LOADER: edge.loader(), MANUAL: text}
    plan = core.with_manual(plan, text)
    raw = edge.create(folder, plan, PartSource(open=made.open), texts=texts, on_progress=lambda _: None)
    (folder / SIGNATURE).write_bytes(signing.sign(keys() / "sender", raw))
    return folder


@functools.cache
def places() -> dict[str, list[tuple[str, int, int, str]]]:
    """Kind -> where its bytes are: file, first byte, bytes, and what has to be named beside the file."""
    bundle = Bundle(good())
    found: dict[str, list[tuple[str, int, int, str]]] = {
        name: [(name, 0, (good() / name).stat().st_size, "")] for name in BESIDE
    }
    begin = 0
    for part in bundle.inventory["parts"]:
        for piece in bundle.tar.pieces(begin, begin + part["size"]):
            kind = _kind(bundle, piece.entry["path"]) if piece.entry and piece.kind == "bytes" else piece.kind
            row = (part["name"], piece.begin - begin, piece.end - piece.begin, piece.name)
            found.setdefault(kind, []).append(row)
        begin += part["size"]
    return found


def _kind(bundle: Bundle, path: str) -> str:
    if not path.startswith("blobs/"):
        return path
    return bundle.about(path).partition(", ")[2].partition(" of ")[0]


def attempt(number: int) -> Attempt:
    """One flip; the same for the same number."""
    kinds = sorted(places())
    chance, kind = random.Random(number), kinds[number % len(kinds)]
    name, first, size, inside = chance.choice(places()[kind])
    at, bit = first + chance.randrange(size), chance.randrange(8)
    run = functools.partial(flipped, name, at, bit, inside)
    return Attempt(name=f"{number} {kind}: bit {bit} of byte {at} of {name}", run=run)


def flipped(name: str, at: int, bit: int, inside: str, folder: Path) -> str | None:
    """Flip a bit in a copy; what was missed or not named, or None."""
    bundle = folder / "bundle"
    shutil.copytree(good(), bundle)
    data = bytearray((bundle / name).read_bytes())
    data[at] ^= 1 << bit
    (bundle / name).write_bytes(data)
    wrong = [f"{who}: {text[-300:]!r}" for who, text in _told(bundle, name) if name not in text or inside not in text]
    return "; ".join(wrong) or None


def _told(bundle: Path, name: str) -> Iterator[tuple[str, str]]:
    """Who looked at a bundle, and what the error was; an empty text where there was none."""
    yield "bundle verify", _verified(bundle)
    if name == edge.LOADER:  # a loader with another bit is somebody else's program
        return
    words = [sys.executable, "-I", str(bundle / edge.LOADER), "--check", "--key", str(keys() / "sender.pem")]
    environment: dict[str, Any] = {"PATH": os.environ["PATH"], "HOME": str(bundle.parent)}
    done = subprocess.run(words, env=environment, cwd=bundle.parent, capture_output=True, text=True, check=False)
    yield "load.py --check", done.stderr if done.returncode == 5 and "Traceback" not in done.stderr else ""


def _verified(bundle: Path) -> str:
    """As ``bundle verify --key`` does it."""
    try:
        opened = edge.open_bundle(bundle)
        signing.verify_file(keys() / "sender.pem", opened.raw, bundle / SIGNATURE)
        faults = edge.faults(opened, lambda _: None)
    except BakeError as error:
        return f"{error.what} {error.where}"
    return faults_text(faults) if faults else ""
