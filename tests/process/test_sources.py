"""What the words of ``run`` mean: folders, patterns, standard input, and addresses of a real server."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from builder.core.progress import silent
from builder.edges.jobs import sources
from builder.edges.jobs.sources import InputOptions, Source
from builder.edges.system import web
from builder.errors import InputError, SourceError, UsageError
from tests.loopback import Handler, answering, server_of

SOUND = b"RIFF" + bytes(range(256)) * 5000


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_a_folder_is_its_recordings(tmp_path: Path) -> None:
    """In the order of their names; what no recording is called, what is hidden, and our own films are left out."""
    top = tmp_path / "top"
    touch(*(top / name for name in ("b.wav", "a.MP4", "odd", "notes.TXT", ".hidden.wav", "a.subtitled.mp4", "a.srt")))
    touch(top / "deep/c.wav", top / ".git/d.wav", top / "job/job.yaml", top / "job/input/01.wav")
    found = sources.read([str(top)], InputOptions())
    assert [s.name for s in found.found] == ["a.MP4", "b.wav", "odd"]
    assert sorted(found.skipped) == ["a.srt", "a.subtitled.mp4", "notes.TXT"]
    assert found.named == ()
    deep = sources.read([str(top)], InputOptions(recursive=True))
    assert [s.name for s in deep.found] == ["a.MP4", "b.wav", "odd", "c.wav"]


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt", tmp_path / "deep/a.wav")
    with pytest.raises(InputError) as caught:
        sources.read([str(tmp_path)], InputOptions())
    assert "--recursive" in str(caught.value.hint)


def test_patterns_and_files(tmp_path: Path) -> None:
    """A file whose name looks like a pattern is a file; a pattern that nothing matches is a mistake."""
    touch(tmp_path / "a.wav", tmp_path / "b.wav", tmp_path / "[x].wav", tmp_path / "deep/c.wav")
    (tmp_path / "d.wav").mkdir()

    def named(pattern: str) -> list[str]:
        return [s.name for s in sources.read([str(tmp_path / pattern)], InputOptions()).named]

    assert named("?.wav") == ["a.wav", "b.wav"]
    assert named("[x].wav") == ["[x].wav"]
    assert named("**/c.*") == ["c.wav"]
    for word, what in (("*.mp3", "no file matches this pattern"), ("gone.wav", "no such file, and no such job")):
        with pytest.raises(InputError) as caught:
            named(word)
        assert caught.value.what == what


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes, *, terminal: bool = False) -> None:
    given = SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: terminal)
    monkeypatch.setattr(sys, "stdin", given)


def test_standard_input_is_a_file_until_a_job_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the name it was given, and gone afterwards."""
    stdin(monkeypatch, SOUND)
    options = InputOptions(stdin_name="../talk.mp4")
    (source,) = sources.read(["-"], options).named
    with sources.brought([source], tmp_path / "jobs", options, on_progress=silent) as paths:
        assert paths[source].name == "talk.mp4"
        assert paths[source].read_bytes() == SOUND
        assert (tmp_path / "jobs") in paths[source].parents
    assert list((tmp_path / "jobs").iterdir()) == []


@pytest.mark.parametrize(("given", "name"), [("..", "recording"), ("a\udcff\0.mp4", "a?.mp4"), ("/", "recording")])
def test_standard_input_has_a_name_that_a_file_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, name: str
) -> None:
    """Bytes of a command line that aren't UTF-8 are surrogates in Python."""
    stdin(monkeypatch, SOUND)
    (source,) = sources.read(["-"], InputOptions(stdin_name=given)).named
    with sources.brought([source], tmp_path / "jobs", InputOptions(), on_progress=silent) as paths:
        assert (source.name, paths[source].name) == (name, name)


def test_standard_input_that_can_t_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in it, a terminal, or twice."""
    stdin(monkeypatch, b"")
    with (
        pytest.raises(InputError, match="nothing came"),
        sources.brought([Source(word="-", name="x")], tmp_path, InputOptions(), on_progress=silent),
    ):
        pass
    with pytest.raises(UsageError, match="one recording"):
        sources.read(["-", "-"], InputOptions())
    stdin(monkeypatch, b"", terminal=True)
    with pytest.raises(UsageError, match="nothing comes"):
        sources.read(["-"], InputOptions())


class Media(Handler):
    """A recording, redirects, and answers that are cut short."""

    def do_GET(self) -> None:
        port = self.server.server_address[1]  # type: ignore[index]
        if self.path == "/talk.mp4":
            self.reply(200, SOUND)
        elif self.path == "/moved":
            self.reply(302, Location="/talk.mp4")
        elif self.path == "/away":
            self.reply(302, Location=f"http://localhost:{port}/talk.mp4")
        elif self.path == "/round":
            self.reply(302, Location="/round")
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", str(len(SOUND)))
            self.end_headers()
            self.wfile.write(SOUND[:1000])
            self.close_connection = True
        elif self.path == "/huge":
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 60))
            self.end_headers()
            self.close_connection = True
        else:
            self.reply(404)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = server_of(Media)
    with answering(server):
        yield f"http://127.0.0.1:{server.server_port}"


def fetched(url: str, target: Path, *, private: bool = True) -> bytes:
    web.download(url, target, private=private, on_bytes=lambda done, total: None)
    return target.read_bytes()


def test_a_recording_from_a_named_host(address: str, tmp_path: Path) -> None:
    """Also after a redirect within it."""
    assert fetched(f"{address}/talk.mp4", tmp_path / "a") == SOUND
    assert fetched(f"{address}/moved", tmp_path / "b") == SOUND
    options = InputOptions(hosts=("127.0.0.1",))
    (source,) = sources.read([f"{address}/talk.mp4?token=s3cret"], options).named
    assert source.name == "talk.mp4"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/away", "it leads to another host: localhost"),
        ("/round", "more than 5 redirects"),
        ("/short", "it could not be read to its end"),
        ("/gone", "the server answered 404"),
    ],
)
def test_answers_that_are_no_recording(address: str, tmp_path: Path, path: str, said: str) -> None:
    """Nothing is left of them."""
    with pytest.raises(SourceError) as caught:
        fetched(f"{address}{path}", tmp_path / "a")
    assert caught.value.what.startswith(said)
    assert not (tmp_path / "a").exists()


def test_more_than_the_disk_has_is_refused_first(address: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="the disk has") as caught:
        fetched(f"{address}/huge", tmp_path / "a")
    assert getattr(caught.value, "exit_code", None) == 3
    assert not (tmp_path / "a").exists()


def test_the_inner_network_is_not_asked_unless_it_is_named(address: str, tmp_path: Path) -> None:
    """Not by number, and not by a name that leads there; no connection is made."""
    port = address.rsplit(":", 1)[1]
    for host in (
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "[64:ff9b::a00:1]",
        "[2002:7f00:1::]",
    ):
        with pytest.raises((UsageError, SourceError)) as caught:
            fetched(f"http://{host}:{port}/talk.mp4", tmp_path / "a", private=False)
        if host != "[::1]" or socket.has_ipv6:
            assert "is not a public address" in caught.value.what or "no such host" in caught.value.what


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://example.com/a.mp4", "not fetched from the network unless you allow it"),
        ("http://user:pass@media.example/a.mp4", "a user or a password is not read"),
        ("http:///a.mp4", "this is not an address"),
        ("http://media.example:99999/a.mp4", "this is not an address"),
    ],
)
def test_addresses_that_are_refused(url: str, said: str) -> None:
    """Without asking anybody; and no password is repeated."""
    with pytest.raises(UsageError) as caught:
        sources.read([url], InputOptions(hosts=("media.example",)))
    assert said in caught.value.what
    assert "pass" not in str(caught.value.where)


def test_every_public_host_may_be_allowed() -> None:
    (source,) = sources.read(["https://example.com/d/%61%20b.mp4"], InputOptions(any_host=True)).named
    assert source.name == "a b.mp4"


def test_a_proxy_is_used_where_there_is_one(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks names up itself: this machine may not know them."""
    asked = []

    class Proxy(Handler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.reply(200, SOUND)

    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    server = server_of(Proxy)
    with answering(server), contextlib.nullcontext():
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
        assert fetched("http://media.invalid/a.mp4", tmp_path / "a", private=False) == SOUND
        with pytest.raises(UsageError, match="not a public address"):
            fetched("http://192.168.0.1/a.mp4", tmp_path / "b", private=False)
    assert asked == ["http://media.invalid/a.mp4"]
