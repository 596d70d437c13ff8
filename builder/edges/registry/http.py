"""Requests to one registry: HTTPS where it has to be, logins and tokens, retries, and refusals as errors.

Distribution's documents on token and OAuth2 authentication, and RFC 9110 for the challenges.
"""

from __future__ import annotations

import base64
import random
import re
import ssl
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from builder.core.images import reference
from builder.core.images.reference import Target
from builder.edges.registry.credentials import Login
from builder.edges.system import http
from builder.errors import SourceError
from builder.program import shell_word

if TYPE_CHECKING:
    import httpx

    from builder.edges.system.answers import NamedClient

PIECE = 128 << 10
"""Bytes handed to the connection at a time."""

ATTEMPTS = 6
"""Tries of one request."""

PAUSE = 0.5
"""Seconds before the second try, doubled with each further one: a registry that restarts has a quarter of a minute."""

PATIENCE = 60.0
"""Seconds without an answer or a byte until a request is given up, and the longest Retry-After that is waited for."""

BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that are worth another try."""

TOKEN_SERVERS = {"registry-1.docker.io": "auth.docker.io", "registry.gitlab.com": "gitlab.com"}
"""Registry -> the host that it takes logins at, where that is another one."""

AGAIN = "the same command again moves only what is missing"

OnBytes = Callable[[int], None]
"""Hears how many bytes are there."""


class Gone(SourceError):
    """No answer from a registry that has answered before."""


class Stopped(Exception):
    """Somebody asked to stop."""


@dataclass(kw_only=True)
class StopSignal:
    """How a push is ended: ``soon`` after the chunk under way, which most registries keep; ``now`` in the middle of it."""

    soon: threading.Event = field(default_factory=threading.Event)
    now: threading.Event = field(default_factory=threading.Event)


class Http:
    """A registry that has answered; see :func:`connect`. Threads may share it."""

    def __init__(
        self,
        where: Target,
        *,
        base: str,
        client: NamedClient,
        login: Login | None,
        stop: StopSignal,
        token_servers: Collection[str] = (),
    ) -> None:
        self.where = where
        self.stop = stop
        self.sent = 0
        """Bytes of bodies given to the connection, those sent twice counted twice."""
        self._base = base
        self._client = client
        self._login = login
        self._token_servers = {*token_servers, TOKEN_SERVERS.get(where.address, "")}
        self._lock = threading.Lock()
        self._tokens: dict[str, str] = {}

    def ask(
        self,
        method: str,
        address: str,
        scope: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | memoryview = b"",
        attempts: int = ATTEMPTS,
        timeout: float = PATIENCE,
        on_bytes: OnBytes | None = None,
    ) -> httpx.Response:
        """One request, tried again while the registry is busy or gone; its last answer, whatever it is.

        Raises:
            Gone: no answer.
            SourceError: an answer that can't be read, or that leads astray.
            Stopped: ``stop`` was set while it waited.
        """
        import httpx

        from builder.edges.system import answers

        url = urljoin(self._base, address)
        for attempt in range(attempts):
            last = attempt == attempts - 1
            try:
                answer = self._authorized(method, url, scope, dict(headers or {}), content, timeout, on_bytes)
            except (answers.Unbounded, answers.Inner, httpx.InvalidURL) as error:
                raise SourceError(
                    f"the registry's answer can't be used ({http.short(error)})", where=self.where.host
                ) from None
            except (httpx.TransportError, httpx.StreamError) as error:
                if last:
                    raise Gone(
                        f"the registry is gone ({http.short(error)})", where=self.where.host, hint=AGAIN
                    ) from None  # the request in the chain would name the upload's address
                self.wait(attempt)
                continue
            if answer.status_code not in BUSY or last:
                return answer
            self.wait(attempt, answer)
        raise AssertionError("unreachable")

    @contextmanager
    def opened(self, address: str, scope: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """A file's answer, whatever it is, with its body unread: the caller reads it in pieces and counts.

        Raises:
            SourceError: the login is refused, or the redirects lead nowhere.
            httpx.TransportError: no answer.
        """
        import httpx

        from builder.edges.system import answers

        url, logged_in = urljoin(self._base, address), False
        for _ in range(http.HOPS + 2):
            token = self._tokens.get(scope, "") if self._ours(url) else ""
            with self._client.stream(
                "GET",
                url,
                headers={**headers, "Authorization": token} if token else dict(headers),
                timeout=httpx.Timeout(PATIENCE, connect=http.PATIENCE),
                follow_redirects=False,
                extensions=answers.FILE,
            ) as answer:
                if answer.status_code == 401 and not logged_in and self._ours(url):
                    logged_in = self._log_in(answer, scope, token)
                    if logged_in:
                        continue
                if not answer.has_redirect_location:
                    yield answer
                    return
                url = http.redirected(url, answer.headers["Location"])
        raise SourceError(f"it redirects more than {http.HOPS} times", where=self.where.host)

    def _ours(self, url: str) -> bool:
        """Whether an address is the registry's own: it alone gets tokens."""
        import httpx

        return httpx.URL(url).copy_with(raw_path=b"/") == httpx.URL(self._base)

    def _authorized(
        self,
        method: str,
        url: str,
        scope: str,
        headers: dict[str, str],
        content: bytes | memoryview,
        timeout: float,
        on_bytes: OnBytes | None,
    ) -> httpx.Response:
        """One request; if it asks for a login, once more with one."""
        import httpx

        from builder.edges.system import answers

        if content:
            headers["Content-Length"] = str(len(content))
        ours = self._ours(url)
        for again in (False, True):
            token = self._tokens.get(scope, "") if ours else ""
            answer = answers.ask(
                self._client,
                method,
                url,
                hops=http.HOPS if method in ("GET", "HEAD") else 0,
                headers={**headers, "Authorization": token} if token else headers,
                content=self._pieces(content, on_bytes) if content else None,
                timeout=httpx.Timeout(timeout, connect=http.PATIENCE),
            )
            if answer.status_code != 401 or again or not ours or not self._log_in(answer, scope, token):
                break
        return answer

    def _pieces(self, content: bytes | memoryview, on_bytes: OnBytes | None) -> Iterator[bytes]:
        view = memoryview(content)
        for at in range(0, len(view), PIECE):
            if self.stop.now.is_set():
                raise Stopped
            piece = bytes(view[at : at + PIECE])
            yield piece
            with self._lock:
                self.sent += len(piece)
            if on_bytes is not None:
                on_bytes(at + len(piece))

    def wait(self, attempt: int, answer: httpx.Response | None = None) -> None:
        """Pause before the next try: ``PAUSE``, doubled with each attempt, times 0.5 to 1.5 by chance; or Retry-After.

        Written by hand because stamina sleeps where nothing can wake it: Ctrl-C would wait for a minute's Retry-After.

        Raises:
            Stopped: ``stop`` was set.
        """
        asked = http.retry_after(answer.headers.get("Retry-After", "")) if answer is not None else 0.0
        pause = min(asked, PATIENCE) if asked else PAUSE * 2**attempt * (0.5 + random.random())
        if self.stop.soon.wait(pause):
            raise Stopped

    def _log_in(self, answer: httpx.Response, scope: str, tried: str) -> bool:
        """Get what a request with this scope needs; False where there is nothing else to try.

        Raises:
            SourceError: the login is refused, or would go over a line that others can read.
        """
        asked = reference.challenges(answer.headers.get("WWW-Authenticate", "")[: http.LONGEST])
        with self._lock:
            if self._tokens.get(scope, "") != tried:
                return True  # another thread did it meanwhile
            if "bearer" in asked:
                self._tokens[scope] = f"Bearer {self._token(asked['bearer'], scope)}"
                return True
            if "basic" in asked and self._login is not None and not tried:
                pair = f"{self._login.user}:{self._login.secret}".encode()
                self._tokens[scope] = f"Basic {base64.b64encode(pair).decode()}"
                return True
        return False

    def _token(self, asked: Mapping[str, str], scope: str) -> str:
        """A token of the server that a registry names (distribution: token authentication, OAuth2 with an identity)."""
        import httpx

        login, service = self._login, {"service": asked["service"]} if "service" in asked else {}
        realm = self._realm(asked.get("realm", ""))
        try:
            if login is not None and login.identity:
                form = {"grant_type": "refresh_token", "client_id": "whisperbake", "refresh_token": login.secret}
                answer = self._client.post(realm, data={**form, **service, "scope": scope})
            else:
                pair = None if login is None else (login.user, login.secret)
                answer = self._client.get(realm, params={**service, "scope": scope.split()}, auth=pair)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceError(
                f"no token from {urlsplit(realm).hostname}: {http.short(error)}", where=self.where.host
            ) from None
        found = _object(answer) if answer.status_code == 200 else {}
        token = found.get("token") or found.get("access_token")
        if answer.status_code != 200:
            raise self.refused(answer, "")
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]{1,16000}", token):
            raise SourceError(f"no token from {urlsplit(realm).hostname}: its answer has none", where=self.where.host)
        return token

    def _realm(self, realm: str) -> str:
        """The address of the token server, which may have the login.

        Raises:
            SourceError: it isn't an address, or a login would go where nobody but the registry's server sent it.
        """
        base = urlsplit(self._base)
        try:
            parts, origin = urlsplit(realm), http.origin(realm)
        except ValueError:
            parts, origin = urlsplit(""), ""
        if parts.scheme not in ("https", base.scheme):
            raise SourceError("the registry asks for a login over plain HTTP", where=self.where.host)
        if not parts.hostname or parts.username is not None or not realm.isascii():
            raise SourceError("the registry names a token server without an address", where=self.where.host)
        if self._login is None or origin == http.origin(self._base):
            return realm
        server = parts.netloc.lower()
        if server not in self._token_servers:
            raise SourceError(
                f"the registry wants the login to be sent to {server}",
                where=self.where.host,
                hint=f"--token-server {server}, if that is where it takes logins",
            )
        self._client.entrust(realm)
        if not self._client.may_hear(realm):
            raise SourceError("the registry asks for a login over plain HTTP", where=self.where.host)
        return realm

    def place(self, answer: httpx.Response) -> str:
        """The address in a Location header: absolute, and never plainer than the registry's own.

        Raises:
            SourceError: it isn't an address.
        """
        import httpx

        base = httpx.URL(self._base)
        try:
            named = urljoin(str(answer.request.url), answer.headers.get("Location", ""))
            url = httpx.URL(named).copy_with(fragment=None)
            usable = url.scheme in ("http", "https") and url.host and not url.userinfo and len(named) <= http.LONGEST
        except (ValueError, httpx.InvalidURL):
            usable = False
        if not usable:
            raise SourceError("the registry names no address for an upload", where=self.where.host)
        if base.scheme == "https" and url.scheme != "https":
            if url.host != base.host:
                raise SourceError(
                    "the registry sends uploads over plain HTTP", where=f"{url.host}, for {self.where.host}"
                )
            url = url.copy_with(scheme="https", port=base.port)  # a proxy that ends TLS didn't say so to the registry
        return str(url)

    def refused(self, answer: httpx.Response, repository: str, verb: str = "push") -> SourceError:
        """An answer as an error: what the registry said, and what to do.

        Args:
            verb: what was tried.
        """
        said, status = "", answer.status_code
        with suppress(KeyError, TypeError, IndexError, AttributeError):
            first = _object(answer)["errors"][0]
            said = f": {first.get('code', '')} {first.get('message') or ''}".rstrip()[:200]
        where = f"{self.where.host}/{repository}" if repository else self.where.host
        if status in (401, 403):
            have = "the login is refused" if self._login else "it wants a login, and config.json has none"
            why = f"no right to {verb} ({have})" if status == 401 else f"no right to {verb} there"
            return SourceError(f"{why}{said}", where=where, hint=f"docker login {shell_word(self.where.host)}")
        if status == 404:
            return SourceError(
                f"no such repository{said}", where=where, hint="create it first: some registries want that"
            )
        if status == 413:
            return SourceError(
                "a proxy before the registry refuses requests of 4 MiB",
                where=where,
                hint="raise its limit (nginx: client_max_body_size)",
            )
        what = "the registry is busy" if status in BUSY else "the registry refuses"
        return SourceError(f"{what} ({status}{said})", where=where, hint=AGAIN)


def _object(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer; empty for anything else."""
    with suppress(ValueError, RecursionError):
        found = answer.json()
        return found if isinstance(found, dict) else {}
    return {}


def connect(
    where: Target,
    *,
    login: Login | None,
    authorities: str,
    insecure: Callable[[], bool],
    stop: StopSignal,
    token_servers: Collection[str] = (),
) -> Http:
    """Find a registry: HTTPS, or plain HTTP where nobody is between or the engine was told that it may be plain.

    Args:
        authorities: certificates (PEM) that are trusted beside the system's.
        insecure: asked only when HTTPS fails.
        token_servers: ``host`` or ``host:port`` of other servers that may have the login.

    Raises:
        SourceError: it can't be reached, or is not a registry.
    """
    import httpx

    from builder.edges.system import answers

    trust = ssl.create_default_context()
    own = Path("/etc/docker/certs.d") / where.host
    for text in (authorities, *(p.read_text(errors="replace") for p in sorted(own.glob("*.crt")))):
        if text:
            with suppress(ssl.SSLError):
                trust.load_verify_locations(cadata=text)

    def tried(scheme: str) -> tuple[Http, httpx.Response]:
        base = f"{scheme}://{where.address}/"
        plain = (where.address,) if scheme == "http" else ()  # asked only where the user, or the engine, named it
        client = answers.client(base, verify=trust, trust_env=not where.loopback, insecure=plain)
        answer = answers.ask(client, "GET", f"{base}v2/")
        return Http(where, base=base, client=client, login=login, stop=stop, token_servers=token_servers), answer

    try:
        try:
            registry, answer = tried("https")
        except (answers.Unbounded, answers.Inner):
            raise
        except httpx.TransportError as error:
            # A certificate that nobody vouches for must not lead to plain HTTP.
            if "CERTIFICATE_VERIFY" in str(error) or not (where.loopback or insecure()):
                raise
            registry, answer = tried("http")
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise SourceError(
            f"no registry answers ({http.short(error)})",
            where=where.host,
            hint="look at the name; a CA of your own: bake.yaml, network.ca_bundle; plain HTTP only where the engine has "
            "it among its insecure-registries",
        ) from None
    if answer.status_code not in (200, 401, 403) and answer.status_code not in BUSY:
        raise SourceError(f"not a registry: it answered {answer.status_code} at /v2/", where=where.host)
    return registry
