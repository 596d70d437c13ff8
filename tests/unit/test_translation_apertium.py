"""Apertium's pairs among those that a job may have."""

from __future__ import annotations

import pytest

from builder.core import translation
from builder.core.terms import Mode
from builder.errors import UsageError

PAIRS = [("en", "es"), ("es", "en")]


def test_on_this_machine_its_pairs_are_ready() -> None:
    pairs = translation.apertium(PAIRS, Mode.NATIVE)
    assert translation.chosen("en", ["es"], pairs, wished={}) == {"es": "apertium"}
    with pytest.raises(UsageError, match="translates en into fr"):
        translation.chosen("en", ["fr"], pairs, wished={})


def test_images_have_none_and_the_error_says_so() -> None:
    with pytest.raises(UsageError) as caught:
        translation.chosen("en", ["es"], translation.apertium(PAIRS, Mode.DOCKER_CPU), wished={})
    assert list(caught.value.detail) == ["apertium: Apertium isn't in images: --mode native"]
