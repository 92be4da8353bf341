"""Two processes that torchrun starts train one supernet."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lutra.errors import UsageError
from lutra.supernets.checkpoints.checkpoint import load_supernet, read_checkpoint
from lutra.supernets.training.processes import Processes
from tests.supernets.training.rank import gradients
from tests.supernets.training.tiny import SPACE


def test_two_processes(images: Path, tmp_path: Path) -> None:
    """Weights are the same on both; gradients are those of one process with the whole batch.

    Neither has imported torch's compiler, which takes a second.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    job = ["-m", "tests.supernets.training.rank", str(images), str(tmp_path)]
    with subprocess.Popen([*launcher, *job], stderr=subprocess.PIPE, text=True) as running:
        try:
            _, said = running.communicate(timeout=240)
        finally:
            running.terminate()  # it ends its processes, which a kill would leave
    assert running.returncode == 0, said
    one, other = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, tensor in one["weights"].items():
        assert torch.equal(tensor, other["weights"][name]), name
    assert one["losses"] == other["losses"]
    assert one["losses"][-1] < one["losses"][0]
    written = load_supernet(tmp_path / "out" / "supernet.pth", SPACE).state_dict()
    assert all(torch.equal(tensor, written[name]) for name, tensor in one["weights"].items())
    assert read_checkpoint(tmp_path / "out" / "supernet.pth").about["processes"] == 2
    assert not one["compiler"]
    assert not other["compiler"]
    whole = gradients(1)
    assert set(whole) == set(one["gradients"]) == set(other["gradients"])
    for name, gradient in whole.items():
        for averaged in (one["gradients"][name], other["gradients"][name]):
            torch.testing.assert_close(averaged, gradient, atol=1e-5, rtol=1e-5)


def test_a_batch_that_does_not_divide() -> None:
    with pytest.raises(UsageError, match="a batch of 9 images does not divide among 2 processes"):
        Processes(0, 2).share_of(9)
