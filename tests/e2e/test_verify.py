"""``verify`` of a job that ran: from a subtitle to what made it, what was changed since, and a second run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.core.signatures import simple
from builder.edges.images.layout import Layout
from builder.edges.signing import kept, keys
from tests.e2e.conftest import ROOT, Bake
from tests.process.test_registry_commands import assembled
from tests.process.test_signatures import made_pair

NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere.sock"}


@pytest.fixture
def job(transcribed: Path, tmp_path: Path) -> Path:
    """The example's finished job, to change."""
    folder = tmp_path / "jobs" / transcribed.name
    shutil.copytree(transcribed, folder)
    return folder


def verified(bake: Bake, *words: str | Path, code: int = 0) -> dict[str, Any]:
    done = bake("verify", *words, "--json", env=NO_ENGINE)
    assert done.code == code, done.err
    return dict(json.loads(done.out))


def broken(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(link["kind"], link["of"]) for link in found["links"] if link["verdict"] == "broken"]


def test_a_subtitle_leads_to_all_that_made_it(bake: Bake, job: Path, tmp_path: Path) -> None:
    """Named as a job, as a file of it, and as a copy of that file anywhere."""
    found = verified(bake, job.name)
    kinds = {link["kind"] for link in found["links"]}
    assert {"recording", "request", "settings", "code", "weights", "inputs", "outputs", "result"} <= kinds
    assert [link["kind"] for link in found["links"] if link["verdict"] != "holds"] == ["image"], found
    result = job / "output/dialogue.srt"
    copy = tmp_path / "delivered.srt"
    shutil.copyfile(result, copy)
    for word in (result, copy):
        found = verified(bake, word)
        assert found["name"] == job.name
        assert [link["of"] for link in found["links"] if link["kind"] == "result"] == ["output/dialogue.srt"]
        assert broken(found) == []


def change(path: str) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        data = (folder / path).read_bytes()
        (folder / path).unlink()  # not the other copies of a hard link
        (folder / path).write_bytes(data + b" ")

    return changed


def settings(folder: Path) -> None:
    path = folder / "work/asr/manifest.json"
    made = json.loads(path.read_text())
    made["settings"] = {**made["settings"], "beam_size": 99}
    path.write_text(json.dumps(made))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (change("output/dialogue.srt"), [("result", "output/dialogue.srt")]),
        (change("work/asr/01.json"), [("outputs", "asr")]),
        (change("input/01.mp4"), [("recording", "dialogue.mp4"), ("inputs", "demux"), ("inputs", "mux")]),
        (settings, [("settings", "asr")]),
    ],
)
def test_what_was_changed_since_is_broken(
    changed: Callable[[Path], None], expected: list[tuple[str, str]], bake: Bake, job: Path
) -> None:
    changed(job)
    assert broken(verified(bake, job.name, code=5)) == expected


def test_a_second_run_makes_the_same_bytes(bake: Bake, job: Path) -> None:
    """In a folder of its own that is gone afterwards; and what somebody forged in all places is found by it alone."""
    before = sorted(str(path) for path in job.rglob("*"))
    found = verified(bake, job.name, "--replay")
    assert found["replayed"]
    replays = [(link["of"], link["verdict"]) for link in found["links"] if link["kind"] == "replay"]
    assert ("output/dialogue.srt", "holds") in replays
    assert {verdict for _, verdict in replays} == {"holds"}
    assert sorted(str(path) for path in job.rglob("*")) == before
    forge(job)
    assert broken(verified(bake, job.name)) == []
    found = verified(bake, job.name, "--replay", code=5)
    assert broken(found) == [("replay", "output/dialogue.txt")]


def forge(job: Path) -> None:
    """Other words in a result, and their digest in the manifest: what a chain of digests can't tell."""
    import hashlib

    result, manifest = job / "output/dialogue.txt", job / "work/subtitles/manifest.json"
    result.unlink()
    result.write_text("I owe you a million.\n")
    made = json.loads(manifest.read_text())
    made["outputs"]["output/dialogue.txt"] = f"sha256:{hashlib.sha256(result.read_bytes()).hexdigest()}"
    manifest.write_text(json.dumps(made))


def test_a_job_that_is_gone_and_a_link_in_its_folder(bake: Bake, job: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of another user")
    (job / "output/dialogue.txt").unlink()
    (job / "output/dialogue.txt").symlink_to(secret)
    found = verified(bake, job.name)
    (link,) = [link for link in found["links"] if link["of"] == "output/dialogue.txt"]
    assert link["verdict"] == "not shown", "a link was followed"
    (job / "input/01.mp4").unlink()
    done = bake("verify", job.name, "--replay", env=NO_ENGINE)
    assert done.code == 3
    assert "no longer there" in done.said


def test_a_second_run_fetches_nothing(bake: Bake, job: Path, tmp_path: Path) -> None:
    """Where weights or the environment are missing: exit 3, with what to type."""
    home = tmp_path / "home"
    env = {**NO_ENGINE, "BAKE_HOME": str(home)}
    done = bake("verify", job.name, "--replay", env=env)
    assert done.code == 3
    assert "models fetch" in done.said
    assert "tiny.en" in done.said
    home.mkdir(exist_ok=True)
    shutil.rmtree(home / "models", ignore_errors=True)
    (home / "models").symlink_to(ROOT / ".bake/models")
    done = bake("verify", job.name, "--replay", env=env)
    assert done.code == 3
    assert "bootstrap --mode native" in done.said


def test_a_job_in_containers_leads_to_its_signed_images(bake: Bake, job: Path, tmp_path: Path) -> None:
    """compose.yaml names them by id: the manifest's digest, or the config's."""
    home = tmp_path / "home"
    assembled(home)
    (home / "models").symlink_to(ROOT / ".bake/models")
    layout = Layout(home / "layout", home / "models")
    stages = [stage["name"] for stage in yaml.safe_load((job / "job.yaml").read_text())["stages"]]
    stored = {stage: layout.image(f"whisperbake/{stage}:slim-cpu") for stage in stages}
    ids = {stage: (one.manifest if stage == "asr" else one.config).digest for stage, one in stored.items()}
    text = "".join(f'  {stage}:\n    <<: *stage\n    image: "{id_}"\n' for stage, id_ in ids.items())
    (job / "compose.yaml").write_text(f"services:\n{text}")
    (job / "job.yaml").write_text((job / "job.yaml").read_text().replace("mode: native", "mode: docker-cpu"))
    env = {**NO_ENGINE, "BAKE_HOME": str(home)}
    found = json.loads(bake("verify", job.name, "--json", env=env).out)
    images = {link["of"]: link["verdict"] for link in found["links"] if link["kind"] == "image"}
    assert images == dict.fromkeys(stages, "holds")
    private, public = made_pair(tmp_path, "sender")
    for one in stored.values():
        payload = simple.payload("r.example", "x", one.manifest.digest)
        kept.keep(home / "signatures", one.manifest.digest, payload, keys.signer(private).sign(payload))
    done = bake("verify", job.name, "--key", public, "--json", env=env)
    assert done.code == 0, done.err
    signatures = [link for link in json.loads(done.out)["links"] if link["kind"] == "signature"]
    assert {link["verdict"] for link in signatures} == {"holds"}
    assert len(signatures) == len(set(ids.values()))
    _, stranger = made_pair(tmp_path, "stranger")
    assert bake("verify", job.name, "--key", stranger, env=env).code == 5
