"""batch.pyz: the node program and what it imports as one file that Python runs, the same bytes from the same sources."""

from __future__ import annotations

import ast
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from builder.edges.machine.project import PACKAGE

SHEBANG = b"#!/usr/bin/env python3\n"

ENTRY = """\
import sys

from builder.node.main import main

sys.exit(main())
"""
"""``__main__.py``."""

WHEN = (1980, 1, 1, 0, 0, 0)
"""Time of every member."""


def zipapp() -> bytes:
    """The file: not compressed, since every version of zlib writes other bytes."""
    out = io.BytesIO()
    out.write(SHEBANG)
    members = {f"builder/{path.relative_to(PACKAGE).as_posix()}": path.read_bytes() for path in modules()}
    with zipfile.ZipFile(out, "a") as archive:
        for name, data in sorted({"__main__.py": ENTRY.encode(), **members}.items()):
            member = zipfile.ZipInfo(name, WHEN)
            member.external_attr = 0o644 << 16
            member.create_system = 3
            archive.writestr(member, data)
    return out.getvalue()


def modules() -> list[Path]:
    """The files of the node program and of all that they import from this package, with the folders' ``__init__.py``."""
    waiting, found = sorted((PACKAGE / "node").glob("*.py")), set[Path]()
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        waiting.extend(_imported(path))
        folder = path.parent
        while folder != PACKAGE.parent:
            waiting.append(folder / "__init__.py")
            folder = folder.parent
    return sorted(found)


def _imported(path: Path) -> Iterator[Path]:
    """Files of this package that a module imports."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.startswith("builder."):
                place = PACKAGE.joinpath(*name.split(".")[1:])
                yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())
