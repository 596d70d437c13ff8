"""docs/pipeline.md says of each stage what its stage.yaml says."""

from __future__ import annotations

import re
from pathlib import Path

from builder.core.config.types import StageSpec
from builder.edges.machine import project

ROOT = Path(__file__).resolve().parents[2]
CONFIG = project.load(ROOT, env={})


def rows() -> dict[str, list[str]]:
    lines = re.findall(r"^\| (.*) \|$", (ROOT / "docs/pipeline.md").read_text(), re.M)
    cells = [line.split(" | ") for line in lines]
    return {row[0]: row for row in cells if len(row) == 5 and row[0] != "stage"}


def said(spec: StageSpec, row: list[str]) -> dict[str, bool]:
    """What a row has wrong of a stage."""
    alike = spec.requirements.get("slim") == spec.requirements.get("full")
    return {
        "optional": row[1].endswith("; optional") != spec.optional,
        "variants": row[3].startswith("alike") != alike,
        "models": bool(spec.uses) and "`" not in row[2],
    }


def test_every_stage_has_a_row() -> None:
    """A new one is described here before it is merged: what it does, its models, its variants, whether it was seen."""
    found = rows()
    assert not set(CONFIG.stages) - set(found), "docs/pipeline.md lacks a row"
    wrong = {name: [k for k, bad in said(spec, found[name]).items() if bad] for name, spec in CONFIG.stages.items()}
    assert not {name: what for name, what in wrong.items() if what}


def test_models_that_a_row_names_are_in_the_catalogue() -> None:
    """A name with an ellipsis stands for those that begin and end so."""
    words = [word for row in rows().values() for word in re.findall(r"`([a-z0-9][a-z0-9.…-]*)`", row[2])]
    stand = {word: re.compile(re.escape(word).replace("…", ".+")) for word in words}
    known = [*CONFIG.models, "whisper", "apertium", "nmt"]
    assert [word for word, pattern in stand.items() if not any(pattern.fullmatch(id_) for id_ in known)] == []
