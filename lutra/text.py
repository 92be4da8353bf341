"""What devices, programs and files say, as one line that is safe to print."""

from __future__ import annotations

_LONGEST = 200


def one_line(text: str) -> str:
    """The text with every run of white space, line breaks too, as a single space."""
    return " ".join(text.split())


def last_words(text: str) -> str:
    """The end of what a program said: one line of at most 200 characters."""
    return one_line(text)[-_LONGEST:]


def first_words(text: str) -> str:
    """The beginning of what a program said: one line of at most 200 characters."""
    return one_line(text)[:_LONGEST]


def why(error: BaseException) -> str:
    """What a third party's error says, in one line; its type where it says nothing."""
    return one_line(str(error)) or type(error).__name__


def printable_line(text: str) -> str:
    """What a device or another program said, as one line that is safe to print."""
    return printable(one_line(text))


def printable(text: str) -> str:
    """The text without line breaks and without escapes that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
