"""Bundles made by somebody who means harm, or by a bad stick: each a name, what is done to a good one, what must be said."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from builder.core.bundle.contents import dump
from builder.core.bundle.image import PLAIN, ZSTD, BundledImage, BundledLayer
from builder.core.images.oci import digest
from builder.edges.bundle import signing
from tests import bundles

PART = "whisperbake.tar.{:03}"
NOTE = b"a file that is no blob\n"


@dataclass(frozen=True)
class Hostile:
    """One of them."""

    name: str
    change: Callable[[Path], None]
    says: str
    """A word of the error's line: the part, where there is one to blame."""
    codes: tuple[int, ...] = (5,)
    options: tuple[str, ...] = ()
    """Of load.py; ``{}`` is the folder above the bundle."""

    @property
    def alone(self) -> bool:
        """It is refused before an engine is asked."""
        words = (
            "flipped",
            "swapped",
            "of another bundle",
            "bomb",
            "zstd",
            "no tar",
            "diff id",
            "other weights",
            "contradict",
            "in another order",
            "another image's",
            "config that is none",
            "another file's sha256",
            "another path",
            "in the place of a blob",
            "engine of the future",
            "another processor",
        )
        return not any(word in self.name for word in words)


HOSTILE: list[Hostile] = []


def case(name: str, says: str, *, codes: tuple[int, ...] = (5,), options: tuple[str, ...] = ()) -> Any:
    def add(change: Callable[[Path], None]) -> Callable[[Path], None]:
        HOSTILE.append(Hostile(name, change, says, codes, options))
        return change

    return add


def add(name: str, says: str, change: Callable[[Path], Any], **more: Any) -> None:
    HOSTILE.append(Hostile(name, lambda folder: change(folder) and None, says, **more))


def lie(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """An inventory that says something else; nothing but the lie is changed."""
    path = folder / "inventory.json"
    data = json.loads(path.read_bytes())
    change(data)
    path.write_bytes(dump(data))


def replaced(folder: Path, images: Callable[[bundles.Set], None], **more: Any) -> None:
    """A bundle that was written by the rules, of other images."""
    made = bundles.Set()
    images(made)
    shutil.rmtree(folder)
    made.write(folder, **more)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def rehashed(folder: Path, at: int, new: bytes) -> None:
    """Other bytes at a place of the tar, in a part whose hashes are made to fit."""
    size = (folder / PART.format(0)).stat().st_size
    path = folder / PART.format(at // size)
    data = bytearray(path.read_bytes())
    data[at % size : at % size + len(new)] = new
    path.write_bytes(data)
    lie(folder, lambda d: bundles.fit(folder, d))


def link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


# Bad sticks

for k in (0, 1, 2):
    add(f"part {k} cut short", PART.format(k), lambda f, k=k: os.truncate(f / PART.format(k), 500_000))
    add(f"part {k} missing", PART.format(k), lambda f, k=k: (f / PART.format(k)).unlink())
    add(f"a byte of part {k} flipped", PART.format(k), lambda f, k=k: flip(f / PART.format(k), 690_000))
add("part empty", PART.format(1), lambda f: os.truncate(f / PART.format(1), 0))
add("part grown by a byte", PART.format(2), lambda f: (f / PART.format(2)).open("ab").write(b"0"))
add("part grown by zeros", PART.format(0), lambda f: os.truncate(f / PART.format(0), 1 << 40))
add("the first byte of a blob flipped", PART.format(2), lambda f: flip(f / PART.format(2), 0))


@case("two parts swapped", PART.format(0))
def _(folder: Path) -> None:
    first, second = folder / PART.format(0), folder / PART.format(1)
    first.replace(folder / "x")
    second.replace(first)
    (folder / "x").replace(second)


@case("a part of another bundle", PART.format(1))
def _(folder: Path) -> None:
    other = folder.parent / "other"
    made = bundles.Set()
    made.image("asr", [made.layer({"models/weights.bin": bundles.noise(2_500_000, 9)}, model="tiny")])
    made.write(other)
    shutil.copy(other / PART.format(1), folder / PART.format(1))


for word, target in (("a file outside", "/etc/hostname"), ("zeros without end", "/dev/zero"), ("nothing", "/nowhere")):
    add(f"part is a link to {word}", PART.format(1), lambda f, t=target: link(f / PART.format(1), t) or True)


@case("part is a folder", PART.format(1))
def _(folder: Path) -> None:
    (folder / PART.format(1)).unlink()
    (folder / PART.format(1)).mkdir()


@case("part is a pipe", PART.format(1))
def _(folder: Path) -> None:
    (folder / PART.format(1)).unlink()
    os.mkfifo(folder / PART.format(1))


# Inventories that are none

for word, data in (
    ("empty", b""),
    ("cut short", b'{"schema": 1, "kin'),
    ("binary", bytes(range(256))),
    ("a list", b"[1, 2]"),
    ("nested without end", b"[" * 100_000),
    ("too large", b" " * (33 << 20)),
    ("of another schema", b'{"schema": 2}'),
    ("naming things twice", b'{"schema": 1, "schema": 1}'),
):
    add(f"inventory {word}", "inventory.json", lambda f, d=data: (f / "inventory.json").write_bytes(d))
add("inventory missing", "inventory.json", lambda f: (f / "inventory.json").unlink())
add("inventory a link", "inventory.json", lambda f: link(f / "inventory.json", "/dev/zero"))

# Inventories that lie

EXTRA = "job/note.txt"


def of_file(path: str, /, **change: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda d: next(f for f in d["files"] if f["path"].startswith(path)).update(change)


for path in (
    "../outside",
    "/etc/outside",
    "job/../../outside",
    "job/./x",
    "job//x",
    "job\\..\\x",
    "job/a\nb",
    "-rf",
    "",
):
    add(f"a path {path!r}", "path", lambda f, p=path: lie(f, of_file(EXTRA, path=p)))
add("a file twice", "twice", lambda f: lie(f, of_file(EXTRA, path="oci-layout")))
add("a file twice but for its case", "twice", lambda f: lie(f, of_file(EXTRA, path="OCI-LAYOUT")))
add("a file in the place of another", "not where it says", lambda f: lie(f, of_file(EXTRA, at=512)))
add("a negative size", "no size", lambda f: lie(f, of_file(EXTRA, size=-1)))
add("a size that is no number", "no size", lambda f: lie(f, of_file(EXTRA, size=True)))
add("a wrong size", "not where it says", lambda f: lie(f, of_file(EXTRA, size=1 << 40)))
add("another file's sha256", f"bytes of {EXTRA}", lambda f: lie(f, of_file(EXTRA, sha256="0" * 64)))
add("a blob under another name", "not named by its sha256", lambda f: lie(f, of_file("blobs", sha256="0" * 64)))
add(
    "a layer of two sizes",
    "two sizes",
    lambda f: lie(f, lambda d: [x.update(size=7, unpacked=7) for x in d["layers"].values()]),
)
add(
    "weights that unpack",
    "contradicts itself",
    lambda f: lie(f, lambda d: [x.update(unpacked=9) for x in d["layers"].values()]),
)
add(
    "an unknown kind of layer",
    "is not a kind",
    lambda f: lie(f, lambda d: [x.update(media_type="x") for x in d["layers"].values()]),
)
add(
    "a part by another name", "is not a part", lambda f: lie(f, lambda d: d["parts"][0].update(name="../../etc/passwd"))
)
add("parts that don't add up", "add up", lambda f: lie(f, lambda d: d["parts"].pop()))


def first_image(folder: Path, change: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
    """The first image of the inventory gets other values; ``change`` sees all of them."""
    lie(folder, lambda d: d["images"][0].update(change(d["images"])))


add("an image of no layer", "0 layers", lambda f: first_image(f, lambda i: {"layers": []}))
add("an image of too many layers", "128 layers", lambda f: first_image(f, lambda i: {"layers": i[0]["layers"] * 128}))
add("an image with an odd name", "is not an image name", lambda f: first_image(f, lambda i: {"name": "../../x?y=z:t"}))
add("two images of one name", "twice", lambda f: first_image(f, lambda i: {"name": i[1]["name"]}))
add("a stage that leads out", "no stage", lambda f: first_image(f, lambda i: {"stage": "../x"}))
add("another image's config", "contradict", lambda f: first_image(f, lambda i: {"config": i[1]["config"]}))
add("another image's manifest", "contradict", lambda f: first_image(f, lambda i: {"manifest": i[1]["manifest"]}))
add("acceptance outside", "acceptance", lambda f: lie(f, lambda d: d.update(acceptance={"job": "job/../../x"})))
add("a layer of unknown make", "not described", lambda f: lie(f, lambda d: d["layers"].clear()))
add("layers in another order", "contradict", lambda f: lie(f, lambda d: d["images"][1]["layers"].reverse()))
add("an engine of the future", "99.0", lambda f: lie(f, lambda d: d["engine"].update(oldest="99.0")), codes=(3,))
add(
    "another processor",
    "linux/s390x",
    lambda f: lie(f, lambda d: d["engine"].update(platform="linux/s390x")),
    codes=(3,),
)


@case("a tar that says another path than the inventory", f"header of {EXTRA}")
def _(folder: Path) -> None:
    entry = next(f for f in json.loads((folder / "inventory.json").read_bytes())["files"] if f["path"] == EXTRA)
    rehashed(folder, entry["at"] - 512, b"../../../etc/passwd")


@case("a link in the place of a blob", "header of blobs/sha256/")
def _(folder: Path) -> None:
    entry = next(f for f in json.loads((folder / "inventory.json").read_bytes())["files"] if f["size"] > 2_000_000)
    rehashed(folder, entry["at"] - 512 + 156, b"2/etc/passwd")


@case("other weights, in a part whose sha256 was made to fit", "contradicts itself")
def _(folder: Path) -> None:
    rehashed(folder, 1_500_000, b"\0" * 16)


# Bundles written by the rules, of bad images


def only(blob: bytes, *, diff_id: str, unpacked: int, media_type: str = ZSTD) -> Callable[[bundles.Set], None]:
    def images(made: bundles.Set) -> None:
        layer = BundledLayer(
            digest=digest(blob), size=len(blob), diff_id=diff_id, unpacked=unpacked, media_type=media_type
        )
        made.blobs[layer.digest] = blob
        made.image("bomb", [layer])

    return images


NOTHING = digest(b"")
ZEROS = zstandard.ZstdCompressor().compress(bytes(64 << 20))

add("a bomb of zeros", "unpacks to far more", lambda f: replaced(f, only(ZEROS, diff_id=NOTHING, unpacked=10_240)))
add(
    "a bomb behind a small frame",
    "unpacks to far more",
    lambda f: replaced(
        f, only(zstandard.ZstdCompressor().compress(bytes(10_240)) + ZEROS, diff_id=NOTHING, unpacked=10_240)
    ),
)
add("an honest bomb", "free", lambda f: replaced(f, only(ZEROS, diff_id=NOTHING, unpacked=1 << 49)), codes=(3,))
add(
    "zstd that is none", "is not zstd", lambda f: replaced(f, only(b"no zstd at all", diff_id=NOTHING, unpacked=10_240))
)
add("zstd cut short", "cut short", lambda f: replaced(f, only(ZEROS[:-9], diff_id=NOTHING, unpacked=64 << 20)))
add(
    "a layer that is no tar",
    "refused",
    lambda f: replaced(f, only(b"x" * 4096, diff_id=digest(b"x" * 4096), unpacked=4096, media_type=PLAIN)),
)


@case("a layer with the diff id of another", "refused")
def _(folder: Path) -> None:
    def images(made: bundles.Set) -> None:
        layer = made.layer({"a": b"b"})
        only(made.blobs[layer.digest], diff_id=NOTHING, unpacked=layer.unpacked)(made)

    replaced(folder, images)


@case("a config that is none", "contradict")
def _(folder: Path) -> None:
    def images(made: bundles.Set) -> None:
        good = made.image("asr", [made.layer({"a": b"b"})])
        made.images[0] = BundledImage(name=good.name, stage="asr", config=b"[]", layers=good.layers)

    replaced(folder, images)


# Signatures


def keys(folder: Path, name: str) -> Path:
    private = folder.parent / name
    signing.make_keys(private, private.with_suffix(".pem"))
    return private


def signed(folder: Path, name: str = "own") -> None:
    raw = (folder / "inventory.json").read_bytes()
    (folder / "inventory.json.sig").write_bytes(signing.sign(keys(folder, name), raw))


@case("signed by somebody else", "was not signed with own.pem", options=("--key", "{}/own.pem"))
def _(folder: Path) -> None:
    keys(folder, "own")
    signed(folder, "other")


@case("not signed at all", "not signed", options=("--key", "{}/own.pem"))
def _(folder: Path) -> None:
    keys(folder, "own")


@case("changed after it was signed", "was not signed with own.pem", options=("--key", "{}/own.pem"))
def _(folder: Path) -> None:
    signed(folder)
    lie(folder, lambda d: d.update(made_by="me"))


@case("a signature cut short", "was not signed with own.pem", options=("--key", "{}/own.pem"))
def _(folder: Path) -> None:
    signed(folder)
    os.truncate(folder / "inventory.json.sig", 60)


add("another fingerprint", "another bundle", lambda f: True, options=("--fingerprint", "00112233 44556677"))
add("another loader", "load.py", lambda f: (f / "load.py").open("ab").write(b"\n# and more\n"))


def good_bundle(folder: Path) -> Path:
    """A good bundle of three images, in three parts: what every hostile one begins as."""
    bundles.three().write(folder, extras={EXTRA: NOTE})
    return folder


def load(host: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a bundle's own loader on an engine; its target is beside the bundle. Where no option vouches, the caller does."""
    vouching = {"--key", "--new-key", "--fingerprint", "--allow-unsigned", "--run"} & set(options)
    words = [*options, *(() if vouching else ("--allow-unsigned",))]
    done = subprocess.run(
        [sys.executable, "-I", str(folder / "load.py"), "--to", str(folder.parent / "target"), *words],
        env={"PATH": os.environ["PATH"], "DOCKER_HOST": host},
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def refused(hostile: Hostile, good: Path, folder: Path, host: str) -> None:
    """A copy of a good bundle in ``folder``, made hostile: its loader names what is wrong and leaves nothing outside."""
    bundle = folder / "bundle"
    shutil.copytree(good, bundle)
    hostile.change(bundle)
    before = _tree(folder)
    done = load(host, bundle, *(o.format(folder) for o in hostile.options))
    assert done.returncode in hostile.codes, done.stderr
    error = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert hostile.says in error, done.stderr
    assert "\n  next: " in done.stderr, done.stderr
    left = {p for p in _tree(folder) - before if not p.startswith("target")}
    assert left == set(), "nothing outside of its folder"
    assert not (folder / "target/inventory.json").exists()


def _tree(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}
