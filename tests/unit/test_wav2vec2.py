"""wav2vec2 as ONNX against the network written once more, in NumPy: both kinds, under the names of both libraries."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import load_from_string
from onnx.reference import ReferenceEvaluator

from builder.edges.weights.convert import converter, wav2vec2
from builder.errors import IntegrityError
from tests.unit.test_convert import zipped

LABELS = "<blank> <pad> | a <unk> b"
KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
CHANNELS, WIDTH, INNER, GROUPS = 4, 128, 24, 8


def state(*, early: bool, kernel: int = 6, layers: int = 2, labels: str = LABELS) -> dict[str, Any]:
    """Random weights with torchaudio's names; ``early`` normalises before each step."""
    random = np.random.default_rng(kernel)
    found = {}

    def put(name: str, *shape: int, near: float = 0.0) -> None:
        spread = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1
        found[name] = (near + spread * random.standard_normal(shape)).astype(np.float32)

    def layer(name: str, out: int, *into: int, bias: bool = True) -> None:
        put(f"{name}.weight", out, *into, near=0.0 if into else 1.0)
        if bias:
            put(f"{name}.bias", out)

    for k, size in enumerate(KERNELS):
        name = f"feature_extractor.conv_layers.{k}"
        layer(f"{name}.conv", CHANNELS, 1 if k == 0 else CHANNELS, size, bias=early)
        if early or k == 0:
            layer(f"{name}.layer_norm", CHANNELS)
    layer("encoder.feature_projection.layer_norm", CHANNELS)
    layer("encoder.feature_projection.projection", WIDTH, CHANNELS)
    at = "encoder.transformer"
    put(f"{at}.pos_conv_embed.conv.weight_g", 1, 1, kernel, near=2.0)
    put(f"{at}.pos_conv_embed.conv.weight_v", WIDTH, WIDTH // GROUPS, kernel)
    put(f"{at}.pos_conv_embed.conv.bias", WIDTH)
    layer(f"{at}.layer_norm", WIDTH)
    for k in range(layers):
        name = f"{at}.layers.{k}"
        for part in ("q", "k", "v", "out"):
            layer(f"{name}.attention.{part}_proj", WIDTH, WIDTH)
        layer(f"{name}.layer_norm", WIDTH)
        layer(f"{name}.feed_forward.intermediate_dense", INNER, WIDTH)
        layer(f"{name}.feed_forward.output_dense", WIDTH, INNER)
        layer(f"{name}.final_layer_norm", WIDTH)
    layer("aux", len(labels.split()), WIDTH)
    return found


def of_transformers(weights: dict[str, Any]) -> dict[str, Any]:
    """The same weights under Transformers' names, with what it keeps for training."""
    renamed = {"wav2vec2.masked_spec_embed": np.zeros(WIDTH, dtype=np.float32)}
    for name, array in weights.items():
        for ours, theirs in (("weight_g", "original0"), ("weight_v", "original1")):
            name = name.replace(f".{ours}", f".parametrizations.weight.{theirs}")
        name = name.replace("encoder.feature_projection", "feature_projection").replace(
            "encoder.transformer", "encoder"
        )
        renamed[name.replace("aux", "lm_head") if name.startswith("aux") else f"wav2vec2.{name}"] = array
    return renamed


class Plain:
    """The network in float64, a frame and a head at a time."""

    def __init__(self, weights: dict[str, Any], *, early: bool) -> None:
        self.w = {name: array.astype(np.float64) for name, array in weights.items()}
        self.early = early

    def scores(self, sound: Any) -> Any:
        """[frames, rows] of sound [samples]."""
        x, at = self.features(sound), "encoder.transformer"
        x = self.dense(
            self.standard(x, "encoder.feature_projection.layer_norm"), "encoder.feature_projection.projection"
        )
        x = x + self.gelu(self.around(x, f"{at}.pos_conv_embed.conv"))
        x = x if self.early else self.standard(x, f"{at}.layer_norm")
        for number in range(sum(name.endswith("q_proj.weight") for name in self.w)):
            name = f"{at}.layers.{number}"
            if self.early:
                x = x + self.attention(self.standard(x, f"{name}.layer_norm"), f"{name}.attention")
                x = x + self.forward(self.standard(x, f"{name}.final_layer_norm"), f"{name}.feed_forward")
            else:
                x = self.standard(x + self.attention(x, f"{name}.attention"), f"{name}.layer_norm")
                x = self.standard(x + self.forward(x, f"{name}.feed_forward"), f"{name}.final_layer_norm")
        return self.dense(self.standard(x, f"{at}.layer_norm") if self.early else x, "aux")

    def gelu(self, x: Any) -> Any:
        return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2

    def standard(self, x: Any, name: str, axis: int = 1) -> Any:
        x = (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + 1e-5)
        return x * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def dense(self, x: Any, name: str) -> Any:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def features(self, sound: Any) -> Any:
        x = sound.astype(np.float64)[:, None]
        for k, (size, step) in enumerate(zip(KERNELS, STRIDES, strict=True)):
            name = f"feature_extractor.conv_layers.{k}"
            kernel = self.w[f"{name}.conv.weight"].transpose(2, 1, 0)
            x = np.array([np.tensordot(x[t : t + size], kernel, 2) for t in range(0, len(x) - size + 1, step)])
            x = x + self.w.get(f"{name}.conv.bias", 0)
            if self.early or k == 0:
                x = self.standard(x, f"{name}.layer_norm", 1 if self.early else 0)
            x = self.gelu(x)
        return x

    def around(self, x: Any, name: str) -> Any:
        direction, length = (self.w[f"{name}.weight_{what}"] for what in "vg")
        kernel, size, part = (
            direction / np.sqrt((direction**2).sum((0, 1))) * length,
            direction.shape[2],
            WIDTH // GROUPS,
        )
        padded, found = np.pad(x, ((size // 2, size // 2), (0, 0))), np.zeros_like(x)
        for t in range(len(x)):
            for out in range(WIDTH):
                first = out // part * part
                found[t, out] = (padded[t : t + size, first : first + part] * kernel[out].T).sum()
        return found + self.w[f"{name}.bias"]

    def attention(self, x: Any, name: str) -> Any:
        q, k, v = (self.dense(x, f"{name}.{part}_proj") for part in "qkv")
        heads = []
        for first in range(0, WIDTH, 64):
            head = slice(first, first + 64)
            near = np.exp(q[:, head] @ k[:, head].T / 8)
            heads.append(near / near.sum(1, keepdims=True) @ v[:, head])
        return self.dense(np.concatenate(heads, 1), f"{name}.out_proj")

    def forward(self, x: Any, name: str) -> Any:
        return self.dense(self.gelu(self.dense(x, f"{name}.intermediate_dense")), f"{name}.output_dense")


def made(weights: dict[str, Any], labels: str = LABELS) -> bytes:
    return b"".join(wav2vec2.aligner_pieces(weights, labels))


@pytest.mark.parametrize("samples", [400, 719, 2600])
@pytest.mark.parametrize(("early", "kernel"), [(False, 6), (True, 5)], ids=["base", "large"])
def test_the_converted_network_computes_the_same(early: bool, kernel: int, samples: int) -> None:
    """Scores and number of frames; rows that stand for no letter are left out, and the file says what the others are."""
    weights = state(early=early, kernel=kernel)
    sound = np.random.default_rng(samples).standard_normal((1, samples)).astype(np.float32)
    model = load_from_string(made(weights))
    (scores,) = ReferenceEvaluator(model).run(None, {"sound": sound})
    assert scores.shape == (1, (samples - 400) // 320 + 1, 4)
    assert np.abs(scores[0] - Plain(weights, early=early).scores(sound[0])[:, [0, 2, 3, 5]]).max() < 1e-4
    told = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert told == {"vocabulary": {"<blank>": 0, "|": 1, "a": 2, "b": 3}}


@pytest.mark.parametrize("early", [False, True], ids=["base", "large"])
def test_the_names_of_another_library_are_the_same_network(early: bool) -> None:
    """To the byte, whatever order the arrays are read in; and the bytes are those that protobuf writes."""
    weights = state(early=early)
    data = made(weights)
    assert data == made(of_transformers(weights)) == made(dict(reversed(weights.items())))
    assert data == load_from_string(data).SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("change", "labels"),
    [
        ({"aux.bias": None}, LABELS),
        ({"encoder.transformer.layers.1.feed_forward.output_dense.weight": None}, LABELS),
        ({"encoder.transformer.layers.0.layer_norm.weight": None}, LABELS),
        ({"feature_extractor.conv_layers.3.conv.weight": np.zeros((4, 4, 5), dtype=np.float32)}, LABELS),
        ({"encoder.transformer.layers.0.attention.q_proj.weight": np.zeros((96, 96), dtype=np.float32)}, LABELS),
        ({"encoder.transformer.layers.0.adapter_layer.norm.weight": np.zeros(4, dtype=np.float32)}, LABELS),
        ({"feature_extractor.conv_layers.6.layer_norm.weight": np.zeros(4, dtype=np.float32)}, LABELS),
        ({}, "<blank> a b"),
        ({}, "<pad> <s> | a <unk> b"),
        ({}, "<blank> <pad> | a a b"),
        ({}, ""),
    ],
)
def test_another_network_or_other_labels_are_refused(tmp_path: Path, change: dict[str, Any], labels: str) -> None:
    """An array too few or too many, another shape, another number of labels: nothing is written."""
    weights = state(early=False) | change
    source, result = tmp_path / "a.pt", tmp_path / "a.onnx"
    source.write_bytes(zipped({name: array for name, array in weights.items() if array is not None}))
    with pytest.raises(IntegrityError, match="not the checkpoint of a wav2vec2"):
        converter("wav2vec2-onnx", labels)(source, result)
    assert not result.exists()


def test_a_checkpoint_becomes_a_file(tmp_path: Path) -> None:
    """By the reader that knows tensors only."""
    source, result = tmp_path / "a.pt", tmp_path / "a.onnx"
    source.write_bytes(zipped(state(early=False)))
    converter("wav2vec2-onnx", LABELS)(source, result)
    assert result.read_bytes() == made(state(early=False))
