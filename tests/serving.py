"""`models serve` as a process of its own, on the loopback."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from huggingface_hub import HfApi

from builder.edges.system import shell
from tests import small_project

TOKEN = "hf_CanaryOfServe0123456789"


@dataclass(frozen=True, kw_only=True)
class Serving:
    root: Path
    address: str
    process: shell.Process
    log: Path

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.address + path, headers=headers, timeout=30, trust_env=False)

    def hub(self) -> HfApi:
        return HfApi(endpoint=self.address, token=False)


@contextlib.contextmanager
def serving(root: Path, *options: str, before: str = "pass", logs: Path | None = None) -> Iterator[Serving]:
    """The real command for the project at ``root``; ``before`` is Python that runs first."""
    log = (logs or root) / f"serve-{time.monotonic_ns()}.log"
    code = f"import sys; {before}; from builder.cli import main; sys.exit(main(sys.argv[1:]))"
    argv = [sys.executable, "-c", code, "models", "serve", "--bind", "127.0.0.1:0", *options]
    env = {**os.environ, "PYTHONPATH": str(small_project.ROOT), "HF_TOKEN": TOKEN}
    process = shell.start(argv, cwd=root, env=env, log=log)
    try:
        for _ in range(600):
            if found := re.search(r"at (http://\S+)", log.read_text()):
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        assert found
        yield Serving(root=root, address=found[1], process=process, log=log)
    finally:
        shell.stop(process)
