"""inventory.json: read, and every claim of it held against the others."""

from __future__ import annotations

import json
import os
import re
import stat
import tarfile
from pathlib import Path
from typing import Any

BLOCK = 512
"""Bytes of a tar header, and what every file is padded to."""

CHUNK = 1 << 20
LARGEST_INVENTORY = 32 << 20

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
HEX = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[a-z0-9][a-zA-Z0-9._:/-]{0,250}:[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
PATH = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9._+@ -]*(/[A-Za-z0-9._+@-][A-Za-z0-9._+@ -]*)*")
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
PLAIN = "application/vnd.oci.image.layer.v1.tar"
INVENTORY, SIGNATURE, KEY = "inventory.json", "inventory.json.sig", "sender.pem"

Inventory = dict[str, Any]
Entry = dict[str, Any]


class Stop(Exception):
    """Something that a person can act on: the exit code, what is wrong, what to do next."""

    def __init__(self, code: int, what: str, do: str = "") -> None:
        super().__init__(what)
        self.code, self.what, self.do = code, what, do


def bad(what: str) -> Stop:
    return Stop(5, f"{INVENTORY}: {what}", "ask the sender for this file again, and compare its sha256")


def read_inventory(folder: Path) -> tuple[bytes, Inventory]:
    """inventory.json of a bundle, checked; its bytes too."""
    raw = read_file(folder / INVENTORY, LARGEST_INVENTORY)
    return raw, check_inventory(raw)


def read_file(path: Path, largest: int) -> bytes:
    """A small regular file that is no link."""
    try:
        with open_file(path) as source:
            data: bytes = source.read(largest + 1)
    except FileNotFoundError:
        raise Stop(5, f"{path.name} is missing", f"it belongs into {path.parent}") from None
    except OSError as error:
        raise Stop(5, f"{path.name} can't be read: {error.strerror}", "copy it again") from None
    if len(data) > largest:
        raise Stop(5, f"{path.name} is larger than {largest} bytes", "ask the sender for this file again")
    return data


def open_file(path: Path) -> Any:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(0, "no regular file")
    return os.fdopen(handle, "rb", buffering=0)


def check_inventory(raw: bytes) -> Inventory:
    """The inventory in ``raw``, with every claim of it that can be held against another. Raises Stop."""
    try:
        data = json.loads(raw.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise bad(f"this is no inventory ({error})") from None
    try:
        _check(data)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise bad(f"this is no inventory ({type(error).__name__}: {error})") from None
    return data  # type: ignore[no-any-return]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _check(data: Any) -> None:
    if data["schema"] != 1:
        raise Stop(5, f"{INVENTORY} has schema {data['schema']!r}; this loader reads 1", "use the load.py beside it")
    need(data["kind"] in ("bundle", "receiver"), "it is neither a bundle's nor a receiver's")
    need(data["content"] in ("complete", "difference", "code", "models"), "unknown content")
    for name, layer in data["layers"].items():
        need(matches(DIGEST, name) and matches(DIGEST, layer["diff_id"]), f"{name!r} is no layer")
        need(number(layer["size"]) and number(layer["unpacked"]), f"{name}: no size")
        need(layer["media_type"] in (ZSTD, PLAIN), f"{name}: {layer['media_type']!r} is no kind of layer")
        plain = layer["media_type"] == PLAIN
        need(
            not plain or (name == layer["diff_id"] and layer["size"] == layer["unpacked"]),
            f"{name}: contradicts itself",
        )
        need(layer["model"] is None or isinstance(layer["model"], str), f"{name}: no model")
    names: set[str] = set()
    for image in [*data["images"], *data["known"]]:
        need(matches(NAME, image["name"]), f"{image['name']!r} is no image name")
        need(matches(DIGEST, image["manifest"]) and matches(DIGEST, image["config"]), f"{image['name']}: no digests")
        need(0 < len(image["layers"]) <= 127, f"{image['name']}: {len(image['layers'])} layers")
        need(all(matches(DIGEST, x) for x in image["layers"]), f"{image['name']}: no digests")
    for image in data["images"]:
        need(image["name"] not in names, f"{image['name']} stands twice")
        names.add(image["name"])
        need(all(x in data["layers"] for x in image["layers"]), f"{image['name']}: a layer is not described")
        need(image["stage"] is None or matches(PATH, image["stage"]), f"{image['name']}: no stage")
    _check_files(data)
    if data["kind"] == "bundle":
        loader, engine = data["loader"], data["engine"]
        need(loader["name"] == "load.py" and matches(HEX, loader["sha256"]), "no loader")
        need(matches(re.compile(r"\d+\.\d+"), engine["oldest"]), "no oldest engine")
        need(matches(re.compile(r"[a-z0-9]+/[a-z0-9]+"), engine["platform"]), "no platform")
    if data["acceptance"] is not None:  # a difference may leave out what the receiver has of it
        need(all(inside(p) and p.startswith("job/") for p in data["acceptance"].values()), "acceptance is no job")


def _check_files(data: Inventory) -> None:
    """Paths stay inside; offsets are those of a tar of just these files, and parts add up to it."""
    at, paths = 0, set()
    for entry in data["files"]:
        path = entry["path"]
        need(inside(path), f"{path!r} is no path inside a bundle")
        need(path.casefold() not in paths, f"{path} stands twice")
        paths.add(path.casefold())
        need(number(entry["size"]) and matches(HEX, entry["sha256"]), f"{path}: no size or sha256")
        if path.startswith("blobs/"):
            need(path == f"blobs/sha256/{entry['sha256']}", f"{path} is not named by its sha256")
            layer = data["layers"].get(f"sha256:{entry['sha256']}")
            need(layer is None or layer["size"] == entry["size"], f"{path}: two sizes")
        if data["kind"] == "bundle":
            at += len(header(path, entry["size"]))
            need(entry["at"] == at, f"{path} is not where it says")
            at += entry["size"] + (-entry["size"] % BLOCK)
    if data["kind"] == "bundle":
        for index, part in enumerate(data["parts"]):
            need(part["name"] == f"whisperbake.tar.{index:03}", f"{part['name']!r} is no part")
            need(
                number(part["size"]) and part["size"] > 0 and matches(HEX, part["sha256"]), f"{part['name']}: no sha256"
            )
        need(sum(p["size"] for p in data["parts"]) == at + 2 * BLOCK, "the parts don't add up to the files")


def need(right: bool, what: str) -> None:
    if not right:
        raise bad(what)


def matches(pattern: re.Pattern[str], text: Any) -> bool:
    return isinstance(text, str) and pattern.fullmatch(text) is not None


def inside(path: Any) -> bool:
    """Whether it is a plain relative path that leads nowhere else."""
    return matches(PATH, path) and len(path.encode()) <= 240 and not {".", ".."} & set(path.split("/"))


def number(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 50


def header(path: str, size: int) -> bytes:
    """The tar header of a file in a bundle: the same everywhere, nothing of the machine in it."""
    info = tarfile.TarInfo(path)
    info.size, info.mode = size, 0o444
    return info.tobuf(tarfile.GNU_FORMAT)
