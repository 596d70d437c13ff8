"""Tries recordings on the stages, in the stages' Python: one JSON object a line says what, one what came of it.

    PYTHON tests/hostile/media_worker.py

Each try is a process of its own that is forked from this one, which has imported everything; it runs the code that the
program runs. Its memory and time are those that the kernel counted for it and for what it started.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

STAGES = Path(__file__).resolve().parents[2] / "stages"
sys.path[:0] = [str(STAGES), str(STAGES / "demux"), str(STAGES / "mux")]


import clip  # noqa: E402
import contract  # noqa: E402
import mix  # noqa: E402, F401  NumPy

WALL = 600.0
"""Seconds after which a try hangs."""


def main() -> None:
    stages = {name: loaded(name) for name in ("demux", "mux")}
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps([tried(stages, words, Path(asked["log"])) for words in asked["tries"]]), flush=True)


def loaded(stage: str) -> Any:
    """The function that does a stage's work."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"stage_{stage}", STAGES / stage / "main.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module.work


def tried(stages: dict[str, Any], words: list[str], log: Path) -> dict[str, Any]:
    """Run ``clip``, ``demux`` or ``mux`` with arguments."""
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.argv = words
        code = 99
        try:
            if words[0] == "clip":
                code = clip.run()
            else:
                contract.main(words[0], stages[words[0]], media=True)
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 98
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    while True:
        ended, status, used = os.wait4(pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - began > WALL:
            os.kill(pid, 9)
        time.sleep(0.004)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": used.ru_utime + used.ru_stime,
        "wall": time.monotonic() - began,
        "peak": used.ru_maxrss * 1024,
        "said": log.read_bytes()[-4000:].decode("utf-8", "replace"),
    }


if __name__ == "__main__":
    main()
