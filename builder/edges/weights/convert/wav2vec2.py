"""wav2vec2 with a layer for letters as ONNX: which letter is said in each 20 ms of sound.

Baevski et al., wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations (NeurIPS 2020). Of its two
kinds, *base* normalises after each step, and over time in the first convolution only; *large* ones of XLSR's kind
normalise before each step, and in every convolution. That tells them apart.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from builder.edges.weights.convert.graph import Graph, State

CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
"""Kernel and stride of each: 400 samples become a frame, every 320 samples. A checkpoint doesn't have the strides."""

HEAD = 64
"""Width of an attention head in all published models; a checkpoint doesn't have it."""

BLANK = "<blank>"
"""The label of a frame in which no letter begins (Graves et al., Connectionist Temporal Classification, ICML 2006)."""

NAMES = {
    "wav2vec2.feature_extractor.": "feature_extractor.",
    "wav2vec2.feature_projection.": "encoder.feature_projection.",
    "wav2vec2.encoder.": "encoder.transformer.",
    "lm_head.": "aux.",
}
"""Beginnings of Transformers' names, and what torchaudio has in their place."""

ENDS = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}
"""Ends of names that PyTorch 2 gives to a weight's length and direction, and what they were before."""

TRAINING = frozenset({"wav2vec2.masked_spec_embed"})
"""What only training needs."""


def aligner_pieces(state: State, labels: str) -> Iterator[bytes]:
    """The ONNX file in pieces: ``sound`` float32 [1, samples] to ``scores`` [1, frames, labels], logarithms but for a sum.

    The numbers of the labels are in the file's metadata, ``vocabulary``: a JSON object.

    Args:
        state: the checkpoint, with torchaudio's names or Transformers'.
        labels: what each row of the last layer stands for, with spaces between. One is :data:`BLANK`; others in
            angle brackets are left out.

    Raises:
        KeyError: an array is missing.
        ValueError: the state is of another network, or has other labels.
    """
    net = _Network(state)
    vocabulary = net.name_labels(labels)
    net.linear(_encoded(net, _features(net)), "aux", output="rows")
    net.graph.add("Unsqueeze", "rows", net.graph.numbers("axis0", [0]), output="scores")
    if net.state:
        raise ValueError(f"nothing is known of {min(net.state)}")
    return net.graph.pieces(
        "wav2vec2",
        {"sound": [1, "samples"]},
        {"scores": [1, "frames", len(vocabulary)]},
        metadata={"vocabulary": json.dumps(vocabulary)},
    )


class _Network:
    """The graph, and what of the checkpoint is not in it yet."""

    def __init__(self, state: State) -> None:
        self.state = {_renamed(name): array for name, array in state.items() if name not in TRAINING}
        self.graph = Graph(self.state)
        self.early = "feature_extractor.conv_layers.1.layer_norm.weight" in self.state
        """Whether it normalises before each step."""

    def name_labels(self, labels: str) -> dict[str, int]:
        """Leave the rows of the last layer that are no letters out, and number the others."""
        names = labels.split()
        weight, bias = self.state["aux.weight"], self.state["aux.bias"]
        if len(names) != len(weight) or len(set(names)) != len(names) or BLANK not in names:
            raise ValueError(f"{len(weight)} rows for {len(names)} labels")
        kept = [k for k, name in enumerate(names) if name == BLANK or not (name[0] == "<" and name[-1] == ">")]
        self.state |= {"aux.weight": weight[kept], "aux.bias": bias[kept]}
        return {names[k]: number for number, k in enumerate(kept)}

    def array(self, name: str) -> str:
        """An array of the checkpoint, which is then in the graph."""
        import numpy as np

        return self.graph.constant(name, self.state.pop(name).astype(np.float32, copy=False))

    def linear(self, x: str, name: str, output: str | None = None) -> str:
        """[frames, a] to [frames, b]."""
        weight, bias = self.array(f"{name}.weight"), self.array(f"{name}.bias")
        return self.graph.add("Gemm", x, weight, bias, transB=1, output=output)

    def normalised(self, x: str, name: str) -> str:
        """Over the last dimension (Ba et al., Layer Normalization, 2016), PyTorch's epsilon."""
        weight, bias = self.array(f"{name}.weight"), self.array(f"{name}.bias")
        return self.graph.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=1e-5)


def _renamed(name: str) -> str:
    for theirs, ours in NAMES.items():
        if name.startswith(theirs):
            name = ours + name.removeprefix(theirs)
    for theirs, ours in ENDS.items():
        if name.endswith(theirs):
            name = name.removesuffix(theirs) + ours
    return name


def _features(net: _Network) -> str:
    """Frames [frames, channels] of the sound."""
    add = net.graph.add
    x = add("Unsqueeze", "sound", net.graph.numbers("axis1", [1]))
    for number, (kernel, stride) in enumerate(CONVOLUTIONS):
        name = f"feature_extractor.conv_layers.{number}"
        if net.state[f"{name}.conv.weight"].shape[2:] != (kernel,):
            raise ValueError(f"{name} has another kernel than {kernel}")
        parts = [f"{name}.conv.weight", f"{name}.conv.bias"]
        x = add("Conv", x, *[net.array(part) for part in parts if part in net.state], strides=[stride])
        if net.early:
            turned = net.normalised(add("Transpose", x, perm=[0, 2, 1]), f"{name}.layer_norm")
            x = add("Transpose", turned, perm=[0, 2, 1])
        elif number == 0:
            parts = [f"{name}.layer_norm.weight", f"{name}.layer_norm.bias"]
            x = add("InstanceNormalization", x, *[net.array(part) for part in parts], epsilon=1e-5)
        x = net.graph.gelu(x)
    return add("Transpose", add("Squeeze", x, net.graph.numbers("axis0", [0])), perm=[1, 0])


def _encoded(net: _Network, x: str) -> str:
    """Frames [frames, width] that know of each other."""
    add, at = net.graph.add, "encoder.transformer"
    x = net.linear(net.normalised(x, "encoder.feature_projection.layer_norm"), "encoder.feature_projection.projection")
    x = add("Add", x, _position(net, x))
    if not net.early:
        x = net.normalised(x, f"{at}.layer_norm")
    number = 0
    while f"{at}.layers.{number}.layer_norm.weight" in net.state:
        x = _layer(net, x, f"{at}.layers.{number}")
        number += 1
    return net.normalised(x, f"{at}.layer_norm") if net.early else x


def _position(net: _Network, x: str) -> str:
    """What the frames around each say of where it is: a grouped convolution over time."""
    add, name = net.graph.add, "encoder.transformer.pos_conv_embed.conv"
    weight = _of_length(net.state.pop(f"{name}.weight_v"), net.state.pop(f"{name}.weight_g"))
    width, part, kernel = weight.shape
    x = add("Unsqueeze", add("Transpose", x, perm=[1, 0]), net.graph.numbers("axis0", [0]))
    inputs = [x, net.graph.constant(f"{name}.weight", weight), net.array(f"{name}.bias")]
    x = net.graph.gelu(add("Conv", *inputs, group=width // part, pads=[kernel // 2, (kernel - 1) // 2]))
    return add("Transpose", add("Squeeze", x, net.graph.numbers("axis0", [0])), perm=[1, 0])


def _of_length(direction: Any, length: Any) -> Any:
    """The weight [out, in, kernel] of its direction at each place of the kernel, and its length there [1, 1, kernel].

    Salimans and Kingma, Weight Normalization (NeurIPS 2016). Sums are exact: they are the same on every machine.
    """
    import numpy as np

    direction = direction.astype(np.float64)
    squares = [math.fsum((direction[:, :, k] ** 2).ravel().tolist()) for k in range(direction.shape[2])]
    return (direction * (length.astype(np.float64) / np.sqrt(squares))).astype(np.float32)


def _layer(net: _Network, x: str, name: str) -> str:
    """One layer of the transformer (Vaswani et al., Attention Is All You Need, NeurIPS 2017)."""
    add = net.graph.add
    if net.early:
        x = add("Add", x, _attention(net, net.normalised(x, f"{name}.layer_norm"), f"{name}.attention"))
        return add("Add", x, _feed_forward(net, net.normalised(x, f"{name}.final_layer_norm"), f"{name}.feed_forward"))
    x = net.normalised(add("Add", x, _attention(net, x, f"{name}.attention")), f"{name}.layer_norm")
    return net.normalised(add("Add", x, _feed_forward(net, x, f"{name}.feed_forward")), f"{name}.final_layer_norm")


def _feed_forward(net: _Network, x: str, name: str) -> str:
    return net.linear(net.graph.gelu(net.linear(x, f"{name}.intermediate_dense")), f"{name}.output_dense")


def _attention(net: _Network, x: str, name: str) -> str:
    add = net.graph.add
    width = len(net.state[f"{name}.q_proj.weight"])
    if width % HEAD:
        raise ValueError(f"a width of {width} is not of heads of {HEAD}")
    heads = net.graph.numbers("heads", [-1, width // HEAD, HEAD])

    def split(what: str, *axes: int) -> str:
        return add("Transpose", add("Reshape", net.linear(x, f"{name}.{what}_proj"), heads), perm=axes)

    near = add("Mul", add("MatMul", split("q", 1, 0, 2), split("k", 1, 2, 0)), net.graph.number(HEAD**-0.5))
    heard = add("MatMul", add("Softmax", near, axis=-1), split("v", 1, 0, 2))
    joined = add("Reshape", add("Transpose", heard, perm=[1, 0, 2]), net.graph.numbers("width", [-1, width]))
    return net.linear(joined, f"{name}.out_proj")
