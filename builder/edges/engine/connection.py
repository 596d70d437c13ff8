"""The container engine: where it listens, what it is, which images it has."""

from __future__ import annotations

import ipaddress
import json
import re
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from builder.core import platforms
from builder.edges.system import files, shell
from builder.edges.system.http import insecure_hosts
from builder.errors import MissingError, SourceError
from builder.receiver.missing import store_of, version_number

OLDEST = (23, 0)
"""The first engine whose own BuildKit frontend knows ``COPY --link`` and needs no frontend from a registry."""

OLDEST_BUILDX = (0, 10)

DEFAULT = "unix:///var/run/docker.sock"

ASK = 10.0
"""Seconds an engine or a registry may take to answer a question."""


ATTEMPTS = 6
"""Times that the engine is asked anew when an image goes between two questions."""

PAUSE = 0.2
"""Seconds before the second time; longer before each later one."""

Looked = TypeVar("Looked")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine that answers."""

    host: str
    version: str
    store: str
    """``containerd`` or the name of the graph driver, such as ``overlay2``."""
    architecture: str
    """As images name it: ``amd64``, ``arm64``."""
    root: str
    """Where it keeps its data, on its own machine."""
    client: Any
    """docker-py's client."""
    cpus: int
    """Logical processors it has for containers."""
    memory: int
    """Bytes of memory it has for containers."""

    @property
    def free(self) -> int | None:
        """Bytes free where it keeps its data; None when that is another machine."""
        if not self.host.startswith("unix:") or not Path(self.root).is_dir():
            return None
        return shutil.disk_usage(self.root).free


def address(env: Mapping[str, str]) -> str:
    """Where the engine listens: DOCKER_HOST, else the client's context, else the default socket.

    Raises:
        MissingError: the client knows no context of the name that the user gave it: another engine is not meant.
    """
    if env.get("DOCKER_HOST"):
        return env["DOCKER_HOST"]
    where, name = _context(env)
    if name and shutil.which("docker"):
        words = ["docker", "context", "inspect", name, "--format", "{{.Endpoints.docker.Host}}"]
        done = shell.run(words, env=env, timeout=ASK)
        if done.code == 0 and done.out.strip():
            return done.out.strip()
        last = (done.err.strip().splitlines() or ["it said nothing"])[-1]
        raise MissingError(
            f'the docker client has no engine by the context "{name}": {last}',
            where=where,
            hint="docker context ls shows the contexts; docker context use NAME, or unset DOCKER_CONTEXT",
        )
    return DEFAULT


def _context(env: Mapping[str, str]) -> tuple[str, str | None]:
    """Where the user names a context of the docker client, and its name; None where the client's own is used."""
    if env.get("DOCKER_CONTEXT"):
        return "DOCKER_CONTEXT", env["DOCKER_CONTEXT"]
    folder = Path(env.get("DOCKER_CONFIG") or Path(env.get("HOME") or "/") / ".docker")
    name = files.read_object(folder / "config.json").get("currentContext")
    return str(folder / "config.json"), name if isinstance(name, str) and name != "default" else None


def why_not(host: str) -> str | None:
    """Why the engine at an address can't be used, in a few words; None when it listens."""
    parts = urlsplit(host)
    if parts.scheme != "unix":
        return None  # a remote engine: found out when it is used
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(parts.path)
        except FileNotFoundError:
            client = "" if shutil.which("docker") else " and no docker client"
            return f"no container engine on this machine{client} (no socket at {parts.path})"
        except PermissionError:
            return f"no permission on {parts.path}"
        except OSError as error:
            return f"nothing answers at {parts.path} ({error.strerror})"
    return None


def connect(env: Mapping[str, str], *, builds: bool = True) -> Engine:
    """The engine, asked what it is.

    Args:
        builds: the client has to have buildx.

    Raises:
        MissingError: nothing listens, this user may not ask, the engine is too old, or the client has no buildx.
    """
    host = address(env)
    if why := why_not(host):
        hint = "add yourself to the docker group, or use sudo" if "permission" in why else "install docker, or start it"
        raise MissingError(why, hint=f"{hint}; --mode native runs without one")
    import docker
    from docker.errors import DockerException

    try:
        client = docker.DockerClient(base_url=host, timeout=int(ASK), use_ssh_client=True)
        info = client.info()
        version = str(client.version()["Version"])
    except (DockerException, OSError, KeyError) as error:
        raise MissingError(f"the engine doesn't answer: {error}", where=host, hint="docker info") from error
    require_version(version, host)
    if builds:
        require_buildx(env)
    client.api.timeout = 600  # loading and removing take their time
    machine = str(info.get("Architecture", ""))
    return Engine(
        host=host,
        version=version,
        store=store_of(info),
        root=str(info.get("DockerRootDir", "")),
        client=client,
        architecture=platforms.architecture(machine),
        cpus=int(info.get("NCPU") or 1),
        memory=int(info.get("MemTotal") or 0),
    )


def client_of(host: str) -> Any:
    """docker-py's client of an engine; the engine is asked nothing before its first use."""
    import docker

    return docker.DockerClient(base_url=host, timeout=600, use_ssh_client=True)


def steady(look: Callable[[], Looked]) -> Looked:
    """What several questions to an engine find together, asked anew when an image goes between two of them.

    Another process that builds or prunes removes images that were listed a moment ago.

    Raises:
        MissingError: it never came to rest.
    """
    import stamina
    import stamina.instrumentation
    from docker.errors import NotFound

    stamina.instrumentation.set_on_retry_hooks(())  # it would log each try to standard error
    try:
        for attempt in stamina.retry_context(on=NotFound, attempts=ATTEMPTS, timeout=None, wait_initial=PAUSE):
            with attempt:
                return look()
    except NotFound as error:
        raise MissingError(
            f"the engine's images change all the time: {error.explanation}",
            hint="another program builds or removes images: wait for it, then run it again",
        ) from error
    raise AssertionError("unreachable")


def image_ids(host: str, tags: Sequence[str]) -> list[str] | None:
    """Ids of images; None when one is missing or the engine doesn't answer."""
    if not host.startswith("unix://"):
        argv = ["docker", "--host", host, "image", "inspect", "--format", "{{.Id}}", *tags]
        done = shell.run(argv, timeout=ASK)
        return done.out.split() if done.code == 0 else None
    # Asked before every job: the client program takes 50 ms to start, docker-py 140 ms to be imported, this 15 ms.
    found = [_get(host, f"/images/{quote(tag)}/json") for tag in tags]
    return [str(image["Id"]) for image in found] if all(isinstance(image, dict) for image in found) else None


def labelled(host: str, *labels: str) -> dict[str, dict[str, str]] | None:
    """The images with all of these labels (``name=value``), the newest first: id -> every label of it.

    Args:
        host: a unix socket.

    Returns:
        None when the engine doesn't answer.
    """
    found = _get(host, f"/images/json?filters={quote(json.dumps({'label': labels}))}")
    if not isinstance(found, list):
        return None
    newest = sorted(found, key=lambda image: -int(image.get("Created") or 0))
    return {str(image["Id"]): dict(image.get("Labels") or {}) for image in newest}


@dataclass(frozen=True, kw_only=True)
class EngineImage:
    """An image as an engine tells of it."""

    id: str
    """``sha256:…`` of its manifest or of its config, as the engine's store has it."""
    labels: Mapping[str, str]
    manifests: tuple[str, ...]
    """``sha256:…`` of the manifests that it was pulled or pushed by."""


def image(host: str, name: str) -> EngineImage | None:
    """An image on an engine at a unix socket; None when it has no such image, or doesn't answer.

    Args:
        name: a tag or an id.
    """
    found = _get(host, f"/images/{quote(name)}/json")
    if not isinstance(found, dict) or not isinstance(found.get("Id"), str):
        return None
    digests = (str(named).partition("@")[2] for named in found.get("RepoDigests") or ())
    labels = dict((found.get("Config") or {}).get("Labels") or {})
    return EngineImage(id=found["Id"], labels=labels, manifests=tuple(filter(None, digests)))


def capacity(host: str) -> tuple[int, int] | None:
    """Logical processors and bytes of memory that an engine at a unix socket has; None when it doesn't answer."""
    found = _get(host, "/info")
    return (int(found.get("NCPU") or 1), int(found.get("MemTotal") or 0)) if isinstance(found, dict) else None


def _get(host: str, path: str) -> Any:
    """What an engine at a unix socket answers, as JSON; None for anything but 200."""
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection("engine", timeout=ASK)
    connection.sock = socket.socket(socket.AF_UNIX)
    with closing(connection), suppress(OSError, HTTPException, ValueError):
        connection.sock.settimeout(ASK)
        connection.sock.connect(host.removeprefix("unix://"))
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        return json.loads(body) if answer.status == 200 else None
    return None


def info(host: str) -> Mapping[str, Any]:
    """What ``docker info`` says of an engine and of the client's plugins.

    Raises:
        MissingError: the engine doesn't answer.
    """
    done = shell.run(["docker", "--host", host, "info", "--format", "{{json .}}"], timeout=ASK)
    with suppress(ValueError):
        answer = json.loads(done.out)
        if isinstance(answer, dict) and answer.get("ServerVersion"):
            return answer
    last = (done.err.strip().splitlines() or ["it said nothing"])[-1]
    raise MissingError(f"the engine doesn't answer: {last}", where=host, hint="docker info")


def require_buildx(env: Mapping[str, str]) -> str:
    """The version of the client's buildx, such as ``0.13``.

    Raises:
        MissingError: there is none, or it is too old.
    """
    done = shell.run(["docker", "buildx", "version"], env=env, timeout=ASK)
    match = re.search(r"\bv?(\d+\.\d+)\.\d+", done.out)
    if done.code != 0 or match is None:
        raise MissingError(
            "the docker client has no buildx", hint="apt-get install docker-buildx (docker-buildx-plugin)"
        )
    if version_number(match[1]) < OLDEST_BUILDX:
        raise MissingError(f"buildx is {match[1]}", expected="0.10 or later", hint="update docker-buildx")
    return match[1]


def require_version(version: str, host: str) -> None:
    """Raises MissingError when an engine is older than what is rendered needs."""
    if version_number(version) < OLDEST:
        raise MissingError(
            f"the engine is {version}",
            where=host,
            expected=f"{OLDEST[0]}.{OLDEST[1]} or later",
            hint="update it; --mode native runs without one",
        )


def pull(engine: Engine, reference: str) -> None:
    """Bring an image of a registry into the engine, unless the engine has it.

    Raises:
        SourceError: the registry doesn't serve it.
    """
    from docker.errors import APIError, ImageNotFound

    try:
        engine.client.images.get(reference)
    except ImageNotFound:
        try:
            engine.client.api.pull(reference)
        except APIError as error:
            raise SourceError(f"no registry gives {reference}: {error.explanation}", hint="docker pull it") from None


def insecure(registry: str, env: Mapping[str, str]) -> bool:
    """Whether a registry may do without TLS: by BAKE_INSECURE_HOSTS, or an engine's ``insecure-registries``."""
    if {registry, registry.rpartition(":")[0] or registry} & insecure_hosts(env):
        return True
    host = address(env)
    if why_not(host):
        return False
    done = shell.run(["docker", "--host", host, "info", "--format", "{{json .RegistryConfig}}"], env=env, timeout=ASK)
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        settings = json.loads(done.out)
        if registry in settings["IndexConfigs"]:
            return not settings["IndexConfigs"][registry]["Secure"]
        ip = ipaddress.ip_address(urlsplit(f"//{registry}").hostname or "")
        return any(ip in ipaddress.ip_network(net) for net in settings["InsecureRegistryCIDRs"])
    return False
