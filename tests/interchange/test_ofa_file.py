"""Files of OFA's form are read as they are, and what is none is refused with its line."""

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.errors import NotATableError
from lutra.interchange.ofa_file import Entry, read_ofa_file

GOOD = "Conv-input:8x8x3-output:4x4x8:\n  count: 500\n  mean: 0.5\n  std: 0.02\n"


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "table.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def error_of(folder: Path, text: str | bytes) -> str:
    path = written(folder, text)
    with pytest.raises(NotATableError) as caught:
        read_ofa_file(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def test_what_a_file_says(tmp_path: Path) -> None:
    more = 'B: {mean: 2, var: 0.25}\n? "C"\n: {"mean": 1e-3, other: x}\n'
    file = read_ofa_file(written(tmp_path, GOOD + more))
    assert file.entries == {
        "Conv-input:8x8x3-output:4x4x8": Entry(0.5, 0.02, 500),
        "B": Entry(2.0, 0.5, None),
        "C": Entry(0.001, None, None),
    }
    assert file.name == "table.yaml"
    assert file.sha256 == hashlib.sha256((GOOD + more).encode()).hexdigest()


means = st.floats(1e-6, 1e6)
documents = st.dictionaries(
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=20),
    st.fixed_dictionaries(
        {"mean": means},
        optional={"std": st.floats(0, 1e3), "count": st.integers(1, 10**6), "n": st.integers()},
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60)
@given(documents, st.sampled_from(["block", "flow", "json", "json, indented"]))
def test_any_table_is_read_as_its_own_loader_reads_it(
    tmp_path: Path, document: dict[str, Any], form: str
) -> None:
    match form:
        case "block" | "flow":
            text = yaml.safe_dump(document, default_flow_style=form == "flow", allow_unicode=True)
        case _:
            text = json.dumps(document, indent=None if form == "json" else 2, ensure_ascii=False)
    read = read_ofa_file(written(tmp_path, text)).entries
    assert read == {
        key: Entry(float(fields["mean"]), fields.get("std"), fields.get("count"))
        for key, fields in document.items()
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", ", line 1: .* it is empty"),
        ("# nothing\n", "it is empty"),
        ("just words\n", ", line 1: .* it holds something else"),
        ("- a\n- b\n", "it holds something else"),
        ("{}\n---\n{}\n", "a second document follows"),
        (GOOD + "B: 0.5\n", ", line 5: 'B' must be an object with a mean"),
        (GOOD + "B: [0.5]\n", "'B' must be an object with a mean"),
        (GOOD + "B: {count: 5}\n", ", line 5: 'B' has no mean"),
        (GOOD + "B: {mean: {a: 1}}\n", "'mean' must be a number"),
        (GOOD + "B:\n  mean: fast\n", ", line 5: 'mean' must be a number, not fast"),
        (GOOD + "B: {mean: '0.5'}\n", "'mean' must be a number$"),
        (GOOD + "B: {mean: .nan}\n", "'mean' must be a number, not .nan"),
        (GOOD + "B: {mean: .inf}\n", "'mean' must be a number"),
        (GOOD + "B: {mean: 1e999}\n", "'mean' must be a number"),
        (GOOD + "B: {mean: true}\n", "'mean' must be a number, not true"),
        (GOOD + "B: {mean: }\n", "'mean' must be a number"),
        (GOOD + "B: {mean: 0}\n", ", line 5: the mean of 'B' is 0: no op takes so many ms"),
        (GOOD + "B: {mean: -0.5}\n", "the mean of 'B' is -0.5"),
        (GOOD + "B: {mean: 1, std: -1}\n", "'std' is -1"),
        (GOOD + "B: {mean: 1, var: -1}\n", "'var' is -1"),
        (GOOD + "B: {mean: 1, count: 2.5}\n", "'count' is 2.5"),
        (GOOD + "B: {mean: 1, count: 0}\n", "'count' is 0"),
        (GOOD + "B: {mean: 1, mean: 2}\n", "'mean' stands twice in 'B'"),
        (GOOD + "[a, b]: {mean: 1}\n", "a key is no text"),
        (GOOD + "B: &x {mean: 1}\nC: *x\n", "anchors and aliases"),
        (GOOD + "B: *x\n", "anchors and aliases"),
        (GOOD + "B: !!python/object/apply:os.system [x]\n", "tags have no place"),
        (GOOD + "B: {mean: !!float 1}\n", "tags have no place"),
        (GOOD + "B: {mean: 1\n", ", line 6 is no YAML"),
        (GOOD + "B:\n\t- x\n", ", line 6 is no YAML"),
        (GOOD[:-9] + "\n   : [\n", "is no YAML|must be a number"),
        (b"\xff\xfe\xfd", "is no YAML"),
        (b"SQLite format 3\x00" + bytes(100), "is no YAML"),
        ("[" * 100_000, "it holds something else|nesting depth"),
        (GOOD + "B: " + "{a: " * 50_000, "'a' must be a number"),
        ("a" * 5000, "it holds something else"),
    ],
)
def test_what_is_no_table(tmp_path: Path, text: str | bytes, reason: str) -> None:
    message = error_of(tmp_path, text)
    assert re.search(reason, message), message


def test_a_billion_laughs_are_not_heard(tmp_path: Path) -> None:
    lines = ["a: &a {mean: 1}"]
    lines += [
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    assert "line 1: anchors and aliases" in error_of(tmp_path, "\n".join(lines))


def test_a_key_that_stands_twice(tmp_path: Path) -> None:
    assert len(read_ofa_file(written(tmp_path, GOOD + GOOD)).entries) == 1
    other = GOOD.replace("0.5", "0.6")
    assert ", line 5: 'Conv-input:8x8x3-output:4x4x8' stands there twice" in error_of(
        tmp_path, GOOD + other
    )


def test_no_number_is_read_of_a_file_that_was_cut_off(tmp_path: Path) -> None:
    """Wherever in its last rows: what is left is what stood there, or it is refused."""
    rows = "".join(
        f"row{number}:\n  count: 500\n  mean: 1.{number}25\n  std: 0.0125\n" for number in range(15)
    )
    whole = read_ofa_file(written(tmp_path, rows)).entries
    refused = 0
    for end in range(rows.index("row11"), len(rows)):
        path = written(tmp_path, rows[:end])
        try:
            entries = read_ofa_file(path).entries
        except NotATableError:
            refused += 1
            continue
        assert all(entry.mean_ms == whole[key].mean_ms for key, entry in entries.items()), end
    assert refused > 80
    assert "'row14' has no std or var, as all others: is it cut off?" in error_of(
        tmp_path, rows[: rows.index("  std: 0.0125", rows.index("row14"))]
    )


def test_sizes_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lutra.interchange.ofa_file._MOST_ENTRIES", 10)
    rows = "".join(f"k{number}: {{mean: 1}}\n" for number in range(11))
    assert "more than 10 entries" in error_of(tmp_path, rows)
    monkeypatch.setattr("lutra.interchange.ofa_file._MAX_BYTES", 100)
    assert "is larger than" in error_of(tmp_path, rows)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotATableError, match="cannot read .*none.yaml: No such file"):
        read_ofa_file(tmp_path / "none.yaml")


def test_the_python_parser_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyYAML was built without libyaml."""
    path = written(tmp_path, GOOD + "B: {mean: 2, var: 0.25}\n")
    fast = read_ofa_file(path)
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert read_ofa_file(path) == fast
    assert math.isclose(fast.entries["B"].mean_ms, 2.0)
    assert "is no YAML" in error_of(tmp_path, GOOD + "B: {mean: 1\n")
    assert "is no YAML" in error_of(tmp_path, b"\xff\xfe\xfd")
