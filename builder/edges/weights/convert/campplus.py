"""3D-Speaker's CAM++ as ONNX: one vector for up to two seconds of one voice.

Wang et al., CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware Masking (Interspeech 2023).
"""

from __future__ import annotations

import math

from builder.edges.weights.convert.graph import Graph, State

BINS = 80
"""Mel bins of the input."""

FRAMES = 200
"""Frames that the graph takes at most: 2 s. Its context-aware masks pool over 100 frames after a stride of two; up to
here that is all of the input, and the mask's context is twice the mean."""

BLOCKS = ((1, 12, 1), (2, 24, 2), (3, 16, 2))
"""Number, layers and dilation of each dense block."""


def encoder_bytes(state: State) -> bytes:
    """The ONNX file: ``feats`` float32 [batch, frames, 80], mean over time taken off, to ``embedding`` [batch, d].

    Raises:
        KeyError: the state is not of this network.
    """
    graph = Graph(state)
    x = _head(graph, graph.add("Transpose", "feats", perm=[0, 2, 1]))
    x = graph.conv(x, "xvector.tdnn.linear", "xvector.tdnn.nonlinear.batchnorm", strides=[2], pads=[2, 2])
    x = graph.relu(x)
    for number, layers, dilation in BLOCKS:
        for layer in range(1, layers + 1):
            grown = _dense_layer(graph, x, f"xvector.block{number}.tdnnd{layer}", dilation)
            x = graph.add("Concat", x, grown, axis=1)
        transit = f"xvector.transit{number}"
        x = graph.conv(graph.relu(graph.normalised(x, f"{transit}.nonlinear.batchnorm")), f"{transit}.linear")
    x = graph.relu(graph.normalised(x, "xvector.out_nonlinear.batchnorm"))
    x = graph.conv(_statistics(graph, x), "xvector.dense.linear", "xvector.dense.nonlinear.batchnorm")
    graph.add("Squeeze", x, _axis(graph, 2), output="embedding")
    size = state["xvector.dense.linear.weight"].shape[0]
    return graph.model("campplus", {"feats": ["batch", "frames", BINS]}, {"embedding": ["batch", size]})


def _head(graph: Graph, x: str) -> str:
    """Two-dimensional convolutions over bins and time, which leave an eighth of the bins; [batch, channels, frames]."""
    import numpy as np

    x = graph.add("Unsqueeze", x, _axis(graph, 1))
    x = graph.relu(graph.conv(x, "head.conv1", "head.bn1", pads=[1] * 4))
    for layer in ("head.layer1", "head.layer2"):
        x = _residual(graph, _residual(graph, x, f"{layer}.0", 2), f"{layer}.1", 1)
    x = graph.relu(graph.conv(x, "head.conv2", "head.bn2", strides=[2, 1], pads=[1] * 4))
    channels = graph.state["head.conv2.weight"].shape[0] * math.ceil(BINS / 8)
    return graph.add("Reshape", x, graph.constant("flat", np.array([0, channels, -1], dtype=np.int64)))


def _residual(graph: Graph, x: str, name: str, stride: int) -> str:
    y = graph.conv(x, f"{name}.conv1", f"{name}.bn1", strides=[stride, 1], pads=[1] * 4)
    y = graph.conv(graph.relu(y), f"{name}.conv2", f"{name}.bn2", pads=[1] * 4)
    if f"{name}.shortcut.0.weight" in graph.state:
        x = graph.conv(x, f"{name}.shortcut.0", f"{name}.shortcut.1", strides=[stride, 1])
    return graph.relu(graph.add("Add", y, x))


def _dense_layer(graph: Graph, x: str, name: str, dilation: int) -> str:
    """What a layer of a dense block adds to its input's channels: a convolution under a mask that the context makes."""
    import numpy as np

    x = graph.relu(graph.normalised(x, f"{name}.nonlinear1.batchnorm"))
    x = graph.relu(graph.conv(x, f"{name}.linear1", f"{name}.nonlinear2.batchnorm"))
    local = graph.conv(x, f"{name}.cam_layer.linear_local", dilations=[dilation], pads=[dilation] * 2)
    mean = graph.add("ReduceMean", x, axes=[2], keepdims=1)
    context = graph.add("Mul", mean, graph.constant("twice", np.array(2.0, dtype=np.float32)))
    hidden = graph.relu(graph.conv(context, f"{name}.cam_layer.linear1"))
    return graph.add("Mul", local, graph.add("Sigmoid", graph.conv(hidden, f"{name}.cam_layer.linear2")))


def _statistics(graph: Graph, x: str) -> str:
    """Mean and deviation (of a sample: n - 1) over time: [batch, 2 * channels, 1]."""
    import numpy as np

    mean = graph.add("ReduceMean", x, axes=[2], keepdims=1)
    off = graph.add("Sub", x, mean)
    total = graph.add("ReduceSum", graph.add("Mul", off, off), _axis(graph, 2), keepdims=1)
    length = graph.add("Gather", graph.add("Shape", x), graph.constant("time", np.array(2, dtype=np.int64)))
    count = graph.add("Cast", length, to=1)
    fewer = graph.add("Sub", count, graph.constant("one", np.array(1.0, dtype=np.float32)))
    return graph.add("Concat", mean, graph.add("Sqrt", graph.add("Div", total, fewer)), axis=1)


def _axis(graph: Graph, axis: int) -> str:
    import numpy as np

    return graph.constant(f"axis{axis}", np.array([axis], dtype=np.int64))
