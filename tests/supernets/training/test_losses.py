"""What networks of a step learn, against the sums written out."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.subnet import initialise
from lutra.supernets.training.losses import Batch, Passes, sandwich_losses, shrinking_losses
from lutra.supernets.training.optimization import casting_of, optimizer_of, scaler_of
from tests.supernets.test_supernet import random_architectures

SPACE = "ofa-mbv3-w0.25/classes=4/channels=1/r=16:16:4"


@pytest.fixture
def supernet() -> Supernet:
    supernet = Supernet(SPACE)
    initialise(supernet, seed=0)
    return supernet.train()


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.randn(8, 1, 16, 16, generator=generator), torch.arange(8) % 4)


def gradients(supernet: Supernet) -> dict[str, Tensor]:
    found = {
        name: parameter.grad.clone()
        for name, parameter in supernet.named_parameters()
        if parameter.grad is not None
    }
    supernet.zero_grad()
    return found


def soft_cross_entropy(logits: Tensor, probabilities: Tensor) -> Tensor:
    return -(probabilities * logits.log_softmax(1)).sum(1).mean()


def smoothed(logits: Tensor, labels: Tensor) -> Tensor:
    target = 0.9 * functional.one_hot(labels, 4) + 0.1 / 4
    return soft_cross_entropy(logits, target)


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(got) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, atol=1e-6, rtol=1e-4)


def test_shrinking_sums_the_gradients_of_labels_and_teacher(
    supernet: Supernet, batch: Batch
) -> None:
    networks = list(random_architectures(supernet.space, 3))
    teacher = supernet.subnet(supernet.largest()).eval()
    passes = Passes(supernet, nullcontext)
    torch.manual_seed(0)
    for loss in shrinking_losses(passes, teacher, batch, networks):
        loss.backward()  # type: ignore[no-untyped-call]
    got = gradients(supernet)
    torch.manual_seed(0)
    with torch.no_grad():
        soft = teacher(batch.images).softmax(1)
    outputs = [supernet(batch.images, network) for network in networks]
    total = sum(smoothed(each, batch.labels) + soft_cross_entropy(each, soft) for each in outputs)
    assert isinstance(total, Tensor)
    total.backward()  # type: ignore[no-untyped-call]
    assert_same(got, gradients(supernet))
    assert all(each.grad is None for each in teacher.parameters())


def test_the_sandwich_s_largest_learns_from_labels_alone(supernet: Supernet, batch: Batch) -> None:
    networks = [supernet.largest(), supernet.smallest(), *random_architectures(supernet.space, 2)]
    passes = Passes(supernet, nullcontext)
    torch.manual_seed(0)
    for loss in sandwich_losses(passes, batch, networks):
        loss.backward()  # type: ignore[no-untyped-call]
    got = gradients(supernet)
    torch.manual_seed(0)
    supernet.dropout = 0.1
    largest = supernet(batch.images, networks[0])
    supernet.dropout = 0.0
    soft = largest.detach().softmax(1)
    total = smoothed(largest, batch.labels)
    for network in networks[1:]:
        total = total + soft_cross_entropy(supernet(batch.images, network), soft)
    total.backward()  # type: ignore[no-untyped-call]
    assert_same(got, gradients(supernet))


def test_mixed_precision_is_near_and_gradients_are_whole(supernet: Supernet, batch: Batch) -> None:
    device = torch.device("cpu")
    networks = [supernet.largest()]
    losses = {}
    for precision in ("fp32", "bf16"):
        passes = Passes(supernet, casting_of(precision, device))
        (loss,) = list(shrinking_losses(passes, None, batch, networks))
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.dtype == torch.float32
        assert {each.dtype for each in gradients(supernet).values()} == {torch.float32}
        losses[precision] = loss.item()
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.1)
    assert losses["bf16"] != losses["fp32"]
    assert scaler_of("fp16", device).is_enabled()
    assert not scaler_of("bf16", device).is_enabled()


def test_norms_and_biases_do_not_decay(supernet: Supernet) -> None:
    optimizer = optimizer_of(supernet)
    decay = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in supernet.named_parameters():
        spared = ".bn." in name or name.endswith("bias") or name.startswith("bn")
        assert decay[id(parameter)] == (0.0 if spared else 3e-5), name
    assert len(decay) == len(list(supernet.parameters()))
