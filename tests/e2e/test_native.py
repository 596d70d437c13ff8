"""The native environment made for real, by pip, from a wheel of this test: no network is needed."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from builder.core.config.types import Config, StageSpec
from builder.core.progress import Progress, silent
from builder.edges.machine import environment as native
from builder.errors import IntegrityError, SourceError
from tests import small_project

ROOT = Path(__file__).resolve().parents[2]
STAGES = (StageSpec(name="one", summary="", requirements={"slim": "stages/one/requirements-slim.txt"}),)


def wheel(folder: Path, name: str, text: str) -> str:
    """Write a wheel with one module ``name``; its sha256."""
    info = f"{name}-1.dist-info"
    members = {
        f"{name}.py": text,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\nRequires-Dist: absent-package\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, content in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(content)}\n"
    folder.mkdir(exist_ok=True)
    target = folder / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, content in {**members, f"{info}/RECORD": record + f"{info}/RECORD,,\n"}.items():
            archive.writestr(path, content)
    return hashlib.sha256(target.read_bytes()).hexdigest()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    digest = wheel(tmp_path / "wheels", "parrot", "def speak():\n    return __file__\n")
    lock = tmp_path / STAGES[0].requirements["slim"]
    lock.parent.mkdir(parents=True)
    lock.write_text(f"parrot==1 \\\n    --hash=sha256:{digest}\n")
    return small_project.of_stages(STAGES, root=tmp_path, home=tmp_path / "state folder")


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    """A machine whose pip settings name one folder of wheels; and settings that must not lead pip astray."""
    (tmp_path / "pip.conf").write_text("[install]\nuser = true\nrequire-virtualenv = true\n")
    return {
        "PATH": os.environ["PATH"],
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        "PYTHONPATH": "/nonsense",
        "PIP_TARGET": str(tmp_path / "astray"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def test_it_is_made_once_and_whole(config: Config, env: Mapping[str, str], tmp_path: Path) -> None:
    python = native.ensure(config, STAGES, env=env, on_progress=silent)
    assert python == native.ready(config, STAGES)
    said = subprocess.run(
        [python, "-c", "import parrot; print(parrot.speak())"], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip().startswith(str(python.parents[1]))
    assert list(python.parents[1].glob("lib/python*/site-packages/__pycache__/parrot.*.pyc"))
    assert not (tmp_path / "astray").exists()
    assert {p.name for p in config.paths.native.iterdir()} == {python.parents[1].name, "lock"}

    told: list[Progress] = []
    assert native.ensure(config, STAGES, env={}, on_progress=told.append) == python
    assert told == [], "there is nothing to make, so nothing is told"


def test_two_at_once_make_one(config: Config, env: Mapping[str, str]) -> None:
    notes: list[str] = []
    makers = [
        threading.Thread(
            target=native.ensure,
            args=(config, STAGES),
            kwargs={"env": env, "on_progress": lambda p: notes.append(p.note)},
        )
        for _ in range(2)
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert sum(note.startswith("ready in") for note in notes) == 1


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_native
from builder.core.config.types import Config, Defaults
from builder.edges.machine import environment as native
root = Path({root!r})
native.ensure(Config(root=root, shipped=root, home=root / "state folder", jobs=root, defaults=Defaults(), presets={{}},
    models={{}}, pins={{}}, stages={{}}, images={{}}), test_native.STAGES, env={env!r}, on_progress=lambda _: None)
"""


def test_one_that_was_killed_is_made_anew(config: Config, env: Mapping[str, str]) -> None:
    """kill -9 of the builder alone: its pip goes on, and writes into a folder that nobody will use."""
    here = str(Path(__file__).parent)
    for seconds in (0.3, 0.8):
        program = KILLED.format(here=here, root=str(config.root), env=dict(env))
        victim = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
        time.sleep(seconds)
        victim.kill()
        victim.wait()
    python = native.ensure(config, STAGES, env=env, on_progress=silent)
    assert subprocess.run([python, "-c", "import parrot"], check=False).returncode == 0


def test_a_package_that_is_not_the_locked_one_is_refused(
    config: Config, env: Mapping[str, str], tmp_path: Path
) -> None:
    wheel(tmp_path / "wheels", "parrot", "raise SystemExit('another parrot')\n")
    with pytest.raises(IntegrityError) as caught:
        native.ensure(config, STAGES, env=env, on_progress=silent)
    assert caught.value.exit_code == 5
    assert native.ready(config, STAGES) is None
    assert {p.name for p in config.paths.native.iterdir()} == {"lock"}


def test_an_index_that_cannot_be_reached_is_an_error_of_the_source(config: Config) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "1",
    }
    with pytest.raises(SourceError, match="can't be reached") as caught:
        native.ensure(config, STAGES, env=env, on_progress=silent)
    assert caught.value.exit_code == 4
    assert native.ready(config, STAGES) is None
