"""Models that are converted once from the file their authors publish. The result is always the same bytes, and has a pin."""

from __future__ import annotations

import io
import math
import os
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from builder.errors import IntegrityError

MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of PyTorch's legacy file format (torch/serialization.py)."""


def converter(how: str) -> Callable[[Path, Path], None]:
    """The function that writes ``result`` from ``source``, for a catalogue entry's ``convert.how``."""
    return {"dvector-onnx": dvector_to_onnx}[how]


Global = tuple[str, str]
"""Module and name of what a pickle asks for. It stays a text: no class or function is ever in a file's reach."""

ORDERED_DICT: Global = ("collections", "OrderedDict")
REBUILD: Global = ("torch._utils", "_rebuild_tensor_v2")
DTYPES: Mapping[Global, str] = {("torch", "FloatStorage"): "<f4", ("torch", "LongStorage"): "<i8"}
KNOWN = {ORDERED_DICT, REBUILD, *DTYPES}
"""All that a file of plain tensors needs. A pickle can name any Python function: everything else is refused."""

MOST_STEPS = 1_000_000
"""Instructions of one pickle; a checkpoint has some ten for each tensor."""

MOST_DIMENSIONS, LARGEST_NUMBER = 8, 1 << 40


@dataclass(frozen=True)
class _Named:
    """A global that was asked for."""

    name: Global


@dataclass(frozen=True)
class _Storage:
    """A tensor's storage, before its bytes are read."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """What ``_rebuild_tensor_v2`` would have built: a view into a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]


class _Mark:
    """Where the items of a tuple, list or dict begin on the stack."""


class _Tree:
    """The stack machine of a pickle (pickletools has its instructions), with the few instructions that tensors need.

    Like PyTorch's ``weights_only`` it calls nothing that a file names. What it makes is dicts, lists, tuples, texts,
    numbers and :class:`_Tensor`.
    """

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.tensors: list[_Tensor] = []

    def load(self, source: BinaryIO) -> Any:
        """The value of the next pickle in ``source``. Raises IntegrityError, and what pickletools and lists raise."""
        self.stack, self.memo = [], {}
        for step, (opcode, argument, _) in enumerate(pickletools.genops(source)):
            if step > MOST_STEPS:
                raise IntegrityError("the checkpoint has far more in it than tensors")
            if opcode.name == "STOP":
                (value,) = self.stack
                return value
            act = self.ACTS.get(opcode.name)
            if act is None:
                raise IntegrityError(f"the checkpoint asks for {opcode.name}", expected="tensors, and no code")
            act(self, argument)
        raise IntegrityError("the checkpoint is cut short")

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _since_mark(self) -> list[Any]:
        at = max(k for k, value in enumerate(self.stack) if isinstance(value, _Mark))
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def _tuple(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)][::-1]
        self._push(tuple(items))

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        if (module, name) not in KNOWN:
            raise IntegrityError(f"the checkpoint asks for {module}.{name}"[:200], expected="tensors, and no code")
        self._push(_Named((module, name)))

    def _reduce(self, _: object) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if function == _Named(ORDERED_DICT) and arguments == ():
            return self._push({})
        if function != _Named(REBUILD) or not isinstance(arguments, tuple):
            raise IntegrityError("the checkpoint calls something", expected="tensors, and no code")
        self.tensors.append(_tensor(*arguments))
        self._push(self.tensors[-1])

    def _build(self, _: object) -> None:
        """A state dict's ``_metadata``, which nothing here needs; anything else has no state to be given."""
        self.stack.pop()
        if type(self.stack[-1]) is not dict:
            raise IntegrityError("the checkpoint changes something", expected="tensors, and no code")

    def _set(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(pairs) % 2 or any(type(key) not in (str, int) for key in pairs[::2]):
            raise IntegrityError("the checkpoint has a dict that this reader doesn't know")
        target.update(zip(pairs[::2], pairs[1::2], strict=True))

    def _append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise IntegrityError("the checkpoint has a list that this reader doesn't know")
        self.stack[-1].extend(items)

    def _persistent(self, _: object) -> None:
        match self.stack.pop():
            case ("storage", _Named(name), str(key), _, int(count), *_) if (
                name in DTYPES and 0 <= count < LARGEST_NUMBER
            ):
                self._push(_Storage(DTYPES[name], key, count))
            case _:
                raise IntegrityError("the checkpoint holds a storage that this reader doesn't know")

    def _memoize(self, at: int | None) -> None:
        self.memo[len(self.memo) if at is None else at] = self.stack[-1]

    ACTS: Mapping[str, Callable[[_Tree, Any], None]] = {
        "PROTO": lambda _self, _: None,
        "MARK": lambda self, _: self._push(_Mark()),
        **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _memoize),
        **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda self, at: self._push(self.memo[at])),
        **dict.fromkeys(
            (
                "BININT",
                "BININT1",
                "BININT2",
                "LONG1",
                "BINFLOAT",
                "BINUNICODE",
                "SHORT_BINUNICODE",
                "BINSTRING",
                "SHORT_BINSTRING",
            ),
            _push,
        ),
        "NONE": lambda self, _: self._push(None),
        "NEWTRUE": lambda self, _: self._push(True),
        "NEWFALSE": lambda self, _: self._push(False),
        "EMPTY_TUPLE": lambda self, _: self._push(()),
        "EMPTY_LIST": lambda self, _: self._push([]),
        "EMPTY_DICT": lambda self, _: self._push({}),
        "TUPLE1": lambda self, _: self._tuple(1),
        "TUPLE2": lambda self, _: self._tuple(2),
        "TUPLE3": lambda self, _: self._tuple(3),
        "TUPLE": lambda self, _: self._push(tuple(self._since_mark())),
        "APPEND": lambda self, _: self._append([self.stack.pop()]),
        "APPENDS": lambda self, _: self._append(self._since_mark()),
        "SETITEM": lambda self, _: self._set([self.stack.pop(), self.stack.pop()][::-1]),
        "SETITEMS": lambda self, _: self._set(self._since_mark()),
        "GLOBAL": _global,
        "REDUCE": _reduce,
        "BUILD": _build,
        "BINPERSID": _persistent,
    }


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
    numbers = [offset, *shape, *stride] if isinstance(shape, tuple) and isinstance(stride, tuple) else [None]
    fitting = (
        all(type(n) is int and 0 <= n < LARGEST_NUMBER for n in numbers) and len(numbers) <= 1 + 2 * MOST_DIMENSIONS
    )
    if not isinstance(storage, _Storage) or not fitting or len(shape) != len(stride):
        raise IntegrityError("the checkpoint has a tensor that this reader doesn't know")
    dense = 1
    for length, step in zip(reversed(shape), reversed(stride), strict=True):
        if length > 1 and step != dense:
            raise IntegrityError("a tensor of the checkpoint is not stored in plain order")
        dense *= length
    if offset + dense > storage.count:
        raise IntegrityError("a tensor of the checkpoint reaches out of its storage")
    return _Tensor(storage, offset, shape)


def read_legacy_checkpoint(source: BinaryIO) -> Any:
    """Read a PyTorch file from before 1.6 without PyTorch; tensors in dicts and lists become NumPy arrays.

    The format: five pickles (magic, protocol, system, object, storage keys), then for each storage an int64 count and
    its little-endian data.

    Raises:
        IntegrityError: another kind of file, or one that asks for anything but plain tensors.
    """
    import numpy as np

    reader = _Tree()
    try:
        if reader.load(source) != MAGIC:
            raise IntegrityError("not a PyTorch checkpoint of the legacy format")
        reader.load(source), reader.load(source)
        tree = reader.load(source)
        storages = {t.storage.key: t.storage for t in reader.tensors}
        arrays: dict[_Storage, Any] = {}
        for key in reader.load(source):
            count = int.from_bytes(source.read(8), "little")
            storage = storages[str(key)]
            size = np.dtype(storage.dtype).itemsize
            data = source.read(count * size) if count == storage.count else b""
            if len(data) != count * size or count != storage.count:
                raise IntegrityError("the checkpoint is cut short")
            arrays[storage] = np.frombuffer(data, dtype=storage.dtype)

        def dense(tensor: _Tensor) -> Any:
            count = math.prod(tensor.shape)
            return arrays[tensor.storage][tensor.offset : tensor.offset + count].reshape(tensor.shape)

        _fill(tree, dense)
    except IntegrityError:
        raise
    except Exception as error:
        what = str(error)[:200]
        raise IntegrityError(f"not a PyTorch checkpoint of the legacy format: {what}") from error
    return tree


def _fill(tree: Any, dense: Callable[[_Tensor], Any]) -> None:
    """Put arrays in the place of the tensors in dicts and lists, each container once: one may hold itself."""
    waiting, seen = [tree], set()
    while waiting:
        container = waiting.pop()
        if id(container) in seen or not isinstance(container, (dict, list)):
            continue
        seen.add(id(container))
        for key, value in list(container.items() if isinstance(container, dict) else enumerate(container)):
            if isinstance(value, _Tensor):
                container[key] = dense(value)
            else:
                waiting.append(value)


def dvector_to_onnx(source: Path, result: Path) -> None:
    """Resemblyzer's speaker encoder as ONNX: ``mels`` float32 [batch, 160, 40] to ``embedding`` [batch, 256], unit length.

    Three LSTM layers of 256, the last hidden state through a linear layer and ReLU, divided by its length
    (resemblyzer/voice_encoder.py, Apache-2.0). PyTorch keeps LSTM gates in the order i, f, g, o; ONNX wants i, o, f, c.
    """
    with source.open("rb") as file:
        tree = read_legacy_checkpoint(io.BytesIO(file.read()))
    try:
        data = encoder_bytes(tree["model_state"])
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise IntegrityError(f"not the checkpoint of Resemblyzer's speaker encoder: {error!r}") from error
    with result.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def encoder_bytes(state: Mapping[str, Any]) -> bytes:
    """The ONNX file of a state dict with ``lstm.*_l{0,1,2}`` and ``linear.*`` arrays."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    hidden = state["linear.weight"].shape[1]

    def gates(array: Any) -> Any:
        i, f, g, o = (array[k * hidden : (k + 1) * hidden] for k in range(4))
        return np.concatenate([i, o, f, g])

    weights: list[Any] = []

    def constant(name: str, array: Any) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    nodes = [helper.make_node("Transpose", ["mels"], ["x0"], perm=[1, 0, 2])]
    axis = constant("axis", np.array([1], dtype=np.int64))
    for k in range(3):
        w = constant(f"W{k}", gates(state[f"lstm.weight_ih_l{k}"])[None])
        r = constant(f"R{k}", gates(state[f"lstm.weight_hh_l{k}"])[None])
        bias = np.concatenate([gates(state[f"lstm.bias_ih_l{k}"]), gates(state[f"lstm.bias_hh_l{k}"])])
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
