"""The full variant on processors: locks of PyTorch's CPU builds, from an index that stands in for PyTorch's own."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from builder.core.config import requirements
from builder.core.config.requirements import Requirement
from builder.core.config.types import NetworkSpec
from builder.edges.images import site
from tests import loopback
from tests.engine.conftest import copy_project
from tests.shared import ROOT

STAGES = ("align", "asr", "diarize")
BUILT_FOR_CPU = ("torch", "torchaudio")
"""What PyTorch's index has builds of; everything else is on the package index."""


@dataclass
class Index:
    """What two indexes list: the package index and PyTorch's."""

    links: dict[str, dict[str, str]]
    """Index -> name of a wheel -> its sha256, as the index says."""
    wheels: dict[str, bytes]
    """Those that can be fetched; of the others only their metadata."""
    url: str = ""


def metadata(name: str, version: str) -> str:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"


def wheel(name: str, version: str, more: str = "") -> bytes:
    """A wheel of a package with nothing in it but its name."""
    folder = f"{name.replace('-', '_')}-{version}.dist-info"
    files = {
        f"{folder}/METADATA": metadata(name, version),
        f"{folder}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: py3-none-any\n",
    }

    if more:
        files[f"{name}.py"] = more

    def record(path: str, text: str) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        return f"{path},sha256={digest},{len(text)}\n"

    files[f"{folder}/RECORD"] = "".join(record(*item) for item in files.items()) + f"{folder}/RECORD,,\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return out.getvalue()


TAG = "py3-none-any.whl"


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    """Every package of the full locks with its real hashes, newer ones, and torch for CUDA and for processors."""
    found = Index({"simple": {}, "cpu": {}}, {})
    for stage in STAGES:
        for pin in requirements.parse(stage, (ROOT / f"stages/{stage}/requirements-full.txt").read_text()):
            for number, digest in enumerate(hashes(pin)):  # a version has a wheel for each kind of machine
                found.links["simple"][f"{pin.name.replace('-', '_')}-{pin.version}-{number}-{TAG}"] = digest
    found.links["simple"] |= {f"pandas-2.99.0-{TAG}": "0" * 64, f"torch-2.8.1-{TAG}": "1" * 64}
    for name in BUILT_FOR_CPU:
        file = f"{name}-2.8.0+cpu-{TAG}"
        found.wheels[file] = wheel(name, "2.8.0+cpu")
        found.links["cpu"][file] = hashlib.sha256(found.wheels[file]).hexdigest()

    class Answers(loopback.Handler):
        """The simple API (PEP 503), with metadata beside the wheels (PEP 658)."""

        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            _, where, file, *_ = [*self.path.replace("%2B", "+").split("/"), "", ""]
            links = found.links.get(where, {})
            if file in found.wheels:
                return self.reply(200, found.wheels[file])
            if (of := file.removesuffix(".metadata")) != file and of in links:
                return self.reply(200, metadata(*of.split("-")[:2]).encode())
            mine = {f: d for f, d in sorted(links.items()) if f.split("-")[0].replace("_", "-").lower() == file}
            lines = [
                f'<a href="/{where}/{f.replace("+", "%2B")}#sha256={d}" data-core-metadata="true">{f}</a><br>'
                for f, d in mine.items()
            ]
            self.reply(200 if mine else 404, "".join(lines).encode(), Content_Type="text/html")

        do_HEAD = do_GET

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that closes its connection is no news."""

    server = Server(("127.0.0.1", 0), Answers)
    found.url = f"http://127.0.0.1:{server.server_port}"
    with loopback.answering(server):
        yield found


def hashes(pin: Requirement) -> list[str]:
    return re.findall(r"sha256:([0-9a-f]{64})", pin.text)


@pytest.fixture(scope="module")
def project(index: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which the locks were written."""
    root = copy_project(tmp_path_factory.mktemp("cpu"))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    env |= {"UV_DEFAULT_INDEX": f"{index.url}/simple", "UV_NO_CONFIG": "1", "UV_CACHE_DIR": str(root.parent / "cache")}
    words = [sys.executable, "requirements/stages.py", "full-cpu", "--torch-index", f"{index.url}/cpu"]
    done = subprocess.run(words, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    bake = (root / "bake.yaml").read_text()
    assert not re.search(r"^network:", bake, re.M)
    (root / "bake.yaml").write_text(f"{bake}\nnetwork: {{torch_index_url: {index.url}/cpu}}\n")
    return root


@pytest.mark.parametrize("stage", STAGES)
def test_the_locks_have_the_builds_for_processors(project: Path, index: Index, stage: str) -> None:
    """And of everything else what the full locks have, though the index has newer ones; no line is of CUDA."""
    folder = project / "stages" / stage
    full, cpu = (
        {p.name: p for p in requirements.parse(name, (folder / name).read_text())}
        for name in ("requirements-full.txt", "requirements-full-cpu.txt")
    )
    assert {name for name in full if name.startswith("nvidia-")}
    assert cpu.keys() == {name for name in full if not name.startswith("nvidia-")}
    for name, pin in cpu.items():
        if name not in BUILT_FOR_CPU:
            assert pin == full[name]
            continue
        assert pin.version == f"{full[name].version}+cpu"
        assert hashes(pin) == [index.links["cpu"][f"{name}-{pin.version}-{TAG}"]]


def plan(project: Path, mode: str) -> dict[str, list[str]]:
    """Image -> the packages of its own layers, as ``plan`` says."""
    env = os.environ | {"BAKE_HOME": str(project / "home")}
    words = [sys.executable, str(ROOT / "build.py"), "plan", "--mode", mode, "--variant", "full", "--json"]
    done = subprocess.run(words, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return {
        i["name"]: [p for layer in i["layers"] for p in layer["packages"]] for i in json.loads(done.stdout)["images"]
    }


def test_images_for_processors_are_planned_of_them(project: Path) -> None:
    """Those for a GPU are not."""
    cpu, gpu = plan(project, "docker-cpu"), plan(project, "docker-gpu")
    assert "torch==2.8.0+cpu" in cpu["asr"]
    assert not [p for packages in cpu.values() for p in packages if p.startswith("nvidia-")]
    assert "torch==2.8.0" in gpu["asr"]
    assert [p for p in gpu["asr"] if p.startswith("nvidia-cudnn")]


def installed(project: Path, index: Index, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """What PyTorch's index has of a lock, installed as images/tools/steps.py does, with the settings that a build gets."""
    spec = NetworkSpec(index_url=f"{index.url}/simple", torch_index_url=f"{index.url}/cpu")
    given = site.find(spec, {"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}).variables
    env = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    env |= {**given, "UV_CACHE_DIR": str(tmp_path / "cache")}
    pins = requirements.parse("asr", (project / "stages/asr/requirements-full-cpu.txt").read_text())
    lock = tmp_path / "lock.txt"
    lock.write_text(requirements.dump(pin for pin in pins if pin.name in BUILT_FOR_CPU))
    words = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, "--target"]
    words += [str(tmp_path / "out"), "--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-config"]
    return subprocess.run([*words, "--requirement", str(lock)], env=env, capture_output=True, text=True, check=False)


def test_a_build_step_installs_them(project: Path, index: Index, tmp_path: Path) -> None:
    """By hash, from whichever index has the wheel."""
    done = installed(project, index, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/torch-2.8.0+cpu.dist-info").is_dir()


def test_another_file_under_a_locked_name_is_refused(project: Path, index: Index, tmp_path: Path) -> None:
    """Whoever runs the index can't change what is installed."""
    name = f"torch-2.8.0+cpu-{TAG}"
    whole, said = index.wheels[name], index.links["cpu"][name]
    index.wheels[name] = wheel("torch", "2.8.0+cpu", more="import os")
    index.links["cpu"][name] = hashlib.sha256(index.wheels[name]).hexdigest()
    try:
        done = installed(project, index, tmp_path)
    finally:
        index.wheels[name], index.links["cpu"][name] = whole, said
    assert done.returncode != 0
    assert "hash" in done.stderr.lower(), done.stderr
    assert not (tmp_path / "out/torch-2.8.0+cpu.dist-info").exists()


def test_without_an_index_it_is_pytorchs_own(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements", ignore=shutil.ignore_patterns("__pycache__"))
    words = [sys.executable, str(tmp_path / "requirements/stages.py")]
    said = subprocess.run([*words, "--help"], capture_output=True, text=True, check=True).stdout
    assert "https://download.pytorch.org/whl/cpu" in said.replace("\n", "").replace(" ", "")
    refused = subprocess.run([*words, "slim", "--torch-index", "x"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--torch-index is for full-cpu" in refused.stderr
