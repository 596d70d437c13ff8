"""pyannote.audio's own pipeline with the product's two weight files; runs in the peer's environment, not in the project's.

Input: JSON with the two files, how close two voices are one, and recordings; output: a line of turns for each recording.
The embedding's file is ONNX: pyannote.audio has a class for WeSpeaker's, which differs in names and in the window of its
features.
"""

from __future__ import annotations

import json
import sys
import wave
from functools import cached_property

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
    clustering = {"method": "centroid", "min_cluster_size": 12, "threshold": asked["threshold"]}
    pipeline.instantiate({"clustering": clustering, "segmentation": {"min_duration_off": 0.0}})
    for path, people in asked["files"]:
        with wave.open(path) as wav:
            samples = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").astype(np.float32) / 32768
        sound = {"waveform": torch.from_numpy(samples)[None], "sample_rate": 16000}
        found = pipeline(sound, num_speakers=people)
        turns = [(round(t.start, 3), round(t.end, 3), who) for t, _, who in found.itertracks(yield_label=True)]
        print(json.dumps(turns), flush=True)


if __name__ == "__main__":
    main()
