"""One image serves several presets: what a build of ``--preset a,b`` carries, and what a job with one of them replaces."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from builder.cli.options import ImageOptions, parted
from builder.core.config.types import BaseSpec, Config
from builder.core.images import assembly, currency
from builder.core.terms import Mode, Purpose, Variant
from builder.core.weights.model import PinnedModel, model_digest
from builder.edges.images import build, installed
from builder.edges.images.rendered import Rendered
from builder.edges.machine import project as projects
from builder.errors import UsageError
from builder.workflows.images import _loaded
from builder.workflows.session import alternatives, image_models
from tests.golden import project
from tests.unit.test_currency import labels, rendered, settings

CONFIG = projects.load(Path(__file__).resolve().parents[2], env={}, overrides={"preset": "fast"})


def hearing(models: Iterable[PinnedModel]) -> list[str]:
    return [model.id for model, _ in models if model.purpose is Purpose.ASR]


def test_presets_are_carried_together() -> None:
    """Each model once, in the order of the presets; what all of them share isn't there twice."""
    both = image_models(CONFIG, presets=["starter"])
    assert hearing(both) == ["tiny", "base-int8"]
    assert len({model.id for model, _ in both}) == len(both)
    assert {m.id for m, _ in both} - {m.id for m, _ in image_models(CONFIG)} == {"base-int8"}
    with pytest.raises(UsageError, match='no preset "strter"'):
        image_models(CONFIG, presets=["strter"])


def test_several_models_that_hear_are_carried_together() -> None:
    """Of every other purpose ``--models`` has one, as for a job."""
    assert hearing(image_models(CONFIG, models="tiny.en, base")) == ["tiny.en-int8", "base-int8"]
    assert alternatives(CONFIG, "tiny,d-vector,base") == ("tiny,d-vector", "d-vector,base")
    assert alternatives(CONFIG, None) == (None,)
    with pytest.raises(UsageError, match="both for embedding"):
        image_models(CONFIG, models="campplus,d-vector")


def test_the_options_part_presets() -> None:
    assert parted("fast, starter,fast") == ("fast", ("starter",))
    assert parted(None) == (None, ())
    assert ImageOptions(preset="fast,starter").selection().presets == ("starter",)


def with_another(models: list[PinnedModel]) -> list[PinnedModel]:
    """The same models, and a second that hears."""
    model, pin = next((m, p) for m, p in models if m.purpose is Purpose.ASR)
    return [*models, (replace(model, id="other"), replace(pin, files=pin.files[:1]))]


def planner_keeping(
    config: Config, chosen: list[PinnedModel], known: list[PinnedModel], found: Mapping[str, Mapping[str, str]]
) -> installed.Planner:
    @functools.cache
    def planner(mode: Mode, variant: Variant, base: BaseSpec) -> Rendered:
        return rendered(config, base, list(currency.beside(chosen, found.values(), known)))

    return planner


def test_an_image_of_several_presets_is_current_for_each() -> None:
    """A job with the second preset replaces nothing, and neither does one with the first."""
    config = settings()
    first = project.models(config)
    both = with_another(first)
    second = [(m, p) for m, p in both if m.purpose is not Purpose.ASR or m.id == "other"]
    found = labels(rendered(config, project.DEBIAN, both))
    for chosen in (first, second, both):
        planner = planner_keeping(config, chosen, both, found)
        today = planner(Mode.DOCKER_CPU, Variant.SLIM, project.DEBIAN)
        assert not build.outdated(today, found)
        assert not any(installed.differences(config, tag, found[tag], planner) for tag in found)


def test_a_model_of_another_preset_stays_in_an_image_that_is_built_again() -> None:
    """What a job's preset lacks in it comes on top; what is pinned to other bytes today, or not at all, goes."""
    config = settings()
    first = project.models(config)
    both = with_another(first)
    other = both[-1]
    second = [other, *(pair for pair in first if pair[0].purpose is not Purpose.ASR)]
    found = labels(rendered(config, project.DEBIAN, first))
    asr = next(m.id for m, _ in first if m.purpose is Purpose.ASR)
    assert hearing(currency.beside(second, found.values(), both)) == [asr, "other"]
    changed = replace(other[1], files=(replace(other[1].files[0], sha256="7" * 64),))
    with_both = labels(rendered(config, project.DEBIAN, both))
    assert hearing(currency.beside(first, with_both.values(), [*first, (other[0], changed)])) == [asr]
    assert hearing(currency.beside(first, with_both.values(), first)) == [asr]
    assert hearing(currency.beside(first, [{}, {assembly.DIGESTS: "no digest"}], both)) == [asr]
    assert (
        f"other={model_digest(other[1])}"
        in next(v for tag, v in with_both.items() if "/asr:" in tag)[assembly.DIGESTS].split()
    )


def test_a_job_loads_one_of_the_models_for_a_purpose() -> None:
    """What a stage's memory is estimated by, where an image has those of several presets."""
    carried = [(m, p) for m, p in image_models(CONFIG, presets=["starter"]) if m.purpose is Purpose.ASR]
    assert len(carried) == 2
    assert _loaded(carried) == max(pin.size for _, pin in carried)
