"""Keeps tokens and passwords that this process knows out of messages, logs and reports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL", re.IGNORECASE)
"""Names of environment variables whose values are secrets."""

SHORTEST = 6
"""Characters. A shorter value isn't treated as a secret: it would occur everywhere."""


def secrets_of(env: Mapping[str, str]) -> list[str]:
    """The secret values of an environment, the longest first. A path to a file with a secret isn't one."""
    found = {
        value.strip()
        for name, value in env.items()
        if SECRET.search(name) and not name.endswith(("_PATH", "_FILE", "_DIR", "BAKE_SECRETS"))
    }
    return sorted((value for value in found if len(value) >= SHORTEST), key=len, reverse=True)


def masked(text: str, secrets: Iterable[str]) -> str:
    """The text without those secrets, without tokens of the hub, and without names and passwords in addresses."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = re.sub(r"\bhf_[A-Za-z0-9]{6,}", "***", text)
    return re.sub(r"(?<=://)[^/\s@'\"]+@", "***@", text)
