"""What the documents say to type where there is an engine (tests/documents.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.documents import PAGES, blocks
from tests.engine.conftest import ONE_STORE, Engine
from tests.typing_pages import Desk, cut_recordings, is_heavy, run_here, run_with_an_engine

WITH_COMMANDS = [
    pytest.param(page, marks=[pytest.mark.heavy] if any(map(is_heavy, blocks(page))) else [], id=page.name)
    for page in PAGES
    if any(map(run_with_an_engine, blocks(page)))
]


@ONE_STORE
@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_what_a_page_says_to_type_works_with_an_engine(
    page: Path,
    engine: Engine,
    built: Any,
    native: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> None:
    """Block after block in one copy of the project, with the images of this run."""
    if any(map(is_heavy, blocks(page))):  # it may build images of another preset
        request.getfixturevalue("restored")
    desk = Desk.make(tmp_path, native, cut_recordings(tmp_path_factory))
    desk.env |= {name: engine.env[name] for name in ("DOCKER_HOST", "BAKE_HOME", "BAKE_REGISTRY", "BAKE_PRESET")}
    for block in blocks(page):
        if run_with_an_engine(block) or (run_here(block) and page.name == "air-gap.md"):  # its story needs the key
            desk.type(block)
