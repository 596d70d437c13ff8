"""The slim backend: models on ONNX Runtime, no PyTorch. A d-vector alone, or what :mod:`voices` needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from contract import ModelFault, StageJob

WORKERS = 4
"""Batches that are computed at the same time at most: each takes memory."""


class Batched:
    """A model that is given batches on several threads, each batch on one: the same results with any number of them."""

    def __init__(self, session: Any, threads: int) -> None:
        self.session = session
        self.workers = min(threads, WORKERS)

    @property
    def input(self) -> str:
        """The names of its inputs."""
        return ", ".join(i.name for i in self.session.get_inputs())

    def over(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The model's first output for each batch, in order; few batches are in memory at a time."""
        name = self.input
        waiting: list[Future[Any]] = []

        def run(batch: Any) -> Any:
            return self.session.run(None, {name: batch})[0]

        with ThreadPoolExecutor(self.workers) as pool:
            for batch in batches:
                waiting.append(pool.submit(run, batch))
                if len(waiting) > self.workers:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()


class DVector:
    """Resemblyzer's speaker encoder."""

    def __init__(self, model: Batched) -> None:
        self.model = model

    def features(self, sound: Any) -> Any:
        """Mel power [frames, 40] of float32 samples, 100 frames a second."""
        from features import level, mels

        return mels(level(sound))

    def embed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Float32 [n, 256] of each batch of features [n, frames, 40]."""
        return self.model.over(batches)


def load(job: StageJob) -> DVector:
    """The job's d-vector.

    Raises:
        ModelFault: it is missing or broken, or takes other inputs.
    """
    model = open_session(job)
    if model.input != "mels":
        raise ModelFault(f"model {job.uses['embedding']['id']}: it takes {model.input}, not mels as a d-vector does")
    return DVector(model)


def open_session(job: StageJob, purpose: str = "embedding") -> Batched:
    """A model's ``.onnx`` file on ONNX Runtime; imports and loading are timed.

    Raises:
        ModelFault: the file is missing or broken.
    """
    with job.timed("imports"):
        import cluster  # noqa: F401  # for its libraries, so that their import doesn't count as work
        import onnxruntime
    with job.timed("load"):
        folder: Path = job.model(purpose)
        files = sorted(folder.glob("*.onnx"))
        if not files:
            raise ModelFault(f"model {job.uses[purpose]['id']}: no .onnx file in its folder")
        options = onnxruntime.SessionOptions()
        # Sums are rounded in another order on another number of threads: more threads get batches of their own.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(str(files[0]), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelFault(f"model {job.uses[purpose]['id']} can't be loaded: {error}") from error
        return Batched(session, job.settings["threads"])
