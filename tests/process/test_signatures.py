"""Signatures as others' programs see them: Debian's cosign, openssl, and a receiver."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.core.images import oci
from builder.core.images.reference import Target
from builder.core.signatures import simple
from builder.edges.bundle import signing as bundle_signing
from builder.edges.registry import signatures
from builder.edges.registry.blobs import Registry
from builder.edges.signing import command, kept, keys
from builder.errors import BakeError, IntegrityError, MissingError, SourceError, UsageError
from tests.process import test_push as pushes
from tests.process.registry_server import Server
from tests.process.registry_server import registry as run_registry


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return made_pair(tmp_path, "sender")


def made_pair(folder: Path, name: str) -> tuple[Path, Path]:
    private, public = folder / name, folder / f"{name}.pub.pem"
    keys.make_pair(private, public)
    return private, public


def ed25519_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """A pair as ``bundle keys`` made it before."""
    private, public = folder / name, folder / f"{name}.pub.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    return private, public


def openssl(*words: object) -> bytes:
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, check=True).stdout


def cosign_here() -> str:
    """Debian's cosign."""
    found = shutil.which("cosign")
    if found is None:
        assert os.environ.get("CI", "").lower() not in ("1", "true"), "CI installs cosign"
        pytest.skip("no cosign on this machine (apt-get install cosign)")
    return found


def cosign(*words: object, home: Path) -> subprocess.CompletedProcess[str]:
    """Run it; nothing of it goes to a network."""
    found = cosign_here()
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    return subprocess.run([found, *map(str, words)], capture_output=True, text=True, env=env, check=False)


def verified(server: Server, repository: str, public: Path, home: Path) -> list[dict[str, object]]:
    """What cosign says of an image's signatures; none when it refuses."""
    done = cosign(
        *("verify", "--key", public, "--private-infrastructure=true", "--allow-insecure-registry"),
        f"{server.host}/{repository}:slim-cpu",
        home=home,
    )
    return json.loads(done.stdout) if done.returncode == 0 else []


class Pushed:
    """An image in the registry."""

    def __init__(self, server: Server, tmp: Path) -> None:
        self.server, self.tmp = server, tmp
        blobs = pushes.Bytes()
        self.image = blobs.image("asr", blobs.random(7, 1000))
        ((step, _),) = pushes.run(server.host, tmp, blobs, self.image)
        self.repository = step.repository
        self.registry: Registry
        self.target: Target
        self.registry, self.target, _ = pushes.connected(server.host, tmp)

    def sign(self, signer: keys.Signer) -> signatures.SignatureStep:
        step = signatures.decide(self.registry, self.target.host, self.repository, self.image.manifest.digest, signer)
        signatures.sign(self.registry, step, signer)
        return step

    def manifest(self) -> bytes | None:
        return self.registry.read_manifest(self.repository, simple.tag(self.image.manifest.digest))


@pytest.fixture
def pushed(server: Server, tmp_path: Path) -> Pushed:
    return Pushed(server, tmp_path)


# Images


def test_cosign_verifies_a_signed_image_and_refuses_another_key(
    server: Server, pushed: Pushed, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = pair
    assert verified(server, pushed.repository, public, tmp_path) == [], "nobody has signed it yet"
    pushed.sign(keys.signer(private))
    (claim,) = verified(server, pushed.repository, public, tmp_path)
    critical = claim["critical"]
    assert isinstance(critical, dict)
    assert critical["image"] == {"docker-manifest-digest": pushed.image.manifest.digest}
    assert critical["identity"] == {"docker-reference": f"{server.host}/{pushed.repository}"}
    _, stranger = made_pair(tmp_path, "stranger")
    assert verified(server, pushed.repository, stranger, tmp_path) == []


def test_cosign_verifies_what_an_older_key_signed(server: Server, pushed: Pushed, tmp_path: Path) -> None:
    private, public = ed25519_pair(tmp_path, "older")
    pushed.sign(keys.signer(private))
    assert len(verified(server, pushed.repository, public, tmp_path)) == 1


def test_a_signature_is_sent_once_and_those_of_others_stay(
    server: Server, pushed: Pushed, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """Also cosign's own; and what hardware signs anew each time isn't sent again."""
    private, public = pair
    assert pushed.sign(keys.signer(private)).own is None
    first = pushed.manifest()
    assert pushed.sign(keys.signer(private)).own is not None
    assert pushed.manifest() == first
    other, other_public = made_pair(tmp_path, "other")
    random = command.signer(other_public, f"openssl dgst -sha256 -sign {shlex.quote(str(other))}")
    assert pushed.sign(random).own is None
    second = pushed.manifest()
    assert pushed.sign(random).own is not None, "openssl signs with a number by chance: it isn't to be sent again"
    assert pushed.manifest() == second
    for key in (public, other_public):
        assert len(verified(server, pushed.repository, key, tmp_path)) == 1


def test_an_image_that_cosign_signed_is_signed_beside_it(
    server: Server, pushed: Pushed, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    cosign_here()
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COSIGN_PASSWORD": "", "NO_PROXY": "127.0.0.1"}
    subprocess.run(["cosign", "generate-key-pair"], env=env, cwd=tmp_path, check=True, capture_output=True)
    image = f"{server.host}/{pushed.repository}@{pushed.image.manifest.digest}"
    words = ["cosign", "sign", "--key", str(tmp_path / "cosign.key"), "--tlog-upload=false", "-y"]
    words += ["--allow-insecure-registry", "-a", "by=them", image]
    subprocess.run(words, env=env, check=True, capture_output=True)
    pushed.sign(keys.signer(pair[0]))
    (claim,) = verified(server, pushed.repository, tmp_path / "cosign.pub", tmp_path)
    assert claim["optional"] == {"by": "them"}
    assert len(verified(server, pushed.repository, pair[1], tmp_path)) == 1


def test_what_has_the_tag_and_is_no_signature_is_not_written_over(pushed: Pushed, pair: tuple[Path, Path]) -> None:
    tag = simple.tag(pushed.image.manifest.digest)
    pushed.registry.put_manifest(pushed.repository, tag, pushed.image.manifest, pushed.image.data)
    with pytest.raises(IntegrityError, match="no signatures"):
        pushed.sign(keys.signer(pair[0]))
    assert pushed.manifest() == pushed.image.data


def test_signatures_are_kept_here_once(tmp_path: Path) -> None:
    digest = oci.digest(b"manifest")
    assert kept.read(tmp_path / "s", digest) == ()
    for _ in range(2):
        kept.keep(tmp_path / "s", digest, b"payload", b"\x00signature")
    kept.keep(tmp_path / "s", digest, b"payload", b"other")
    assert kept.read(tmp_path / "s", digest) == ((b"payload", b"\x00signature"), (b"payload", b"other"))
    (tmp_path / "s" / f"{digest.replace(':', '-')}.json").write_text('{"signatures": [{"payload": 3}]}')
    assert kept.read(tmp_path / "s", digest) == ()


# Bundles


@pytest.mark.parametrize("make", [made_pair, ed25519_pair])
def test_cosign_verifies_the_signature_of_a_bundle(
    make: Callable[[Path, str], tuple[Path, Path]], tmp_path: Path
) -> None:
    private, public = make(tmp_path, "sender")
    inventory = tmp_path / "inventory.json"
    inventory.write_bytes(b"{}" * 5000)
    bundle_signing.sign_file(keys.signer(private), inventory.read_bytes(), tmp_path / "inventory.json.sig")
    words = ("verify-blob", "--key", public, "--signature", tmp_path / "inventory.json.sig")
    done = cosign(*words, "--private-infrastructure=true", inventory, home=tmp_path)
    assert done.returncode == 0, done.stderr
    inventory.write_bytes(b"{}")
    assert cosign(*words, "--private-infrastructure=true", inventory, home=tmp_path).returncode != 0


def test_a_bundle_that_this_key_signed_is_not_signed_again(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """A token makes another signature each time, and the bundle would no longer be the same bytes."""
    signer = command.signer(pair[1], f"openssl dgst -sha256 -sign {shlex.quote(str(pair[0]))}")
    target = tmp_path / "inventory.json.sig"
    bundle_signing.sign_file(signer, b"inventory", target)
    first = target.read_bytes()
    bundle_signing.sign_file(signer, b"inventory", target)
    assert target.read_bytes() == first
    bundle_signing.sign_file(signer, b"another", target)
    bundle_signing.verify_file(pair[1], b"another", target)


# Keys


def test_the_same_key_signs_the_same_bytes_alike(pair: tuple[Path, Path]) -> None:
    private, public = pair
    first = keys.signer(private).sign(b"inventory")
    assert keys.signer(private).sign(b"inventory") == first
    assert keys.verifying(public).verifies(b"inventory", first)
    assert not keys.verifying(public).verifies(b"inventory ", first)


def test_other_keys_are_refused_with_what_to_do(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    private, public = pair
    rsa, p384, locked, odd = (tmp_path / name for name in ("rsa", "p384", "locked", "odd"))
    openssl("genpkey", "-algorithm", "rsa", "-out", rsa)
    openssl("ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", p384)
    openssl("pkey", "-in", private, "-aes256", "-passout", "pass:secret", "-out", locked)
    odd.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    for key in (rsa, p384):
        with pytest.raises(UsageError, match="another kind"):
            keys.signer(key)
    with pytest.raises(UsageError, match="has a passphrase") as refused:
        keys.signer(locked)
    assert "--sign-with" in str(refused.value.hint)
    for key in (odd, public):
        with pytest.raises(UsageError, match="not a private key"):
            keys.signer(key)
    with pytest.raises(UsageError, match="no such file"):
        keys.signer(tmp_path / "none")
    with pytest.raises(UsageError, match="this is a private key"):
        keys.verifying(private)


def test_a_key_of_cosign_signs_by_cosign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With which a key of a cloud's service signs, too."""
    cosign_here()
    monkeypatch.setenv("COSIGN_PASSWORD", "secret")
    subprocess.run(["cosign", "generate-key-pair"], cwd=tmp_path, check=True, capture_output=True)
    with pytest.raises(UsageError, match="only cosign reads") as refused:
        keys.signer(tmp_path / "cosign.key")
    line = str(refused.value.hint).partition("--sign-with '")[2].rstrip("'")
    line = line.replace("cosign.key", shlex.quote(str(tmp_path / "cosign.key")))
    assert command.signer(tmp_path / "cosign.pub", line).sign(b"inventory" * 10000)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b'{"layers": 3}',
        b'{"layers": [3]}',
        b'{"layers": [{"mediaType": "x", "digest": "y", "size": 1, "annotations": {}}]}',
        b"[" * 100_000,
        oci.dump({"layers": [{}] * 1001}),
        b'{"layers": [{"mediaType": "%s", "digest": "\\ud800", "size": 1, "annotations": {"%s": ""}}]}'
        % (simple.LAYER.encode(), simple.SIGNATURE.encode()),
    ],
)
def test_what_a_registry_has_in_the_place_of_signatures_is_refused(manifest: bytes) -> None:
    with pytest.raises(IntegrityError, match="no signatures"):
        simple.parsed(manifest, "r/x")


# Commands that sign


@pytest.mark.parametrize("form", ["asn1", "base64", "rs", "rs in base64"])
def test_a_command_signs_in_any_of_the_usual_forms(form: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = pair
    script = tmp_path / "token"
    script.write_text(
        f"#!{sys.executable}\n"
        "import base64, subprocess, sys\n"
        f"der = subprocess.run(['openssl', 'dgst', '-sha256', '-sign', {str(private)!r}],\n"
        "    input=sys.stdin.buffer.read(), capture_output=True, check=True).stdout\n"
        f"form = {form!r}\n"
        "if form.startswith('rs'):\n"
        "    def part(at):\n"
        "        return int.from_bytes(der[at + 2 : at + 2 + der[at + 1]], 'big').to_bytes(32, 'big'), at + 2 + der[at + 1]\n"
        "    r, at = part(2)\n"
        "    der = r + part(at)[0]\n"
        "sys.stdout.buffer.write(base64.encodebytes(der) if 'base64' in form else der)\n"
    )
    script.chmod(0o755)
    signer = command.signer(public, shlex.quote(str(script)))
    for number in range(8):  # r and s are shorter now and then
        data = b"inventory" * number
        assert keys.verifying(public).verifies(data, signer.sign(data))


def test_a_command_of_another_key_signs_nothing(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    stranger, _ = made_pair(tmp_path, "stranger")
    signer = command.signer(pair[1], f"openssl dgst -sha256 -sign {shlex.quote(str(stranger))}")
    with pytest.raises(IntegrityError, match="can't be checked with"):
        signer.sign(b"inventory")


@pytest.mark.parametrize(
    ("words", "error", "what"),
    [
        ("", UsageError, "not a command"),
        ("openssl 'dgst", UsageError, "not a command"),
        ("no-such-program-here", MissingError, "not on this machine"),
        ("/etc/passwd", MissingError, "can't be run"),
        ("sh -c 'echo wrong PIN >&2; exit 3'", SourceError, "ended with 3"),
        ("true", SourceError, "printed 0 bytes"),
        ("cat /dev/zero", SourceError, "took more than"),
        ("head -c 200000 /dev/zero", SourceError, "printed 200000 bytes"),
        ("echo signed", IntegrityError, "can't be checked"),
    ],
)
def test_a_command_that_fails_is_an_error(
    words: str, error: type[BakeError], what: str, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "PATIENCE", 1.0)
    with pytest.raises(error, match=what):
        command.signer(pair[1], words).sign(b"inventory")


def test_no_word_of_a_command_is_logged_or_shown(pair: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    """A PIN may be among them."""
    caplog.set_level("DEBUG", logger="whisperbake")
    with pytest.raises(SourceError) as failed:
        command.signer(pair[1], "sh -c 'exit 3' --pin 481516").sign(b"inventory")
    assert "exit code 3" in caplog.text
    assert "481516" not in caplog.text + str(failed.value) + repr(failed.value.detail)


def test_a_key_in_a_token_signs_by_a_command(tmp_path: Path) -> None:
    """A PKCS #11 token (SoftHSM), as of a smart card: the private key is in no file."""
    module = Path("/usr/lib/softhsm/libsofthsm2.so")
    if not module.is_file() or shutil.which("pkcs11-tool") is None:
        assert os.environ.get("CI", "").lower() not in ("1", "true"), "CI installs softhsm2 and opensc"
        pytest.skip("no PKCS #11 token on this machine (apt-get install softhsm2 opensc)")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    env = {**os.environ, "SOFTHSM2_CONF": str(tmp_path / "softhsm2.conf"), "TOKEN_PIN": "481516"}

    def token(*words: str) -> None:
        subprocess.run(["pkcs11-tool", "--module", str(module), *words], env=env, check=True, capture_output=True)

    token("--init-token", "--slot-index", "0", "--label", "site", "--so-pin", "12345678")
    token("--token-label", "site", "--init-pin", "--so-pin", "12345678", "--pin", "481516")
    words = ("--token-label", "site", "--login", "--pin", "481516")
    token(*words, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", "--label", "sender")
    token(*words, "--read-object", "--type", "pubkey", "--id", "01", "--output-file", str(tmp_path / "public.der"))
    public = tmp_path / "site.pub.pem"
    openssl("pkey", "-pubin", "-inform", "DER", "-in", tmp_path / "public.der", "-out", public)
    asked = (
        f"env SOFTHSM2_CONF={tmp_path}/softhsm2.conf TOKEN_PIN=481516 pkcs11-tool --module {module} --token-label site"
        " --login --pin env:TOKEN_PIN --sign --id 01 --mechanism"
    )
    # Most tokens take the digest; SoftHSM is one of them.
    line = f"sh -c 'openssl dgst -sha256 -binary | {asked} ECDSA'"
    assert command.signer(public, line).sign(b"inventory" * 10000)
