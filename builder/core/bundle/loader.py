"""load.py: the modules of builder/receiver as one readable file, and what the containers may do. Pure."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

MODULES = (
    "display",
    "tar",
    "checking/pieces",
    "missing",
    "inventory",
    "parts",
    "engine",
    "writing",
    "trust/keys",
    "trust/memory",
    "trust/names",
    "unpack",
    "jobs/untrusted",
    "jobs/kept",
    "images",
    "record",
    "versions/previous",
    "versions/rollback",
    "jobs/languages",
    "jobs/naming",
    "jobs/translating",
    "jobs/terms",
    "jobs/places",
    "jobs/job",
    "jobs/container",
    "jobs/run",
    "jobs/recordings",
    "options",
    "main",
)
"""Modules of builder/receiver in the order in which they stand in load.py."""

_HEAD = '''#!/usr/bin/env python3
"""Load a whisperbake bundle into this machine's container engine: no network, only Python 3.9 or later.

    python3 load.py --key sender.pub.pem  load what this engine lacks, if this key signed it
    python3 load.py --check               read everything once, name damaged parts; needs no engine
    python3 load.py --run FILE...         transcribe recordings with what is loaded
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
    del sys.path[0]  # Python looks for modules beside this file, and whoever fills a stick could put some there
'''

_TAIL = '''# What containers may do: written by the builder from the same data as compose.yaml

SANDBOX = json.loads(
    r"""
{sandbox}
"""
)

if __name__ == "__main__":
    sys.exit(main(sandbox=SANDBOX))
'''


def loader(sources: Mapping[str, str], sandbox: Mapping[str, Any]) -> bytes:
    """load.py: the modules one after the other, without what they import from each other.

    Args:
        sources: text of each module of :data:`MODULES`.
        sandbox: what a container may do, as JSON types (:func:`builder.core.jobs.sandbox.as_data`).
    """
    parts = [_HEAD]
    for name in MODULES:
        lines = sources[name].splitlines(keepends=True)
        tree = ast.parse(sources[name])
        for node in reversed(tree.body):
            docstring = node is tree.body[0]
            internal = isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("builder.", "__future__"))
            if docstring or internal:
                lines[node.lineno - 1 : node.end_lineno] = []
        title = (ast.get_docstring(tree) or name).splitlines()[0]
        parts.append(f"# {title}\n\n{''.join(lines).strip()}\n")
    parts.append(_TAIL.replace("{sandbox}", json.dumps(sandbox, indent=1, sort_keys=True)))
    return "\n\n".join(parts).encode()
