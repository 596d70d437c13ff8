"""A pip for a Python that has none: the locked wheel, fetched with this machine's own pip settings.

The launcher uses this before there is an environment, so it needs the standard library only. It reads those settings that
fetching one file needs, in pip's order: files of the machine and of the user, PIP_CONFIG_FILE, PIP_* variables.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import hashlib
import html.parser
import netrc
import os
import re
import ssl
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO

NAMES = ("index-url", "extra-index-url", "find-links", "cert", "proxy", "trusted-host", "no-index")
"""The settings that are used here."""


PAGE, WHEEL = 8 << 20, 64 << 20
"""Bytes that are read of an index's page, and of pip's wheel."""

DEADLINE = 120.0
"""Seconds for either."""

PATIENCE = 20.0
"""Seconds without a byte until an index is given up."""


class Unavailable(Exception):
    """No pip is available; the text says why."""


def settings(env: Mapping[str, str]) -> dict[str, str]:
    """pip's settings on this machine; later sources override earlier ones. Keys are as in pip.conf, with dashes."""
    found: dict[str, str] = {}
    for path in _files(env):
        parser = configparser.RawConfigParser()
        with contextlib.suppress(OSError, configparser.Error, UnicodeDecodeError):
            parser.read_string(path.read_text(encoding="utf-8"))
            for section in ("global", "install"):
                if parser.has_section(section):
                    found.update({k.replace("_", "-"): v for k, v in parser.items(section) if v})
    for name in NAMES:
        if value := env.get("PIP_" + name.upper().replace("-", "_")):
            found[name] = value
    return {name: found[name] for name in NAMES if name in found}


def _files(env: Mapping[str, str]) -> list[Path]:
    """The configuration files of pip in its order (``pip config debug`` shows them)."""
    own = env.get("PIP_CONFIG_FILE")
    if own == os.devnull:
        return []
    home = Path(env.get("HOME") or Path.home())
    mac = "Library/Application Support/pip/pip.conf"
    files = [Path(folder) / "pip/pip.conf" for folder in env.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep)]
    files += [Path("/etc/pip.conf"), home / ".pip/pip.conf"]
    files += [Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf"]
    if sys.platform == "darwin":
        files += [Path("/") / mac, home / mac]
    return [*files, Path(own)] if own else files


def certificates(env: Mapping[str, str]) -> str | None:
    """The CA bundle that pip should trust: the configured one, else the system's, else None (pip's own).

    A pip before 24.2 trusts only its own list, which lacks a site's private authority.
    """
    given = settings(env).get("cert") or env.get("REQUESTS_CA_BUNDLE") or env.get("CURL_CA_BUNDLE")
    return given or ssl.get_default_verify_paths().cafile  # the latter honours SSL_CERT_FILE


def locked(requirements: str) -> tuple[str, frozenset[str]]:
    """pip's version and the sha256 sums that a hash-locked requirements file allows for it.

    >>> locked("pip==26.3 \\\\\\n    --hash=sha256:ab \\\\\\n    --hash=sha256:cd\\nnext==1")
    ('26.3', frozenset({'ab', 'cd'}))
    """
    match = re.search(r"^pip==(\S+)((?:[^\n]*\\\n)*[^\n]*)", requirements, re.MULTILINE)
    if match is None:
        raise Unavailable("requirements/builder.txt has no pip in it")
    return match[1], frozenset(re.findall(r"sha256:([0-9a-f]+)", match[2]))


def fetch(requirements: str, folder: Path, env: Mapping[str, str]) -> Path:
    """Put the locked pip wheel into ``folder`` and check it.

    Raises:
        Unavailable: no folder or index of pip's settings has it, or it has other bytes.
    """
    version, digests = locked(requirements)
    name = f"pip-{version}-py3-none-any.whl"
    known = settings(env)
    troubles = []
    for place in _places(known):
        try:
            data = _from(place, name, known, env)
        except (OSError, ValueError, HTTPException) as error:  # URLError is an OSError
            troubles.append(f"{_without_password(place)}: {error}")
            continue
        if hashlib.sha256(data).hexdigest() not in digests:
            raise Unavailable(f"{name} of {_without_password(place)} is not the one that is locked here")
        wheel = folder / name
        wheel.write_bytes(data)
        return wheel
    raise Unavailable("; ".join(troubles) or "pip's settings name no place to fetch from")


def _places(known: Mapping[str, str]) -> list[str]:
    """Folders of wheels, then package indexes."""
    folders = [place for place in known.get("find-links", "").split() if "://" not in place]
    if known.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        return folders
    # pip's own default, put together here because this repository names no host.
    default = "https://" + ".".join(("pypi", "org")) + "/simple"
    return [*folders, known.get("index-url", default), *known.get("extra-index-url", "").split()]


def _from(place: str, name: str, known: Mapping[str, str], env: Mapping[str, str]) -> bytes:
    """The wheel's bytes from a folder, or from an index that speaks PEP 503."""
    if "://" not in place:
        return (Path(place).expanduser() / name).read_bytes()
    page = f"{place.rstrip('/')}/pip/"
    if page.startswith("file:"):
        page += "index.html"
    listing, base = _get(page, place, known, env, limit=PAGE)
    links = _Links()
    links.feed(listing.decode("utf-8", "replace"))
    link = next((a for a in links.found if urllib.parse.urlsplit(a).path.endswith(f"/{name}")), None)
    link = link or next((a for a in links.found if urllib.parse.urlsplit(a).path == name), None)
    if link is None:
        raise ValueError(f"has no {name}")
    return _get(urllib.parse.urljoin(base, link), place, known, env, limit=WHEEL)[0]


def _get(url: str, index: str, known: Mapping[str, str], env: Mapping[str, str], *, limit: int) -> tuple[bytes, str]:
    """The body, and its address after redirects.

    Args:
        index: the address of pip's settings that led here: it alone may have a password.
        limit: bytes; more are not read.

    Raises:
        ValueError: it is longer, takes too long, or the index leads to what is not of its kind.
    """
    parts = urllib.parse.urlsplit(url)
    if not _may_lead(index, url):
        raise ValueError(f"it leads to {parts.scheme}://{parts.hostname or ''}")
    trusted = {parts.hostname, parts.netloc.rpartition("@")[2]} & set(known.get("trusted-host", "").split())
    user, password = _login(url, index, env) if trusted or _unheard(parts) else (None, None)
    clean = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    request = urllib.request.Request(clean, headers={"Accept": "text/html, */*;q=0.1"})
    if user is not None:
        pair = f"{urllib.parse.unquote(user)}:{urllib.parse.unquote(password or '')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    context = ssl.create_default_context(cafile=certificates(env))
    if trusted:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # as pip does; the hash is still checked
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context), _Redirects()]
    if proxy := known.get("proxy"):
        address = proxy if "://" in proxy else f"http://{proxy}"
        handlers.append(urllib.request.ProxyHandler({"http": address, "https": address}))
    opener = urllib.request.build_opener(*handlers)

    def read() -> tuple[bytes, str]:
        with opener.open(request, timeout=PATIENCE) as answer:
            return answer.read(limit + 1), answer.geturl()

    data, address = _in_time(read)
    if len(data) > limit:
        raise ValueError(f"its answer is longer than {limit >> 20} MiB")
    final = urllib.parse.urlsplit(address)
    if final.hostname == parts.hostname:  # addresses relative to this one need the name and password
        final = final._replace(netloc=parts.netloc)
    return data, urllib.parse.urlunsplit(final)


def _in_time(read: Callable[[], tuple[bytes, str]]) -> tuple[bytes, str]:
    """What ``read`` returns or raises, within ``DEADLINE``: a server could send a byte every few seconds for ever."""
    done: list[tuple[bytes, str] | BaseException] = []

    def run() -> None:
        try:
            done.append(read())
        except BaseException as error:  # noqa: BLE001 - raised again below
            done.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    if not done:
        raise ValueError("it sends too slowly")
    if isinstance(done[0], BaseException):
        raise done[0]
    return done[0]


def _may_lead(old: str, new: str) -> bool:
    """Whether an index may lead to an address: to files only from files, and not out of TLS."""
    before, after = urllib.parse.urlsplit(old).scheme, urllib.parse.urlsplit(new).scheme
    return after == before or (before, after) == ("http", "https")


def _unheard(parts: urllib.parse.SplitResult) -> bool:
    """Whether nobody can listen: TLS, or this machine."""
    return parts.scheme != "http" or parts.hostname in ("localhost", "127.0.0.1", "::1")


def _login(url: str, index: str, env: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Name and password for an address of an index: those in it, or netrc's. None for another server."""
    parts, home = urllib.parse.urlsplit(url), urllib.parse.urlsplit(index)
    if (parts.scheme, parts.hostname, parts.port) != (home.scheme, home.hostname, home.port):
        return None, None
    if home.username is not None:
        return home.username, home.password
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        user, _, password = netrc.netrc(env.get("NETRC")).authenticators(home.hostname or "") or (None, None, None)
        return user, password
    return None, None


def _without_password(place: str) -> str:
    return re.sub(r"://[^/@]*@", "://", place)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Sends name and password to other pages of the same host, and to no other host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if not _may_lead(req.full_url, newurl):
            raise ValueError(f"it redirects to {urllib.parse.urlsplit(newurl).scheme}")
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and (following.type, following.host) != (req.type, req.host):
            following.remove_header("Authorization")
        return following


class _Links(html.parser.HTMLParser):
    """The addresses that a page of the simple index links to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for key, value in attrs if tag == "a" and key == "href" and value]
