"""The slim backend: a d-vector on ONNX Runtime, no PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contract import ModelFault, StageJob


class DVector:
    """Resemblyzer's speaker encoder."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def features(self, sound: Any) -> Any:
        """Mel power [frames, 40] of float32 samples, 100 frames a second."""
        from features import level, mels

        return mels(level(sound))

    def embed(self, windows: Any) -> Any:
        """Float32 [n, 256] of features [n, frames, 40]."""
        return self.session.run(["embedding"], {"mels": windows})[0]


def load(job: StageJob) -> DVector:
    """The job's d-vector.

    Raises:
        ModelFault: it is missing or broken, or takes other inputs.
    """
    session = open_session(job)
    inputs = [i.name for i in session.get_inputs()]
    if inputs != ["mels"]:
        raise ModelFault(
            f"model {job.uses['embedding']['id']}: it takes {', '.join(inputs)}, not mels as a d-vector does"
        )
    return DVector(session)


def open_session(job: StageJob) -> Any:
    """ONNX Runtime's session of the embedding's ``.onnx`` file; imports and loading are timed.

    Raises:
        ModelFault: the file is missing or broken.
    """
    with job.timed("imports"):
        import cluster  # noqa: F401  # for its libraries, so that their import doesn't count as work
        import onnxruntime
    with job.timed("load"):
        folder: Path = job.model("embedding")
        files = sorted(folder.glob("*.onnx"))
        if not files:
            raise ModelFault(f"model {job.uses['embedding']['id']}: no .onnx file in its folder")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job.settings["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(str(files[0]), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelFault(f"model {job.uses['embedding']['id']} can't be loaded: {error}") from error
