"""Where a bundle comes from: the code's commit, and when it was made."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.core.bundle import contents
from builder.core.config.paths import Paths
from builder.edges.system import files, shell
from builder.receiver.inventory import INVENTORY

KEPT = 100
"""Times of bundles that are remembered."""


def commit(root: Path) -> str | None:
    """The commit of the project's files, with ``-dirty`` when they differ from it; None without git."""
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    done = shell.run(words, timeout=30)
    return done.out.strip() or None if done.code == 0 else None


def created(inventory: Mapping[str, Any], out: Path, paths: Paths, env: Mapping[str, str]) -> str:
    """When a bundle was made, ISO 8601 in UTC: for the same contents the same time, so that they have the same bytes.

    Args:
        inventory: the bundle's, without that time, its manual, and hashes of parts.
        out: the bundle's folder, which may hold it already.
    """
    if env.get("SOURCE_DATE_EPOCH", "").isdigit():
        return _text(int(env["SOURCE_DATE_EPOCH"]))
    key = hashlib.sha256(contents.dump(inventory)).hexdigest()
    times = files.read_object(paths.bundles)
    here = files.read_object(out / INVENTORY)
    if here and hashlib.sha256(contents.dump(_undated(here))).hexdigest() == key:
        return str(here["made"]["created"])
    if key not in times:
        times = {**dict(sorted(times.items(), key=lambda item: str(item[1]))[-KEPT + 1 :]), key: _text(time.time())}
        files.write_json(paths.bundles, times)
    return str(times[key])


def _text(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _undated(inventory: Mapping[str, Any]) -> dict[str, Any]:
    """An inventory without the time, the manual that has it, and the hashes; something else where it is not an inventory."""
    try:
        made = {name: value for name, value in inventory["made"].items() if name != "created"}
        rest = {name: value for name, value in contents.planned(inventory).items() if name != "manual"}
        return {**rest, "made": made}
    except (KeyError, TypeError, AttributeError):
        return {}
