"""A job's compose project on an engine: written, created, its containers started and watched, taken down.

Compose creates the containers; they are started here, each as soon as what it needs has ended (compose itself looks
twice a second), and each is removed as soon as its own end is noted.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.core.jobs import compose, sandbox
from builder.core.jobs.compose import ComposeFile
from builder.core.jobs.job import JobStage
from builder.edges.engine import connection as engines
from builder.edges.engine import events, kept
from builder.edges.jobs.folder import MARK
from builder.edges.jobs.record.log import StageLog
from builder.edges.system import files, permissions, shell
from builder.errors import BakeError, MissingError
from builder.node.client import CREATION
from builder.program import command
from builder.receiver.jobs.untrusted import read_below

GRACE = 5
"""Seconds that a container has to end after SIGTERM."""

BACK = 60.0
"""Seconds to wait for an engine that went away in the middle."""

RESTARTS = 2
"""Times that a stage is started again because the engine went away under it."""

LEAVING, SHUTDOWN = 5.0, 20.0
"""Seconds for which an engine may still answer after it has killed a container because it goes away itself, and after it has
asked one to end: Docker gives others, which may not hear, 15 s (its shutdown-timeout)."""

LONGEST_ADDRESS = 4096
"""Bytes of an engine's address."""

REMOVAL = 30.0
"""Seconds that an engine has for removing a job's containers."""

LOOK = 0.02
"""Seconds between two looks for a container that compose creates, or that is being removed."""


def write(folder: Path, made: ComposeFile) -> Path:
    """Put compose.yaml into a job's folder, and make the folder ready for the user in the containers.

    The images that it names stay as long as it does.

    Returns:
        The file.

    Raises:
        MissingError: an image is gone, or the engine doesn't answer.
    """
    file = folder / compose.FILE
    with kept.keeping(made.engine, folder.parent, made.images):
        files.write_atomic(file, made.text)
    for part in permissions.SHARED:
        (folder / part).mkdir(exist_ok=True)
    (folder / permissions.EVENTS).touch()  # mounted by name
    permissions.give(folder)
    return file


class Project:
    """The containers of one job as the place where its stages run; see :class:`builder.edges.jobs.runner.Host`."""

    def __init__(self, *, job: str, folder: Path, file: ComposeFile, env: Mapping[str, str]) -> None:
        """
        Args:
            job: its id.
            folder: its folder.
            file: its compose file.
            env: the caller's, for the docker client.
        """
        self._host, self._job, self._folder, self._file = file.engine, job, folder, file
        # COMPOSE_FILE, COMPOSE_PROFILES and the like would make another project of it.
        self._env = {k: v for k, v in env.items() if not k.startswith("COMPOSE_")}
        self._creating: shell.Process | None = None
        self._compose_log = Path(os.devnull)
        self._dropping: list[threading.Thread] = []

    def open(self, stages: Sequence[str]) -> None:
        """Write the file and begin to create containers for ``stages``; what a killed run left is removed first."""
        clean(self._folder)
        write(self._folder, self._file)
        mark(self._folder, self._host)
        handle, name = tempfile.mkstemp(prefix="whisperbake-compose-")
        os.close(handle)
        self._compose_log = Path(name)
        words = [
            "docker",
            "--host",
            self._host,
            "compose",
            "--project-directory",
            str(self._folder),
            "--file",
            str(self._folder / compose.FILE),
            "--env-file",
            os.devnull,
            "up",
            "--no-start",
            "--no-deps",
            "--no-build",
            "--pull",
            "never",
            *stages,
        ]
        with shell.unbroken():
            self._creating = shell.start(words, env=self._env, log=self._compose_log)

    def start(self, stage: JobStage, log: StageLog, on_end: Callable[[], None]) -> Container:
        assert self.client is not None  # made here, not by the threads of two stages at once
        return Container(self, stage.name, log, on_end)

    def command(self, stage: str) -> str:
        """What does the same by hand."""
        return shlex.join(["docker", "compose", "--project-directory", str(self._folder), "up", "--no-deps", stage])

    def drop(self, container: str) -> None:
        """Remove a container that has ended; not waited for, as the next stage need not."""
        thread = threading.Thread(target=remove, args=(self.client, container), daemon=True)
        self._dropping.append(thread)
        thread.start()

    def close(self) -> None:
        """Leave no container; nothing of ours is running afterwards."""
        if self._creating is not None:
            # An engine goes on to create what compose asked for.
            shell.stop(self._creating, patience=CREATION, grace=2.0)
        with contextlib.suppress(OSError):
            self._compose_log.unlink()
        for thread in self._dropping:
            thread.join(10)
        with contextlib.suppress(Exception):  # an engine that has gone takes nothing more; the next run will
            remove_all(self.client, self._job)
            unmark(self._folder)
            self.client.close()

    def find(self, stage: str) -> str:
        """Id of a stage's container, once compose has created it.

        Raises:
            MissingError: compose could not.
        """
        while True:
            compose_ended = self._creating is None or self._creating.poll() is not None
            containers = containers_of(self.client, self._job, stage)
            if containers:
                return str(containers[0]["Id"])
            if compose_ended:
                raise self._not_created(stage)
            time.sleep(LOOK)

    def _not_created(self, stage: str) -> BakeError:
        said = self._compose_log.read_text(errors="replace")
        lines = [line for line in said.splitlines() if "level=warning" not in line]
        tail = [line.strip() for line in lines if line.strip()][-3:]
        last = tail[-1] if tail else "compose said nothing"
        if "No such image" in last or "not found" in last.lower():
            return MissingError(
                f"the image of stage {stage} is gone", detail=tail, hint=f"{command('build')}, then run again"
            )
        return MissingError(
            f"the container of stage {stage} could not be created", detail=tail, hint=command("preflight")
        )

    @functools.cached_property
    def client(self) -> Any:
        """docker-py's client. Made when it is first used: compose is at work by then."""
        return engines.client_of(self._host)

    @property
    def api(self) -> Any:
        """docker-py's low-level client."""
        return self.client.api


class Container:
    """One stage's container from its start to its end, watched by a thread of its own."""

    def __init__(self, project: Project, stage: str, log: StageLog, on_end: Callable[[], None]) -> None:
        self._project, self._stage, self._log, self._on_end = project, stage, log, on_end
        self._id = ""
        self._over = threading.Event()
        self._code: int | None = None
        self._written = 0
        self._asked = False
        self.command = project.command(stage)
        self.cause = ""
        self.error: BakeError | None = None
        self._thread = threading.Thread(target=self._watch, name=f"stage {stage}", daemon=True)
        self._thread.start()

    def poll(self) -> int | None:
        return self._code if self._over.is_set() else None

    def terminate(self) -> None:
        self._asked = True
        self._signal("SIGTERM")

    def stop(self) -> None:
        self._asked = True
        self._thread.join(GRACE)
        if self._thread.is_alive():
            self._signal("SIGKILL")
            self._thread.join(GRACE)

    def _signal(self, name: str) -> None:
        if self._id:
            with contextlib.suppress(Exception):  # it ended meanwhile, or the engine is gone
                self._project.api.kill(self._id, name)

    def _watch(self) -> None:
        try:
            self._code = self._run()
        except BakeError as error:
            self._code, self.error = 125, error
        except Exception as error:  # noqa: BLE001 - docker-py has many kinds of errors; the engine's words are shown
            self._code = 125
            self.error = MissingError(
                f"the container of stage {self._stage} could not be started: {_reason(error)}",
                hint=command("preflight"),
            )
        if self._id:
            self._project.drop(self._id)
        self._log.close()
        self._over.set()
        self._on_end()

    def _run(self) -> int:
        """Start, wait, and tell the kinds of ends apart; the exit code."""
        self._id = self._created()
        api, restarts, begin = self._project.api, 0, True
        while True:
            if self._asked and begin:
                return 143
            try:
                if begin:
                    api.start(self._id)
                    begin = False
                code = self._follow()
                expected = code not in (137, 143, 255) or self._asked or self._out_of_memory()
                if expected or not self._engine_to_blame(SHUTDOWN if code == 143 else LEAVING):
                    return self._explain(code)
            except Exception as error:
                if _is_gone(error):
                    self.cause = "vanished: somebody removed its container while it ran"
                    return 137
                if begin and not self._engine_leaves():
                    raise
            self._wait_for_engine()
            state = self._inspect()
            if state is None:
                self.cause = "vanished: the engine restarted, and its container is gone"
                return 137
            if state["Running"] or begin:
                continue
            if int(state["ExitCode"]) == 0:
                return 0
            if restarts == RESTARTS:
                self.cause = "was ended by a restart of the engine, again"
                return 137
            restarts, begin = restarts + 1, True
            self._log.add(b"whisperbake: the engine restarted; the stage starts again\n")

    def _created(self) -> str:
        """Id of the container that compose creates; an engine that goes away meanwhile is waited for."""
        while True:
            try:
                return self._project.find(self._stage)
            except BakeError:
                raise
            except Exception:
                if not self._engine_leaves():
                    raise
            self._wait_for_engine()

    def _follow(self) -> int:
        """Copy what the container prints into the stage's log until it ends; its exit code."""
        from docker.errors import APIError

        api, seen = self._project.api, 0
        try:
            for chunk in api.logs(self._id, stdout=True, stderr=True, stream=True, follow=True):
                fresh = chunk[max(0, self._written - seen) :]  # after a lost connection all of it comes again
                seen += len(chunk)
                if fresh:
                    self._log.add(fresh)
                    self._written += len(fresh)
        except APIError as error:  # what it prints is lost, what it makes is not
            if _is_gone(error):
                raise
        return int(api.wait(self._id, timeout=None)["StatusCode"])

    def _explain(self, code: int) -> int:
        """Note what an exit code doesn't tell."""
        if code in (0, 1, 2, 5):
            return code
        state = self._inspect()
        if state is None:
            self.cause = "vanished: somebody removed its container while it ran"
        elif state["OOMKilled"]:
            limit = self._limit()
            self.cause = f"ran out of memory: its limit is {limit / sandbox.MB:.0f} MB"
        elif not self._asked and code in (137, 143):
            self.cause = f"was {'killed' if code == 137 else 'stopped'} from outside (signal {code - 128})"
        return code

    def _inspect(self) -> Mapping[str, Any] | None:
        """The container's state; None when it is gone."""
        try:
            state: Mapping[str, Any] = self._project.api.inspect_container(self._id)["State"]
        except Exception as error:
            if _is_gone(error):
                return None
            raise
        return state

    def _limit(self) -> float:
        with contextlib.suppress(Exception):
            return float(self._project.api.inspect_container(self._id)["HostConfig"]["Memory"])
        return 0.0

    def _engine_to_blame(self, patience: float) -> bool:
        """Whether the engine ended the container because it went away itself.

        It is asked twice what it remembers: a quick one can be gone and back between two pings.
        """
        return self._engine_was_away() or self._engine_leaves(patience) or self._engine_was_away()

    def _engine_leaves(self, patience: float = LEAVING) -> bool:
        """Whether the engine is going away: it ends its containers first. Asked only after an unexpected end."""
        end = time.monotonic() + patience
        while time.monotonic() < end and not self._asked:
            try:
                self._project.api.ping()
            except Exception:  # noqa: BLE001 - whatever a ping fails with, the engine doesn't answer
                return True
            time.sleep(0.1)
        return False

    def _engine_was_away(self) -> bool:
        """Whether it was gone and back before anybody here noticed, as happens on a busy machine."""
        return not self._asked and events.restarted_since(self._project.api, self._id)

    def _out_of_memory(self) -> bool:
        with contextlib.suppress(Exception):  # the engine is gone: it is asked again when it is back
            return bool(self._project.api.inspect_container(self._id)["State"]["OOMKilled"])
        return False

    def _wait_for_engine(self) -> None:
        end = time.monotonic() + BACK
        while time.monotonic() < end and not self._asked:
            with contextlib.suppress(Exception):
                self._project.api.ping()
                return
            time.sleep(0.05)
        raise MissingError(
            f"the engine went away in the middle of stage {self._stage}, and did not come back within {BACK:.0f} s",
            hint="start it, then run the job again: it resumes where it stopped",
        )


def _is_gone(error: Exception) -> bool:
    """Whether an engine says that it doesn't know a container, or not for long."""
    from docker.errors import APIError, NotFound

    dying = isinstance(error, APIError) and any(w in str(error) for w in ("being removed", "marked for removal"))
    return dying or isinstance(error, NotFound)


def _reason(error: Exception) -> str:
    """An engine's own words, on one line."""
    return " ".join(str(getattr(error, "explanation", None) or error).split())


def containers_of(client: Any, job: str, stage: str | None = None) -> list[dict[str, Any]]:
    """The containers of a job (or of one of its stages), running or not, as the engine describes them."""
    labels = [f"{compose.JOB}={job}", *([f"{compose.STAGE}={stage}"] if stage else [])]
    containers: list[dict[str, Any]] = client.api.containers(all=True, filters={"label": labels})
    return containers


def remove(client: Any, container: str) -> None:
    """Remove one container, running or not; one that is gone already is fine."""
    from docker.errors import APIError

    with contextlib.suppress(APIError, OSError):
        client.api.remove_container(container, force=True, v=True)


def remove_all(client: Any, job: str) -> None:
    """Remove all containers of a job at once, running or not, and wait until the engine has none left.

    An engine refuses a container that it is just starting, and one that somebody else removes stays for a while (its files
    may be many): it is asked again until they are gone.

    Raises:
        MissingError: one of them runs on.
    """
    end, pause = time.monotonic() + REMOVAL, 0.0
    while (containers := containers_of(client, job)) and time.monotonic() < end:
        time.sleep(pause)
        pause = LOOK
        threads = [
            threading.Thread(target=remove, args=(client, str(container["Id"])), daemon=True)
            for container in containers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
    if any(c["State"] in ("running", "paused", "restarting") for c in containers):
        raise MissingError(
            f"a container of job {job} can't be ended", hint=f"docker ps --filter label={compose.JOB}={job}"
        )


def mark(folder: Path, host: str) -> None:
    """Note in a job's folder that the engine at ``host`` may have containers of it from now on."""
    (folder / MARK).write_text(host)


def unmark(folder: Path) -> None:
    """Note that no engine has containers of a job any more."""
    (folder / MARK).unlink(missing_ok=True)


def clean(folder: Path) -> None:
    """End the containers that a killed run of a job left; nothing is asked of an engine when there can be none.

    This comes before anything else in the job's folder: until then they write in it.

    Raises:
        MissingError: the engine doesn't answer, or a container can't be ended.
    """
    host = _marked(folder)
    if host is None:
        return
    # Jobs run on engines of this machine alone; one whose socket has gone is no more.
    if host.startswith("unix:/") and _engine_socket(Path(host.removeprefix("unix://"))):
        try:
            client = engines.client_of(host)
            remove_all(client, folder.name)
            client.close()
        except MissingError:
            raise
        except Exception as error:  # docker-py's client, requests and sockets have many kinds of errors
            raise MissingError(
                f"the engine that may have containers of job {folder.name} doesn't answer",
                where=host,
                hint=f"start it; or, if it is gone for good, remove {folder / MARK}",
            ) from error
    unmark(folder)


def _marked(folder: Path) -> str | None:
    """The engine that :func:`mark` noted; None where there is none. Empty where nobody can have noted it."""
    if not os.path.lexists(folder / MARK):
        return None
    return (read_below(folder, MARK, LONGEST_ADDRESS) or b"").decode("utf-8", "replace")


def _engine_socket(path: Path) -> bool:
    """Whether an engine of root or of the caller may listen there: a job's folder may name anybody's."""
    with contextlib.suppress(OSError, ValueError):
        status = path.stat()
        return stat.S_ISSOCK(status.st_mode) and status.st_uid in (0, os.geteuid())
    return False
