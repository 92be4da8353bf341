"""Model files run on images by the runtime that they are for: ONNX, TFLite, torch.

Unlike the worker, which times files on random inputs, a runner takes inputs and gives answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lutra.devices.worker.runtimes.torch_graph import load_module
from lutra.emitters.model_file import read_model_file
from lutra.emitters.onnx_file import read_onnx
from lutra.errors import CheckpointError, LutraError, ModelError
from lutra.supernets.checkpoints.checkpoint import Checkpoint, read_checkpoint
from lutra.supernets.checkpoints.network import load_network
from lutra.text import printable_line, why

Array = npt.NDArray[Any]
_CHANNELS = (1, 3)
_TORCH_PRECISIONS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
_MANY = 64  # images at once where the file leaves it open


class InputForm(NamedTuple):
    """What a file takes: so many square images at once; ``channels_first`` is (N, C, H, W)."""

    batch: int
    channels: int
    resolution: int
    channels_first: bool


class Quantisation(NamedTuple):
    """Real value = scale * (stored integer - zero point)."""

    scale: float
    zero_point: int


class ModelRunner(ABC):
    """A loaded model file with one input, images, and one output, a value per class.

    ``precision`` is that of the file, as in a table's target.
    """

    form: InputForm
    classes: int
    precision: str

    @abstractmethod
    def run(self, features: Array) -> Array:
        """One inference, in the file's own layout: exactly ``form.batch`` images."""

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) float32 to (N, classes) float32, for any N."""
        features = images.numpy()
        if not self.form.channels_first:
            features = features.transpose(0, 2, 3, 1)
        answers = [
            self.run(np.ascontiguousarray(part)).reshape(self.form.batch, -1)
            for part in _filled(features, self.form.batch)
        ]
        return torch.from_numpy(np.concatenate(answers)[: len(images)].astype(np.float32))


def open_model(path: str | Path) -> ModelRunner:
    """The runner of a file by its suffix: .onnx, .tflite, or .torch, .pt and .pth of ours.

    Or .pth of one network's weights. Raises `CheckpointError` for weights that do not fit the
    network, `ModelError` for a file that is damaged, that its runtime refuses, or that is no
    classifier of square images of one or three channels.
    """
    path = Path(path)
    runner = _RUNNERS.get(path.suffix.lower())
    if runner is None:
        known = ", ".join(_RUNNERS)
        raise ModelError(f"{path}: a model file ends in one of {known}")
    if not path.is_file():
        raise ModelError(f"cannot read {path}: there is no such file")
    precision = None
    if runner is not _torch_runner:
        shapes = _given_shapes(path) if runner is OnnxRunner else None
        precision = read_model_file(path, shapes).precision
    with refusals(path):
        opened = runner(path)
    if precision is not None:  # a torch file's is seen once it is loaded
        opened.precision = precision
    return opened


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Whatever a runtime raises, as a `ModelError` of one line."""
    try:
        yield
    except LutraError:
        raise
    except Exception as error:
        raise ModelError(f"{path} cannot be run: {printable_line(why(error))[:300]}") from error


class OnnxRunner(ModelRunner):
    """onnxruntime on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._path = path
        source = _only(path, self._session.get_inputs(), "inputs")
        self._output = _only(path, self._session.get_outputs(), "outputs").name
        self._input = source.name
        if source.type not in _ONNX_FLOATS:
            raise ModelError(
                f"{path} takes {source.type}; only float inputs say how an image becomes one"
            )
        self._dtype = _ONNX_FLOATS[source.type]
        first, *sizes = source.shape
        self.form = input_form(path, [first if isinstance(first, int) else _MANY, *sizes])
        self.classes = _classes(path, self)

    def run(self, features: Array) -> Array:
        with refusals(self._path):
            inputs = {self._input: features.astype(self._dtype)}
            (output,) = self._session.run([self._output], inputs)
        return np.asarray(output)


class TfliteRunner(ModelRunner):
    """LiteRT on the CPU, with its default delegate; integer inputs on the grid of the file."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._path = path
        self._interpreter = Interpreter(model_path=str(path))
        self._interpreter.allocate_tensors()
        self._input = _only(path, self._interpreter.get_input_details(), "inputs")
        self._output = _only(path, self._interpreter.get_output_details(), "outputs")
        self._on = _quantisation(path, self._input)
        self._off = _quantisation(path, self._output)
        self.form = input_form(path, self._input["shape"].tolist())
        self.classes = _classes(path, self)

    def run(self, features: Array) -> Array:
        with refusals(self._path):
            self._interpreter.set_tensor(
                self._input["index"], _stored(features, self._on, self._input["dtype"])
            )
            self._interpreter.invoke()
            output = self._interpreter.get_tensor(self._output["index"])
        if self._off is None:
            return np.asarray(output)
        values: Array = self._off.scale * (output.astype(np.float32) - self._off.zero_point)
        return values


class TorchRunner(ModelRunner):
    """A torch file of ours, in torch."""

    def __init__(self, path: Path) -> None:
        try:
            self._module = load_module(str(path))
        except Exception as error:  # torch's reader raises anything on damaged files
            raise ModelError(
                f"{path} is no torch file of lutra (`lutra export --format torch`) and no network's"
                " weights (`lutra fine-tune`), or it is damaged"
            ) from error
        self._path = path
        self.precision = _TORCH_PRECISIONS[self._module.dtype]
        _, *image = self._module.input_shape
        self.form = input_form(path, [_MANY, *image])  # it takes any number at once
        self.classes = _classes(path, self)

    def run(self, features: Array) -> Array:
        with refusals(self._path), torch.inference_mode():
            output = self._module(torch.from_numpy(features).to(self._module.dtype))
        array: Array = output.float().numpy()
        return array


class NetworkRunner(ModelRunner):
    """One network's weights (`lutra.supernets.checkpoints.network`), in torch."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        _, self._network = load_network(checkpoint)
        self.precision = "fp32"
        shape = self._network.graph.input_shape
        self.form = InputForm(_MANY, shape.channels, shape.height, channels_first=True)
        self.classes = self._network.graph.output_shape.channels

    def run(self, features: Array) -> Array:
        with torch.inference_mode():
            array: Array = self._network(torch.from_numpy(features)).numpy()
        return array


def _torch_runner(path: Path) -> ModelRunner:
    """Of a torch file, whichever of ours it is."""
    try:
        checkpoint = read_checkpoint(path)
    except CheckpointError:  # bf16, or none of ours: torch's reader tells
        return TorchRunner(path)
    if checkpoint.architecture is None:
        return TorchRunner(path)
    return NetworkRunner(checkpoint)


def input_form(path: Path, shape: Sequence[int | str | None]) -> InputForm:
    """How images lie in an input of this shape; raises `ModelError` where they do not."""
    match shape:
        case [int(batch), int(height), int(width), int(channels)] if (
            height == width and channels in _CHANNELS
        ):
            return InputForm(batch, channels, height, channels_first=False)
        case [int(batch), int(channels), int(height), int(width)] if (
            height == width and channels in _CHANNELS
        ):
            return InputForm(batch, channels, height, channels_first=True)
    told = ", ".join("?" if size is None else printable_line(str(size)) for size in shape)
    raise ModelError(f"{path} takes ({told}): no square images of 1 or 3 channels")


def _given_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of an ONNX file's input where it leaves open how many images go at once.

    Raises `ModelError` where more than that is open.
    """
    try:
        graph = read_onnx(path).graph
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    constants = {item.name for item in graph.initializer}
    given = {}
    for value in graph.input:
        sizes = [size.dim_value or None for size in value.type.tensor_type.shape.dim]
        if value.name not in constants and None in sizes:
            form = input_form(path, [_MANY, *sizes[1:]])
            given[value.name] = (form.batch, *(size for size in sizes[1:] if size is not None))
    return given


def _filled(features: Array, batch: int) -> Iterator[Array]:
    """Parts of ``batch`` items; the last one is filled up with the first item."""
    for start in range(0, len(features), batch):
        part = features[start : start + batch]
        spare = [part[:1]] * (batch - len(part))
        yield np.concatenate([part, *spare]) if spare else part


def _only(path: Path, values: Sequence[Any], what: str) -> Any:
    if len(values) != 1:
        raise ModelError(f"{path} has {len(values)} {what}; a classifier has one")
    return values[0]


def _classes(path: Path, runner: ModelRunner) -> int:
    """How many values a run gives per image."""
    form = runner.form
    square = (form.resolution, form.resolution)
    image = (form.channels, *square) if form.channels_first else (*square, form.channels)
    output = runner.run(np.zeros((form.batch, *image), np.float32))
    if output.ndim < 2 or len(output) != form.batch or max(output.shape[1:]) != output[0].size:
        raise ModelError(f"{path} gives {output.shape}, not one value per class for each image")
    return int(output[0].size)


def _quantisation(path: Path, tensor: Mapping[str, Any]) -> Quantisation | None:
    """The grid of a TFLite tensor, None for one of floats."""
    if np.issubdtype(tensor["dtype"], np.floating):
        return None
    scales = tensor["quantization_parameters"]["scales"]
    zero_points = tensor["quantization_parameters"]["zero_points"]
    if len(scales) != 1 or len(zero_points) != 1:
        name = printable_line(str(tensor["name"]))
        raise ModelError(f"{path}: '{name}' holds integers without a scale")
    return Quantisation(float(scales[0]), int(zero_points[0]))


def _stored(features: Array, on: Quantisation | None, dtype: Any) -> Array:
    """Real values as an input stores them."""
    if on is None:
        return features.astype(dtype)
    limits = np.iinfo(dtype)
    steps = np.rint(features / np.float32(on.scale)) + on.zero_point
    stored: Array = np.clip(steps, limits.min, limits.max).astype(dtype)
    return stored


_ONNX_FLOATS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
_RUNNERS: dict[str, Callable[[Path], ModelRunner]] = {
    ".onnx": OnnxRunner,
    ".tflite": TfliteRunner,
    **dict.fromkeys((".torch", ".pt", ".pth"), _torch_runner),
}
