"""A transducer of random weights with the files, inputs and outputs that Parakeet TDT has, in some kilobytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
VOCABULARY, DURATIONS, WIDTH, STATE = 40, 5, 16, 8
BLANK = "<blk>"


def make(folder: Path, seed: int = 1) -> Path:
    """Write the model; the same seed gives the same."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)

    def weights(*shape: int) -> Any:
        return (random.standard_normal(shape) * 0.5).astype(np.float32)

    _energies(folder, weights(128, 1, 400))
    _encoder(folder, weights(WIDTH, 128, 8) * 0.3)
    _joint(folder, weights(VOCABULARY, VOCABULARY + DURATIONS), weights(WIDTH, VOCABULARY + DURATIONS) * 2)
    tokens = ["▁" * (k % 3 == 0) + "ab"[k % 2] + chr(99 + k % 20) for k in range(VOCABULARY - 1)] + [BLANK]
    (folder / "vocab.txt").write_text("".join(f"{token} {k}\n" for k, token in enumerate(tokens)), encoding="utf-8")
    return folder


def _energies(folder: Path, kernel: Any) -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["waveforms", "one"], ["w"]),
        helper.make_node("Conv", ["w", "kernel"], ["c"], strides=[160], kernel_shape=[400], pads=[200, 200]),
        helper.make_node("Abs", ["c"], ["features"]),
        helper.make_node("Div", ["waveforms_lens", "hop"], ["features_lens"]),
    ]
    inputs = {"waveforms": (FLOAT, ["b", "n"]), "waveforms_lens": (INT64, ["b"])}
    outputs = {"features": (FLOAT, ["b", 128, "t"]), "features_lens": (INT64, ["b"])}
    constants = {"kernel": kernel, "one": np.array([1], np.int64), "hop": np.array([160], np.int64)}
    _save(folder / "nemo128.onnx", nodes, inputs, outputs, constants)


def _encoder(folder: Path, kernel: Any) -> None:
    nodes = [
        helper.make_node("Conv", ["audio_signal", "kernel"], ["c"], strides=[8], kernel_shape=[8], pads=[0, 7]),
        helper.make_node("Tanh", ["c"], ["outputs"]),
        helper.make_node("Div", ["length", "eight"], ["encoded_lengths"]),
    ]
    inputs = {"audio_signal": (FLOAT, ["b", 128, "t"]), "length": (INT64, ["b"])}
    outputs = {"outputs": (FLOAT, ["b", WIDTH, "u"]), "encoded_lengths": (INT64, ["b"])}
    _save(
        folder / "encoder-model.int8.onnx", nodes, inputs, outputs, {"kernel": kernel, "eight": np.array([8], np.int64)}
    )


def _joint(folder: Path, embeddings: Any, projection: Any) -> None:
    bias = np.zeros(VOCABULARY + DURATIONS, np.float32)
    bias[VOCABULARY - 1] = 3.0  # silence is likely
    nodes = [
        helper.make_node("Gather", ["embeddings", "targets"], ["e"]),
        helper.make_node("Transpose", ["encoder_outputs"], ["f"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["f", "projection"], ["p"]),
        helper.make_node("ReduceMean", ["input_states_1"], ["m"], keepdims=0, axes=[0, 1, 2]),
        helper.make_node("Sum", ["p", "e", "bias", "m"], ["s"]),
        helper.make_node("Unsqueeze", ["s", "one"], ["outputs"]),
        helper.make_node("Add", ["input_states_1", "tenth"], ["output_states_1"]),
        helper.make_node("Sub", ["input_states_2", "tenth"], ["output_states_2"]),
    ]
    state = (FLOAT, [2, "b", STATE])
    inputs = {
        "encoder_outputs": (FLOAT, ["b", WIDTH, "u"]),
        "targets": (INT32, ["b", "n"]),
        "target_length": (INT32, ["b"]),
        "input_states_1": state,
        "input_states_2": state,
    }
    outputs = {
        "outputs": (FLOAT, ["b", 1, "n", VOCABULARY + DURATIONS]),
        "output_states_1": state,
        "output_states_2": state,
    }
    constants = {
        "embeddings": embeddings,
        "projection": projection,
        "bias": bias,
        "one": np.array([1], np.int64),
        "tenth": np.array(0.1, np.float32),
    }
    _save(folder / "decoder_joint-model.int8.onnx", nodes, inputs, outputs, constants)


def _save(
    path: Path,
    nodes: Sequence[Any],
    inputs: Mapping[str, tuple[int, list[Any]]],
    outputs: Mapping[str, tuple[int, list[Any]]],
    constants: Mapping[str, Any],
) -> None:
    def described(values: Mapping[str, tuple[int, list[Any]]]) -> list[Any]:
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in values.items()]

    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "g", described(inputs), described(outputs), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, path)
