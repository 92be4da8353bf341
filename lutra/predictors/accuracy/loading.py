"""Where accuracy predictors come from: lutra itself, a file, another package.

Another package declares an entry point of the group ``lutra.accuracy``; its object is a callable
that makes the `AccuracyPredictor`. It is asked for by its name, and is the default of the space of
that name where lutra brings none (docs/add-an-accuracy-source.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from lutra.errors import AccuracyError
from lutra.files import read_bounded
from lutra.files.kinds import is_there
from lutra.plugins import load_plugin, plugin_names
from lutra.predictors.accuracy.additive import AdditivePredictor
from lutra.predictors.accuracy.base import AccuracyPredictor
from lutra.predictors.accuracy.ofa_mlp import OfaMlpPredictor
from lutra.predictors.accuracy.samples import START
from lutra.predictors.accuracy.sensitivities import SensitivityPredictor
from lutra.spaces import DEFAULT_SPACE, SearchSpace, get_space
from lutra.spaces.narrower import NarrowerForms

_GROUP = "lutra.accuracy"
MAX_FILE_BYTES = 64 << 20  # OFA's predictors have 1.5 MB
MAX_JSON_BYTES = 1 << 20  # ours have 3 KB, and JSON takes thirty times its size when it is read
_TOO_LARGE = (
    f"is larger than {MAX_FILE_BYTES >> 20} MiB: too large for an accuracy predictor; is it a"
    " supernet's checkpoint?"
)


def load_accuracy(
    source: str | Path | None = None,
    space: str | SearchSpace = DEFAULT_SPACE,
    resolutions: Sequence[int] | None = None,
) -> AccuracyPredictor:
    """What predicts the accuracy (top-1 in percent) of a space's architectures.

    ``source`` is one of OFA's PyTorch files, a file of ``lutra accuracy fit`` or ``lutra prune
    sense``, or the name of another package's predictor; by default the one that comes with lutra.
    ``resolutions`` names, in order, the resolutions that an OFA file encodes, for files of OFA's
    library form that were made with an unusual list. Raises `AccuracyError`; never runs code from
    a file.

    >>> load_accuracy(space="ofa-mbv3-w1.0").resolutions
    (224,)
    """
    space = get_space(space)
    if source is None:
        return _default(space)
    if str(source) in plugin_names(_GROUP) and not Path(source).exists():
        return _from_plugin(str(source))
    return _from_file(Path(source), space, resolutions)


def _default(space: SearchSpace) -> AccuracyPredictor:
    """What comes with lutra: a space gains one by a file of its name beside this module."""
    for suffix in (".json", ".pth"):
        file = resources.files(__package__) / f"{space.name}{suffix}"
        if file.is_file():
            return _from_bytes(file.read_bytes(), f"lutra's {file.name}", space, None)
    if space.name in plugin_names(_GROUP):
        return _from_plugin(space.name)
    if isinstance(space, NarrowerForms):
        raise AccuracyError(
            "how accurate narrower forms of a network are is not known before it is measured: pass"
            " --accuracy FILE with what `lutra prune sense` measured of it"
        )
    raise AccuracyError(
        f"no accuracy predictor comes with lutra for {space.name};"
        " pass --accuracy FILE with the one that OFA's authors publish for it"
    )


def _from_plugin(name: str) -> AccuracyPredictor:
    predictor = load_plugin(_GROUP, name)()
    if not isinstance(predictor, AccuracyPredictor):
        raise AccuracyError(f"'{name}' of another package makes no AccuracyPredictor")
    return predictor


def _from_file(
    path: Path, space: SearchSpace, resolutions: Sequence[int] | None
) -> AccuracyPredictor:
    if not (is_there(path) and path.is_file()):
        raise AccuracyError(f"{path} is not a file; pass the file of an accuracy predictor")
    data = read_bounded(path, MAX_FILE_BYTES, _TOO_LARGE, AccuracyError)
    return _from_bytes(data, str(path), space, resolutions)


def _from_bytes(
    data: bytes, source: str, space: SearchSpace, resolutions: Sequence[int] | None
) -> AccuracyPredictor:
    if data.startswith(START):
        return SensitivityPredictor.from_bytes(data, source, space)
    if data.lstrip()[:1] == b"{":
        if len(data) > MAX_JSON_BYTES:
            raise AccuracyError(f"{source} is too large for an additive accuracy model")
        return AdditivePredictor.from_bytes(data, source, space)
    return OfaMlpPredictor.from_bytes(data, source, space, resolutions)
