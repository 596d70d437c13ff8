"""Versions of images on real engines: named by a build, gone back to all at once, used and pushed while they are held."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builder.edges.images.past.versions import MADE_FROM
from tests.engine.conftest import Engine, copy_project
from tests.process.registry_server import Proxy, Server, proxy
from tests.process.registry_server import registry as run_registry
from tests.shared import EXAMPLE, Ran, state_folder

MODE = ("--mode", "docker-cpu")

pytestmark = pytest.mark.usefixtures("built")


@dataclass(frozen=True)
class Project:
    """A project with a git of its own and images of two commits."""

    engine: Engine
    root: Path
    env: dict[str, str]
    ids: tuple[dict[str, str], dict[str, str]]
    """Tag of an image -> its id: after the first build, and after the second."""
    commits: tuple[str, str]

    def bake(self, *words: str | Path) -> Ran:
        return self.engine.bake(*words, env=self.env, root=self.root)

    @property
    def prefix(self) -> str:
        return self.env["BAKE_REGISTRY"]

    def tags(self) -> dict[str, str]:
        """Tag -> id, of all images under the prefix."""
        listed = self.engine.docker("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").out
        pairs = dict(line.split() for line in listed.splitlines())
        return {tag.partition("/")[2]: id_ for tag, id_ in pairs.items() if tag.startswith(f"{self.prefix}/")}

    def moving(self) -> dict[str, str]:
        return {tag: id_ for tag, id_ in self.tags().items() if tag.endswith(":slim-cpu")}

    def config(self, id_: str) -> str:
        """The digest of an image's config: an engine with a containerd store has the manifest's as its id."""
        if self.engine.store != "containerd":
            return id_
        manifest = Path(self.env["BAKE_HOME"]) / "layout/blobs/sha256" / id_.removeprefix("sha256:")
        return str(json.loads(manifest.read_bytes())["config"]["digest"])

    def with_code(self, code: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the builder's own process, with ``versions`` and ``main``."""
        begin = (
            "import os, sys; sys.path.insert(0, os.getcwd())\n"
            "from builder.edges.images.past import versions\nfrom builder.cli import main\n"
        )
        return subprocess.run(
            [sys.executable, "-c", begin + code],
            env=self.engine.env | self.env,
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )


def commit(root: Path) -> str:
    git = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    if not (root / ".git").exists():
        subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "--", *(name for name in MADE_FROM if (root / name).exists())], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout[:12]


@pytest.fixture(scope="module")
def project(engine: Engine, built: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = copy_project(tmp_path_factory.mktemp("versions"))
    prefix = f"{engine.prefix}-versions"
    env = {
        "BAKE_HOME": str(state_folder(root / "home")),
        "BAKE_REGISTRY": prefix,
        "BAKE_JOBS": str(root / "jobs"),
    }
    found = Project(engine, root, env, ({}, {}), ("", ""))
    try:
        ids, commits = [], []
        for line in ("", "\n# changed\n"):
            main = root / "stages/asr/main.py"
            main.write_text(main.read_text() + line)
            commits.append(commit(root))
            done = found.bake("build", *MODE, "--json")
            assert done.code == 0, done.err
            ids.append(found.moving())
        yield Project(engine, root, env, (ids[0], ids[1]), (commits[0], commits[1]))
    finally:
        for tag in found.tags():
            engine.docker("rmi", "--force", f"{prefix}/{tag}")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with run_registry(tmp_path_factory.mktemp("registry")) as server, _proxied(server) as found:
        yield found


def _proxied(server: Server) -> Any:
    return proxy(server.port)


@pytest.fixture
def newest(project: Project) -> Iterator[None]:
    """For tests that go back: afterwards the images are those of the second build again, and not held."""
    yield
    done = project.bake("rollback", *MODE, "--to", "0.1.0-r2")
    assert done.code == 0, done.err
    assert project.moving() == project.ids[1]


def test_a_build_names_images_by_version_and_commit(project: Project) -> None:
    """All of the mode's, also those that it left as they were; the moving tag is the newest's."""
    first, second = project.ids
    assert first["asr:slim-cpu"] != second["asr:slim-cpu"]
    assert {tag for tag in first if first[tag] != second[tag]} == {"asr:slim-cpu"}
    tags = project.tags()
    wanted = {
        f"{tag}-{end}": ids[tag]
        for ids, ends in zip(
            project.ids, (("0.1.0", f"g{project.commits[0]}"), ("0.1.0-r2", f"g{project.commits[1]}")), strict=True
        )
        for tag in ids
        for end in ends
    }
    assert tags == {**second, **wanted}
    listed = project.bake("images", "--json").data
    assert [i["tag"].rpartition("/")[2] for i in listed] == sorted(second)
    asr = next(i for i in listed if i["name"] == "asr")
    ends = ("asr:slim-cpu-0.1.0-r2", f"asr:slim-cpu-g{project.commits[1]}")
    assert [tag.partition("/")[2] for tag in asr["versions"]] == list(ends)


def test_a_second_build_makes_no_version(project: Project) -> None:
    before = project.tags()
    done = project.bake("build", *MODE, "--json")
    assert {i["state"] for i in done.data["images"]} == {"up to date"}
    assert project.tags() == before


def test_a_dry_run_moves_nothing(project: Project) -> None:
    done = project.bake("rollback", *MODE, "--dry-run", "--json")
    assert done.code == 0, done.err
    assert [t["tag"].partition("/")[2] for t in done.data["tags"] if t["moved"]] == ["asr:slim-cpu"]
    assert done.data["version"]["name"] == "0.1.0"
    assert project.moving() == project.ids[1]
    assert not any(i["held"] for i in project.bake("images", "--json").data)


def test_jobs_run_in_what_was_gone_back_to(project: Project, newest: None) -> None:
    """Nothing is built, though the code is newer; a job says so, and images and doctor do. Then it ends with --release."""
    done = project.bake("rollback", *MODE, "--json")
    assert done.code == 0, done.err
    assert project.moving() == project.ids[0]
    assert {i["held"] for i in project.bake("images", "--json").data} == {"0.1.0"}
    assert "held at 0.1.0" in project.bake("doctor").out
    for _ in range(2):  # the second time the images are remembered
        ran = project.bake("run", EXAMPLE, *MODE, "--threads", "2", "--batch-size", "0", "--json")
        assert ran.code == 0, ran.err
        assert "held at 0.1.0 since" in ran.err
        compose = (project.root / "jobs" / ran.data["job"] / "compose.yaml").read_text()
        asr = project.engine.client.images.get(f"{project.prefix}/asr:slim-cpu").id
        assert asr in compose
        assert project.moving() == project.ids[0]
    again = project.bake("rollback", *MODE, "--json")
    assert again.code == 2
    assert "0.1.0 is the oldest that is kept" in again.out
    assert project.bake("rollback", "--release", *MODE, "--json").data["held_at"] == "0.1.0"
    assert project.bake("rollback", "--release", *MODE, "--json").data["held_at"] is None
    stale = project.bake("run", EXAMPLE, *MODE, "--no-build", "--json")
    assert stale.code == 3, "what isn't held must be of today's code"


def test_it_is_pushed_with_its_names_and_no_blob_twice(project: Project, line: Proxy, newest: None) -> None:
    """Each image gets three tags in a registry; after a rollback the one that moves goes back, by a manifest alone."""
    target = ("--registry", f"{line.host}/wb", "--json")
    pushed = project.bake("push", *MODE, *target)
    assert pushed.code == 0, pushed.err
    asr = next(i for i in pushed.data["images"] if i["name"] == "asr")
    assert asr["also"] == ["slim-cpu-0.1.0-r2", f"slim-cpu-g{project.commits[1]}"]
    assert project.bake("rollback", *MODE).code == 0
    line.seen.clear()
    dry = project.bake("push", *MODE, *target, "--dry-run")
    assert {s.method for s in line.seen} == {"GET", "HEAD"}
    back = project.bake("push", *MODE, *target)
    assert back.code == 0, back.err
    assert {i["name"]: i["state"] for i in dry.data["images"] if i["name"] != "weights"} == {
        i["name"]: f"would be {i['state']}" for i in back.data["images"] if i["name"] != "weights"
    }
    same = [i for i in back.data["images"] if i["name"] not in ("asr", "weights")]
    assert {(i["state"], i["sent_bytes"]) for i in same} == {("tagged", 0)}, "these have a further name"
    older = next(i for i in back.data["images"] if i["name"] == "asr")
    assert older["digest"] != asr["digest"]
    assert 0 < older["sent_bytes"] < 1_000_000, "its layer of code"
    line.seen.clear()
    assert {i["state"] for i in project.bake("push", *MODE, *target).data["images"]} == {"up to date"}
    assert line.body_bytes() == 0


def test_a_bundle_has_what_is_held(project: Project, tmp_path: Path, newest: None) -> None:
    assert project.bake("rollback", *MODE).code == 0
    done = project.bake("bundle", "create", tmp_path / "bundle", *MODE, "--no-example", "--json")
    assert done.code == 0, done.err
    inventory = json.loads((tmp_path / "bundle/inventory.json").read_text())
    configs = {image["name"].partition("/")[2]: image["config"] for image in inventory["images"]}
    assert configs == {tag: project.config(id_) for tag, id_ in project.ids[0].items()}
    assert project.moving() == project.ids[0]


def test_a_rollback_that_was_killed_is_finished_by_the_same_command(project: Project, newest: None) -> None:
    """Some tags are moved then, others aren't: no job runs on such a mix."""
    killed = project.with_code(
        "move, count = versions._tag, [0]\n"
        "def once(*words):\n"
        "    count[0] += 1\n"
        "    move(*words)\n"
        "    if count[0] == 2: os.kill(os.getpid(), 9)\n"
        "versions._tag = once\n"
        "main(['rollback', '--mode', 'docker-cpu'])\n"
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for words in (("run", EXAMPLE, *MODE, "--json"), ("push", *MODE, "--registry", "localhost:1/wb", "--json")):
        refused = project.bake(*words)
        assert refused.code == 3
        assert "a rollback to 0.1.0 was interrupted" in refused.out
        assert "rollback --mode docker-cpu --to 0.1.0" in refused.out
    assert project.bake("images").code == 0
    done = project.bake("rollback", *MODE, "--json")
    assert done.code == 0, done.err
    assert done.data["version"]["name"] == "0.1.0"
    assert project.moving() == project.ids[0]


def test_a_rollback_that_fails_moves_nothing(project: Project) -> None:
    failed = project.with_code(
        "move, count = versions._tag, [0]\n"
        "def once(*words):\n"
        "    count[0] += 1\n"
        "    move(*words)\n"
        "    if count[0] == 3: raise KeyboardInterrupt\n"
        "versions._tag = once\n"
        "sys.exit(main(['rollback', '--mode', 'docker-cpu']))\n"
    )
    assert failed.returncode == 130, failed.stderr
    assert project.moving() == project.ids[1]
    assert "none is held" in project.bake("doctor").out


def test_what_the_engine_lost_comes_from_the_layout(project: Project, newest: None) -> None:
    lost = project.ids[0]["asr:slim-cpu"]  # jobs of other tests name it, too
    tags = [f"{project.prefix}/{tag}" for tag, id_ in project.tags().items() if id_ == lost]
    assert project.engine.docker("rmi", *tags).code == 0
    assert project.ids[0]["asr:slim-cpu"] not in project.tags().values()
    done = project.bake("rollback", *MODE, "--json")
    assert done.code == 0, done.err
    assert project.moving() == project.ids[0]
    shown = project.engine.docker("run", "--rm", "--network", "none", f"{project.prefix}/asr:slim-cpu", "--help")
    assert shown.code == 0, shown.err


def test_prune_knows_them(project: Project, newest: None) -> None:
    done = project.bake("prune", "--json")
    assert [v["name"] for v in done.data["versions"]] == ["0.1.0", "0.1.0-r2"]
    back = project.bake("rollback", *MODE)
    assert back.code == 0, back.err
    assert project.moving() == project.ids[0]


def test_a_build_ends_it_and_forgets_what_was_taken_back(project: Project) -> None:
    """The last of these tests: the second version is gone, and the newest is a third, of the same code."""
    assert project.bake("rollback", *MODE).code == 0
    done = project.bake("build", *MODE, "--json")
    assert done.code == 0, done.err
    assert "no longer held at 0.1.0" in done.err
    versions = json.loads((Path(project.env["BAKE_HOME"]) / "versions.json").read_text())
    assert [v["name"] for v in versions["versions"]] == ["0.1.0", "0.1.0-r3"]
    assert not [tag for tag in project.tags() if tag.endswith("-0.1.0-r2")]
    assert project.moving() == project.ids[1]
