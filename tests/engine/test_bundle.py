"""From one machine to another with nothing but a folder between: two engines, and the receiver's network is loopback."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.engine import private_engine
from tests.engine.conftest import ONE_STORE, Engine, Ran, copy_project
from tests.shared import EXAMPLE, ROOT, native_python

MB = 1_000_000
SECRET = "hf_" + "ThisIsNobodysToken" * 2
OTHER = {"containerd": "overlay2", "overlay2": "containerd"}


@dataclass(frozen=True)
class Receiver:
    """A machine without a network: an engine in a namespace of its own, Python, a folder."""

    engine: Engine
    netns: str
    folder: Path

    def load(self, bundle: Path, *options: str | Path) -> Ran:
        """Carry the bundle over (nothing else is), and run its loader there."""
        here = self.folder / bundle.name
        if not here.exists():
            shutil.copytree(bundle, here)
        words = ["nsenter", f"--net=/run/netns/{self.netns}", sys.executable, "-I", str(here / "load.py")]
        done = subprocess.run(
            [*words, "--to", str(self.target), *map(str, options)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"], "DOCKER_HOST": self.engine.host},
            check=False,
            timeout=900,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    @property
    def target(self) -> Path:
        return self.folder / "whisperbake"

    @property
    def inventory(self) -> Any:
        return json.loads((self.target / "inventory.json").read_bytes())


@pytest.fixture(scope="module")
def receiver(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """Of the other store than the sender's: so both are tried, and ids differ on the way."""
    if why := private_engine.why_not():
        assert os.environ.get("CI", "").lower() not in ("1", "true"), why
        pytest.skip(why)
    store = OTHER[engine.store]
    with private_engine.namespace() as netns, private_engine.engine(store, netns=netns) as host:
        there = subprocess.run(["ip", "-n", netns, "-o", "addr"], capture_output=True, text=True, check=True).stdout
        assert {line.split()[1] for line in there.splitlines()} == {"lo"}
        yield Receiver(Engine(host, store, engine.prefix, Path("/nowhere")), netns, tmp_path_factory.mktemp("receiver"))


@pytest.fixture(scope="module")
def sent(engine: Engine, built: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed bundle of all images with their weights, made with a token in the environment."""
    folder = tmp_path_factory.mktemp("sender")
    assert engine.bake("bundle", "keys", folder / "key").code == 0
    done = engine.bake(
        "bundle",
        "create",
        folder / "bundle",
        "--mode",
        "docker-cpu",
        "--part-size",
        "100M",
        "--sign",
        folder / "key",
        "--json",
        env={"HF_TOKEN": SECRET},
    )
    assert done.code == 0, done.err
    assert done.data["content"] == "complete"
    assert len(done.data["parts"]) >= 2
    return folder / "bundle"


@pytest.fixture(scope="module")
def loaded(sent: Path, receiver: Receiver) -> Ran:
    """From nothing, with the acceptance run."""
    return receiver.load(sent, "--key", sent.parent / "key.pub.pem", "--accept")


@ONE_STORE  # loading into both: test_hostile_bundles.py, with small images
def test_from_nothing_it_is_accepted_byte_for_byte(sent: Path, receiver: Receiver, loaded: Ran) -> None:
    """The example gives there what the sender's images gave here, in containers without a network."""
    assert loaded.code == 0, loaded.err
    assert "signed with key.pub.pem" in loaded.err
    assert "byte for byte" in loaded.err
    names = {t for i in receiver.engine.client.images.list() for t in i.tags}
    assert names == {i["name"] for i in json.loads((sent / "inventory.json").read_bytes())["images"]}
    assert receiver.engine.docker("ps", "--all", "--quiet").out == "", "no container is left"


@ONE_STORE
def test_again_sends_nothing(sent: Path, receiver: Receiver, loaded: Ran) -> None:
    done = receiver.load(sent)
    assert done.code == 0, done.err
    assert re.search(r"loaded: 9 images, 0\.0 MB sent", done.err), done.err


def short(recording: Path) -> Path:
    """Four seconds of the example."""
    clip = [native_python(), ROOT / "stages/demux/clip.py", EXAMPLE, recording, "--start", "0", "--end", "4"]
    subprocess.run(clip, check=True, stdout=subprocess.DEVNULL)
    return recording


@ONE_STORE
def test_recordings_of_the_receivers_own(engine: Engine, sent: Path, receiver: Receiver, loaded: Ran) -> None:
    """``load.py --run``: nothing but what came in the bundle."""
    recording, bad = short(receiver.folder / "my call.mp4"), receiver.folder / "no \x1b[31msound.mp4"
    bad.write_bytes(b"this is not a film")
    done = receiver.load(sent, "--run", bad, recording, "--language", "English", "--no-diarization")
    assert done.code == 2, "one can't be used, which is said; the other is done"
    assert "no \\x1b[31msound.mp4: " in done.err
    assert "\x1b" not in done.err
    results = [Path(line) for line in done.out.splitlines()]
    assert {"my call.srt", "my call.json", "my call.mp4"} <= {path.name for path in results}
    assert {path.stat().st_uid for path in results} == {65532}, "written by the user of compose.yaml"
    [place] = [path for path in (receiver.target / "jobs").iterdir() if path.is_dir()]
    assert {results[0].parent.parent} == {place}, "of a recording that can't be used nothing stays"
    job = engine.bake("jobs", "show", place.name, "--json", env={"BAKE_JOBS": str(place.parent)})
    assert job.code == 0, job.err
    assert {stage["name"]: stage["state"] for stage in job.data["stages"]} == dict.fromkeys(
        ["demux", "vad", "asr", "align", "subtitles", "mux"], "done"
    )
    assert all((place / f"logs/{stage['name']}.log").is_file() for stage in job.data["stages"])
    words = ["docker", "--host", receiver.engine.host, "compose", "--project-directory", str(place)]
    first = {path.name: path.read_bytes() for path in results}
    up, down = (subprocess.run([*words, word], capture_output=True, text=True, check=False) for word in ("up", "down"))
    assert up.returncode == down.returncode == 0, up.stderr
    assert {path.name: path.read_bytes() for path in results} == first
    assert receiver.engine.docker("ps", "--all", "--quiet").out == ""


@ONE_STORE
def test_a_stage_that_fails_is_the_machines_fault_and_an_optional_one_costs_its_results(
    sent: Path, receiver: Receiver, loaded: Ran
) -> None:
    """Exit 7 and 8, not 2: another stage's image, which ends with 1, stands in for what breaks on a machine."""
    recording = short(receiver.folder / "call.mp4")
    inventory = receiver.target / "inventory.json"
    whole = inventory.read_bytes()
    other = next(i for i in receiver.inventory["images"] if i["stage"] == "mux")
    for stage, code in (("align", 8), ("asr", 7)):
        broken = json.loads(whole)
        row = next(i for i in broken["images"] if i["stage"] == stage)
        row["id"] = other["id"]
        inventory.write_text(json.dumps(broken))
        done = receiver.load(sent, "--run", recording, "--workflow", "subtitle")
        inventory.write_bytes(whole)
        assert done.code == code, done.err
        assert stage in done.err
        assert [Path(line).name for line in done.out.splitlines() if line.endswith(".srt")] == ["call.srt"] * (
            code == 8
        )
    assert receiver.engine.docker("ps", "--all", "--quiet").out == ""


@ONE_STORE
def test_the_same_again_is_up_to_date_and_the_same(engine: Engine, sent: Path, tmp_path: Path) -> None:
    """Created twice: the same fingerprint; into the same folder: nothing is done."""
    words = ("--mode", "docker-cpu", "--part-size", "100M", "--json")
    again = engine.bake("bundle", "create", sent, *words)
    assert again.code == 0, again.err
    assert again.data["state"] == "up to date"
    other = engine.bake("bundle", "create", tmp_path / "other", *words)
    assert other.code == 0, other.err
    assert other.data["fingerprint"] == again.data["fingerprint"]


@ONE_STORE
def test_no_secret_of_the_sender_is_in_it(engine: Engine, sent: Path) -> None:
    """Neither the token, nor the key, nor this machine's paths and name; looked for inside of zstd layers too."""
    bad = [SECRET.encode(), (sent.parent / "key").read_bytes().splitlines()[1], str(engine.home).encode()]
    bad += [os.uname().nodename.encode()] if len(os.uname().nodename) > 6 else []
    whole = b"".join(p.read_bytes() for p in sorted(sent.glob("whisperbake.tar.*")))
    texts = [whole, *(p.read_bytes() for p in sent.iterdir() if not p.name.startswith("whisperbake.tar"))]
    inventory = json.loads((sent / "inventory.json").read_bytes())
    for entry in inventory["files"]:
        layer = inventory["layers"].get(f"sha256:{entry['sha256']}")
        if layer and layer["model"] is None:
            blob = whole[entry["at"] : entry["at"] + entry["size"]]
            texts.append(zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(blob))
    assert [b for b in bad if any(b in text for text in texts)] == []


@ONE_STORE
def test_an_update_of_code_is_small_and_accepted(
    engine: Engine, restored: None, sent: Path, receiver: Receiver, loaded: Ran, tmp_path: Path
) -> None:
    """A line of a stage changes: at most 1 MB beside the inventory goes on the stick, and into the engine."""
    project = copy_project(tmp_path)
    main = project / "stages/asr/main.py"
    main.write_text(main.read_text() + "\n# a change\n")
    out = tmp_path / "update"
    words = (
        "bundle",
        "create",
        out,
        "--mode",
        "docker-cpu",
        "--base",
        receiver.target / "inventory.json",
        "--no-example",
    )
    done = engine.bake(*words, "--json", root=project)
    assert done.code == 0, done.err
    assert done.data["content"] == "difference"
    assert done.data["bytes"] <= 1 * MB
    shown = engine.bake("bundle", "diff", sent, out, "--json")
    assert [name for name, _ in shown.data["images"]] == [f"{engine.prefix}/asr:slim-cpu"]
    assert shown.data["bytes"] <= 1 * MB
    before = {i["name"]: i["id"] for i in receiver.inventory["images"]}
    updated = receiver.load(out, "--accept")
    assert updated.code == 5, "a key was given once: from then on it is asked for"
    assert engine.bake(*words, "--sign", sent.parent / "key", root=project).code == 0
    shutil.rmtree(receiver.folder / "update")
    updated = receiver.load(out, "--accept")
    assert updated.code == 0, updated.err
    assert "accepted: " in updated.err
    assert float(re.search(r"loaded: 9 images, ([\d.]+) MB sent", updated.err)[1]) <= 1  # type: ignore[index]
    after = {i["name"]: i["id"] for i in receiver.inventory["images"]}
    assert [n for n in after if after[n] != before[n]] == [f"{engine.prefix}/asr:slim-cpu"]
    assert receiver.engine.docker("images", "--filter", "dangling=true", "--quiet").out == ""


@pytest.mark.heavy
def test_the_native_set_runs_without_images(engine: Engine, built: Any, receiver: Receiver, tmp_path: Path) -> None:
    """``--with-native``: this project, its wheels and the weights out of the layers; no index, no hub, no engine."""
    out = tmp_path / "native"
    done = engine.bake(
        "bundle",
        "create",
        out,
        "--mode",
        "native",
        "--with-native",
        "--json",
        env={"HF_TOKEN": SECRET},
    )
    assert done.code == 0, done.err
    target = receiver.folder / "whisperbake-native"
    loaded = receiver.load(out, "--to", target, "--native", "--allow-unsigned")
    assert loaded.code == 0, loaded.err
    project = target / "native/project"
    words = [
        "nsenter",
        f"--net=/run/netns/{receiver.netns}",
        sys.executable,
        "build.py",
        "run",
        "examples/dialogue.mp4",
    ]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PIP_NO_INDEX": "1",
        "DOCKER_HOST": "unix:///nowhere.sock",
        "PIP_FIND_LINKS": str(target / "native/wheels"),
        "BAKE_PRESET": "tiny-en",
    }
    ran = subprocess.run([*words, "--json"], cwd=project, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert any(name.endswith("dialogue.srt") for name in json.loads(ran.stdout)["files"])
    checked = subprocess.run(
        [sys.executable, "build.py", "models", "verify", "--deep"],
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
