"""Modules that are run as programs. Standard library only."""

from __future__ import annotations

CODE = "import sys; sys.path[:] = filter(None, sys.path); import runpy; runpy.run_module({!r}, None, '__main__', True)"


def run_module(python: str, name: str) -> list[str]:
    """The beginning of a command that runs a module as ``python -m name`` does, but never one of the current folder.

    ``-m`` looks there first: a pip.py that somebody left in a shared folder would run. ``-P`` came with Python 3.11, and
    ``-I`` knows no pip of the user's own.
    """
    return [python, "-c", CODE.format(name)]
