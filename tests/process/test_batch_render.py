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

from builder.edges.batch import zipapp
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
