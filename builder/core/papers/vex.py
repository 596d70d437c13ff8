"""OpenVEX 0.2.0: what advisories mean for an image, by vex.yaml, where a person wrote it down. Pure.

There is no kept Python library for it; a document is a dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from builder.core.papers.contents import PROJECT, Contents, ImageContents, LockedWheel, document, identifier
from builder.core.yaml_document import Document, Strict

MEDIA_TYPE = "application/vnd.openvex+json"
CONTEXT = "https://openvex.dev/ns/v0.2.0"

ABSENT = "component_not_present"
"""The justification of images that haven't got the package."""

Justification = Literal[
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
]


class StatementShape(Strict):
    """One advisory of vex.yaml."""

    package: str = Field(pattern=r"^[a-z0-9][a-z0-9.+-]*$")
    """As the index or Debian names it."""
    aliases: list[str] = []
    fixed_in: str | None = None
    """The first version without it."""
    status: Literal["not_affected", "affected", "under_investigation"]
    justification: Justification | None = None
    """Of ``not_affected``."""
    reason: str = Field(min_length=1)
    action: str | None = None
    """Of ``affected``: what to do."""


class VexShape(Strict):
    """vex.yaml."""

    author: str = PROJECT
    statements: dict[str, StatementShape] = {}
    """By the advisory's id."""


@dataclass(frozen=True, kw_only=True)
class Advisories:
    """What the project says of advisories."""

    author: str
    statements: tuple[tuple[str, StatementShape], ...]
    """By id, sorted."""


def parse(text: str) -> Advisories:
    """vex.yaml.

    Raises:
        ConfigError: with the line: a key is unknown, or a statement lacks what its status wants.
    """
    file = Document("vex.yaml", text)
    shape = file.read(VexShape)
    for id_, said in shape.statements.items():
        at = ("statements", id_)
        if said.status == "not_affected" and said.justification is None:
            raise file.error("not_affected needs a justification", at, hint="add justification: …")
        if said.status == "affected" and not said.action:
            raise file.error("affected needs an action", at, hint="add action: …")
    return Advisories(author=shape.author, statements=tuple(sorted(shape.statements.items())))


def vex(contents: Contents, advisories: Advisories) -> bytes | None:
    """The document: the same contents and statements, the same bytes. None where there is nothing to say: the format wants
    at least one statement."""
    statements = [
        said for id_, advisory in advisories.statements for said in _statements(id_, advisory, contents.images)
    ]
    if not statements:
        return None
    data = {
        "@context": CONTEXT,
        "author": advisories.author,
        "timestamp": contents.created,
        "version": 1,
        "tooling": f"{PROJECT} {contents.version}",
        "statements": statements,
    }
    return document({**data, "@id": f"urn:uuid:{identifier('vex', data)}"})


def _statements(id_: str, advisory: StatementShape, images: Sequence[ImageContents]) -> list[dict[str, Any]]:
    """One for each group of images that it means the same for."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for image in images:
        found = [wheel for wheel in image.wheels if wheel.name == advisory.package]
        purls = [wheel.purl for wheel in found]
        purls += [package.purl for package in image.base.packages if package.name == advisory.package]
        parts = [{"@id": purl, "identifiers": {"purl": purl}} for purl in purls]
        product = {"@id": image.purl, "identifiers": {"purl": image.purl}}
        status = "absent" if not parts else "fixed" if _fixed(advisory, found) else "present"
        groups.setdefault(status, []).append({**product, **({"subcomponents": parts} if parts else {})})
    name = {"name": id_, **({"aliases": sorted(advisory.aliases)} if advisory.aliases else {})}
    return [
        {"vulnerability": name, "products": products, **_said(status, advisory)}
        for status, products in sorted(groups.items())
    ]


def _said(status: str, advisory: StatementShape) -> dict[str, str]:
    if status == "absent":
        return {"status": "not_affected", "justification": ABSENT, "status_notes": f"no {advisory.package} in it"}
    if status == "fixed":
        return {"status": "fixed", "status_notes": f"fixed in {advisory.package} {advisory.fixed_in}"}
    said = {"status": advisory.status, "status_notes": " ".join(advisory.reason.split())}
    said |= {"justification": advisory.justification} if advisory.justification else {}
    return said | ({"action_statement": advisory.action} if advisory.action else {})


def _fixed(advisory: StatementShape, wheels: Sequence[LockedWheel]) -> bool:
    """Whether all wheels are of a version without it; of Debian's packages only a person knows."""
    from packaging.version import InvalidVersion, Version

    if advisory.fixed_in is None or not wheels:
        return False
    try:
        return all(Version(wheel.version) >= Version(advisory.fixed_in) for wheel in wheels)
    except InvalidVersion:
        return False
