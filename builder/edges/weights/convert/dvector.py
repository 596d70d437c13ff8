"""Resemblyzer's speaker encoder as ONNX.

Three LSTM layers of 256, the last hidden state through a linear layer and ReLU, divided by its length
(resemblyzer/voice_encoder.py, Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder.edges.weights.convert.graph import lstm_gates


def encoder_bytes(state: Mapping[str, Any]) -> bytes:
    """The ONNX file of ``lstm.*_l{0,1,2}`` and ``linear.*``: ``mels`` [batch, 160, 40] to unit ``embedding`` [batch, 256]."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    hidden = state["linear.weight"].shape[1]

    weights: list[Any] = []

    def constant(name: str, array: Any) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    nodes = [helper.make_node("Transpose", ["mels"], ["x0"], perm=[1, 0, 2])]
    axis = constant("axis", np.array([1], dtype=np.int64))
    for k in range(3):
        w = constant(f"W{k}", lstm_gates(state[f"lstm.weight_ih_l{k}"])[None])
        r = constant(f"R{k}", lstm_gates(state[f"lstm.weight_hh_l{k}"])[None])
        bias = np.concatenate([lstm_gates(state[f"lstm.bias_ih_l{k}"]), lstm_gates(state[f"lstm.bias_hh_l{k}"])])
        b = constant(f"B{k}", bias[None])
        nodes.append(helper.make_node("LSTM", [f"x{k}", w, r, b], [f"y{k}", f"h{k}"], hidden_size=hidden))
        if k < 2:
            nodes.append(helper.make_node("Squeeze", [f"y{k}", axis], [f"x{k + 1}"]))
    nodes += [
        helper.make_node("Squeeze", ["h2", constant("first", np.array([0], dtype=np.int64))], ["last"]),
        helper.make_node(
            "Gemm",
            ["last", constant("linear.weight", state["linear.weight"]), constant("linear.bias", state["linear.bias"])],
            ["projected"],
            transB=1,
        ),
        helper.make_node("Relu", ["projected"], ["raw"]),
        helper.make_node("ReduceL2", ["raw"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Div", ["raw", "length"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "speaker-encoder",
        [helper.make_tensor_value_info("mels", TensorProto.FLOAT, ["batch", 160, state["lstm.weight_ih_l0"].shape[1]])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", state["linear.weight"].shape[0]])],
        initializer=weights,
    )
    # Versions are fixed, whatever this machine has: the result has a pin.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="whisperbake")
    model.ir_version = 8
    return bytes(model.SerializeToString(deterministic=True))
