"""ONNX graphs, written layer by layer from arrays. What is computed on the way is rounded the same on every machine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

State = Mapping[str, Any]
"""A checkpoint's arrays by name."""

Shapes = Mapping[str, Sequence[Any]]
"""Dimensions of inputs or outputs by name."""


class Graph:
    """Nodes and weights of one model; each method adds a layer and returns the name of its output."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._nodes: list[Any] = []
        self._weights: dict[str, Any] = {}
        self._count = 0

    def constant(self, name: str, array: Any) -> str:
        """The name of an array in the graph; each name stands for one array."""
        import numpy as np

        self._weights.setdefault(name, np.ascontiguousarray(array))
        return name

    def weights(self, name: str) -> str:
        """An array of the checkpoint in the graph."""
        return self.constant(name, self.state[name])

    def add(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """One node with one output."""
        return self.node(op, inputs, [output or self.fresh()], **attributes)[0]

    def node(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Sequence[str]:
        """One node with any number of outputs."""
        from onnx import helper

        self._nodes.append(helper.make_node(op, list(inputs), list(outputs), **attributes))
        return outputs

    def fresh(self) -> str:
        """A name that no other value has."""
        self._count += 1
        return f"v{self._count}"

    def numbers(self, name: str, values: Sequence[float], *, float32: bool = False) -> str:
        """A list of integers (axes, shapes), or of float32."""
        import numpy as np

        return self.constant(name, np.array(values, dtype=np.float32 if float32 else np.int64))

    def number(self, value: float) -> str:
        import numpy as np

        return self.constant(f"number {value:.9g}", np.array(value, dtype=np.float32))

    def relu(self, x: str) -> str:
        return self.add("Relu", x)

    def gelu(self, x: str) -> str:
        """x · Φ(x) (Hendrycks and Gimpel, Gaussian Error Linear Units, 2016)."""
        erf = self.add("Erf", self.add("Div", x, self.number(math.sqrt(2))))
        return self.add("Mul", self.add("Mul", x, self.add("Add", erf, self.number(1))), self.number(0.5))

    def normalised(self, x: str, norm: str) -> str:
        """Batch normalisation before a non-linearity: a product and a sum for each channel of [batch, channels, time]."""
        scale, shift = normalisation(self.state, norm)
        scaled = self.add("Mul", x, self.constant(f"{norm}.scale", _single(scale)[:, None]))
        return self.add("Add", scaled, self.constant(f"{norm}.shift", _single(shift)[:, None]))

    def conv(self, x: str, name: str, norm: str | None = None, **attributes: Any) -> str:
        """A convolution, with the batch normalisation that follows it folded in."""
        import numpy as np

        weight = self.state[f"{name}.weight"].astype(np.float64)
        bias = self.state.get(f"{name}.bias")
        bias = None if bias is None else bias.astype(np.float64)
        if norm is not None:
            scale, shift = normalisation(self.state, norm)
            weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            bias = shift if bias is None else bias * scale + shift
        inputs = [x, self.constant(f"{name}.weight", _single(weight))]
        if bias is not None:
            inputs.append(self.constant(f"{name}.bias", _single(bias)))
        return self.add("Conv", *inputs, **attributes)

    def model(self, name: str, inputs: Shapes, outputs: Shapes) -> bytes:
        """The ONNX file; shapes by name of input and output, with texts for free dimensions."""
        return b"".join(self.pieces(name, inputs, outputs))

    def pieces(
        self, name: str, inputs: Shapes, outputs: Shapes, *, metadata: Mapping[str, str] | None = None
    ) -> Iterator[bytes]:
        """:meth:`model` in pieces, an array at a time: hundreds of megabytes are not in memory once more.

        They are the bytes that protobuf itself writes: the fields of a message in the order of their numbers (onnx.proto).
        Versions are fixed, whatever this machine has: the result has a pin.
        """
        from onnx import GraphProto, ModelProto, StringStringEntryProto, TensorProto, helper

        def values(shapes: Shapes) -> list[Any]:
            return [helper.make_tensor_value_info(key, TensorProto.FLOAT, list(s)) for key, s in shapes.items()]

        front = _serialised(GraphProto(node=self._nodes, name=name))
        back = _serialised(GraphProto(input=values(inputs), output=values(outputs)))
        arrays = sum(len(self._array(key)) for key in self._weights)
        yield _serialised(ModelProto(ir_version=8, producer_name="whisperbake"))
        yield _head(ModelProto.GRAPH_FIELD_NUMBER, len(front) + arrays + len(back)) + front
        yield from map(self._array, self._weights)
        told = [StringStringEntryProto(key=key, value=value) for key, value in sorted((metadata or {}).items())]
        yield back + _serialised(ModelProto(opset_import=[helper.make_opsetid("", 17)], metadata_props=told))

    def _array(self, key: str) -> bytes:
        """An array as a field of the graph."""
        from onnx import GraphProto, numpy_helper

        data = _serialised(numpy_helper.from_array(self._weights[key], key))
        return _head(GraphProto.INITIALIZER_FIELD_NUMBER, len(data)) + data


def _serialised(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))


def _head(field: int, size: int) -> bytes:
    """What stands before a message of ``size`` bytes inside another one (protobuf.dev, Encoding)."""
    return _varint(field << 3 | 2) + _varint(size)


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


def normalisation(state: State, name: str) -> tuple[Any, Any]:
    """Factor and summand of a batch normalisation (Ioffe and Szegedy, 2015) in use, float64, PyTorch's epsilon."""
    import numpy as np

    mean, variance = (state[f"{name}.running_{what}"].astype(np.float64) for what in ("mean", "var"))
    scale = 1 / np.sqrt(variance + 1e-5)
    if f"{name}.weight" not in state:
        return scale, -mean * scale
    scale = scale * state[f"{name}.weight"].astype(np.float64)
    return scale, state[f"{name}.bias"].astype(np.float64) - mean * scale


def lstm_gates(array: Any) -> Any:
    """Rows of PyTorch's LSTM gates (i, f, g, o) in the order that ONNX wants (i, o, f, c)."""
    import numpy as np

    i, f, g, o = np.split(array, 4)
    return np.concatenate([i, o, f, g])


def _single(array: Any) -> Any:
    import numpy as np

    return array.astype(np.float32)
