"""The login that Docker's client has for a registry: config.json, read by docker-py, and the helpers it names.

Helpers are run here: docker-py's call has no time limit, and one that waits for a person would hold up a push for ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from builder.core import mask
from builder.edges.system import files, shell
from builder.errors import ConfigError, MissingError
from builder.program import shell_word

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
    """The login for a server, or None when Docker has none.

    Args:
        keys: the names it may be kept under.

    Raises:
        ConfigError: config.json can't be read.
        MissingError: its helper isn't on this machine, or failed.
    """
    from docker import auth
    from docker.errors import InvalidConfigFile

    home = files.expanded(env.get("HOME", "~")) / ".docker"
    path = Path(env.get("DOCKER_CONFIG") or home) / "config.json"
    try:
        settings = json.loads(path.read_bytes())
        hosts = {auth.resolve_index_name(key) for key in keys}
        entries = {
            name: e for name, e in (settings.get("auths") or {}).items() if auth.resolve_index_name(name) in hosts
        }
        logins = auth.AuthConfig({"auths": auth.parse_auth(entries, raise_on_error=True)})
        helpers = auth.AuthConfig({name: settings.get(name) or {} for name in ("credHelpers", "credsStore")})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, TypeError, InvalidConfigFile) as error:
        raise ConfigError(
            "it can't be read as Docker's settings", where=str(path), hint="docker login writes it"
        ) from error
    for key in keys:
        if (helper := helpers.get_credential_store(key)) and (login := _ask(str(helper), key, env, path)):
            return login
        if (entry := logins.resolve_authconfig(key)) and (login := _login(entry)):
            return login
    return None


def _known(login: Login) -> Login:
    """A login whose secret no message shows from now on."""
    mask.remember(login.secret)
    return login


def _login(entry: Mapping[str, str]) -> Login | None:
    """An entry as docker-py gives it."""
    if token := entry.get("IdentityToken"):
        return _known(Login(user="<token>", secret=token, identity=True))
    user, password = entry.get("username"), entry.get("password") or ""
    return _known(Login(user=user, secret=password.strip("\0"))) if user else None


def _ask(helper: str, key: str, env: Mapping[str, str], path: Path) -> Login | None:
    """The protocol of docker-credential-helpers: the server on standard input, JSON on standard output."""
    name = f"docker-credential-{helper}"
    if "/" in helper:
        raise ConfigError(
            f"{helper!r} is not a credential helper", where=str(path), expected="the end of a program's name"
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
        raise MissingError(f"{name} gave no login", where=str(path), hint=f"docker login {shell_word(key)}") from error
    return _known(Login(user=user, secret=secret, identity=user == "<token>")) if secret else None
