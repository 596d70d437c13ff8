"""Images that jobs name: which jobs they are, and what an engine is told to keep and to let go."""

from __future__ import annotations

import json
import socketserver
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from builder.edges.engine import kept as edge
from builder.errors import MissingError
from builder.receiver.jobs import kept
from tests import loopback

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64


class Engine(socketserver.ThreadingUnixStreamServer):
    """Images by their names, as an engine keeps them: what has no name can't be found by one."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.names = {"x/asr:slim-cpu": OLD}
        super().__init__(str(path), Answer)

    @property
    def host(self) -> str:
        return f"unix://{self.server_address!s}"


class Answer(loopback.Handler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Engine)
        names = self.server.names
        images = [
            {"Id": id_, "RepoTags": [n for n in names if names[n] == id_], "Size": 7}
            for id_ in dict.fromkeys(names.values())
        ]
        answers = {
            "/info": {"Driver": "overlay2", "NCPU": 2, "MemTotal": 1, "DockerRootDir": "/nowhere"},
            "/version": {"Version": "27.0", "Os": "linux", "Arch": "amd64"},
            "/images/json": images,
        }
        self.reply(200, json.dumps(answers[urlsplit(self.path).path]).encode())

    def do_POST(self) -> None:
        assert isinstance(self.server, Engine)
        parts, names = urlsplit(self.path), self.server.names
        image, query = unquote(parts.path).removeprefix("/images/").removesuffix("/tag"), parse_qs(parts.query)
        id_ = names.get(image, image)
        if id_ not in names.values():
            return self.reply(404, json.dumps({"message": f"No such image: {image}"}).encode())
        names[f"{query['repo'][0]}:{query['tag'][0]}"] = id_
        self.reply(201)

    def do_DELETE(self) -> None:
        assert isinstance(self.server, Engine)
        del self.server.names[unquote(self.path).removeprefix("/images/")]
        self.reply(200, b"[]")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    server = Engine(tmp_path / "engine.sock")
    with loopback.answering(server):
        yield server


def job(jobs: Path, name: str, *ids: str) -> Path:
    """A job whose compose file names images."""
    file = jobs / name / "compose.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("".join(f'    image: "{id_}"\n' for id_ in ids))
    return file


def test_the_jobs_that_name_an_image(tmp_path: Path) -> None:
    """By their files; a link, which may lead anywhere, counts as little as a file without an image."""
    job(tmp_path, "2", OLD, NEW)
    file = job(tmp_path, "1", OLD, OLD)
    job(tmp_path, "3")
    (tmp_path / "4").mkdir()
    (tmp_path / "4/compose.yaml").symlink_to(file)
    assert kept.named_images(tmp_path) == {OLD: ("1", "2"), NEW: ("2",)}
    assert kept.named_images(tmp_path / "nowhere") == {}


def test_an_image_stays_until_no_job_names_it(engine: Engine, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    with edge.keeping(engine.host, jobs, {OLD: "x/asr"}):
        file = job(jobs, "1", OLD)
    name = kept.kept_name("x/asr", jobs, OLD)
    assert engine.names == {"x/asr:slim-cpu": OLD, name: OLD}
    assert edge.release(engine.host, jobs) == ([], []), "it has another name too: jobs are not what keeps it"
    engine.names["x/asr:slim-cpu"] = NEW
    held, gone = edge.release(engine.host, jobs)
    assert [(image.tag, image.jobs) for image in held] == [(name, ("1",))]
    assert gone == []
    file.unlink()
    assert edge.release(engine.host, tmp_path / "none") == ([], [])
    assert not (tmp_path / "none").exists(), "a look makes no folder"
    assert [image.tag for image in edge.release(engine.host, jobs, dry_run=True)[1]] == [name]
    assert engine.names[name] == OLD
    assert [image.tag for image in edge.release(engine.host, jobs)[1]] == [name]
    assert engine.names == {"x/asr:slim-cpu": NEW}


def test_another_folder_of_jobs_keeps_its_own(engine: Engine, tmp_path: Path) -> None:
    """One engine, two projects: neither lets go what the other's jobs name."""
    for folder in ("a", "b"):
        with edge.keeping(engine.host, tmp_path / folder, {OLD: "x/asr"}):
            job(tmp_path / folder, "1", OLD)
    (tmp_path / "a/1/compose.yaml").unlink()
    edge.release(engine.host, tmp_path / "a")
    assert set(engine.names) == {"x/asr:slim-cpu", kept.kept_name("x/asr", tmp_path / "b", OLD)}


def test_a_job_of_before_names_were_given_gets_them_when_its_image_is_replaced(engine: Engine, tmp_path: Path) -> None:
    job(tmp_path / "jobs", "1", OLD)
    edge.keep_named(engine.host, tmp_path / "jobs", {OLD: "x/asr", NEW: "x/vad"})
    assert kept.kept_name("x/asr", tmp_path / "jobs", OLD) in engine.names
    assert len(engine.names) == 2, "the other image is nobody's"


def test_a_file_is_not_written_for_an_image_that_is_gone(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="No such image"), edge.keeping(engine.host, tmp_path, {NEW: "x/asr"}):
        pytest.fail("the file would be written here")
