"""make bench-speech: real speech through the product's command, beside peers on the same weights.

Rows run by name, and resume where they ended: what was measured of a recording is kept as long as the product's files and
the recording stay the same. ``--final`` takes the recordings, voices and seeds that nobody tunes on.

    PYTHONPATH=.:bench .venv/bin/python -m speech [ROW …] [--count N] [--final] [--save]
"""

from __future__ import annotations

import argparse
import importlib
import sys

from speech import report
from speech.report import Options

ROWS = {
    "words": "words",
    "noise": "noise",
    "speakers": "speakers",
    "alone": "speakers",
    "meetings": "speakers",
    "attribution": "attribution",
    "ledger": "ledger",
    "cues": "cues",
    "times": "times",
    "provocations": "provocations",
    "windows": "windows",
    "pyannote": "pyannote",
    "dialogue": "cost",
    "hour": "cost",
    "memory": "cost",
    "diarization": "cost",
    "whisperx": "cost",
}
"""Row -> the module of speech.rows that has a function of this name: ``Options -> list[Line]``."""


def main() -> int:
    """Measure the rows that are named; all of them otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], metavar="ROW", help=", ".join(ROWS))
    parser.add_argument(
        "--count", type=int, help="so many recordings of each row (windows: hours; hour, memory, diarization: minutes)"
    )
    parser.add_argument("--final", action="store_true", help="on what is kept back for the final figure")
    parser.add_argument("--save", action="store_true", help="put the rows into bench/results.md")
    asked = parser.parse_args()
    options = Options(count=asked.count, final=asked.final)
    for name in asked.rows or ROWS:
        module = importlib.import_module(f"speech.rows.{ROWS[name]}")
        lines = getattr(module, name)(options)
        note = "final set" if options.final else "development set"
        report.publish(lines, save=asked.save, note=note + (f", {options.count} of it" if options.count else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
