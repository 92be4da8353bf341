"""How finely a number was written down."""

from __future__ import annotations

from decimal import Decimal

FEW = 5  # significant digits: two measurements may agree in as many


def significant(value: float) -> int:
    """The significant digits of a number as it is printed.

    >>> significant(0.0120), significant(1.6413125)
    (2, 8)
    """
    return len(Decimal(repr(value)).normalize().as_tuple().digits)


def half_a_digit(value: float) -> float:
    """Half a unit of the last digit that is printed."""
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return 0.5 * 10.0**exponent
