"""The measures of the layout, on the tree as it is: ``make house``.

Every row has its bar; the script ends with 1 when one is missed. Duplicates are counted like this: a line counts when
it is code (no blank lines, comments, docstrings and imports, no line of punctuation alone); two places that have six
such lines in a row in common are one pair, however long the run is. "The same": the lines as they are. "Alike": every
name, string and number made equal, without lines that hold one element of a list, one argument or one field. Tests
are left out.
"""

from __future__ import annotations

import ast
import io
import json
import keyword
import re
import subprocess
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import grimp

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

ROOT = Path(__file__).resolve().parents[1]
ROOMS = "builder.edges"
SHORTEST = 6
"""Lines of code that make a run."""

ELEMENT = re.compile(r"[SN0](( [.=:])? [SN0])*( ,)?\s*")
"""The shape of a word, of one element of a list or of one argument: alike without being a copy."""

Measure = tuple[str, int, int | None, list[str]]
"""What, the figure, the most it may be, where."""

Line = tuple[Path, int, str]
"""A file, the number of the line, its text."""


def sources() -> list[Path]:
    """Every Python file that isn't a test."""
    found = [
        p for folder in ("builder", "stages", "images", "bench", "examples") for p in (ROOT / folder).rglob("*.py")
    ]
    return sorted([*found, ROOT / "build.py"])


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def modules_a_folder() -> Measure:
    counts = Counter(short(p.parent) for p in (ROOT / "builder").rglob("*.py") if p.name != "__init__.py")
    folder, most = counts.most_common(1)[0]
    return "most modules in one folder", most, 12, [folder]


def between_rooms(graph: grimp.ImportGraph) -> list[Measure]:
    """Which rooms of the edges know each other, and by how many imports of modules."""
    depth = ROOMS.count(".") + 1
    pairs: Counter[str] = Counter()
    for module in graph.find_descendants(ROOMS):
        for other in graph.find_modules_directly_imported_by(module):
            rooms = [name.split(".")[depth] for name in (module, other) if name.startswith(f"{ROOMS}.")]
            if len(rooms) == 2 and rooms[0] != rooms[1]:
                pairs[f"{rooms[0]} → {rooms[1]}"] += 1
    rows = [f"{pair} ({n})" for pair, n in sorted(pairs.items())]
    return [
        ("rooms of edges that know another", len(pairs), 15, rows),
        ("imports of modules between these rooms", pairs.total(), None, []),
    ]


def upward(graph: grimp.ImportGraph) -> Measure:
    """Imports from a lower layer to a higher one, by the contracts of pyproject.toml, with what they ignore."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    found = []
    for contract in contracts:
        for container in contract.get("containers", []):
            rank = {
                f"{container}.{name.strip()}": height
                for height, row in enumerate(reversed(contract["layers"]))
                for name in row.replace("|", ":").split(":")
            }
            below = {m: h for layer, h in rank.items() for m in (layer, *graph.find_descendants(layer))}
            found += [
                f"{module} → {other}"
                for module in below
                for other in graph.find_modules_directly_imported_by(module)
                if other in below and below[other] > below[module]
            ]
    return "imports that run up", len(found), 0, found


def circles(graph: grimp.ImportGraph) -> Measure:
    """Modules left when those that nobody left imports, or that import nobody left, are taken away again and again."""
    left = {m for m in graph.modules if m.split(".")[0] == "builder"}
    while ends := {
        m
        for m in left
        if not left & graph.find_modules_directly_imported_by(m)
        or not left & graph.find_modules_that_directly_import(m)
    }:
        left -= ends
    return "modules in circles", len(left), 0, sorted(left)


def complex_functions() -> Measure:
    """Functions over a complexity of 12, also where pyproject.toml is silent about them."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "C901", "--output-format", "json"]
    bound = ["--config", "lint.mccabe.max-complexity=12", "builder", "stages", "images", "build.py"]
    done = subprocess.run([*command, *bound], cwd=ROOT, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    rows = [f"{short(Path(f['filename']))}:{f['location']['row']} {f['message']}" for f in found]
    return "functions over complexity 12", len(found), 0, rows


def handed_on() -> Measure:
    """Calls in the workflows behind ``run`` that pass the whole session."""
    counts: Counter[str] = Counter()
    for name in ("run", "host", "jobs"):
        tree = ast.parse((ROOT / "builder" / "workflows" / f"{name}.py").read_text())
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            passed = [*call.args, *(k.value for k in call.keywords)]
            counts[name] += sum(isinstance(value, ast.Name) and value.id == "session" for value in passed)
    rows = [f"{name}: {n}" for name, n in counts.items()]
    return "times run, host and jobs hand the session on", counts.total(), 20, rows


def left_out(tree: ast.Module) -> set[int]:
    """Lines that aren't code: imports and docstrings."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.stmt) and (text or isinstance(node, ast.Import | ast.ImportFrom)):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def code(path: Path) -> list[Line]:
    """The lines of a file that count."""
    text = path.read_text()
    without = left_out(ast.parse(text))
    lines = enumerate(text.splitlines(), 1)
    stripped = [(n, line.split("  # ")[0].strip()) for n, line in lines if n not in without]
    return [(path, n, line) for n, line in stripped if any(c.isalnum() for c in line) and not line.startswith("#")]


def shape(line: str) -> str:
    """A line with every name, string and number made equal."""
    kinds = {tokenize.STRING: "S", tokenize.NUMBER: "0", getattr(tokenize, "FSTRING_START", -1): "S"}
    words = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(line).readline):
            plain = token.string if keyword.iskeyword(token.string) else "N"
            words.append(plain if token.type == tokenize.NAME else kinds.get(token.type, token.string))
    except (tokenize.TokenError, IndentationError):  # a line that goes on in the next
        pass
    return " ".join(words)


def runs(files: Sequence[Sequence[Line]]) -> Iterator[tuple[Sequence[Line], Sequence[Line]]]:
    """Pairs of places that have at least six lines in a row in common, longest first."""
    places: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    for f, lines in enumerate(files):
        for k in range(len(lines) - SHORTEST + 1):
            places[tuple(text for _, _, text in lines[k : k + SHORTEST])].append((f, k))
    same = {(a, b) for where in places.values() for i, a in enumerate(where) for b in where[i + 1 :]}
    starts = [((f, i), (g, j)) for (f, i), (g, j) in same if ((f, i - 1), (g, j - 1)) not in same]
    found = []
    for (f, i), (g, j) in starts:
        length = SHORTEST
        while ((f, i + length - SHORTEST + 1), (g, j + length - SHORTEST + 1)) in same:
            length += 1
        if f != g or j >= i + length:  # a run that overlaps itself is one list of alike lines
            found.append((length, f, i, g, j))
    for length, f, i, g, j in sorted(found, key=lambda run: (-run[0], *run[1:])):
        yield files[f][i : i + length], files[g][j : j + length]


def duplicates() -> Measure:
    """The same lines first, then what is alike beyond them; a place within a longer pair isn't counted again."""
    same = [code(path) for path in sources()]
    forms = [[(p, n, form) for p, n, text in lines if not ELEMENT.fullmatch(form := shape(text))] for lines in same]
    taken: set[tuple[Path, int, Path]] = set()
    rows = []
    for kind, files in (("the same", same), ("alike", forms)):
        for left, right in runs(files):
            places = [(a, b) for a, b in ((left, right), (right, left))]
            cells = {(path, n, other[0][0]) for one, other in places for path, n, _ in one}
            if not taken & cells:
                rows.append(f"{where(left)} ~ {where(right)} ({len(left)} lines, {kind})")
                taken |= cells
    return "pairs of places with six lines the same or alike", len(rows), 15, rows


def where(lines: Sequence[Line]) -> str:
    return f"{short(lines[0][0])}:{lines[0][1]}-{lines[-1][1]}"


def measures() -> Iterator[Measure]:
    graph = grimp.build_graph("builder", cache_dir=None)
    yield modules_a_folder()
    yield from between_rooms(graph)
    yield upward(graph)
    yield circles(graph)
    yield complex_functions()
    yield handed_on()
    yield duplicates()


def main() -> int:
    missed = 0
    for what, figure, most, where in measures():
        over = most is not None and figure > most
        missed += over
        print(f"{figure:5}  {what}" + ("" if most is None else f" (at most {most}{', MISSED' if over else ''})"))
        if over or "-v" in sys.argv:
            print("".join(f"         {row}\n" for row in where), end="")
    return int(missed > 0)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
