"""The container engine of this machine, over its socket: what it has, loading, naming, running."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from builder.receiver.inventory import LoaderError
from builder.receiver.missing import DISK_FULL, LACKS_LAYER, meaning, store_of

PATIENCE = 3600.0
"""Seconds that an engine may take over one layer."""


class LacksLayer(Exception):
    """The engine lacks a layer that it was thought to have."""


class EngineSocket:
    """An engine that answers; the constructor asks it what it is."""

    def __init__(self, host: str) -> None:
        """
        Raises:
            LoaderError: no engine answers at ``host``, or something else does.
        """
        self.host = host
        info, version = self.need("GET", "/info"), self.need("GET", "/version")
        try:
            self.version = str(version["Version"])
            self.platform = f"{version['Os']}/{version['Arch']}"
            self.store = store_of(info)
            self.cpus = int(info.get("NCPU") or os.cpu_count() or 1)
            self.memory = int(info.get("MemTotal") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LoaderError(
                3, f"what answers at {host} is not a container engine", "set DOCKER_HOST, then run this again"
            ) from None
        self.root = str(info.get("DockerRootDir", ""))

    def _connect(self, patience: float | None = PATIENCE) -> http.client.HTTPConnection:
        parts = urlsplit(self.host)
        if parts.scheme == "tcp" and parts.hostname:
            return http.client.HTTPConnection(parts.hostname, parts.port or 2375, timeout=patience)
        if parts.scheme != "unix":
            raise LoaderError(
                3, f"{self.host}: load.py speaks unix:// and tcp:// only", "run this on the engine's own machine"
            )
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(patience)
        try:
            link.connect(parts.path)
        except PermissionError:
            raise LoaderError(3, f"no permission on {parts.path}", "use sudo, or join the docker group") from None
        except OSError as error:
            raise LoaderError(
                3, f"no engine answers at {parts.path} ({error.strerror})", "start it, then run this again"
            ) from None
        connection = http.client.HTTPConnection("localhost")
        connection.sock = link
        return connection

    def ask(
        self, method: str, path: str, body: Any = None, patience: float | None = PATIENCE, *, most: int | None = None
    ) -> tuple[int, bytes]:
        """Status and body of an answer.

        Args:
            patience: seconds that the engine may take for it; None: as long as it likes.
            most: bytes of the body that are read; None: all.
        """
        connection = self._connect(patience)
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read(most)
        except (OSError, http.client.HTTPException) as error:
            raise self.gone(error) from None
        finally:
            connection.close()

    def gone(self, error: Exception) -> LoaderError:
        return LoaderError(
            3, f"the engine went away ({type(error).__name__})", "start it, then run this again: it resumes"
        )

    def need(self, method: str, path: str, body: Any = None, patience: float | None = PATIENCE) -> Any:
        """The parsed answer; see :meth:`ask`.

        Raises:
            LoaderError: the engine refuses, or went away.
        """
        status, data = self.ask(method, path, body, patience)
        if status >= 400:
            raise refusal(error_in(data) or f"status {status}")
        try:
            return json.loads(data) if data.strip() else None
        except ValueError as error:  # it died in the middle of its answer
            raise self.gone(error) from None

    def image(self, name: str) -> Any:
        """What the engine says of an image, or None."""
        status, data = self.ask("GET", f"/images/{quote(name, safe='/:@')}/json")
        if status not in (200, 404):
            raise refusal(error_in(data) or f"status {status}")
        try:
            return json.loads(data) if status == 200 else None
        except ValueError as error:
            raise self.gone(error) from None

    def images(self) -> list[Any]:
        """Every image, inspected."""
        images = (self.image(i["Id"]) for i in self.need("GET", "/images/json") or [])
        return [i for i in images if i]

    def tag(self, name: str, new_name: str) -> None:
        repository, _, tag = new_name.rpartition(":")
        self.need("POST", f"/images/{quote(name, safe='/:@')}/tag?repo={quote(repository, safe='')}&tag={quote(tag)}")

    def remove(self, name: str) -> None:
        """Remove a name, and the image when no other name is left; an image in use stays."""
        self.ask("DELETE", f"/images/{quote(name, safe='/:@')}")

    def load(self, size: int, chunks: Iterable[bytes]) -> None:
        """``docker load`` of a tar of ``size`` bytes.

        Raises:
            LacksLayer: the engine doesn't have a layer that was left out.
            LoaderError: the engine refused, died, or its disk is full.
        """
        connection = self._connect()
        try:
            connection.putrequest("POST", "/images/load?quiet=1")
            connection.putheader("Content-Type", "application/x-tar")
            connection.putheader("Content-Length", str(size))
            connection.endheaders()
            try:
                for chunk in chunks:
                    connection.send(chunk)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it answers before it has read all: the answer says why
            answer = connection.getresponse()
            errors = [error_in(line) for line in answer.read().splitlines()]
        except (OSError, http.client.HTTPException) as error:
            raise self.gone(error) from None
        finally:
            connection.close()
        first = next((text for text in errors if text), "" if answer.status < 400 else f"status {answer.status}")
        if first and meaning(first) == LACKS_LAYER:
            raise LacksLayer(first)
        if first:
            raise refusal(first)


def refusal(error: str) -> LoaderError:
    """What an engine's error means for the person who runs the loader."""
    if meaning(error) == DISK_FULL:
        return LoaderError(3, "the engine's disk is full", "free some space, then run this again")
    return LoaderError(5, f"the engine refused: {error[:300]}", "load.py --check reads the whole bundle")


def error_in(data: bytes) -> str:
    """The error in an answer or in one line of it, or an empty text."""
    try:
        event = json.loads(data)
    except ValueError:
        return ""
    if not isinstance(event, dict):
        return ""
    detail = event.get("errorDetail")
    return str(event.get("error") or (detail or {}).get("message") or event.get("message") or "")


def address() -> str:
    """DOCKER_HOST, else the socket of the system, else the user's own."""
    if os.environ.get("DOCKER_HOST"):
        return os.environ["DOCKER_HOST"]
    system, user = Path("/var/run/docker.sock"), Path(os.environ.get("XDG_RUNTIME_DIR") or "/nowhere") / "docker.sock"
    return f"unix://{user if user.exists() and not system.exists() else system}"
