"""TMDB and MusicBrainz as servers on loopback, which answer, and which misbehave; what is kept of their answers."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from builder.core.metadata.about import Known
from builder.core.metadata.works import Named, Query
from builder.core.progress import Progress
from builder.edges.machine import project
from builder.edges.metadata import informed, services
from builder.edges.metadata.services import Services
from builder.edges.weights.access import Token
from builder.errors import MissingError, SourceError
from builder.ui import Live
from builder.workflows import layout
from builder.workflows.metadata import commands
from builder.workflows.session import Session
from tests import small_project
from tests.loopback import Handler, answering, server_of

FILM = Query(service="tmdb", title="The Third Man", year=1949)
SONG = Query(service="musicbrainz", title="Heroes", artist="David Bowie")
TOKEN = Token(value="tmdb-secret-token", source="test")
Asked = list[tuple[str, dict[str, list[str]], str | None]]


@contextmanager
def service(answer: Callable[[Handler, int], None]) -> Iterator[tuple[dict[str, str], Asked]]:
    """A server that answers by the number of the question; the variables that name it, and what it was asked."""
    asked: Asked = []

    class Service(Handler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked.append((parts.path, parse_qs(parts.query), self.headers.get("Authorization")))
            answer(self, len(asked))

    server = server_of(Service)
    with answering(server):
        address = f"http://127.0.0.1:{server.server_port}"
        yield {"TMDB_ENDPOINT": address, "MUSICBRAINZ_ENDPOINT": address}, asked


def usual(handler: Handler, number: int) -> None:
    path = urlsplit(handler.path).path
    data: object = {"recordings": [{"id": "1", "title": "Heroes", "artist-credit": [{"name": "David Bowie"}]}]}
    if path == "/3/search/movie":
        data = {"results": [{"id": 1092}]}
    elif path == "/3/movie/1092":
        data = {"id": 1092, "title": "The Third Man", "credits": {"cast": [{"name": "O", "character": "Harry Lime"}]}}
    handler.reply(200, json.dumps(data).encode())


def asking(cache: Path, env: dict[str, str], waits: list[float] | None = None, **options: float) -> Services:
    waited = [] if waits is None else waits
    return Services(cache, env=env, token=TOKEN, online=True, wait=waited.append, **options)


def test_what_was_answered_is_kept_and_read_without_a_network(tmp_path: Path) -> None:
    with service(usual) as (env, asked):
        online = asking(tmp_path, env)
        film, song = online.find(FILM), online.find(SONG)
    assert film is not None
    assert film.work is not None
    assert film.work.cast[0].character == "Harry Lime"
    assert song is not None
    assert song.work is not None
    assert song.work.artist == "David Bowie"
    paths = ["/3/search/movie", "/3/movie/1092", "/ws/2/recording"]
    assert [path for path, _, _ in asked] == paths
    assert asked[0][1] == {"query": ["The Third Man"], "year": ["1949"]}
    assert [secret for _, _, secret in asked] == ["Bearer tmdb-secret-token"] * 2 + [None]
    offline = Services(tmp_path, env={})
    assert offline.find(FILM) == film
    assert offline.find(SONG) == song
    assert offline.find(Query(service="tmdb", title="another")) is None
    kept = list(services.kept(tmp_path))
    assert [(one.service, one.said) for one in kept] == [
        ("tmdb", "The Third Man (1949)"),
        ("musicbrainz", "Heroes by David Bowie"),
    ]
    assert all("secret" not in one.path.read_text() for one in kept)
    kept[0].path.write_text('{"work": {"title": 7}}')
    assert offline.find(FILM) is None
    services.forget(tmp_path)
    assert not list(services.kept(tmp_path))


def test_who_knows_nothing_is_not_asked_again(tmp_path: Path) -> None:
    with service(lambda handler, _: handler.reply(200, b'{"results": []}')) as (env, asked):
        online = asking(tmp_path, env)
        first = online.find(FILM)
        assert first is not None
        assert first.work is None
        assert online.find(FILM) == first
    assert len(asked) == 1


def test_a_service_that_wants_patience_gets_it_once(tmp_path: Path) -> None:
    waits: list[float] = []

    def busy(handler: Handler, number: int) -> None:
        if number == 1:
            handler.reply(429, Retry_After="3")
        else:
            usual(handler, number)

    with service(busy) as (env, asked):
        assert asking(tmp_path, env, waits).find(SONG)
    assert (waits, len(asked)) == ([3.0], 2)
    never = service(lambda handler, _: handler.reply(503, Retry_After="86400"))
    with never as (env, asked), pytest.raises(SourceError, match="fewer questions"):
        asking(tmp_path, env, waits).find(FILM)
    assert (waits, len(asked)) == ([3.0], 1)


def test_songs_are_asked_for_one_a_second(tmp_path: Path) -> None:
    waits: list[float] = []
    with service(usual) as (env, _):
        online = asking(tmp_path, env, waits)
        online.find(SONG)
        online.find(Query(service="musicbrainz", title="Low"))
    assert len(waits) == 1
    assert 0 < waits[0] <= services.APART


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, b"<html>", "not JSON"),
        (200, b'{"results": [{"id": NaN}]}', "not JSON"),
        (200, b"[" * 5000, "not JSON"),
        (200, b'{"results": [{"id": "x"}]}', "can't be used"),
        (401, b"{}", "refuses the token"),
        (404, b"{}", "HTTP 404"),
        (500, b"{}", "HTTP 500"),
    ],
)
def test_an_answer_that_can_not_be_used(tmp_path: Path, status: int, body: bytes, why: str) -> None:
    with service(lambda handler, _: handler.reply(status, body)) as (env, _), pytest.raises(SourceError, match=why):
        asking(tmp_path, env).find(FILM)
    assert not list(services.kept(tmp_path))


def test_an_answer_without_an_end_or_that_stands_still(tmp_path: Path) -> None:
    def endless(handler: Handler, _: int) -> None:
        handler.reply(200, b"", Content_Length=str(1 << 40))

    with service(endless) as (env, _), pytest.raises(SourceError, match="longer than"):
        asking(tmp_path, env).find(FILM)
    gone = threading.Event()
    with service(lambda handler, _: gone.wait(30) and None) as (env, _):
        with pytest.raises(SourceError, match="can't be reached"):
            asking(tmp_path, env, patience=0.1).find(FILM)
        gone.set()


def test_the_token_goes_nowhere_else(tmp_path: Path) -> None:
    with service(usual) as (other, elsewhere):

        def away(handler: Handler, _: int) -> None:
            handler.reply(302, Location=f"{other['TMDB_ENDPOINT']}{handler.path}")

        with service(away) as (env, asked):
            assert asking(tmp_path, env).find(FILM)
    assert {secret for _, _, secret in asked} == {"Bearer tmdb-secret-token"}
    assert {secret for _, _, secret in elsewhere} == {None}
    with pytest.raises(SourceError, match="not sent over plain HTTP"):
        asking(tmp_path, {"TMDB_ENDPOINT": "http://tmdb.invalid"}).find(Query(service="tmdb", title="x"))
    with pytest.raises(MissingError, match="wants a token"):
        Services(tmp_path, env={}, online=True).find(Query(service="tmdb", title="x"))


def test_a_job_is_told_what_services_say_and_goes_on_without_one_that_fails(tmp_path: Path) -> None:
    """A film's tags count when its name says nothing; after a failure what is kept still counts, and nobody is asked."""
    root = small_project.make(tmp_path / "p", {}, fill=False)
    config = project.load(root, env={})
    film = tmp_path / "x.mkv"
    told: list[Progress] = []

    def look(path: Path) -> dict[str, object]:
        return {"video": True, "tags": {"title": "The Third Man", "encoder": path.name}}

    def of(env: dict[str, str], name: Named) -> Known:
        env = {"TMDB_TOKEN": TOKEN.value, **env}
        inform = informed.Informed(config, look=look, env=env, on_progress=told.append, online=True)
        first, again = inform.of(film, name), inform.of(film, Named())
        assert first.tags == {"title": "The Third Man"}
        assert again.work is not None
        return first

    with service(usual) as (env, asked):
        assert (known := of(env, Named()).work) is not None
        assert [role.character for role in known.cast] == ["Harry Lime"]
        assert len(asked) == 2  # the second time it is kept
    assert [(entry.what, entry.note) for entry in told] == [("metadata", "x.mkv: tmdb 1092, The Third Man")] * 2
    with service(lambda handler, _: handler.reply(500, b"{}")) as (env, asked):
        assert of(env, Named(title="Another")).work is None
        assert len(asked) == 1
    assert (told[2].what, told[2].note) == ("warning", "tmdb says nothing of Another: it answers HTTP 500")


def test_old_answers_are_pruned_and_those_of_a_language_model_are_one_row(tmp_path: Path) -> None:
    root = small_project.make(tmp_path / "p", {}, fill=False)
    config = project.load(root, env={})
    now, cache, month = time.time(), config.paths.cache, 30 * 86400
    young, old = (cache / "tmdb" / f"{name}.json" for name in ("young", "old"))
    for path, asked in ((young, now - month), (old, now - 7 * month)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"said": path.stem, "asked": asked, "work": None}))
    lines = [cache / "llm" / f"{name}.json" for name in ("a", "b", "c")]
    for age, path in enumerate(lines, 5):
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"text": "Bonjour"}')
        os.utime(path, (now - age * month, now - age * month))
    session = Session(config=config, env={}, on_progress=lambda _: None, live=Live(quiet=True))
    rows = commands.kept(session, forget=False).answers
    assert [(row.service, row.said) for row in rows] == [
        ("tmdb", "old"),
        ("tmdb", "young"),
        ("llm", "lines of films, 3 times"),
    ]
    assert (rows[2].size, round((now - rows[2].asked) / month)) == (3 * 19, 7)
    dry = layout.prune(session, dry_run=True, days=180)
    assert [(file.path, file.what) for file in dry.files] == [
        (old, "answer of tmdb"),
        (lines[2], "answer of llm"),
        (lines[1], "answer of llm"),
    ]
    assert old.exists()
    assert layout.prune(session, dry_run=False, days=180).files == dry.files
    assert [path.exists() for path in (young, old, *lines)] == [True, False, True, False, False]
    assert len(layout.prune(session, dry_run=False, days=0).files) == 2
    lines[0].write_text("{}")
    assert commands.kept(session, forget=True).forgotten
    assert not lines[0].exists()
