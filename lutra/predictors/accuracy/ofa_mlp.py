"""The accuracy predictors of Once-for-All's authors, and ours in their form, from a named file.

Both are small multilayer perceptrons over one-hot features, in two layouts (Cai et al., ICLR
2020; layouts as in the authors' reference code, mit-han-lab/once-for-all):

- tutorial: [kernels | expansions | 8 resolutions], keys ``0.weight`` ... ``6.bias``;
- library: [resolutions | kernels | expansions], or for ResNet50D [resolutions | stem | widths |
  expansions], keys ``layers.0.0.weight`` ... ``layers.3.weight`` and ``base_acc``.

Ours (`mlp_fitting`) are of the library form and say beside it what they are for:
``{"lutra_ofa_mlp": 1, "space": NAME, "resolutions": [...], "provenance": ..., "quality": {...},
"state_dict": ...}``. Blocks beyond the depth have all their features 0. The files are hostile
input: `torch_file` reads them without executing anything, and every size is bounded before it is
used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.errors import AccuracyError
from lutra.files.torch_file import Tensor, parameters_in, read_torch_file
from lutra.predictors.accuracy.base import Accuracies, AccuracyPredictor
from lutra.predictors.accuracy.perceptron import Layer, Perceptron, Weights
from lutra.spaces import Rows, SearchSpace

MAGIC = "lutra_ofa_mlp"
VERSION = 1

# SHA-256 of published files whose space is known; the files themselves do not name it.
PUBLISHED = {
    "48685122a3540636b06699af66cd816456b25f29b69563e2fda9bed4018eeba0": "ofa-mbv3-w1.2",
}
MAX_HIDDEN = 4096
_CHUNK = 512  # what the hidden layers make of so many stays in a core's cache

_TUTORIAL_RESOLUTIONS = tuple(range(112, 225, 16))
# A library file says how many resolutions it encodes, not which. These lists are the encoders'
# default, the list of the authors' training and of their accuracy datasets, and every one of the
# space; the one of the published ResNet50D predictor leaves out 208. 7 and 8 are assumed to be
# the tutorial's steps.
_MBCONV_RESOLUTIONS = {
    1: (224,),
    4: (128, 160, 192, 224),
    7: tuple(range(128, 225, 16)),
    8: _TUTORIAL_RESOLUTIONS,
    25: tuple(range(128, 225, 4)),
}
_RESNET_RESOLUTIONS = {
    1: (224,),
    4: (128, 160, 192, 224),
    8: (128, 144, 160, 176, 192, 224, 240, 256),
}


_TUTORIAL_STEMS = ("0", "2", "4", "6")
_TUTORIAL_KEYS = {f"{stem}.{part}" for stem in _TUTORIAL_STEMS for part in ("weight", "bias")}
_LIBRARY_STEMS = ("layers.0.0", "layers.1.0", "layers.2.0", "layers.3")
_LIBRARY_KEYS = {f"{stem}.{part}" for stem in _LIBRARY_STEMS for part in ("weight", "bias")}
_LIBRARY_KEYS = (_LIBRARY_KEYS - {"layers.3.bias"}) | {"base_acc"}


@dataclass(frozen=True)
class Encoding:
    """Where the choices of a space's genes sit in the feature vector.

    The feature of choice c of gene ``columns[i]`` is ``offsets[i]`` + c; that of the j-th of
    ``resolutions`` is ``resolution_offset`` + j.
    """

    space: SearchSpace
    columns: tuple[int, ...]
    offsets: tuple[int, ...]
    resolutions: tuple[int, ...]
    resolution_offset: int

    @classmethod
    def of(cls, space: SearchSpace, parts: Sequence[str], resolutions: tuple[int, ...]) -> Encoding:
        """Lay ``parts`` out one after another: ``r``, ``stem`` or one of OFA's lists."""
        columns: list[int] = []
        offsets: list[int] = []
        offset = resolution_offset = 0
        for part in parts:
            if part == "r":
                resolution_offset = offset
                offset += len(resolutions)
                continue
            for column in space.columns("d")[:1] if part == "stem" else space.columns(part):
                columns.append(column)
                offsets.append(offset)
                offset += len(space.genes[column].choices)
        return cls(space, tuple(columns), tuple(offsets), resolutions, resolution_offset)

    @classmethod
    def library(cls, space: SearchSpace, resolutions: tuple[int, ...]) -> Encoding:
        """The layout of the library form for a space."""
        parts = ("r", "stem", "w", "e") if space.columns("w") else ("r", "ks", "e")
        return cls.of(space, parts, resolutions)

    @property
    def features(self) -> int:
        """The length of the feature vector."""
        choices = self.space.choice_counts[list(self.columns)]
        return int(choices.sum()) + len(self.resolutions)

    def encode(self, rows: Rows) -> Weights:
        """(N, genes) canonical rows of known resolutions -> (N, features) of 0 and 1."""
        used = np.where(self._active(rows), rows, -1)
        columns, choices = self._questions
        features: Weights = (used.take(columns, axis=1) == choices).astype(np.float32)
        return features

    @cached_property
    def _questions(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int16]]:
        """For each feature the gene that it asks about, and the choice; -1 is never chosen."""
        columns = np.full(self.features, len(self.space.genes) - 1)
        choices = np.full(self.features, -1, dtype=np.int16)
        for column, offset in zip(self.columns, self.offsets, strict=True):
            count = len(self.space.genes[column].choices)
            columns[offset : offset + count] = column
            choices[offset : offset + count] = np.arange(count)
        for slot, resolution in enumerate(self.resolutions):
            if resolution in self.space.resolutions:
                choice = self.space.resolutions.index(resolution)
                choices[self.resolution_offset + slot] = choice
        return columns, choices

    def _active(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """(N, genes): whether a gene is in use; those of blocks beyond the depth are not.

        A block's gene is in use exactly when making it canonical does not reset it.
        """
        blocks = self.space.columns("ks") + self.space.columns("e")
        probe = rows.copy()
        probe[:, blocks] = 1
        active = np.ones(rows.shape, dtype=bool)
        active[:, blocks] = self.space.canonical(probe)[:, blocks] == 1
        return active


class OfaMlpPredictor(AccuracyPredictor):
    """A predictor in one of OFA's two layouts; speaks of the resolutions that it encodes."""

    def __init__(
        self, encoding: Encoding, layers: Sequence[Layer], offset: float, provenance: str
    ) -> None:
        """``offset`` is added to what the layers (out, in) give: top-1 as a fraction."""
        self.name = "OFA's accuracy predictor"
        self.space = encoding.space.name
        self.resolutions = tuple(r for r in encoding.resolutions if r in encoding.space.resolutions)
        self.provenance = provenance
        self.quality: dict[str, float] = {}
        self.encoding = encoding
        self.layers = tuple(layers)
        self.offset = offset
        self._perceptron = Perceptron(self.layers)

    def predict(self, rows: Rows) -> Accuracies:
        """(N, genes) architectures -> (N,) top-1 in percent; about 4 us each on one core.

        Besides what the contract says, raises `AccuracyError` for results outside 0 to 100.
        """
        rows = self.canonical(rows)
        result = np.empty(len(rows))
        for start in range(0, len(rows), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            output = self._perceptron(self.encoding.encode(rows[chunk]))[:, 0]
            result[chunk] = 100.0 * (output.astype(np.float64) + self.offset)
        if not np.all((result >= 0) & (result <= 100)):
            raise AccuracyError(
                f"{self.provenance}: predicts accuracies outside 0 to 100 %;"
                " it was not trained on top-1 fractions of this space"
            )
        return result

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        source: str,
        space: SearchSpace,
        resolutions: Sequence[int] | None = None,
    ) -> OfaMlpPredictor:
        """Read a PyTorch file; ``source`` names it in messages. Raises `AccuracyError`."""
        digest = hashlib.sha256(data).hexdigest()
        known = PUBLISHED.get(digest)
        if known not in (None, space.name):
            raise AccuracyError(f"{source} is OFA's predictor for {known}, not for {space.name}")
        document = read_torch_file(data, source, "an accuracy predictor", AccuracyError)
        about = _about(document, source, space) if MAGIC in document else None
        if about is not None and resolutions is None:
            resolutions = about.resolutions
        state = parameters_in(document)
        library = set(state) == _LIBRARY_KEYS
        layers = _layers(state, source)
        encoding = _encoding(space, layers[0].weight.shape[1], library, source, resolutions)
        if about is not None:
            base = _base_accuracy(state, source)
            predictor = cls(encoding, layers, base, about.provenance)
            predictor.name = f"the accuracy MLP of {space.name}"
            predictor.quality = about.quality
            return predictor
        training = _training(encoding, known, assumed=library and resolutions is None)
        provenance = f"{source} (OFA's {'library' if library else 'tutorial'} form), {training}"
        return cls(encoding, layers, _base_accuracy(state, source), provenance)


class _About(NamedTuple):
    """What a file of ours says of itself."""

    resolutions: tuple[int, ...]
    provenance: str
    quality: dict[str, float]


def _about(document: Mapping[str, object], source: str, space: SearchSpace) -> _About:
    if document[MAGIC] != VERSION:
        raise AccuracyError(f"{source} was written by another version of lutra; fit it again")
    named, resolutions = document.get("space"), document.get("resolutions")
    provenance, quality = document.get("provenance"), document.get("quality")
    if named != space.name:
        told = named[:60] if isinstance(named, str) else "no space"
        raise AccuracyError(f"{source} predicts accuracy of {told}, not of {space.name}")
    if not isinstance(resolutions, list) or not all(r in space.resolutions for r in resolutions):
        raise AccuracyError(f"{source}: its resolutions are not ones of {space.name}")
    if not isinstance(provenance, str) or not isinstance(quality, dict):
        raise AccuracyError(f"{source}: it does not say where it comes from; fit it again")
    numbers = {name: value for name, value in quality.items() if type(value) is float}
    if len(numbers) < len(quality) or not np.isfinite([*numbers.values()]).all():
        raise AccuracyError(f"{source}: its quality must be numbers")
    return _About(tuple(resolutions), provenance, {str(name): numbers[name] for name in numbers})


def _training(encoding: Encoding, known: str | None, *, assumed: bool) -> str:
    """What can be said of a file's training; the files themselves say nothing.

    The bias: it predicts 82.2, 83.0 and 83.4 % at resolution 224 for the authors' specialised
    networks that they publish with 78.7, 79.8 and 80.1 % after fine-tuning.
    """
    if known:
        return (
            f"which OFA's authors publish for {known}: good for ranking, its values are about 3"
            " points above top-1 on ImageNet's validation set"
        )
    told = f"which does not name its training and is taken to be for {encoding.space.name}"
    if not assumed:
        return told
    return f"{told} at resolutions {', '.join(map(str, encoding.resolutions))}"


def _encoding(
    space: SearchSpace,
    features: int,
    library: bool,
    source: str,
    resolutions: Sequence[int] | None,
) -> Encoding:
    """The encoding of a file that takes so many features; raises where it cannot be the space's."""
    if not library:
        if resolutions is not None:
            raise AccuracyError(f"{source} is of OFA's tutorial form: its resolutions are fixed")
        encoding = Encoding.of(space, ("ks", "e", "r"), _TUTORIAL_RESOLUTIONS)
    else:
        if resolutions is None:
            count = features - Encoding.library(space, ()).features
            resolutions = _usual_resolutions(space, count, features, source)
        elif len(set(resolutions)) != len(resolutions):
            raise AccuracyError("a predictor's resolutions must differ from one another")
        encoding = Encoding.library(space, tuple(resolutions))
    if features != encoding.features:
        raise AccuracyError(
            f"{source} takes {features} features where {space.name} has {encoding.features};"
            " it is a predictor of another search space"
        )
    if not set(encoding.resolutions) & set(space.resolutions):
        raise AccuracyError(f"{source} encodes no resolution of {space.name}")
    return encoding


def _usual_resolutions(
    space: SearchSpace, count: int, features: int, source: str
) -> tuple[int, ...]:
    """The resolutions that a library file with ``count`` of them most likely encodes."""
    usual = _RESNET_RESOLUTIONS if space.columns("w") else _MBCONV_RESOLUTIONS
    if count in usual:
        return usual[count]
    if count <= 0:
        return ()
    raise AccuracyError(
        f"{source} takes {features} features: it is of another space than {space.name}, or it"
        f" encodes {count} resolutions; then name them: load_accuracy(..., resolutions=[...])"
    )


def _layers(state: Mapping[str, object], source: str) -> list[Layer]:
    """The four layers; raises unless the keys are of one of the forms and the shapes chain."""
    if set(state) == _LIBRARY_KEYS:
        stems = _LIBRARY_STEMS
    elif set(state) == _TUTORIAL_KEYS:
        stems = _TUTORIAL_STEMS
    else:
        raise AccuracyError(
            f"{source} is not one of OFA's accuracy predictors: it holds other parameters"
            " (expected 0.weight to 6.bias, or layers.0.0.weight to layers.3.weight and base_acc)"
        )
    layers = [_layer(state, stem, source) for stem in stems]
    for before, layer in pairwise(layers):
        if layer.weight.shape[1] != len(before.weight):
            raise AccuracyError(f"{source}: the shapes of its layers do not fit together")
    if len(layers[-1].weight) != 1:
        raise AccuracyError(f"{source}: it gives {len(layers[-1].weight)} outputs instead of 1")
    return layers


def _layer(state: Mapping[str, object], stem: str, source: str) -> Layer:
    weight = _array(state, f"{stem}.weight", 2, source)
    if f"{stem}.bias" not in state:
        return Layer(weight, np.zeros(len(weight), dtype=np.float32))
    bias = _array(state, f"{stem}.bias", 1, source)
    if len(bias) != len(weight):
        raise AccuracyError(f"{source}: {stem}.bias does not fit {stem}.weight")
    return Layer(weight, bias)


def _base_accuracy(state: Mapping[str, object], source: str) -> float:
    if "base_acc" not in state:
        return 0.0
    base = _array(state, "base_acc", 1, source)
    if len(base) != 1:
        raise AccuracyError(f"{source}: base_acc must be one number")
    return float(base[0])


def _array(state: Mapping[str, object], name: str, dimensions: int, source: str) -> Weights:
    """One parameter as a finite float32 array; a single number has one dimension."""
    tensor = state[name]
    if not isinstance(tensor, Tensor) or not tensor.is_float:
        raise AccuracyError(f"{source}: {name} is not an array of numbers")
    shape = tensor.shape or (1,)
    # Sizes before values: a stored shape can be far larger than what backs it.
    if len(shape) != dimensions or not all(0 < size <= MAX_HIDDEN for size in shape):
        raise AccuracyError(f"{source}: {name} has the shape {shape!s:.60}")
    try:
        array = tensor.array().reshape(shape)
    except ValueError as error:
        raise AccuracyError(f"{source}: {name} is damaged: {error}") from error
    if not np.all(np.isfinite(array)):
        raise AccuracyError(f"{source}: {name} holds values that are not finite; download it again")
    return array
