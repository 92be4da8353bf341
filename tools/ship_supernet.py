"""Make the checkpoint that comes with lutra of one that `lutra supernet train` wrote.

    python tools/ship_supernet.py FOLDER/supernet.pth lutra/supernets/checkpoints/weights/SPACE.pth

Half-precision numbers, half the bytes: what they lose is far below what accuracy shows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from lutra.supernets.checkpoints.checkpoint import load_supernet, read_checkpoint, save_supernet


def main() -> None:
    """Convert the first file to the second."""
    source, target = map(Path, sys.argv[1:])
    checkpoint = read_checkpoint(source)
    supernet = load_supernet(checkpoint)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_supernet(supernet, target, checkpoint.about, dtype=torch.float16)


if __name__ == "__main__":
    main()
