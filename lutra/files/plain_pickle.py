"""Following a pickle that holds plain data, without unpickling it.

Python's unpickler calls what a file names, and may build what ends the process when it is hashed or
compared. Here nothing is imported, only what the reader brings along is called, and keys are text
or numbers, so that nesting is never followed.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any


@dataclass(frozen=True)
class Call:
    """What a pickle may call, with arguments by position."""

    function: Callable[..., object]


def read_pickle(
    stream: IO[bytes], names: Mapping[str, object], identified: Callable[[object], object]
) -> Any:
    """What the next pickle of a stream holds; the stream stands behind it then.

    ``names`` are the globals that it may name (``module name``), each a value or a `Call`;
    ``identified`` gives what a persistent id stands for. Raises all kinds of exceptions for what is
    damaged, names something else, or is not of protocol 2.
    """
    machine = _Machine(names, identified)
    for opcode, argument, _ in pickletools.genops(stream):
        machine.step(opcode.name, argument)
    (result,) = machine.stack
    return result


class _Machine:
    """The stack and the memo of the pickle's program, each step in constant space."""

    def __init__(self, names: Mapping[str, object], identified: Callable[[object], object]) -> None:
        self.stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._names = names
        self._identified = identified

    def step(self, name: str, argument: Any) -> None:
        """Do what one operation says."""
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise ValueError(f"{name} is not of plain data")

    def mark(self, _: object) -> None:
        self._marked.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self._marked.pop()
        return items

    def put(self, number: int) -> None:
        self._memo[number] = self.stack[-1]

    def get(self, number: int) -> None:
        self.stack.append(self._memo[number])

    def named(self, name: str) -> None:
        self.stack.append(self._names[name])

    def identity(self, _: object) -> None:
        self.stack.append(self._identified(self.stack.pop()))

    def last(self, count: int) -> None:
        items = self.stack[-count:]
        if len(items) < count:
            raise ValueError("a tuple of more than there is")
        self.stack[-count:] = [tuple(items)]

    def tuple_since_mark(self, _: object) -> None:
        items = self._since_mark()
        self.stack.append(tuple(items))

    def append(self, _: object) -> None:
        self._extend([self.stack.pop()])

    def appends(self, _: object) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("items for what is no list")
        self.stack[-1].extend(items)

    def set_item(self, _: object) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key], [value])

    def set_items(self, _: object) -> None:
        items = self._since_mark()
        self._update(items[::2], items[1::2])

    def _update(self, keys: list[Any], values: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise ValueError("entries for what is no dictionary")
        if not all(isinstance(key, str | int) for key in keys):
            raise ValueError("a key that is neither text nor a number")
        self.stack[-1].update(zip(keys, values, strict=True))

    def reduce(self, _: object) -> None:
        arguments, call = self.stack.pop(), self.stack.pop()
        if not isinstance(call, Call) or not isinstance(arguments, tuple):
            raise ValueError("a call of what is no function")
        self.stack.append(call.function(*arguments))

    def build(self, _: object) -> None:
        """What an ordered dictionary has beside its entries says nothing to us."""
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise ValueError("attributes of what has none")

    def nothing(self, _: object) -> None:
        """Neither the protocol's number nor the end changes what there is."""


_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.nothing,
    "STOP": _Machine.nothing,
    "MARK": _Machine.mark,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.named,
    "BINPERSID": _Machine.identity,
    "TUPLE": _Machine.tuple_since_mark,
    "TUPLE1": lambda machine, _: machine.last(1),
    "TUPLE2": lambda machine, _: machine.last(2),
    "TUPLE3": lambda machine, _: machine.last(3),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
