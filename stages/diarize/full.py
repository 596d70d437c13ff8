"""The full backend without a pipeline: a WeSpeaker embedding, whose features need PyTorch, or the d-vector."""

from __future__ import annotations

from typing import Any

from contract import RATE, ModelFault, StageJob
from slim import DVector, open_session


class WeSpeaker:
    """An encoder of the WeSpeaker toolkit as ONNX: from ``feats`` [n, frames, 80] to n vectors."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def features(self, sound: Any) -> Any:
        """Kaldi's filter bank [frames, 80] of float32 samples, 100 frames a second, as in WeSpeaker's training."""
        import torch
        from torchaudio.compliance import kaldi

        bank = kaldi.fbank(
            torch.from_numpy(sound)[None] * 32768.0,
            num_mel_bins=80,
            frame_length=25,
            frame_shift=10,
            sample_frequency=RATE,
            window_type="hamming",
            dither=0.0,
            snip_edges=False,
        )
        return bank.numpy()

    def embed(self, windows: Any) -> Any:
        """Float32 [n, d] of features [n, frames, 80], without their mean over time, as in training."""
        feats = windows - windows.mean(axis=1, keepdims=True)
        return self.session.run(None, {"feats": feats})[0]


def load(job: StageJob) -> WeSpeaker | DVector:
    """The job's embedding.

    Raises:
        ModelFault: it is missing or broken, or takes other inputs.
    """
    session = open_session(job)
    inputs = [i.name for i in session.get_inputs()]
    if inputs == ["feats"]:
        return WeSpeaker(session)
    if inputs == ["mels"]:
        return DVector(session)
    raise ModelFault(f"model {job.uses['embedding']['id']}: it takes {', '.join(inputs)}, not mels or feats")
