"""Pipelines, byte for byte, and what is never in them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import check_jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result

from builder.errors import UsageError
from tests import loopback
from tests.golden import project
from tests.golden.pipelines import CASES, MONTHLY, rendered
from tests.golden.project import FILES


@pytest.mark.parametrize("name", CASES)
def test_the_pipeline_is_as_it_was(name: str) -> None:
    """A change of a template shows here, in the words that the service will read."""
    assert rendered(*CASES[name]) == (FILES / f"{name}.yml").read_text()


def scripts(pipeline: dict[str, Any], job: str) -> str:
    """All shell of a job, whichever service's."""
    if "jobs" in pipeline:
        return "\n".join(step["run"] for step in pipeline["jobs"][job]["steps"] if "run" in step)
    found = {**pipeline.get(pipeline[job].get("extends", ""), {}), **pipeline[job]}
    return "\n".join([*found.get("before_script", []), *found["script"]])


def test_both_services_run_the_same_commands_for_every_image() -> None:
    """One job an image of the plan, after its parent's; the command that builds is the same word for word."""
    both = [yaml.safe_load(rendered(service, "docker-cpu-slim", None)) for service in ("github", "gitlab")]
    targets = json.loads(project.rendered(*project.CASES["docker-cpu-slim"])["docker-bake.json"])["target"]
    jobs = [set(both[0]["jobs"]), {name for name in both[1] if name.startswith("image-") or name == "render"}]
    assert jobs[0] == jobs[1] == {"render", *(f"image-{name}" for name in targets)}
    for name in targets:
        builds = [scripts(one, f"image-{name}").partition("REGISTRY=$(")[2].strip() for one in both]
        assert builds[0] == builds[1]
        assert "docker buildx bake --file docker-bake.json" in builds[0]
    assert both[0]["jobs"]["image-asr"]["needs"] == both[1]["image-asr"]["needs"] == ["render", "image-base-ml"]


@pytest.mark.parametrize("service", ["github", "gitlab"])
def test_secrets_are_variables_of_the_service(service: str) -> None:
    """A token or password is named, never written; a hub token only where a model is gated."""
    for registry in (None, "registry.example/x"):
        text = rendered(service, "docker-cpu-slim", registry, gated=True)
        assert "HF_TOKEN" in text
        assert "HF_TOKEN" not in rendered(service, "docker-cpu-slim", registry)
        for line in text.splitlines():
            if "PASSWORD:" in line or "HF_TOKEN:" in line:
                assert "${{ secrets." in line
            if "REGISTRY_PASSWORD=" in line:
                assert line.split()[-1] == "REGISTRY_PASSWORD=$CI_REGISTRY_PASSWORD"
        assert "--password-stdin" in text
        assert "--password " not in text


def test_odd_words_never_reach_a_shell() -> None:
    """Services and folders that aren't are refused, with what was expected."""
    for service, folder in (
        ("jenkins", "rendered"),
        ("github", "/tmp/x"),
        ("github", "../x"),
        ("github", "a;b"),
        ("github", "-x"),
    ):
        with pytest.raises(UsageError):
            rendered(service, "docker-cpu-slim", None, folder=folder)


@pytest.mark.parametrize(
    "schedule", ["monthly", "0 4 1 *", "0 4 1 * * *", '0 4 1 * *"', "0 4 1 * *\n", "@daily", "0 4 1 * ${{"]
)
def test_what_is_no_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(UsageError, match="no schedule"):
        rendered("github", "docker-cpu-slim", None, schedule)


def test_actions_are_named_by_commit() -> None:
    """Whoever takes over an action's repository can move its tags."""
    used = re.findall(r"uses: (.*)", rendered(*CASES["github"]))
    assert used
    assert [one for one in used if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}  # v[0-9.]+", one)] == []


@pytest.mark.parametrize("service", ["github", "gitlab"])
def test_a_schedule_looks_at_the_hub_and_tells_of_a_failure(service: str) -> None:
    """And nothing of it is there without one."""
    plain, made = (yaml.safe_load(rendered(service, "docker-cpu-slim", None, when)) for when in (None, MONTHLY))
    jobs, before = (one["jobs"] if service == "github" else one for one in (made, plain))
    assert set(jobs) - set(before) == {"models", "failed"}
    assert "models outdated" in scripts(made, "models")
    if service == "github":
        assert made[True]["schedule"] == [{"cron": MONTHLY}]  # YAML's "on"
        assert set(jobs["failed"]["needs"]) == set(jobs) - {"failed"}
        assert all("schedule" in jobs[name]["if"] for name in ("models", "failed"))
    else:
        assert all("schedule" in jobs[name]["rules"][0]["if"] for name in ("models", "failed"))


def test_the_hook_gets_what_chats_expect(tmp_path: Path) -> None:
    """A POST with a text in JSON, by the shell that both services run; without an address nobody is told."""
    got: list[tuple[str, Any]] = []

    class Handler(loopback.Handler):
        def do_POST(self) -> None:
            got.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.reply(200, b"")

    server = loopback.server_of(Handler)
    script = scripts(yaml.safe_load(rendered("github", "docker-cpu-slim", None, MONTHLY)), "failed")
    run = ["sh", "-euc", script]
    env = {"PATH": os.environ["PATH"], "RUN": "https://ci.example/runs/7", "NO_PROXY": "127.0.0.1"}
    with loopback.answering(server):
        subprocess.run(run, cwd=tmp_path, env={**env, "FAILURE_HOOK": ""}, check=True)
        assert got == []
        hook = f"http://127.0.0.1:{server.server_port}/hooks/secret?a=b"
        subprocess.run(run, cwd=tmp_path, env={**env, "FAILURE_HOOK": hook}, check=True)
    text = "whisperbake: the scheduled images failed: https://ci.example/runs/7"
    assert got == [("/hooks/secret?a=b", {"text": text})]


def checked(kind: str, *files: Path) -> Result:
    """GitHub's and GitLab's published JSON schemas, which come with check-jsonschema."""
    schema = ["vendor.github-workflows"] if kind == "github" else ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]
    return CliRunner().invoke(check_jsonschema.main, ["--builtin-schema", *schema, *map(str, files)])


@pytest.mark.parametrize("kind", ["github", "gitlab"])
def test_the_services_own_schemas_accept_it(kind: str) -> None:
    """What GitHub or GitLab would refuse shows here, not after a push."""
    done = checked(kind, *(FILES / f"{name}.yml" for name, (service, *_) in CASES.items() if service == kind))
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("kind", ["github", "gitlab"])
def test_the_schemas_would_refuse_a_pipeline_that_is_none(kind: str, tmp_path: Path) -> None:
    """The check above can fail."""
    made = yaml.safe_load(rendered(*CASES[kind]))
    job = made["jobs"]["image-asr"] if kind == "github" else made["image-asr"]
    job.pop("runs-on" if kind == "github" else "script")
    job["needs"] = 7
    (tmp_path / "x.yml").write_text(yaml.safe_dump(made))
    done = checked(kind, tmp_path / "x.yml")
    assert done.exit_code == 1, done.output
    assert "needs" in done.output
