"""Containers outside of a job's project: recordings that are looked into, media stages of native jobs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from builder.core import compose
from builder.core.compose import Mount
from builder.core.job import JobStage
from builder.edges import permissions, shell
from builder.edges.processes import Native, Process


class Media:
    """A native job's place: its media stages in containers, the others as processes."""

    def __init__(self, native: Native, *, host: str, images: Mapping[str, str], place: Path) -> None:
        """
        Args:
            images: stage -> tag.
            place: the job's folder.
        """
        self._native, self._host, self._images, self._place = native, host, images, place

    def open(self, stages: Sequence[str]) -> None:
        self._native.open(stages)
        events = self._place / "events.jsonl"
        events.touch()
        permissions.give(*(self._place / part for part in ("input", "work", "output")), events)

    def start(self, stage: JobStage, log: Path) -> Process:
        tag = self._images.get(stage.name)
        if tag is None:
            return self._native.start(stage, log)
        name = f"whisperbake-{self._place.name}-{stage.name}"
        remove(self._host, name)  # of a run whose orchestrator was killed
        permissions.give(*(self._place / part for part in ("work", "output")))  # what native stages have made since
        parts = compose.mounts("")
        given = [
            Mount(source=str(self._place / parts[p].source), target=parts[p].target, writable=parts[p].writable)
            for p in compose.PARTS
        ]
        words = compose.run_command(
            self._host, tag, ["--job", "/job"], name=name, given=given, user=user(),
            variables={"OMP_NUM_THREADS": str(int(stage.settings.get("threads", 1)))},
        )  # fmt: skip
        return Process(shell.start(words, log=log))

    def close(self) -> None:
        self._native.close()


def user() -> str:
    """Who runs in a container: see :func:`builder.core.compose.user`."""
    return compose.user(os.getuid(), os.getgid())


def remove(host: str, name: str) -> None:
    """Remove a container by its name, running or not; none is fine."""
    shell.run(["docker", "--host", host, "rm", "--force", name], timeout=30)


def media(host: str, tag: str) -> Callable[[Sequence[str], Path, Path | None], shell.Done]:
    """clip.py in the demux container: a recording is untrusted input from the first look on."""

    def look(options: Sequence[str], source: Path, target: Path | None) -> shell.Done:
        suffix = source.suffix if source.suffix.isascii() and source.suffix[1:].isalnum() else ""
        name = f"whisperbake-look-{os.getpid()}"
        with tempfile.TemporaryDirectory(prefix="whisperbake-") as folder:
            if os.getuid() == 0 and not permissions.readable(source.stat()):
                copy = Path(folder) / "recording"
                shutil.copyfile(source, copy)
                copy.chmod(0o644)
                source = copy
            given = [Mount(source=str(source), target=f"/in/recording{suffix}")]
            words = [*options, f"/in/recording{suffix}"]
            if target is not None:
                permissions.give(target.parent)
                given.append(Mount(source=str(target.parent), target="/out", writable=True))
                words.append(f"/out/{target.name}")
            argv = compose.run_command(
                host, tag, ["/opt/bake/stages/demux/clip.py", *words], name=name, given=given, user=user(),
                variables={}, entrypoint="python3",
            )  # fmt: skip
            try:
                return shell.run(argv, timeout=3600)
            except BaseException:  # Ctrl-C: the container would go on
                remove(host, name)
                raise

    return look
