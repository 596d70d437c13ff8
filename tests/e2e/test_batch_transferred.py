"""A shard that an engine carries to a node and back, as the submit file of HTCondor says, without HTCondor."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.clusters.batches import bake, clips, digests, events, items
from tests.shared import native_python

CHANGED = "the recording changed after the plan; plan again"


def submit_file(rendered: Path) -> dict[str, str]:
    """The commands of batch.sub for its only shard."""
    number, name, disk = (rendered / "shards.txt").read_text().strip().split(", ")
    text = (rendered / "batch.sub").read_text()
    for macro, value in (("shard", number), ("name", name), ("disk", disk)):
        text = text.replace(f"$({macro})", value)
    return dict(re.findall(r"^(\w+) = (.*)$", text, re.MULTILINE))


def carry(rendered: Path, node: Path) -> dict[str, str]:
    """What HTCondor brings to a node: files and what links lead to, with new times, modes of its own; the commands."""
    said = submit_file(rendered)
    node.mkdir()
    shutil.copyfile(rendered / said["executable"], node / "batch.pyz")
    for word in said["transfer_input_files"].split(", "):
        source = rendered / word
        if source.is_dir():
            shutil.copytree(source, node / source.name, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, node / source.name)
    return said


def test_what_changed_after_the_plan_fails_alone_whoever_notices(tmp_path: Path) -> None:
    """The node sees another size; only who collects can see another time, for what is brought has a new one."""
    native_python()
    right, touched, longer = clips(tmp_path / "tapes", 3)
    batch, rendered, node = tmp_path / "batch", tmp_path / "condor", tmp_path / "node"
    bake("plan", tmp_path / "tapes", "--out", batch, "--preset", "tiny-en", "--mode", "native", "--threads", "1")
    bake("render", batch, "--for", "htcondor", "--out", rendered)
    os.utime(touched, ns=(1, 1))
    longer.write_bytes(longer.read_bytes() + b"more")

    said = carry(rendered, node)
    words = ["python3", "batch.pyz", *shlex.split(said["arguments"].strip('"'))]
    done = subprocess.run(
        words, cwd=node, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 8, done.stderr
    source, target = said["transfer_output_remaps"].strip('"').split("=")
    assert source == said["transfer_output_files"]
    shutil.copyfile(node / source, rendered / target)

    collected = bake("collect", batch, "--no-pages", codes=(0, 8))
    key = {Path(str(item["path"])).name: str(item["key"]) for item in items(batch)}
    assert set(digests(batch / "results")) == {key[right.name]}, collected.err
    for path in (touched, longer):
        failed = json.loads(next((batch / "results").glob(f"??/{key[path.name]}.failed.json")).read_text())
        assert failed["kind"] == "recording"
        assert failed["reason"] == CHANGED
    assert events(batch / "results")["failed"] == 2
    assert list((batch / "arrived").iterdir()) == []

    status = bake("status", batch, "--json", codes=(0, 8)).data
    assert (status["done"], status["failed"]) == (1, 2)
