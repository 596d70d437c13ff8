"""Images that jobs name: each has a name of its own for as long as a job's compose.yaml has its id.

An image without a name goes with the next ``docker image prune``, and a build or a load that replaces it removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.receiver.engine import EngineSocket
from builder.receiver.inventory import LoaderError
from builder.receiver.jobs.untrusted import names_below, slice_below

COMPOSE = "compose.yaml"
"""File of a job; it names images by their ids on this machine's engine."""

LONGEST_COMPOSE = 4 << 20
"""Bytes; no job's file is longer."""

IMAGE_ID = re.compile(rb'"(sha256:[0-9a-f]{64})"')

KEPT = re.compile(r"(.+):job-([0-9a-f]{8})-[0-9a-f]{12}")
"""A name that an image has for jobs: of which folder of jobs, and of which image."""


@dataclass(frozen=True)
class KeptImage:
    """An image with a name for jobs."""

    tag: str
    id: str
    jobs: tuple[str, ...]
    """Ids of the jobs that name it; empty when none does any more."""
    alone: bool
    """It has no other name: without the jobs it would be gone."""
    size: int
    """Bytes that the engine counts for it; layers that it shares count here too."""


def kept_name(repository: str, jobs: Path, id_: str) -> str:
    """The name that an image has for the jobs in a folder: other folders of jobs have other names for it."""
    return f"{repository}:job-{_mark(jobs)}-{id_[7:19]}"


def _mark(jobs: Path) -> str:
    return hashlib.sha256(os.fsencode(jobs.resolve())).hexdigest()[:8]


def named_images(jobs: Path) -> dict[str, tuple[str, ...]]:
    """Id of an image -> ids of the jobs in a folder that name it."""
    named: dict[str, tuple[str, ...]] = {}
    jobs = jobs.resolve()  # the folder itself may be a link of the user's own
    for name in names_below(jobs):
        for id_ in sorted(set(IMAGE_ID.findall(slice_below(jobs / name, COMPOSE, 0, LONGEST_COMPOSE)))):
            named[id_.decode()] = (*named.get(id_.decode(), ()), name)
    return named


@contextlib.contextmanager
def keeping(jobs: Path) -> Iterator[None]:
    """Hold a folder's images: nobody releases one between its name and the file that needs it."""
    jobs.mkdir(parents=True, exist_ok=True)
    # Others may have put something there, in a folder of jobs that is shared.
    lock = os.open(jobs / ".images.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def keep(engine: EngineSocket, jobs: Path, images: Mapping[str, str]) -> None:
    """Give images their names for jobs; within :func:`keeping`.

    Args:
        images: id of an image -> repository of its name.

    Raises:
        LoaderError: the engine has no such image, or went away.
    """
    for id_, repository in images.items():
        engine.tag(id_, kept_name(repository, jobs, id_))


def kept_images(engine: EngineSocket, jobs: Path) -> list[KeptImage]:
    """The images that have a name for the jobs in a folder."""
    named, mark, kept = named_images(jobs), _mark(jobs), []
    for image in engine.need("GET", "/images/json") or []:
        tags = [tag for tag in image.get("RepoTags") or () if "<none>" not in tag]
        alone = all(KEPT.fullmatch(tag) for tag in tags)
        for tag in tags:
            match = KEPT.fullmatch(tag)
            if match and match[2] == mark:
                kept.append(KeptImage(tag, image["Id"], named.get(image["Id"], ()), alone, int(image.get("Size") or 0)))
    return sorted(kept, key=lambda image: image.tag)


def release(engine: EngineSocket, jobs: Path, *, dry_run: bool = False) -> list[KeptImage]:
    """Remove the names that no job in a folder needs any more, and with its last name an image; those names.

    An image that a container uses stays. What an engine refuses otherwise is left for the next time.
    """
    with keeping(jobs) if jobs.is_dir() else contextlib.nullcontext():
        unneeded = [image for image in kept_images(engine, jobs) if not image.jobs]
        if not dry_run:
            for image in unneeded:
                with contextlib.suppress(LoaderError):
                    engine.remove(image.tag)
    return unneeded
