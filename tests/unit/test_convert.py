"""A pickle may name any function of Python: the reader admits tensors, and the conversion is the same bytes always."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import time
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from builder.edges.weights.convert import campplus, checkpoints, dvector, graph, pickles, segmentation
from builder.errors import IntegrityError


class _Torch:
    """Pickles as the class or function of PyTorch that it names."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Writer(pickle._Pickler):  # type: ignore[name-defined] # the Python pickler, whose save can be extended
    def save(self, value: Any, save_persistent_id: bool = True) -> Any:
        if isinstance(value, _Torch):
            self.write(f"c{value.module}\n{value.name}\n".encode())
            return None
        return super().save(value, save_persistent_id)

    def persistent_id(self, value: Any) -> Any:
        return value[1] if isinstance(value, tuple) and value[:1] == ("PID",) else None


class _Call:
    def __init__(self, function: _Torch, arguments: tuple[Any, ...]) -> None:
        self.function, self.arguments = function, arguments


def legacy(arrays: dict[str, Any], *, evil: str | None = None, more: bytes = b"") -> bytes:
    """A checkpoint in PyTorch's format of before 1.6, written without PyTorch.

    Args:
        evil: in the place of the object's pickle, with ``more`` after it.
    """
    out = io.BytesIO()
    for value in (checkpoints.MAGIC, 1001, {"little_endian": True}):
        out.write(pickle.dumps(value, protocol=2))
    body = io.BytesIO()
    writer = _Writer(body, protocol=2)
    rebuild, storage = _Torch("torch._utils", "_rebuild_tensor_v2"), _Torch("torch", "FloatStorage")
    body.write(b"\x80\x02")
    body.write(b"ccollections\nOrderedDict\n)R(")
    for number, (name, array) in enumerate(arrays.items()):
        writer.save(name)
        writer.save(rebuild)
        body.write(b"(")
        body.write(b"(")
        writer.save("storage")
        writer.save(storage)
        writer.save(str(number))
        writer.save("cpu")
        writer.save(array.size)
        writer.save(None)
        body.write(b"tQ")
        writer.save(0)
        writer.save(array.shape)
        writer.save(tuple(s // array.itemsize for s in array.strides))
        writer.save(False)
        writer.save(OrderedDict())
        body.write(b"tR")
    body.write(b"u.")
    out.write(evil.encode("latin-1") + more if evil else body.getvalue())
    out.write(pickle.dumps([str(k) for k in range(len(arrays))], protocol=2))
    for array in arrays.values():
        out.write(struct.pack("<q", array.size) + array.astype("<f4").tobytes())
    return out.getvalue()


def zipped(arrays: dict[str, Any], *, first: bytes = b"", packed: int = zipfile.ZIP_STORED, cut: int = 0) -> bytes:
    """A checkpoint in PyTorch's format since 1.6, with the same pickle.

    Args:
        first: instructions for one more value, ``task``, before the tensors.
        cut: bytes that each storage lacks.
    """
    old = legacy(arrays)
    source = io.BytesIO(old)
    for _ in range(3):
        pickle.load(source)
    start = source.tell()
    begin = old.index(b")R(", start) + 3
    more = b"X\4\0\0\0task" + first if first else b""
    end = start + len(old[start:].split(b"u.", 1)[0]) + 2
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packed) as archive:
        archive.writestr("archive/data.pkl", old[start:begin] + more + old[begin:end])
        for number, array in enumerate(arrays.values()):
            data = array.astype("<f4").tobytes()
            archive.writestr(f"archive/data/{number}", data[: len(data) - cut])
    return out.getvalue()


def state(hidden: int = 8, mels: int = 4) -> dict[str, Any]:
    random = np.random.default_rng(0)
    shapes = {}
    for k in range(3):
        shapes |= {
            f"lstm.weight_ih_l{k}": (4 * hidden, mels if k == 0 else hidden),
            f"lstm.weight_hh_l{k}": (4 * hidden, hidden),
            f"lstm.bias_ih_l{k}": (4 * hidden,),
            f"lstm.bias_hh_l{k}": (4 * hidden,),
        }
    shapes |= {"linear.weight": (hidden, hidden), "linear.bias": (hidden,)}
    return {name: random.standard_normal(shape).astype(np.float32) * 0.5 for name, shape in shapes.items()}


def reference(weights: dict[str, Any], mels: Any) -> Any:
    """The encoder in NumPy, in PyTorch's gate order i, f, g, o: what ONNX must agree with."""

    def sigmoid(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    x = mels.astype(np.float64)
    for k in range(3):
        h = c = np.zeros((len(x), weights["linear.weight"].shape[1]))
        steps = []
        for t in range(x.shape[1]):
            z = (
                x[:, t] @ weights[f"lstm.weight_ih_l{k}"].T
                + weights[f"lstm.bias_ih_l{k}"]
                + h @ weights[f"lstm.weight_hh_l{k}"].T
                + weights[f"lstm.bias_hh_l{k}"]
            )
            i, f, g, o = np.split(z, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            steps.append(h)
        x = np.stack(steps, axis=1)
    raw = np.maximum(h @ weights["linear.weight"].T + weights["linear.bias"], 0)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def test_tensors_of_a_legacy_checkpoint_are_read_bit_for_bit() -> None:
    """Shapes and bytes as they were written."""
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1.5], dtype=np.float32)}
    found = checkpoints.read(io.BytesIO(legacy(arrays)))
    assert list(found) == ["a", "b"]
    assert all(np.array_equal(found[n], arrays[n]) and found[n].shape == arrays[n].shape for n in arrays)


def test_both_formats_hold_the_same() -> None:
    """A stored zip of one pickle and one file a tensor, or all in one stream."""
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1.5], dtype=np.float32)}
    found = checkpoints.read(io.BytesIO(zipped(arrays)))
    assert all(np.array_equal(found[n], arrays[n]) for n in arrays)
    assert list(found) == ["a", "b"]


def test_a_zip_that_is_no_plain_checkpoint_is_refused() -> None:
    """Packed members (a bomb), storages that are cut, two roots, none."""
    arrays = {"a": np.zeros(600, dtype=np.float32)}
    two = io.BytesIO(zipped(arrays))
    with zipfile.ZipFile(two, "a") as archive:
        archive.writestr("other/data.pkl", b"N.")
    for wrong in (zipped(arrays, packed=zipfile.ZIP_DEFLATED), zipped(arrays, cut=4), two.getvalue()):
        with pytest.raises(IntegrityError):
            checkpoints.read(io.BytesIO(wrong))


@pytest.mark.parametrize("use", [b")\x81}b", b")R", b"K\1\x85R", b")\x81}(X\1\0\0\0aNub"])
def test_a_class_that_is_known_and_not_needed_is_empty(use: bytes) -> None:
    """What a checkpoint says of its training: an object of it may be made and filled, and nothing of it is kept."""
    arrays = {"a": np.arange(4, dtype=np.float32)}
    data = zipped(arrays, first=b"cmine\nTask\n" + use)
    with pytest.raises(IntegrityError, match=r"asks for mine\.Task"):
        checkpoints.read(io.BytesIO(data))
    found = checkpoints.read(io.BytesIO(data), opaque=frozenset({("mine", "Task")}))
    assert np.array_equal(found["a"], arrays["a"])
    assert vars(found["task"]) == {}


@pytest.mark.parametrize(
    "name", ["os\nsystem", "builtins\neval", "torch\nload", "posix\nsystem", "collections\nCounter"]
)
def test_a_pickle_that_would_run_something_is_refused(name: str) -> None:
    """Only OrderedDict, two storages and the function that makes a tensor are known."""
    with pytest.raises(IntegrityError, match="asks for"):
        checkpoints.read(io.BytesIO(legacy({}, evil=f"c{name}\n(S'true'\ntR.")))


F, R = "ctorch\nFloatStorage\n", "ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    "evil",
    [
        f"{F}(N}}(S'dtype'\nS'x'\nutb.",
        f"{F}(N}}(X\5\0\0\0dtypeX\1\0\0\0xutb.",
        f"{R}}}X\1\0\0\0aX\1\0\0\0bsb.",
        f"{R}(N}}(X\x0c\0\0\0__defaults__)utb.",
        f"{F}}}b.",
        f"{F}).",
        f"{F})R.",
        f"{F})}}\x92.",
        f"){F}\x81.",
        "(i__main__\nx\n.",
        "(o.",
        "\x82\1.",
        "ccollections\nOrderedDict\n(](tR.",
        "ccollections\nOrderedDict\n(]tR.",
        "cbuiltins\ngetattr\n.",
        "ctorch._utils\n__builtins__\n.",
        "\x8c\x05posix\x8c\x06system\x93.",
        "Pmine\n.",
        "(X\7\0\0\0storage" + F + "X\1\0\0\x000X\3\0\0\0cpuJ\xff\xff\xff\xffNtQ.",
        "X\7\0\0\0storageQ.",
        "}(]K\1u.",
        "})))K\1s.",
        "0.",
        "h\7.",
        "t.",
        ".",
        "(" * 1000 + ".",
        "I" + "9" * 5000 + "\n.",
    ],
)
def test_a_pickle_that_would_change_or_call_something_is_refused(evil: str) -> None:
    """Attributes of what it may name, objects by any other instruction, keys that aren't plain, a broken stack."""
    before = [dict(vars(of)) for of in (pickles.Storage, pickles.Tensor, pickles.Tree)]
    with pytest.raises(IntegrityError):
        checkpoints.read(io.BytesIO(legacy({}, evil="\x80\x02", more=evil.encode("latin-1"))))
    assert [dict(vars(of)) for of in (pickles.Storage, pickles.Tensor, pickles.Tree)] == before


@pytest.mark.parametrize(
    "bomb",
    [
        b"]q\0" + b"".join(b"]q%c(h%ch%ce" % (k, k - 1, k - 1) for k in range(1, 120)),
        b"]q\0h\0a",
        b"]" * 30_000 + b"a" * 29_999,
        b")" + b"\x85" * 100_000,
        b"]" + b"N0" * 10 + b"(" + b"N" * 900_000 + b"e",
    ],
    ids=["doubled", "holds itself", "deep list", "deep tuple", "long"],
)
def test_a_bomb_ends_at_once(bomb: bytes) -> None:
    """Shared, circular and deep containers are no more work than their bytes."""
    began = time.monotonic()
    with contextlib.suppress(IntegrityError):
        checkpoints.read(io.BytesIO(legacy({}, evil="\x80\x02", more=bomb + b".")))
    assert time.monotonic() - began < 30


def test_a_tensor_stays_in_its_storage() -> None:
    """Offsets, shapes and strides that reach out, wrap around, or are no numbers."""
    storage = pickles.Storage("<f4", "0", 6)
    assert pickles.tensor(storage, 0, (2, 3), (3, 1), False).shape == (2, 3)
    wrong = [
        (storage, -1, (1,), (1,)),
        (storage, 1, (6,), (1,)),
        (storage, 0, (1 << 33, 1 << 33), (1 << 33, 1)),
        (storage, 0, (True,), (1,)),
        (storage, 0, (2,), (1, 1)),
        (storage, 0, (1,) * 9, (1,) * 9),
        (storage, 0, [6], [1]),
        ("storage", 0, (6,), (1,)),
    ]
    for arguments in wrong:
        with pytest.raises(IntegrityError):
            pickles.tensor(*arguments)


def test_cut_files_and_other_files_are_refused() -> None:
    """Never half a tensor."""
    whole = legacy({"a": np.arange(600, dtype=np.float32)})
    for part in (whole[: len(whole) - 4], whole[:200], whole[:3], b"", b"PK\x03\x04zip", pickle.dumps(7)):
        with pytest.raises(IntegrityError):
            checkpoints.read(io.BytesIO(part))


def test_the_converted_encoder_computes_the_same() -> None:
    """Gate order and biases: against a plain NumPy LSTM, through ONNX's own reference evaluator."""
    from onnx import load_from_string
    from onnx.reference import ReferenceEvaluator

    weights = state()
    mels = np.random.default_rng(1).random((2, 160, 4), dtype=np.float32)
    made = load_from_string(dvector.encoder_bytes(weights))
    (found,) = ReferenceEvaluator(made).run(None, {"mels": mels})
    assert np.allclose(found, reference(weights, mels), atol=1e-5)


def test_the_conversion_is_the_same_bytes_every_time() -> None:
    """Its result is pinned, whatever order the tensors are read in."""
    turned = dict(reversed(state().items()))
    assert dvector.encoder_bytes(turned) == dvector.encoder_bytes(state())


def test_batch_normalisation_is_folded_into_the_convolution_before_it() -> None:
    """One convolution computes what a convolution and a normalisation after it would."""
    from onnx import load_from_string
    from onnx.reference import ReferenceEvaluator

    random = np.random.default_rng(2)
    weights = {
        "conv.weight": random.standard_normal((3, 2, 3)).astype(np.float32),
        **{
            f"norm.{k}": random.random(3).astype(np.float32) + 0.5
            for k in ("weight", "bias", "running_mean", "running_var")
        },
    }
    layers = graph.Graph(weights)
    layers.add("Identity", layers.conv("x", "conv", "norm", pads=[1, 1]), output="y")
    x = random.standard_normal((1, 2, 9)).astype(np.float32)
    made = load_from_string(layers.model("small", {"x": [1, 2, 9]}, {"y": [1, 3, 9]}))
    (found,) = ReferenceEvaluator(made).run(None, {"x": x})
    padded = np.pad(x[0], ((0, 0), (1, 1)))
    plain = np.array([[(w * padded[:, t : t + 3]).sum() for t in range(9)] for w in weights["conv.weight"]])
    mean, variance = weights["norm.running_mean"], weights["norm.running_var"]
    wanted = (plain.T - mean) / np.sqrt(variance + 1e-5) * weights["norm.weight"] + weights["norm.bias"]
    assert np.allclose(found[0], wanted.T, atol=1e-5)


def test_the_band_passes_pass_their_band() -> None:
    """Each filter of SincNet lets its own band through, and little else; odd filters are the even ones, turned by 90°."""
    low, width = np.linspace(100, 5000, 40)[:, None], np.full((40, 1), 600.0)
    filters = np.asarray(segmentation.band_passes(low, width))
    assert filters.shape == (80, 1, 251)
    assert np.allclose(filters[:40], filters[:40, :, ::-1])
    assert np.allclose(filters[40:], -filters[40:, :, ::-1])
    response = np.abs(np.fft.rfft(filters[:, 0], 16_000))
    for half in (response[:40], response[40:]):
        for k in range(40):
            inside = half[k, int(low[k, 0]) + 200 : int(low[k, 0]) + 500]
            outside = np.concatenate([half[k, : max(0, int(low[k, 0]) - 200)], half[k, int(low[k, 0]) + 1000 :]])
            assert inside.min() > 5 * outside.max()


@pytest.mark.parametrize("make", [campplus.encoder_bytes, segmentation.segmenter_bytes])
def test_another_checkpoint_is_not_converted(make: Any) -> None:
    """A tensor that the network has and the checkpoint lacks."""
    with pytest.raises(KeyError):
        make(state())
