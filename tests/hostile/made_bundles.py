"""Bundles, sticks and receivers' folders that somebody prepared, by number: ``attempt(17)`` is always the same one.

Each begins as a good bundle of a known sender's beside a user's home, engine and files. Something of it is changed: a field of
the inventory for each kind of value, a part, a file's kind, a signature, a layer, a name, or what lies in the receiver's folder.
Then its own load.py runs, with what a user would type. It is wrong if it is loaded, if anything outside changes, if it
takes much memory or time, or if it ends without an error and what to do next.
"""

from __future__ import annotations

import atexit
import copy
import functools
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from builder.core.bundle import plan as core
from builder.core.bundle.contents import dump
from builder.core.bundle.image import PLAIN, ZSTD, BundledLayer
from builder.core.images.oci import digest
from builder.edges.bundle import folder as edge
from builder.edges.bundle import signing
from builder.edges.bundle.part_writer import PartSource
from builder.receiver.inventory import INVENTORY, SIGNATURE
from builder.receiver.tar import header
from tests import bundles
from tests.hostile import Attempt
from tests.small_engine import SmallEngine, small_engine

PART = "whisperbake.tar.{:03}"
OLD, MADE, NEW = "2026-11-02T08:00:00Z", "2026-11-20T08:00:00Z", "2026-11-25T08:00:00Z"
MEMORY, SECONDS = 1 << 30, 60
"""Bytes of address space and seconds of a processor that a loader gets."""

LARGEST_FILE = 64 << 20
"""Bytes of a file that a loader may write."""

CODES = (2, 3, 5)
"""With which a loader may end."""

VOUCHED = ("--allow-unsigned",)


@dataclass
class Scene:
    """A user's machine with a stick in it."""

    folder: Path
    random: random.Random
    engine: SmallEngine
    may_load: bool = False
    """The bundle itself is good: what counts is what else happens."""

    @property
    def stick(self) -> Path:
        return self.folder / "stick"

    @property
    def bundle(self) -> Path:
        return self.stick / "bundle"

    @property
    def target(self) -> Path:
        return self.folder / "home/whisperbake"

    @property
    def key(self) -> Path:
        return self.folder / "home/sender.pem"

    def lie(self, change: Callable[[dict[str, Any]], object]) -> None:
        data = json.loads((self.bundle / INVENTORY).read_bytes())
        change(data)
        (self.bundle / INVENTORY).write_bytes(written(data))

    def sign(self, private: str = "sender") -> None:
        raw = (self.bundle / INVENTORY).read_bytes()
        (self.bundle / SIGNATURE).write_bytes(signing.sign(keys() / private, raw))


Attack = Callable[[Scene], tuple[str, tuple[str, ...]]]
"""Prepares the stick; what was done, and what the user types."""


def temporary_folder(prefix: str) -> Path:
    """A folder for as long as this process lives."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    owner = os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(folder, ignore_errors=True))  # not a fork of it
    return folder


@functools.cache
def keys() -> Path:
    """A folder with the keys of a sender and of a stranger."""
    folder = temporary_folder("wb-keys-")
    for name in ("sender", "stranger"):
        signing.make_keys(folder / name, folder / f"{name}.pem")
    return folder


@functools.cache
def good() -> Path:
    """A bundle of three images with a native set, signed by the sender; another with a changed image beside it."""
    folder = temporary_folder("wb-good-")
    write(three(), folder / "bundle")
    write(three(b"print(3)\n"), folder / "other")
    return folder


def three(code: bytes = b"print(1)\n") -> bundles.Set:
    """Three images of a common base, one with weights."""
    made = bundles.Set()
    base = made.layer({"etc/base": bundles.noise(100_000, 2)})
    weights = made.layer({"models/weights.bin": bundles.noise(60_000, 3)}, model="tiny")
    made.image("base", [base])
    made.image("asr", [base, weights, made.layer({"opt/asr.py": code})])
    made.image("vad", [base, made.layer({"opt/vad.py": b"print(2)\n"})])
    return made


def write(made: bundles.Set, folder: Path, created: str = MADE, extras: dict[str, bytes] | None = None) -> None:
    extras = {"licences/a.md": b"MIT\n", "native/project/build.py": b"print(1)\n", **(extras or {})}
    made.blobs |= {digest(data): data for data in extras.values()}
    described = {path: (len(data), hashlib.sha256(data).hexdigest()) for path, data in extras.items()}
    plan = core.dated(bundles.planned(made, extras=described, made={"commit": "0" * 40}, part_size=120_000), created)
    raw = edge.create(
        folder, plan, PartSource(open=made.open), texts={"load.py": edge.loader()}, on_progress=lambda _: None
    )
    (folder / SIGNATURE).write_bytes(signing.sign(keys() / "sender", raw))


def written(data: Any) -> bytes:
    """JSON of anything, of surrogates too."""
    return json.dumps(data, indent=1).encode()


# A field of the inventory gets another value

TEXTS = ("", "\x1b[31m", "a\nb", "../../x", "/etc/passwd", "a\0b", "-rf", "x" * 100_000, "\ud800", "٢.٣", "\u202eevil")
VALUES = (None, True, -1, 0.5, 1 << 63, 10**4000, float("nan"), [], {}, [[]], {"a": {}}, ["x"] * 50_000)
FREE = {"made_by", "title", "licence", "revision", "page", "model", "commit", "id"}
"""Fields whose text is only shown: any on one line will do."""
OPTIONAL = {"made", "page", "commit", "model", "stage", "acceptance", "base"}
COUNTED = {"models", "known", "memory"}


def places(data: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in list(items):
        yield (*above, key)
        yield from places(value, (*above, key))


def at(data: Any, place: tuple[Any, ...]) -> Any:
    return functools.reduce(lambda value, key: value[key], place, data)


def is_harmless(place: tuple[Any, ...], old: Any, new: Any) -> bool:
    """Whether a bundle may say so."""
    name = place[-1]
    if type(new) is type(old) and new == old:
        return True
    if name in OPTIONAL and new is None:
        return True
    if name in FREE and isinstance(new, str) and new in ("../../x", "/etc/passwd", "-rf", "٢.٣") and name != "commit":
        return True
    if name in COUNTED and new in ([], {}) and type(new) is type(old):
        return True
    if name == "commercial" and isinstance(new, bool):
        return True
    if "known" in place or place[:1] == ("base",):
        return False
    return name == "unpacked" and type(new) is int and 0 < new < 1 << 40


def field_changed(scene: Scene) -> tuple[str, tuple[str, ...]]:
    data = json.loads((scene.bundle / INVENTORY).read_bytes())
    model = {"id": "tiny", "title": "t", "licence": "MIT", "commercial": True, "page": None, "revision": "1", "size": 1}
    data["models"] = [model]
    data["memory"] = {"asr": 1000}
    data["acceptance"] = {"job": "job/job.json", "expected": "job/e.json", "recording": "job/r.mp4"}
    while True:
        place = scene.random.choice(list(places(data)))
        old = at(data, place)
        new = scene.random.choice((*TEXTS, *VALUES))
        if not is_harmless(place, old, new):
            break
    changed = copy.deepcopy(data)
    at(changed, place[:-1])[place[-1]] = new
    (scene.bundle / INVENTORY).write_bytes(written(changed))
    return f"{'.'.join(map(str, place))[:60]} = {str(new)[:20]!r}", VOUCHED


def field_removed(scene: Scene) -> tuple[str, tuple[str, ...]]:
    data = json.loads((scene.bundle / INVENTORY).read_bytes())
    needed = [p for p in places(data) if p[-1] not in (*OPTIONAL, *COUNTED, "made_by") and isinstance(p[-1], str)]
    place = scene.random.choice([p for p in needed if p[0] not in ("layers", "known") or len(p) > 2])
    if place[-1] == "made":
        return field_changed(scene)
    del at(data, place[:-1])[place[-1]]
    (scene.bundle / INVENTORY).write_bytes(written(data))
    return f"no {'.'.join(map(str, place))[:60]}", VOUCHED


def json_of_another_make(scene: Scene) -> tuple[str, tuple[str, ...]]:
    """Names twice, in two cases, not a number, too deep, too long, not UTF-8, bytes behind it."""
    raw = (scene.bundle / INVENTORY).read_bytes()
    image = raw.index(b'"images"')
    made = {
        "a name twice": raw[:-2] + b',"schema": 1}',
        "a name in two cases": raw[:-2] + b',"Images": []}',
        "a name twice inside": raw[:image] + b'"engine": {"a": 1, "a": 2},' + raw[image:],
        "NaN": raw[:-2] + b',"x": NaN}',
        "Infinity": raw[:-2] + b',"x": -Infinity}',
        "deep": raw[:-2] + b',"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        "many lists": raw[:-2] + b',"known": [' + b"[]," * 2_000_000 + b"[]]}",
        "long": raw[:-2] + b',"x": "' + b"x" * (9 << 20) + b'"}',
        "a long number": raw[:-2] + b',"x": ' + b"9" * 2_000_000 + b"}",
        "UTF-16": raw.decode().encode("utf-16"),
        "Latin-1": raw.replace(b'"test"', b'"t\xe9st"'),
        "a mark of its bytes": b"\xef\xbb\xbf" + raw,
        "more behind it": raw + b"{}",
    }
    name = scene.random.choice(list(made))
    (scene.bundle / INVENTORY).write_bytes(made[name])
    return name, VOUCHED


# Signatures and keys


def signed_and_changed(scene: Scene) -> tuple[str, tuple[str, ...]]:
    """One byte, of the inventory or of the signature."""
    name = scene.random.choice((INVENTORY, SIGNATURE))
    data = bytearray((scene.bundle / name).read_bytes())
    k = scene.random.randrange(len(data))
    data[k] ^= 1 << scene.random.randrange(8)
    (scene.bundle / name).write_bytes(data)
    return f"bit of byte {k} of {name}", ("--key", str(scene.key))


def nobody_vouches(scene: Scene) -> tuple[str, tuple[str, ...]]:
    way = scene.random.randrange(9)
    stranger = str(keys() / "stranger.pem")
    if way in (0, 4, 5):
        (scene.bundle / SIGNATURE).unlink()
    if way in (1, 3, 6, 7):
        scene.sign("stranger")
    if way in (4, 5, 6, 7, 8):  # this machine knows the sender
        remembered(scene)
    if way == 8:
        (scene.bundle / SIGNATURE).write_bytes(b"")
    words = [
        (),
        ("--key", str(scene.key)),
        ("--fingerprint", "0" * 64),
        ("--native",),
        VOUCHED,
        ("--to", str(scene.folder / "home/elsewhere"), *VOUCHED),
        ("--key", stranger),
        ("--to", str(scene.folder / "home/elsewhere"), "--key", stranger),
        (*VOUCHED, "--to", str(scene.folder / "home/elsewhere")),
    ][way]
    if way == 2:
        (scene.bundle / SIGNATURE).unlink()
    return f"way {way}", words


def remembered(scene: Scene) -> None:
    """This user loaded a bundle of the sender's before."""
    folder = scene.folder / "home/.local/share/whisperbake"
    folder.mkdir(parents=True)
    pem = scene.key.read_text()
    memory = {"schema": 1, "targets": [str(scene.target)], "senders": {}, "signed": True, "key": pem}
    (folder / "received.json").write_text(json.dumps(memory))


def odd_signature(scene: Scene) -> tuple[str, tuple[str, ...]]:
    path = scene.bundle / SIGNATURE
    size = path.read_bytes()
    odd = {
        "empty": b"",
        "cut": size[:-1],
        "longer": size + b"\0",
        "twice": size * 2,
        "zeros": bytes(64),
        "in hex": size.hex().encode(),
        "large": bytes(200_000),
        "of the fingerprint": signing.sign(
            keys() / "sender", hashlib.sha256((scene.bundle / INVENTORY).read_bytes()).digest()
        ),
        "of other JSON": signing.sign(
            keys() / "sender", dump(json.loads((scene.bundle / INVENTORY).read_bytes())) + b" "
        ),
        "S + L": lifted(size),
    }
    name = scene.random.choice(list(odd))
    path.write_bytes(odd[name])
    return name, ("--key", str(scene.key))


def lifted(signature: bytes) -> bytes:
    """The same signature with another S: RFC 8032 refuses it, lax readers don't."""
    order = 2**252 + 27742317777372353535851937790883648493
    return signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")


def older(scene: Scene) -> tuple[str, tuple[str, ...]]:
    """A bundle of the sender's own, from before the one that is loaded."""
    remembered(scene)
    path = scene.folder / "home/.local/share/whisperbake/received.json"
    data = json.loads(path.read_bytes())
    sender = hashlib.sha256(
        __import__("base64").b64decode("".join(scene.key.read_text().splitlines()[1:-1]))
    ).hexdigest()
    data["senders"] = {sender: {"newest": NEW, "images": {}}}
    path.write_text(json.dumps(data))
    if scene.random.random() < 0.5:
        scene.lie(lambda d: d["made"].update(created=OLD))
        scene.sign()
    return "older", scene.random.choice(((), ("--to", str(scene.folder / "home/elsewhere")), ("--native",)))


# Names of images


def name_taken(scene: Scene) -> tuple[str, tuple[str, ...]]:
    taken = ["mine/db:1", "docker.io/mine/db:1", "debian:13", "docker.io/library/debian:13", "library/debian:13"]
    odd = ["sha256:" + "0" * 64, "whisperbake-load/" + "0" * 24 + ":loading", "x:job-00000000-000000000000", "a//b:c"]
    odd += ["a/B:c", "a:b:c", "a..b:c", "a/b:-c", "a/b:", "a/b", "a/../b:c", "a/b:c\n", "a b:c", "é/b:c", "a/b?x=y:c"]
    odd += ["-a/b:c", "a/b#x:c", "a" * 300 + ":c", "a/b:" + "c" * 129, "%2e%2e/b:c", "a/b@sha256:" + "0" * 64]
    name = scene.random.choice(taken + odd)
    k = scene.random.randrange(3)
    scene.lie(lambda d: d["images"][k].update(name=name))
    if scene.random.random() < 0.3:
        scene.sign()
        return name[:40], ("--key", str(scene.key))
    return name[:40], VOUCHED


def two_names_for_one(scene: Scene) -> tuple[str, tuple[str, ...]]:
    first = f"{bundles.REGISTRY}/asr:slim-cpu"
    scene.lie(lambda d: [i.update(name=f"docker.io/{first}") for i in d["images"] if i["stage"] == "vad"])
    return "docker.io before a name", VOUCHED


def planted_target(scene: Scene) -> tuple[str, tuple[str, ...]]:
    """The receiver's folder came with the stick: its key is the stranger's, its inventory claims the user's images."""
    scene.lie(lambda d: d["images"][0].update(name="mine/db:1"))
    scene.sign("stranger")
    place = scene.random.choice((scene.stick / "whisperbake", scene.bundle / "whisperbake", scene.target))
    place.mkdir(parents=True)
    claimed = json.loads((scene.bundle / INVENTORY).read_bytes()) | {"kind": "receiver"}
    for image in claimed["images"]:
        image["id"] = scene.engine.names["mine/db:1"]
        image["sender"] = scene.random.choice(("unsigned", None))
    (place / INVENTORY).write_bytes(written(claimed))
    if scene.random.random() < 0.5:
        shutil.copy(keys() / "stranger.pem", place / "sender.pem")
    if scene.random.random() < 0.5:
        memory = {"schema": 1, "targets": [str(place)], "senders": {}, "signed": False}
        memory["senders"]["unsigned"] = {"newest": "", "images": {"mine/db:1": [image["id"]]}}
        (place / "received.json").write_text(json.dumps(memory))
    return str(place.relative_to(scene.folder)), ("--to", str(place), *scene.random.choice(((), VOUCHED)))


def links_in_the_target(scene: Scene) -> tuple[str, tuple[str, ...]]:
    """A link where the loader writes or reads, to a file or a folder of the user's."""
    names = ["licences", "licences/a.md", "native", "native/project", "native/project/build.py", "native/project/.bake"]
    names += [".incoming", ".lock", "sender.pem", INVENTORY, "loaded.jsonl", f".{INVENTORY}.part", ".sender.pem.part"]
    name = scene.random.choice(names)
    scene.target.mkdir(parents=True)
    remembered(scene)
    (scene.target / name).parent.mkdir(parents=True, exist_ok=True)
    to = scene.random.choice(("secret", "nowhere", "documents"))
    (scene.target / name).symlink_to(scene.folder / "home" / to)
    scene.may_load = True
    return f"{name} -> {to}", scene.random.choice((("--native",), ()))


# Files of other kinds, parts


def other_kind(scene: Scene) -> tuple[str, tuple[str, ...]]:
    path = scene.bundle / scene.random.choice((INVENTORY, SIGNATURE, PART.format(0), PART.format(1)))
    kind = scene.random.choice(
        ("link", "zeros", "nowhere", "folder", "pipe", "gone", "empty", "cut", "grown", "sparse")
    )
    data = path.read_bytes()
    path.unlink()
    if kind in ("link", "zeros", "nowhere"):
        to = {"link": scene.folder / "home/copy", "zeros": Path("/dev/zero"), "nowhere": Path("/nowhere")}[kind]
        if kind == "link":
            to.write_bytes(data)
        path.symlink_to(to)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "gone":
        path.write_bytes({"cut": data[: len(data) // 2], "grown": data + b"\0"}.get(kind, b""))
        if kind == "sparse":
            os.truncate(path, 1 << 40)
    return f"{path.name} {kind}", ("--key", str(scene.key))


def part_changed(scene: Scene) -> tuple[str, tuple[str, ...]]:
    """A byte of a file that is used; the part's sha256 may be made to fit, and the signature with it."""
    data = json.loads((scene.bundle / INVENTORY).read_bytes())
    used = [f for f in data["files"] if f["path"].startswith(("blobs/", "native/", "licences/"))]
    entry = scene.random.choice(used)
    k = entry["at"] + scene.random.randrange(-512, entry["size"])
    put(scene, k, bytes([byte(scene, k) ^ (1 << scene.random.randrange(8))]), fitting=scene.random.random() < 0.7)
    scene.sign()
    return f"byte {k - entry['at']} of {entry['path'][:24]}", ("--key", str(scene.key))


def byte(scene: Scene, k: int) -> int:
    size = (scene.bundle / PART.format(0)).stat().st_size
    return (scene.bundle / PART.format(k // size)).read_bytes()[k % size]


def put(scene: Scene, k: int, new: bytes, *, fitting: bool) -> None:
    """Other bytes at a place of the tar, across parts."""
    size = (scene.bundle / PART.format(0)).stat().st_size
    for n, value in enumerate(new, k):
        path = scene.bundle / PART.format(n // size)
        data = bytearray(path.read_bytes())
        data[n % size] = value
        path.write_bytes(data)
    if fitting:
        scene.lie(lambda d: bundles.fit(scene.bundle, d))


def path_leads_out(scene: Scene) -> tuple[str, tuple[str, ...]]:
    """A path that leads elsewhere, in the inventory and in the tar's header, hashes made to fit."""
    paths = [
        "../x",
        "/x",
        "native/../../x",
        "native/./x",
        "native//x",
        "native/x/",
        "native\\..\\x",
        "native/a\nb",
        "licences",
    ]
    paths += [
        "native/project/build.py/x",
        "NATIVE/PROJECT/BUILD.PY",
        "native/\u202ex",
        "job/..",
        "~/x",
        "native/" + "x" * 300,
    ]
    path = scene.random.choice(paths)
    data = json.loads((scene.bundle / INVENTORY).read_bytes())
    entry = next(f for f in data["files"] if f["path"] == "licences/a.md")
    head = header(path, entry["size"])
    if len(head) == 512:
        put(scene, entry["at"] - 512, head, fitting=False)
    scene.lie(lambda d: next(f for f in d["files"] if f["path"] == "licences/a.md").update(path=path))
    scene.lie(lambda d: bundles.fit(scene.bundle, d))
    return path[:40], (*VOUCHED, *scene.random.choice(((), ("--native",))))


def swapped(scene: Scene) -> tuple[str, tuple[str, ...]]:
    """A file of another bundle of the same sender's."""
    name = scene.random.choice((INVENTORY, SIGNATURE))
    shutil.copy(good() / "other" / name, scene.bundle / name)
    return name, ("--key", str(scene.key))


# Layers


def tar_of(*members: tarfile.TarInfo | bytes) -> bytes:
    out = io.BytesIO()
    for member in members:
        out.write(member if isinstance(member, bytes) else member.tobuf(tarfile.GNU_FORMAT))
    return out.getvalue() + bytes(1024)


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


def sparse(name: str, real: int) -> bytes:
    """GNU's header of a file that is as large as it says."""
    block = bytearray(member(name, tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"%011o\0" % min(real, 8**11 - 1)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def weights_that_are_none(scene: Scene) -> tuple[str, tuple[str, ...]]:
    """A weight layer that a native run's loader unpacks itself."""
    long = 4 << 20
    layers = {
        "link": tar_of(member("models/a", tarfile.SYMTYPE, link="../../../../secret"), member("models/a/b")),
        "hard link": tar_of(member("models/a", tarfile.LNKTYPE, link="/etc/passwd")),
        "device": tar_of(member("models/a", tarfile.CHRTYPE)),
        "pipe": tar_of(member("models/a", tarfile.FIFOTYPE)),
        "out": tar_of(member("models/../../../../x")),
        "absolute": tar_of(member("/models/x")),
        "elsewhere": tar_of(member("build.py")),
        "in another case": tar_of(member("Models/x")),
        "control": tar_of(member("models/\x1b[31m")),
        "sparse": tar_of(sparse("models/a", 1 << 33)),
        "sparse by pax": tar_of(pax(b"GNU.sparse.realsize=1000000000000"), member("models/a")),
        "pax path": tar_of(pax(b"path=../../../x"), member("models/a")),
        "a long header": tar_of(
            member("././@LongLink", tarfile.GNUTYPE_LONGNAME, long), b"m" * long, member("models/a")
        ),
        "a longer file": tar_of(member("models/a", size=1 << 40)),
        "a negative size": tar_of(negative("models/a")),
        "a file and a folder": tar_of(member("models/a"), member("models/a/b")),
        "contiguous": tar_of(member("models/a", tarfile.CONTTYPE)),
        "no tar": b"x" * 10_240,
    }
    name = scene.random.choice(list(layers))
    tar = layers[name]
    made = three()
    made.blobs[digest(tar)] = tar
    layer = BundledLayer(
        digest=digest(tar), size=len(tar), diff_id=digest(tar), unpacked=len(tar), media_type=PLAIN, model="x"
    )
    made.image("bad", [layer])
    shutil.rmtree(scene.bundle)
    write(made, scene.bundle)
    return name, ("--native", "--key", str(scene.key))


def pax(record: bytes) -> bytes:
    body = b"%d %s\n" % (len(record) + 4, record)
    return member("pax", tarfile.XHDTYPE, len(body)).tobuf(tarfile.GNU_FORMAT) + body.ljust(512, b"\0")


def negative(name: str) -> bytes:
    block = bytearray(member(name).tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def layer_that_is_none(scene: Scene) -> tuple[str, tuple[str, ...]]:
    """A layer written by the rules, of bytes that are a bomb or another's."""
    zeros = zstandard.ZstdCompressor().compress(bytes(32 << 20))
    tar = bundles.Set().layer({"a": b"b"})
    packed = zstandard.ZstdCompressor().compress(bytes(10_240))
    blobs = {
        "bomb": zeros,
        "bomb behind a frame": packed + zeros,
        "bomb of bombs": zeros * 50,
        "window": b"\x28\xb5\x2f\xfd\x00\xff" + zeros[6:],
        "single segment": b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 40) + zeros[9:],
        "skippable": b"\x50\x2a\x4d\x18" + struct.pack("<I", 1 << 31),
        "reserved block": b"\x28\xb5\x2f\xfd\x00\x58\x07\x00\x00",
        "no zstd": b"no zstd at all, and no tar",
        "cut": zeros[:-7],
        "gzip": b"\x1f\x8b\x08" + bytes(100),
        "of another diff id": packed,
    }
    name = scene.random.choice(list(blobs))
    blob = blobs[name]
    made = three()
    made.blobs[digest(blob)] = blob
    unpacked = 10_240 if scene.random.random() < 0.8 else 1 << 45
    layer = BundledLayer(digest=digest(blob), size=len(blob), diff_id=tar.diff_id, unpacked=unpacked, media_type=ZSTD)
    made.image("bad", [layer])
    shutil.rmtree(scene.bundle)
    write(made, scene.bundle)
    return name, ("--key", str(scene.key))


def manifest_of_two_meanings(scene: Scene) -> tuple[str, tuple[str, ...]]:
    """Manifest and config say one thing to Python and another to Go, or nothing of what the inventory says."""
    made = three()
    image = made.images[1]
    config = json.loads(image.config)
    other = made.images[2].layers[-1].diff_id
    changes = {
        "two cases": image.config[:-1] + b', "RootFS": {"type": "layers", "diff_ids": ["%s"]}}' % other.encode(),
        "twice": image.config[:-1] + b', "rootfs": {"diff_ids": ["%s"]}}' % other.encode(),
        "a list": b"[]",
        "deep": image.config[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "other layers": json.dumps({**config, "rootfs": {"type": "layers", "diff_ids": [other]}}).encode(),
        "no layers": json.dumps({**config, "rootfs": None}).encode(),
        "not a number": image.config[:-1] + b', "x": NaN}',
    }
    name = scene.random.choice(list(changes))
    made.images[1] = type(image)(name=image.name, stage=image.stage, config=changes[name], layers=image.layers)
    shutil.rmtree(scene.bundle)
    write(made, scene.bundle)
    return name, ("--key", str(scene.key))


ATTACKS: tuple[tuple[int, Attack], ...] = (
    (30, field_changed),
    (6, field_removed),
    (4, json_of_another_make),
    (4, signed_and_changed),
    (8, nobody_vouches),
    (3, odd_signature),
    (3, older),
    (8, name_taken),
    (1, two_names_for_one),
    (5, planted_target),
    (5, links_in_the_target),
    (8, other_kind),
    (5, part_changed),
    (4, path_leads_out),
    (1, swapped),
    (6, weights_that_are_none),
    (4, layer_that_is_none),
    (3, manifest_of_two_meanings),
)
"""How often each is tried."""


def attempt(number: int) -> Attempt:
    """One attack; the same for the same number."""
    chance = random.Random(number)
    [attack] = chance.choices([attack for _, attack in ATTACKS], [weight for weight, _ in ATTACKS])
    return Attempt(name=f"{number} {attack.__name__}", run=functools.partial(tried, attack, chance))


def tried(attack: Attack, chance: random.Random, folder: Path) -> str | None:
    """Prepare a machine and a stick, let the loader run; what is wrong afterwards, or None."""
    (folder / "home/documents").mkdir(parents=True)
    (folder / "home/secret").write_text("mine")
    shutil.copytree(good() / "bundle", folder / "stick/bundle")
    shutil.copy(keys() / "sender.pem", folder / "home/sender.pem")
    with small_engine(folder) as engine:
        scene = Scene(folder, chance, engine)
        mine = {name: engine.own(name, name) for name in ("mine/db:1", "debian:13")}
        what, words = attack(scene)
        before = snapshot(folder)
        options = words if "--to" in words else ("--to", str(scene.target), *words)
        code, said = loaded(scene, options)
        done = changed(before, snapshot(folder))
        if scene.may_load and code == 0:
            done = {path for path in done if not path.startswith(("home/whisperbake", "home/.local"))}
        wrong = [
            *([f"exit {code}"] if code not in CODES and not (code == 0 and scene.may_load) else []),
            *(["a traceback"] if "Traceback" in said else []),
            *(["no error"] if code and ("error: " not in said or "\n  next: " not in said) else []),
            *(["a control character"] if any(not (c.isprintable() or c == "\n") for c in said) else []),
            *([f"{name} taken" for name, id_ in mine.items() if engine.names.get(name) != id_]),
            *([f"{name} removed" for name, id_ in mine.items() if id_ not in engine.held]),
            *(["images named"] if code and engine.names != mine else []),
            *(f"{path} changed" for path in sorted(done)),
        ]
    return f"{what}: {', '.join(wrong)}: {said[-300:]!r}" if wrong else None


def loaded(scene: Scene, words: tuple[str, ...]) -> tuple[int, str]:
    """Exit code of the loader and what it said."""

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))

    process = subprocess.Popen(
        [sys.executable, "-I", str(scene.bundle / "load.py"), *words],
        env={"PATH": os.environ["PATH"], "DOCKER_HOST": scene.engine.host, "HOME": str(scene.folder / "home")},
        cwd=scene.folder / "home",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=bounded,
        start_new_session=True,
    )
    try:
        out, _ = process.communicate(timeout=5 * SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        return -1, "it hangs"
    return process.returncode, out.decode("utf-8", "replace")


def snapshot(folder: Path) -> dict[str, object]:
    """Path -> what is there: bytes of files, targets of links."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_file():
            found[name] = (
                path.stat().st_size,
                path.stat().st_mode,
                b"" if path.stat().st_size > 1 << 30 else path.read_bytes(),
            )
        else:
            found[name] = "folder" if path.is_dir() else "other"
    return found


OWN = ("/.lock", "/loaded.jsonl")
"""What a loader that refuses may leave in its folder: its lock, and the line that says so."""


def changed(before: dict[str, object], after: dict[str, object]) -> set[str]:
    """Paths of which something changed, beside what a refusal leaves."""
    paths = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    return {
        path
        for path in paths
        if not (path not in before and (path.endswith(OWN) or path.rpartition("/")[2] in ("whisperbake", "elsewhere")))
    }
