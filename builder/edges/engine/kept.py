"""Images that jobs name, on an engine of this machine: they stay for as long as the jobs do (receiver/jobs/kept.py)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from builder.errors import MissingError
from builder.program import command
from builder.receiver.engine import EngineSocket
from builder.receiver.inventory import LoaderError
from builder.receiver.jobs import kept
from builder.receiver.jobs.kept import KeptImage


@contextlib.contextmanager
def keeping(host: str, jobs: Path, images: Mapping[str, str]) -> Iterator[None]:
    """Give images their names for jobs, then write within the block what names them.

    Args:
        host: address of the engine.
        jobs: the folder of the jobs.
        images: id of an image -> repository of its name.

    Raises:
        MissingError: an image is gone, or the engine doesn't answer.
    """
    with kept.keeping(jobs):
        with _failures(host):
            kept.keep(EngineSocket(host), jobs, images)
        yield


def release(host: str, jobs: Path, *, dry_run: bool = False) -> tuple[list[KeptImage], list[KeptImage]]:
    """Remove the names that no job in a folder needs any more.

    Returns:
        Images that are there for jobs alone, and the names that were removed (``dry_run``: would be).

    Raises:
        MissingError: the engine doesn't answer.
    """
    with _failures(host):
        engine = EngineSocket(host)
        gone = kept.release(engine, jobs, dry_run=dry_run)
        held = [image for image in kept.kept_images(engine, jobs) if image.jobs and image.alone]
    return held, gone


def keep_named(host: str, jobs: Path, images: Mapping[str, str]) -> None:
    """Give those of some images that jobs name a name for them.

    Args:
        images: id of an image -> repository of its name.

    Raises:
        MissingError: an image is gone, or the engine doesn't answer.
    """
    if not jobs.is_dir():
        return
    with kept.keeping(jobs), _failures(host):
        named = kept.named_images(jobs)
        kept.keep(EngineSocket(host), jobs, {id_: name for id_, name in images.items() if id_ in named})


@contextlib.contextmanager
def _failures(host: str) -> Iterator[None]:
    """What an engine refuses, as the builder's error."""
    try:
        yield
    except LoaderError as error:
        raise MissingError(error.what, where=host, hint=f"{command('build')}, then the same command again") from None
