"""The JSON of every command, as schemas: ``python -m builder.views.schemas`` prints docs/json.md.

A command joins by ``X = View(…)`` in a module of this folder. Names in its shape have to be imported when the module is,
not only for type checkers.
"""

from __future__ import annotations

import dataclasses
import json
import pkgutil
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import typing_extensions
from pydantic import ConfigDict, TypeAdapter

from builder import errors, views
from builder.views import View

_KINDS = (kind.kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BakeError))
KINDS = list(dict.fromkeys(_KINDS))
"""Words for scripts, in the order of the exit codes."""

HEAD = f"""\
# What `--json` prints

Every command takes `--json`, before or after its name. Standard output then has one JSON document and nothing else, also
when the command fails; progress stays on standard error unless `--quiet` is given. `jobs list --watch` and `jobs logs`
print one document a line.

```sh
python3 build.py jobs list --json                    # [{{"id": "20261123-…", "state": "done", …}}]
python3 build.py jobs list --json | python3 -c 'import json, sys; print(*[job["id"] for job in json.load(sys.stdin)])'
python3 build.py models list --json > models.json
```

A failure is an `error`: alone, as a key of the result that failed, or with a list that failed as the `result` beside it:

| key | type | meaning |
|---|---|---|
| `error.code` | string | a word that never changes: {", ".join(f"`{kind}`" for kind in KINDS)} |
| `error.what` | string | what failed, one sentence |
| `error.where` | string or null | the file, option, model, stage or address |
| `error.expected` | string or null | what would have been right |
| `error.hint` | string or null | what to type or change next |
| `error.detail` | list of string | context, such as the last lines of a log |
| `error.exit_code` | integer | the exit code of the command |

A version goes up when a key is removed, renamed or means something else. Keys may be added at any time.

This page is generated from the types in `builder/views` (`make json`). The commands:
"""


def all_views() -> dict[str, View[Any]]:
    """Every :class:`View` of the modules in this folder and below, by command."""
    found: dict[str, View[Any]] = {}
    for module in sorted(info.name for info in pkgutil.walk_packages(views.__path__, f"{views.__name__}.")):
        if module != __name__ and not module.endswith(".schemas"):
            named = vars(import_module(module)).values()
            found |= {view.command: view for view in named if isinstance(view, View)}
    return dict(sorted(found.items()))


def adapter(shape: Any) -> TypeAdapter[Any]:
    """A shape's validator: it refuses keys that the shape doesn't have, and its schema carries the docstrings."""
    for part in parts(shape):
        part.__pydantic_config__ = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    return TypeAdapter(shape)


def parts(shape: Any) -> Iterator[Any]:
    """The TypedDicts and dataclasses that a shape is made of, itself too; each once."""
    waiting, seen = [shape], set()
    while waiting:
        part = waiting.pop()
        waiting.extend(typing.get_args(part))
        if part in seen or not (typing_extensions.is_typeddict(part) or dataclasses.is_dataclass(part)):
            continue
        seen.add(part)
        waiting.extend(typing_extensions.get_type_hints(part).values())
        yield part


@cache
def schema(view: View[Any]) -> dict[str, Any]:
    """The JSON schema of one command's result."""
    whole = adapter(view.shape).json_schema(mode="serialization")
    about = {part.__name__: inherited(part) for part in parts(view.shape)}
    for node in (whole, *whole.get("$defs", {}).values()):
        for name, value in node.get("properties", {}).items():
            if "description" not in value and name in about.get(node.get("title", ""), {}):
                value["description"] = about[node["title"]][name]
    return whole


def inherited(shape: Any) -> dict[str, str]:
    """Key -> docstring of the TypedDicts that one extends: pydantic reads those of its own class alone."""
    found: dict[str, str] = {}
    for base in getattr(shape, "__orig_bases__", ()):
        if typing_extensions.is_typeddict(base):
            properties = adapter(base).json_schema(mode="serialization").get("properties", {})
            found |= inherited(base) | {name: p["description"] for name, p in properties.items() if "description" in p}
    return found


def rows(view: View[Any]) -> list[tuple[str, str, str]]:
    """Path, type and meaning of each key: ``stages[].seconds``. ``*`` stands for keys that are data."""
    whole = schema(view)
    return list(_rows(whole, whole.get("$defs", {}), ""))


def shape_of(view: View[Any]) -> dict[str, str]:
    """Path -> type of each key: what a version stands for."""
    return {path: kind for path, kind, _ in rows(view)}


def _rows(node: Mapping[str, Any], defs: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    node = _resolved(node, defs)
    for choice in node.get("anyOf", ()):
        yield from _rows(choice, defs, path)
    items = node.get("items")
    if isinstance(items, Mapping):
        yield from _rows(items, defs, f"{path}[]")
    below = dict(node.get("properties", {}))
    if isinstance(node.get("additionalProperties"), Mapping):
        below["*"] = node["additionalProperties"]
    required = node.get("required", [*below])
    for name, value in below.items():
        inner = f"{path}.{name}" if path else name
        optional = "" if name in required or name == "*" or "default" in value else ", may be absent"
        described = _resolved(value, defs) if name == "*" else value  # a key that is data has no docstring of its own
        yield inner, _kind(value, defs) + optional, described.get("description", "")
        yield from _rows(value, defs, inner)


def _resolved(node: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        node = {**defs[node["$ref"].rsplit("/", 1)[-1]], **{k: v for k, v in node.items() if k != "$ref"}}
    return node


def _kind(node: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    node = _resolved(node, defs)
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_kind(choice, defs) for choice in node["anyOf"]))
    if "enum" in node:
        return " or ".join(f"`{word}`" for word in node["enum"])
    if "const" in node:
        return f"`{node['const']}`"
    kind = node.get("type", "anything")
    if kind == "array":
        items = node.get("items")
        return f"list of {_kind(items, defs)}" if isinstance(items, Mapping) else "list"
    return str(kind)


def document() -> str:
    """docs/json.md."""
    found = all_views()
    links = [f"[{command}](#{command.replace(' ', '-')})" for command in found]
    return "\n".join([f"{HEAD}{', '.join(links)}.\n", *(_section(view) for view in found.values())])


def _section(view: View[Any]) -> str:
    whole = schema(view)
    top = _resolved(whole, whole.get("$defs", {}))
    about = str(top.get("description", "")).split("\n\n")[0].replace("\n", " ")
    lines = [
        f"## {view.command}",
        "",
        f"Version {view.version}: {_kind(top, whole.get('$defs', {}))}. {about}".strip(),
        "",
    ]
    keys = rows(view)
    if keys:
        lines += ["| key | type | meaning |", "|---|---|---|"]
        lines += [f"| `{path}` | {kind} | {_one_line(meaning)} |" for path, kind, meaning in keys]
        lines.append("")
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def recorded(before: Mapping[str, Any]) -> dict[str, Any]:
    """The record of all shapes: command -> version and keys.

    Args:
        before: the record so far.

    Raises:
        ValueError: a key of a shape went away or changed its type, and its version did not go up.
    """
    record: dict[str, Any] = {}
    for command, view in all_views().items():
        keys = shape_of(view)
        known = before.get(command)
        if known and view.version <= known["version"]:
            changed = sorted(path for path, kind in known["keys"].items() if keys.get(path) != kind)
            if changed or view.version < known["version"]:
                raise ValueError(
                    f"{command}: {', '.join(changed)} changed: its View needs version {known['version'] + 1}"
                )
        record[command] = {"version": view.version, "keys": keys}
    return record


def main(argv: Sequence[str]) -> int:
    """Print docs/json.md; with a command's name, its JSON schema; with ``--record FILE``, write the record."""
    if argv[:1] == ["--record"]:
        from builder.edges.system import files

        path = Path(argv[1])
        files.write_atomic(path, json.dumps(recorded(files.read_json(path) or {}), indent=1) + "\n")
    elif argv:
        print(json.dumps(schema(all_views()[" ".join(argv)]), indent=2, ensure_ascii=False))
    else:
        print(document(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
