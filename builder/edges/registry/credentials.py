"""The login that Docker's client has for a registry: config.json, and the helpers it names."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from builder.edges.system import shell
from builder.errors import ConfigError, MissingError

PATIENCE = 30.0
"""Seconds a credential helper may take: it may have to ask a person to unlock a keyring."""

ABSENT = ("credentials not found", "no credentials", "not found in native keychain")
"""What helpers print when they have none for a server."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """A name with its password, or an identity token in the password's place. Neither is ever shown."""

    user: str = field(repr=False)
    secret: str = field(repr=False)
    identity: bool = False
    """The secret is an OAuth2 refresh token."""


def find(keys: Sequence[str], env: Mapping[str, str]) -> Login | None:
    """The login for a server, or None when there is none.

    Args:
        keys: the names it may be kept under.

    Raises:
        ConfigError: config.json is no such file.
        MissingError: its helper isn't on this machine, or failed.
    """
    folder = (
        Path(env["DOCKER_CONFIG"]) if env.get("DOCKER_CONFIG") else Path(env.get("HOME", "~")).expanduser() / ".docker"
    )
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
        logins, helpers, store = config.get("auths") or {}, config.get("credHelpers") or {}, config.get("credsStore")
        by_host = {_host(name): entry for name, entry in logins.items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(
            "it can't be read as Docker's settings", where=str(path), hint="docker login writes it"
        ) from error
    for key in keys:
        if (helper := helpers.get(key) or store) and (found := _ask(str(helper), key, env, path)):
            return found
        entry = logins.get(key) or by_host.get(_host(key))
        if entry and (found := _entry(entry, path)):
            return found
    return None


def _host(name: str) -> str:
    """Docker keeps logins under ``host`` or, long ago, ``https://host/v1/``."""
    return urlsplit(name if "://" in name else f"//{name}").netloc


def _entry(entry: Any, path: Path) -> Login | None:
    try:
        user, _, password = base64.b64decode(entry.get("auth") or "", validate=True).decode().partition(":")
        user, password = entry.get("username") or user, entry.get("password") or password.strip("\0")
        token = entry.get("identitytoken")
    except (ValueError, AttributeError) as error:
        raise ConfigError("a login in it can't be read", where=str(path), hint="docker login writes it anew") from error
    if token:
        return Login(user=user, secret=token, identity=True)
    return Login(user=user, secret=password) if user else None


def _ask(helper: str, key: str, env: Mapping[str, str], path: Path) -> Login | None:
    """The protocol of docker-credential-helpers: the server on standard input, JSON on standard output."""
    name = f"docker-credential-{helper}"
    if "/" in helper:
        raise ConfigError(
            f"{helper!r} is no credential helper", where=str(path), expected="the end of a program's name"
        )
    done = shell.run([name, "get"], env=env, timeout=PATIENCE, stdin=key.encode())
    if done.code != 0:
        said = f"{done.out} {done.err}".strip()
        if any(words in said.lower() for words in ABSENT):
            return None
        raise MissingError(f"{name} failed: {said.splitlines()[0][:200] if said else done.code}", where=str(path))
    try:
        answer = json.loads(done.out)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise MissingError(f"{name} gave no login", where=str(path), hint=f"docker login {key}") from error
    return Login(user=user, secret=secret, identity=user == "<token>") if secret else None
