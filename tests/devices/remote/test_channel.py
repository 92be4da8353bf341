"""Lines out of bytes, however they arrive; and what is sent to run on boards."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.devices.remote.channel import Channel, LineReader, LinkLost, ProgramEnded
from lutra.devices.remote.shell import _read_to_mark, quoted, status_behind
from lutra.devices.sessions.board_session import worker_files


class Scripted(Channel):
    """Gives the chunks one after another; None stands for silence."""

    def __init__(self, chunks: list[bytes | None]) -> None:
        self._chunks = list(chunks)

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def read(self, seconds: float) -> bytes | None:
        return self._chunks.pop(0) if self._chunks else b""

    def ending(self) -> str:
        return "exit status 3"

    def kill(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


@given(st.lists(st.binary(max_size=20)), st.integers(1, 7))
def test_lines_do_not_depend_on_how_they_arrive(lines: list[bytes], size: int) -> None:
    expected = [line.replace(b"\n", b"") for line in lines]
    text = b"".join(line + b"\n" for line in expected)
    reader = LineReader(Scripted([text[i : i + size] for i in range(0, len(text), size)]))
    assert [reader.line(1.0) for _ in expected] == expected
    with pytest.raises(ProgramEnded, match="exit status 3"):
        reader.line(1.0)


def test_silence_is_no_line_and_loses_nothing() -> None:
    reader = LineReader(Scripted([b"ab", None, b"c\n"]))
    assert reader.line(0.0) is None
    assert reader.line(0.0) == b"abc"


def test_lines_that_never_stop_come_no_longer_than_they_may() -> None:
    class Flood(Scripted):
        def read(self, seconds: float) -> bytes | None:
            return b"flood\n" * 9999

    assert all(line == b"flood" for line in LineReader(Flood([])).lines(0.1))


def test_lines_end_with_silence() -> None:
    reader = LineReader(Scripted([b"a\nb\nc", None]))
    assert list(reader.lines(1.0)) == [b"a", b"b"]


def test_a_line_without_end_is_cut() -> None:
    reader = LineReader(Scripted([b"x" * 65536] * 40))
    line = reader.line(1.0)
    assert line is not None
    assert len(line) < 1_200_000


@pytest.mark.parametrize(
    "line",
    [b"mark", b"mark ", b"mark x", b"mark 0 0", b"mark0", b"mark -1", b"mark 256", b"mark 9999999"],
)
def test_a_mark_without_a_status_is_a_lost_link(line: bytes) -> None:
    with pytest.raises(LinkLost, match="no exit status"):
        status_behind(b"mark", line)


def test_a_mark_with_a_status() -> None:
    found = [status_behind(b"mark", line) for line in (b"mark 0", b"mark 139\r", b"mark 255")]
    assert found == [0, 139, 255]


def test_empty_lines_without_end_are_a_flood() -> None:
    """As text they weigh nothing, in a list each weighs as much as another."""
    with pytest.raises(LinkLost, match="output without end"):
        _read_to_mark(Scripted([b"\n" * (1 << 20)] * 8), b"mark", 20.0, "a board: true")


@given(st.text())
def test_quoted_is_one_word(text: str) -> None:
    assert shlex.split(quoted(text)) == [text]


@pytest.mark.parametrize("name", sorted(worker_files()))
def test_what_runs_on_boards_is_python_3_8(name: str) -> None:
    content = worker_files()[name]
    assert isinstance(content, Path)
    tree = ast.parse(content.read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip":
            assert not node.keywords, "zip(strict=) came with Python 3.10"
        assert not isinstance(node, ast.Match)
        if isinstance(node, ast.Call):  # isinstance(x, int | str) came with 3.10
            for argument in node.args:
                assert not _is_union(argument)
    for assigned in [node.value for node in tree.body if isinstance(node, ast.Assign)]:
        for node in ast.walk(assigned):
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
                name = node.value.id
                assert name not in _NEW_GENERICS, f"{name}[...] is evaluated, which came with 3.9"


_NEW_GENERICS = {"Callable", "Iterator", "Sequence", "Mapping", "dict", "list", "set", "tuple"}


def _is_union(node: ast.expr) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)


def test_worker_files_import_nothing_but_each_other() -> None:
    own = {name.removesuffix(".py").replace("/", ".") for name in worker_files()}
    own |= {name.removesuffix(".__init__") for name in own}
    for content in worker_files().values():
        assert isinstance(content, Path)
        for node in ast.walk(RuntimeImports().visit(ast.parse(content.read_text()))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lutra"):
                assert node.module in own


class RuntimeImports(ast.NodeTransformer):
    """Without what is imported only to check types."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)
