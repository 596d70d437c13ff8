"""pyannote.audio's own pipeline with the product's two weight files; runs in the peer's environment, not in the project's.

Input: JSON with the two weight files, distances at which two voices are one, recordings and how many speak in each. Output: a
line for each recording: for each distance the turns with the count found, and given.
The embedding's file is ONNX: pyannote.audio has a class for WeSpeaker's, which differs in names and in the window of its
features.
"""

from __future__ import annotations

import json
import sys
import wave
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import onnxruntime
import torch
from pyannote.audio import Model
from pyannote.audio.pipelines import speaker_diarization
from pyannote.audio.pipelines.speaker_verification import ONNXWeSpeakerPretrainedSpeakerEmbedding
from torchaudio.compliance import kaldi


class Session:
    """The embedding under the names that pyannote.audio asks for."""

    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(self, output_names: list[str], input_feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """One batch."""
        return self.session.run(None, input_feed)


class Embedding(ONNXWeSpeakerPretrainedSpeakerEmbedding):
    """CAM++: features as Kaldi makes them by default."""

    def to(self, device: torch.device) -> Embedding:
        """The processor is all there is."""
        self.session_ = Session(self.embedding)
        self.device = device
        return self

    @cached_property
    def min_num_samples(self) -> int:
        """A tenth of a second."""
        return 1600

    def compute_fbank(self, waveforms: torch.Tensor, *_: object) -> torch.Tensor:
        """(batch, frames, 80)."""
        found = [kaldi.fbank(w, num_mel_bins=80, dither=0.0, sample_frequency=16000) for w in waveforms]
        features = torch.stack(found)
        return features - features.mean(dim=1, keepdim=True)


def once(work: Callable[..., Any]) -> Callable[..., Any]:
    """The costly steps don't depend on how near voices have to be: their result is used again for the same recording."""
    last: dict[str, Any] = {}

    def remembered(file: dict[str, Any], *more: Any, **options: Any) -> Any:
        if last.get("name") != file["name"]:
            last.update(name=file["name"], result=work(file, *more, **options))
        return last["result"]

    return remembered


def main() -> None:
    """Read what is asked, print turns."""
    asked = json.load(sys.stdin)
    torch.set_num_threads(2)
    speaker_diarization.PretrainedSpeakerEmbedding = lambda path, **_: Embedding(path)
    speaker_diarization.get_plda = lambda *_, **__: None
    pipeline = speaker_diarization.SpeakerDiarization(
        segmentation=Model.from_pretrained(asked["segmentation"]),
        embedding=asked["embedding"],
        embedding_exclude_overlap=True,
        clustering="AgglomerativeClustering",
        segmentation_batch_size=8,
        legacy=True,
    )
    pipeline.get_segmentations = once(pipeline.get_segmentations)
    pipeline.get_embeddings = once(pipeline.get_embeddings)
    for path, people in asked["files"]:
        with wave.open(path) as wav:
            samples = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").astype(np.float32) / 32768
        sound = {"waveform": torch.from_numpy(samples)[None], "sample_rate": 16000, "name": path}
        print(json.dumps([variants(pipeline, sound, t, people) for t in asked["thresholds"]]), flush=True)


def variants(
    pipeline: Any, sound: dict[str, Any], threshold: float, people: int
) -> list[list[tuple[float, float, str]]]:
    """Turns with the number of people found, and given."""
    clustering = {"method": "centroid", "min_cluster_size": 12, "threshold": threshold}
    pipeline.instantiate({"clustering": clustering, "segmentation": {"min_duration_off": 0.0}})
    both = []
    for number in (None, people):
        found = pipeline(dict(sound), num_speakers=number)
        both.append([(round(t.start, 3), round(t.end, 3), who) for t, _, who in found.itertracks(yield_label=True)])
    return both


if __name__ == "__main__":
    main()
