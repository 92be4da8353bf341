"""Reading one image file with Pillow: decoded, cropped and resized, or one line on why not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from lutra.errors import DataError
from lutra.text import printable_line, why

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"))
_CENTRE = 0.875  # of the shorter side
_LEAST_AREA = 0.08
_ASPECT = 4 / 3
_TRIES = 10
_SPARE = 2  # a JPEG is decoded at no less than this many times the size that is wanted
_GREY = frozenset(("1", "L", "LA", "I", "I;16", "I;16B", "F"))
_DEEP = frozenset(("I", "I;16", "I;16B"))

_Box = tuple[float, float, float, float]
_Pixels = npt.NDArray[np.uint8]


def is_grey(file: str) -> bool:
    """Whether an image has no colours, by its head; raises `DataError`."""
    with _opened(file) as image:
        return image.mode in _GREY


def read_centre(file: str, resolution: int, channels: int) -> _Pixels:
    """The middle of an image, (resolution, resolution) and for 3 channels (..., 3), of 0..255.

    Raises `DataError` for a file that is no image, is broken, or too large.
    """
    with _opened(file) as image:
        width, height = image.size
        side = _CENTRE * min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return _cut(image, (left, top, left + side, top + side), resolution, channels)


def read_random_crop(
    file: str, resolution: int, channels: int, rng: np.random.Generator, *, mirrors: bool
) -> _Pixels:
    """Like `read_centre`, of a part of the image that chance decides.

    Where that is wanted it is mirrored every other time.
    """
    with _opened(file) as image:
        pixels = _cut(image, _random_box(*image.size, rng), resolution, channels)
    return pixels[:, ::-1] if mirrors and rng.random() < 0.5 else pixels


def _random_box(width: int, height: int, rng: np.random.Generator) -> _Box:
    """A part of 8 to 100 % of the area; the largest one in the middle where none is found."""
    for _ in range(_TRIES):
        area = rng.uniform(_LEAST_AREA, 1.0) * width * height
        aspect = math.exp(rng.uniform(-math.log(_ASPECT), math.log(_ASPECT)))
        across, down = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if across <= width and down <= height:
            left, top = rng.uniform(0.0, width - across), rng.uniform(0.0, height - down)
            return left, top, left + across, top + down
    across, down = min(width, height * _ASPECT), min(height, width * _ASPECT)
    left, top = (width - across) / 2, (height - down) / 2
    return left, top, left + across, top + down


@contextmanager
def _opened(file: str) -> Iterator[Image.Image]:
    try:
        with Image.open(file) as image:
            _require_sane_size(image)
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{file} is too large an image: {printable_line(why(error))}") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{file} is a broken image, or none") from error
    except Exception as error:  # Pillow's readers raise anything on damaged files
        reason = getattr(error, "strerror", None) or printable_line(why(error))
        raise DataError(f"{file} is a broken image: {reason}") from error


def _require_sane_size(image: Image.Image) -> None:
    """Raise for more pixels than Pillow finds sane: itself it only warns, up to twice as many."""
    width, height = image.size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise Image.DecompressionBombError(f"{width}x{height} pixels, more than {limit}")


def _cut(image: Image.Image, box: _Box, resolution: int, channels: int) -> _Pixels:
    """A box of an image, resized; a JPEG is decoded only as large as that takes."""
    width, height = image.size
    wanted = _SPARE * resolution / min(box[2] - box[0], box[3] - box[1])
    image.draft(None, (math.ceil(width * wanted), math.ceil(height * wanted)))
    across, down = image.size[0] / width, image.size[1] / height
    scaled = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    plain = _in_mode(image, "L" if channels == 1 else "RGB")
    cut = plain.resize((resolution, resolution), Image.Resampling.BILINEAR, box=scaled)
    return np.asarray(cut)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode in _DEEP:  # of 16 bits, which Pillow would cut off at 255
        deep = np.asarray(image)
        image = Image.fromarray((deep // 256).astype(np.uint8))
    if image.mode == "P":
        image = image.convert("RGBA")  # has room for transparent colours
    return image.convert(mode)
