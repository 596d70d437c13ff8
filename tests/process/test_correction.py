"""A server that corrects translations, and misbehaves: what doesn't fit leaves the draft, and no secret gets anywhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder.core.progress import Progress, silent
from builder.edges.jobs import correct
from builder.edges.jobs.correct import endpoint
from builder.errors import UsageError
from builder.workflows import run
from builder.workflows.run import RunOptions
from tests import loopback

KEY = "sk-canary-of-a-model"
DRAFTS = [f"The draft number {k}." for k in range(60)]

Behaviour = Callable[["Server", dict[str, Any]], None]


class Server(loopback.Handler):
    """Answers each question by the test's own rule; remembers what it was asked."""

    asked: list[tuple[str, str]]
    behaviour: Behaviour

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = json.loads(body["messages"][1]["content"])
        type(self).asked.append((self.path, self.headers.get("Authorization", "")))
        type(self).behaviour(self, question)

    def do_GET(self) -> None:
        type(self).asked.append((f"GET {self.path}", self.headers.get("Authorization", "")))
        self.reply(200)

    def says(self, content: Any) -> None:
        self.reply(200, json.dumps({"choices": [{"message": {"content": content}}]}).encode())


def better(server: Server, question: dict[str, Any]) -> None:
    lines = [{"id": one["id"], "text": one["draft"].replace("draft", "text")} for one in question["lines"]]
    server.says(json.dumps({"lines": lines}))


@pytest.fixture
def port() -> Iterator[int]:
    Server.asked = []
    server = loopback.server_of(Server)
    with loopback.answering(server):
        yield server.server_port


def corrected(
    tmp_path: Path,
    port: int,
    behaviour: Behaviour,
    *,
    patience: float = 5.0,
    count: int = 60,
    stopped: Callable[[], bool] = lambda: False,
    backend: str = "apertium",
) -> dict[str, Any]:
    """What a job's file says of a translation of 60 lines that a server corrects; the text as it is said is beside it."""
    Server.behaviour = behaviour
    texts = [f"dicho {k}" if backend == "llm" else DRAFTS[k % 60] for k in range(count)]
    drafts = [{"start": k, "end": k + 0.5, "text": text} for k, text in enumerate(texts)]
    folder = tmp_path / "job"
    for stage, result in {
        "asr": {"segments": [{"words": [{"word": f" dicho {k}", "start": k, "end": k + 0.5} for k in range(count)]}]},
        "translate": {
            "language": "es",
            "translations": {
                "en": {"lines": drafts, "backend": backend},
                "es": {"lines": drafts, "backend": "same language"},
            },
        },
    }.items():
        (folder / "work" / stage).mkdir(parents=True, exist_ok=True)
        (folder / "work" / stage / "01.json").write_text(json.dumps(result))
    (folder / "input").mkdir(exist_ok=True)
    found = endpoint.endpoint({"llm": "m", "llm_endpoint": f"http://127.0.0.1:{port}/v1"})
    assert found is not None
    asker = endpoint.Asker(
        endpoint=found,
        key=KEY,
        cache=tmp_path / "cache",
        env={},
        halt=threading.Event(),
        patience=patience,
        wait=0.01,
    )
    job: Any = SimpleNamespace(inputs=[SimpleNamespace(id="01", name="a.mp4")])
    correct.correct(job, folder, asker, on_progress=silent, stopped=stopped)
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and KEY in path.read_text()]
    assert not kept
    made: dict[str, Any] = json.loads((folder / "input/corrected.json").read_text())["01"]["en"]
    return made


def test_lines_are_corrected_and_answers_remembered(tmp_path: Path, port: int) -> None:
    made = corrected(tmp_path, port, better)
    assert [(one["before"], one["after"]) for one in made["lines"]] == [
        (text, text.replace("draft", "text")) for text in DRAFTS
    ]
    assert made["kept"] == {}
    assert Server.asked == [("/v1/chat/completions", f"Bearer {KEY}")] * 3
    assert corrected(tmp_path, port, better) == made
    assert len(Server.asked) == 3
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "cache").iterdir()} == {0o600}
    (tmp_path / "cache" / next((tmp_path / "cache").iterdir()).name).write_text('{"text": "x"}')
    assert corrected(tmp_path, port, better) == made
    endpoint.prune(tmp_path / "cache", most=0)
    assert not list((tmp_path / "cache").iterdir())


def test_lines_without_a_draft_are_translated_and_those_that_come_back_are_not(tmp_path: Path, port: int) -> None:
    """The model gets what was said alone; the first of its lines comes back as it was said."""
    seen: list[dict[str, Any]] = []

    def translates(server: Server, question: dict[str, Any]) -> None:
        seen.extend(question["lines"])
        texts = {one["id"]: one["said"].replace("dicho", "said number") for one in question["lines"]}
        server.says(
            json.dumps({"lines": [{"id": k, "text": "Dicho 0" if k == 1 else text} for k, text in texts.items()]})
        )

    made = corrected(tmp_path, port, translates, count=20, backend="llm")
    assert made["translated"]
    assert "draft" not in seen[0]
    assert (seen[0]["said"], seen[0]["most"]) == ("dicho 0", 68)
    assert made["kept"] == {"the text that was to be translated": 1}
    assert (len(made["lines"]), made["lines"][0]["after"]) == (19, "said number 1")


def test_a_job_that_nobody_else_translates_needs_its_server() -> None:
    def job(backends: str) -> Any:
        settings = {"backends": backends, "llm": "m", "llm_endpoint": "https://llm.example.org/v1"}
        return SimpleNamespace(stages=[SimpleNamespace(name="translate", settings=settings)])

    told: list[Progress] = []
    context: Any = SimpleNamespace(options=RunOptions())
    selection: Any = SimpleNamespace(run=("subtitles",))
    assert run.correction(context, job("en=whisper"), selection, told.append, threading.Event()) == {}
    assert [one.what for one in told] == ["warning"]
    with pytest.raises(UsageError, match="m alone translates this job") as caught:
        run.correction(context, job("en=whisper,hi=llm"), selection, told.append, threading.Event())
    assert caught.value.hint == "--allow-network llm.example.org"


def status(code: int, **headers: str) -> Behaviour:
    return lambda server, question: server.reply(code, f"<b>{KEY}</b>".encode(), **headers)


def says(content: Any) -> Behaviour:
    return lambda server, question: server.says(content)


def stalls(server: Server, question: dict[str, Any]) -> None:
    server.send_response(200)
    server.send_header("Content-Length", "100")
    server.end_headers()
    server.wfile.flush()
    server.rfile.read(1)  # until the client has gone


def hangs_up(server: Server, question: dict[str, Any]) -> None:
    server.close_connection = True


@pytest.mark.parametrize(
    ("behaviour", "why", "requests"),
    [
        (status(429, Retry_After="0"), "the server answered 429", 9),
        (status(503), "the server answered 503", 9),
        (status(418), "the server answered 418", 3),
        (status(401), "the server answered 401: it wants another key (LLM_KEY in the secrets file)", 1),
        (status(404), "the server answered 404: the address, or the model, is not right", 1),
        (status(302, Location="/elsewhere"), "the server answered 302: redirects are not followed", 1),
        (hangs_up, "it could not be reached (RemoteProtocolError)", 9),
        (says("Of course! Here are your lines."), "the answer is not the JSON that was asked for", 3),
        (says(None), "the answer is not a completion", 3),
        (says("x" * (2 << 20)), "the answer can't be read: it is longer than 1 MiB", 3),
        (says("x" * (5 << 20)), "the answer can't be read: its answer is longer than 4 MiB", 3),
        (lambda server, question: server.reply(200, b"<html>"), "the answer is not JSON", 3),
        (
            lambda server, question: server.says(json.dumps(question)),
            "the answer is not the JSON that was asked for",
            3,
        ),
        (
            says(json.dumps({"lines": [{"id": 21, "text": "x"}]})),
            "the answer is about lines that weren't asked about",
            3,
        ),
        (says(json.dumps({"lines": [{"id": 1, "text": KEY}]})), "the answer has the key in it", 3),
        (says('{"lines": []}'), "no answer", 3),
    ],
)
def test_a_server_that_misbehaves_changes_nothing(
    tmp_path: Path, port: int, behaviour: Behaviour, why: str, requests: int
) -> None:
    made = corrected(tmp_path, port, behaviour)
    assert made["lines"] == []
    assert made["kept"] == {why: 60}
    assert len(Server.asked) == requests


def test_a_server_that_stalls_is_given_up(tmp_path: Path, port: int) -> None:
    made = corrected(tmp_path, port, stalls, patience=0.05)
    assert made["kept"] == {"no answer in 0.05 s": 60}


def test_a_server_that_never_answers_is_not_asked_to_the_end(tmp_path: Path, port: int) -> None:
    assert corrected(tmp_path, port, status(418), count=120)["kept"] == {"the server answered 418": 120}
    assert len(Server.asked) == correct.GIVE_UP


def test_a_job_that_is_stopped_keeps_what_was_answered(tmp_path: Path, port: int) -> None:
    made = corrected(tmp_path, port, better, stopped=lambda: bool(Server.asked))
    assert (len(made["lines"]), made["kept"]) == (20, {"the job was stopped": 40})


def test_a_server_that_is_busy_once_is_asked_again(tmp_path: Path, port: int) -> None:
    def busy_once(server: Server, question: dict[str, Any]) -> None:
        if len(Server.asked) == 1:
            server.reply(429, Retry_After="0")
        else:
            better(server, question)

    assert len(corrected(tmp_path, port, busy_once)["lines"]) == 60
    assert len(Server.asked) == 4


def test_lines_that_fit_stay_where_others_of_the_answer_do_not(tmp_path: Path, port: int) -> None:
    def mixed(server: Server, question: dict[str, Any]) -> None:
        texts = {1: "A text.", 2: "<img src=x>", 3: "a\x1b[2J", 4: "x" * 500, 5: question["lines"][4]["said"]}
        server.says(json.dumps({"lines": [{"id": k, "text": text} for k, text in texts.items()]}))

    made = corrected(tmp_path, port, mixed)
    assert len(made["lines"]) == 3
    assert made["kept"] == {
        "control characters": 3,
        "markup": 3,
        "no answer": 45,
        "the text that was to be translated": 3,
        "too long": 3,
    }


def test_a_long_wait_is_bounded_and_ends_with_the_job(tmp_path: Path, port: int) -> None:
    class Halt(threading.Event):
        waited: list[float | None] = []

        def wait(self, timeout: float | None = None) -> bool:
            self.waited.append(timeout)
            return True

    Server.behaviour = status(429, Retry_After="86400")
    found = endpoint.endpoint({"llm": "m", "llm_endpoint": f"http://127.0.0.1:{port}/v1"})
    assert found is not None
    asker = endpoint.Asker(endpoint=found, key=None, cache=tmp_path, env={}, halt=Halt())
    with pytest.raises(ValueError, match="being stopped"):
        asker._reply({"messages": [{}, {"content": "{}"}]})
    assert Halt.waited == [endpoint.MOST_WAIT]
