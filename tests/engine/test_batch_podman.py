"""A batch's Kubernetes Job, pod by pod in ``podman kube play``: the results are those of native shards."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clusters import batches
from tests.clusters import podman as pods
from tests.clusters.podman import Podman
from tests.engine.conftest import ONE_STORE, Engine
from tests.process.registry_server import Server
from tests.process.registry_server import registry as run_registry
from tests.shared import SAME

pytestmark = pytest.mark.heavy

NAMES = ('a, "b".wav', "it's $(reboot).wav", "new\nline.wav", "ünï.wav", "plain.wav", "changed.wav")
JOB = (*SAME, "--preset", "tiny-en", "--shard-minutes", "0.3")


@pytest.fixture(scope="module")
def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def cache(request: pytest.FixtureRequest) -> Path:
    """Where the Debian is kept from run to run."""
    if why := pods.why_not():
        assert os.environ.get("CI", "").lower() not in ("1", "true"), f"CI has all that is needed: {why}"
        pytest.skip(f"needs root, mmdebstrap and namespaces: {why}")
    return Path(request.config.cache.mkdir("podman"))  # type: ignore[union-attr]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "Tapes of '$x'"
    (folder / "a, b").mkdir(parents=True)
    for k, clip in enumerate(batches.clips(tmp_path / "clips", len(NAMES))):
        shutil.move(clip, folder / ("a, b" if k % 2 else ".") / NAMES[k])
    return folder


def native(engine: Engine, recordings: Path, batch: Path) -> dict[str, str]:
    """An item's key -> the digest of its result, by shards on this machine."""
    alone = {"DOCKER_HOST": "unix:///nowhere.sock"}
    done = engine.bake("batch", "plan", recordings, "--out", batch, *JOB, "--mode", "native", "--json", env=alone)
    assert done.code == 0, done.err
    for shard in range(done.data["shards"]):
        ran = engine.bake("batch", "run", batch, "--shard", str(shard), env=alone)
        assert ran.code == 0, ran.err
    return batches.digests(batch / "results")


def played(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Each index of the rendered Job: its pod's name, the pod as YAML, the ConfigMap that kustomize would make.

    Podman knows no Jobs with indexes: the pod gets the variable that Kubernetes gives it.
    """
    job = yaml.safe_load((folder / "job.yaml").read_text())
    made = yaml.safe_load((folder / "kustomization.yaml").read_text())["configMapGenerator"][0]
    data = {name: base64.b64encode((folder / name).read_bytes()).decode() for name in made["files"]}
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": made["name"]}, "binaryData": data}
    for index in range(job["spec"]["completions"]):
        template = json.loads(json.dumps(job["spec"]["template"]))
        for container in (*template["spec"]["initContainers"], *template["spec"]["containers"]):
            container.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "value": str(index)})
        name = f"{job['metadata']['name']}-{index}"
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **template["metadata"]}}
        yield name, yaml.safe_dump({**pod, "spec": template["spec"]}), yaml.safe_dump(code)


PLAY = """\
podman kube play --network none --configmap {code} {pod} >&2 || exit 1
podman wait {name}-publish
podman logs {name}-publish >&2
podman inspect {name}-publish
podman pod rm --force {name} >&2
"""


def play(podman: Podman, rendered: Path, folder: Path) -> tuple[list[int], list[dict[str, Any]]]:
    """Play every pod: the exit codes of publish, and its containers as podman describes them."""
    codes: list[int] = []
    containers: list[dict[str, Any]] = []
    for name, pod, code in played(rendered):
        (folder / "pod.yaml").write_text(pod)
        (folder / "code.yaml").write_text(code)
        ran = podman.run(PLAY.format(name=name, pod=folder / "pod.yaml", code=folder / "code.yaml"))
        assert ran.returncode == 0, ran.stderr
        first, _, rest = ran.stdout.partition("\n")
        codes.append(int(first))
        containers += json.loads(rest)
    return codes, containers


def require_few_rights(container: dict[str, Any]) -> None:
    """What Kubernetes is asked for, podman gives: nobody's user, no capability, nothing writable but results and scratch."""
    assert container["Config"]["User"] == "65532:65532"
    assert not container["EffectiveCaps"]
    assert container["HostConfig"]["ReadonlyRootfs"] is True
    assert container["HostConfig"]["Memory"] > 0
    assert container["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
    assert {m["Destination"] for m in container["Mounts"] if m["RW"]} == {"/results", "/scratch", "/tmp"}


def planned(
    engine: Engine,
    server: Server,
    recordings: Path,
    batch: Path,
    *words: str,
    user: int,
    env: Mapping[str, str] | None = None,
    mounted: bool = False,
) -> tuple[int, Path]:
    """A batch of docker-cpu whose images are in the registry, rendered: its number of shards, the folder.

    Args:
        words: options of batch render.
        user: who writes results.
        mounted: weights come from the weights image that was pushed.
    """
    place = f"127.0.0.1:{server.port}/wb"
    pushed = engine.bake("push", "--mode", "docker-cpu", "--registry", place, "--json", env=env)
    assert pushed.code == 0, pushed.err
    done = engine.bake("batch", "plan", recordings, "--out", batch, *JOB, "--mode", "docker-cpu", "--json", env=env)
    assert done.code == 0, done.err
    if mounted:
        weights = next(i["digest"] for i in pushed.data["images"] if i["reference"].endswith("/weights:tiny-en"))
        words = (*words, "--weights-image", f"{place}/weights@{weights}")
    rendered = engine.bake("batch", "render", batch, *words, "--registry", place, "--json", env=env)
    assert rendered.code == 0, rendered.err
    digests = {image["digest"] for image in pushed.data["images"]}
    assert {step["image"].partition("@")[2] for step in rendered.data["steps"]} <= digests
    for path in (batch / "results", *(batch / "results").rglob("*")):
        os.chown(path, user, user)
    return done.data["shards"], Path(rendered.data["folder"])


@ONE_STORE
def test_pods_give_what_native_shards_give(
    engine: Engine, built: Any, server: Server, cache: Path, recordings: Path, tmp_path: Path
) -> None:
    """Images come from a registry by digest, nothing but results can be written, and one recording fails alone."""
    expected = native(engine, recordings, tmp_path / "native")
    assert len(expected) == len(NAMES)
    batch = tmp_path / "B"
    words = ("--for", "kubernetes", "--host-path", "--user", "65532:65532")
    shards, folder = planned(engine, server, recordings, batch, *words, user=65532)
    assert shards > 1
    changed = next(item for item in batches.items(batch) if str(item["path"]).endswith("changed.wav"))
    os.utime(recordings / str(changed["path"]), (1, 1))
    tmp_path.chmod(0o755)
    with pods.podman(tmp_path / "podman", cache, registry=f"127.0.0.1:{server.port}", folders=[tmp_path]) as podman:
        codes, containers = play(podman, folder, tmp_path)
    assert sorted(codes) == [0] * (shards - 1) + [8]
    found = batches.digests(batch / "results")
    assert found == {key: digest for key, digest in expected.items() if key != changed["key"]}
    assert batches.leftovers(batch / "results") == []
    failed = json.loads((batch / f"results/{str(changed['key'])[:2]}/{changed['key']}.failed.json").read_text())
    assert "changed after the plan" in failed["reason"]
    for container in containers:
        require_few_rights(container)
    status = engine.bake("batch", "status", batch, "--json").data
    assert (status["done"], status["failed"]) == (len(NAMES) - 1, 1)


SHARD = """\
cd {folder}
SLURM_ARRAY_TASK_ID={shard} bash batch.sbatch >&2
echo $?
podman ps --all --quiet
"""


@ONE_STORE
def test_slurms_containers_of_a_user_without_rights_give_the_same(
    engine: Engine, built: Any, server: Server, cache: Path, recordings: Path, tmp_path: Path
) -> None:
    """Rootless podman starts the stages, with no cgroup of its own; no container is left."""
    expected = native(engine, recordings, tmp_path / "native")
    batch = tmp_path / "B"
    shards, folder = planned(engine, server, recordings, batch, "--for", "slurm", user=pods.USER[1])
    tmp_path.chmod(0o755)
    with pods.podman(tmp_path / "podman", cache, registry=f"127.0.0.1:{server.port}", folders=[tmp_path]) as podman:
        for shard in range(shards):
            ran = podman.as_user(SHARD.format(folder=folder, shard=shard))
            assert (ran.returncode, ran.stdout) == (0, "0\n"), ran.stderr
    assert batches.digests(batch / "results") == expected
    assert batches.leftovers(batch / "results") == []


@ONE_STORE
def test_podman_mounts_the_weights_of_images_that_have_none(
    engine: Engine, built: Any, server: Server, cache: Path, recordings: Path, tmp_path: Path
) -> None:
    """Rootless, without a network: images carry no model, the weights image is mounted, and the bytes are native's."""
    expected = native(engine, recordings, tmp_path / "native")
    env = {"BAKE_WEIGHTS": "mounted", "BAKE_REGISTRY": f"{engine.prefix}-mounted"}
    done = engine.bake("build", "--mode", "docker-cpu", env=env)
    assert done.code == 0, done.err
    batch, words = tmp_path / "B", ("--for", "slurm")
    shards, folder = planned(engine, server, recordings, batch, *words, user=pods.USER[1], env=env, mounted=True)
    argv = [step["argv"] for step in json.loads((folder / "steps.json").read_text())["steps"]]
    (mount,) = {word for words in argv for word in words if word.startswith("type=image")}
    image = mount.partition("source=")[2].partition(",")[0]
    assert not any("target=/models" in word for words in argv for word in words)
    tmp_path.chmod(0o755)
    with pods.podman(tmp_path / "podman", cache, registry=f"127.0.0.1:{server.port}", folders=[tmp_path]) as podman:
        pulled = podman.as_user(f"podman pull --quiet {image}")
        assert pulled.returncode == 0, pulled.stderr
        for shard in range(shards):
            ran = podman.as_user(SHARD.format(folder=folder, shard=shard))
            assert (ran.returncode, ran.stdout) == (0, "0\n"), ran.stderr
    assert batches.digests(batch / "results") == expected
    assert batches.leftovers(batch / "results") == []
