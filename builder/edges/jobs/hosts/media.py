"""Containers outside of a job's project: recordings that are looked into, media stages of native jobs."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from builder.core.jobs import compose, sandbox
from builder.core.jobs.compose import ComposeFile
from builder.core.jobs.job import JobStage
from builder.core.jobs.sandbox import ContainerLimits, Mount
from builder.edges.jobs.hosts import compose as projects
from builder.edges.jobs.hosts.native import Native, Process
from builder.edges.jobs.record.log import StageLog
from builder.edges.system import permissions, shell
from builder.errors import InputError, MissingError
from builder.node.client import await_container, knows_container
from builder.receiver.jobs import places


class Media:
    """A native job's host: its media stages run in containers, the others as processes."""

    def __init__(
        self,
        native: Native,
        *,
        host: str,
        images: Mapping[str, str],
        folder: Path,
        limits: Callable[[JobStage], ContainerLimits],
        file: ComposeFile | None = None,
    ) -> None:
        """
        Args:
            images: stage -> tag.
            folder: the job's folder.
            limits: what a stage's container may use.
            file: the job's compose file, where the engine has images of all its stages.
        """
        self._limits, self._file = limits, file
        self._native, self._host, self._images, self._folder = native, host, images, folder
        self._started: list[Client] = []
        self._opened = False

    def open(self, stages: Sequence[str]) -> None:
        self._native.open(stages)
        (self._folder / permissions.EVENTS).touch()
        if self._file is not None:
            with contextlib.suppress(MissingError):  # this run doesn't need it
                projects.write(self._folder, self._file)
        projects.mark(self._folder, self._host)
        self._opened = True

    def start(self, stage: JobStage, log: StageLog, on_end: Callable[[], None]) -> Process:
        tag = self._images.get(stage.name)
        if tag is None:
            return self._native.start(stage, log, on_end)
        cidfile = self._folder / f".{stage.name}.cid"
        cidfile.unlink(missing_ok=True)
        permissions.give(self._folder)  # what native stages have made since, too
        job_mounts = [
            Mount(source=str(self._folder / part.source), target=part.target, writable=part.writable)
            for part in sandbox.JOB_MOUNTS.values()
        ]
        words = compose.run_command(
            self._host,
            tag,
            ["--job", "/job"],
            name=f"whisperbake-{self._folder.name}-{stage.name}",
            cidfile=str(cidfile),
            mounts=job_mounts,
            limits=self._limits(stage),
            user=user(),
            variables={"OMP_NUM_THREADS": str(int(stage.settings.get("threads", 1)))},
            labels={compose.JOB: self._folder.name, compose.STAGE: stage.name},
        )
        self._started.append(Client(words, log, on_end, cidfile=cidfile))
        return self._started[-1]

    def close(self) -> None:
        self._native.close()
        for process in self._started:
            process.cidfile.unlink(missing_ok=True)
        if self._file is not None:
            permissions.give(self._folder)  # docker compose up works with what native stages made
        if self._opened and all(process.poll() == 0 for process in self._started):
            projects.unmark(self._folder)
            return
        with contextlib.suppress(MissingError):  # an engine that has gone takes nothing more; the next run will
            projects.clean(self._folder)  # a client that was killed leaves its container


class Client(Process):
    """A ``docker run``, which isn't ended before it knows its container."""

    def __init__(self, words: Sequence[str], log: StageLog, on_end: Callable[[], None], *, cidfile: Path) -> None:
        super().__init__(words, log, on_end)
        self.cidfile = cidfile

    def terminate(self) -> None:
        if knows_container(self.cidfile):  # else :meth:`stop` waits
            super().terminate()

    def stop(self) -> None:
        await_container(self.cidfile, self._process.poll)
        super().stop()


def user() -> str:
    """Who runs in a container: see :func:`builder.core.jobs.sandbox.user`."""
    return sandbox.user(os.getuid(), os.getgid())


def remove(host: str, name: str) -> None:
    """Remove a container by its name, running or not; one that is gone already is fine."""
    shell.run(["docker", "--host", host, "rm", "--force", name], timeout=30)


def media(host: str, tag: str, limits: ContainerLimits) -> Callable[[Sequence[str], Path, Path | None], shell.Done]:
    """clip.py in the demux container: a recording is untrusted input from the first look on."""

    def inspect(options: Sequence[str], source: Path, target: Path | None) -> shell.Done:
        suffix = source.suffix if source.suffix.isascii() and source.suffix[1:].isalnum() else ""
        name = f"whisperbake-inspect-{os.getpid()}-{secrets.token_hex(4)}"  # a batch looks into several at once
        with (
            _open_to_all(source) as recording,
            _outlet(target) as out,
            tempfile.TemporaryDirectory(prefix="whisperbake-") as ids,
        ):
            cidfile = Path(ids, "id")
            mounts = [Mount(source=str(recording), target=f"/in/recording{suffix}")]
            words = [*options, f"/in/recording{suffix}"]
            if target is not None:
                mounts.append(Mount(source=str(out), target="/out", writable=True))
                words.append(f"/out/{target.name}")
            argv = compose.run_command(
                host,
                tag,
                ["/opt/bake/stages/demux/clip.py", *words],
                name=name,
                cidfile=str(cidfile),
                mounts=mounts,
                limits=limits,
                user=user(),
                variables={},
                entrypoint="python3",
            )
            done = None
            try:
                done = shell.run(
                    argv,
                    timeout=sandbox.look_seconds(source.stat().st_size),
                    settle=lambda process: await_container(cidfile, process.poll),
                )
            finally:
                if done is None or done.code < 0:  # Ctrl-C, or its time is up: the container would run on
                    remove(host, name)
            if target is not None and done.code == 0:
                try:
                    permissions.take(out, target.name, target)
                except OSError as error:
                    raise InputError("no file came out of the cut", where=str(source)) from error
            return done

    return inspect


@contextlib.contextmanager
def _open_to_all(source: Path) -> Iterator[Path]:
    """A recording, or a copy of it where its mode keeps the containers' user out."""
    if os.getuid() != 0 or permissions.readable(source.stat()):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="whisperbake-") as folder:
        copy = Path(folder) / "recording"
        shutil.copyfile(source, copy)
        copy.chmod(0o640)  # the containers' user is in root's group
        yield copy


@contextlib.contextmanager
def _outlet(target: Path | None) -> Iterator[Path]:
    """A folder beside ``target`` that a container may write, and that nothing else is in."""
    if target is None:
        yield Path(os.devnull)
        return
    out = Path(tempfile.mkdtemp(prefix=".cut-", dir=target.parent))
    try:
        if os.getuid() == permissions.ROOT:
            permissions.to_group(out, 0o770)
        yield out
    finally:
        places.remove_if_there(out)
