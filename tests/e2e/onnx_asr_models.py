"""Models of random weights with the files, inputs and outputs of those that onnx-asr loads, in some kilobytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
VOCABULARY, DURATIONS, WIDTH, STATE = 40, 5, 16, 8
BLANK = "<blk>"
MARKS = (
    *(f"<|{name}|>" for name in ("startofcontext", "startoftranscript", "emo:undefined", "pnc", "noitn")),
    *(f"<|{name}|>" for name in ("notimestamp", "nodiarize", "en", "de", "endoftext")),
)
"""What Canary's decoder is told and tells."""

Values = Mapping[str, tuple[int, list[Any]]]


def make(folder: Path, kind: str = "nemo-conformer-tdt", seed: int = 1) -> Path:
    """Write a model of a kind, as onnx-asr names it; the same seed gives the same."""
    folder.mkdir(parents=True)
    weights = Weights(seed)
    gigaam = kind.startswith("gigaam")
    prefix = kind.removeprefix("gigaam-").replace("-", "_") if gigaam else ""
    config: dict[str, Any] = {"model_type": kind, "features_size": 128}
    if gigaam:
        config = {"model_type": "gigaam", "version": "v3", "features_size": 64, "subsampling_factor": 4}
        (_gigaam_ctc if kind.endswith("ctc") else _gigaam_rnnt)(folder, prefix, weights)
    elif kind == "nemo-conformer-ctc":
        _ctc(folder / "model.int8.onnx", weights, ("audio_signal", "length", "logprobs"), 128, 8)
    elif kind == "nemo-conformer-aed":
        _canary(folder, weights)
    else:
        names = ("audio_signal", "length", "outputs", "encoded_lengths")
        _encoder(folder / "encoder-model.int8.onnx", weights, names, 128, 8)
        _joint(folder / "decoder_joint-model.int8.onnx", weights, DURATIONS if kind.endswith("tdt") else 0)
    (folder / "config.json").write_text(json.dumps(config, indent=4), encoding="utf-8")
    marks = ("▁", *MARKS) if kind.endswith("aed") else ()
    tokens = ["▁" * (k % 3 == 0) + "ab"[k % 2] + chr(99 + k % 20) for k in range(VOCABULARY - 1 - len(marks))]
    vocabulary = "".join(f"{token} {k}\n" for k, token in enumerate([*marks, *tokens, BLANK]))
    (folder / (f"{prefix}_vocab.txt" if gigaam else "vocab.txt")).write_text(vocabulary, encoding="utf-8")
    return folder


class Weights:
    """Random numbers of a seed."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def __call__(self, *shape: int, scale: float = 0.5) -> Any:
        return (self._random.standard_normal(shape) * scale).astype(np.float32)


def _quiet(size: int) -> Any:
    """Biases with which silence is likely."""
    bias = np.zeros(size, np.float32)
    bias[VOCABULARY - 1] = 3.0 if size > VOCABULARY else 6.0
    return bias


def _after(weights: Weights, size: int) -> Any:
    """What a token says of the next: mostly that there is none in its frame, but for Parakeet TDT, which has durations."""
    found = weights(VOCABULARY, size)
    if size == VOCABULARY:
        found[:-1, -1] += 8
    return found


def _convolved(names: Sequence[str], step: int) -> list[Any]:
    """Nodes from features to ``c``: [b, WIDTH, frames]."""
    how = {"strides": [step], "kernel_shape": [step], "pads": [0, step - 1]}
    return [helper.make_node("Conv", [names[0], "kernel"], ["x"], **how), helper.make_node("Tanh", ["x"], ["c"])]


def _heard(names: Sequence[str], features: int) -> dict[str, tuple[int, list[Any]]]:
    return {names[0]: (FLOAT, ["b", features, "t"]), names[1]: (INT64, ["b"])}


def _ctc(path: Path, weights: Weights, names: Sequence[str], features: int, step: int) -> None:
    nodes = [
        *_convolved(names, step),
        helper.make_node("Transpose", ["c"], ["f"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["f", "projection"], ["p"]),
        helper.make_node("Add", ["p", "bias"], ["s"]),
        helper.make_node("LogSoftmax", ["s"], [names[2]], axis=-1),
    ]
    constants = {
        "kernel": weights(WIDTH, features, step, scale=0.15),
        "projection": weights(WIDTH, VOCABULARY, scale=1.0),
        "bias": _quiet(VOCABULARY),
    }
    _save(path, nodes, _heard(names, features), {names[2]: (FLOAT, ["b", "u", VOCABULARY])}, constants)


def _encoder(path: Path, weights: Weights, names: Sequence[str], features: int, step: int, kind: int = INT64) -> None:
    nodes = [
        *_convolved(names, step),
        helper.make_node("Identity", ["c"], [names[2]]),
        helper.make_node("Add", [names[1], "most"], ["l"]),
        helper.make_node("Div", ["l", "step"], ["n"]),
        helper.make_node("Cast", ["n"], [names[3]], to=kind),
    ]
    outputs = {names[2]: (FLOAT, ["b", WIDTH, "u"]), names[3]: (kind, ["b"])}
    constants = {
        "kernel": weights(WIDTH, features, step, scale=0.15),
        "step": np.array([step], np.int64),
        "most": np.array([step - 1], np.int64),
    }
    _save(path, nodes, _heard(names, features), outputs, constants)


def _joint(path: Path, weights: Weights, durations: int) -> None:
    size = VOCABULARY + durations
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
    outputs = {"outputs": (FLOAT, ["b", 1, "n", size]), "output_states_1": state, "output_states_2": state}
    constants = {
        "embeddings": _after(weights, size),
        "projection": weights(WIDTH, size, scale=1.0),
        "bias": _quiet(size),
        "one": np.array([1], np.int64),
        "tenth": np.array(0.1, np.float32),
    }
    _save(path, nodes, inputs, outputs, constants)


def _canary(folder: Path, weights: Weights) -> None:
    """An encoder, and a decoder whose text ends sooner or later."""
    names = ("audio_signal", "length")
    nodes = [
        *_convolved(names, 8),
        helper.make_node("Transpose", ["c"], ["encoder_embeddings"], perm=[0, 2, 1]),
        helper.make_node("ReduceSum", ["encoder_embeddings", "two"], ["n"], keepdims=0),
        helper.make_node("Mul", ["n", "zero"], ["z"]),
        helper.make_node("Add", ["z", "one"], ["o"]),
        helper.make_node("Cast", ["o"], ["encoder_mask"], to=INT64),
    ]
    outputs = {"encoder_embeddings": (FLOAT, ["b", "u", WIDTH]), "encoder_mask": (INT64, ["b", "u"])}
    constants = {
        "kernel": weights(WIDTH, 128, 8, scale=0.15),
        "two": np.array([2], np.int64),
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
    }
    _save(folder / "encoder-model.int8.onnx", nodes, _heard(names, 128), outputs, constants)
    end = np.zeros(VOCABULARY, np.float32)
    end[1 + MARKS.index("<|endoftext|>")] = 0.1
    nodes = [
        helper.make_node("Gather", ["embeddings", "input_ids"], ["e"]),
        helper.make_node("Unsqueeze", ["e", "zero"], ["h"]),
        helper.make_node("Concat", ["decoder_mems", "h"], ["decoder_hidden_states"], axis=2),
        helper.make_node("ReduceMean", ["decoder_hidden_states"], ["m"], keepdims=0, axes=[0, 2]),
        helper.make_node("ReduceMean", ["encoder_embeddings"], ["s"], keepdims=0, axes=[1]),
        helper.make_node("ReduceMean", ["e"], ["l"], keepdims=0, axes=[1]),
        helper.make_node("Sum", ["m", "s", "l"], ["x"]),
        helper.make_node("MatMul", ["x", "projection"], ["p"]),
        helper.make_node("Shape", ["decoder_hidden_states"], ["shape"]),
        helper.make_node("Gather", ["shape", "two"], ["n"]),
        helper.make_node("Cast", ["n"], ["length"], to=FLOAT),
        helper.make_node("Mul", ["length", "end"], ["d"]),
        helper.make_node("Mul", ["length", "waves"], ["w"]),
        helper.make_node("Sin", ["w"], ["v"]),
        helper.make_node("Mul", ["v", "four"], ["q"]),
        helper.make_node("Sum", ["p", "d", "q", "never"], ["y"]),
        helper.make_node("LogSoftmax", ["y"], ["scores"], axis=-1),
        helper.make_node("Unsqueeze", ["scores", "one"], ["logits"]),
    ]
    inputs = {
        "input_ids": (INT64, ["b", "n"]),
        "encoder_embeddings": (FLOAT, ["b", "u", WIDTH]),
        "encoder_mask": (INT64, ["b", "u"]),
        "decoder_mems": (FLOAT, [1, "b", "m", WIDTH]),
    }
    outputs = {
        "logits": (FLOAT, ["b", 1, VOCABULARY]),
        "decoder_hidden_states": (FLOAT, [1, "b", "k", WIDTH]),
    }
    never = np.zeros(VOCABULARY, np.float32)
    never[: len(MARKS)] = never[-1] = -20  # no mark but the last, which ends the text
    constants = {
        "embeddings": weights(VOCABULARY, WIDTH, scale=1.0),
        "projection": weights(WIDTH, VOCABULARY, scale=1.0),
        "end": end,
        "never": never,
        "waves": weights(VOCABULARY, scale=2.0),
        "four": np.array(4, np.float32),
        **{name: np.array([k], np.int64) for k, name in enumerate(("zero", "one", "two"))},
    }
    _save(folder / "decoder-model.int8.onnx", nodes, inputs, outputs, constants)


def _gigaam_ctc(folder: Path, prefix: str, weights: Weights) -> None:
    _ctc(folder / f"{prefix}.int8.onnx", weights, ("features", "feature_lengths", "log_probs"), 64, 4)


def _gigaam_rnnt(folder: Path, prefix: str, weights: Weights) -> None:
    names = ("audio_signal", "length", "encoded", "encoded_len")
    _encoder(folder / f"{prefix}_encoder.int8.onnx", weights, names, 64, 4, INT32)
    state = (FLOAT, [1, 1, 320])
    nodes = [
        helper.make_node("Gather", ["embeddings", "x"], ["dec"]),
        helper.make_node("Add", ["h.1", "tenth"], ["h"]),
        helper.make_node("Sub", ["c.1", "tenth"], ["c"]),
    ]
    constants = {"embeddings": _after(weights, VOCABULARY), "tenth": np.array(0.1, np.float32)}
    inputs = {"x": (INT64, [1, 1]), "h.1": state, "c.1": state}
    outputs = {"dec": (FLOAT, [1, 1, VOCABULARY]), "h": state, "c": state}
    _save(folder / f"{prefix}_decoder.int8.onnx", nodes, inputs, outputs, constants)
    nodes = [
        helper.make_node("Transpose", ["enc"], ["f"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["f", "projection"], ["p"]),
        helper.make_node("Transpose", ["dec"], ["d"], perm=[0, 2, 1]),
        helper.make_node("Sum", ["p", "d", "bias"], ["s"]),
        helper.make_node("Unsqueeze", ["s", "one"], ["joint"]),
    ]
    constants = {
        "projection": weights(WIDTH, VOCABULARY, scale=1.0),
        "bias": _quiet(VOCABULARY),
        "one": np.array([1], np.int64),
    }
    inputs = {"enc": (FLOAT, [1, WIDTH, 1]), "dec": (FLOAT, [1, VOCABULARY, 1])}
    _save(folder / f"{prefix}_joint.int8.onnx", nodes, inputs, {"joint": (FLOAT, [1, 1, 1, VOCABULARY])}, constants)


def _save(path: Path, nodes: Sequence[Any], inputs: Values, outputs: Values, constants: Mapping[str, Any]) -> None:
    def described(values: Values) -> list[Any]:
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in values.items()]

    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "g", described(inputs), described(outputs), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, path)
