"""The fields of a JSON object that anyone may have written, each read as what it must be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeGuard

from lutra.errors import ResultError

_MOST = 1 << 128  # of whole numbers, which JSON does not limit
_HUGE = 1e300  # no sensible number reaches it


class Fields:
    """One object's fields; `ResultError` names the file and the field that is not as it must be.

    ``where`` is the file, ``prefix`` leads to the object in it (``candidates[0].``).
    """

    def __init__(self, document: object, where: str, prefix: str = "") -> None:
        self._where = where
        self._prefix = prefix
        if not isinstance(document, Mapping):
            raise ResultError(f"{where}: '{prefix.rstrip('.')}' must be an object")
        self._document = document

    def __contains__(self, name: str) -> bool:
        return name in self._document

    def value(self, name: str) -> Any:
        """The field, which may be anything."""
        if name not in self._document:
            raise ResultError(f"{self._where}: '{self._prefix}{name}' is missing")
        return self._document[name]

    def refuse(self, name: str, reason: str) -> NoReturn:
        """Raise `ResultError` for a field."""
        raise ResultError(f"{self._where}: '{self._prefix}{name}' {reason}")

    def _checked(self, name: str, right: Callable[[Any], bool], what: str) -> Any:
        value = self.value(name)
        if not right(value):
            simple = value is None or isinstance(value, str | int | float)
            told = f", not {value!r:.40}" if simple else ""
            self.refuse(name, f"must be {what}{told}")
        return value

    def text(self, name: str) -> str:
        """A text."""
        return str(self._checked(name, lambda value: isinstance(value, str), "a text"))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(self._checked(name, _are_texts, "a list of texts"))

    def number(self, name: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number from ``low`` to ``high``."""
        bounds = "" if math.isinf(low) else f" from {low:g} to {high:g}"

        def right(value: object) -> bool:
            return _is_number(value) and low <= value <= high

        return float(self._checked(name, right, f"a finite number{bounds}"))

    def positive(self, name: str) -> float:
        """A finite number above 0."""
        return float(self._checked(name, _is_positive, "a positive number"))

    def positive_or_none(self, name: str) -> float | None:
        """A finite number above 0, or null."""
        return None if self.value(name) is None else self.positive(name)

    def whole(self, name: str) -> int:
        """A whole number from 0."""
        return int(self._checked(name, _is_whole, "a whole number from 0"))

    def whole_or_none(self, name: str) -> int | None:
        """A whole number from 0, or null."""
        return None if self.value(name) is None else self.whole(name)

    def truth(self, name: str) -> bool | None:
        """True, false or null."""
        value = self._checked(
            name, lambda value: value is None or isinstance(value, bool), "true, false or null"
        )
        return None if value is None else bool(value)

    def positives(self, name: str) -> dict[str, float]:
        """An object of positive numbers."""
        inner = self.inner(name)
        return {key: inner.positive(key) for key in inner._document}

    def kept(self, name: str) -> dict[str, Any]:
        """An object that is handed on as it is; its numbers are finite."""
        return dict(self._checked(name, _is_finite_object, "an object, its numbers finite"))

    def inner(self, name: str) -> Fields:
        """An object's own fields."""
        return Fields(self.value(name), self._where, f"{self._prefix}{name}.")

    def entries(self, name: str) -> dict[str, Fields]:
        """The fields of each object in an object of such."""
        inner = self.inner(name)
        return {key: inner.inner(key) for key in inner._document}

    def each(self, name: str) -> list[Fields]:
        """The fields of each of a list's objects."""
        found = self._checked(name, lambda value: isinstance(value, list), "a list of objects")
        return [
            Fields(item, self._where, f"{self._prefix}{name}[{index}].")
            for index, item in enumerate(found)
        ]


def _is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number, finite and no truth value, that a float can hold."""
    return isinstance(value, int | float) and type(value) is not bool and abs(value) < _HUGE


def _is_positive(value: object) -> bool:
    return _is_number(value) and value > 0


def _is_whole(value: object) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_finite_object(value: object) -> bool:
    return isinstance(value, dict) and _is_finite(value)


def _is_finite(value: object) -> bool:
    if isinstance(value, dict | list):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)
