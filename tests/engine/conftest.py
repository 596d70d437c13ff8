"""Engine tests: on private engines of both stores with CI=true, else on a reachable engine under a prefix of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from builder.core.images.versions import moving_tag
from builder.edges.engine import connection as engines
from tests.engine import canary, private_engine
from tests.shared import ROOT, Ran, example_job, state_folder

HOW = "CI=true python3 build.py test tests/engine starts engines of its own (root, dockerd)"


ONE_STORE = pytest.mark.parametrize(
    "engine", ["containerd", pytest.param("overlay2", marks=pytest.mark.heavy)], indirect=True, scope="session"
)
"""For what has nothing to do with how an engine stores images; ``make test-heavy`` runs it on the other store too."""

OTHER_STORE = pytest.mark.parametrize(
    "engine", ["overlay2", pytest.param("containerd", marks=pytest.mark.heavy)], indirect=True, scope="session"
)
"""The same the other way round, so that both workers have as much to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs an engine."""
    for item in items:
        if "engine" in Path(item.fspath).parts:
            item.add_marker(pytest.mark.engine)


@dataclass(frozen=True)
class Engine:
    """An engine that a test may fill."""

    host: str
    store: str
    prefix: str
    home: Path
    """The state folder of the tests: models and native environment are the project's own."""

    def bake(self, *arguments: str | Path, env: Mapping[str, str] | None = None, root: Path = ROOT) -> Ran:
        """Run ``build.py`` against this engine."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "build.py"), *map(str, arguments)],
            env=self.env | dict(env or {}),
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            "DOCKER_HOST": self.host,
            "BAKE_REGISTRY": self.prefix,
            "BAKE_HOME": str(self.home),
            "BAKE_JOBS": str(self.home / "jobs"),
            "BAKE_PRESET": "tiny-en",
        }

    @property
    def client(self) -> Any:
        return docker.DockerClient(base_url=self.host, timeout=600)

    def docker(self, *arguments: str | Path) -> Ran:
        done = subprocess.run(
            ["docker", "--host", self.host, *map(str, arguments)], capture_output=True, text=True, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def left(self) -> dict[str, list[str]]:
        """What jobs could leave on an engine: containers, networks, volumes, images without a name."""
        return {
            "containers": self.docker("ps", "--all", "--format", "{{.Names}}").out.split(),
            "networks": sorted(self.docker("network", "ls", "--format", "{{.Name}}").out.split()),
            "volumes": self.docker("volume", "ls", "--quiet").out.split(),
            "dangling": self.docker("images", "--quiet", "--filter", "dangling=true").out.split(),
        }

    def job(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Ran:
        """``run`` in containers that were built before, with settings that give native's bytes."""
        return self.bake("run", *arguments, "--mode", "docker-cpu", "--no-build", "--json", env=env)

    def begin(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """The same in the background."""
        words = [
            sys.executable,
            str(ROOT / "build.py"),
            "run",
            *map(str, arguments),
            "--mode",
            "docker-cpu",
            "--no-build",
        ]
        return subprocess.Popen(
            [*words, "--json"],
            env=self.env | dict(env or {}),
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def layers(self) -> dict[str, list[str]]:
        """Diff ids of every image under the prefix, by the name that moves."""
        found = {}
        for image in self.client.images.list(filters={"label": "io.whisperbake.inputs"}):
            for tag in image.tags:
                if tag.startswith(f"{self.prefix}/") and moving_tag(tag) is None:
                    found[tag.partition("/")[2]] = image.attrs["RootFS"]["Layers"]
        return found


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with the project's models and native environment, so that nothing is fetched twice."""
    ready = subprocess.run(
        [sys.executable, str(ROOT / "build.py"), "bootstrap", "--preset", "tiny-en", "--cache-models"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ready.returncode == 0, ready.stderr
    return state_folder(tmp_path_factory.mktemp("state") / "home")


@pytest.fixture(scope="session", params=private_engine.STORES)
def engine(request: pytest.FixtureRequest, state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine of one store; empty, where it is a private one."""
    store = request.param
    home = state_folder(tmp_path_factory.mktemp(store))
    if os.environ.get("CI", "").lower() in ("1", "true") or os.environ.get("TEST_ENGINE") == "private":
        why = private_engine.why_not()
        assert why is None, f"no private engine here: {why}"
        with private_engine.engine(store) as host:
            yield Engine(host, store, "wb-test", home)
        return
    if why := engines.why_not(engines.address(os.environ)):
        pytest.skip(f"{why}; {HOW}")
    found = engines.connect(os.environ)
    if found.store != store:
        pytest.skip(f"the engine here has the {found.store} store; {HOW}")
    own = Engine(found.host, store, f"wb-test-{os.getpid()}", home)
    try:
        yield own
    finally:
        for image in own.client.images.list(filters={"label": "io.whisperbake.inputs"}):
            for tag in image.tags:
                if tag.startswith(f"{own.prefix}/"):
                    own.client.images.remove(tag, force=True)


@pytest.fixture(scope="session")
def first_build(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """All docker-cpu images, built from an empty engine at a site whose every secret is a canary."""
    site = canary.site(tmp_path_factory.mktemp("site"))
    done = engine.bake("build", "--mode", "docker-cpu", "--progress", "plain", "--json", env=site)
    assert done.code == 0, done.err
    return done


@pytest.fixture(scope="session")
def built(first_build: Ran) -> Any:
    """All docker-cpu images of the store, built once; the command's own summary."""
    return first_build.data


def results(job: Path) -> dict[str, bytes | Any]:
    """Every result of a job, without what differs by its nature: times."""
    found: dict[str, Any] = {}
    for path in sorted([*job.glob("work/*/*"), *job.glob("output/*")]):
        if path.name == "manifest.json":
            manifest = json.loads(path.read_text())
            found[f"{path.parent.name}/outputs"] = manifest["outputs"]
        else:
            found[f"{path.parent.name}/{path.name}"] = path.read_bytes()
    return found


@pytest.fixture(scope="session")
def native(state: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's job, run on this machine."""
    return example_job(tmp_path_factory)


@pytest.fixture
def restored(engine: Engine, built: Any) -> Iterator[None]:
    """For tests that build changed code under the same names: afterwards the images are those of ``built`` again."""
    yield
    done = engine.bake("build", "--mode", "docker-cpu")
    assert done.code == 0, done.err


def copy_project(folder: Path) -> Path:
    """The checkout's own files, to change something in."""
    target = folder / "project"
    names = (
        "bake.yaml",
        "models.yaml",
        "models.lock",
        "images",
        "stages",
        "templates",
        "compose",
        "builder",
        "examples",
        "requirements",
    )
    target.mkdir()
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)
    return target
