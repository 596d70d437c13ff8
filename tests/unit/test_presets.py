"""``preset: auto``: which preset a machine takes, and why."""

from __future__ import annotations

import pytest

from builder.core.config.presets import FETCHED_UNASKED, decide, up_to
from builder.core.machine import Recommendation

PRESETS = ("starter", "fast", "balanced", "high", "premium", "tiny-en")
SMALL, LARGE = 480_000_000, 3_000_000_000
assert SMALL < FETCHED_UNASKED < LARGE


def advice(preset: str) -> Recommendation:
    return Recommendation(preset=preset, reason="8 cores", device="cpu", compute_type="int8", batch_size=0, threads=8)


def chosen(recommended: str, lacking: dict[str, int], *, had: tuple[str, ...] = ()) -> tuple[str, str]:
    found = decide(advice(recommended), lacking, presets=PRESETS, can_be_had=lambda preset: preset in had)
    return found.preset, found.reason


def test_what_suits_a_machine_is_what_is_recommended_and_all_that_is_smaller() -> None:
    """The largest first."""
    assert up_to("balanced") == ("balanced", "starter", "fast")


def test_the_recommended_preset_is_taken_where_it_is_here() -> None:
    """Nothing is asked, and the reason is the machine's."""
    assert chosen("premium", {"premium": 0, "high": 0}) == ("premium", "recommended: 8 cores")


def test_a_smaller_one_that_is_here_is_taken_without_a_download() -> None:
    """The largest of them, although the recommended one could be had; with what to type for that one."""
    lacking = {"balanced": SMALL, "starter": 0, "fast": 0}
    assert chosen("balanced", lacking, had=("balanced",)) == (
        "starter",
        "balanced is recommended (8 cores): python3 build.py models fetch --preset balanced gets it, 480.0 MB",
    )


@pytest.mark.parametrize(
    ("had", "preset"),
    [
        ((), "starter"),
        (("balanced",), "balanced"),
        (("premium", "high"), "starter"),
        (("premium", "balanced"), "balanced"),
    ],
)
def test_a_machine_without_models_gets_the_largest_that_is_small_and_can_be_had(
    had: tuple[str, ...], preset: str
) -> None:
    """Nobody's first command fetches gigabytes unasked, and the starter's models need no hub."""
    lacking = {"premium": LARGE, "high": LARGE, "balanced": SMALL, "starter": SMALL, "fast": SMALL}
    found, reason = chosen("premium", lacking, had=had)
    assert found == preset
    assert reason.startswith(
        "premium is recommended (8 cores): python3 build.py models fetch --preset premium gets it, 3.0 GB"
    )


def test_a_recommended_preset_that_is_not_pinned_is_named() -> None:
    """Nothing can fetch it."""
    assert chosen("high", {"starter": 0}) == ("starter", "high is recommended (8 cores): its models are not pinned")


def test_a_project_without_the_known_presets_has_its_first() -> None:
    """Whatever is recommended."""
    found = decide(advice("high"), {}, presets=("mine", "other"), can_be_had=lambda _: True)
    assert found.preset == "mine"
