"""Stages in containers of their own: no network, nothing writable but the job's folder, no rights."""

from __future__ import annotations

import csv
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from builder.core.job import JobStage
from builder.edges import shell

BESIDE_ROOT = "1000:0"
"""Who runs in a container when the caller is root: nobody here is root without need."""


def command(
    host: str,
    image: str,
    arguments: Sequence[str],
    *,
    name: str,
    mounts: Sequence[tuple[Path, str, bool]],
    variables: Mapping[str, str],
    gpu: bool = False,
    entrypoint: str | None = None,
) -> list[str]:
    """``docker run`` as a list.

    Args:
        mounts: (path here, path in the container, writable).
        entrypoint: instead of the image's own.
    """
    words = ["docker", "--host", host, "run", "--rm", "--name", name, "--pull", "never", "--network", "none", "--read-only",
             "--tmpfs", "/tmp:rw,nosuid,nodev,size=256m,mode=1777", "--cap-drop", "ALL",
             "--security-opt", "no-new-privileges", "--pids-limit", "1024", "--user", user()]  # fmt: skip
    for source, target, writable in mounts:
        words += ["--mount", _mount(source, target, writable)]
    for key, value in sorted(variables.items()):
        words += ["--env", f"{key}={value}"]
    words += ["--gpus", "all"] if gpu else []
    words += ["--entrypoint", entrypoint] if entrypoint else []
    return [*words, image, *arguments]


def user() -> str:
    """``uid:gid`` in the container: the caller's own id, so that results belong to the caller; never root."""
    own = os.getuid()
    return BESIDE_ROOT if own == 0 else f"{own}:0"


def _mount(source: Path, target: str, writable: bool) -> str:
    """One bind mount in docker's CSV, whatever the path holds."""
    row = ["type=bind", f"source={source}", f"target={target}", *([] if writable else ["readonly"])]
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(row)
    return out.getvalue()


def give(folder: Path) -> None:
    """Let the container's user into a folder of a caller who is root; its group is root too.

    A recording is a hard link to the caller's own file, whose permissions stay: where they keep the user out, the job
    gets a copy.
    """
    if os.getuid() != 0:
        return
    for path in [folder, *folder.rglob("*")]:
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode):
            path.chmod(found.st_mode | 0o770)
        elif stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            path.chmod(found.st_mode | 0o060)
        elif stat.S_ISREG(found.st_mode) and not readable(found):
            copy = path.with_name(f".{path.name}.copy")
            shutil.copyfile(path, copy)
            copy.chmod(0o640)
            copy.replace(path)


def readable(found: os.stat_result) -> bool:
    """Whether a user without rights in group 0 can read a file."""
    return bool(found.st_mode & stat.S_IROTH or (found.st_gid == 0 and found.st_mode & stat.S_IRGRP))


def start(
    host: str,
    images: Mapping[str, str],
    place: Path,
    models: Path,
    *,
    fallback: Callable[[JobStage, Path], shell.Process],
    baked: Mapping[str, Collection[str]] | None = None,
) -> Callable[[JobStage, Path], shell.Process]:
    """A way to start stages in containers; those that have no image take the ``fallback``.

    Args:
        images: stage -> tag.
        place: the job's folder.
        models: the tree of weights, mounted where an image doesn't carry what the job's stage loads.
        baked: stage -> digests of the models that its image carries.
    """
    ready = False

    def begin(stage: JobStage, log: Path) -> shell.Process:
        nonlocal ready
        tag = images.get(stage.name)
        if tag is None:
            return fallback(stage, log)
        if not ready:
            give(place)
            ready = True
        if not log.exists():
            log.touch()
        name = f"whisperbake-{place.name}-{stage.name}"
        remove(host, name)  # of a run whose orchestrator was killed
        threads = str(int(stage.settings.get("threads", 1)))
        mounts = [(place, "/job", True)]
        if {use.digest for use in stage.models.values()} - set((baked or {}).get(stage.name, ())):
            mounts.append((models, "/models", False))
        words = command(
            host, tag, ["--job", "/job"], name=name, mounts=mounts, variables={"OMP_NUM_THREADS": threads},
            gpu=stage.settings.get("device") == "cuda",
        )  # fmt: skip
        return shell.start(words, log=log)

    return begin


def remove(host: str, name: str) -> None:
    """Remove a container by its name, running or not; none is fine."""
    shell.run(["docker", "--host", host, "rm", "--force", name], timeout=30)


def media(host: str, tag: str) -> Callable[[Sequence[str], Path, Path | None], shell.Done]:
    """clip.py in the demux container: a recording is untrusted input from the first look on."""

    def look(options: Sequence[str], source: Path, target: Path | None) -> shell.Done:
        suffix = source.suffix if source.suffix.isascii() and source.suffix[1:].isalnum() else ""
        name = f"whisperbake-look-{os.getpid()}"
        with tempfile.TemporaryDirectory(prefix="whisperbake-") as folder:
            if os.getuid() == 0 and not readable(source.stat()):
                copy = Path(folder) / "recording"
                shutil.copyfile(source, copy)
                copy.chmod(0o644)
                source = copy
            mounts = [(source, f"/in/recording{suffix}", False)]
            words = [*options, f"/in/recording{suffix}"]
            if target is not None:
                give(target.parent)
                mounts.append((target.parent, "/out", True))
                words.append(f"/out/{target.name}")
            argv = command(
                host, tag, ["/opt/bake/stages/demux/clip.py", *words], name=name, mounts=mounts, variables={},
                entrypoint="python3",
            )  # fmt: skip
            try:
                return shell.run(argv, timeout=3600)
            except BaseException:  # Ctrl-C: the container would go on
                remove(host, name)
                raise

    return look
