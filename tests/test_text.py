"""Text of others: one line, printable, bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.text import (
    bounded,
    did_you_mean,
    first_words,
    last_words,
    one_line,
    printable,
    printable_line,
    why,
)


@given(st.text())
def test_whatever_is_said_becomes_one_line(text: str) -> None:
    line = one_line(text)
    assert line.split() == text.split()
    assert len(line.splitlines()) <= 1
    assert len(first_words(text)) <= 200
    assert line.startswith(first_words(text))
    assert line.endswith(last_words(text))


def test_what_is_long_keeps_its_beginning_and_its_end() -> None:
    assert bounded("x" * 1000) == "x" * 1000
    cut = bounded("begin" + "x" * 5_000_000 + "end")
    assert (cut[:6], cut[-4:]) == ("beginx", "xend")
    assert " ... " in cut
    assert 990 <= len(cut) <= 1000


@given(st.text())
def test_nothing_that_moves_a_cursor_is_printed(text: str) -> None:
    assert printable(text).isprintable()
    assert printable_line(text).isprintable()
    assert len(printable(text)) == len(text)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("profle", ["profile"]),
        ("CPU", ["cpu"]),
        ("evolutoin", ["evolution"]),
        ("ofa-mbv3", ["ofa-mbv3-w1.0", "ofa-mbv3-w1.2"]),
        ("nonsense", []),
        ("", []),
    ],
)
def test_near_misses_are_named(word: str, meant: list[str]) -> None:
    known = ["adb", "cpu", "cuda", "profile", "evolution", "ofa-mbv3-w1.0", "ofa-mbv3-w1.2"]
    said = did_you_mean(word, known)
    assert said.startswith(". Did you mean '") is bool(meant)
    assert sorted(said.split("'")[1::2]) == meant


def test_an_error_without_words_is_its_type() -> None:
    assert why(OSError("no\n  route")) == "no route"
    assert why(TimeoutError()) == "TimeoutError"
