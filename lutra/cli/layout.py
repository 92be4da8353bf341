"""How a table is laid out: as wide as it is, or on a terminal folded between words to fit."""

from __future__ import annotations

import re
from collections.abc import Sequence

_GAP = "  "
_WORD = re.compile(r" *(?:`[^`]*`|[^ ])+")  # with the spaces before; a quoted command is one
_BREAK = re.compile(r"(?<=[/,])")  # op keys and paths may be folded there
_BREAK_IN_HEADING = re.compile(r"(?<=[/,_])")


def table_lines(
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    right: Sequence[bool],
    most_columns: int | None = None,
) -> list[str]:
    """A heading and a line for each row, no cell cut; cells of the ``right`` columns end in line.

    On a terminal of ``most_columns`` characters, the widest columns are folded to fit; where even
    that is too wide, each row becomes lines of its own, one for each column.
    """
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    if most_columns is None or _total(widths) <= most_columns:
        return [_padded(row, widths, right) for row in (columns, *cells)]
    least = [
        max(len(piece) for text in column for piece in _pieces(text, heading=text == name))
        for name, *column in zip(columns, columns, *cells, strict=True)
    ]
    if _total(least) > most_columns:
        return _records(columns, cells, most_columns)
    while _total(widths) > most_columns:
        widest = max(range(len(widths)), key=lambda i: (widths[i] > least[i], widths[i]))
        widths[widest] -= 1
    lines = _folded_row(columns, widths, right, heading=True)
    for row in cells:
        lines += _folded_row(row, widths, right)
    return lines


def folded(text: str, most_columns: int) -> list[str]:
    """A remark in lines of at most so many characters, none broken within a word or a command."""
    lines = [""]
    for word in _WORD.findall(text):
        if len(lines[-1]) + len(word) <= most_columns or not lines[-1]:
            lines[-1] += word
        else:
            lines.append(word.lstrip())
    return lines


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _padded(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    return _GAP.join(
        cell.rjust(width) if number else cell.ljust(width)
        for cell, width, number in zip(row, widths, right, strict=True)
    ).rstrip()


def _folded_row(
    row: Sequence[str], widths: Sequence[int], right: Sequence[bool], *, heading: bool = False
) -> list[str]:
    folded = [_fold(cell, width, heading) for cell, width in zip(row, widths, strict=True)]
    deepest = max(map(len, folded))
    padded = [[*lines, *[""] * (deepest - len(lines))] for lines in folded]
    return [_padded(line, widths, right) for line in zip(*padded, strict=True)]


def _records(
    columns: Sequence[str], cells: Sequence[Sequence[str]], most_columns: int
) -> list[str]:
    """Each row as lines of a name and a value, with an empty line between two rows."""
    names = max(map(len, columns))
    lines: list[str] = []
    for row in cells:
        lines += [""] if lines else []
        for name, cell in zip(columns, row, strict=True):
            values = _fold(cell, most_columns - names - len(_GAP))
            lines += [
                _padded(line, (names, 0), (False, False))
                for line in zip([name, *[""] * (len(values) - 1)], values, strict=True)
            ]
    return lines


def _pieces(text: str, *, heading: bool = False) -> list[str]:
    """What is not broken; all but the first of a word stand without a space in front."""
    pattern = _BREAK_IN_HEADING if heading else _BREAK
    return [piece for word in text.split(" ") for piece in pattern.split(word)]


def _fold(text: str, width: int, heading: bool = False) -> list[str]:
    """The text in lines of at most ``width``, longer only where a piece is."""
    pattern = _BREAK_IN_HEADING if heading else _BREAK
    lines = [""]
    for word in text.split(" "):
        glue = " " if lines[-1] else ""
        for piece in pattern.split(word):
            if len(lines[-1]) + len(glue) + len(piece) <= width or not lines[-1]:
                lines[-1] += glue + piece
            else:
                lines.append(piece)
            glue = ""
    return lines
