"""Which images a job runs in: believed as long as nothing that they are made of has changed."""

from __future__ import annotations

import json
import socketserver
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from builder.core.config.types import Config
from builder.core.jobs.compose import StageImage
from builder.edges.jobs import stage_images
from builder.edges.jobs.stage_images import StageImages
from tests import loopback
from tests.golden import project as fixed

ASR, VAD = "sha256:" + "a" * 64, "sha256:" + "b" * 64


class Engine(socketserver.ThreadingUnixStreamServer):
    """Answers one question of Docker's interface, ``GET /images/<tag>/json``, from a table."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.ids = {"x/asr:1": ASR, "x/vad:1": VAD}
        super().__init__(str(path), Answer)


class Answer(loopback.Handler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Engine)
        tag = unquote(self.path).removeprefix("/images/").removesuffix("/json")
        body = json.dumps({"Id": self.server.ids.get(tag, "")}).encode()
        self.reply(200 if tag in self.server.ids else 404, body)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    server = Engine(tmp_path / "engine.sock")
    with loopback.answering(server):
        yield server


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A project of a few files, with its state in a folder of its own."""
    for name in ("bake.yaml", "models.lock", "templates/Dockerfile.j2", "images/base.yaml", "stages/asr/main.py"):
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x\n")
    return replace(
        fixed.read({"mode": "docker-cpu"}),
        root=tmp_path / "project",
        shipped=tmp_path / "project",
        home=tmp_path / "state",
    )


def environment(engine: Engine) -> dict[str, str]:
    return {"DOCKER_HOST": f"unix://{engine.server_address!s}"}


@pytest.fixture
def known(engine: Engine, config: Config) -> StageImages:
    """What was recorded."""
    images = StageImages(
        engine=environment(engine)["DOCKER_HOST"],
        images={"asr": StageImage(id=ASR, models=("0" * 64,)), "vad": StageImage(id=VAD)},
        tags={"asr": "x/asr:1", "vad": "x/vad:1"},
        cpus=2,
        memory=8_000_000_000,
    )
    stage_images.record(config, ["base"], images)
    return images


def test_what_was_recorded_is_believed(engine: Engine, config: Config, known: StageImages) -> None:
    """Nothing has changed: the next job starts at once."""
    assert stage_images.recorded(config, ["base"], environment(engine)) == known


def test_an_image_that_was_built_again_is_not(engine: Engine, config: Config, known: StageImages) -> None:
    """Its tag names another image now."""
    engine.ids["x/vad:1"] = "sha256:" + "c" * 64
    assert stage_images.recorded(config, ["base"], environment(engine)) is None


def test_an_image_that_is_gone_is_not(engine: Engine, config: Config, known: StageImages) -> None:
    del engine.ids["x/asr:1"]
    assert stage_images.recorded(config, ["base"], environment(engine)) is None


@pytest.mark.parametrize(
    "name", ["bake.yaml", "models.lock", "templates/Dockerfile.j2", "images/base.yaml", "stages/asr/main.py"]
)
def test_what_images_are_made_of_counts(engine: Engine, config: Config, known: StageImages, name: str) -> None:
    """A file that has changed makes every image doubtful."""
    (config.root / name).write_text("changed\n")
    assert stage_images.recorded(config, ["base"], environment(engine)) is None


def test_a_new_file_of_a_template_counts(engine: Engine, config: Config, known: StageImages) -> None:
    (config.root / "templates/new.j2").write_text("")
    assert stage_images.recorded(config, ["base"], environment(engine)) is None


def test_another_choice_counts(engine: Engine, config: Config, known: StageImages) -> None:
    """Other models, another registry, an image that few need."""
    assert stage_images.recorded(config, ["base", "small"], environment(engine)) is None
    for other in (replace(config.defaults, registry="elsewhere"), replace(config.defaults, extras=("translate",))):
        assert stage_images.recorded(replace(config, defaults=other), ["base"], environment(engine)) is None


@pytest.mark.parametrize("text", ["", "[]", '{"key": 1}', "{"])
def test_a_damaged_record_is_none(engine: Engine, config: Config, known: StageImages, text: str) -> None:
    config.paths.stage_images.write_text(text)
    assert stage_images.recorded(config, ["base"], environment(engine)) is None
