"""Signatures of models, as OpenSSF's own ``model_signing`` checks them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from builder.core.signatures import models as signed
from builder.core.weights.model import snapshot_path
from builder.edges.machine import project
from builder.edges.signing import keys
from builder.errors import IntegrityError
from tests.process.test_signatures import ed25519_pair, made_pair
from tests.small_project import Small, bake, make

MODELS = {
    "tinyhub": Small(
        entry="hub: org/tinyhub",
        files={"config.json": b"{}", "model.bin": b"weights" * 999, "a/b.txt": b"b", "a-b.txt": b"c", "a.txt": b""},
    ),
    "flat": Small(entry="url: https://h.invalid/m.onnx, target: onnx/flat", files={"m.onnx": b"onnx"}),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("project"), MODELS)


def model_signing(folder: Path, signature: Path, public: Path) -> subprocess.CompletedProcess[str]:
    """The verdict of model_signing, which uses no network with a key."""
    words = ["verify", "key", folder, "--signature", signature, "--public_key", public, "--allow_symlinks"]
    argv = [sys.executable, "-m", "model_signing", *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def sign(root: Path, out: Path, *words: object) -> list[Mapping[str, object]]:
    done = bake(root, "models", "sign", "--json", "--out", out, *words)
    assert done.code == 0, done.err + done.out
    return list(json.loads(done.out))


def test_model_signing_verifies_every_model_that_is_here(root: Path, tmp_path: Path) -> None:
    private, public = made_pair(tmp_path, "sender")
    rows = sign(root, tmp_path / "signatures", "--key", private)
    assert {row["id"] for row in rows} == set(MODELS)
    store = project.load(root, env={}).paths.models
    for row in rows:
        signature = Path(str(row["file"]))
        done = model_signing(store / str(row["folder"]), signature, public)
        assert done.returncode == 0, done.stdout + done.stderr
        _, stranger = made_pair(tmp_path, f"stranger-{row['id']}")
        assert model_signing(store / str(row["folder"]), signature, stranger).returncode != 0


def test_a_changed_file_is_refused_by_model_signing(root: Path, tmp_path: Path) -> None:
    private, public = made_pair(tmp_path, "sender")
    (row,) = sign(root, tmp_path, "tinyhub", "--key", private)
    done = bake(root, "models", "export", tmp_path / "stick", "tinyhub")
    assert done.code == 0, done.err
    folder = tmp_path / "stick" / str(row["folder"])
    assert model_signing(folder, tmp_path / "tinyhub.sig", public).returncode == 0
    (folder / "model.bin").write_bytes(b"others")
    assert model_signing(folder, tmp_path / "tinyhub.sig", public).returncode != 0


def test_what_is_signed_is_not_signed_again(root: Path, tmp_path: Path) -> None:
    """A token makes another signature each time."""
    private, public = made_pair(tmp_path, "sender")
    words = ("tinyhub", "--key", public, "--sign-with", f"openssl dgst -sha256 -sign {shlex.quote(str(private))}")
    assert [row["written"] for row in sign(root, tmp_path, *words)] == [True]
    before = (tmp_path / "tinyhub.sig").read_bytes()
    assert [row["written"] for row in sign(root, tmp_path, *words)] == [False]
    assert (tmp_path / "tinyhub.sig").read_bytes() == before
    other, _ = made_pair(tmp_path, "other")
    assert [row["written"] for row in sign(root, tmp_path, "tinyhub", "--key", other)] == [True]


def test_an_older_key_is_refused_with_what_to_do(root: Path, tmp_path: Path) -> None:
    private, _ = ed25519_pair(tmp_path, "older")
    done = bake(root, "models", "sign", "tinyhub", "--key", private, "--out", tmp_path)
    assert done.code == 2
    assert "bundle keys FILE" in done.err
    assert not (tmp_path / "tinyhub.sig").exists()


def test_a_signature_of_model_signing_is_read_here(root: Path, tmp_path: Path) -> None:
    private, public = made_pair(tmp_path, "theirs")
    config = project.load(root, env={})
    folder = config.paths.models / snapshot_path(config.models["tinyhub"], config.pins["tinyhub"])
    target = tmp_path / "theirs.sig"
    words = ["sign", "key", folder, "--signature", target, "--private_key", private, "--allow_symlinks"]
    subprocess.run([sys.executable, "-m", "model_signing", *map(str, words)], check=True, capture_output=True)
    found = signed.parsed(target.read_bytes(), "theirs")
    assert keys.verifying(public).verifies(signed.encoded(found.payload), found.signature)
    assert found.key == keys.verifying(public).digest
    files = {file.path: file.sha256 for file in config.pins["tinyhub"].files}
    assert signed.said(found.payload, "theirs").files == files
    ours = signed.said(signed.statement("tinyhub", files.items()), "ours")
    assert ours.files == files
    theirs, mine = json.loads(found.payload), json.loads(signed.statement("tinyhub", files.items()))
    assert mine["subject"][0]["digest"] == theirs["subject"][0]["digest"], "the root is over the same order"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"[]",
        b'{"mediaType": "x"}',
        b"[" * 100_000,
        json.dumps({"mediaType": signed.BUNDLE, "dsseEnvelope": {"signatures": []}}).encode(),
    ],
)
def test_what_is_no_signature_is_refused(broken: bytes) -> None:
    with pytest.raises(IntegrityError, match="not a signature of a model"):
        signed.parsed(broken, "x.sig")


def test_a_digest_over_all_that_is_not_that_of_the_files_is_refused() -> None:
    """model_signing refuses it, too."""
    value = json.loads(signed.statement("m", [("a", "0" * 64)]))
    value["subject"][0]["digest"]["sha256"] = "1" * 64
    with pytest.raises(IntegrityError, match="not of a model's files"):
        signed.said(json.dumps(value).encode(), "x.sig")


@pytest.mark.parametrize(
    "files",
    [[("../up", "0" * 64)], [("/etc/passwd", "0" * 64)], [("a", "0" * 64), ("a", "1" * 64)], []],
)
def test_a_statement_of_files_that_no_model_has_is_refused(files: list[tuple[str, str]]) -> None:
    with pytest.raises(IntegrityError, match="not of a model's files"):
        signed.said(signed.statement("m", files), "x.sig")
