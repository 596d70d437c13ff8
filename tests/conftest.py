"""What tests share: the project's own files, small job folders, and a way to import a stage's modules."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "stages"))  # contract.py, as every stage finds it
sys.path.insert(0, str(ROOT / "bench"))

# The unit tests stay under ten seconds together; a slow machine is no failure of a property.
settings.register_profile("project", max_examples=40, deadline=None)
settings.load_profile("project")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No BAKE_* or HF_* variable of the developer decides a test."""
    for name in list(os.environ):
        if name.startswith(("BAKE_", "HF_")):
            monkeypatch.delenv(name)


def stage_module(stage: str, name: str = "main") -> ModuleType:
    """A module of a stage's folder, under a name of its own: every stage has a ``main``.

    Modules of that folder which it imports by plain name are found while it is loaded, and forgotten after.
    """
    folder = ROOT / "stages" / stage
    siblings = {path.stem for path in folder.glob("*.py")}
    hidden = {n: sys.modules.pop(n) for n in siblings if n in sys.modules}
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location(f"stage_{stage}_{name}", folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(folder))
        for n in siblings:
            sys.modules.pop(n, None)
        sys.modules.update(hidden)
