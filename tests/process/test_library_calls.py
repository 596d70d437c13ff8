"""The calls of stages against the libraries that their locks name: one wheel of each version is fetched and read.

A stage's objects have no types, so a method is looked up by its name. That is enough for what differs between versions:
an argument or a name that is gone. The full variant's libraries are Python and gigabytes large; they are not read.
"""

from __future__ import annotations

import ast
import platform
import re
import subprocess
import sys
import zipfile
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from builder.core.config import requirements
from tests.shared import ROOT, once

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the wheels that are read are Linux's")

STAGES = ROOT / "stages"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
HERE = ".".join(platform.python_version_tuple()[:2])
STANDARD = {name for kind in (str, bytes, dict, list, Path, ArgumentParser) for name in dir(kind)}
"""Methods that a value without a type may have from Python itself."""
LIBC = ("manylinux_2_17", "manylinux_2_26", "manylinux_2_27", "manylinux_2_28", "manylinux2014")


@dataclass(frozen=True)
class Signature:
    """What a function takes."""

    positional: int | None
    """None: any number."""
    names: frozenset[str] | None
    """None: any name."""

    def takes(self, positional: int, names: Sequence[str]) -> bool:
        return (self.positional is None or positional <= self.positional) and (
            self.names is None or self.names.issuperset(names)
        )


class Library:
    """One version of a library: its names, and what its functions take."""

    def __init__(self, title: str, sources: Sequence[str], compiled: Callable[[], bytes] = bytes) -> None:
        """
        Args:
            sources: its modules, or their stubs.
            compiled: reads its extension modules: the names of what has no stubs stand there as text.
        """
        self.title, self.sources, self.compiled = title, sources, cache(compiled)
        self.functions = cache(self._functions)
        self.defined: dict[str, set[str]] = {}  # a name -> the sources that define it
        for text in sources:
            for name in re.findall(r"\b(?:def|class) +(\w+)", text):
                self.defined.setdefault(name, set()).add(text)

    def _functions(self, name: str) -> list[Signature]:
        """What the functions, methods and classes of that name take."""
        found = []
        for text in self.defined.get(name, ()):
            with suppress(SyntaxError):  # of a later Python: its names count, as text
                for node in ast.walk(parsed(text)):
                    if isinstance(node, ast.FunctionDef) and node.name == name:
                        found.append(_signature(node))
                    elif isinstance(node, ast.ClassDef) and node.name == name:
                        made = [n for n in node.body if isinstance(n, ast.FunctionDef)]
                        found += [_signature(n) for n in made if n.name in ("__init__", "__cinit__")]
        return found

    def has(self, name: str) -> bool:
        word = rf"\b{re.escape(name)}\b"
        return any(name in s and re.search(word, s) for s in self.sources) or bool(
            re.search(word.encode(), self.compiled())
        )

    def fault(self, name: str, positional: int, names: Sequence[str]) -> str:
        """What is wrong with a call; "" for nothing."""
        if known := self.functions(name):
            if not any(signature.takes(positional, names) for signature in known):
                return f"{self.title}: {name} doesn't take {positional} arguments and {', '.join(names) or 'no names'}"
        elif gone := [n for n in (name, *names) if not self.has(n)]:
            return f"{self.title} has no {', '.join(gone)}"
        return ""


def _signature(function: ast.FunctionDef) -> Signature:
    given = function.args
    plain = [a.arg for a in [*given.posonlyargs, *given.args]]
    bound = plain[:1] and plain[0] in ("self", "cls")
    names = {a.arg for a in [*given.args, *given.kwonlyargs]}
    return Signature(
        positional=None if given.vararg else len(plain) - bool(bound), names=None if given.kwarg else frozenset(names)
    )


@dataclass(frozen=True, kw_only=True)
class Use:
    """A place where a stage calls or names something that may be a library's."""

    where: str
    library: str
    """Its import name; "" when only the method's name is known."""
    name: str
    positional: int = 0
    names: tuple[str, ...] = ()


class Uses(ast.NodeVisitor):
    """The uses of libraries in one file."""

    def __init__(self, path: Path) -> None:
        self.path, self.found = path, list[Use]()
        self.tree = parsed(path.read_text())
        self.roots: dict[str, set[str]] = {}  # a name of the file -> the import names it may come from
        self.made: dict[str, set[str]] = {}  # a variable -> those of what it was made with
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.roots.setdefault((alias.asname or alias.name).split(".")[0], set()).add(
                        alias.name.split(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    self.roots.setdefault(alias.asname or alias.name, set()).add(node.module.split(".")[0])
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                roots = self.roots_of(node.value.func)
                self.made |= {t.id: roots for t in node.targets if isinstance(t, ast.Name) and roots}
        self.visit(self.tree)

    def roots_of(self, node: ast.expr) -> set[str]:
        """The import names at the beginning of ``a.b.c``; none when it isn't an import."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return self.roots.get(node.id, set()) if isinstance(node, ast.Name) else set()

    def use(
        self, node: ast.expr, libraries: Iterable[str], name: str, positional: int = 0, names: Sequence[str] = ()
    ) -> None:
        where = f"{self.path.relative_to(STAGES)}:{node.lineno}"
        for library in libraries:
            self.found.append(Use(where=where, library=library, name=name, positional=positional, names=tuple(names)))

    def visit_Call(self, node: ast.Call) -> None:
        names = [word for keyword in node.keywords for word in self.words(keyword)]
        spread = any(isinstance(a, ast.Starred) for a in node.args)
        positional = 0 if spread else len(node.args)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if libraries := self.roots_of(node.func):
            self.use(node, libraries, name, positional, names)
        elif isinstance(node.func, ast.Attribute) and names:
            self.use(node, [""], name, positional, names)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if libraries := self.roots_of(node):
            self.use(node, libraries, node.attr)
        elif isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
            self.use(node, self.made.get(node.value.id, ()), node.attr)  # options.intra_op_num_threads = …
        self.generic_visit(node)

    def words(self, keyword: ast.keyword) -> Iterator[str]:
        """The names that a keyword stands for: ``**OPTIONS`` for those of the dict of that name."""
        if keyword.arg is not None:
            yield keyword.arg
            return
        for path in self.path, *sorted(self.path.parent.glob("*.py")):
            for node in ast.walk(parsed(path.read_text())):
                yield from _keys(node, keyword.value)


@cache
def parsed(text: str) -> ast.Module:
    return ast.parse(text)


def _keys(node: ast.AST, wanted: ast.expr) -> Iterator[str]:
    """The keys of a dict that ``node`` gives to the name, or returns from the function, that is ``wanted``."""
    value: ast.AST | None = None
    if isinstance(wanted, ast.Name) and isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        value = node.value if any(isinstance(t, ast.Name) and t.id == wanted.id for t in targets) else None
    elif isinstance(wanted, ast.Call) and isinstance(wanted.func, ast.Name) and isinstance(node, ast.FunctionDef):
        returned = [n.value for n in ast.walk(node) if isinstance(n, ast.Return) and node.name == wanted.func.id]
        value = next(iter(returned), None)
    if isinstance(value, ast.Dict):
        yield from (k.value for k in value.keys if isinstance(k, ast.Constant) and isinstance(k.value, str))


OWN = {n.name for p in STAGES.rglob("*.py") for n in ast.walk(parsed(p.read_text())) if isinstance(n, ast.FunctionDef)}
"""Functions of stages."""

USES = {path: Uses(path).found for path in STAGES.rglob("*.py") if path.name not in ("full.py", "pipeline.py")}


def faults(uses: Sequence[Use], libraries: Mapping[str, Library]) -> list[str]:
    """What stages use that the libraries (by import name) don't have.

    A method that a stage defines, or that no library has, is not a library's.
    """
    found = []
    for use in uses:
        if use.library in libraries:
            said = [libraries[use.library].fault(use.name, use.positional, use.names)]
        elif use.library or use.name in OWN | STANDARD:
            continue
        else:
            said = [
                library.fault(use.name, use.positional, use.names)
                for library in libraries.values()
                if library.functions(use.name)
            ]
        if said and all(said):
            found.append(f"{use.where}: {said[0]}")
    return found


# The wheels that locks name.


@dataclass(frozen=True)
class Locked:
    """One version of a library in the slim locks."""

    pin: requirements.Requirement
    pythons: tuple[str, ...]
    """The Pythons that get it, on Linux."""


def locked(lock: Path) -> list[Locked]:
    """The libraries that stages use, of one lock."""
    found = []
    for pin in requirements.parse(lock.name, lock.read_text()):
        if pin.name.replace("-", "_") not in CALLED:
            continue
        marker = Requirement(pin.text.split(" \\")[0]).marker
        linux = {"sys_platform": "linux", "platform_machine": platform.machine()}
        fits = [p for p in PYTHONS if not marker or marker.evaluate({**linux, "python_full_version": f"{p}.0"})]
        found.append(Locked(pin, tuple(fits)))
    return found


CALLED = {use.library for uses in USES.values() for use in uses}
LOCKS = {path.parent.name: found for path in sorted(STAGES.glob("*/requirements-slim.txt")) if (found := locked(path))}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, str], Path]:
    """Name and version -> the wheel, of this Python where it is for it."""
    wanted: dict[str, dict[tuple[str, str], str]] = {}
    for each in (one for lock in LOCKS.values() for one in lock if one.pythons):
        python = HERE if HERE in each.pythons else each.pythons[0]
        text = re.sub(r" ; [^\\\n]+", "", each.pin.text, count=1)
        wanted.setdefault(python, {})[each.pin.name, each.pin.version] = text

    def fetch(folder: Path) -> None:
        for python, texts in wanted.items():
            lock = folder / f"{python}.txt"
            lock.write_text("".join(texts.values()))
            words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
            words += ["--only-binary", ":all:", "--python-version", python, "--implementation", "cp"]
            words += [w for libc in LIBC for w in ("--platform", f"{libc}_{platform.machine()}")]
            words += [w for abi in (f"cp{python.replace('.', '')}", "abi3", "none") for w in ("--abi", abi)]
            done = subprocess.run(
                [*words, "--dest", str(folder), "--requirement", str(lock)], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr

    found = {}
    for path in once(tmp_path_factory, "locked-wheels", fetch).glob("*.whl"):
        name, version = path.name.split("-")[:2]
        found[canonicalize_name(name), version] = path
    return found


@cache
def library(wheel: Path) -> Library:
    """What is in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        files = [f for f in archive.namelist() if not re.search(r"\.(dist-info|data|libs)/|/tests?/|/_examples/", f)]
        stubbed = {f.removesuffix("i") for f in files if f.endswith(".pyi")}
        python = [f for f in files if f.endswith((".py", ".pyi")) and f not in stubbed]
        sources = [archive.read(f).decode() for f in python]

    def compiled() -> bytes:
        with zipfile.ZipFile(wheel) as archive:
            return b"".join(archive.read(f) for f in files if f.endswith(".so") and "/lib" not in f)

    return Library("-".join(wheel.name.split("-")[:2]), sources, compiled)


@pytest.mark.parametrize(
    ("stage", "python"), [(s, p) for s, lock in LOCKS.items() for p in PYTHONS if any(p in one.pythons for one in lock)]
)
def test_stages_use_what_the_locked_libraries_have(
    wheels: Mapping[tuple[str, str], Path], stage: str, python: str
) -> None:
    """Every name, and every argument of every call: PyAV 19 took one away, and demux died on Python 3.12 alone."""
    libraries = {}
    for each in LOCKS[stage]:
        if python in each.pythons:
            libraries[each.pin.name.replace("-", "_")] = library(wheels[each.pin.name, each.pin.version])
    uses = [use for path, found in USES.items() if path.parent in (STAGES, STAGES / stage) for use in found]
    assert {u.library for u in uses} & set(libraries), "the stage uses a library, and this sees it"
    assert faults(uses, libraries) == []


def test_an_argument_or_a_name_that_is_gone_is_noticed() -> None:
    """media.py against a PyAV that is as it is, and against some that lost one thing."""
    stub = "def open(file, mode=None, options=None, metadata_errors='strict'): ...\n"
    stub += "class stream: Disposition\nclass Disposition: attached_pic; default\nclass FFmpegError: ...\n"
    stub += "class ArgumentError: ...\nclass codec: Codec\ncodecs_available = set()\n"
    stub += "class Codec:\n    def __init__(self, name, mode='r'): ...\n"
    stub += "class Output:\n    def add_stream_from_template(self, template, opaque=None, **kwargs): ...\n"

    def said(text: str) -> list[str]:
        return faults(USES[STAGES / "media.py"], {"av": Library("av", [text])})

    assert said(stub) == []
    assert [s.partition(": ")[2] for s in said(stub.replace(", metadata_errors='strict'", ""))] == [
        "av: open doesn't take 1 arguments and options, metadata_errors"
    ]
    assert {s.partition(": ")[2] for s in said(stub.replace("; default", ""))} == {"av has no default"}
    assert len(said(stub.replace("opaque=None, **kwargs", ""))) == 1
