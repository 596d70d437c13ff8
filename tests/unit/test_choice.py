"""A plan carries the models that its stages load, and no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from builder.core.config import selection as choice
from builder.core.config.types import ChosenSetting
from builder.core.machine import Gpu, Hardware, recommend
from builder.core.terms import Mode, Purpose, Variant
from builder.edges.machine import project
from builder.errors import MissingError, UsageError
from builder.workflows.session import chosen_models

CONFIG = project.load(Path(__file__).resolve().parents[2], env={})
ALL = list(CONFIG.stages)


def ids(**asked: object) -> dict[str, str]:
    options: dict[str, object] = {"preset": "starter", "variant": Variant.SLIM, "stages": ALL, **asked}
    return {p.value: m.id for p, m in choice.choose(CONFIG, **options).items()}  # type: ignore[arg-type]


def test_presets_choose_a_model_for_each_purpose() -> None:
    """Every preset diarizes with the ungated embedding."""
    assert ids() == {
        "alignment": "cmusphinx-fr",
        "asr": "base",
        "embedding": "campplus",
        "segmentation": "segmentation-3.0",
        "vad": "silero-vad",
    }
    assert ids(preset="tiny-en")["asr"] == "tiny.en"


def test_a_processor_takes_weights_in_int8_where_they_are_pinned() -> None:
    """Presets and --models name a model; which of its forms is loaded follows from what computes."""
    cpu = {Purpose.ASR}
    assert ids(int8=cpu) == {**ids(), "asr": "base-int8"}
    assert ids(int8=cpu, models=["tiny.en"], language="en")["asr"] == "tiny.en-int8"
    assert ids(models=["base-int8"])["asr"] == "base-int8"
    assert ids(int8={Purpose.TRANSLATION})["asr"] == "base"
    unpinned = replace(CONFIG, pins={id_: pin for id_, pin in CONFIG.pins.items() if id_ != "base-int8"})
    chosen = choice.choose(unpinned, preset="starter", variant=Variant.SLIM, stages=ALL, int8=cpu)
    assert chosen[Purpose.ASR].id == "base"


SAID: list[tuple[Mode, dict[str, str], bool]] = [
    (Mode.DOCKER_CPU, {}, True),
    (Mode.DOCKER_GPU, {}, False),
    (Mode.DOCKER_GPU, {"device": "cpu"}, False),  # an image for GPUs
    (Mode.DOCKER_CPU, {"compute_type": "float32"}, False),
    (Mode.DOCKER_CPU, {"compute_type": "int8"}, True),
    (Mode.NATIVE, {"device": "cpu"}, True),
    (Mode.NATIVE, {"device": "cuda"}, False),
    (Mode.NATIVE, {"device": "cpu", "compute_type": "int8_float32"}, False),
]


@pytest.mark.parametrize(("mode", "settings", "int8"), SAID)
def test_when_a_processor_computes_in_int8(mode: Mode, settings: dict[str, str], int8: bool) -> None:
    said = {name: ChosenSetting(stage="asr", name=name, value=value, where="--set") for name, value in settings.items()}
    config = replace(CONFIG, defaults=replace(CONFIG.defaults, mode=mode, preset="starter"), settings={"asr": said})
    assert chosen_models(config)[Purpose.ASR][0].id == ("base-int8" if int8 else "base")


@pytest.mark.parametrize(("device", "id_"), [("cpu", "base-int8"), ("cuda", "base")])
def test_natively_the_machine_says_what_computes(device: str, id_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = (Gpu(name="some", memory=12 << 30, driver="550", cuda="12.4"),) if device == "cuda" else ()
    hardware = Hardware(system="Linux", machine="x86_64", cpu="some", cores=4, threads=4, memory=8 << 30, gpus=gpu)
    monkeypatch.setattr("builder.workflows.session.hardware_of", lambda *_, **__: (hardware, recommend(hardware)))
    config = replace(CONFIG, defaults=replace(CONFIG.defaults, mode=Mode.NATIVE, preset="starter"))
    assert chosen_models(config)[Purpose.ASR][0].id == id_


def test_an_embedding_brings_its_companion() -> None:
    """Whatever names the embedding; another embedding, a pipeline or no diarization leaves it out; alone it is of no use."""
    assert ids(models=["campplus"])["segmentation"] == "segmentation-3.0"
    assert "segmentation" not in ids(preset="tiny-en", models=["d-vector"])
    assert "segmentation" not in ids(variant=Variant.FULL, models=["pyannote-community-1"])
    assert "segmentation" not in ids(diarization=False)
    with pytest.raises(UsageError, match="no stage of this plan") as caught:
        ids(models=["segmentation-3.0"])
    assert "comes with its embedding" in str(caught.value.hint)


def test_without_diarization_no_embedding_is_carried() -> None:
    """What no stage would load is not fetched."""
    assert "embedding" not in ids(diarization=False, stages=[s for s in ALL if s != "diarize"])


def test_slim_leaves_wav2vec2_out_of_a_preset_and_refuses_it_when_asked_for() -> None:
    """A preset is a wish, --models is an order."""
    assert ids(preset="high")["alignment"] == "cmusphinx-fr"
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


def test_full_aligns_with_the_languages_own_wav2vec2() -> None:
    """One model, the job's language's; none where there is none, and never another language's."""
    high = {"preset": "high", "variant": Variant.FULL}
    assert ids(**high, language="en")["alignment"] == "wav2vec2-en"
    assert ids(**high)["alignment"] == "wav2vec2-en"
    assert "alignment" not in ids(**high, language="ko")
    with pytest.raises(UsageError, match="aligns de, not fr"):
        ids(**high, language="fr", models=["wav2vec2-de"])


def test_an_aligner_without_a_pin_is_left_out() -> None:
    """A stage can do without it, so a preset that names one ends no command; the next that is pinned takes its place."""
    high = {"preset": "high", "variant": Variant.FULL}
    assert "alignment" not in ids(**high, language="de")
    assert ids(**high, language="fr")["alignment"] == "cmusphinx-fr"
    assert ids(**high, language="de", models=["wav2vec2-de"])["alignment"] == "wav2vec2-de", "an order"


def test_slim_aligns_french_with_its_own_model() -> None:
    """Where the language may turn out to be French, too; never for another."""
    assert ids(language="fr")["alignment"] == ids()["alignment"] == "cmusphinx-fr"
    assert "alignment" not in ids(language="en")
    assert "alignment" not in ids(language="de")
    assert "alignment" not in ids(preset="tiny-en", language="en")


def test_a_diarization_pipeline_takes_the_place_of_the_embedding() -> None:
    """It brings its own: nothing would load the preset's, so it is not carried."""
    full = ids(variant=Variant.FULL, models=["pyannote-community-1"], language="it")
    assert full == {"asr": "base", "diarization": "pyannote-community-1", "vad": "silero-vad"}
    with pytest.raises(UsageError, match="brings its own"):
        ids(variant=Variant.FULL, models=["pyannote-community-1", "d-vector"])


def test_slim_refuses_the_embedding_it_makes_no_features_for() -> None:
    """Told before a fetch, not by the stage that fails to load it."""
    with pytest.raises(UsageError, match="can't load"):
        ids(models=["wespeaker-resnet34"])


def test_a_model_may_be_named_twice() -> None:
    """The same wish twice is one wish."""
    assert ids(models=["tiny.en", "tiny.en"])["asr"] == "tiny.en"


def test_every_preset_is_pinned_in_slim() -> None:
    """A preset that can't be fetched anywhere would be an empty promise."""
    for preset in CONFIG.presets:
        chosen = choice.choose(CONFIG, preset=preset, variant=Variant.SLIM, stages=ALL)
        assert set(choice.require_pins(CONFIG, chosen.values())) == {m.id for m in chosen.values()}


@pytest.mark.parametrize(
    ("unpinned", "way"),
    [("wav2vec2-nl", "models lock wav2vec2-nl"), ("wav2vec2-fr", "the source can be reached: models lock wav2vec2-fr")],
)
def test_unpinned_models_are_refused_with_the_way_out(unpinned: str, way: str) -> None:
    """No bytes without a digest to hold them against; what has no repository is pinned by its address."""
    with pytest.raises(MissingError) as caught:
        choice.require_pins(CONFIG, [CONFIG.models["base"], CONFIG.models[unpinned]])
    assert way in str(caught.value.hint)
    assert "starter" in str(caught.value.hint)
    assert caught.value.exit_code == 3
    assert set(choice.require_pins(CONFIG, [CONFIG.models["base"]])) == {"base"}


def wanting(language: str | None, **defaults: object) -> UsageError:
    """Why ``--languages`` is refused."""
    config = replace(CONFIG, defaults=replace(CONFIG.defaults, **defaults))  # type: ignore[arg-type]
    chosen = choice.choose(
        config,
        preset=config.defaults.preset,
        variant=config.defaults.variant,
        stages=list(config.stages),
        language=language,
    )
    with pytest.raises(UsageError) as caught:
        choice.require_alignment(config, language, chosen)
    return caught.value


def test_a_language_that_brings_no_model_is_refused() -> None:
    """Nobody takes what is aligned by a dictionary, or not at all, for a model that travels."""
    slim = wanting("de", preset="starter", variant=Variant.SLIM)
    assert slim.what == 'slim, preset "starter": no model aligns de, so --languages de brings nothing'
    assert (slim.expected, "--variant" in str(slim.hint)) == ("fr", False), "de is pinned in no preset"
    english = wanting("en", preset="starter", variant=Variant.SLIM)
    assert "--variant full --preset high or premium" in str(english.hint)
    unpinned = wanting("de", preset="high", variant=Variant.FULL)
    assert "wav2vec2-de is not pinned" in unpinned.what
    assert str(unpinned.hint).startswith("models lock wav2vec2-de")
    full = wanting("th", preset="high", variant=Variant.FULL)
    assert full.expected == "en, fr"
    assert "--preset" not in str(full.hint)
    assert "auto" in wanting(None, preset="high", variant=Variant.FULL).what


def test_a_language_that_brings_a_model_is_not() -> None:
    config = replace(CONFIG, defaults=replace(CONFIG.defaults, preset="high", variant=Variant.FULL))
    chosen = choice.choose(config, preset="high", variant=Variant.FULL, stages=list(config.stages), language="en")
    choice.require_alignment(config, "en", chosen)
    french = choice.choose(CONFIG, preset="starter", variant=Variant.SLIM, stages=ALL, language="fr")
    choice.require_alignment(CONFIG, "fr", french)
