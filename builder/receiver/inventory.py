"""inventory.json: read, and every claim of it held against the others."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.receiver.checking.pieces import TarMap
from builder.receiver.tar import END, header, padding

CHUNK = 1 << 20
LARGEST_INVENTORY = 8 << 20
"""Bytes: twenty times what the largest bundle has, and parsed it is still less than half a gigabyte."""

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
HEX = re.compile(r"[0-9a-f]{64}")
COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
HOST = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
NAME = re.compile(
    rf"(?!sha256:)(?:{HOST}(?:\.{HOST})*(?::[0-9]+)?/)?{COMPONENT}(?:/{COMPONENT})*:[a-zA-Z0-9_][a-zA-Z0-9._-]{{0,127}}"
)
"""A repository with its tag, as engines take them (distribution/reference); not what they would take for a digest."""
LONGEST_NAME = 255
USUAL = re.compile(r"^(?:(?:index\.)?docker\.io/)?(?:library/)?")
"""What engines add to the front of a name, and take away when they show it."""
PATH = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9._+@ -]*(/[A-Za-z0-9._+@-][A-Za-z0-9._+@ -]*)*")
STAGE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
COMMIT = re.compile(r"[0-9a-f]{7,64}(-dirty)?")
VERSION = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}")
TIME = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])T(?:[01][0-9]|2[0-3])(?::[0-5][0-9]){2}Z")
"""UTC; so written, times are in the order of their texts."""
RESERVED = re.compile(r"whisperbake-load/.*|.*:(?:job|previous)-[0-9a-f]{8}-[0-9a-f]{12}")
"""Names that the loader gives and takes away again: of images that are not all there, that jobs need, of the version before."""
MOST_IMAGES, MOST_PARTS = 200, 999
LONGEST_TEXT = 2000
"""Characters of a title, a licence, an address, the models of one layer."""
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
PLAIN = "application/vnd.oci.image.layer.v1.tar"
MOST_BASES = 10_000
INVENTORY, SIGNATURE, KEY = "inventory.json", "inventory.json.sig", "sender.pem"
MANUAL = "README.txt"

Inventory = dict[str, Any]
"""inventory.json as it was parsed and checked (docs/air-gap.md, The format)."""

FileEntry = dict[str, Any]
"""A row of the inventory's ``files`` or ``parts``."""


class LoaderError(Exception):
    """Something that a person can act on: the exit code, what is wrong, what to do next; lines of context."""

    def __init__(self, code: int, what: str, do: str = "", detail: Sequence[str] = ()) -> None:
        super().__init__(what)
        self.code, self.what, self.do, self.detail = code, what, do, detail


def bad(what: str) -> LoaderError:
    """The error of an inventory that can't be right."""
    return LoaderError(5, f"{INVENTORY}: {what}", "ask the sender for this file again, and compare its sha256")


def read_inventory(folder: Path) -> tuple[bytes, Inventory]:
    """A bundle's inventory.json, as bytes and checked. Raises LoaderError."""
    raw = read_file(folder / INVENTORY, LARGEST_INVENTORY)
    return raw, check_inventory(raw)


def read_file(path: Path, largest: int) -> bytes:
    """The bytes of a regular file; a link is refused.

    Raises:
        LoaderError: there is no such file, or it has more than ``largest`` bytes.
    """
    try:
        with open_file(path) as source:
            data: bytes = source.read(largest + 1)
    except FileNotFoundError:
        raise LoaderError(5, f"{path.name} is missing", f"it belongs in {path.parent}") from None
    except OSError as error:
        raise LoaderError(5, f"{path.name} can't be read: {error.strerror}", "copy it again") from None
    if len(data) > largest:
        raise LoaderError(5, f"{path.name} is larger than {largest} bytes", "ask the sender for this file again")
    return data


def open_file(path: Path) -> Any:
    """A regular file, open for reading: no link is followed, and a FIFO doesn't block. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(0, "not a regular file")
    return os.fdopen(handle, "rb", buffering=0)


def check_inventory(raw: bytes) -> Inventory:
    """The inventory in ``raw``, with every claim held against the others. Raises LoaderError."""
    try:
        data = read_json(raw)
    except (ValueError, RecursionError) as error:
        raise bad(f"this is not an inventory ({error})") from None
    try:
        _check(data)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError) as error:
        raise bad(f"this is not an inventory ({type(error).__name__}: {error})") from None
    return data  # type: ignore[no-any-return]


def read_json(raw: bytes) -> Any:
    """JSON that reads the same everywhere: Go finds a name in any case, and of two takes the last.

    Raises:
        ValueError, RecursionError: it is something else, has a name twice, or nests too deep.
    """
    return json.loads(raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len({name.casefold() for name in data}) != len(pairs):
        raise ValueError("a name stands twice")
    return data


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


SCHEMAS = (1, 2)
"""Of a bundle's inventory: in 1, every part has a sha256 of its own. A receiver's has 1: there are no parts."""


def _check(data: Any) -> None:
    if type(data["schema"]) is not int or data["schema"] not in SCHEMAS:
        raise LoaderError(
            5,
            f"{INVENTORY} has schema {str(data['schema'])[:40]!r}; this loader reads {SCHEMAS[0]} and {SCHEMAS[-1]}",
            "use the load.py beside it",
        )
    need(data["kind"] in ("bundle", "receiver"), "it is neither a bundle's nor a receiver's")
    need(data["content"] in ("complete", "difference", "code", "models"), "unknown content")
    for digest, layer in data["layers"].items():
        _check_layer(digest, layer)
    _check_images(data)
    _check_files(data)
    _check_texts(data)
    if data["kind"] == "bundle":
        _check_parts(data)
        loader, engine = data["loader"], data["engine"]
        need(_is_beside(loader, "load.py"), "no loader")
        need("manual" not in data or _is_beside(data["manual"], MANUAL), "no manual")
        _check_bases(data)
        need(matches(VERSION, engine["oldest"]), "no oldest engine")
        need(matches(re.compile(r"[a-z0-9]+/[a-z0-9]+"), engine["platform"]), "no platform")
    if data["acceptance"] is not None:  # a difference may leave out what the receiver has of it
        known = {"job", "expected", "recording", "voices"} >= set(data["acceptance"])
        job = all(inside(p) and p.startswith("job/") for p in data["acceptance"].values())
        need(known and job, "acceptance is not a job")
    made = data.get("made")  # bundles of before have none
    need(made is None or _is_made(made), "who made it, and when, is not readable")
    for stage, size in data.get("memory", {}).items():
        need(matches(STAGE, stage) and number(size), f"memory of {stage!r} is not a size")


def _is_beside(row: Any, name: str) -> bool:
    """Whether it describes a small file beside the parts."""
    return row["name"] == name and matches(HEX, row["sha256"]) and number(row["size"])


def _check_bases(data: Inventory) -> None:
    """What it is the difference to: one inventory, or several of a fleet's."""
    need(data["base"] is None or matches(DIGEST, data["base"]), "its base is not a digest")
    bases = data.get("bases", [])
    need(all(matches(DIGEST, base) for base in bases), "a base is not a digest")
    need(len(bases) != 1 and len(set(bases)) == len(bases) <= MOST_BASES, "its bases are not those of a fleet")
    need(not bases or data["base"] is None, "it has a base and several")


def _is_made(made: Any) -> bool:
    """Whether it says from which code and when a bundle was made, and for which Python."""
    optional = [(made.get("commit"), COMMIT), (made.get("python"), VERSION)]
    return matches(TIME, made["created"]) and all(text is None or matches(pattern, text) for text, pattern in optional)


def _check_texts(data: Inventory) -> None:
    """What is only shown: on one line, and not too long."""
    need(one_line(data["made_by"]), "who made it is not readable")
    for model in data["models"]:
        texts = [model["id"], model["title"], model["licence"], model["revision"], model["page"] or "-"]
        need(all(map(one_line, texts)), "a model is not described")
        need(type(model["commercial"]) is bool and number(model["size"]), "a model is not described")


def _check_layer(digest: str, layer: Any) -> None:
    need(matches(DIGEST, digest) and matches(DIGEST, layer["diff_id"]), f"{digest!r} is not a layer")
    need(number(layer["size"]) and number(layer["unpacked"]), f"{digest}: no size")
    need(layer["media_type"] in (ZSTD, PLAIN), f"{digest}: {layer['media_type']!r} is not a kind of layer")
    plain = layer["media_type"] == PLAIN
    need(
        not plain or (digest == layer["diff_id"] and layer["size"] == layer["unpacked"]),
        f"{digest}: contradicts itself",
    )
    need(layer["model"] is None or one_line(layer["model"]), f"{digest}: no model")


def _check_images(data: Inventory) -> None:
    names: set[str] = set()
    stages: set[str] = set()
    need(len(data["images"]) <= MOST_IMAGES and len(data["known"]) <= MOST_IMAGES, "too many images")
    for image in [*data["images"], *data["known"]]:
        name = image["name"]
        fitting = matches(NAME, name) and len(name) <= LONGEST_NAME and not RESERVED.fullmatch(name)
        need(fitting, f"{str(name)[:LONGEST_NAME]!r} is not an image name")
        need(matches(DIGEST, image["manifest"]) and matches(DIGEST, image["config"]), f"{name}: no digests")
        need(0 < len(image["layers"]) <= 127, f"{name}: {len(image['layers'])} layers")
        need(all(matches(DIGEST, x) for x in image["layers"]), f"{name}: no digests")
    for image in data["images"]:
        name = image["name"]
        familiar = USUAL.sub("", name)
        need(familiar not in names, f"{name} stands twice")
        names.add(familiar)
        need(all(x in data["layers"] for x in image["layers"]), f"{name}: a layer is not described")
        stage = image["stage"]
        need(stage is None or (matches(STAGE, stage) and stage not in stages), f"{name}: no stage")
        stages.add(stage)


def _check_files(data: Inventory) -> None:
    """Paths stay inside, and offsets are those of a tar of exactly these files."""
    at = 0
    paths: set[str] = set()
    folders: set[str] = set()
    for entry in data["files"]:
        path = entry["path"]
        need(inside(path), f"{str(path)[:240]!r} is not a path inside a bundle")
        need(path.casefold() not in paths, f"{path} stands twice")
        need(fitting_place(path), f"{path!r} is not a path inside a bundle")
        paths.add(path.casefold())
        folders |= {path[:k].casefold() for k, c in enumerate(path) if c == "/"}
        need(number(entry["size"]) and matches(HEX, entry["sha256"]), f"{path}: no size or sha256")
        if path.startswith("blobs/"):
            need(path == f"blobs/sha256/{entry['sha256']}", f"{path} is not named by its sha256")
            layer = data["layers"].get(f"sha256:{entry['sha256']}")
            need(layer is None or layer["size"] == entry["size"], f"{path}: two sizes")
        if data["kind"] == "bundle":
            at += len(header(path, entry["size"]))
            need(type(entry["at"]) is int and entry["at"] == at, f"{path} is not where it says")
            at += entry["size"] + padding(entry["size"])
    need(not paths & folders, f"{sorted(paths & folders)[:1]} is a file and a folder")


def _check_parts(data: Inventory) -> None:
    """The parts add up to the tar of the files, and each has a sha256: its own, or one of each file that is cut there."""
    need(len(data["parts"]) <= MOST_PARTS, "too many parts")
    tar, begin = TarMap(data["files"]), 0
    for index, part in enumerate(data["parts"]):
        need(part["name"] == f"whisperbake.tar.{index:03}", f"{part['name']!r} is not a part")
        need(number(part["size"]) and part["size"] > 0, f"{part['name']}: no size")
        hashes = [part["sha256"]] if data["schema"] == 1 else part["cuts"]
        need(isinstance(hashes, list) and all(matches(HEX, x) for x in hashes), f"{part['name']}: no sha256")
        cuts = tar.cuts(begin, begin + part["size"])
        need(data["schema"] == 1 or len(hashes) == len(cuts), f"{part['name']}: its files are cut otherwise")
        begin += part["size"]
    last = data["files"][-1] if data["files"] else {"at": 0, "size": 0}
    end = last["at"] + last["size"] + padding(last["size"]) + END
    need(sum(p["size"] for p in data["parts"]) == end, "the parts don't add up to the files")


def need(right: bool, what: str) -> None:
    if not right:
        raise bad(what)


def matches(pattern: re.Pattern[str], text: Any) -> bool:
    return isinstance(text, str) and pattern.fullmatch(text) is not None


def inside(path: Any) -> bool:
    """Whether it is a plain relative path that leads nowhere else."""
    return matches(PATH, path) and len(path.encode()) <= 240 and not {".", ".."} & set(path.split("/"))


def one_line(text: Any) -> bool:
    """Whether it is a text for one line."""
    return isinstance(text, str) and 0 < len(text) <= LONGEST_TEXT and text.isprintable()


def fitting_place(path: str) -> bool:
    """Whether files of a bundle are there: at its top only those that engines read."""
    folder, slash, _ = path.partition("/")
    return (
        folder in ("blobs", "job", "licences", "native", "papers")
        if slash
        else path in ("oci-layout", "index.json", "manifest.json")
    )


def number(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 50
