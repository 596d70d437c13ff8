"""Access to the hub: its address, the token, and which gated models it would refuse, asked before any download.

The token is read from HF_TOKEN, from a secrets file that only its owner can read, or from the file that `hf auth login`
writes; never from an argument. It stays in memory, and is never shown.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from builder.core import mask
from builder.core.config.paths import Paths
from builder.core.weights.model import Model, Pin, PinnedModel
from builder.edges.system import files, http
from builder.edges.weights.sources import folder
from builder.errors import ConfigError, SourceError
from builder.program import shell_word

ENDPOINT = "https://huggingface.co"
"""The hub, unless HF_ENDPOINT names another."""

PATIENCE = 4.0
"""Seconds that an answer is waited for; without one, the fetch decides, which knows other sources and waits longer."""


class Reason(str, Enum):
    """Why the hub refuses a gated repository; each has another way out."""

    NO_TOKEN = "it wants a token"
    BAD_TOKEN = "the hub refuses the token: mistyped, expired or revoked"
    NOT_ACCEPTED = "its licence is not accepted by the token's account"
    PENDING = "its licence is accepted, and its authors have not let the account in yet"
    REJECTED = "its authors have refused the account"
    SCOPE = "the token is fine-grained, and may not read gated repositories"
    PLAIN_HTTP = "it wants a token, which is not sent over plain HTTP"
    FORBIDDEN = "403, and not for a licence: a rule of the repository or of a proxy"


@dataclass(frozen=True, kw_only=True)
class Token:
    """A hub token. Its value is not in its representation."""

    value: str = field(repr=False)
    source: str
    """The variable or the file that it was found in."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A gated model that the hub refuses now."""

    model: Model
    page: str
    """Address where a person accepts its licence."""
    reason: Reason


def offline(env: Mapping[str, str]) -> bool:
    """True when HF_HUB_OFFLINE says to ask no hub, as the hub client reads it (huggingface_hub/constants.py)."""
    return env.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def endpoint(env: Mapping[str, str]) -> str:
    """The hub's address, without a slash at its end."""
    return (env.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")


def find_token(env: Mapping[str, str], home: Path) -> Token | None:
    """The hub token: HF_TOKEN, the secrets file, then the hub client's own file.

    Args:
        home: the state folder.

    Raises:
        ConfigError: others can read the secrets file, or what was found can't be a token.
    """
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if env.get(name, "").strip():
            return _token(env[name], name)
    secrets = secrets_file(env, home)
    if value := _secret(secrets, "HF_TOKEN", required=bool(env.get("BAKE_SECRETS"))):
        return _token(value, str(secrets))
    client_file = client_token(env)
    try:
        text = client_file.read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return _token(text, str(client_file)) if text.strip() else None


def secret(env: Mapping[str, str], home: Path, name: str) -> str | None:
    """A value of the secrets file; None where there is none.

    Raises:
        ConfigError: it belongs to another user, others can read it, or it can't be read.
    """
    return _secret(secrets_file(env, home), name, required=bool(env.get("BAKE_SECRETS")))


def find_secret(env: Mapping[str, str], home: Path, name: str) -> Token | None:
    """Another service's token: a variable, or a line of the secrets file.

    Raises:
        ConfigError: others can read the secrets file, or what was found can't be a token.
    """
    if env.get(name, "").strip():
        return _token(env[name], name)
    value = secret(env, home, name)
    return _token(value, str(secrets_file(env, home))) if value else None


def secrets_file(env: Mapping[str, str], home: Path) -> Path:
    """This tool's own file of secrets: BAKE_SECRETS, else the one in the state folder."""
    named = env.get("BAKE_SECRETS")
    return files.expanded(named) if named else Paths(home=home).secrets


def client_token(env: Mapping[str, str]) -> Path:
    """The hub client's own file with the token."""
    return files.expanded(env.get("HF_TOKEN_PATH") or client_home(env) / "token")


def client_home(env: Mapping[str, str]) -> Path:
    """Where the hub client keeps its files, by its own rules (huggingface_hub/constants.py)."""
    cache = env.get("XDG_CACHE_HOME") or f"{env.get('HOME') or '~'}/.cache"
    return files.expanded(env.get("HF_HOME") or f"{cache}/huggingface")


def _token(text: str, source: str) -> Token:
    value = text.strip()
    if not re.fullmatch(r"[!-~]+", value):
        raise ConfigError(
            "what is there is not a token: it has blanks, or letters that no token has",
            where=source,
            expected="the token alone, hf_…",
        )
    mask.remember(value)
    return Token(value=value, source=source)


def _secret(path: Path, name: str, *, required: bool) -> str | None:
    """A value of a secrets file.

    Raises:
        ConfigError: it belongs to another user, others can read it, or it can't be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        if required:
            raise ConfigError("BAKE_SECRETS names a file that doesn't exist", where=str(path)) from None
        return None
    except OSError as error:
        raise ConfigError(
            f"the secrets file can't be read ({error.strerror})", where=str(path), expected="a file, not a link"
        ) from error
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise ConfigError("the secrets file is not a regular file", where=str(path))
        if os.name == "posix" and state.st_uid != os.geteuid():
            raise ConfigError(
                "the secrets file belongs to another user", where=str(path), hint=f"chown $USER {shell_word(path)}"
            )
        if os.name == "posix" and state.st_mode & 0o077:
            raise ConfigError(
                f"others can read the secrets file (mode {stat.S_IMODE(state.st_mode):04o})",
                where=str(path),
                expected="mode 0600",
                hint=f"chmod 600 {shell_word(path)}",
            )
        text = os.read(handle, 1 << 16).decode("utf-8", "replace")
    finally:
        os.close(handle)
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip().removeprefix("export ").strip() == name:
            return value.strip().strip("'\"") or None
    return None


def closed_gates(
    models: Sequence[PinnedModel], *, token: Token | None, env: Mapping[str, str], folders: Sequence[Path] = ()
) -> tuple[Gate, ...]:
    """The gated models that the hub would refuse now. All are asked about at once; nothing is downloaded.

    No answer, or an unknown file, doesn't count as a refusal: the fetch explains those better, source by source.

    Args:
        folders: local folders; a model whose files they seem to hold doesn't need the hub.
    """
    gated = [(m, p) for m, p in models if m.gated and m.repo]
    if gated and folders:
        entries = tuple(entry for path in folders for entry in folder.index(path))
        gated = [(m, p) for m, p in gated if not all(any(folder.candidates(f, m, entries)) for f in p.files)]
    if not gated or offline(env):
        return ()
    address = endpoint(env)
    withheld = not may_have_token(address, env) and token is not None  # imports the client, before the clock runs
    reasons: dict[str, Reason] = {}

    def ask(model: Model, pin: Pin) -> None:
        answer = _head(address, model, pin, token, env)
        if answer is not None and answer.status_code in (401, 403):
            headers = answer.headers
            reasons[model.id] = reason(
                answer.status_code,
                headers.get("X-Error-Code", ""),
                headers.get("X-Error-Message", ""),
                with_token=token is not None,
                withheld=withheld,
            )

    threads = [threading.Thread(target=ask, args=pair, daemon=True) for pair in gated]
    for thread in threads:
        thread.start()
    end = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return tuple(
        Gate(model=m, page=m.page or f"{address}/{m.repo}", reason=reasons[m.id]) for m, _ in gated if m.id in reasons
    )


def offers(models: Sequence[PinnedModel], *, token: Token | None, env: Mapping[str, str]) -> bool:
    """Whether the hub answers, and would give out all of these models now. Nothing is downloaded."""
    if offline(env):
        return False
    address = endpoint(env)
    try:
        http.reach(address, set(), patience=PATIENCE, env=env)
    except SourceError:
        return False
    found = [_head(address, model, pin, token, env) for model, pin in models]
    return all(answer is not None and answer.status_code < 400 for answer in found)


def file_url(address: str, repo: str, revision: str, path: str) -> str:
    """Where a hub has a file."""
    return f"{address}/{quote(repo)}/resolve/{quote(revision, safe='')}/{quote(path)}"


def authorization(model: Model, token: str | None) -> dict[str, str]:
    """The header with the token, for a model that wants one: the hub need not know who fetches the others."""
    return {"Authorization": f"Bearer {token}"} if token and model.gated else {}


def may_have_token(address: str, env: Mapping[str, str]) -> bool:
    """Whether the token may go to the hub: over HTTPS, on this machine, or where BAKE_INSECURE_HOSTS allows it."""
    from builder.edges.system import answers

    return answers.shared(address, env).may_hear(address)


def _head(address: str, model: Model, pin: Pin, token: Token | None, env: Mapping[str, str]) -> Any | None:
    """The hub's answer for one of a model's files, redirects not followed; None without an answer."""
    from builder.edges.system import answers

    url = file_url(address, str(model.repo), pin.revision, pin.files[0].path)
    headers = authorization(model, token.value if token else None)
    try:
        return answers.shared(address, env).head(url, headers=headers, timeout=PATIENCE)
    except Exception:  # noqa: BLE001 - whatever keeps the hub from answering, the fetch meets it again and explains it
        return None


def reason(status: int, code: str, message: str, *, with_token: bool, withheld: bool = False) -> Reason:
    """What the hub's 401 or 403 means, by its X-Error-Code and X-Error-Message (their words of 2024 to 2026).

    Args:
        withheld: there is a token, and it wasn't sent.
    """
    if withheld:
        return Reason.PLAIN_HTTP
    text = message.lower()
    if "invalid credentials" in text:
        return Reason.BAD_TOKEN
    if not with_token:
        return Reason.NO_TOKEN
    if status == 401:
        return Reason.BAD_TOKEN
    if "fine-grained" in text:
        return Reason.SCOPE
    if "awaiting a review" in text:
        return Reason.PENDING
    if "rejected" in text:
        return Reason.REJECTED
    return Reason.NOT_ACCEPTED if code == "GatedRepo" else Reason.FORBIDDEN


def refusal(gates: Sequence[Gate], *, token: Token | None, home: Path, way_out: str) -> SourceError:
    """All that the user has to do, in one error: each licence with its page, the token, and how to do without."""
    lines = [f"{gate.model.id} ({gate.model.licence}): {gate.reason.value}: {gate.page}" for gate in gates]
    reasons = {gate.reason for gate in gates}
    steps = []
    if Reason.NOT_ACCEPTED in reasons or Reason.NO_TOKEN in reasons:
        steps.append("accept each licence at its page")
    if Reason.NO_TOKEN in reasons or Reason.BAD_TOKEN in reasons:
        steps.append(
            "make a token (huggingface.co/settings/tokens, Read) and set HF_TOKEN,"
            f" or write HF_TOKEN=… into {Paths(home=home).secrets} (mode 0600)"
        )
    if Reason.PLAIN_HTTP in reasons:
        steps.append("give HF_ENDPOINT an https address, or name the host in BAKE_INSECURE_HOSTS")
    if Reason.SCOPE in reasons:
        steps.append('give the token "Read access to contents of all public gated repos you can access"')
    others = dict.fromkeys(gate.model.alternative for gate in gates if gate.model.alternative)
    instead = f"; ungated, for the same job: {', '.join(o for o in others if o)}" if others else ""
    where = f"token from {token.source}" if token else "no token was found"
    return SourceError(
        f"{len(gates)} gated model{'s' if len(gates) > 1 else ''} can't be fetched now; nothing was downloaded",
        where=where,
        detail=lines,
        hint="; then ".join(steps or ["see the pages above"]) + f"; or {way_out}{instead}",
    )
