"""What LiteRT and tflite-runtime have in common: TFLite's ``Interpreter``, with XNNPACK or without.

XNNPACK is TFLite's fast CPU delegate and on by default. It takes what nodes it can; the others
run in TFLite's own kernels, which for some int8 operators is many times slower.
"""

from __future__ import annotations

import base64
import zlib
from collections import deque
from typing import Any

from lutra.devices.worker.runtimes.inputs import random_input

_DELEGATE = "DELEGATE"
_SMALLEST_MODEL = (  # one RELU over one float, as the TFLite emitter writes it, deflated
    "eNptUEuKwkAQfdGMSgyOYBAXLryDF3AlLrKYxeyHiFECGkUTT+ERPIDLOdFcJb6qLoMjFjw6Xe9T6RoD+J7H0wgTjDFC"
    "hD5C9jrw+Q32gKvhRvwSFw9o8uRBtVSgLvEEvIXmmxGfxCk9nrN887NK10m5LdTnZjhPx7J8okXsy+JQFqh10hVdyzQf"
    "RJarRMvTLOH8mt+WxTExLlJVr36dZPWsL/+5IGLiy/J3SZbj5X2PnQQ2KzT+Aby5N2wHkvlXVZVQz97lP/3QNu/yXbXZ"
    "ddHPvuRlVl+5EF2V+qobON/gDoLmHS8="
)


def delegate_name(config: dict[str, Any]) -> str:
    """``XNNPACK``, or ``none`` when that is off."""
    return "none" if _xnnpack_off(config) else "XNNPACK"


def check(module: Any) -> None:
    """Construct an interpreter: whether the runtime fits this numpy shows only then."""
    module.Interpreter(model_content=smallest_model())


def smallest_model() -> bytes:
    """The smallest TFLite file: one operator over one number."""
    return zlib.decompress(base64.b64decode(_SMALLEST_MODEL))


def load(module: Any, path: str, config: dict[str, Any]) -> InterpreterModel:
    """The model file in an interpreter of ``module``, with random inputs."""
    resolver = module.OpResolverType
    interpreter = module.Interpreter(
        model_path=path,
        num_threads=config["threads"],
        experimental_op_resolver_type=(
            resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES if _xnnpack_off(config) else resolver.AUTO
        ),
    )
    interpreter.allocate_tensors()
    for tensor in interpreter.get_input_details():
        interpreter.set_tensor(tensor["index"], _input(tensor))
    return InterpreterModel(interpreter)


class InterpreterModel:
    """A loaded model, ready to run; ``nodes`` counts all operators and those of the delegate."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self.nodes: tuple[int, int] | None = count_nodes(interpreter._get_ops_details())
        self.run = interpreter.invoke

    def unload(self) -> None:
        """Free the interpreter."""
        del self.run, self._interpreter


def count_nodes(operators: list[dict[str, Any]]) -> tuple[int, int]:
    """(all operators of the file, those that a delegate took).

    After delegation the interpreter lists the original operators and, behind them, one DELEGATE
    for each group of operators that it replaced. A group is what lies between its inputs and its
    outputs.
    """
    original = [item for item in operators if item["op_name"] != _DELEGATE]
    writer = {
        int(tensor): index for index, item in enumerate(original) for tensor in item["outputs"]
    }
    taken: set[int] = set()
    for delegate in operators:
        if delegate["op_name"] == _DELEGATE:
            taken |= _group(original, writer, delegate)
    return len(original), len(taken)


def _group(
    original: list[dict[str, Any]], writer: dict[int, int], delegate: dict[str, Any]
) -> set[int]:
    outside = {int(tensor) for tensor in delegate["inputs"]}
    waiting = deque(int(tensor) for tensor in delegate["outputs"])
    found: set[int] = set()
    while waiting:
        tensor = waiting.popleft()
        index = writer.get(tensor)
        if tensor not in outside and index is not None and index not in found:
            found.add(index)
            waiting.extend(int(source) for source in original[index]["inputs"])
    return found


def _xnnpack_off(config: dict[str, Any]) -> bool:
    return bool(config["options"].get("xnnpack") == "off")


def _input(tensor: dict[str, Any]) -> Any:
    try:
        return random_input(tensor["shape"], tensor["dtype"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"input {tensor['name']}: {error}") from error
