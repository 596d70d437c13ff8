"""Bad bundles that the loader refuses before it asks an engine: exit 5 or 3, the reason, what to do, nothing outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.bundles import HOSTILE, Hostile, good_bundle, refused


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return good_bundle(tmp_path_factory.mktemp("good") / "bundle")


def test_there_are_fifty() -> None:
    """With those that an engine is needed for, in tests/engine; each has a name of its own."""
    assert len(HOSTILE) >= 50
    assert len({h.name for h in HOSTILE}) == len(HOSTILE)


@pytest.mark.parametrize("hostile", [h for h in HOSTILE if h.alone], ids=lambda h: h.name)
def test_a_hostile_bundle_is_refused_before_an_engine_is_asked(good: Path, tmp_path: Path, hostile: Hostile) -> None:
    """No engine runs, and that is not what the error is about."""
    refused(hostile, good, tmp_path, f"unix://{tmp_path}/nowhere.sock")
