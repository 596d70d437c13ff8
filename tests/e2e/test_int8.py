"""Weights that were quantised once say what weights say that are quantised at each load: every word, every time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.clusters.batches import clips
from tests.e2e.conftest import Bake
from tests.shared import EXAMPLE, SAME

AT_LOAD = ("--set", "asr.compute_type=int8_float32")
"""The same arithmetic on a processor, by a name for which float16 is loaded and quantised."""


def heard(bake: Bake, recordings: list[Path], *words: str) -> tuple[str, list[Any]]:
    """The model, and what each recording's transcript has."""
    ran = bake("run", *recordings, "--preset", "tiny-en", *SAME, "--formats", "json", *words, "--json")
    assert ran.code == 0, ran.err
    found = [json.loads(path.read_text()) for path in sorted(Path(ran.data["output"]).glob("*.json"))]
    [model] = {one.pop("models")["asr"]["id"] for one in found}
    return model, found


def test_the_words_and_times_are_the_same(bake: Bake, tmp_path: Path) -> None:
    recordings = [EXAMPLE, *clips(tmp_path / "clips", 4)]
    model, ours = heard(bake, recordings)
    other, theirs = heard(bake, recordings, *AT_LOAD)
    assert (model, other) == ("tiny.en-int8", "tiny.en")
    assert ours == theirs
