"""What torchrun starts in `test_processes`: a training, and gradients of halves of a batch.

``python -m tests.supernets.training.rank IMAGES FOLDER``; each rank leaves a file there.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.subnet import initialise
from lutra.supernets.training import loop
from lutra.supernets.training.processes import Processes, joined_processes
from lutra.supernets.training.train import train_supernet
from tests.supernets.training.tiny import CLASSES, OPTIONS, SIZE, SPACE

BATCH = 8


def gradients(count: int, rank: int = 0) -> dict[str, Tensor]:
    """Gradients of two networks on this rank's share of a batch.

    Batch normalisations are in inference: over a share they are others than over the whole.
    """
    supernet = Supernet(SPACE)
    initialise(supernet, seed=0)
    supernet.eval()
    images = torch.randn(BATCH, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(BATCH) % CLASSES
    share = slice(rank * BATCH // count, (rank + 1) * BATCH // count)
    for network in (supernet.largest(), supernet.smallest()):
        logits = supernet(images[share], network)
        functional.cross_entropy(logits, labels[share]).backward()  # type: ignore[no-untyped-call]
    Processes(rank, count).average_gradients(supernet.parameters())
    return {
        name: parameter.grad
        for name, parameter in supernet.named_parameters()
        if parameter.grad is not None
    }


def main(images: Path, folder: Path) -> None:
    """Train with the others; write this rank's weights, losses and averaged gradients."""
    supernets: list[nn.Module] = []
    run = loop.Training.run

    def remembering(training: loop.Training) -> float:
        supernets.append(training.supernet)
        return run(training)

    setattr(loop.Training, "run", remembering)  # noqa: B010
    with joined_processes(torch.device("cpu")) as processes:
        averaged = gradients(processes.count, processes.rank)
        trained = train_supernet(SPACE, images, folder / "out", **OPTIONS)
    found = {
        "weights": supernets[0].state_dict(),
        "losses": [record["loss"] for record in trained.about["history"]],
        "gradients": averaged,
        "compiler": "torch._dynamo" in sys.modules,
    }
    torch.save(found, folder / f"rank{processes.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
