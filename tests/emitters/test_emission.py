"""Which file a runtime gets, and what is refused."""

import pytest

from lutra.devices.registry import format_of, runtimes_of
from lutra.devices.worker.runtimes import RUNTIMES
from lutra.emitters.emission import FORMATS, Emission
from lutra.errors import ModelError, UsageError
from lutra.ops import Conv, Graph, Node, Shape


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_has_a_format_and_the_format_the_runtime(runtime: str) -> None:
    assert format_of(runtime) in FORMATS
    assert runtime in runtimes_of(format_of(runtime))


@pytest.mark.parametrize("name", FORMATS)
def test_an_op_that_a_format_lacks_is_named(name: str) -> None:
    shape = Shape(4, 4, 4)
    odd = Node("warp", "a", ("input",))  # type: ignore[arg-type]
    graph = Graph("input", "a", {"input": shape, "a": shape}, (odd,))
    with pytest.raises(ModelError, match=f"node a: 'warp' cannot be written as {name}"):
        Emission(name).emit(graph, {})


@pytest.mark.parametrize("name", FORMATS)
def test_unknown_precisions(name: str) -> None:
    with pytest.raises(UsageError, match="'int3'"):
        Emission(name, "int3")


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match="unknown format 'caffe'"):
        Emission("caffe")
    with pytest.raises(UsageError, match="unknown runtime 'tvm'"):
        format_of("tvm")


def test_a_builder_makes_the_same_file_each_time() -> None:
    for name, precisions in FORMATS.items():
        for precision in precisions:
            build = Emission(name, precision).builder(lambda: Conv(Shape(8, 8, 8), 8).graph)
            assert build() == build()
