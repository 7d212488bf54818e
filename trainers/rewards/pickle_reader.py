"""Reads pickles of plain data without running anything: numbers, text, lists, dicts and numpy arrays of numbers.

`pickle.loads` imports and calls whatever the bytes name, so that a hostile answer is a hostile program. Nothing here
calls anything that the bytes name: the opcodes are taken apart by `pickletools.genops`, which only parses, and the few
names that numpy's own pickles need are symbols whose meaning is written down here. Every other name is refused, and so
is every opcode that plain data does not need.
"""

from __future__ import annotations

import math
import pickletools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MOST_OPCODES: Final = 1_000_000
MOST_VALUES: Final = 200_000
_MARK: Final = object()
_DTYPE: Final = re.compile(r"[biuf](1|2|4|8)")
_ORDERS: Final = ("<", ">", "=", "|")
_PLAIN: Final = frozenset(
    {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"), ("__builtin__", "bytes"), ("builtins", "bytes")}
)
"""Names that numbers, bytes and arrays are pickled with; what each means stands in `_call`."""
_NUMPY: Final = ("numpy.core", "numpy._core")


class UnsafePickle(ValueError):
    """A pickle that holds something else than plain data, or is damaged."""


@dataclass(frozen=True)
class _Name:
    """A name that the pickle wants imported; it never is."""

    module: str
    name: str


@dataclass
class _Dtype:
    """numpy's dtype of numbers."""

    code: str
    order: str = "="


@dataclass
class _Array:
    """A numpy array before and after its state came."""

    value: NDArray[Any] | None = None


def read_pickle(data: bytes) -> Any:
    """Read a pickle of plain data.

    Args:
        data: the pickle, of any protocol.

    Returns:
        The object: None, bool, int, float, str, bytes, list, tuple, dict, and numpy arrays of numbers.

    Raises:
        UnsafePickle: it holds anything else, or is damaged.
    """
    machine = _Machine()
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if number >= MOST_OPCODES:
                raise UnsafePickle(f"more than {MOST_OPCODES} parts")
            machine.run(opcode.name, argument)
        return _plain(machine.result(), [MOST_VALUES])
    except UnsafePickle:
        raise
    except (ValueError, TypeError, LookupError, OverflowError, struct.error, RecursionError, StopIteration) as error:
        raise UnsafePickle(f"damaged ({type(error).__name__}: {str(error)[:80]})") from error


class _Machine:
    """The stack machine of pickles, as far as plain data needs it."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, opcode: str, argument: Any) -> None:
        """Carry out an opcode."""
        if opcode in _CONSTANTS:
            self._stack.append(_CONSTANTS[opcode]())
        elif opcode in _VALUES:
            self._stack.append(argument)
        elif opcode in _TUPLES:
            count = _TUPLES[opcode]
            self._stack.append(tuple(self._pop(count)))
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[int(argument)] = self._stack[-1]
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[int(argument)])
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            action = getattr(self, f"_do_{opcode.lower()}", None)
            if action is None:
                raise UnsafePickle(f"the opcode {opcode} is not for plain data")
            action(argument)

    def result(self) -> Any:
        """The pickled object; `UnsafePickle` is raised where the stack does not hold one."""
        if len(self._stack) != 1:
            raise UnsafePickle("damaged: no single object is left")
        return self._stack[0]

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise UnsafePickle("damaged: the stack is empty")
        values = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return values

    def _to_mark(self) -> list[Any]:
        place = next(place for place in range(len(self._stack) - 1, -1, -1) if self._stack[place] is _MARK)
        values = self._stack[place + 1 :]
        del self._stack[place:]
        return values

    def _do_mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def _do_pop(self, _: Any) -> None:
        self._pop(1)

    def _do_memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _do_list(self, _: Any) -> None:
        self._stack.append(self._to_mark())

    def _do_tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._to_mark()))

    def _do_dict(self, _: Any) -> None:
        self._stack.append(_pairs(self._to_mark()))

    def _do_append(self, _: Any) -> None:
        self._extend(self._pop(1))

    def _do_appends(self, _: Any) -> None:
        self._extend(self._to_mark())

    def _do_setitem(self, _: Any) -> None:
        self._update(self._pop(2))

    def _do_setitems(self, _: Any) -> None:
        self._update(self._to_mark())

    def _do_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(_known(module, name))

    def _do_stack_global(self, _: Any) -> None:
        module, name = self._pop(2)
        self._stack.append(_known(module, name))

    def _do_reduce(self, _: Any) -> None:
        function, arguments = self._pop(2)
        self._stack.append(_call(function, arguments))

    def _do_build(self, _: Any) -> None:
        target, state = self._pop(2)
        _build(target, state)
        self._stack.append(target)

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise UnsafePickle("something is appended to what is no list")
        self._stack[-1].extend(values)

    def _update(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], dict):
            raise UnsafePickle("items are set of what is no dict")
        self._stack[-1].update(_pairs(values))


_CONSTANTS: Final[dict[str, Callable[[], Any]]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_VALUES: Final = frozenset(
    {"INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
_TUPLES: Final = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _pairs(values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2:
        raise UnsafePickle("a key without a value")
    if not all(isinstance(key, str | int | float | bytes | None) for key in values[::2]):
        raise UnsafePickle("a key that is no text and no number")
    return dict(zip(values[::2], values[1::2], strict=True))


def _known(module: Any, name: Any) -> _Name:
    symbol = _Name(str(module), str(name))
    package, _, last = symbol.module.rpartition(".")
    known = (
        (symbol.module, symbol.name) in _PLAIN
        or (package in _NUMPY and last == "multiarray" and symbol.name in ("_reconstruct", "scalar"))
        or (package in _NUMPY and last == "numeric" and symbol.name == "_frombuffer")
    )
    if not known:
        raise UnsafePickle(f"it wants {symbol.module}.{symbol.name}"[:120])
    return symbol


def _call(function: Any, arguments: Any) -> Any:
    """What numpy's own pickles mean by a name and its arguments."""
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise UnsafePickle("something is called that has no name")
    if function.name == "bytes" and not arguments:
        return b""
    if function.name == "encode":
        text, encoding = arguments
        if encoding != "latin1" or not isinstance(text, str):
            raise UnsafePickle("bytes in an encoding other than latin1")
        return text.encode("latin1")
    if function.name == "dtype":
        return _dtype(arguments[0])
    if function.name == "_reconstruct":
        return _Array()
    if function.name == "scalar":
        dtype, data = arguments
        return _numbers(data, dtype, (), fortran=False).item()
    if function.name == "_frombuffer":
        data, dtype, shape, order = arguments
        return _Array(_numbers(data, dtype, shape, fortran=order == "F"))
    raise UnsafePickle(f"{function.name} is called")


def _build(target: Any, state: Any) -> None:
    if isinstance(target, _Dtype) and isinstance(state, tuple) and state[1] in _ORDERS and state[2:5] == (None,) * 3:
        target.order = state[1]
    elif isinstance(target, _Array) and isinstance(state, tuple) and len(state) == 5:
        _, shape, dtype, fortran, data = state
        target.value = _numbers(data, dtype, shape, fortran=fortran is True)
    else:
        raise UnsafePickle("an object's state, of no array")


def _dtype(code: Any) -> _Dtype:
    if not isinstance(code, str) or not _DTYPE.fullmatch(code):
        raise UnsafePickle(f"an array of {str(code)[:20]!r}, which is no number")
    return _Dtype(code)


def _numbers(data: Any, dtype: Any, shape: Any, *, fortran: bool) -> NDArray[Any]:
    """An array of the bytes that are there; a shape that they do not fill is refused before anything is made of it."""
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray) or not isinstance(shape, tuple):
        raise UnsafePickle("an array that holds no numbers")
    order = "" if dtype.code[1:] == "1" else dtype.order.replace("|", "")
    kind = np.dtype(order + dtype.code)
    if not all(isinstance(side, int) and side >= 0 for side in shape) or math.prod(shape) * kind.itemsize != len(data):
        raise UnsafePickle("an array whose shape does not fit its bytes")
    return np.frombuffer(bytes(data), kind).reshape(shape, order="F" if fortran else "C")


def _plain(value: Any, left: list[int]) -> Any:
    """The value with arrays in the place of their symbols; a name or a mark that is left over is refused."""
    # A few hundred bytes can name a list so often that it fills a memory: `left` holds how many more there may be.
    left[0] -= 1
    if left[0] < 0:
        raise UnsafePickle(f"more than {MOST_VALUES} values")
    if isinstance(value, _Array):
        if value.value is None:
            raise UnsafePickle("an array without numbers")
        return value.value
    if isinstance(value, _Name | _Dtype) or value is _MARK:
        raise UnsafePickle("a name instead of a value")
    if isinstance(value, list | tuple):
        return type(value)([_plain(part, left) for part in value])
    if isinstance(value, dict):
        return {key: _plain(part, left) for key, part in value.items()}
    return value
