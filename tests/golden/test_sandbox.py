"""A stage's container has the same rights whoever starts it: compose, ``docker run``, or the loader of a bundle."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.core.images import plan
from builder.core.jobs import compose, sandbox
from builder.core.jobs.job import Job
from builder.core.jobs.sandbox import ContainerLimits
from builder.edges.bundle import acceptance
from builder.receiver.jobs import container as containers
from tests.golden import project

FOLDER = Path("/srv/jobs/20261123-200312-rm-rf-4f2a")
STAGES = ["demux", "vad", "asr", "diarize", "align", "subtitles", "mux"]


@dataclass(frozen=True)
class Sandboxed:
    """What a container may do, however it was spelled."""

    user: str
    network: str
    read_only: bool
    cap_drop: tuple[str, ...]
    security: tuple[str, ...]
    emptied: frozenset[str]
    pids: int
    tmpfs: str
    log: tuple[str, frozenset[tuple[str, str]]]
    """Driver and options of what an engine keeps of what it prints."""
    memory: int
    swap: int
    cpus: float
    mounts: frozenset[tuple[str, str, bool]]
    """(absolute source, target, read-only)."""


def of_compose(service: dict[str, Any]) -> Sandboxed:
    assert not {"privileged", "cap_add", "devices", "ports", "pid", "ipc"} & set(service)
    return Sandboxed(
        user=service["user"],
        network=service["network_mode"],
        read_only=service["read_only"],
        cap_drop=tuple(service["cap_drop"]),
        security=tuple(service["security_opt"]),
        emptied=frozenset(k for k, v in service["environment"].items() if v == ""),
        pids=service["pids_limit"],
        tmpfs=service["tmpfs"][0],
        log=(service["logging"]["driver"], frozenset(service["logging"]["options"].items())),
        memory=service["mem_limit"],
        swap=service["memswap_limit"],
        cpus=service["cpus"],
        mounts=frozenset((str(FOLDER / m["source"]), m["target"], m["read_only"]) for m in service["volumes"]),
    )


def of_words(words: list[str]) -> Sandboxed:
    """Read ``docker run`` as the docker client does: options with one value each, up to the image."""
    assert words[:4] == ["docker", "--host", "unix:///s", "run"]
    flags, values = {"--rm", "--read-only"}, {}
    mounts, variables, options, at = [], [], [], 4
    seen = set()
    while words[at].startswith("--"):
        name = words[at]
        seen.add(name)
        if name == "--mount":
            mounts.append(words[at + 1])
        elif name == "--env":
            variables.append(words[at + 1])
        elif name == "--log-opt":
            options.append(words[at + 1])
        elif name not in flags:
            assert name not in values or name == "--label", name
            values[name] = words[at + 1]
        at += 1 if name in flags else 2
    assert not seen & {"--privileged", "--cap-add", "--device", "--publish", "--volume"}
    rows = [next(csv.reader([mount])) for mount in mounts]
    pairs = [({k: v for k, _, v in (cell.partition("=") for cell in row)}, "readonly" in row) for row in rows]
    return Sandboxed(
        user=values["--user"],
        network=values["--network"],
        read_only="--read-only" in seen,
        cap_drop=(values["--cap-drop"],),
        security=(values["--security-opt"],),
        emptied=frozenset(v.removesuffix("=") for v in variables if v.endswith("=")),
        pids=int(values["--pids-limit"]),
        tmpfs=values["--tmpfs"],
        log=(values["--log-driver"], frozenset((k, v) for k, _, v in (option.partition("=") for option in options))),
        memory=int(values["--memory"]),
        swap=int(values["--memory-swap"]),
        cpus=int(values["--cpu-quota"]) / int(values["--cpu-period"]),
        mounts=frozenset((pair["source"], pair["target"], read_only) for pair, read_only in pairs),
    )


def of_api(settings: dict[str, Any]) -> Sandboxed:
    host = settings["HostConfig"]
    assert not {"Privileged", "CapAdd", "Devices", "PortBindings", "Binds", "PidMode", "IpcMode"} & set(host)
    return Sandboxed(
        user=settings["User"],
        network=host["NetworkMode"],
        read_only=host["ReadonlyRootfs"],
        cap_drop=tuple(host["CapDrop"]),
        security=tuple(host["SecurityOpt"]),
        emptied=frozenset(v.removesuffix("=") for v in settings["Env"] if v.endswith("=")),
        pids=host["PidsLimit"],
        tmpfs=":".join(*host["Tmpfs"].items()),
        log=(host["LogConfig"]["Type"], frozenset(host["LogConfig"]["Config"].items())),
        memory=host["Memory"],
        swap=host["MemorySwap"],
        cpus=host["CpuQuota"] / host["CpuPeriod"],
        mounts=frozenset((m["Source"], m["Target"], m["ReadOnly"]) for m in host["Mounts"]),
    )


def job_of_unknown_length() -> Job:
    """What the loader makes of any recording: it doesn't look into it."""
    job = project.job("cpu")
    return replace(job, inputs=(replace(job.inputs[0], duration=None),))


def services(job: Job, machine: compose.Machine) -> dict[str, Any]:
    """compose.yaml of a job whose images have their models inside, as a bundle's have; parsed."""
    settings = project.read({})
    images = {
        stage.name: compose.StageImage(id="sha256:" + "0" * 64, models=tuple(u.digest for u in stage.models.values()))
        for stage in job.stages
    }
    sizes = {id_: pin.size for id_, pin in settings.pins.items()}
    containers = compose.services(job, images, machine=machine, specs=settings.stages, sizes=sizes)
    template = (project.ROOT / "compose" / compose.TEMPLATE).read_text()
    parsed = yaml.safe_load(compose.render(template, job, containers, machine=machine, models="/m"))
    found: dict[str, Any] = parsed["services"]
    return found


@pytest.mark.parametrize(("uid", "gid"), [(0, 0), (1000, 100)])
@pytest.mark.parametrize("memory", [2_000_000_000, 64_000_000_000])
def test_three_spellings_are_the_same_rights(uid: int, gid: int, memory: int) -> None:
    """User, mounts, limits and rights of compose.yaml, of ``docker run`` and of the loader's ``--run``."""
    machine = compose.Machine(threads=6, memory=memory, user=sandbox.user(uid, gid))
    settings = project.read({"mode": "docker-cpu"})
    planned = plan.plan(settings, locks=project.LOCKS, base=project.DEBIAN, models=project.models(settings))
    wishes, data = acceptance.stage_memory(settings, planned), sandbox.as_data()
    spelled = services(job_of_unknown_length(), machine)
    assert list(spelled) == STAGES
    for stage, service in spelled.items():
        expected = of_compose(service)
        words = compose.run_command(
            "unix:///s",
            "image",
            ["--job", "/job"],
            name="n",
            mounts=[replace(mount, source=str(FOLDER / mount.source)) for mount in sandbox.JOB_MOUNTS.values()],
            limits=ContainerLimits(memory=expected.memory, cpus=machine.threads),
            user=sandbox.user(uid, gid),
            variables={"OMP_NUM_THREADS": "2"},
            labels={"a": "b"},
        )
        assert of_words(words) == expected, stage
        container = containers.container(
            data,
            image="sha256:" + "0" * 64,
            folder=FOLDER,
            uid=uid,
            gid=gid,
            threads=2,
            memory=containers.memory_limit(data, wishes[stage], machine.memory),
            cpus=machine.threads,
        )
        assert of_api(container) == expected, stage


def test_the_rights_are_few() -> None:
    """What all three spell is as small as it was meant; a loosened default shows here."""
    rights = of_compose(services(project.job("cpu"), project.PROJECTS["cpu"])["asr"])
    assert (rights.user, rights.network, rights.read_only) == ("65532:0", "none", True)
    assert (rights.cap_drop, rights.security, rights.pids) == (("ALL",), ("no-new-privileges",), 1024)
    assert rights.swap == rights.memory
    assert rights.log == ("local", frozenset({("max-size", "8m"), ("max-file", "1"), ("compress", "false")}))
    assert {"HTTP_PROXY", "https_proxy", "NO_PROXY", "all_proxy"} < rights.emptied
    writable = {target for _, target, read_only in rights.mounts if not read_only}
    assert writable == {"/job/work", "/job/output", "/job/events.jsonl"}
    assert {target for _, target, read_only in rights.mounts if read_only} == {"/job/job.yaml", "/job/input"}


def test_a_stage_that_an_older_loader_wrote_down_has_a_limit_too() -> None:
    """An inventory without memory: the default, within the machine."""
    data = sandbox.as_data()
    assert containers.memory_limit(data, None, 4_000_000_000) == 3_600_000_000
    assert containers.memory_limit(data, None, 1 << 50) == sandbox.DEFAULT_MEMORY
    assert containers.memory_limit(data, 1, 4_000_000_000) == sandbox.LEAST == 64_000_000
