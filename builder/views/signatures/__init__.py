"""Results of models sign and of verify."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.signatures.links import Verdict
from builder.core.text import table
from builder.views import View

if TYPE_CHECKING:
    from builder.workflows.signatures.checks import Verified
    from builder.workflows.signatures.models import ModelsSigned


SUMMED = {Verdict.HOLDS: "hold", Verdict.BROKEN: "broken", Verdict.NOT_SHOWN: "not shown"}
"""Verdicts as the sum says them."""


class SignedModelJson(TypedDict):
    """The signature of one model."""

    id: str
    """The model's id."""
    folder: str
    """The model's folder, below the store's root or that of an export: what ``model_signing verify`` is given."""
    file: str
    """The signature's file."""
    written: bool
    """False where the file had this key's signature of these files already."""


def _signed_data(signed: ModelsSigned) -> list[SignedModelJson]:
    return [
        {"id": one.model, "folder": one.folder, "file": str(one.file), "written": one.written} for one in signed.models
    ]


def _signed_text(signed: ModelsSigned) -> list[str]:
    rows = [(one.model, str(one.file), "signed" if one.written else "signed before") for one in signed.models]
    return table(("MODEL", "SIGNATURE", "STATE"), rows)


MODELS_SIGN = View(command="models sign", shape=list[SignedModelJson], data=_signed_data, lines=_signed_text)


class LinkJson(TypedDict):
    """One step from a thing to what it was made of."""

    kind: str
    """``recording``, ``request``, ``settings``, ``code``, ``image``, ``weights``, ``inputs``, ``outputs``, ``result``,
    ``replay``, ``stage``; ``manifest``, ``config``, ``layer``, ``engine``; ``part``; ``files``; ``signature``."""
    of: str
    """The stage, file, model, layer or image."""
    verdict: str
    """``holds``, ``broken``, or ``not shown``: what would show it isn't on this machine."""
    says: str
    """The digest that was compared, or what is wrong, or missing."""


class VerifyJson(TypedDict):
    """A thing that was checked, and what its links came to."""

    kind: str
    """``image``, ``bundle``, ``job`` or ``model``."""
    name: str
    """A job's id; else what was typed."""
    ok: bool
    """Nothing is broken; what is not shown doesn't count."""
    replayed: bool
    """Whether the job ran a second time."""
    holds: int
    """Links that hold."""
    broken: int
    """Links that are broken: exit code 5."""
    not_shown: int
    """Links that nothing on this machine can show."""
    links: list[LinkJson]
    """From what it was made of to itself."""


def _verified_data(found: Verified) -> VerifyJson:
    return {
        "kind": found.kind,
        "name": found.name,
        "ok": found.failure is None,
        "replayed": found.replayed,
        "holds": found.count(Verdict.HOLDS),
        "broken": found.count(Verdict.BROKEN),
        "not_shown": found.count(Verdict.NOT_SHOWN),
        "links": [
            {"kind": link.kind, "of": link.of, "verdict": link.verdict.value, "says": link.says} for link in found.links
        ],
    }


def _verified_text(found: Verified) -> list[str]:
    rows = [(link.kind, link.of, link.verdict.value, link.says) for link in found.links]
    counts = ((found.count(verdict), SUMMED[verdict]) for verdict in Verdict)
    summary = ", ".join(f"{count} {what}" for count, what in counts if count)
    return [*table(("LINK", "OF", "VERDICT", "WHAT"), rows), "", f"{found.kind} {found.name}: {summary}"]


VERIFY = View(command="verify", shape=VerifyJson, data=_verified_data, lines=_verified_text)
