"""Inputs that are nearly right: documents, lines and bytes with something hostile in them."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202e"
# What JSON can say and Python's writer does not: put in as text, by their places.
_RAW = (
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "-Infinity",
    "[" * 100_000,
    '{"a":' * 30_000,
    "1" * 5000,
    "-0.0",
    '"\\ud800"',
    '{"r": 224, "r": 128}',
    "1e-400",
    "tru",
    "",
)
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    255,
    2**31,
    2**63 - 1,
    2**63,
    -(2**63),
    10**400,
    0.0,
    -0.5,
    0.5,
    2.5,
    224.0,
    5e-324,
    1e-300,
    1e300,
    -1e300,
    "",
    "x",
    "224",
    "NaN",
    ESCAPES,
    "a\nb",
    "a" * 10_000,
    "\x00",
    "../../etc/passwd",
    [],
    [[]],
    [None],
    [1, 2, 3],
    [0.5, "x"],
    {},
    {"a": 1},
    *(f"@raw{place}@" for place in range(len(_RAW))),
)


def hostile_values() -> SearchStrategy[Any]:
    """Values that a field does not expect."""
    known = st.sampled_from(HOSTILE).map(copy.deepcopy)  # what is drawn is edited
    return known | st.integers() | st.floats() | st.text(max_size=20)


@st.composite
def edited(draw: DrawFn, documents: Sequence[Any], most_edits: int = 4) -> Any:
    """One of the documents with a few of its places replaced, removed or doubled."""
    document = copy.deepcopy(documents[draw(st.integers(0, len(documents) - 1))])
    for _ in range(draw(st.integers(0, most_edits))):
        document = _edited_once(draw, document)
    return document


def _edited_once(draw: DrawFn, document: Any) -> Any:
    path = draw(st.lists(st.integers(0, 1 << 12), min_size=1, max_size=5))
    parent: Any = None
    key: Any = None
    here = document
    for step in path:
        if isinstance(here, dict) and here:
            parent, key = here, list(here)[step % len(here)]
        elif isinstance(here, list) and here:
            parent, key = here, step % len(here)
        else:
            break
        here = parent[key]
    if parent is None:
        return draw(hostile_values())
    match draw(st.integers(0, 5)):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, list):
            parent.insert(key, copy.deepcopy(here))
        case 1:
            parent[draw(st.text(max_size=8))] = copy.deepcopy(here)
        case 2 if _is_number(here):
            parent[key] = draw(
                st.sampled_from((-here, here + 1, 1e6 * here, 1.0 * here, str(here)))
            )
        case _:
            parent[key] = draw(hostile_values())
    return document


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def json_bytes(document: Any) -> bytes:
    """The document as JSON, with what Python's writer refuses to say."""
    text = json.dumps(document)
    for place, raw in enumerate(_RAW):
        text = text.replace(f'"@raw{place}@"', raw)
    return text.encode("utf-8", "surrogatepass")


def edited_json(documents: Sequence[Any], most_edits: int = 4) -> SearchStrategy[bytes]:
    """Documents with hostile places, now and then with damaged bytes as well."""
    whole = edited(documents, most_edits).map(json_bytes)
    return st.one_of(whole, whole, whole, whole.flatmap(lambda data: damaged([data])))


@st.composite
def damaged(draw: DrawFn, seeds: Sequence[bytes], most_edits: int = 6) -> bytes:
    """One of the seeds with some of its bytes overwritten, removed, repeated or cut off."""
    data = bytearray(seeds[draw(st.integers(0, len(seeds) - 1))])
    for _ in range(draw(st.integers(0, most_edits))):
        place = draw(st.integers(0, 1 << 24)) % (len(data) + 1)
        match draw(st.integers(0, 6)):
            case 0 | 1:
                data[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case 2 | 3:
                word = draw(st.sampled_from(_WORDS))
                data[place : place + len(word)] = word
            case 4:
                del data[place : place + draw(st.integers(1, 64))]
            case 5:
                length = draw(st.integers(1, 64))
                data[place:place] = data[place : place + length]
            case _:
                del data[place:]
    return bytes(data)


_WORDS = (
    b"\x00",
    b"\xff",
    b"\x00\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\x01\x00\x00\x00",
    b"\x7f\xf0\x00\x00\x00\x00\x00\x00",
    b"\x7f\xf8\x00\x00\x00\x00\x00\x01",
    b"\x1b[2J",
    b"\n",
    b"\xc3\x28",
)


@st.composite
def edited_lines(draw: DrawFn, texts: Sequence[str], strange: Sequence[str]) -> bytes:
    """One of the texts, its lines removed, doubled, cut, exchanged or replaced by strange ones."""
    lines = texts[draw(st.integers(0, len(texts) - 1))].split("\n")
    for _ in range(draw(st.integers(0, 5))):
        place = draw(st.integers(0, 1 << 12)) % len(lines)
        match draw(st.integers(0, 6)):
            case 0 if len(lines) > 1:
                del lines[place]
            case 1:
                lines.insert(place, lines[place])
            case 2:
                other = draw(st.integers(0, 1 << 12)) % len(lines)
                lines[place], lines[other] = lines[other], lines[place]
            case 3:
                lines[place] = lines[place][: draw(st.integers(0, 80))]
            case 4:
                lines[place] = _other_number(draw, lines[place])
            case 5:
                lines[place] += draw(st.sampled_from(_ENDS))
            case _:
                lines[place] = draw(st.sampled_from(strange) | st.text(max_size=40))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


_NUMBERS = ("0", "-1", "nan", "inf", "-inf", "1e999", "1e308", "9" * 18, "9" * 30, "0x10", "\u0663")
_ENDS = ("\r", "\x1b[2J", " \x00", "=", ": ", "\t" * 30, " " * 2000, ESCAPES)


def _other_number(draw: DrawFn, line: str) -> str:
    """The line with its first number replaced."""
    number = draw(st.sampled_from(_NUMBERS))
    digits = [place for place, letter in enumerate(line) if letter.isdigit()]
    if not digits:
        return line + number
    start = digits[draw(st.integers(0, len(digits) - 1))]
    end = start
    while end < len(line) and (line[end].isdigit() or line[end] == "."):
        end += 1
    return line[:start] + number + line[end:]
