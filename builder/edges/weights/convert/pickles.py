"""PyTorch's pickles without PyTorch: a stack machine that makes dicts, lists and tensors, and calls nothing."""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from builder.errors import IntegrityError

Global = tuple[str, str]
"""Module and name of what a pickle asks for. It stays a text: no class or function is ever in a file's reach."""

ORDERED_DICT: Global = ("collections", "OrderedDict")
REBUILD: Global = ("torch._utils", "_rebuild_tensor_v2")
DTYPES: Mapping[Global, str] = {
    ("torch", "FloatStorage"): "<f4",
    ("torch", "HalfStorage"): "<f2",
    ("torch", "LongStorage"): "<i8",
}
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
class Storage:
    """A tensor's storage, before its bytes are read."""

    dtype: str
    key: str
    count: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * int(self.dtype[-1])


@dataclass(frozen=True)
class Tensor:
    """What ``_rebuild_tensor_v2`` would have built: a view into a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]


class _Opaque:
    """An object of a class that is known and not needed: nothing of it is kept."""


class _Mark:
    """Where the items of a tuple, list or dict begin on the stack."""


class Tree:
    """The stack machine of a pickle (pickletools has its instructions), with the few instructions that tensors need.

    Like PyTorch's ``weights_only`` it calls nothing that a file names. What it makes is dicts, lists, tuples, texts,
    numbers and :class:`Tensor`.

    Args:
        opaque: classes that the file may name besides tensors'; an object of theirs is empty.
    """

    def __init__(self, opaque: frozenset[Global] = frozenset()) -> None:
        self.opaque = opaque
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.tensors: list[Tensor] = []

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
        if (module, name) not in KNOWN | self.opaque:
            raise IntegrityError(f"the checkpoint asks for {module}.{name}"[:200], expected="tensors, and no code")
        self._push(_Named((module, name)))

    def _reduce(self, _: object) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if function == _Named(ORDERED_DICT) and arguments == ():
            return self._push({})
        if isinstance(function, _Named) and function.name in self.opaque:
            return self._push(_Opaque())
        if function != _Named(REBUILD) or not isinstance(arguments, tuple):
            raise IntegrityError("the checkpoint calls something", expected="tensors, and no code")
        self.tensors.append(tensor(*arguments))
        self._push(self.tensors[-1])

    def _build(self, _: object) -> None:
        """A state dict's ``_metadata``, which nothing here needs; anything else has no state to be given."""
        self.stack.pop()
        if type(self.stack[-1]) not in (dict, _Opaque):
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
                self._push(Storage(DTYPES[name], key, count))
            case _:
                raise IntegrityError("the checkpoint holds a storage that this reader doesn't know")

    def _memoize(self, at: int | None) -> None:
        self.memo[len(self.memo) if at is None else at] = self.stack[-1]

    ACTS: Mapping[str, Callable[[Tree, Any], None]] = {
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
        "NEWOBJ": _reduce,
        "BUILD": _build,
        "BINPERSID": _persistent,
    }


def tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Tensor:
    numbers = [offset, *shape, *stride] if isinstance(shape, tuple) and isinstance(stride, tuple) else [None]
    fitting = (
        all(type(n) is int and 0 <= n < LARGEST_NUMBER for n in numbers) and len(numbers) <= 1 + 2 * MOST_DIMENSIONS
    )
    if not isinstance(storage, Storage) or not fitting or len(shape) != len(stride):
        raise IntegrityError("the checkpoint has a tensor that this reader doesn't know")
    dense = 1
    for length, step in zip(reversed(shape), reversed(stride), strict=True):
        if length > 1 and step != dense:
            raise IntegrityError("a tensor of the checkpoint is not stored in plain order")
        dense *= length
    if offset + dense > storage.count:
        raise IntegrityError("a tensor of the checkpoint reaches out of its storage")
    return Tensor(storage, offset, shape)
