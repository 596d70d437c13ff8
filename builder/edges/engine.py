"""The container engine, as far as it is there."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit


def why_not(env: Mapping[str, str]) -> str | None:
    """Why no engine can be used, in a few words; None when one listens."""
    address = env.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    parts = urlsplit(address)
    if parts.scheme != "unix":
        return None  # a remote engine: found out when it is used
    if not Path(parts.path).exists():
        client = "" if shutil.which("docker") else " and no docker client"
        return f"no container engine on this machine{client} (no socket at {parts.path})"
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(parts.path)
        except PermissionError:
            return f"no permission on {parts.path}"
        except OSError as error:
            return f"nothing answers at {parts.path} ({error.strerror})"
    return None
