"""make bench-images: how large the images are, how much of them a machine pulls, and what a build costs that has nothing to do.

Unpacked bytes of layers, without weights; an engine with a containerd store reports the sum of both kinds of bytes, which
is not used. Needs an engine with a containerd store, since pull sizes come from BuildKit's OCI export; takes 5 GB, with
``--full`` 40 GB.

    .venv/bin/python bench/images.py [--full] [--runs 5] [--save]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker
from harness import BUILD, WORK, Row, alternating, publish, ratio, spread, timed

from builder.core.config.types import NetworkSpec
from builder.edges.engine import connection as engines
from builder.edges.images import site as network

MB, GB = 1e6, 1e9


class Bench:
    """Images under a prefix of their own, in a state folder of their own."""

    def __init__(self) -> None:
        self.engine = engines.connect(os.environ)
        self.home = WORK / "images"
        self.env = {
            "DOCKER_HOST": self.engine.host,
            "BAKE_HOME": str(self.home),
            "BAKE_REGISTRY": "wb-bench",
            "BAKE_PRESET": "tiny-en",
        }
        self.client = docker.DockerClient(base_url=self.engine.host, timeout=600)

    def build(self, mode: str, variant: str) -> list[str]:
        """Tags of a mode's images, built when they are missing."""
        command = [*BUILD, "build", "--mode", mode, "--variant", variant, "--json"]
        done = subprocess.run(command, env=os.environ | self.env, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command[1:])} ended with {done.returncode}")
        return [image["tag"] for image in json.loads(done.stdout)["images"]]

    def layers(self, tag: str) -> dict[str, int]:
        """Diff id -> unpacked bytes of an image's layers, without weights."""
        image = self.client.images.get(tag)
        steps = [h for h in reversed(image.history()) if h["Size"]]
        found = zip(image.attrs["RootFS"]["Layers"], steps, strict=True)
        return {diff: step["Size"] for diff, step in found if "weights of" not in step["CreatedBy"]}

    def unique(self, tags: list[str]) -> int:
        """Unpacked bytes of all layers of some images, each counted once."""
        return sum({diff: size for tag in tags for diff, size in self.layers(tag).items()}.values())

    def pulled(self, mode: str, variant: str, name: str) -> int:
        """Bytes of an image's gzip layers, as BuildKit exports them for a registry; the code image, without weights."""
        with tempfile.TemporaryDirectory(dir=self.home) as folder, self.secrets() as secrets:
            target = f"{name}.output=type=oci,dest={folder},tar=false"
            command = [
                "docker",
                "buildx",
                "bake",
                name,
                "--set",
                target,
                "--set",
                "*.attest=type=provenance,disabled=true",
            ]
            subprocess.run(
                command,
                cwd=self.home / "images" / f"{mode}-{variant}",
                env=os.environ | self.env | secrets,
                capture_output=True,
                check=True,
            )
            place = Path(folder)
            entry = json.loads((place / "index.json").read_text())["manifests"][0]
            while "layers" not in (read := self.blob(place, entry)):
                entry = read["manifests"][0]
            return sum(layer["size"] for layer in read["layers"])

    @staticmethod
    def blob(place: Path, entry: Mapping[str, Any]) -> Any:
        return json.loads((place / "blobs" / entry["digest"].replace(":", "/")).read_text())

    @staticmethod
    def secrets() -> Any:
        return network.secrets(network.find(NetworkSpec(), os.environ))

    def render(self, mode: str, variant: str) -> Path:
        """The same files under names of their own: what the peer loads must not take the names of ours."""
        folder = self.home / "peer"
        timed(
            [*BUILD, "render", "--mode", mode, "--variant", variant, "--out", folder],
            env=self.env | {"BAKE_REGISTRY": "wb-peer"},
        )
        return folder

    def bake(self, folder: Path) -> float:
        """Plain ``docker buildx bake``, with nothing to do."""
        with self.secrets() as secrets:
            command = ["docker", "buildx", "bake", "--load", "--set", "*.attest=type=provenance,disabled=true"]
            return timed(command, cwd=folder, env=os.environ | self.env | secrets)


def measure(bench: Bench, runs: int, full: bool) -> list[Row]:
    rows: list[Row] = []

    def budget(what: str, found: float, aim: float, peers: str) -> None:
        unit, name = (GB, "GB") if aim >= GB else (MB, "MB")
        rows.append(
            (
                what,
                f"{found / unit:.2f} {name}" if unit == GB else f"{found / unit:.0f} {name}",
                f"≤ {aim / unit:g} {name}; {peers}",
            )
        )

    native = bench.build("native", "slim")
    cpu = bench.build("docker-cpu", "slim")
    named = {tag.split("/")[-1].split(":")[0]: tag for tag in cpu}
    budget("native set (base, demux, mux), unique", bench.unique(native), 220 * MB, "the first plan 2 GB")
    budget("the debian base", bench.unique([named["base"]]), 120 * MB, "python:slim about 130 MB")
    budget(
        "asr slim, CPU",
        bench.unique([named["asr"]]),
        290 * MB,
        "WhisperLive CPU 3.34 GB, whisperX's environment 7.6 GB",
    )
    budget("all docker-cpu slim images, unique", bench.unique(cpu), 450 * MB, "the first plan 15 GB")
    peer = bench.render("docker-cpu", "slim")
    ours, theirs = alternating(
        runs,
        lambda: timed([*BUILD, "build", "--mode", "docker-cpu"], env=bench.env),
        lambda: bench.bake(peer),
    )
    rows.append(("build again, nothing changed", spread(ours), ""))
    rows.append(("plain docker buildx bake of the same files, nothing changed", spread(theirs), ""))
    rows.append(("build again / plain bake", ratio(ours, theirs), "≤ 1.2 ×"))
    gpu = next(tag for tag in bench.build("docker-gpu", "slim") if "/asr:" in tag)
    budget("asr slim, GPU", bench.unique([gpu]), 2.4 * GB, "whisperx-asr-service 7.2 GB")
    budget("asr slim, GPU, pulled", bench.pulled("docker-gpu", "slim", "asr"), 1.6 * GB, "whisperx-asr-service 3.4 GB")
    if full:
        tags = bench.build("docker-gpu", "full")
        budget("all docker-gpu full images, unique", bench.unique(tags), 9 * GB, "the first plan 20 GB")
    return rows


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="the full variant too (40 GB while it builds)")
    parser.add_argument("--save", action="store_true", help="keep the table in bench/results.md")
    asked = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    bench = Bench()
    if bench.engine.store != "containerd":
        parser.error(f"this engine has the {bench.engine.store} store; containerd is needed")
    rows = measure(bench, asked.runs, asked.full)
    publish("bench-images", rows, save=asked.save, note=f"Engine {bench.engine.version}, {bench.engine.store} store")
    return 0


if __name__ == "__main__":
    sys.exit(run())
