"""What README.md, CONTRIBUTING.md and docs/*.md say to type is typed, and what they show comes out (tests/documents.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.documents import PAGES, ROOT, blocks
from tests.typing_pages import Desk, cut_recordings, run_here

WITH_COMMANDS = [page for page in PAGES if any(run_here(block) for block in blocks(page))]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_what_a_page_says_to_type_works(
    page: Path, transcribed: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Block after block in one copy of the project, without an engine; shown files and output are compared."""
    desk = Desk.make(tmp_path, transcribed, cut_recordings(tmp_path_factory))
    if page.name == "README.md":
        del desk.env["BAKE_PRESET"]  # it shows what comes out by default
    for block in blocks(page):
        if run_here(block):
            desk.type(block)
        elif pattern := block.mark("shows"):
            desk.compare(block, pattern)
    assert [path.name for path in desk.to_be_committed() if path.stat().st_size > 1_000_000] == []


def test_the_job_that_is_shown_is_like_those_that_prepare_writes(transcribed: Path) -> None:
    """docs/job-format.md: its keys, stages, needs and settings are those of a real job."""
    [shown] = [block for block in blocks(ROOT / "docs/job-format.md") if block.mark("read as") == "job.yaml"]
    page, real = yaml.safe_load(shown.text), yaml.safe_load((transcribed / "job.yaml").read_text())
    assert list(page) == list(real)
    assert set(page["inputs"][0]) == set(real["inputs"][0])
    for written, made in zip(page["stages"], real["stages"], strict=True):
        assert set(written) == set(made)
        for key in ("name", "needs", "optional"):
            assert written[key] == made[key], made["name"]
        for key in ("settings", "models"):
            assert "…" in written[key] or set(written[key]) == set(made[key]), made["name"]
