"""What verify, models sign and push say of signatures."""

from __future__ import annotations

from pathlib import Path

from builder.core.signatures.links import ChainLink, Verdict, broken, holds, not_shown
from builder.errors import IntegrityError
from builder.views import signatures as views
from builder.workflows.signatures.checks import Verified
from builder.workflows.signatures.models import ModelsSigned, SignedModelFile

LINKS = (
    holds("code", "asr", "sha256:1"),
    broken("result", "output/a.srt", "changed since stage subtitles made it"),
    broken("weights", "base", "others"),
    not_shown("image", "asr", "it is not on this machine"),
)


def verified(*links: ChainLink) -> Verified:
    return Verified(kind="job", name="j", links=links)


def test_every_link_is_said_and_counted() -> None:
    data = views.VERIFY.data(verified(*LINKS))
    assert (data["ok"], data["holds"], data["broken"], data["not_shown"]) == (False, 1, 2, 1)
    assert data["links"][3] == {
        "kind": "image",
        "of": "asr",
        "verdict": "not shown",
        "says": "it is not on this machine",
    }
    lines = views.VERIFY.text(verified(*LINKS)).splitlines()
    assert lines[-1] == "job j: 1 hold, 2 broken, 1 not shown"
    assert len(lines) == 1 + len(LINKS) + 2


def test_what_is_broken_is_an_error_and_what_is_not_shown_is_none() -> None:
    failure = verified(*LINKS).failure
    assert isinstance(failure, IntegrityError)
    assert str(failure) == "result of output/a.srt: changed since stage subtitles made it, and 1 more"
    assert failure.where == "j"
    assert verified(LINKS[0], LINKS[3]).failure is None
    assert verified(*LINKS).count(Verdict.BROKEN) == 2


def test_a_name_in_a_link_steers_no_terminal() -> None:
    text = views.VERIFY.text(verified(broken("result", "output/\x1b[2Ja\n.srt", "x")))
    assert "\x1b" not in text
    assert len(text.splitlines()) == 4


def test_signed_models_are_listed() -> None:
    rows = tuple(
        SignedModelFile(model=id_, folder=f"onnx/{id_}", file=Path(f"s/{id_}.sig"), written=id_ == "a") for id_ in "ab"
    )
    signed = ModelsSigned(models=rows, key=Path("k"))
    assert views.MODELS_SIGN.data(signed)[0] == {"id": "a", "folder": "onnx/a", "file": "s/a.sig", "written": True}
    lines = [line.split() for line in views.MODELS_SIGN.text(signed).splitlines()]
    assert lines[1:] == [["a", "s/a.sig", "signed"], ["b", "s/b.sig", "signed", "before"]]
