"""From gradients to new weights."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import nn

from lutra.errors import UsageError

MOMENTUM = 0.9
WEIGHT_DECAY = 3e-5


class _Sgd(torch.optim.SGD):
    """torch's, without the wrappers that import torch's compiler, for a second, to keep it out."""

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.SGD.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.SGD.state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)


def optimizer_of(network: nn.Module) -> torch.optim.SGD:
    """SGD with Nesterov's momentum; batch normalisations and biases do not decay.

    What a step's networks do not use is left alone, momentum and all.
    """
    parameters = list(network.parameters())
    groups = [
        {"params": [each for each in parameters if each.dim() > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [each for each in parameters if each.dim() <= 1], "weight_decay": 0.0},
    ]
    return _Sgd(groups, lr=0.0, momentum=MOMENTUM, nesterov=True)


def require_rate(learning_rate: float) -> None:
    """Raise `UsageError` unless a learning rate is above zero and finite."""
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise UsageError(f"a learning rate of {learning_rate} must be above zero and finite")


def set_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Use a learning rate from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def default_precision(device: torch.device) -> str:
    """``fp32`` on CPUs; on GPUs ``bf16``, or ``fp16`` on those that lack it."""
    if device.type == "cpu":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def casting_of(
    precision: str, device: torch.device
) -> Callable[[], AbstractContextManager[object]]:
    """A context in which networks compute at a precision; weights stay float32."""
    if precision == "fp32":
        return nullcontext
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return partial(torch.autocast, device.type, dtype)


def scaler_of(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """What keeps gradients within fp16's range; without effect at other precisions."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
