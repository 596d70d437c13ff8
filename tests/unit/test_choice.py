"""A plan carries the models that its stages load, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.core import choice
from builder.core.types import Purpose, Variant
from builder.edges import project
from builder.errors import MissingError, UsageError

CONFIG = project.load(Path(__file__).resolve().parents[2], env={})
ALL = list(CONFIG.stages)


def ids(**asked: object) -> dict[str, str]:
    options: dict[str, object] = {"preset": "starter", "variant": Variant.SLIM, "stages": ALL, **asked}
    return {p.value: m.id for p, m in choice.choose(CONFIG, **options).items()}  # type: ignore[arg-type]


def test_presets_choose_a_model_for_each_purpose() -> None:
    """Every preset diarizes with the ungated embedding."""
    assert ids() == {"asr": "base", "embedding": "d-vector", "vad": "silero-vad"}
    assert ids(preset="tiny-en")["asr"] == "tiny.en"


def test_without_diarization_no_embedding_is_carried() -> None:
    """What no stage would load is not fetched."""
    assert "embedding" not in ids(diarization=False, stages=[s for s in ALL if s != "diarize"])


def test_slim_leaves_wav2vec2_out_of_a_preset_and_refuses_it_when_asked_for() -> None:
    """A preset is a wish, --models is an order."""
    assert "alignment" not in ids(preset="high")
    with pytest.raises(UsageError, match="can't load") as caught:
        ids(models=["wav2vec2-en"])
    assert caught.value.hint == "--variant full"


@pytest.mark.parametrize(
    ("models", "words"),
    [(["bse"], 'no model "bse"'), (["base", "tiny.en"], "both for asr"), (["d-vector"], "no stage of this plan")],
)
def test_wishes_that_make_no_sense_are_refused(models: list[str], words: str) -> None:
    """Unknown, doubled, and for a stage that is not planned."""
    with pytest.raises(UsageError, match=words):
        ids(models=models, stages=[s for s in ALL if s != "diarize"], diarization=False)


def test_a_model_of_one_language_is_refused_for_another() -> None:
    """Before anything is fetched or decoded."""
    with pytest.raises(UsageError, match="does not know the language"):
        ids(preset="tiny-en", language="de")


def test_unpinned_models_are_refused_with_the_way_out() -> None:
    """No bytes without a digest to hold them against."""
    unpinned = next(m for m in CONFIG.models.values() if m.id not in CONFIG.pins)
    with pytest.raises(MissingError) as caught:
        choice.require_pins(CONFIG, [CONFIG.models["base"], unpinned])
    assert f"models lock {unpinned.id}" in str(caught.value.hint)
    assert caught.value.exit_code == 3
    assert set(choice.require_pins(CONFIG, [CONFIG.models["base"]])) == {"base"}
    assert Purpose.ASR in choice.choose(CONFIG, preset="starter", variant=Variant.SLIM, stages=ALL)
