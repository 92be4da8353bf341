"""What large cuts cost a module that was trained alone, with and without leaving blocks out whole.

A small ResNet is trained on 9,000 images, and pruned to shares of its multiply-accumulates by its
sensitivity curves: once by these, once keeping all blocks. Both are fine-tuned alike. No latency is
measured.

    python -m benchmarks.residual_blocks --data /usr/share/datasets/fashion-mnist
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import lutra
from lutra.predictors.accuracy import load_accuracy
from lutra.predictors.accuracy.sensitivities import SensitivityPredictor
from lutra.supernets.accuracy.kept_images import KeptImages
from lutra.supernets.checkpoints.network import load_network
from lutra.supernets.data.base import ImageSet, shuffled
from lutra.supernets.data.loading import load_images
from lutra.supernets.deployment.fine_tuning import fine_tune
from lutra.supernets.deployment.module_file import write_module
from lutra.supernets.deployment.tracing import traced
from lutra.supernets.evaluation import top1, tune_statistics
from lutra.supernets.pruning.sensing import sense
from lutra.supernets.subnet import initialise

RESOLUTION = 28
TRAINED, JUDGED, SENSED = 9000, 3000, 400
EPOCHS, LEARNING_RATE = 4, 0.05
SHARES = (0.5, 0.3, 0.2, 0.12)


class Basic(nn.Module):
    """ResNet's basic block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.body(features) + self.shortcut(features))


def resnet() -> nn.Module:
    """Three stages of four blocks; ten of them have a shortcut as it is."""
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for outputs, first_stride in ((16, 1), (32, 2), (64, 2)):
        for stride in (first_stride, 1, 1, 1):
            layers.append(Basic(inputs, outputs, stride))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def main() -> None:
    """Print a line per share and choice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2, help="of fine-tuning")
    given = parser.parse_args()
    train = _some(load_images(given.data, "train", "none"), TRAINED)
    validation = _some(load_images(given.data, "validation"), JUDGED)
    network = traced(resnet(), (1, RESOLUTION, RESOLUTION))
    initialise(network, seed=0)
    fine_tune(network, train, RESOLUTION, EPOCHS, learning_rate=LEARNING_RATE)
    tune_statistics(network, train, RESOLUTION)
    whole = top1(network, validation, RESOLUTION).percent
    print(f"whole: {network.graph.macs / 1e6:.2f} MMACs, {whole:.1f} % of {JUDGED} images")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "module.pth"
        write_module(network, file, {"augmentation": "none"})
        space = lutra.network_space(file)
        path = folder / "curves.jsonl"
        sense(file, given.data, path, images=SENSED, calibration_images=SENSED)
        every = load_accuracy(path, space)
        assert isinstance(every, SensitivityPredictor)
        curves = {"with": every, "without": every.keeping_blocks()}
        table = folder / "any.lut"  # for its ops: latencies are a script's
        lutra.profile("fake", space, table, resolutions=(RESOLUTION,), networks=0)
        print("share  blocks   left out  MACs %  before %  after %")
        for share in SHARES:
            for kind, accuracy in curves.items():
                found = lutra.find_networks(
                    table, max_macs=share * network.graph.macs, accuracy=accuracy, space=space
                ).best.architecture
                left_out = space.left_out(found)
                tuned = []
                for seed in range(given.seeds):
                    _, subnet = load_network(file, found)
                    tune_statistics(subnet, train, RESOLUTION)
                    before = top1(subnet, validation, RESOLUTION).percent
                    fine_tune(subnet, train, RESOLUTION, 1, seed=seed)
                    tune_statistics(subnet, train, RESOLUTION)
                    tuned.append(top1(subnet, validation, RESOLUTION).percent)
                macs = 100 * subnet.graph.macs / network.graph.macs
                each = " ".join(f"{percent:.1f}" for percent in tuned)
                print(
                    f"{share:5} {kind:8} {left_out:8} {macs:7.1f} {before:9.1f}  {each}",
                    flush=True,
                )


def _some(images: ImageSet, count: int) -> ImageSet:
    return KeptImages(images, np.sort(shuffled(len(images))[:count]))


if __name__ == "__main__":
    main()
