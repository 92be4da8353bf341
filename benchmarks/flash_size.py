"""What a network takes on flash, step by step: fp32, int8, clustered, packed; and what that costs.

    python benchmarks/flash_size.py [--networks smallest,largest] [--prices 0.2,0.5] [--epochs 1]

The smallest and the largest network of the Fashion-MNIST supernet that comes with lutra, as TFLite
files. Top-1 is of each file itself, run by LiteRT on the validation images; a pack's is its file's,
which it unpacks to bit for bit (checked). Where values are trained, the same training of the
network as it is stands beside them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import lutra
from lutra.spaces import Architecture
from lutra.supernets.checkpoints.shipped import shipped_checkpoint

SPACE = "ofa-mbv3-fashion"
VALUES = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--prices", default="0.2,0.5")
    parser.add_argument("--networks", default="smallest,largest")
    chosen = parser.parse_args()
    space = lutra.get_space(SPACE)
    networks = {
        "smallest": space.decode(space.choice_counts * 0),
        "largest": space.decode(space.choice_counts - 1),
    }
    print("| network | file | bytes | packed | times smaller than fp32 | validation top-1 % |")
    print("|---|---|---|---|---|---|")
    for name in chosen.networks.split(","):
        with tempfile.TemporaryDirectory() as folder:
            show(name, networks[name], Path(folder), chosen)


def show(name: str, architecture: Architecture, folder: Path, chosen: argparse.Namespace) -> None:
    """The rows of one network."""
    supernet = shipped_checkpoint(SPACE)
    assert supernet is not None
    made: dict[str, tuple[Path, str, int]] = {"fp32": (supernet, "fp32", 0)}
    made["int8"] = (supernet, "int8", 0)
    if chosen.epochs:
        made["int8, trained as long"] = (supernet, "int8", chosen.epochs)
    for price in map(float, chosen.prices.split(",")):
        path = folder / f"{price}.pth"
        found = lutra.cluster(
            supernet,
            chosen.data,
            path,
            architecture=architecture,
            values=VALUES,
            bit_price=price,
            epochs=chosen.epochs,
        )
        label = f"int8, {VALUES} values, a bit's price {price:g}: {found.bits_per_weight:.2f} bits"
        made[label] = (path, "int8", 0)
    fp32_bytes = 0
    for label, (checkpoint, precision, epochs) in made.items():
        model, again = folder / "m.tflite", folder / "again.tflite"
        lutra.export(
            architecture,
            model,
            precision=precision,
            checkpoint=checkpoint,
            data=chosen.data,
            fine_tune_epochs=epochs,
        )
        packed = lutra.pack(model, folder / "m.lpk")
        lutra.unpack(packed.path, again)
        assert again.read_bytes() == model.read_bytes()
        fp32_bytes = fp32_bytes or packed.model_bytes
        percent = lutra.evaluate(model, chosen.data, split="validation").percent
        print(
            f"| {name} | {label} | {packed.model_bytes:,} | {packed.pack_bytes:,} |"
            f" {fp32_bytes / packed.pack_bytes:.2f} | {percent:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
