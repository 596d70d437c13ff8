"""Apertium's pairs among those that a job may have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builder.core import translation
from builder.core.config import parse
from builder.core.images import plan
from builder.core.terms import Mode
from builder.errors import ConfigError, UsageError
from tests.golden import project

PAIRS = [("en", "es"), ("es", "en")]


def test_on_this_machine_its_pairs_are_ready() -> None:
    pairs = translation.apertium(PAIRS, Mode.NATIVE)
    assert translation.chosen("en", ["es"], pairs, wished={}) == {"es": "apertium"}
    with pytest.raises(UsageError, match="translates en into fr"):
        translation.chosen("en", ["fr"], pairs, wished={})


def test_images_have_none_and_the_error_says_so() -> None:
    with pytest.raises(UsageError) as caught:
        translation.chosen("en", ["es"], translation.apertium(PAIRS, Mode.DOCKER_CPU), wished={})
    lacking = "apertium: images don't have it: translation.apertium in bake.yaml, or --mode native"
    assert list(caught.value.detail) == [lacking]


def test_pairs_of_the_configuration_are_ready_in_images_alone() -> None:
    """Whatever this machine has; as Debian names them, by either kind of code. Breton isn't in FLORES, but in Whisper."""
    inside = ("eng-spa", "br-fr", "arg-cat")
    pairs = translation.apertium([], Mode.DOCKER_CPU, inside)
    assert [(p.source, p.target, p.ready) for p in pairs] == [
        ("en", "es", True),
        ("es", "en", True),
        ("br", "fr", True),
        ("fr", "br", True),
    ]
    assert translation.apertium([], Mode.NATIVE, inside) == ()


def test_images_get_the_packages_of_the_pairs_that_are_chosen() -> None:
    settings = replace(project.read({"mode": "docker-cpu"}), apertium=("eng-spa",))
    with_pairs = plan.plan(settings, locks=project.LOCKS, base=project.DEBIAN, models=project.models(settings))
    without = plan.plan(
        replace(settings, apertium=()), locks=project.LOCKS, base=project.DEBIAN, models=project.models(settings)
    )
    assert set(with_pairs.debian_packages) - set(without.debian_packages) == {
        "apertium",
        "apertium-eng-spa",
        "libc-bin",
    }
    with pytest.raises(ConfigError, match="a base of Debian's packages"):
        plan.plan(settings, locks=project.LOCKS, base=project.REGISTRY, models=project.models(settings))


@pytest.mark.parametrize(
    ("pairs", "why"),
    [("[eng-spa, eng-spa]", "here twice"), ('["eng-spa;x"]', "is not a pair"), ("[engspa]", "not a pair")],
)
def test_pairs_that_can_t_be_are_refused_with_their_line(pairs: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        parse.read({"bake.yaml": f"translation:\n  apertium: {pairs}\n"})
    assert caught.value.where == "bake.yaml:2"
