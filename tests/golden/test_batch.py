"""A batch's files for Kubernetes, Slurm and HTCondor: byte for byte, by official schemas, and read back as their readers do."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from builder.core.batch import htcondor, kubernetes, rendering, slurm, steps
from builder.core.batch.kubernetes import Volume
from builder.core.batch.rendering import ShardTable
from builder.core.jobs import sandbox
from builder.errors import ConfigError, UsageError
from tests.golden import batches
from tests.golden.project import FILES, HOSTILE, templates

VERSIONS = sorted({f"1.{minor}" for minor in range(31, 38)}, key=lambda version: int(version[2:]))
"""Of Kubernetes: every one whose schemas the validator carries, from the oldest that a batch is for."""

MANIFESTS = [
    f"{case}.{name}"
    for case in ("batch-kubernetes", "batch-kubernetes-gpu")
    for name in ("job.yaml", "network-policy.yaml")
]

NAMES = [
    HOSTILE,
    "/srv/a, b;c.wav",
    "/srv/'; rm -rf ~ #",
    '/srv/"$(reboot)" `reboot`\\',
    "/srv/new\nline\r\n#SBATCH --wrap=reboot",
    "/srv/{{ batch }}{% raw %}$(shard)$INT(shard)",
    "/srv/: - & *x !!python/object {a: b}",
    "/srv/\u2028\u202e\x1b[2J\x85é\U0001f600",
]
"""Paths as people, or an attacker, may call them."""


def job(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FILES / name).read_text())
    return found


def containers(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    pod = manifest["spec"]["template"]["spec"]
    yield from (*pod["initContainers"], *pod["containers"])


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    return batches.rendered()


def test_the_files_are_as_they_were(rendered: dict[str, str]) -> None:
    """What an engine is told shows here when it changes; python -m tests.golden.project writes them anew."""
    kept = {path.name: path.read_text() for path in FILES.glob("batch-*")}
    assert sorted(kept) == sorted(rendered)
    for name, text in rendered.items():
        assert text == kept[name], name


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_keep_kubernetes_own_schemas(name: str, version: str) -> None:
    """Strictly: a key that the schema doesn't have is a mistake, too. The schemas are in the package: no network."""
    assert kubernetes_validate.validate(job(name), version, strict=True) == version


def test_a_mistake_in_a_manifest_is_noticed() -> None:
    """The schemas can fail."""
    wrong = job("batch-kubernetes.job.yaml")
    wrong["spec"]["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"] = "2"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.31", strict=True)
    unknown = job("batch-kubernetes.job.yaml")
    unknown["spec"]["template"]["spec"]["securityContext"]["runAsNonRot"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(unknown, "1.31", strict=True)


def test_a_pod_has_the_rights_that_compose_gives() -> None:
    """Nobody is root, nothing is writable but scratch and results, no right, no token, no network."""
    for name in ("batch-kubernetes.job.yaml", "batch-kubernetes-gpu.job.yaml"):
        made = job(name)
        pod = made["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["restartPolicy"] == "Never"
        assert pod["terminationGracePeriodSeconds"] == 30
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "hostNetwork" not in pod
        for one in containers(made):
            own = one["securityContext"]
            assert own == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": list(sandbox.RIGHTS.cap_drop)},
                "readOnlyRootFilesystem": sandbox.RIGHTS.read_only,
            }
            assert one["resources"]["limits"].keys() >= {"cpu", "memory"}
            assert "@sha256:" in one["image"]
            writable = {m["mountPath"] for m in one["volumeMounts"] if not m.get("readOnly")}
            halves = one["name"] in ("begin", "publish")
            assert writable == ({"/results", "/scratch", "/tmp"} if halves else {"/scratch/jobs", "/tmp"})
        policy = job(name.replace("job.yaml", "network-policy.yaml"))
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert not {"ingress", "egress"} & policy["spec"].keys(), "no rule: nothing is let through"
        chosen = policy["spec"]["podSelector"]["matchLabels"].items()
        assert chosen <= made["spec"]["template"]["metadata"]["labels"].items()


def test_stages_are_init_containers_in_order_and_exit_codes_say_what_is_tried_again() -> None:
    made = job("batch-kubernetes-gpu.job.yaml")
    names = [one["name"] for one in containers(made)]
    assert names == ["begin", "demux", "vad", "asr", "diarize", "align", "subtitles", "mux", "publish"]
    spec = made["spec"]
    assert spec["completionMode"] == "Indexed"
    assert (spec["completions"], spec["parallelism"], spec["suspend"]) == (3, 2, True)
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "nightly"
    ignored, final = spec["podFailurePolicy"]["rules"]
    assert ignored == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert final == {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [2, 5, 8]}}
    gpus = {one["name"]: one["resources"]["limits"].get("nvidia.com/gpu") for one in containers(made)}
    assert {name: count for name, count in gpus.items() if count} == {"asr": 1}
    begin = next(containers(made))
    assert begin["command"][begin["command"].index("--first") + 1] == "40"
    weights = [one["name"] for one in containers(made) if any(m["name"] == "weights" for m in one["volumeMounts"])]
    assert weights == ["vad", "asr", "diarize"] or set(weights) >= {"vad", "asr", "diarize"}


@pytest.mark.parametrize("path", NAMES)
def test_any_path_comes_out_of_a_manifest_as_it_went_in(path: str) -> None:
    options = replace(batches.HOSTS, input=Volume(path=path), batch=Volume(path=path))
    made = yaml.safe_load(kubernetes.render(batches.batch(), options, templates())["job.yaml"])
    volumes = {v["name"]: v for v in made["spec"]["template"]["spec"]["volumes"]}
    assert volumes["input"]["hostPath"]["path"] == volumes["batch"]["hostPath"]["path"] == path
    assert made["spec"]["completions"] == 3


@pytest.mark.parametrize("path", NAMES)
def test_any_path_is_one_word_of_slurms_script(path: str, tmp_path: Path) -> None:
    """Bash gives the node program the folder as it is called, and nothing of it is a command or an option of sbatch."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\0" "$@" > args\n')
    python.chmod(0o755)
    options = slurm.SlurmOptions(folder=path, here=str(tmp_path), python=str(python))
    script = slurm.render(batches.batch(native=True), options, templates())[slurm.FILE]
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "args").read_bytes().decode().split("\0")[:4] == ["-I", "batch.pyz", "run", path]
    head = script.split("\n\n", 1)[0].splitlines()
    plain = slurm.render(batches.batch(native=True), replace(options, folder="/srv/plain"), templates())[slurm.FILE]
    assert head == plain.split("\n\n", 1)[0].splitlines(), "sbatch reads its options from lines of the head"
    assert not [line for line in script.split("\n\n", 1)[1].splitlines() if line.startswith("#SBATCH")]
    assert "\r" not in script, "sbatch takes no such script"


def test_slurms_script_is_bash_and_ends_with_the_programs_code(tmp_path: Path) -> None:
    """A machine's fault is queued again a few times; what another try wouldn't change, and a cancelled job, are not."""
    for name in ("squeue", "scontrol", "python"):
        (tmp_path / name).write_text(FAKES[name])
        (tmp_path / name).chmod(0o755)
    options = slurm.SlurmOptions(folder="/srv/b", here=str(tmp_path), python=str(tmp_path / "python"))
    script = tmp_path / "run.sh"
    script.write_text(slurm.render(batches.batch(native=True), options, templates())[slurm.FILE])
    assert subprocess.run(["bash", "-n", script], capture_output=True, check=False).returncode == 0
    for code, state, count, requeued in (
        (0, "RUNNING", "0", False),
        (2, "RUNNING", "0", False),
        (5, "RUNNING", "0", False),
        (8, "RUNNING", "0", False),
        (3, "RUNNING", "0", True),
        (143, "RUNNING", "1", True),
        (3, "RUNNING", str(slurm.RETRIES), False),
        (143, "COMPLETING", "0", False),
    ):
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "CODE": str(code), "STATE": state, "SLURM_JOB_ID": "71"}
        env["SLURM_RESTART_COUNT"] = count
        (tmp_path / "requeued").unlink(missing_ok=True)
        done = subprocess.run(["bash", script], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert (tmp_path / "requeued").exists() == requeued, (code, state, count)


FAKES = {
    "squeue": '#!/bin/sh\necho "$STATE"\n',
    "scontrol": '#!/bin/sh\necho "$@" > requeued\n',
    "python": '#!/bin/sh\nexit "$CODE"\n',
}
"""Programs of Slurm and the node, as the script uses them; tests/clusters has real ones."""


def test_sigterm_reaches_the_program_and_its_code_comes_back(tmp_path: Path) -> None:
    (tmp_path / "python").write_text(PATIENT)
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "squeue").write_text("#!/bin/sh\necho COMPLETING\n")
    (tmp_path / "squeue").chmod(0o755)
    options = slurm.SlurmOptions(folder="/srv/b", here=str(tmp_path), python=str(tmp_path / "python"))
    script = slurm.render(batches.batch(native=True), options, templates())[slurm.FILE]
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "71"}
    with subprocess.Popen(["bash", "-c", script], env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(timeout=60) == 143
    assert (tmp_path / "heard").exists()


PATIENT = """\
#!/bin/bash
trap 'touch heard; kill "$!"; exit 143' TERM
echo ready
sleep 60 &
wait
"""
"""Ends with the code of a node program that was asked to end."""


def test_more_shards_than_an_array_has_are_several_arrays() -> None:
    one = batches.batch(native=True, first=7, shards=2500)
    first, second, third = slurm.submissions(one)
    assert first == "sbatch batch.sbatch"
    assert "BATCH_FIRST=1007 --array=0-999%2 " in second
    assert "BATCH_FIRST=2007 --array=0-499%2 " in third
    options = slurm.SlurmOptions(folder="/b", here="/b/slurm", python="python3")
    script = slurm.render(one, options, templates())[slurm.FILE]
    assert "#SBATCH --array=0-999%2\n" in script
    assert "first=${BATCH_FIRST:-7}\n" in script


def test_no_name_stands_in_htcondors_submit_file(rendered: dict[str, str]) -> None:
    """Its language can't quote commas and line ends: recordings are links in a folder, and shards are numbers."""
    submit = rendered["batch-htcondor.batch.sub"]
    assert rendering.batch_name(batches.FOLDER, batches.CREATED) in submit
    for path in NAMES:
        named = replace(batches.batch(), name=rendering.batch_name(path, batches.CREATED))
        made = htcondor.render(named, templates(), beside=False)
        assert made["batch.sub"].count("\n") == submit.count("\n") - 1, "the GPU's line, and nothing else"
        assert re.fullmatch(r"0, 00000, [0-9]+\n1, 00001, [0-9]+\n2, 00002, [0-9]+\n", made["shards.txt"])
    settings = dict(line.split(" = ", 1) for line in submit.splitlines() if " = " in line and line[0] != "#")
    assert settings["should_transfer_files"] == "YES"
    assert settings["on_exit_hold_subcode"] == "ExitCode"
    assert "$(name).jsonl, input/$(name), beside" in settings["transfer_input_files"]
    assert "success_exit_code" not in settings, "HTCondor would transfer nothing of a shard with another code"


def test_a_shard_without_recordings_is_no_job_of_htcondor() -> None:
    table = ShardTable(0, 3)
    table.add(1, 60.0, 1_000_000)
    made = htcondor.render(replace(batches.batch(), shards=table.shards), templates(), beside=False)
    assert [line.split(",")[0] for line in made["shards.txt"].splitlines()] == ["1"]


@pytest.mark.parametrize("folder", [*NAMES, "/srv/", "/srv/---", "/srv/ÀÉ", f"/srv/{'x' * 300}", "/srv/\udcff"])
def test_a_batchs_name_is_one_that_every_engine_takes(folder: str) -> None:
    name = rendering.batch_name(folder, batches.CREATED)
    assert kubernetes.DNS_LABEL.fullmatch(name)
    job_name = kubernetes.job_name(replace(batches.batch(), name=name, first=9_999_999))
    assert len(f"{job_name}-99999") <= 63, "a pod's host name is the Job's, and its index"
    assert kubernetes.DNS_LABEL.fullmatch(job_name)


def test_steps_give_containers_the_rights_that_compose_gives(rendered: dict[str, str]) -> None:
    made = json.loads(rendered["batch-htcondor.steps.json"])["steps"]
    assert [step["stage"] for step in made][:3] == ["demux", "vad", "asr"]
    for step in made:
        words = step["argv"]
        assert words[:3] == ["podman", "run", "--rm"]
        for option, value in (
            ("--network", sandbox.RIGHTS.network),
            ("--cap-drop", "ALL"),
            ("--security-opt", "no-new-privileges"),
            ("--tmpfs", sandbox.RIGHTS.tmpfs),
        ):
            assert words[words.index(option) + 1] == value
        assert "--read-only" in words
        assert next(w for w in words if w.startswith("type=bind")) == "type=bind,source={scratch}/jobs,target=/jobs"
        assert ("--device" in words) == (step["stage"] == "asr")
        assert step["end"][-1] == f"whisperbake-{{run}}-{step['stage']}"


def test_what_the_node_program_fills_in_or_podman_splits_is_refused() -> None:
    stages = rendering.stages_of(batches.template())
    with pytest.raises(ConfigError, match="fills in"):
        steps.native(stages, python="/srv/{run}/python", apart={}, code="/srv/stages", models="/srv/models")
    with pytest.raises(ConfigError, match="UTF-8"):
        steps.native(stages, python="/srv/\udcff/python", apart={}, code="/srv/stages", models="/srv/models")
    images = batches.images(batches.template())
    with pytest.raises(ConfigError, match="mounted by podman"):
        steps.podman(stages, images=images, pull=False, models="/srv/a,readonly=false")


@pytest.mark.parametrize("text", ["", "/x", "Claim", "claim/../x", "a b", "claim\n", "-x", f"{'x' * 254}"])
def test_a_claim_is_a_name_and_a_folder_in_it(text: str) -> None:
    with pytest.raises(UsageError, match="claim"):
        kubernetes.volume(text, where="--input-claim")


def test_claims_with_and_without_a_folder() -> None:
    assert kubernetes.volume("archive", where="") == Volume(claim="archive")
    assert kubernetes.volume("my.archive/tapes/1961 '\"/", where="") == Volume(
        claim="my.archive", path="tapes/1961 '\""
    )


@pytest.mark.parametrize("text", ["weights", "registry.example/weights:1", f"r.example/w@sha256:{'g' * 64}", "a b"])
def test_weights_are_an_image_by_digest(text: str) -> None:
    with pytest.raises(UsageError, match="by digest"):
        kubernetes.require_reference(text, where="--weights-image")
    assert kubernetes.require_reference(batches.WEIGHTS, where="") == batches.WEIGHTS


def test_one_job_has_no_more_shards_than_kubernetes_takes() -> None:
    many = replace(batches.batch(), shards=batches.batch().shards * 40_000)
    with pytest.raises(UsageError, match="at most 100000 shards"):
        kubernetes.render(many, batches.CLAIMS, templates())


def test_what_is_asked_of_a_node_grows_with_its_shard() -> None:
    table = ShardTable(0, 1)
    table.add(0, 3600.0, 2_000_000_000)
    table.add(5, 10.0, 10)
    (shard,) = table.shards
    assert (shard.items, shard.seconds, shard.bytes, table.longest) == (1, 3600.0, 2_000_000_000, 3600.0)
    assert shard.disk == 3 * 2_000_000_000 + 3600 * 96_000 + 1_000_000_000
    one = replace(batches.batch(), shards=table.shards)
    assert (one.minutes, one.memory) == (60 + 480, max(step.limit for step in one.steps))


def test_what_a_person_is_to_type_is_one_word_a_folder(rendered: dict[str, str]) -> None:
    for name, text in rendered.items():
        if name.endswith("README.md"):
            lines = [line for line in text.splitlines() if line.startswith("python3 build.py batch ")]
            assert len(lines) == 4, name
            for line in lines:
                quoted = line.split("# N:")[0].split("   #")[0]
                echoed = subprocess.run(
                    ["bash", "-c", f"printf '%s\\0' {quoted}"], capture_output=True, text=True, check=True
                )
                assert batches.FOLDER in echoed.stdout.split("\0"), line
