"""``push --sign`` and ``verify`` as they are typed, where no engine is needed."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.core.images import assembly, currency, oci
from builder.core.jobs.job import Job, JobInput
from builder.edges.bundle import signing as bundle_signing
from builder.edges.images.layout import Layout
from builder.edges.jobs.outcome import code_digest
from builder.edges.jobs.record import again, origin
from builder.edges.machine import project
from builder.edges.signing import kept, keys
from builder.errors import MissingError
from builder.receiver.jobs.job import compose_text
from tests import bundles
from tests.process.registry_server import Server
from tests.process.registry_server import registry as run_registry
from tests.process.test_model_signatures import MODELS, sign
from tests.process.test_registry_commands import assembled, typed
from tests.process.test_signatures import cosign, made_pair
from tests.small_engine import small_engine
from tests.small_project import ROOT, bake, make

NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere.sock"}


def verified(*words: str | Path, home: Path, code: int = 0, engine: Mapping[str, str] = NO_ENGINE) -> dict[str, Any]:
    done = typed("verify", *words, "--json", env={**engine, "BAKE_HOME": str(home)})
    assert done.returncode == code, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def links(found: Mapping[str, Any], kind: str) -> list[tuple[str, str, str]]:
    return [(link["of"], link["verdict"], link["says"]) for link in found["links"] if link["kind"] == kind]


# Images


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with a layout of today's images."""
    home = tmp_path_factory.mktemp("state")
    assembled(home)
    return home


def push(server: Server, home: Path, *words: str | Path, code: int = 0) -> dict[str, Any]:
    env = {**NO_ENGINE, "BAKE_HOME": str(home), "BAKE_PRESET": "starter"}
    done = typed("push", "asr", "--mode", "docker-cpu", "--registry", f"{server.host}/x", *words, "--json", env=env)
    assert done.returncode == code, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def test_a_pushed_image_is_signed_there_and_verified_here(home: Path, tmp_path: Path) -> None:
    """By cosign from the registry, and by verify without it; a second push signs nothing again."""
    private, public = made_pair(tmp_path, "sender")
    with run_registry(tmp_path / "registry") as server:
        (row,) = push(server, home, "--sign", private, "--dry-run")["images"]
        assert (row["state"], row["signature"]) == ("would be pushed", "would be signed")
        words = ("verify", "--key", public, "--private-infrastructure=true", "--allow-insecure-registry")
        image = f"{server.host}/x/asr:slim-cpu"
        assert cosign(*words, image, home=tmp_path).returncode != 0, "a dry run pushed something"
        (row,) = push(server, home, "--sign", private)["images"]
        assert (row["state"], row["signature"]) == ("pushed", "signed")
        done = cosign(*words, image, home=tmp_path)
        assert done.returncode == 0, done.stderr
        (row,) = push(server, home, "--sign", private)["images"]
        assert (row["state"], row["signature"]) == ("up to date", "signed before")
        (row,) = push(server, home)["images"]
        assert row["signature"] == ""
    found = verified("asr", "--key", public, home=home)
    assert found["kind"] == "image"
    assert [verdict for _, verdict, _ in links(found, "signature")] == ["holds"]
    assert {verdict for _, verdict, _ in links(found, "weights")} == {"holds"}
    assert [verdict for _, verdict, _ in links(found, "engine")] == ["not shown"]
    assert found["ok"]
    _, stranger = made_pair(tmp_path, "stranger")
    found = verified("asr", "--key", stranger, home=home, code=5)
    assert [verdict for _, verdict, _ in links(found, "signature")] == ["broken"]
    found = verified("subtitles", "--key", public, home=home, code=5)
    assert "not signed" in links(found, "signature")[0][2]
    layout = Layout(home / "layout", home / "models")
    entries = {ref.rpartition("/")[2]: entry["manifest"] for ref, entry in layout.images().items()}
    ((payload, signature),) = kept.read(home / "signatures", entries["asr:slim-cpu"])
    kept.keep(home / "signatures", entries["subtitles:slim-cpu"], payload, signature)
    found = verified("subtitles", "--key", public, home=home, code=5)
    assert [v for _, v, _ in links(found, "signature")] == ["broken"], "the signature of another image counts"


def test_a_command_that_signs_needs_the_public_key(tmp_path: Path) -> None:
    done = typed("push", "--sign-with", "openssl dgst -sha256 -sign k", env={"BAKE_HOME": str(tmp_path)})
    assert done.returncode == 2
    assert "--sign KEY.pub.pem --sign-with COMMAND" in done.stderr


def test_the_bytes_of_an_image_are_read(tmp_path: Path) -> None:
    """A changed layer is found, and stays: verify changes nothing."""
    home = tmp_path / "home"
    layout = Layout(home / "layout", home / "models")
    data = b"a layer" * 1000
    blob = oci.describe(oci.TAR, data)
    layout.put(data)
    settings = oci.dump({"rootfs": {"type": "layers", "diff_ids": [blob.digest]}})
    layout.put(settings)
    layout.record("r/x:1", {"manifest": layout.put(oci.manifest(oci.describe(oci.CONFIG, settings), [blob]))})
    assert [v for _, v, _ in links(verified("x", home=home), "layer")] == ["holds"]
    path = layout.path(blob.digest)
    path.write_bytes(data[:-1] + b"!")
    assert [v for _, v, _ in links(verified("r/x:1", home=home, code=5), "layer")] == ["broken"]
    assert path.read_bytes().endswith(b"!"), "verify removed it"
    path.unlink()
    assert [v for _, v, _ in links(verified("x:1", home=home), "layer")] == ["not shown"]
    manifest = layout.path(layout.images()["r/x:1"]["manifest"])
    manifest.write_bytes(manifest.read_bytes() + b" ")
    assert [v for _, v, _ in links(verified("x", home=home, code=5), "manifest")] == ["broken"]


def test_an_image_that_an_engine_alone_has_is_compared_by_its_labels(tmp_path: Path) -> None:
    """Code against this project, weights against models.lock; its layers can't be shown. Another of the same name differs."""
    config = project.load(ROOT, env={"BAKE_HOME": str(tmp_path)})
    model, pin = config.models["silero-vad"], config.pins["silero-vad"]
    labels = {
        currency.CODE: f"vad:{code_digest(ROOT / 'stages', 'vad')}",
        assembly.BAKED: "baked",
        assembly.DIGESTS: assembly.digests([(model, pin)]),
    }

    def image(name: str, **more: str) -> bytes:
        settings = {"os": "linux", "architecture": "amd64", "config": {"Labels": {**labels, **more}}}
        return oci.dump({**settings, "rootfs": {"type": "layers", "diff_ids": []}, "name": name})

    with small_engine(tmp_path) as engine:
        engine.add(image("a"), "r/vad:1")
        engine.add(image("b", **{currency.CODE: "vad:0", assembly.DIGESTS: "silero-vad=sha256:0"}), "r/other:1")
        host = {"DOCKER_HOST": engine.host}
        found = verified("r/vad:1", home=tmp_path, engine=host)
        assert {link["kind"]: link["verdict"] for link in found["links"]} == {
            "engine": "holds",
            "layer": "not shown",
            "code": "holds",
            "weights": "holds",
            "signature": "not shown",
        }
        found = verified("r/other:1", home=tmp_path, engine=host, code=5)
        assert links(found, "code")[0][1] == "not shown"
        assert links(found, "weights")[0][1] == "broken"
        layout = Layout(tmp_path / "layout", tmp_path / "models")
        layout.put(image("c"))
        manifest = layout.put(oci.manifest(oci.describe(oci.CONFIG, image("c")), []))
        layout.record("r/vad:1", {"manifest": manifest})
        assert links(verified("r/vad:1", home=tmp_path, engine=host, code=5), "engine")[0][1] == "broken"
        engine.add(image("c"), "r/vad:1")
        assert links(verified("r/vad:1", home=tmp_path, engine=host), "engine")[0][1] == "holds"


def test_what_has_no_such_name_is_said(tmp_path: Path) -> None:
    for word in ("no-such-image", "20990101-000000-none-0000"):
        done = typed("verify", word, env={**NO_ENGINE, "BAKE_HOME": str(tmp_path)})
        assert done.returncode == 2
        assert word in done.stderr
    (tmp_path / "notes.srt").write_text("1\n")
    done = typed("verify", tmp_path / "notes.srt", env={**NO_ENGINE, "BAKE_HOME": str(tmp_path)})
    assert done.returncode == 2
    assert "no job here made a file of these bytes" in done.stderr
    done = typed("verify", tmp_path / "none", "--key", tmp_path / "none", env={"BAKE_HOME": str(tmp_path)})
    assert done.returncode == 2
    assert "no such file" in done.stderr


# Bundles


def test_a_bundle_is_verified_with_its_signature(tmp_path: Path) -> None:
    private, public = made_pair(tmp_path, "sender")
    folder = tmp_path / "stick"
    bundles.three().write(folder)
    found = verified(folder, home=tmp_path)
    assert found["kind"] == "bundle"
    assert links(found, "signature") == [("inventory.json", "not shown", "not signed")]
    assert {verdict for _, verdict, _ in links(found, "part")} == {"holds"}
    assert "not signed" in links(verified(folder, "--key", public, home=tmp_path, code=5), "signature")[0][2]
    signature = folder / "inventory.json.sig"
    bundle_signing.sign_file(keys.signer(private), (folder / "inventory.json").read_bytes(), signature)
    assert "--key" in links(verified(folder, home=tmp_path), "signature")[0][2]
    assert links(verified(folder, "--key", public, home=tmp_path), "signature")[0][1] == "holds"
    part = folder / links(found, "part")[0][0]
    part.write_bytes(part.read_bytes()[:-1])
    found = verified(folder, "--key", public, home=tmp_path, code=5)
    assert (part.name, "broken") in [(of, verdict) for of, verdict, _ in links(found, "part")]


# Models


def test_a_signature_of_a_model_is_verified(tmp_path: Path) -> None:
    """Against the lock and the store; by the key, if one is given."""
    root = make(tmp_path / "project", MODELS)
    private, public = made_pair(tmp_path, "sender")
    sign(root, tmp_path, "tinyhub", "--key", private)

    def run(*words: str | Path, code: int = 0) -> dict[str, Any]:
        done = bake(root, "verify", tmp_path / "tinyhub.sig", *words, "--json", env=NO_ENGINE)
        assert done.code == code, done.err + done.out
        return dict(json.loads(done.out))

    found = run("--key", public)
    assert [link["verdict"] for link in found["links"]] == ["holds"] * 3
    _, stranger = made_pair(tmp_path, "stranger")
    assert links(run("--key", stranger, code=5), "signature")[0][1] == "broken"
    assert links(run(), "signature")[0][1] == "not shown"
    shutil.rmtree(root / ".bake" / "models")
    assert links(run("--key", public), "weights")[0][1] == "not shown"
    lock = (root / "models.lock").read_text()
    digest = hashlib.sha256(MODELS["tinyhub"].files["model.bin"]).hexdigest()
    (root / "models.lock").write_text(lock.replace(digest, "a" * 64))
    assert links(run("--key", public, code=5), "files")[0][1] == "broken"


# A job's folder is anybody's


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "services: 3",
        "# job\n[]",
        '# job\n{"services": [1]}',
        '# job\n{"services": {"asr": 3, "vad": {"image": [1]}, "mux": {"image": "../../etc/passwd"}}}',
        '# job\n{"services": ' * 1000,
        'services:\n  asr:\n    <<: *stage\n    image: "sha256:0"\n',
        'services:\n  ../asr:\n    <<: *stage\n    image: "sha256:' + "0" * 64 + '"\n',
        "\xff",
    ],
)
def test_a_compose_file_of_another_shape_names_no_image(text: str, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_bytes(text.encode("latin-1"))
    assert origin.image_ids(tmp_path) == {}


def test_a_compose_file_names_the_image_of_each_stage(tmp_path: Path) -> None:
    """As the builder's template writes it, and as the loader does."""
    (tmp_path / "compose.yaml").write_bytes((ROOT / "tests/golden/files/cpu.compose.yaml").read_bytes())
    stages = yaml.safe_load((tmp_path / "compose.yaml").read_text())["services"]
    assert origin.image_ids(tmp_path) == {stage: service["image"] for stage, service in stages.items()}
    services = {stage: {"image": service["image"]} for stage, service in stages.items()}
    (tmp_path / "compose.yaml").write_text(compose_text({"id": "j"}, services))
    assert origin.image_ids(tmp_path) == {stage: service["image"] for stage, service in stages.items()}


def test_a_compose_file_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    text = f'# job\n{{"services": {{"asr": {{"image": "sha256:{"0" * 64}"}}}}}}'
    (tmp_path / "job").mkdir()
    (tmp_path / "job/compose.yaml").write_text(text)
    assert origin.image_ids(tmp_path / "job") == {"asr": f"sha256:{'0' * 64}"}
    (tmp_path / "job/compose.yaml").unlink()
    (tmp_path / "real").write_text(text)
    (tmp_path / "job/compose.yaml").symlink_to(tmp_path / "real")
    assert origin.image_ids(tmp_path / "job") == {}


def test_a_second_run_is_nobody_elses_to_see_and_leaves_nothing(tmp_path: Path) -> None:
    """Also after a killed one; what is no recording is copied, and a link isn't followed."""
    entry = JobInput(
        id="01", name="a.wav", path="input/01.wav", sha256=hashlib.sha256(b"sound").hexdigest(), size=5, output="a"
    )
    job = Job(
        id="20260101-000000-a-0000",
        created="",
        workflow="subtitle",
        variant="slim",
        preset="starter",
        key="",
        inputs=(entry,),
        stages=(),
    )
    folder, root = tmp_path / job.id, tmp_path / "cache/replay"
    (folder / "input").mkdir(parents=True)
    (folder / "input/01.wav").write_bytes(b"sound")
    (folder / "input/glossary.json").write_text("{}")
    (tmp_path / "secret").write_text("of another user")
    (folder / "input/cast.json").symlink_to(tmp_path / "secret")
    (root / "left").mkdir(parents=True)
    with again.copied(root, job, folder, lambda _: None) as copy:
        assert copy.id != job.id
        assert stat.S_IMODE(root.stat().st_mode) == 0o700
        assert [path.name for path in root.iterdir()] == [copy.id]
        assert sorted(path.name for path in (root / copy.id / "input").iterdir()) == ["01.wav", "glossary.json"]
        assert (root / copy.id / "input/01.wav").read_bytes() == b"sound"
    assert not root.exists()
    (folder / "input/01.wav").unlink()
    (folder / "input/01.wav").symlink_to(tmp_path / "secret")
    with pytest.raises(MissingError, match="no longer there"), again.copied(root, job, folder, lambda _: None):
        pass
    assert not root.exists()
