"""Folders of image files, one class a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_images(
    folder: Path, classes: tuple[str, ...], count: int, *, grey: bool = False, size: int = 40
) -> Path:
    """So many images per class in ``folder/CLASS``: bright at a place that tells the class."""
    rng = np.random.default_rng(len(folder.name))
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 60, (size, size + 8, 3), dtype=np.uint8)
            pixels[:, 8 * label : 8 * label + 8] += 180
            image = Image.fromarray(pixels)
            if grey:
                image.convert("L").save(folder / name / f"{number}.png")
            else:
                image.save(folder / name / f"{number}.jpg", quality=95)
    return folder
