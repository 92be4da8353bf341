"""A superkernel network computes what its subnets do, and its latency is the table's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lutra.errors import MissingOpError, UsageError
from lutra.predictors.efficiency.forms import Latency
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.spaces.mbconv_spaces import MBConvSpace
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.single_path.gates import gates_of, probabilities
from lutra.supernets.single_path.network import SuperkernelNetwork, elastic_space
from lutra.supernets.single_path.runtime import Runtime
from tests.conftest import SMALL_SPACE
from tests.supernets.test_supernet import MBV3, PROXYLESS, RESNET, disturbed, images_for


def superkernels(space: str) -> SuperkernelNetwork:
    supernet = Supernet(space)
    disturbed(supernet)  # its matrices between kernel sizes, too
    return SuperkernelNetwork(supernet.eval()).eval()


@pytest.mark.parametrize("space", [MBV3, PROXYLESS])
def test_it_computes_what_the_chosen_subnet_does(space: str) -> None:
    network = superkernels(space)
    rows = network.space.sample(4, np.random.default_rng(0))
    rows[0, :-1], rows[1, :-1] = 0, network.space.choice_counts[:-1] - 1
    for row in rows:
        network.choose(row)
        architecture = network.space.decode(row)
        assert network.architecture(architecture.r) == architecture
        images = images_for(architecture)
        with torch.inference_mode():
            found, expected = network(images), network.supernet.subnet(architecture)(images)
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_a_fresh_one_s_kernels_are_centres_and_all_is_used() -> None:
    network = SuperkernelNetwork(Supernet(MBV3))
    assert network.architecture(28) == network.supernet.largest()
    network.choose(np.zeros(len(network.space.genes), dtype=np.int16))
    subnet = network.supernet.subnet(network.architecture(28))
    largest = network.supernet.subnet()
    small, large = (each.layers["u02/depthwise"].weight for each in (subnet, largest))
    assert isinstance(small, torch.Tensor)
    assert isinstance(large, torch.Tensor)
    assert torch.equal(small, large[: len(small), :, 2:-2, 2:-2])


def test_training_it_updates_statistics_as_the_subnet_s() -> None:
    """Of the channels that are used; in training, where batches are normalised by themselves."""
    network = superkernels(MBV3)
    row = network.space.sample(1, np.random.default_rng(1))[0]
    network.choose(row)
    architecture = network.space.decode(row)
    subnet = network.supernet.subnet(architecture).train()
    images = images_for(architecture, count=8)
    torch.testing.assert_close(network.train()(images), subnet(images), atol=1e-4, rtol=1e-4)


def test_gates_are_hard_nested_and_have_a_sigmoid_s_gradient() -> None:
    logits = torch.tensor([[0.3, 0.4], [-0.3, 0.4], [0.3, -0.4]], requires_grad=True)
    gates = gates_of(logits)
    assert gates.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert probabilities(gates).tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    gates.sum().backward()  # type: ignore[no-untyped-call]
    slopes = torch.sigmoid(logits) * (1 - torch.sigmoid(logits))
    # A part behind a closed gate does not matter; one before an open gate matters for both.
    expected = slopes.detach() * torch.tensor([[2.0, 1.0], [2.0, 0.0], [1.0, 1.0]])
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected)


def test_what_is_left_out_has_gradients_and_can_come_back() -> None:
    network = superkernels(MBV3).train()
    network.choose(np.zeros(len(network.space.genes), dtype=np.int16))
    images = torch.randn(8, 1, 20, 20)
    network(images).square().sum().backward()
    gradients = network.thresholds.grad
    assert gradients is not None
    blocks = network.space.blocks
    firsts = [*range(0, 4 * blocks, 2), *range(4 * blocks, len(gradients), 2)]
    used = [gene for gene in firsts if gradients[gene] != 0]
    # All but those of blocks that are not used: their outputs are multiplied by 0.
    assert len(used) == len(firsts) - 2 * 10


@pytest.fixture
def predictor(precisions: dict[str, Path]) -> EfficiencyPredictor:
    """Of a calibrated table at 28 pixels."""
    return EfficiencyPredictor(precisions["fp32"])


def test_its_runtime_is_what_the_table_predicts(predictor: EfficiencyPredictor) -> None:
    network = SuperkernelNetwork(Supernet(SMALL_SPACE))
    runtime = Runtime(predictor, network.space, 28)
    rows = network.space.sample(5, np.random.default_rng(0), [28])
    for row, expected_ms in zip(rows, predictor.predict(rows), strict=True):
        network.choose(row)
        assert runtime(network.gates()).item() == pytest.approx(expected_ms, rel=1e-9)


def test_the_larger_of_two_forms_is_its_runtime(predictor: EfficiencyPredictor) -> None:
    """As on GPUs that wait for their host."""
    (form,) = predictor.latency.forms
    launching = np.where(np.isnan(form.prices), np.nan, np.nanmean(form.prices))  # each op alike
    predictor.latency = Latency((form, replace(form, prices=launching)))
    network = SuperkernelNetwork(Supernet(SMALL_SPACE))
    runtime = Runtime(predictor, network.space, 28)
    rows = network.space.sample(4, np.random.default_rng(0), [28])
    rows = np.concatenate([rows, [extreme([28])[1] for extreme in (form.cheapest, form.dearest)]])
    for row, expected_ms in zip(rows, predictor.latency.of(rows), strict=True):
        network.choose(row)
        assert runtime(network.gates()).item() == pytest.approx(expected_ms, rel=1e-9)
    assert set(predictor.latency.ruling(rows)) == {0, 1}


def test_runtime_pushes_every_indicator_that_costs(predictor: EfficiencyPredictor) -> None:
    network = SuperkernelNetwork(Supernet(SMALL_SPACE))
    Runtime(predictor, network.space, 28)(network.gates()).backward()  # type: ignore[no-untyped-call]
    assert network.thresholds.grad is not None
    assert (network.thresholds.grad < 0).float().mean() > 0.9  # a higher one is faster


def test_what_has_no_such_choices_or_no_prices_is_refused(predictor: EfficiencyPredictor) -> None:
    with pytest.raises(UsageError, match="nested kernels and expansions"):
        SuperkernelNetwork(Supernet(RESNET))
    with pytest.raises(MissingOpError, match="lacks"):
        Runtime(predictor, elastic_space(SMALL_SPACE), 20)
    assert isinstance(elastic_space(MBV3), MBConvSpace)
