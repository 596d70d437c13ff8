"""Built twice, the layers are the same; and nothing of the site that built them is in them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests import canaries
from tests.engine import canary
from tests.engine.conftest import ONE_STORE, Engine, Ran


def plain(data: bytes) -> bytes:
    """What was compressed, as a layer or a file in it may be."""
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    if data[:4] == zstandard.FRAME_HEADER:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def unpacked(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Every file in an archive, archives within archives too."""
    data = plain(data)
    yield name, data
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                if member.isreg():
                    source = tar.extractfile(member)
                    assert source is not None
                    yield from unpacked(f"{name}/{member.name}", source.read())
    except tarfile.ReadError:
        return


def entries(saved: Path) -> dict[str, list[frozenset[tuple[Any, ...]]]]:
    """Tag -> what each layer of an image in ``docker save``'s archive holds, whatever the order of its files."""
    with tarfile.open(saved) as tar:
        known: dict[str, frozenset[tuple[Any, ...]]] = {}

        def layer(name: str) -> frozenset[tuple[Any, ...]]:
            if name not in known:
                source = tar.extractfile(name)
                assert source is not None
                with tarfile.open(fileobj=io.BytesIO(plain(source.read()))) as files:
                    known[name] = frozenset(
                        (f.name, f.type, f.mode, f.uid, f.gid, f.mtime, f.linkname, digest(files, f)) for f in files
                    )
            return known[name]

        source = tar.extractfile("manifest.json")
        assert source is not None
        images = json.loads(source.read())
        return {tag: [layer(name) for name in image["Layers"]] for image in images for tag in image["RepoTags"]}


def digest(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    source = tar.extractfile(member) if member.isreg() else None
    return hashlib.sha256(source.read()).hexdigest() if source else ""


def test_no_secret_of_the_site_is_in_an_image(engine: Engine, first_build: Ran, built: Any, tmp_path: Path) -> None:
    """No file, config, history, log or word of the build has a canary, layers within archives included."""
    places: list[tuple[str, bytes]] = [("output", first_build.out.encode()), ("progress", first_build.err.encode())]
    for folder in ("logs", "images", "cache"):
        places += [(str(p), p.read_bytes()) for p in (engine.home / folder).rglob("*") if p.is_file()]
    assert any("build-" in name for name, _ in places), "no log was searched"
    tags = [i["tag"] for i in built["images"]]
    for tag in tags:
        image = engine.client.images.get(tag)
        places += [(f"{tag} config", repr(image.attrs).encode()), (f"{tag} history", repr(image.history()).encode())]
    saved = tmp_path / "all.tar"
    assert engine.docker("save", "--output", saved, *tags).code == 0
    needles = canary.needles() | canaries.forms(canaries.canary())
    count = 0
    with tarfile.open(saved) as tar:
        for member in tar:
            if member.isreg():
                source = tar.extractfile(member)
                assert source is not None
                for name, data in unpacked(member.name, source.read()):
                    count += 1
                    for what, needle in needles.items():
                        assert needle not in data, f"{what} in {name}"
    saved.unlink()  # at the end of a run all that is left is searched again
    assert count > 2000, "the layers were not unpacked"
    for name, data in places:
        for what, needle in needles.items():
            assert needle not in data, f"{what} in {name}"


@ONE_STORE
@pytest.mark.parametrize(
    "names", [("demux",), pytest.param((), marks=pytest.mark.heavy)], ids=["one and below", "every image"]
)
def test_built_again_without_a_cache_the_layers_are_the_same(
    engine: Engine, built: Any, tmp_path: Path, names: tuple[str, ...]
) -> None:
    """The steps make the same bytes again, at a site with secrets and at one without.

    An overlay2 store orders the files of a layer by one of two walks, which one depends on whether it holds an equal
    parent already (moby, overlay2's Diff): there the same files make the same layer, though its digest may differ.
    """
    tags = [i["tag"] for i in built["images"]]
    before, first, again = engine.layers(), tmp_path / "before.tar", tmp_path / "again.tar"
    if engine.store == "overlay2":
        assert engine.docker("save", "--output", first, *tags).code == 0
    done = engine.bake("build", *names, "--mode", "docker-cpu", "--no-cache", "--json")
    assert done.code == 0, done.err
    assert {i["state"] for i in done.data["images"]} == {"built"}
    if engine.store == "containerd":
        assert engine.layers() == before
        return
    assert engine.docker("save", "--output", again, *tags).code == 0
    assert entries(again) == entries(first)
