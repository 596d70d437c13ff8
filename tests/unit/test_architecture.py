"""The rules of the design, held: who may import whom, and where effects may happen."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = sorted((ROOT / "builder/core").glob("*.py"))
EDGES = sorted((ROOT / "builder/edges").glob("*.py"))
STAGES = sorted((ROOT / "stages").rglob("*.py"))
OWN = [*sorted((ROOT / "builder").rglob("*.py")), *STAGES]

IMPURE = {"subprocess", "socket", "time", "datetime", "random", "tempfile", "shutil", "httpx", "urllib"}
"""Modules that core may not import: processes, networks, clocks, chance, disks."""

RANK = {
    "shell": 0,
    "files": 0,
    "web": 0,
    "tally": 0,
    "permissions": 0,
    "transfer": 1,
    "budget": 1,
    "store": 1,
    "layout": 1,
    "engine": 1,
    "probe": 1,
    "project": 1,
    "wheels": 1,
    "convert": 1,
    "folders": 1,
    "hub": 2,
    "bundle": 2,
    "compose": 2,
    "native": 2,
    "base": 2,
    "network": 1,
    "serve": 2,
    "gates": 2,
    "parcel": 2,
    "prune": 2,
    "lock": 3,
    "code": 2,
    "load": 2,
    "assemble": 3,
    "credentials": 1,
    "registry_http": 2,
    "registry": 3,
    "push": 4,
    "signing": 1,
    "packing": 2,
    "wheelhouse": 3,
    "preflight": 3,
    "jobs": 3,
    "images": 3,
    "processes": 3,
    "health": 3,
    "containers": 4,
    "runner": 4,
    "baking": 4,
    "report": 4,
}
"""An edge imports only edges of a lower rank."""


def imports(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Every module that ``path`` imports, at any depth, with the node that does it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node
            for name in node.names:
                yield f"{node.module}.{name.name}", node


@pytest.mark.parametrize("path", CORE, ids=lambda p: p.name)
def test_core_is_pure(path: Path) -> None:
    """Planning never depends on this machine: no edge, process, network, clock, environment."""
    for name, _ in imports(path):
        assert not name.startswith("builder.edges"), f"{path.name} imports {name}"
        assert name.split(".")[0] not in IMPURE, f"{path.name} imports {name}"
    names = {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
    assert not names & {"environ", "getenv", "read_text", "write_text", "read_bytes", "write_bytes"}, path.name


@pytest.mark.parametrize("path", OWN, ids=lambda p: str(p.relative_to(ROOT)))
def test_processes_have_one_door(path: Path) -> None:
    """Only edges/system/shell.py starts processes (python-on-whales does it inside edges/engine/connection.py).

    The launcher runs before there is an environment; stages/lock.py is a developer's script; the loader of a bundle has
    nothing but itself.
    """
    if path.name in {"shell.py", "bootstrap/venv.py", "lock.py"} or path.match("receiver/main.py"):
        return
    for name, _ in imports(path):
        assert name.split(".")[0] != "subprocess", f"{path} imports {name}"
        if name.split(".")[0] == "python_on_whales":
            assert path.name == "engine.py", f"{path} imports {name}"


@pytest.mark.parametrize("path", EDGES, ids=lambda p: p.name)
def test_edges_import_each_other_in_one_direction(path: Path) -> None:
    """shell, files < store, layout, engine < hub, bundle, compose, native < preflight, jobs < runner."""
    if path.stem == "__init__":
        return
    for name, _ in imports(path):
        parts = name.split(".")
        if parts[:2] == ["builder", "edges"] and len(parts) > 2 and parts[2] in RANK:
            assert RANK[parts[2]] < RANK[path.stem], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", STAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_stages_share_a_contract_and_no_code(path: Path) -> None:
    """Stages run inside images, where there is no builder."""
    for name, _ in imports(path):
        assert name.split(".")[0] != "builder", f"{path} imports {name}"


@pytest.mark.parametrize(
    "path", [p for p in OWN if p.parts[-2] in ("core", "edges")], ids=lambda p: str(p.relative_to(ROOT))
)
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    """Errors are data until cli.py shows them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "sys.exit", "exit", "os._exit"}, f"{path.name}: {called}"


@pytest.mark.parametrize("path", OWN, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_readable(path: Path) -> None:
    """No file over about 500 lines."""
    assert len(path.read_text().splitlines()) <= 520, path
