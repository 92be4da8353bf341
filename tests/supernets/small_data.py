"""A small set of images in idx files: ten kinds of stripes, with noise."""

import gzip
from pathlib import Path

import numpy as np

SIZE = 28


def write_small_data(folder: Path, train: int = 120, test: int = 20) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        labels = np.arange(count, dtype=np.uint8) % 10
        stripes = np.sin(np.arange(SIZE)[None, None, :] * (1 + labels[:, None, None]) * 0.2)
        noisy = 120 + 80 * stripes + rng.normal(0, 20, (count, SIZE, SIZE))
        images = noisy.clip(0, 255).astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            with gzip.open(folder / f"{part}-{name}-ubyte.gz", "wb", 1) as file:
                file.write(head + array.tobytes())
    return folder
