"""What is fuzzed: a function of bytes, and where its inputs come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class Target:
    """A place where bytes of others come in.

    ``run`` takes any bytes, in a folder of its own as the working directory: it returns, raises a
    `LutraError`, or has found something. ``grammar`` makes inputs that are nearly right, ``seeds``
    right ones. ``leaves`` are the files that it may leave in its folder, ``examples`` what once
    failed, and ``suite_inputs`` how many of the grammar the tests try.
    """

    name: str
    run: Callable[[bytes], None]
    grammar: Callable[[], SearchStrategy[bytes]]
    seeds: Callable[[], Sequence[bytes]]
    leaves: frozenset[str] = frozenset()
    examples: tuple[bytes, ...] = ()
    suite_inputs: int = 60
