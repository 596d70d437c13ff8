"""What a bundle for native runs takes along: known files, and no password of this site."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from builder.core.config.types import Config
from builder.edges.bundle import wheelhouse
from builder.edges.machine import project
from builder.errors import ConfigError

ROOT = Path(__file__).parents[2]
PASSWORD = "s3cret-Pa55"
ADDRESS = f"http://me:{PASSWORD}@proxy.example:3128"

FORMS = {
    "block": f"network:\n  proxy: {ADDRESS}\n",
    "unindented comment in it": f"network:\n  # ours\n# theirs\n  proxy: {ADDRESS}\n",
    "blank line with blanks in it": f"network:\n  torch_index_url: https://t.example\n   \n\n  proxy: {ADDRESS}\n",
    "flow": f"network: {{proxy: '{ADDRESS}'}}\n",
    "flow over lines": f"network: {{\nproxy: '{ADDRESS}'\n}}\n",
    "quoted key": f"'network':\n  proxy: {ADDRESS}\n",
    "double-quoted key": f'"network":\n  proxy: {ADDRESS}\n',
    "escaped key": f'"n\\x65twork":\n  proxy: {ADDRESS}\n',
    "explicit key": f"? network\n: proxy: {ADDRESS}\n",
    "blank before the colon": f"network :\n  proxy: {ADDRESS}\n",
    "folded": f"network:\n  proxy: >-\n    {ADDRESS}\n",
    "literal": f"network:\n  proxy: |-\n    {ADDRESS}\n",
    "double-quoted over lines": f'network:\n  proxy: "http://me:{PASSWORD}@\\\nproxy.example:3128"\n',
    "anchor": f"network: &n\n  proxy: &p {ADDRESS}\n",
    "comment": f"# network: {{proxy: {ADDRESS}}}\n",
    "comment behind a value": f"defaults: {{}}  # was {ADDRESS}\n",
    "document's start": f"---\nnetwork:\n  proxy: {ADDRESS}\n...\n",
    "byte order mark": f"\ufeffnetwork:\n  proxy: {ADDRESS}\n",
    "other ends of lines": f"network:\r\n  proxy: {ADDRESS}\r\n",
    "old ends of lines": f"network:\r  proxy: {ADDRESS}\r",
    "indented whole": f"  network:\n    proxy: {ADDRESS}\n",
    "one mapping": f"{{network: {{proxy: '{ADDRESS}'}}, defaults: {{}}}}\n",
}


@pytest.fixture
def collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, bytes]]:
    """What goes into a bundle of a copy of this project, with another bake.yaml and with files that were left in it."""
    root = tmp_path / "project"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    tracked = [
        name for name in listed.split("\0") if name.partition("/")[0] in (*wheelhouse.FOLDERS, *wheelhouse.FILES)
    ]
    for name in [*tracked, *project.CATALOGUE]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setattr(wheelhouse, "_wheels", lambda *_: wheels)  # pip's business

    def collect(bake: str, left: dict[str, str] | None = None) -> dict[str, bytes]:
        (root / "bake.yaml").write_text(bake, newline="")
        for name, text in (left or {}).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        config: Config = replace(project.load(ROOT, env={}), root=root, shipped=root)
        found = wheelhouse.collect(config, {}, lambda _: None)
        texts = {name: data if isinstance(data, bytes) else data.read_bytes() for name, data in found.items()}
        return {name.removeprefix("native/project/"): data for name, data in texts.items()}

    return collect


@pytest.mark.parametrize("form", FORMS)
def test_the_networks_password_stays_here(form: str) -> None:
    """However bake.yaml spells it; what is about the project arrives."""
    defaults = (
        ""
        if "defaults" in FORMS[form] or form in ("indented whole", "document's start")
        else "defaults: {mode: native}\n"
    )
    text = wheelhouse.without_network(FORMS[form].removeprefix("\ufeff") + defaults)
    assert PASSWORD not in text
    assert "network" not in yaml.safe_load(text)
    assert not defaults or yaml.safe_load(text)["defaults"] == {"mode": "native"}


@pytest.mark.parametrize("form", ["merge", "alias", "tag", "second document"])
def test_a_spelling_that_is_not_read_here_is_refused(form: str) -> None:
    text = {
        "merge": f"x: &x\n  proxy: {ADDRESS}\nnetwork:\n  <<: *x\n",
        "alias": f"x: &x {ADDRESS}\nnetwork: {{proxy: *x}}\n",
        "tag": f"network: !!map {{proxy: !!str '{ADDRESS}'}}\n",
        "second document": f"defaults: {{}}\n---\nnetwork: {{proxy: '{ADDRESS}'}}\n",
    }[form]
    with pytest.raises(ConfigError):
        wheelhouse.without_network(text)


STRAY = (
    *(".env", ".netrc", "stages/.env", "stages/asr/id_rsa", "stages/asr/server.pem", "stages/asr/main.py~"),
    *("stages/asr/.main.py.swp", "stages/asr/main.py.orig", "stages/asr/notes.txt", "stages/asr/#main.py#"),
    *("templates/report/report.js.bak", "templates/token", "examples/interview.mp4", "examples/dialogue.mp4.part"),
    *("images/tools/credentials.json", "compose/.git/config", "requirements/pip.conf", "stages/asr/main (copy).py"),
    *("stages/asr/sub/deep.py", "examples/dialogue.txt.gpg", "images/weights/token.txt", "stages/asr/.hidden.py"),
)


def test_what_was_left_in_the_folders_stays_here(collected: Callable[..., dict[str, bytes]]) -> None:
    """Keys, an editor's copies, other people's recordings."""
    before = collected("defaults: {}\n")
    after = collected("defaults: {}\n", dict.fromkeys(STRAY, PASSWORD))
    assert sorted(after) == sorted(before)
    assert [name for name, data in after.items() if PASSWORD.encode() in data] == []


def test_the_list_has_every_file_of_the_project(collected: Callable[..., dict[str, bytes]]) -> None:
    """A file of a new kind needs a line in it, else native runs lack it where the bundle goes."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *wheelhouse.FOLDERS, *wheelhouse.FILES, "builder", *project.CATALOGUE],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert {name for name in listed.stdout.decode().split("\0") if name} <= set(collected("defaults: {}\n"))


@pytest.mark.parametrize("name", ["models.yaml", "requirements/builder.txt", "bake.yaml"])
def test_a_password_elsewhere_is_named(collected: Callable[..., dict[str, bytes]], name: str) -> None:
    """An address with one has no place in what is handed on."""
    line = f"profiles: {{x: {{summary: 'see {ADDRESS}'}}}}\n"
    with pytest.raises(ConfigError) as caught:
        collected(line if name == "bake.yaml" else "defaults: {}\n", {} if name == "bake.yaml" else {name: line})
    assert str(caught.value.where).startswith(name)
    assert PASSWORD not in str(caught.value)
