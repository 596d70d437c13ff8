"""The command line of the node program, ``batch.pyz``."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from builder.node.faults import BUG, NodeFault
from builder.node.results.pack import pack
from builder.node.shard import read_steps, shard_number
from builder.node.work import ShardOptions, ShardWork, ShardWorked
from builder.receiver.display import DISPLAY, guard, say, shown


def main(words: Sequence[str] | None = None) -> int:
    """Run the node program; its exit code.

    Args:
        words: of the command line; None takes those of the process.
    """
    guard()
    chosen = _arguments().parse_args(words)
    try:
        work = ShardWork(
            ShardOptions(
                batch=chosen.batch.absolute(),
                shard=shard_number(chosen.shard, chosen.first, os.environ),
                steps=read_steps(chosen.steps),
                input=chosen.input,
                results=chosen.results,
                items=chosen.items,
                scratch=chosen.scratch,
                pack=chosen.pack,
            ),
            on_progress=lambda stage, done, total: DISPLAY.status(f"{stage}: {done} of {total} recordings"),
        )
        worked = {"run": work.run, "begin": work.begin, "publish": work.publish}[chosen.do]()
    except NodeFault as error:
        say_fault(error)
        return _without(chosen, error.code)
    except Exception:  # noqa: BLE001 - whatever it is, the engine gets a code and the log a reason
        traceback.print_exc()
        return _without(chosen, BUG)
    tell(worked)
    return worked.code


def _without(chosen: argparse.Namespace, code: int) -> int:
    """A run that came to nothing packs nothing: HTCondor holds a job whose file is missing, whatever its exit code."""
    if chosen.pack is not None and not chosen.pack.exists():
        with contextlib.suppress(NodeFault):
            pack(chosen.pack, chosen.pack.parent, (), None, shard=chosen.shard or 0, code=code)
    return code


def tell(worked: ShardWorked) -> None:
    """Say what became of a shard."""
    if worked.fault is not None:
        say_fault(worked.fault)
    tally = worked.tally
    parts = [f"{len(tally.done)} of {worked.items} recordings have results"]
    parts += [f"{len(tally.failed)} failed"] if tally.failed else []
    parts += [f"{len(tally.differs)} came out differently than before"] if tally.differs else []
    parts += [f"{worked.left} are left"] if worked.left else []
    say(", ".join(parts))


def say_fault(error: NodeFault) -> None:
    """Say why a shard can't be worked off."""
    say(f"error: {error.what}")
    for line in error.detail:
        say(f"  | {shown(line)}")
    if error.do:
        say(f"  next: {error.do}")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="batch.pyz", description="Work through one shard of a batch.")
    parser.add_argument(
        "do", choices=("run", "begin", "publish"), help="all of it; or what comes before or after stages"
    )
    parser.add_argument("batch", type=Path, metavar="B", help="the batch's folder")
    parser.add_argument("--steps", type=Path, required=True, help="steps.json, which render wrote")
    parser.add_argument("--shard", type=int, help="its number; default: what the engine counts")
    parser.add_argument("--first", type=int, default=0, metavar="F", help="is added to the number")
    parser.add_argument("--input", type=Path, help="the recordings' folder here")
    parser.add_argument("--results", type=Path, help="default: results in the batch's folder")
    parser.add_argument("--items", type=Path, help="default: items.jsonl in the batch's folder")
    parser.add_argument(
        "--scratch", type=Path, help="a folder for what goes on; default: in the folder for temporary files"
    )
    parser.add_argument("--pack", type=Path, metavar="FILE", help="write what came out into a tar file, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
