"""Built twice, the layers are the same; and nothing of the site that built them is in them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import ssl
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from builder.bootstrap import pip_wheel as pipwheel
from tests.engine.conftest import Engine

TOKEN = "canary-7f3a91c2-token"
AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBozCCAUmgAwIBAgIUaRhUZwteJLrGaKwyl6U4jw//grMwCgYIKoZIzj0EAwIw
JzElMCMGA1UEAwwcd2hpc3BlcmJha2UgY2FuYXJ5IGF1dGhvcml0eTAeFw0yNjEx
MjQwMDE4MzdaFw00NjExMTkwMDE4MzdaMCcxJTAjBgNVBAMMHHdoaXNwZXJiYWtl
IGNhbmFyeSBhdXRob3JpdHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASiI+fA
HRu+gmkCA3qHBAZD573PhYiumPntX81Bq2TEHls6jWI7phm3xmt+c9sUJcSi3w+g
X0EPLvaPtzhGW9XWo1MwUTAdBgNVHQ4EFgQU5FWBFO9R0r+rxIvwJIEAmcZ20Q4w
HwYDVR0jBBgwFoAU5FWBFO9R0r+rxIvwJIEAmcZ20Q4wDwYDVR0TAQH/BAUwAwEB
/zAKBggqhkjOPQQDAgNIADBFAiEAr6DRKB2PljpNg28mAkAkoxyiiutxnkAJY0PK
AsTAPjwCIBGa6eg6QKUabGjuX85M+/odAfTXvfoJu8DtdUl2SxuS
-----END CERTIFICATE-----
"""
"""A certificate that nobody has the key of (it was thrown away)."""


def needles() -> dict[str, bytes]:
    body = "".join(AUTHORITY.splitlines()[1:-1])
    return {
        "token": TOKEN.encode(),
        "token, base64": base64.b64encode(f"me:{TOKEN}".encode())[:-4],
        "certificate": AUTHORITY.splitlines()[2].encode(),
        "certificate, binary": base64.b64decode(body)[40:100],
    }


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


def site(tmp_path: Path) -> dict[str, str]:
    """This machine's network, with a canary in each place that could hold a secret."""
    bundle = (
        pipwheel.certificates(os.environ)
        or ssl.get_default_verify_paths().cafile
        or "/etc/ssl/certs/ca-certificates.crt"
    )
    own = tmp_path / "ca.crt"
    own.write_text(Path(os.environ.get("SSL_CERT_FILE", bundle)).read_text() + AUTHORITY)
    index = next(p for p in pipwheel._places(pipwheel.settings(os.environ)) if p.startswith("https://"))
    signed = index if "@" in index else index.replace("https://", f"https://me:{TOKEN}@")
    return {
        "SSL_CERT_FILE": str(own),
        "PIP_CERT": str(own),
        "PIP_INDEX_URL": signed,
        "NO_PROXY": f"{TOKEN}.invalid",
        "HF_TOKEN": TOKEN,
        "UV_INDEX_PASSWORD": TOKEN,
    }


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


def test_the_same_layers_again_and_no_secret_in_them(engine: Engine, built: Any, tmp_path: Path) -> None:
    """--no-cache, with canaries: every layer is the one it was; no file, config, history or log has a canary.

    An overlay2 store orders the files of a layer by one of two walks, which one depends on whether it holds an equal
    parent already (moby, overlay2's Diff): there the same files make the same layer, though its digest may differ.
    """
    tags = [i["tag"] for i in built["images"]]
    first = tmp_path / "before.tar"
    assert engine.docker("save", "--output", first, *tags).code == 0
    before = engine.layers()
    done = engine.bake("build", "--mode", "docker-cpu", "--no-cache", "--json", env=site(tmp_path))
    assert done.code == 0, done.err
    assert {i["state"] for i in done.data["images"]} == {"built"}
    if engine.store == "containerd":
        assert engine.layers() == before
    places: list[tuple[str, bytes]] = [("output", done.out.encode()), ("progress", done.err.encode())]
    for folder in ("logs", "images", "cache"):
        places += [(str(p), p.read_bytes()) for p in (engine.home / folder).rglob("*") if p.is_file()]
    assert any("build-" in name for name, _ in places), "no log was searched"
    for tag in tags:
        image = engine.client.images.get(tag)
        places += [(f"{tag} config", repr(image.attrs).encode()), (f"{tag} history", repr(image.history()).encode())]
    saved = tmp_path / "all.tar"
    assert engine.docker("save", "--output", saved, *tags).code == 0
    assert entries(saved) == entries(first)
    count = 0
    with tarfile.open(saved) as tar:
        for member in tar:
            if member.isreg():
                source = tar.extractfile(member)
                assert source is not None
                for name, data in unpacked(member.name, source.read()):
                    count += 1
                    for what, needle in needles().items():
                        assert needle not in data, f"{what} in {name}"
    assert count > 2000, "the layers were not unpacked"
    for name, data in places:
        for what, needle in needles().items():
            assert needle not in data, f"{what} in {name}"
