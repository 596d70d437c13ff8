"""pyannote's segmentation-3.0 as ONNX: which of up to three voices speak in each frame of ten seconds.

Bredin, Powerset multi-class cross entropy loss for neural speaker diarization (Interspeech 2023); its first layer is
SincNet's (Ravanelli and Bengio, 2018): band passes, each given by two frequencies.
"""

from __future__ import annotations

from builder.edges.weights.convert.graph import Graph, State, lstm_gates

RATE, SAMPLES, FRAMES = 16_000, 160_000, 589
"""Samples a second, samples of a window, frames that it becomes."""

LEAST_HZ = 50.0
"""Lowest frequency of a band, and its least width."""

LAYERS, HIDDEN, CLASSES = 4, 128, 7
"""LSTM layers, their size in each direction; sets of at most two out of three voices."""

_TASK = "pyannote.audio.core.task"
OPAQUE = frozenset(
    {
        ("torch.torch_version", "TorchVersion"),
        (_TASK, "Specifications"),
        (_TASK, "Problem"),
        (_TASK, "Resolution"),
    }
)
"""What the checkpoint says of its training, besides tensors."""


def segmenter_bytes(state: State) -> bytes:
    """The ONNX file: ``sound`` float32 [batch, 1, 160000] to ``classes`` [batch, 589, 7], logarithms of probabilities.

    Raises:
        KeyError: the state is not of this network.
    """
    graph = Graph(state)
    x = _sinc_net(graph, "sound")
    x = graph.add("Transpose", x, perm=[2, 0, 1])
    for layer in range(LAYERS):
        x = _lstm(graph, x, layer)
    x = graph.add("Transpose", x, perm=[1, 0, 2])
    for name in ("linear.0", "linear.1"):
        x = graph.add("LeakyRelu", _linear(graph, x, name), alpha=0.01)
    graph.add("LogSoftmax", _linear(graph, x, "classifier"), axis=2, output="classes")
    return graph.model("segmentation", {"sound": ["batch", 1, SAMPLES]}, {"classes": ["batch", FRAMES, CLASSES]})


def band_passes(low_hz: object, band_hz: object) -> object:
    """SincNet's filters [80, 1, 251]: 40 even (cosine), then 40 odd ones (sine), each between its two frequencies.

    Args:
        low_hz, band_hz: [40, 1], by how much each band's lowest frequency and width exceed their least.

    Loweimi et al., On Learning Interpretable CNNs with Parametric Modulated Kernel-Based Filters (2019), eq. 3 to 5.
    """
    import numpy as np

    half = 125
    low = LEAST_HZ + np.abs(np.asarray(low_hz, dtype=np.float64))
    high = np.clip(low + LEAST_HZ + np.abs(np.asarray(band_hz, dtype=np.float64)), LEAST_HZ, RATE / 2)
    turns = 2 * np.pi * np.arange(-half, 0.0)[None] / RATE
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.linspace(0, half - 1, half) / (2 * half))
    width = high - low
    even = (np.sin(high * turns) - np.sin(low * turns)) / (turns / 2) * window
    odd = (np.cos(low * turns) - np.cos(high * turns)) / (turns / 2) * window
    cosine = np.concatenate([even, 2 * width, even[:, ::-1]], axis=1)
    sine = np.concatenate([odd, 0 * width, -odd[:, ::-1]], axis=1)
    return np.concatenate([cosine, sine])[:, None] / np.concatenate([2 * width, 2 * width])[:, None]


def _sinc_net(graph: Graph, x: str) -> str:
    """Frames [batch, 60, 589] of sound: three rounds of convolution, pooling and normalisation over time."""
    import numpy as np

    state, at = graph.state, "sincnet"
    bank = f"{at}.conv1d.0.filterbank"
    filters = np.asarray(band_passes(state[f"{bank}.low_hz_"], state[f"{bank}.band_hz_"])).astype(np.float32)
    x = _instance_norm(graph, x, f"{at}.wav_norm1d")
    x = graph.add("Abs", graph.add("Conv", x, graph.constant("filters", filters), strides=[10]))
    for number in range(3):
        x = x if number == 0 else graph.conv(x, f"{at}.conv1d.{number}")
        x = graph.add("MaxPool", x, kernel_shape=[3], strides=[3])
        x = graph.add("LeakyRelu", _instance_norm(graph, x, f"{at}.norm1d.{number}"), alpha=0.01)
    return x


def _instance_norm(graph: Graph, x: str, name: str) -> str:
    weight, bias = graph.weights(f"{name}.weight"), graph.weights(f"{name}.bias")
    return graph.add("InstanceNormalization", x, weight, bias, epsilon=1e-5)


def _lstm(graph: Graph, x: str, layer: int) -> str:
    """One layer in both directions over [frames, batch, …], to [frames, batch, 256]."""
    import numpy as np

    def both(what: str) -> list[object]:
        return [graph.state[f"lstm.{what}_l{layer}{way}"] for way in ("", "_reverse")]

    gates = {what: [lstm_gates(a) for a in both(what)] for what in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    biases = [np.concatenate(pair) for pair in zip(gates["bias_ih"], gates["bias_hh"], strict=True)]
    inputs = [
        x,
        graph.constant(f"W{layer}", np.stack(gates["weight_ih"])),
        graph.constant(f"R{layer}", np.stack(gates["weight_hh"])),
        graph.constant(f"B{layer}", np.stack(biases)),
    ]
    (y,) = graph.node("LSTM", inputs, [graph.fresh()], hidden_size=HIDDEN, direction="bidirectional")
    y = graph.add("Transpose", y, perm=[0, 2, 1, 3])
    return graph.add("Reshape", y, graph.constant("joined", np.array([0, 0, 2 * HIDDEN], dtype=np.int64)))


def _linear(graph: Graph, x: str, name: str) -> str:
    turned = graph.constant(f"{name}.turned", graph.state[f"{name}.weight"].T)
    return graph.add("Add", graph.add("MatMul", x, turned), graph.weights(f"{name}.bias"))
