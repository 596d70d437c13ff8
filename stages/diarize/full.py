"""The full backend without a pipeline: a WeSpeaker embedding, whose features need PyTorch, or the d-vector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from contract import RATE, ModelFault, StageJob
from slim import Batched, DVector, open_session


class WeSpeaker:
    """An encoder of the WeSpeaker toolkit as ONNX: from ``feats`` [n, frames, 80] to n vectors."""

    def __init__(self, model: Batched) -> None:
        self.model = model

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

    def embed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Float32 [n, d] of each batch of features [n, frames, 80], without their mean over time, as in training."""
        return self.model.over(batch - batch.mean(axis=1, keepdims=True) for batch in batches)


def load(job: StageJob) -> WeSpeaker | DVector:
    """The job's embedding.

    Raises:
        ModelFault: it is missing or broken, or takes other inputs.
    """
    model = open_session(job)
    if model.input == "feats":
        return WeSpeaker(model)
    if model.input == "mels":
        return DVector(model)
    raise ModelFault(f"model {job.uses['embedding']['id']}: it takes {model.input}, not mels or feats")
