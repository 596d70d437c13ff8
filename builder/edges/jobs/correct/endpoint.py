"""A language model behind an OpenAI-compatible interface: who it is, whether it may be asked, and its answers.

It is asked by this process and by no stage: stages have no network, and the key is in no container, argument, log or job.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import threading
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.core import correction, mask
from builder.core.correction import Answer, Question
from builder.edges.system import files, http
from builder.errors import ConfigError, SourceError, UsageError
from builder.receiver.jobs.untrusted import parse_json

PATIENCE = 120.0
"""Seconds until the first byte of an answer: a model writes the whole of it before."""

TRIES = 3
"""Requests for one question, where the server is busy or can't be reached."""

WAIT, MOST_WAIT = 2.0, 60.0
"""Seconds before another try, doubled each time; and the most, whatever the server asks for."""

KEY = "LLM_KEY"
"""Its name in the secrets file."""

BUSY = (408, 425, 429, 500, 502, 503, 504, 529)
"""Statuses after which another try may help."""

CACHED = 64 << 20
"""Bytes of answers that are kept."""

LONGEST_REPLY = 1 << 20
"""Bytes of a reply that is read as JSON."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Who is asked."""

    url: str
    """Of the interface, such as https://host/v1."""
    model: str
    host: str
    port: int

    @property
    def completions(self) -> str:
        """The address that questions go to."""
        return f"{self.url.rstrip('/')}/chat/completions"

    def allowed(self, hosts: Sequence[str]) -> bool:
        """Whether one of ``HOST`` or ``HOST:PORT`` is it."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return bool({self.host, name, f"{name}:{self.port}"} & {host.lower() for host in hosts})


def endpoint(settings: Mapping[str, Any]) -> Endpoint | None:
    """Who corrects a job's translation, by the settings of the stage translate; None: nobody.

    Raises:
        UsageError: the settings name no server that may be asked.
    """
    url, model = settings.get("llm_endpoint"), settings.get("llm")
    if not url and not model:
        return None
    if not url or not model:
        raise UsageError(
            "who corrects the translation?",
            where=f"translate.{'llm_endpoint' if model else 'llm'}",
            hint="--set translate.llm_endpoint=https://HOST/v1 --set translate.llm=MODEL",
        )
    try:
        parts = urllib.parse.urlsplit(str(url))
        host, port = (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        host, port, parts = "", 0, urllib.parse.urlsplit("")
    where = "translate.llm_endpoint"
    if parts.username is not None or parts.password is not None:
        raise UsageError("an address with a name or a password is not read", where=where, hint="LLM_KEY in the secrets")
    if not host or not port or parts.query or parts.fragment or re.search(r"[^!-~]", str(url)):
        raise UsageError("this is not an address of an interface", where=where, expected="https://HOST[:PORT]/v1")
    if parts.scheme != "https" and not _loopback(host):
        raise UsageError("over plain HTTP anybody could listen", where=where, expected="https://…, or this machine")
    return Endpoint(url=str(url), model=str(model), host=host, port=port)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class NoMore(Exception):
    """The server answers none of our questions: asking on is of no use. The text says why."""


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Asks questions, and remembers answers."""

    endpoint: Endpoint
    key: str | None = field(repr=False)
    cache: Path
    """A folder; its files are named by the sha256 of the endpoint and the question."""
    env: Mapping[str, str]
    halt: threading.Event
    """Set: no more waiting."""
    patience: float = PATIENCE
    wait: float = WAIT

    def ask(self, question: Question, source: str, target: str) -> Answer:
        """The answer to a question, which is remembered.

        Raises:
            ValueError: none came that can be used; the text says why, and has nothing of the server's.
            NoMore: nor will any come for other questions.
        """
        body = question.body(self.endpoint.model, source, target)
        name = hashlib.sha256(json.dumps([self.endpoint.completions, body], sort_keys=True).encode()).hexdigest()
        path = self.cache / f"{name}.json"
        kept = files.read_object(path).get("text")
        if isinstance(kept, str):
            try:
                return correction.answer(kept, question)
            except ValueError:
                path.unlink(missing_ok=True)
        text = correction.content(self._reply(body))
        if self.key and self.key in text:
            raise ValueError("the answer has the key in it")
        found = correction.answer(text, question)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path, json.dumps({"text": text}), mode=0o600)
        return found

    def _reply(self, body: Mapping[str, Any]) -> Any:
        """A reply's JSON, after some tries."""
        why, wait = "", self.wait
        for attempt in range(TRIES):
            if attempt and self.halt.wait(min(wait, MOST_WAIT)):
                raise ValueError("the job is being stopped")
            wait = self.wait * 2 ** (attempt + 1)
            status, headers, data = self._post(body)
            if status == 200:
                try:
                    return parse_json(data)
                except ValueError:
                    raise ValueError("the answer is not JSON") from None
            why = f"the server answered {status}" if status else data.decode()
            if status in (401, 403):
                raise NoMore(f"{why}: it wants another key (LLM_KEY in the secrets file)")
            if status in (400, 404, 405, 422):
                raise NoMore(f"{why}: the address, or the model, is not right")
            if 300 <= status < 400:
                raise NoMore(f"{why}: redirects are not followed")
            if status and status not in BUSY:
                raise ValueError(why)
            wait = max(wait, http.retry_after(headers.get("retry-after", "")))
        raise ValueError(why)

    def _post(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of one answer; 0, and why none came."""
        import httpx

        from builder.edges.system import answers

        named = self.endpoint.completions
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            answer = answers.ask(
                answers.shared(named, self.env),
                "POST",
                named,
                hops=0,
                json=body,
                headers=headers,
                timeout=self.patience,
            )
        except answers.Unbounded as error:
            raise ValueError(f"the answer can't be read: {http.short(error)}") from None
        except httpx.TimeoutException:
            return 0, {}, f"no answer in {self.patience:g} s".encode()
        except (httpx.HTTPError, httpx.InvalidURL, SourceError) as error:
            return 0, {}, f"it could not be reached ({type(error).__name__})".encode()
        if len(answer.content) > LONGEST_REPLY:
            raise ValueError("the answer can't be read: it is longer than 1 MiB")
        return answer.status_code, answer.headers, answer.content


def prune(cache: Path, most: int = CACHED) -> None:
    """Remove the oldest answers, so that ``most`` bytes stay."""
    try:
        found = sorted(((path.stat().st_mtime, path) for path in cache.glob("*.json")), reverse=True)
        for _, path in found:
            most -= path.stat().st_size
            if most < 0:
                path.unlink()
    except OSError:  # another job prunes, too; what can't be removed now is removed by the next
        return


def key(value: str | None, where: str) -> str | None:
    """A key that was found in the secrets file, which no message shows from now on; None: the server wants none.

    Raises:
        ConfigError: it can't be a key.
    """
    if value is None:
        return None
    if not re.fullmatch(r"[!-~]{1,4096}", value):
        raise ConfigError(f"{KEY} is not a key: it has blanks, or letters that no key has", where=where)
    mask.remember(value)
    return value
