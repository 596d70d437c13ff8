"""This machine's Apertium: what it translates, as the stage's own program says it, and how."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.edges.machine import apertium
from tests.conftest import ROOT, stage_module

backend = stage_module("translate", "apertium")


INSTALLED = pytest.mark.skipif(
    not os.environ.get("CI") and not Path("/usr/share/apertium/modes/eng-spa.mode").exists(),
    reason="apertium-eng-spa isn't installed",
)


@INSTALLED
def test_installed_pairs_are_found() -> None:
    assert {("en", "es"), ("es", "en")} <= set(apertium.pairs(ROOT / "stages"))


@INSTALLED
def test_debian_s_pair_translates() -> None:
    lines = ("The red house is big.", "I see \ue000\ue001 and *stars* [laughs]", "", "Good morning")
    made = backend.load({}, Path()).translate(lines, source="en", target="es")
    assert made[0] == "La casa roja es grande."
    assert made[1].startswith("Veo \ue000\ue001 y *estrellas* [")
    assert made[2:] == ["", "Buenos días"]


@pytest.mark.parametrize("text", ["raise SystemExit(1)", "print('en es\\nrm -rf\\n')\nraise SystemExit(1)"])
def test_a_program_that_fails_says_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "translate").mkdir()
    (tmp_path / "translate/pairs.py").write_text(text)
    assert apertium.pairs(tmp_path) == ()


def test_what_is_no_pair_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "translate").mkdir()
    (tmp_path / "translate/pairs.py").write_text("print('en es\\n\\x1b[2J es\\nEN es\\nen es fr')")
    assert apertium.pairs(tmp_path) == (("en", "es"),)
