"""The papers of images: what they say, that validators take them, that the same contents have the same bytes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given, settings
from hypothesis import strategies as st
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from builder.core.config import requirements
from builder.core.papers import contents as papers_contents
from builder.core.papers import cyclonedx, provenance, spdx, vex, wheels
from builder.core.papers.contents import (
    BaseContents,
    Contents,
    DebianPackage,
    ImageContents,
    LockedWheel,
    alone,
    code_files,
)
from builder.core.papers.papers import KINDS, papers
from builder.core.terms import Purpose
from builder.core.weights.model import FilePin, HubSource, Model, Pin, UrlSource
from builder.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
A, B, C = ("a" * 64, "b" * 64, "c" * 64)

TINY = (
    Model(
        id="tiny",
        purpose=Purpose.ASR,
        title="Whisper tiny, 39 M parameters",
        licence="MIT",
        page="https://example.org/tiny",
        sources=(HubSource(repo="someone/faster-whisper-tiny"),),
    ),
    Pin(
        revision="d" * 40,
        files=(FilePin(path="config.json", size=2, sha256=A), FilePin(path="model.bin", size=7, sha256=B)),
        records=("one record",),
        licence="mit",
    ),
)
ODD = (
    Model(
        id="odd",
        purpose=Purpose.OTHER,
        title="\u202e\x9b x",
        licence="see its page",
        sources=(UrlSource(url="https://example.org/odd.bin"),),
    ),
    Pin(revision="1", files=(FilePin(path="odd.bin", size=1, sha256=C),)),
)
DEBIAN = DebianPackage(
    name="libstdc++6", version="12.2.0-14", architecture="amd64", source="gcc-12", sha256=C, suite="bookworm"
)
FILES = DebianPackage(name="base-files", version="12.4+deb12u15", architecture="amd64", suite="bookworm")
TORCH = LockedWheel(name="torch", version="2.8.0", file="torch-2.8.0-cp311-cp311-manylinux_2_28_x86_64.whl", sha256=A)
UNKNOWN = LockedWheel(name="numpy", version="2.4.6", allowed=(A, B))


def image(name: str = "asr", **more: Any) -> ImageContents:
    usual: dict[str, Any] = {
        "name": name,
        "tag": "slim-cpu",
        "digest": f"sha256:{A}",
        "architecture": "amd64",
        "stage": name,
        "mode": "docker-cpu",
        "variant": "slim",
        "base": BaseContents(name="debian:bookworm", digest=f"sha256:{B}", packages=(FILES, DEBIAN), python=(3, 11)),
        "wheels": (TORCH, UNKNOWN),
        "models": (TINY, ODD),
        "code": code_files({f"{name}/main.py": "print(1)\n", "contract.py": "print(2)\n"}, "opt/bake/stages"),
        "inputs": C,
        "version": "1.2",
        "revision": "e" * 40,
        "created": "2026-11-28T12:00:00Z",
    }
    return ImageContents(**{**usual, **more})


def bundle(*images: ImageContents, **more: Any) -> Contents:
    return Contents(name="bundle", images=images, version="1.2", created="2026-11-28T12:00:00Z", **more)


ADVISORIES = vex.parse((ROOT / "vex.yaml").read_text())
BOTH = pytest.mark.parametrize(
    "contents",
    [alone(image()), bundle(image(), image("vad", wheels=()), wheels=(TORCH,), models=(TINY,)), bundle(models=(TINY,))],
    ids=["image", "bundle", "models"],
)


@BOTH
def test_cyclonedx_own_validator_takes_the_sbom(contents: Contents) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(cyclonedx.sbom(contents).decode()) is None


@BOTH
def test_spdx_own_validator_takes_the_sbom(contents: Contents, tmp_path: Path) -> None:
    file = tmp_path / "x.spdx.json"
    file.write_bytes(spdx.sbom(contents))
    found = validate_full_spdx_document(parse_file(str(file)))
    assert [message.validation_message for message in found] == []


def test_a_model_is_described_as_far_as_it_is_known() -> None:
    """Licence, source, revision, digests, parameters and task; what nobody knows is left out."""
    found = {c["name"]: c for c in json.loads(cyclonedx.sbom(alone(image())))["components"]}
    tiny, odd = found["tiny"], found["odd"]
    assert tiny["type"] == "machine-learning-model"
    assert tiny["licenses"] == [{"license": {"id": "MIT"}}]
    assert tiny["purl"] == f"pkg:huggingface/someone/faster-whisper-tiny@{'d' * 40}"
    assert tiny["version"] == "d" * 40
    assert tiny["modelCard"] == {"modelParameters": {"task": "automatic-speech-recognition"}}
    assert {f["name"]: f["hashes"][0]["content"] for f in tiny["components"]} == {"config.json": A, "model.bin": B}
    said = {p["name"].removeprefix("io.whisperbake.model."): p["value"] for p in tiny["properties"]}
    assert said["parameters"] == "39000000"
    assert said["repository-licence"] == "mit"
    assert said["record"] == "one record"
    assert odd["licenses"] == [{"license": {"name": "see its page"}}]
    assert "modelCard" not in odd
    assert "parameters" not in {p["name"].rpartition(".")[2] for p in odd["properties"]}
    assert odd["purl"] == "pkg:generic/odd@1?download_url=https://example.org/odd.bin"


def test_packages_have_their_hashes_or_say_which_are_allowed() -> None:
    """A wheel whose file isn't known isn't given one."""
    found = {c["name"]: c for c in json.loads(cyclonedx.sbom(alone(image())))["components"]}
    assert found["torch"]["hashes"] == [{"alg": "SHA-256", "content": A}]
    assert found["libstdc++6"]["purl"] == "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64&distro=bookworm"
    assert found["libstdc++6"]["hashes"][0]["content"] == C
    assert (found["debian"]["type"], found["debian"]["version"]) == ("operating-system", "12.4")
    assert "hashes" not in found["numpy"]
    assert [p["value"] for p in found["numpy"]["properties"]] == [A, B]
    files = {f["name"] for f in found["whisperbake-asr"]["components"]}
    assert files == {"opt/bake/stages/asr/main.py", "opt/bake/stages/contract.py"}


def test_a_bundle_says_which_image_has_what() -> None:
    """In both formats: the image without wheels depends on none."""
    contents = bundle(image(), image("vad", wheels=(), models=()))
    data = json.loads(cyclonedx.sbom(contents))
    held = {d["ref"]: d.get("dependsOn", []) for d in data["dependencies"]}
    [vad] = [ref for ref in held if ref.startswith("pkg:oci/vad@")]
    assert not [ref for ref in held[vad] if ref.startswith(("pkg:pypi/", "model:"))]
    assert held[vad] == [f"base:debian:bookworm@sha256:{B}", f"code:vad@{C}"]
    assert held[held[vad][0]] == [FILES.purl, DEBIAN.purl]
    text = json.loads(spdx.sbom(contents))
    names = {p["SPDXID"]: p["name"] for p in text["packages"]}
    inside = {
        (names[r["spdxElementId"]], names[r["relatedSpdxElement"]])
        for r in text["relationships"]
        if r["relationshipType"] == "CONTAINS" and r["relatedSpdxElement"] in names
    }
    assert ("asr", "torch") in inside
    assert ("vad", "torch") not in inside
    assert {("vad", "debian"), ("debian", "libstdc++6"), ("whisperbake-bundle", "vad")} <= inside
    assert ("tiny", "tiny/model.bin") in inside


def test_provenance_names_all_that_an_image_is_made_from() -> None:
    data = json.loads(provenance.statement(alone(image())) or b"")
    assert data["_type"] == "https://in-toto.io/Statement/v1"
    assert data["predicateType"] == "https://slsa.dev/provenance/v1"
    assert [(s["name"], s["digest"]) for s in data["subject"]] == [("asr:slim-cpu", {"sha256": A})]
    made = data["predicate"]["buildDefinition"]["resolvedDependencies"]
    digests = {d["name"]: d.get("digest") for d in made}
    assert digests["whisperbake"] == {"gitCommit": "e" * 40}
    assert digests["debian:bookworm"] == {"sha256": B}
    assert digests["libstdc++6"] == {"sha256": C}
    assert digests[TORCH.file] == {"sha256": A}
    assert digests["tiny/model.bin"] == {"sha256": B}
    assert digests["numpy==2.4.6"] is None
    assert data["predicate"]["runDetails"]["builder"]["id"]


def test_code_that_differs_from_its_commit_isnt_said_to_be_that_commit() -> None:
    data = json.loads(provenance.statement(alone(image(revision=f"{'e' * 40}-dirty"))) or b"")
    made = data["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert not any("gitCommit" in d.get("digest", {}) for d in made)
    assert "opt/bake/stages/asr/main.py" in {d["name"] for d in made}


@BOTH
def test_the_same_contents_have_the_same_bytes_whatever_their_order(contents: Contents) -> None:
    turned = replace(
        contents, images=tuple(replace(i, models=i.models[::-1], wheels=i.wheels[::-1]) for i in contents.images)
    )
    for one, other in zip(papers(contents, ADVISORIES), papers(turned, ADVISORIES), strict=True):
        if one.kind.name in ("cyclonedx", "vex"):
            assert one.data == other.data
        assert one.data == next(p for p in papers(contents, ADVISORIES) if p.kind == one.kind).data


def test_papers_are_plain_text_of_one_line_each() -> None:
    """A name that steers a terminal is escaped: what is printed is the file, byte for byte."""
    for paper in papers(alone(image()), ADVISORIES):
        assert re.fullmatch(rb"[\n -~]+", paper.data)
        assert paper.file.startswith("asr-slim-cpu.")
    assert {paper.kind.name for paper in papers(alone(image()), ADVISORIES)} == set(KINDS)


def test_an_id_is_of_what_a_paper_says() -> None:
    """Another hash, another id."""
    other = alone(image(digest=f"sha256:{C}"))
    for writer, key in ((cyclonedx.sbom, "serialNumber"), (spdx.sbom, "documentNamespace")):
        assert json.loads(writer(alone(image())))[key] != json.loads(writer(other))[key]


# VEX


def test_a_statement_is_made_of_each_advisory_for_each_image() -> None:
    """Present: as vex.yaml says. Absent: not affected. Of a fixed version: fixed."""
    newer = replace(TORCH, version="2.10.0")
    contents = bundle(image(), image("vad", wheels=()), image("align", wheels=(newer,)))
    data = json.loads(vex.vex(contents, ADVISORIES) or b"")
    said = {
        (s["vulnerability"]["name"], product["@id"].partition("@")[0]): s
        for s in data["statements"]
        for product in s["products"]
    }
    assert len(said) == 3 * len(ADVISORIES.statements)
    one = said["CVE-2026-24747", "pkg:oci/asr"]
    assert one["status"] == "not_affected"
    assert one["justification"] == "vulnerable_code_cannot_be_controlled_by_adversary"
    assert "models.lock" in one["status_notes"]
    assert one["products"][0]["subcomponents"][0]["@id"] == "pkg:pypi/torch@2.8.0"
    assert said["CVE-2026-24747", "pkg:oci/vad"]["justification"] == "component_not_present"
    assert said["CVE-2026-24747", "pkg:oci/align"]["status"] == "fixed"


def test_every_accepted_advisory_has_a_statement() -> None:
    """What requirements/held.yaml lets stay, vex.yaml explains to scanners."""
    held = yaml.safe_load((ROOT / "requirements/held.yaml").read_text())["accepted"]
    assert set(held) <= {id_ for id_, _ in ADVISORIES.statements}


def test_a_project_that_says_nothing_has_no_such_paper() -> None:
    """OpenVEX wants at least one statement."""
    assert vex.vex(alone(image()), vex.parse("")) is None
    assert {p.kind.name for p in papers(alone(image()), vex.parse(""))} == {"cyclonedx", "spdx", "slsa"}


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ("status: not_affected, reason: x", "not_affected needs a justification"),
        ("status: affected, reason: x", "affected needs an action"),
        ("status: fine, reason: x", "status"),
        ("status: not_affected, justification: because, reason: x", "justification"),
        ("status: not_affected, justification: component_not_present", '"reason" is missing'),
    ],
)
def test_a_statement_that_openvex_wouldnt_take_is_refused_with_its_line(entry: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error) as raised:
        vex.parse(f"statements:\n  CVE-1: {{package: torch, {entry}}}\n")
    assert raised.value.where == "vex.yaml:2"


# Wheels

KNOWN = wheels.files((ROOT / "images/wheels.txt").read_text())
LOCKS = [*sorted(ROOT.glob("stages/*/requirements-*.txt")), *sorted(ROOT.glob("images/requirements-*.txt"))]


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
@pytest.mark.parametrize("python", [(3, 11), (3, 13)], ids=["3.11", "3.13"])
def test_every_locked_package_has_its_wheel(architecture: str, python: tuple[int, int]) -> None:
    """images/wheels.txt is of today's locks: `make lock` writes both."""
    lacking = []
    for lock in LOCKS:
        pins = requirements.parse(lock.name, lock.read_text())
        texts = {(pin.name, pin.version): pin.text for pin in pins}
        for wheel in wheels.locked(pins, KNOWN, architecture=architecture, python=python):
            if not wheel.file or f"sha256:{wheel.sha256}" not in texts[wheel.name, wheel.version]:
                lacking.append(f"{lock.parent.name}: {wheel.name}")
    assert lacking == []


def test_nothing_is_named_that_no_lock_has() -> None:
    hashes = {found for lock in LOCKS for found in re.findall(r"sha256:([0-9a-f]{64})", lock.read_text())}
    assert set(KNOWN) - hashes == set()


def pin(*hashes: str, marker: str = "") -> requirements.Requirement:
    lines = " \\\n".join(f"    --hash=sha256:{h}" for h in hashes)
    return requirements.parse("x", f"thing==1.0{marker} \\\n{lines}\n")[0]


def test_of_several_wheels_the_one_that_an_installer_takes_is_named() -> None:
    """The Python's own before the stable interface, that before pure Python; never one of another machine or Python."""
    known = {
        A: "thing-1.0-py3-none-any.whl",
        B: "thing-1.0-cp38-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        C: "thing-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "d" * 64: "thing-1.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    }
    every = pin(*known)

    def chosen(architecture: str, python: tuple[int, int] | None) -> str:
        return wheels.locked([every], known, architecture=architecture, python=python)[0].sha256

    assert chosen("amd64", (3, 11)) == C
    assert chosen("amd64", (3, 12)) == "d" * 64
    assert chosen("amd64", (3, 10)) == B
    assert chosen("arm64", (3, 11)) == A
    assert chosen("amd64", None) == ""
    assert wheels.locked([every], {}, architecture="amd64", python=(3, 11))[0].allowed == tuple(known)


def test_a_pin_for_another_python_isnt_in_the_image() -> None:
    older = pin(A, marker=" ; python_full_version < '3.11'")
    assert wheels.locked([older], {}, architecture="amd64", python=(3, 11)) == ()
    assert len(wheels.locked([older], {}, architecture="amd64", python=(3, 10))) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=12), max_size=12))
def test_ids_of_an_spdx_document_are_its_own(texts: list[str]) -> None:
    ids = papers_contents.unique(texts)
    assert len(set(ids.values())) == len(set(texts))
    assert all(re.fullmatch(r"[A-Za-z0-9.-]+", id_) for id_ in ids.values())
