"""Random weights in the formats that the full variant's stages load, made inside its images: the real ones can't be
fetched everywhere. ``python3 small_weights.py alignment|pipeline|wav2vec2 FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
SPECIAL = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}

CONFIG = """\
pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    clustering: AgglomerativeClustering
    embedding: $model/embedding
    plda: $model/plda
    segmentation: $model/segmentation
    embedding_batch_size: 8
    segmentation_batch_size: 8
params:
  clustering: {method: centroid, min_cluster_size: 1, threshold: 0.7}
  segmentation: {min_duration_off: 0.0}
"""


def alignment(out: Path) -> None:
    """A wav2vec2 with a CTC head over English letters, as a hub repository has it."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    torch.manual_seed(1)
    config = Wav2Vec2Config(
        vocab_size=len(LETTERS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        pad_token_id=0,
    )
    Wav2Vec2ForCTC(config).save_pretrained(out)
    files = {
        "vocab.json": {letter: k for k, letter in enumerate(LETTERS)},
        "special_tokens_map.json": SPECIAL,
        "tokenizer_config.json": {"tokenizer_class": "Wav2Vec2CTCTokenizer", "word_delimiter_token": "|", **SPECIAL},
        "preprocessor_config.json": {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "sampling_rate": 16000,
            "padding_value": 0.0,
            "do_normalize": True,
            "return_attention_mask": False,
        },
    }
    for name, value in files.items():
        (out / name).write_text(json.dumps(value))


def wav2vec2(out: Path) -> None:
    """Checkpoints of both libraries and both kinds, and what they hear: ``<name>.pt``, ``<name>.npy``, ``sound.npy``."""
    import numpy as np
    import torch
    import torchaudio
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    torch.manual_seed(1)
    models = {}
    for kind, large in (("base", False), ("large", True)):
        config = Wav2Vec2Config(
            vocab_size=len(LETTERS),
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=96,
            conv_dim=(24,) * 7,
            conv_bias=large,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            do_stable_layer_norm=large,
            feat_extract_norm="layer" if large else "group",
        )
        models[f"transformers-{kind}"] = Wav2Vec2ForCTC(config)
        norm = "layer_norm" if large else "group_norm"
        layers = [(24, kernel, stride) for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True)]
        encoder = (128, 0.0, 16, 4, 2, 2, 0.0, 96, 0.0, 0.0, large, 0.0)
        models[f"torchaudio-{kind}"] = torchaudio.models.wav2vec2_model(norm, layers, large, *encoder, len(LETTERS))
    sound = torch.randn(1, 9000)
    out.mkdir()
    np.save(out / "sound.npy", sound.numpy())
    for name, model in models.items():
        for parameter in model.parameters():  # norms and biases begin as ones and zeros
            parameter.data += 0.05 * torch.randn_like(parameter)
        torch.save(model.state_dict(), out / f"{name}.pt")
        with torch.no_grad():
            heard = model.eval()(sound)
        scores = heard.logits if name.startswith("transformers") else heard[0]
        np.save(out / f"{name}.npy", torch.log_softmax(scores, -1).numpy())


def pipeline(out: Path) -> None:
    """A directory as pyannote.audio 4 loads it: segmentation, embedding, config.yaml."""
    sys.path.insert(0, "/opt/bake/stages")
    from loading import stand_in

    nothing = dict.fromkeys(("track_model_init", "track_pipeline_init", "track_pipeline_apply"), lambda *_, **__: None)
    stand_in("pyannote.audio.telemetry", **nothing)
    import numpy as np
    import torch
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.embedding import WeSpeakerResNet34
    from pyannote.audio.models.segmentation import PyanNet

    torch.manual_seed(1)
    small = {"hidden_size": 16, "num_layers": 1}
    segmentation = PyanNet(lstm={**small, "bidirectional": True, "monolithic": True}, linear=small)
    segmentation.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=10.0,
        warm_up=(0.0, 0.0),
        classes=["speaker#1", "speaker#2", "speaker#3"],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    embedding = WeSpeakerResNet34()
    embedding.specifications = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0, min_duration=1.0, classes=["a", "b"]
    )
    for name, model in (("segmentation", segmentation), ("embedding", embedding)):
        model.build()
        checkpoint = {
            "state_dict": model.state_dict(),
            "hyper_parameters": dict(model.hparams),
            "epoch": 0,
            "global_step": 0,
            "pytorch-lightning_version": "2.0.0",
        }
        model.on_save_checkpoint(checkpoint)
        (out / name).mkdir(parents=True)
        torch.save(checkpoint, out / name / "pytorch_model.bin")
    # What the pipeline reads beside its models, whatever its clustering: without it the hub would be asked.
    (out / "plda").mkdir()
    np.savez(out / "plda/xvec_transform.npz", mean1=np.zeros(256), mean2=np.zeros(128), lda=np.eye(256, 128))
    np.savez(out / "plda/plda.npz", mu=np.zeros(128), tr=np.eye(128), psi=np.linspace(2.0, 1.0, 128))
    (out / "config.yaml").write_text(CONFIG)


if __name__ == "__main__":
    {"alignment": alignment, "pipeline": pipeline, "wav2vec2": wav2vec2}[sys.argv[1]](Path(sys.argv[2]))
