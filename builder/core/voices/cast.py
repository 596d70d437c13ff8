"""Names that a job's text is spelt by: of a cast list that somebody gives. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from builder.core.jobs.request import Request

FILE = "input/cast.json"
"""In a job's folder: the names."""

STAGE, SETTING = "names", "cast"
"""The stage that finds names, and its setting with the digest of :data:`FILE`."""


def for_job(names: Sequence[str]) -> bytes:
    """:data:`FILE`: the names as they are to be written. The same names make the same bytes."""
    return json.dumps({"schema": 1, "names": list(names)}, ensure_ascii=False).encode() + b"\n"


def with_cast(request: Request, names: Sequence[str]) -> Request:
    """A request whose text is spelt by these names."""
    data = for_job(names)
    settings = {**request.settings.get(STAGE, {}), SETTING: hashlib.sha256(data).hexdigest()}
    return replace(request, names=True, cast=data, settings={**request.settings, STAGE: settings})


def names(request: Request) -> list[str]:
    """Those that a request's text is spelt by already."""
    return list(json.loads(request.cast)["names"]) if request.cast else []
