"""What is said of an error that nobody expected: one line, with its traceback in a file."""

from __future__ import annotations

import platform
import tempfile
import traceback

import lutra
from lutra.text import first_words, why


def unexpected(error: BaseException, doing: str) -> str:
    """The line to print of a mistake in lutra itself; ``doing`` says what it was at.

    Its traceback is kept in a file, for the user to hand on.
    """
    return (
        f"{type(error).__name__}: {first_words(why(error))}. This is a mistake in lutra"
        f" {lutra.__version__}, which was {doing}; {_kept(error, doing)}"
    )


def _kept(error: BaseException, doing: str) -> str:
    """Where the traceback is, and what to do with it."""
    head = f"lutra {lutra.__version__}, Python {platform.python_version()}, {platform.platform()}"
    lines = [head, doing, "", *traceback.format_exception(error)]
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            prefix="lutra-error-",
            suffix=".txt",
            encoding="utf-8",
            errors="backslashreplace",
            delete=False,
        ) as file:
            file.write("\n".join(lines))
    except OSError as problem:
        return (
            f"its traceback could not be written ({why(problem)}): please report what `lutra -v`"
            " shows when you run it again"
        )
    return (
        f"its traceback is in {file.name}: please report it with that file, where you have lutra"
        " from"
    )
