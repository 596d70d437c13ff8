"""batch render as a command: what lies in the folders, that the node program runs from there, and what is refused."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.core.images import assembly, oci
from builder.core.images.oci import Descriptor
from builder.edges.batch import zipapp
from builder.edges.images.layout import Layout
from tests.process.test_batch_plan import bake, home, lines, plan, recordings

__all__ = ["home"]

NAMES = (
    'a, "b".wav',
    "c;d 'e'.wav",
    "new\nline.wav",
    "$(reboot) `x` $(shard).wav",
    "steps.json.wav",
    "-f.wav",
    "ünï.wav",
)
"""Names of recordings as people, or an attacker, may choose them."""


def odd(folder: Path) -> Path:
    """Recordings with odd names, in folders with odd names."""
    made = recordings(folder / "made", *(3.0 + 0.01 * k for k in range(len(NAMES))))
    files = sorted(made.rglob("*.wav"))
    root = folder / "Tapes of '$x'\n1961"
    for k, (name, source) in enumerate(zip(NAMES, files, strict=True)):
        target = root / ("a, b" if k % 2 else ".") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    return root


def render(home: Path, batch: Path, engine: str, *words: str | Path) -> dict[str, Any]:
    made: dict[str, Any] = bake(home, "render", batch, "--for", engine, *words, "--json").data
    return made


@pytest.fixture(scope="module")
def batch(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A batch of seven recordings in several shards."""
    folder = tmp_path_factory.mktemp("odd")
    place = folder / 'B, "of" $(x)\'\n2'
    plan(home, odd(folder), "--out", place, "--shard-minutes", "0.1")
    return place


def test_htcondor_gets_each_shards_recordings_as_links_and_nothing_by_name(home: Path, batch: Path) -> None:
    made = render(home, batch, "htcondor")
    folder = Path(made["folder"])
    root = Path(json.loads((batch / "batch.yaml").read_text())["root"])
    known = lines(batch)
    found: dict[str, int] = {}
    for shard in sorted((folder / "shards").iterdir()):
        for line in shard.read_text().splitlines():
            item = json.loads(line)
            assert item == known[item["path"]], "a line is the plan's own"
            link = folder / "input" / shard.stem / item["path"]
            assert link.readlink() == root / item["path"]
            assert link.stat().st_size == item["size"]
            found[item["path"]] = int(shard.stem)
    assert found == {path: item["shard"] for path, item in known.items()}
    assert len({line.split(",")[0] for line in (folder / "shards.txt").read_text().splitlines()}) == made["shards"] > 1
    assert (folder / "arrived").resolve() == (batch / "arrived").resolve()
    assert os.access(folder / "batch.pyz", os.X_OK)
    submit = (folder / "batch.sub").read_text()
    assert not [name for name in NAMES[:4] if name in submit]


def test_the_node_program_begins_a_shard_from_what_was_transferred(home: Path, batch: Path, tmp_path: Path) -> None:
    """As HTCondor does it: copies of the files in a folder of the node, without the batch's folder or this checkout."""
    folder = Path(render(home, batch, "htcondor")["folder"])
    number, name, _ = (folder / "shards.txt").read_text().splitlines()[0].split(", ")
    for file in ("batch.yaml", "steps.json", "batch.pyz", f"shards/{name}.jsonl"):
        shutil.copy(folder / file, tmp_path)
    shutil.copytree(folder / "input" / name, tmp_path / name)
    (tmp_path / "scratch").mkdir()
    options = ("--steps", "steps.json", "--items", f"{name}.jsonl", "--input", name, "--results", "results")
    scratch = ("--scratch", "scratch", "--pack", f"shard-{name}.tar")
    done = subprocess.run(
        ["python3", "-I", "./batch.pyz", "begin", ".", "--shard", number, *options, *scratch],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    keys = [json.loads(line)["key"] for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
    assert sorted((tmp_path / "scratch/jobs/list").read_text().split()) == sorted(keys)


def test_rendering_again_changes_no_byte_and_keeps_no_shard_of_before(home: Path, batch: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render(home, batch, "htcondor", "--out", out)
    before = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / "shards/00099.jsonl").write_text("old\n")
    render(home, batch, "htcondor", "--out", out)
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    one = render(home, batch, "htcondor", "--out", out, "--first", "1")
    assert one["first"] == 1
    assert not (out / "input/00000").exists()
    assert not (out / "shards/00000.jsonl").exists()
    (out / "input/mine").mkdir()
    refused = bake(home, "render", batch, "--for", "htcondor", "--out", out, "--json", code=2).data["error"]
    assert refused["what"] == "something else is here"
    assert (out / "input/mine").is_dir()


def test_slurm_has_a_script_for_these_shards_and_a_folder_for_logs(home: Path, batch: Path) -> None:
    made = render(home, batch, "slurm", "--parallelism", "2", "--queue", "long")
    folder = Path(made["folder"])
    assert folder == (batch / "slurm").resolve()
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "batch.pyz",
        "batch.sbatch",
        "logs",
        "steps.json",
    ]
    script = (folder / "batch.sbatch").read_text()
    assert f"#SBATCH --array=0-{made['shards'] - 1}%2\n" in script
    assert "#SBATCH --partition=long\n" in script
    assert subprocess.run(["bash", "-n", folder / "batch.sbatch"], check=False).returncode == 0
    steps = json.loads((folder / "steps.json").read_text())["steps"]
    assert [step["stage"] for step in steps] == [step["stage"] for step in made["steps"]]
    for step in steps:
        assert Path(step["argv"][0]).exists()
        assert step["env"]["HF_HUB_OFFLINE"] == "1"
        assert not {"HOME", "HF_TOKEN", "http_proxy"} & set(step.get("inherit", ()))


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--for", "slrum"), '"slrum" is not an engine known here'),
        (("--for", "kubernetes"), "this batch is planned for native stages, and Kubernetes runs images"),
        (("--for", "slurm", "--registry", "ghcr.io/me/x"), "a native batch has no images"),
        (("--for", "slurm", "--namespace", "x"), "--namespace is for kubernetes"),
        (("--for", "htcondor", "--queue", "x"), "--queue is for kubernetes and slurm"),
        (("--for", "slurm", "--queue", "a b"), '"a b" is not a partition'),
        (("--for", "slurm", "--gpus", "1"), "no stage of this batch computes on a GPU"),
        (("--for", "slurm", "--first", "99"), "there is no shard 99"),
        (("--for", "slurm", "--out", "."), "the batch's own folder"),
        (("--for", "slurm", "--out", "batch.yaml"), "this is not a folder"),
    ],
)
def test_what_cant_be_is_refused_with_the_reason(home: Path, batch: Path, words: tuple[str, ...], what: str) -> None:
    before = sorted(path.name for path in batch.iterdir())
    error = bake(home, "render", batch, *words, "--json", code=2, cwd=batch).data["error"]
    assert error["what"] == what
    assert sorted(path.name for path in batch.iterdir()) == before


def test_no_batch_and_one_of_another_version_are_refused(home: Path, batch: Path, tmp_path: Path) -> None:
    assert bake(home, "render", tmp_path, "--for", "slurm", "--json", code=2).data["error"]["what"] == "no batch here"
    for name in ("batch.yaml", "items.jsonl"):
        shutil.copy(batch / name, tmp_path)
    data = json.loads((tmp_path / "batch.yaml").read_text())
    (tmp_path / "batch.yaml").write_text(json.dumps({**data, "version": "0.0.1"}))
    assert "whisperbake 0.0.1 planned this" in bake(home, "render", tmp_path, "--for", "slurm", code=2).err
    (tmp_path / "batch.yaml").write_text(json.dumps({**data, "schema": 2}))
    assert "another version" in bake(home, "render", tmp_path, "--for", "slurm", code=2).err


def test_the_node_program_is_one_file_of_the_standard_library_and_always_the_same() -> None:
    data = zipapp.zipapp()
    assert data == zipapp.zipapp()
    assert data.startswith(b"#!/usr/bin/env python3\n")
    assert len(data) < 700_000, "a ConfigMap has at most 1 MiB, in base64 with four bytes for three"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
    assert names[0] == "__main__.py"
    assert {name.split("/")[1] for name in names[1:]} == {"__init__.py", "node", "receiver"}
    assert not set(names) - {"__main__.py", *(f"builder/{p.relative_to(zipapp.PACKAGE)}" for p in zipapp.modules())}


def test_the_node_program_needs_nothing_but_python(tmp_path: Path) -> None:
    (tmp_path / "batch.pyz").write_bytes(zipapp.zipapp())
    words = [sys.executable, "-I", "-S", "batch.pyz", "run", str(tmp_path), "--shard", "0", "--steps", "steps.json"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "there is no steps.json" in done.stderr
    assert "Traceback" not in done.stderr


def in_containers(home: Path, batch: Path, place: Path, *, weights: bool) -> tuple[Path, dict[str, Descriptor]]:
    """The same batch with images, which are in the layout but on no engine; stage -> the image's manifest.

    Args:
        weights: images have those of their stages inside.
    """
    shutil.copytree(batch, place, ignore=shutil.ignore_patterns("htcondor", "slurm"))
    data = json.loads((batch / "batch.yaml").read_text())
    layout, found = Layout(home / "layout", home / "models"), {}
    for stage in data["job"]["stages"]:
        carried = " ".join(f"{use['id']}={use['digest']}" for use in stage["models"].values())
        labels = {assembly.DIGESTS: carried, **({assembly.BAKED: "baked"} if weights else {})}
        config = {"config": {"Labels": labels}, "rootfs": {"type": "layers", "diff_ids": []}, "history": []}
        raw = json.dumps({**config, "stage": stage["name"], "weights": weights}).encode()
        layout.put(raw)
        manifest = oci.manifest(oci.describe(oci.CONFIG, raw), [])
        layout.record(f"wb/{stage['name']}:slim-cpu-{weights}", {"manifest": layout.put(manifest)})
        found[stage["name"]] = oci.describe(oci.MANIFEST, manifest)
    images = {name: image.digest for name, image in found.items()}
    job = {**data["job"], "mode": "docker-cpu"}
    (place / "batch.yaml").write_text(json.dumps({**data, "mode": "docker-cpu", "job": job, "images": images}))
    return place, found


CLAIMS = ("--input-claim", "archive/tapes", "--results-claim", "results", "--registry", "registry.example:5000/speech")


def test_kubernetes_gets_images_by_the_digests_that_a_push_sends(home: Path, batch: Path, tmp_path: Path) -> None:
    place, images = in_containers(home, batch, tmp_path / "B", weights=True)
    made = render(home, place, "kubernetes", *CLAIMS)
    expected = {name: f"registry.example:5000/speech/{name}@{image.digest}" for name, image in images.items()}
    assert {step["stage"]: step["image"] for step in made["steps"]} == expected
    pod = yaml.safe_load((place / "kubernetes/job.yaml").read_text())["spec"]["template"]["spec"]
    assert {c["name"]: c["image"] for c in pod["initContainers"][1:]} == expected
    steps = json.loads((place / "kubernetes/steps.json").read_text())["steps"]
    assert [(step["stage"], step["argv"]) for step in steps] == [(name, []) for name in images]
    volumes = {v["name"]: v.get("persistentVolumeClaim") for v in pod["volumes"]}
    assert volumes["input"] == {"claimName": "archive", "readOnly": True}
    assert volumes["batch"] == {"claimName": "results"}
    begin = {m["mountPath"]: m for m in pod["initContainers"][0]["volumeMounts"]}
    assert (begin["/input"]["subPath"], begin["/results"]["subPath"]) == ("tapes", "results")


def test_slurm_starts_containers_of_a_registry_or_of_what_was_loaded(home: Path, batch: Path, tmp_path: Path) -> None:
    """By the manifest's digest from a registry; by the config's, which is podman's id, where a bundle's loader brought it."""
    place, images = in_containers(home, batch, tmp_path / "B", weights=False)
    made = render(home, place, "slurm", "--registry", "registry.example:5000/speech")
    steps = {s["stage"]: s["argv"] for s in json.loads((place / "slurm/steps.json").read_text())["steps"]}
    assert made["images"] == "registry"
    for name, words in steps.items():
        assert f"registry.example:5000/speech/{name}@{images[name].digest}" in words
        assert words[words.index("--pull") + 1] == "missing"
    assert "target=/models,readonly" in " ".join(steps["asr"]), (
        "its image has no weights: those of the node are mounted"
    )
    assert "target=/models" not in " ".join(steps["demux"])
    made = render(home, place, "slurm")
    assert made["images"] == "loaded"
    layout = Layout(home / "layout", home / "models")
    for step in json.loads((place / "slurm/steps.json").read_text())["steps"]:
        config = layout.stored("", images[step["stage"]].digest).config.digest
        assert config in step["argv"]
        assert step["argv"][step["argv"].index("--pull") + 1] == "never"


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("--host-path",), 2, "nodes of Kubernetes get images from a registry, and none is named"),
        (("--host-path", "--registry", "x"), 2, '"x" names no registry'),
        (("--registry", "r.example/x"), 2, "where do pods find the recordings and the batch?"),
        (("--registry", "r.example/x", "--input-claim", "a"), 2, "where do pods find the recordings and the batch?"),
        ((*CLAIMS, "--host-path"), 2, "--host-path and claims exclude each other"),
        ((*CLAIMS, "--user", "0:0"), 2, '"0:0" is not a user for containers'),
        ((*CLAIMS, "--namespace", "A b"), 2, '"A b" is not a name of Kubernetes'),
        ((*CLAIMS, "--weights-image", "r.example/w:1"), 2, '"r.example/w:1" is not an image by digest'),
    ],
)
def test_what_kubernetes_cant_be_told(
    home: Path, batch: Path, tmp_path: Path, words: tuple[str, ...], code: int, what: str
) -> None:
    place, _ = in_containers(home, batch, tmp_path / "B", weights=True)
    error = bake(home, "render", place, "--for", "kubernetes", *words, "--json", code=code).data["error"]
    assert error["what"] == what
    assert not (place / "kubernetes").exists()


def test_images_without_weights_or_that_are_gone_are_named(home: Path, batch: Path, tmp_path: Path) -> None:
    place, _ = in_containers(home, batch, tmp_path / "B", weights=False)
    words = ("render", place, "--for", "kubernetes", *CLAIMS, "--json")
    error = bake(home, *words, code=2).data["error"]
    assert error["what"] == "the image of stage vad doesn't have its models inside"
    weights = f"r.example/w@sha256:{'a' * 64}"
    assert bake(home, *words, "--weights-image", weights).data["images"] == "registry"
    assert weights in (place / "kubernetes/job.yaml").read_text()
    data = json.loads((place / "batch.yaml").read_text())
    data["images"]["asr"] = f"sha256:{'0' * 64}"
    (place / "batch.yaml").write_text(json.dumps(data))
    error = bake(home, *words, code=3).data["error"]
    assert error["what"] == "the image of stage asr that this batch was planned with is not here any more"


def test_podman_mounts_an_image_of_weights(home: Path, batch: Path, tmp_path: Path) -> None:
    """In the place of this machine's tree; the page says what nodes need first. A native batch has no use for it: exit 2."""
    place, _ = in_containers(home, batch, tmp_path / "B", weights=False)
    weights = f"r.example/w@sha256:{'a' * 64}"
    bake(home, "render", place, "--for", "slurm", "--weights-image", weights, "--json")
    argv = [word for step in json.loads((place / "slurm/steps.json").read_text())["steps"] for word in step["argv"]]
    assert f"type=image,source={weights},destination=/weights" in argv
    assert not [word for word in argv if "target=/models" in word]
    assert f"podman pull {weights}" in (place / "slurm/README.md").read_text()
    words = ("render", batch, "--for", "slurm", "--out", tmp_path / "out", "--weights-image", weights, "--json")
    assert bake(home, *words, code=2).data["error"]["what"] == "a native batch has no containers"
