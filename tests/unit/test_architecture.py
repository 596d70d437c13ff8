"""The rules of the house that a reading of the text can hold. Who may import whom: import-linter, in pyproject.toml."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILDER = sorted((ROOT / "builder").rglob("*.py"))
STAGES = sorted((ROOT / "stages").rglob("*.py"))

DOORS = {
    "builder/edges/system/shell.py": {"subprocess"},
    "builder/edges/engine/buildx.py": {"python_on_whales"},
    "builder/edges/engine/connection.py": {"python_on_whales"},
    # Before there is an environment; a developer's script; the loader of a bundle and the node program have
    # nothing but themselves.
    "builder/bootstrap/venv.py": {"subprocess"},
    "builder/bootstrap/wsl.py": {"subprocess"},
    "builder/receiver/trust/keys.py": {"subprocess"},
    "builder/node/steps.py": {"subprocess"},
    "requirements/stages.py": {"subprocess"},
    "requirements/wheels.py": {"subprocess"},
    # A stage has nothing of the builder's, and Apertium's programs are no library.
    "stages/translate/apertium.py": {"subprocess"},
}
"""Who may import what starts processes."""

READS = {"read_text", "read_bytes", "open", "glob", "rglob", "iterdir", "scandir", "listdir", "is_file", "loads"} | {
    "open_regular",
    "read_file",
    "read_json",
    "read_object",
}
"""How files and folders are read elsewhere."""

OURS = {
    # Files of our own, outside of jobs: caches, code, templates, an inventory's template.
    "builder/edges/jobs/budget.py": {"files.read_json"},
    "builder/edges/jobs/outcome.py": {"stages.glob", "(stages / name).glob", "path.read_bytes", "files.read_object"},
    "builder/edges/jobs/page.py": {"(folder / name).read_text"},
    "builder/edges/jobs/preflight.py": {"files.read_object", "(store / folder).iterdir", "p.is_file"},
    "builder/edges/jobs/record/speeds.py": {"files.read_object"},
    "builder/edges/jobs/stage_images.py": {"files.read_object", "folder.rglob", "path.is_file"},
    "builder/edges/jobs/correct/endpoint.py": {"files.read_object", "cache.glob"},
    "builder/edges/jobs/hosts/compose.py": {"self._compose_log.read_text"},
    "builder/receiver/jobs/job.py": {"recording.open", "target.open", "template.read_bytes", "json.loads"},
    "builder/receiver/jobs/kept.py": {"os.open"},
    "builder/receiver/jobs/recordings.py": {
        "Path('/sys/devices/system/cpu').glob",
        "path.read_text",
        "jobs.glob",
        "(target / mine['acceptance']['job']).read_bytes",
        "json.loads",
    },
    "builder/receiver/jobs/run.py": {
        "(folder / paths['expected']).read_bytes",
        "json.loads",
        "(folder / 'input').iterdir",  # before a container has run
        "(folder / '.lock').open",
    },
    # What a person typed: recordings and the references beside them, a file of names, a job's folder.
    "builder/edges/jobs/record/heard.py": {
        "(recording.parent / f'{recording.stem}.{truths.RESULTS}').is_file",
        "files.read_file",
    },
    "builder/edges/jobs/edits.py": {"files.read_file", "read_text"},
    "builder/edges/jobs/listing.py": {"(Path(name) / 'job.yaml').is_file", "os.scandir"},
    "builder/edges/jobs/prepare.py": {"real.is_file", "target.is_file", "jobs.glob"},
    "builder/edges/jobs/sources.py": {"glob.glob", "Path(p).is_file", "(path := Path(top, name)).is_file"},
    # Kinds of files, without a look into them; what is written, with O_NOFOLLOW; folders for their modes.
    "builder/edges/jobs/folder.py": {"job_folder.iterdir", "(job_folder / name).iterdir"},
    "builder/edges/jobs/delivery.py": {"os.open"},
    "builder/edges/jobs/record/pipeline.py": {"os.open"},
    "builder/receiver/jobs/places.py": {"os.open", "os.listdir"},
    "builder/receiver/jobs/untrusted.py": {"os.open", "os.scandir"},
}
"""What modules about jobs read past the door (receiver/jobs/untrusted.py), because no stage or stranger wrote it."""

MOST_MODULES = 12
"""Modules of one folder."""


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text())))


def imported(path: Path) -> Iterator[str]:
    """The packages that ``path`` imports, at any depth."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def below(folder: str) -> list[Path]:
    return [path for path in BUILDER if short(path).startswith(f"builder/{folder}/")]


def test_core_reads_no_environment_and_no_file() -> None:
    """Planning never depends on this machine."""
    impure = {"environ", "getenv", "read_text", "write_text", "read_bytes", "write_bytes"}
    found = {
        short(path): names
        for path in below("core")
        if (names := impure & {n.attr for n in nodes(path) if isinstance(n, ast.Attribute)})
    }
    assert found == {}


def test_a_name_means_one_class() -> None:
    """A reader who meets a name knows which class it is, and a search finds one."""
    classes: dict[str, list[str]] = defaultdict(list)
    for path in BUILDER:
        for node in nodes(path)[0].body:  # type: ignore[attr-defined]
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(short(path))
    twice = {name: paths for name, paths in classes.items() if len(paths) > 1}
    assert twice == {}


LITERAL = ("bootstrap/", "receiver/", "program.py", "core/weights/lock.py", "views/schemas.py")
"""Below builder: where a text is about build.py itself, or is written into a file that says the same on every machine."""


def test_what_to_type_next_names_the_program_that_was_typed() -> None:
    """``command("run …")``: whoever installed whisperbake has no build.py. Help texts are renamed when they are built."""
    found = [
        f"{short(path)}:{node.lineno}"
        for path in BUILDER
        if not short(path).removeprefix("builder/").startswith((*LITERAL, "cli/"))
        for node in nodes(path)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.search(r"\bbuild\.py [a-z]", node.value)
    ]
    assert found == []


def test_shipped_files_are_not_looked_for_in_the_users_folder() -> None:
    """``config.shipped`` has the stages and templates; ``config.root`` has what a user edits."""
    folders = "stages|images|templates|compose|requirements|examples"
    found = [short(path) for path in BUILDER if re.search(rf"config\.root / f?[\"'](?:{folders})\b", path.read_text())]
    assert found == []


def test_workflows_leave_effects_to_the_edges() -> None:
    """They resolve, plan and do; signals, files, digests and texts are the business of others."""
    effects = {"signal", "shutil", "hashlib", "json"}
    found = {short(path): names for path in below("workflows") if (names := effects & set(imported(path)))}
    assert found == {}


def test_processes_have_one_door() -> None:
    """A process is started in one place, with one way to time out, to be stopped and to say what went wrong."""
    found = {
        short(path): doors
        for path in [*BUILDER, *STAGES]
        if (doors := {"subprocess", "python_on_whales"} & set(imported(path)) - DOORS.get(short(path), set()))
    }
    assert found == {}


ASKED = {
    # Settings of proxies, addresses: nothing is asked.
    "builder/edges/system/answers.py": {"httpx", "httpcore", "socket", "urllib.request"},
    # Before there is an environment: the locked pip.
    "builder/bootstrap/pip_wheel.py": {"urllib.request", "http.client"},
    # The engine's own socket; the loader of a bundle has nothing but the standard library.
    "builder/edges/engine/connection.py": {"socket", "http.client"},
    "builder/receiver/engine.py": {"socket", "http.client"},
    "builder/edges/images/load.py": {"requests", "urllib3"},
    # It answers.
    "builder/edges/weights/serve.py": {"socket"},
}
"""Which modules may import what speaks to a network. Others have ``httpx`` for the names of its errors and answers."""


def test_answers_have_one_door() -> None:
    """Whatever comes from a network is bounded, and gets no secret that isn't its own: builder/edges/system/answers.py."""
    speakers = {
        "requests",
        "urllib3",
        "httpcore",
        "aiohttp",
        "huggingface_hub",
        "socket",
        "urllib.request",
        "http.client",
    }
    asking = re.compile(
        r"httpx2?\.(get|post|put|patch|delete|head|options|request|stream|Client|AsyncClient|HTTPTransport)"
    )
    found: dict[str, set[str]] = defaultdict(set)
    for path in [*BUILDER, *STAGES]:
        for node in nodes(path):
            if isinstance(node, ast.Import):
                found[short(path)] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found[short(path)] |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Call) and asking.fullmatch(ast.unparse(node.func)):
                found[short(path)].add(ast.unparse(node.func))
    for name, names in found.items():
        tops = {speaker for speaker in speakers for one in names if f"{one}.".startswith(f"{speaker}.")}
        calls = {one for one in names if asking.fullmatch(one)} if "answers.py" not in name else set()
        found[name] = (tops | calls) - ASKED.get(name, set())
    assert {name: names for name, names in found.items() if names} == {}


def test_what_stages_left_is_read_through_one_door() -> None:
    """A file of a job may be a link, a FIFO or a terabyte: whoever reads another way says here why that is safe."""
    found = {}
    for path in (p for p in BUILDER if short(p).startswith(("builder/edges/jobs/", "builder/receiver/jobs/"))):
        calls = [ast.unparse(n.func) for n in nodes(path) if isinstance(n, ast.Call)]
        past = {call for call in calls if call.rpartition(".")[2] in READS and not call.endswith("host.open")}
        if extra := past - OURS.get(short(path), set()) - {"self._native.open"}:
            found[short(path)] = extra
    assert found == {}


def test_stages_share_a_contract_and_no_code() -> None:
    """Stages run inside images, where there is no builder."""
    assert [short(path) for path in STAGES if "builder" in imported(path)] == []


def test_only_the_command_line_prints_and_exits() -> None:
    """Errors are data until the command line shows them."""
    ways = {"print", "sys.exit", "exit", "os._exit"}
    found = [
        f"{short(path)}:{node.lineno}"
        for path in [*below("core"), *below("edges"), *below("workflows")]
        for node in nodes(path)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ways
    ]
    assert found == []


def test_files_stay_readable() -> None:
    """No file over about 500 lines."""
    assert [short(p) for p in [*BUILDER, *STAGES] if len(p.read_text().splitlines()) > 520] == []


def test_a_folder_is_taken_in_at_a_glance() -> None:
    """At most a dozen modules a folder."""
    modules: dict[str, int] = defaultdict(int)
    for path in BUILDER:
        modules[short(path.parent)] += path.name != "__init__.py"
    assert {folder: n for folder, n in modules.items() if n > MOST_MODULES} == {}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a copy, no clone")
def test_nothing_that_git_ignores_is_in_the_repository() -> None:
    """A state folder or a link to one would go into every checkout, with a path of the machine that it was made on."""
    words = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert listed.stdout == ""


def test_no_two_modules_of_the_loader_share_a_name() -> None:
    """load.py has them all in one namespace: the later one would take the earlier one's place without a word."""
    owners: dict[str, set[str]] = {}
    for path in sorted((ROOT / "builder/receiver").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            named = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
            named += [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
            for name in named:
                owners.setdefault(name, set()).add(path.name)
    assert {name: where for name, where in owners.items() if len(where) > 1} == {}
