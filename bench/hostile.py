"""make bench-hostile: attacks by generators, each kind against its bar; an attack that has an effect is named.

.venv/bin/python bench/hostile.py [KIND …] [--count N] [--save]
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness import ROOT, Row, publish

sys.path.insert(0, str(ROOT))


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A module of tests/hostile with ``attempt(number) -> Attempt``."""

    module: str
    count: int
    """How many are tried."""
    allowed: str


KINDS = {
    "jobs": Kind(module="jobs", count=2000, allowed="0 effects outside, 0 hangs, 0 crashes"),
    "media": Kind(module="media", count=3000, allowed="0 over the limits, 0 crashes"),
    "bundles": Kind(module="made_bundles", count=500, allowed="0 loaded, 0 outside"),
    "flips": Kind(module="flips", count=1000, allowed="0 missed, 0 without a name"),
    "answers": Kind(module="answers", count=1000, allowed="0 wrong, 0 unbounded, 0 secrets to others"),
    "text": Kind(module="text", count=10_000, allowed="0 injections"),
    "faults": Kind(module="faults", count=2500, allowed="0 wrong, 0 lost"),
}


def tried(module: str, number: int) -> str | None:
    """Try one attack; its name and its effect, when it had one."""
    from tests.hostile import effect

    folder = Path(tempfile.mkdtemp(prefix="wb-hostile-"))
    try:
        return effect(importlib.import_module(f"tests.hostile.{module}").attempt(number), folder / "place")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Try the kinds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--count", type=int, help="attacks of each kind, where not all are wanted")
    parser.add_argument("--save", action="store_true", help="keep the table in bench/results.md")
    options = parser.parse_args()
    rows: list[Row] = []
    bad = 0
    for name in options.kinds or KINDS:
        kind = KINDS[name]
        count = min(kind.count, options.count or kind.count)
        began, effects = time.monotonic(), list[str]()
        with ProcessPoolExecutor(2) as pool:
            for done, found in enumerate(pool.map(partial(tried, kind.module), range(count)), 1):
                if found is not None:
                    effects.append(found)
                    print(f"\r{name}: {found}")
                print(f"\r{name}: {done} of {count}", end="", flush=True, file=sys.stderr)
        print(file=sys.stderr)
        bad += len(effects)
        rows.append((f"{name}: {count} tried in {time.monotonic() - began:.0f} s", f"{len(effects)}", kind.allowed))
    publish("bench-hostile", rows, save=options.save)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
