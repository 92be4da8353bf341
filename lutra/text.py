"""What devices, programs and files say, as one line that is safe to print."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 200
_CUT = " ... "
_LONGEST_REMARK = 1000  # ours have a few hundred, and the rest is what they quote


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


def bounded(text: str) -> str:
    """The text; of one beyond 1000 characters its beginning and its end, where the advice is.

    >>> len(bounded("No such name: " + "x" * 1_000_000 + "; `lutra spaces` lists them"))
    999
    """
    if len(text) <= _LONGEST_REMARK:
        return text
    half = (_LONGEST_REMARK - len(_CUT)) // 2
    return f"{text[:half]}{_CUT}{text[-half:]}"


def printable_line(text: str) -> str:
    """What a device or another program said, as one line that is safe to print."""
    return printable(one_line(text))


def printable(text: str) -> str:
    """The text without line breaks and without escapes that a terminal would obey."""
    return text if text.isprintable() else "".join(map(_printable_letter, text))


def _printable_letter(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if letter.isspace() else "?"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The sentence to put behind "unknown": of the known words those nearest to a mistyped one.

    Empty where none is near.

    >>> did_you_mean("CPU", ["adb", "cpu", "cuda"])
    ". Did you mean 'cpu'?"
    """
    from difflib import get_close_matches

    names = {name.casefold(): name for name in known}
    near = get_close_matches(word[:_LONGEST].casefold(), names)
    named = " or ".join(f"'{names[name]}'" for name in near)
    return f". Did you mean {named}?" if near else ""
