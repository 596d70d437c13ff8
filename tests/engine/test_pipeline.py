"""The commands of a rendered pipeline, run one job after the other against a real registry: cold, and from its cache."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from builder.core.config.types import NetworkSpec
from builder.edges.images import site as network
from tests.engine import private_engine
from tests.engine.conftest import ROOT, Engine, copy_project
from tests.process.registry_server import PASSWORD, USER, Server, htpasswd
from tests.process.registry_server import registry as run_registry

ELSEWHERE = ("apt-get ", "# A builder of its own")
"""What a runner has to install or make first. The builder's image can't be pulled here; this engine needs none."""


@pytest.mark.parametrize(
    "names", [("subtitles",), pytest.param((), marks=pytest.mark.heavy)], ids=["one image", "every image"]
)
def test_a_pipeline_builds_and_pushes_and_then_takes_all_from_the_cache(
    state: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    """An engine that never saw the project: first every step runs, then none; the images are the same."""
    if why := private_engine.why_not():
        assert os.environ.get("CI", "").lower() not in ("1", "true"), why
        pytest.skip(why)
    project = copy_project(tmp_path)
    (project / "build.py").write_text(
        f"import os, sys\nos.execv(sys.executable, [sys.executable, {str(ROOT / 'build.py')!r}, *sys.argv[1:]])\n"
    )
    home = tmp_path / "home"  # without models: a runner has none
    (home / "cache").mkdir(parents=True)
    (home / "cache/base").symlink_to(state.resolve() / "cache/base")
    with (
        run_registry(tmp_path / "registry", auth=htpasswd(tmp_path / "registry")) as server,
        private_engine.engine("containerd") as host,
        network.secrets(network.find(NetworkSpec(), os.environ)) as secrets,
    ):
        engine = Engine(host, "containerd", "whisperbake", home)
        choice = ("--mode", "docker-cpu", "--preset", "tiny-en")
        made = engine.bake("ci", "gitlab", *names, *choice, "--out", project / ".gitlab-ci.yml", root=project)
        assert made.code == 0, made.err
        rendered = engine.bake("render", *choice, "--out", project / "rendered", root=project)
        assert rendered.code == 0, rendered.err
        (project / "rendered/rootfs.tar").unlink()  # too large to commit: the pipeline makes it
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "DOCKER_CONFIG": str(tmp_path / "docker"),
            "DOCKER_HOST": host,
            "BAKE_HOME": str(home),
            **secrets,
            "CI_REGISTRY_IMAGE": f"{server.host}/Team/Speech",
            "CI_REGISTRY_USER": USER,
            "CI_REGISTRY_PASSWORD": PASSWORD,
            "CI_COMMIT_SHA": "0" * 40,
            "PUSH": "true",
        }
        jobs = run(project, env)
        cold = {name: steps(log) for name, log in jobs.items() if name != "render"}
        assert any(ran for ran, _ in cold.values())
        wanted = (
            {"subtitles", "base"}
            if names
            else {"base", "base-ml", "demux", "mux", "subtitles", "align", "asr", "vad", "diarize"}
        )
        assert {name.removeprefix("image-") for name in cold} == wanted
        first = digests(server)
        assert {f"team/speech/{name}" for name in wanted} <= set(first)
        empty_cache(engine)
        cached = {name: steps(log) for name, log in run(project, env).items() if name != "render"}
        assert {name: ran for name, (ran, _) in cached.items()} == dict.fromkeys(cold, 0), "a step ran again"
        assert all(count for _, count in cached.values())
        assert {r: d for r, d in digests(server).items() if "cache" not in r} == {
            r: d for r, d in first.items() if "cache" not in r
        }
        reference = f"{server.host}/team/speech/subtitles:slim-cpu"
        login = engine.env | {"DOCKER_CONFIG": str(tmp_path / "docker")}
        pulled = subprocess.run(["docker", "pull", "--quiet", reference], env=login, capture_output=True, text=True)
        assert pulled.returncode == 0, pulled.stderr
        shown = engine.docker("run", "--rm", "--network", "none", reference, "--help")
        assert shown.code == 0, shown.err


def empty_cache(engine: Engine) -> None:
    """With the command for it, which says first how much there is."""
    assert engine.bake("prune", "--builder", "--dry-run", "--json").data["builder"] > 0
    assert engine.docker("buildx", "du").out.count("\n") > 6, "a dry run removes nothing"
    done = engine.bake("prune", "--builder", "--json")
    assert done.code == 0, done.err
    assert done.data["builder"] > 0
    assert engine.docker("buildx", "du").out.count("\n") <= 6, "the engine's own cache was not emptied"


def run(project: Path, env: dict[str, str]) -> dict[str, str]:
    """Run the jobs of .gitlab-ci.yml in the order of their needs, each in a shell of its own; their output."""
    pipeline = yaml.safe_load((project / ".gitlab-ci.yml").read_text())
    outputs: dict[str, str] = {}
    jobs = {name: job for name, job in pipeline.items() if isinstance(job, dict) and "script" in job}
    while len(outputs) < len(jobs):
        name = next(n for n, job in jobs.items() if n not in outputs and set(job.get("needs", [])) <= outputs.keys())
        job = {**pipeline.get(jobs[name].get("extends", ""), {}), **jobs[name]}
        words = [w for w in [*job.get("before_script", []), *job["script"]] if not w.startswith(ELSEWHERE)]
        variables = {n: v for n, v in pipeline["variables"].items() if not n.startswith("DOCKER_")} | {"PUSH": "true"}
        filled = {n: re.sub(r"\$(\w+)", lambda m: env.get(m[1], ""), str(v)) for n, v in variables.items()}
        argv = ["bash", "-eo", "pipefail", "-c", "\n".join(words)]
        given = {n: v for n, v in env.items() if name != "render" or not n.startswith("BAKE_") or n == "BAKE_HOME"}
        done = subprocess.run(argv, cwd=project, env={**filled, **given}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{name}: {done.stdout[-1000:]}{done.stderr[-3000:]}"
        assert PASSWORD not in done.stdout + done.stderr
        outputs[name] = done.stdout + done.stderr
    return outputs


def steps(log: str) -> tuple[int, int]:
    """RUN steps that ran, and those that a cache had."""
    runs = set(re.findall(r"^#(\d+) \[\S+ +\d+/\d+\] RUN ", log, re.MULTILINE))
    cached = set(re.findall(r"^#(\d+) CACHED", log, re.MULTILINE))
    return len(runs - cached), len(runs & cached)


def digests(server: Server) -> dict[str, str]:
    """Digest of each repository's tag, from the registry's own storage."""
    root = server.folder / "data/docker/registry/v2/repositories"
    links = root.rglob("_manifests/tags/*/current/link")
    return {f"{p.relative_to(root).as_posix().partition('/_manifests')[0]}": p.read_text() for p in links}
