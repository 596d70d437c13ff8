"""The container engine of this machine, over its socket: what it has, loading, naming, running."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from builder.receiver.inventory import Stop

PATIENCE = 3600.0
"""Seconds that an engine may take over one layer."""


class Lacking(Exception):
    """The engine lacks a layer that it was thought to have."""


class Engine:
    """An engine that answers; made by asking it what it is."""

    def __init__(self, host: str) -> None:
        self.host = host
        info, version = self.need("GET", "/info"), self.need("GET", "/version")
        try:
            self.version = str(version["Version"])
            self.platform = f"{version['Os']}/{version['Arch']}"
            drivers = dict(info.get("DriverStatus") or ())
        except (KeyError, TypeError, AttributeError):
            raise Stop(
                3, f"what answers at {host} is no container engine", "DOCKER_HOST, then run this again"
            ) from None
        contained = "containerd" in str(drivers.get("driver-type", ""))
        self.store = "containerd" if contained else str(info.get("Driver", ""))
        self.root = str(info.get("DockerRootDir", ""))

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.host)
        if parts.scheme == "tcp" and parts.hostname:
            return http.client.HTTPConnection(parts.hostname, parts.port or 2375, timeout=PATIENCE)
        if parts.scheme != "unix":
            raise Stop(
                3, f"{self.host}: only unix:// and tcp:// are spoken here", "run this on the engine's own machine"
            )
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(PATIENCE)
        try:
            link.connect(parts.path)
        except PermissionError:
            raise Stop(3, f"no permission on {parts.path}", "use sudo, or join the docker group") from None
        except OSError as error:
            raise Stop(
                3, f"no engine answers at {parts.path} ({error.strerror})", "start it, then run this again"
            ) from None
        connection = http.client.HTTPConnection("localhost")
        connection.sock = link
        return connection

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body of an answer."""
        connection = self._connect()
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self.gone(error) from None
        finally:
            connection.close()

    def gone(self, error: Exception) -> Stop:
        return Stop(3, f"the engine went away ({type(error).__name__})", "start it, then run this again: it goes on")

    def need(self, method: str, path: str, body: Any = None) -> Any:
        """The parsed answer; anything but success is an error."""
        status, data = self.ask(method, path, body)
        if status >= 400:
            raise refused(message(data) or f"status {status}")
        try:
            return json.loads(data) if data.strip() else None
        except ValueError as error:  # it died in the middle of its answer
            raise self.gone(error) from None

    def image(self, name: str) -> Any:
        """What the engine says of an image, or None."""
        status, data = self.ask("GET", f"/images/{quote(name, safe='/:@')}/json")
        try:
            return json.loads(data) if status == 200 else None
        except ValueError as error:
            raise self.gone(error) from None

    def images(self) -> list[Any]:
        """Every image, inspected."""
        found = (self.image(i["Id"]) for i in self.need("GET", "/images/json") or [])
        return [i for i in found if i]

    def tag(self, name: str, wanted: str) -> None:
        repository, _, tag = wanted.rpartition(":")
        self.need("POST", f"/images/{quote(name, safe='/:@')}/tag?repo={quote(repository, safe='')}&tag={quote(tag)}")

    def remove(self, name: str) -> None:
        """Remove a name, and what nothing else names; one in use stays."""
        self.ask("DELETE", f"/images/{quote(name, safe='/:@')}")

    def load(self, size: int, chunks: Iterable[bytes]) -> None:
        """``docker load`` of a tar of ``size`` bytes.

        Raises:
            Lacking: a layer that was left out is not there after all.
            Stop: the engine refused, died, or has no room.
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
            said = [message(line) for line in answer.read().splitlines()]
        except (OSError, http.client.HTTPException) as error:
            raise self.gone(error) from None
        finally:
            connection.close()
        if trouble := next((text for text in said if text), "" if answer.status < 400 else f"status {answer.status}"):
            if re.search(r"not found|no such file|does not exist", trouble):
                raise Lacking(trouble)
            raise refused(trouble)


def refused(trouble: str) -> Stop:
    if "no space left" in trouble or "quota" in trouble:
        return Stop(3, "the engine's disk is full", "free some space, then run this again")
    return Stop(5, f"the engine refused: {trouble[:300]}", "load.py --check reads the whole bundle")


def message(data: bytes) -> str:
    """The error in an answer or in one line of it, or nothing."""
    try:
        found = json.loads(data)
    except ValueError:
        return ""
    if not isinstance(found, dict):
        return ""
    detail = found.get("errorDetail")
    return str(found.get("error") or (detail or {}).get("message") or found.get("message") or "")


def address() -> str:
    """DOCKER_HOST, else the usual sockets: the system's, the user's own."""
    if os.environ.get("DOCKER_HOST"):
        return os.environ["DOCKER_HOST"]
    usual, own = Path("/var/run/docker.sock"), Path(os.environ.get("XDG_RUNTIME_DIR") or "/nowhere") / "docker.sock"
    return f"unix://{own if own.exists() and not usual.exists() else usual}"
