"""Training on a real GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from lutra.supernets.checkpoints.checkpoint import load_supernet
from tests.peers.gpu.card import why_no_card
from tests.supernets.training.conftest import Train
from tests.supernets.training.tiny import SPACE

_MISSING = why_no_card("torch")
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.timed,
    pytest.mark.skipif(_MISSING is not None, reason=f"no GPU: {_MISSING}"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("method", ["sandwich", "progressive"])
def test_a_gpu_trains_and_goes_on(
    precision: str, method: str, train: Train, tmp_path: Path
) -> None:
    options = {"device": "cuda:0", "precision": precision, "method": method, "epochs": 12}
    notes: list[str] = []

    def stop(done: int, expected: int, eta_seconds: float) -> None:
        if done == 8:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(tmp_path, on_step=stop, save_seconds=0.0, **options)
    trained = train(tmp_path, on_note=notes.append, **options)
    assert notes[0] == "going on at epoch 3, step 2"
    losses = [record["loss"] for record in trained.about["history"]]
    assert losses[2] < losses[0]
    assert len(losses) == 12
    assert load_supernet(trained.path, SPACE).space is SPACE
