"""What tests share: the project's own files, small job folders, and a way to import a stage's modules."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

from builder.core import yaml_document
from builder.core.config import parse
from builder.core.config.types import ProjectFiles
from tests import canaries, shared

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "stages"))  # contract.py, as every stage finds it
sys.path.insert(0, str(ROOT / "bench"))

# Unit and golden tests stay under ten seconds together: a property has a budget. A slow machine is no failure of it.
# make test-properties looks longer.
settings.register_profile("project", max_examples=20, deadline=None, database=None)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile("project")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No BAKE_* or HF_* variable of the developer decides a test."""
    for name in list(os.environ):
        if name.startswith(("BAKE_", "HF_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def _equal_files_are_read_once() -> Iterator[None]:
    """Hundreds of tests read the project's own files; reading YAML took a third of the unit tests' time.

    What is read is immutable, and a function of the texts alone. Texts that are refused are read each time.
    """
    projects: dict[tuple[tuple[str, str], ...], ProjectFiles] = {}
    documents: dict[tuple[str, str, int], dict[str, object]] = {}
    read, parsed = parse.read, yaml_document.Document.__init__

    def read_once(files: Mapping[str, str]) -> ProjectFiles:
        key = tuple(sorted(files.items()))
        if key not in projects:
            projects[key] = read(files)
        return projects[key]

    def parse_once(
        self: yaml_document.Document, name: str, text: str, *, longest: int = yaml_document.MAX_TEXT
    ) -> None:
        key = (name, text, longest)
        if key not in documents:
            parsed(self, name, text, longest=longest)
            documents[key] = dict(vars(self))
        vars(self).update(documents[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parse, "read", read_once)
        patch.setattr(yaml_document.Document, "__init__", parse_once)
        yield


def pytest_configure(config: pytest.Config) -> None:
    """Every program that a test starts has canaries in its environment and in Docker's settings, and hears Ctrl-C.

    A shell that starts the tests in the background (``&``) has them ignore it, and so would all that they start.
    """
    canaries.plant(os.environ)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Workers have ended by now."""
    if not hasattr(config, "workerinput"):
        canaries.uproot(os.environ)


SEARCHED: set[object] = set()
"""What large files of this run hold, once it was searched."""


@pytest.fixture(scope="session", autouse=True)
def _no_secret_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that this run made, printed or was started with has a canary. The last fixture that ends."""
    watch = canaries.Watch(canaries.canary())
    watch.start()
    yield
    watch.stop()
    assert watch.seen == []
    assert canaries.left_in([tmp_path_factory.getbasetemp(), *shared.MADE], canaries.canary(), SEARCHED) == []


@pytest.fixture(autouse=True)
def _no_secret_is_left_by_a_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nor has a test's own folder, which goes when the test passed."""
    mine: list[Path] = [request.getfixturevalue("tmp_path")] if "tmp_path" in request.fixturenames else []
    yield
    assert canaries.left_in(mine, canaries.canary(), SEARCHED) == []


LONGEST_FIRST = (
    "containerd",
    "overlay2",
    "engine/test_pipeline",
    "debian-bookworm",
    "debian-trixie",
    "clusters/test_slurm",
    "e2e/test_bare_machine",
    "e2e/test_serve_clients",
    "e2e/test_report",
    "e2e/test_stages_a",
    "e2e/test_stages_b",
    "e2e/test_documents",
)
"""Groups that take minutes or half of one. What isn't here is short, and fills the second worker at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests for ``--dist loadgroup``: what shares an expensive fixture runs on one worker, in one go."""
    for item in items:
        if name := group(item):
            item.add_marker(pytest.mark.xdist_group(name))


@pytest.hookimpl(trylast=True, specname="pytest_collection_modifyitems")
def pytest_longest_first(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A group's tests run in one go, in their order; with several workers, the longest groups begin first."""
    first: dict[str, int] = {}
    for place, item in enumerate(items):
        first.setdefault(group(item), place)
    items.sort(key=lambda item: first[group(item)])
    if hasattr(config, "workerinput"):
        rank = {name: place for place, name in enumerate(LONGEST_FIRST)}
        items.sort(key=lambda item: rank.get(group(item), len(rank)))
        if config.getvalue("loadgroup") and any(group(item) and "@" not in item.nodeid for item in items):
            raise pytest.UsageError("this pytest-xdist doesn't group tests with this pytest: see pyproject.toml")


def group(item: pytest.Item) -> str:
    """The name of a test's group; "" for one that any worker may run at any time.

    A store of the shared engine is a group across files. So is a Debian's root. A folder's other tests are grouped by
    file, because their fixtures are a file's; tests/e2e/test_job.py has none of its own.
    """
    path = Path(item.fspath).relative_to(ROOT / "tests").with_suffix("")
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if "engine" in parameters:
        return str(parameters["engine"])
    if "debian" in parameters:
        return f"debian-{parameters['debian']}"
    if path.parts[0] == "engine" and "store" in parameters:
        return f"{path}-{parameters['store']}"
    return "" if path.as_posix() == "e2e/test_job" else path.as_posix()


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
