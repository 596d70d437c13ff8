"""Models for translation among the pairs that a job may have, and which of a job's models are loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from builder.core import translation
from builder.core.config.types import ChosenSetting
from builder.core.terms import Purpose
from builder.core.weights import catalog
from builder.core.weights.model import Model, Pin
from builder.edges.machine import project
from builder.errors import ConfigError, UsageError
from builder.views.machine import PAIRS
from builder.workflows.pairs import commands
from builder.workflows.pairs.commands import PairsListed
from tests.conftest import stage_module

CONFIG = project.load(Path(__file__).resolve().parents[2], env={})
PIN = Pin(revision="a" * 40, files=())


def model(id_: str, languages: str = "", into: str = "en es fr", *, commercial: bool = True) -> Model:
    return Model(
        id=id_,
        purpose=Purpose.TRANSLATION,
        title=id_,
        licence="MIT",
        commercial=commercial,
        languages=tuple(languages.split()),
        into=tuple(into.split()),
    )


MANY, OPUS = model("many", commercial=False), model("opus", "en", "es")


def test_nllb_has_the_languages_that_the_stage_has_tags_for() -> None:
    for id_ in ("nllb-200-600m-int8", "nllb-200-1.3b-int8"):
        assert set(CONFIG.models[id_].into) == set(stage_module("translate", "vocabulary").flores())


def test_a_model_of_many_languages_reads_what_it_writes() -> None:
    """Also where the language is to be detected; a language that it doesn't have is refused before anything is made."""
    pairs = translation.neural(MANY)
    assert translation.chosen("fr", ["en", "es"], pairs, wished={}) == {"en": "nmt", "es": "nmt"}
    assert translation.chosen(None, ["es"], pairs, wished={}) == {"es": "nmt"}
    for source, target in (("br", "es"), ("en", "de"), (None, "de")):
        with pytest.raises(UsageError, match=f"into {target}"):
            translation.chosen(source, [target], pairs, wished={})


def test_a_model_of_one_pair_has_that_pair() -> None:
    pairs = translation.neural(OPUS)
    assert [(p.source, p.target, p.model) for p in pairs] == [("en", "es", "opus")]
    with pytest.raises(UsageError, match="to be detected into es") as caught:
        translation.chosen(None, ["es"], pairs, wished={})
    assert caught.value.hint == "-s says which language is spoken"


def test_a_model_that_isn_t_here_is_named_with_what_to_type() -> None:
    pairs = translation.neural(MANY, lacking="it isn't here: models fetch many")
    with pytest.raises(UsageError) as caught:
        translation.chosen("en", ["es"], pairs, wished={})
    assert list(caught.value.detail) == ["nmt: many (not for commercial use): it isn't here: models fetch many"]


@pytest.mark.parametrize(
    ("source", "wanted", "found"),
    [
        ("en", ["es"], "opus"),
        ("en", ["es", "fr"], "many"),
        ("fr", ["es"], "many"),
        (None, ["es"], "many"),
        ("en", ["de"], None),
    ],
)
def test_the_model_that_translates_most_is_taken(source: str | None, wanted: list[str], found: str | None) -> None:
    best = translation.suited([OPUS, MANY], source, wanted)
    assert (best.id if best else None) == found
    assert translation.suited([], source, wanted) is None


def test_a_job_loads_a_model_for_translation_where_its_backend_does() -> None:
    models = {Purpose.ASR: (model("base"), PIN), Purpose.TRANSLATION: (MANY, PIN)}
    neural = {"translate": {"backends": "es=nmt,en=whisper"}}
    assert translation.loaded(models, neural, ["many"]) == models
    for other in ({}, {"translate": {}}, {"translate": {"backends": "en=whisper"}}):
        assert list(translation.loaded(models, other)) == [Purpose.ASR]
        with pytest.raises(UsageError, match='nothing is translated by "many"'):
            translation.loaded(models, other, ["base", "many"])


@pytest.mark.parametrize(
    ("purpose", "into", "why"),
    [
        ("translation", "", "into names the languages"),
        ("asr", "into: [en]", "into names the languages"),
        ("translation", "into: [en, xx]", '"xx" is not a language code'),
    ],
)
def test_a_catalogue_says_what_a_model_writes(purpose: str, into: str, why: str) -> None:
    text = f"models:\n  m:\n    purpose: {purpose}\n    title: t\n    licence: MIT\n    hub: a/b\n    {into}\n"
    with pytest.raises(ConfigError, match=why) as caught:
        catalog.parse_models(text)
    assert str(caught.value.where).startswith("models.yaml:")


def test_the_list_of_pairs_says_which_a_job_would_choose() -> None:
    pairs = (
        *translation.neural(OPUS),
        *translation.neural(MANY),
        *translation.neural(model("gone"), lacking="not here"),
    )
    found = PairsListed(source="en", pairs=tuple(pair for pair in pairs if pair.target != "en"))
    assert [(row["source"], row["target"], row["model"], row["ready"], row["chosen"]) for row in PAIRS.data(found)] == [
        ("en", "es", "opus", True, True),
        (None, "es", "many", True, False),
        (None, "fr", "many", True, True),
        (None, "es", "gone", False, False),
        (None, "fr", "gone", False, False),
    ]
    rows = [line.split() for line in PAIRS.text(found).splitlines()]
    assert rows[1] == ["en", "nmt", "chosen", "opus", "es"]
    assert rows[4] == ["any", "nmt", "no", "gone:", "not", "here", "es", "fr"]
    assert PAIRS.text(PairsListed(source="br", pairs=())) == "nothing translates from br"


def test_without_a_source_a_pair_is_chosen_where_no_better_one_takes_its_language() -> None:
    """A model of any language comes before the rules of one, but not for a language that it doesn't read."""
    rules = [translation.Pair(source=s, target="en", backend="apertium", why="rules") for s in ("es", "br")]
    found = PairsListed(source=None, pairs=(*translation.neural(MANY), *rules))
    chosen = {(row["source"], row["target"]): row["chosen"] for row in PAIRS.data(found)}
    assert chosen == {
        (None, "en"): True,
        (None, "es"): True,
        (None, "fr"): True,
        ("es", "en"): False,
        ("br", "en"): True,
    }


def test_a_model_does_not_translate_a_language_into_itself() -> None:
    pairs = translation.neural(model("both", "en es", "en es"))
    assert [(p.source, p.target) for p in pairs] == [("en", "es"), ("es", "en")]


def test_a_language_model_translates_what_nobody_else_does() -> None:
    pairs = (*translation.neural(OPUS), *translation.asked("m", "llm.example.org"))
    assert translation.chosen("en", ["es", "hi"], pairs, wished={}) == {"es": "nmt", "hi": "llm"}
    assert translation.chosen("en", ["es"], pairs, wished={"es": "llm"}) == {"es": "llm"}
    assert translation.others("en", {"hi": "llm"}, pairs) == {}
    assert "--allow-network llm.example.org" in pairs[-1].why


def test_a_model_that_the_settings_name_is_among_the_pairs() -> None:
    named = {"llm": "m", "llm_endpoint": "https://llm.example.org/v1"}
    settings = {
        name: ChosenSetting(stage="translate", name=name, value=value, where="--set") for name, value in named.items()
    }
    models = {Purpose.ASR: (CONFIG.models["tiny"], PIN)}
    assert all(pair.backend != "llm" for pair in commands.here(CONFIG, models))
    config = replace(CONFIG, settings={"translate": settings})
    assert {pair.backend for pair in commands.here(config, models) if pair.ready and pair.target == "yo"} == {"llm"}
