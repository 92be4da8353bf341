"""Networks to time where lutra does not reach: model files, and a list for what they take."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from lutra.emitters.emission import Emission
from lutra.emitters.export import write_model
from lutra.errors import UsageError
from lutra.files import write_atomically
from lutra.files.kinds import is_there
from lutra.interchange.networks_file import ARCHITECTURE, LATENCY
from lutra.spaces import SearchSpace, get_space, sample_networks

LIST_NAME = "networks.csv"
_SEED = 1


def write_networks(
    space: SearchSpace | str,
    folder: str | Path,
    *,
    resolutions: Sequence[int] = (224,),
    count: int = 100,
    format: str = "tflite",
    precision: str = "fp32",
    on_step: Callable[[int, int], None] = lambda done, expected: None,
) -> Path:
    """Write random networks of a space as model files into a folder, and a list of them.

    The list, ``networks.csv``, has a line for each: ``file``, ``architecture`` (OFA's dictionary as
    JSON) and ``latency_ms``, which is empty. Filled in by whatever times the files, it is what
    `table_from_networks` reads. They are ``count`` at most, spread evenly over the ``resolutions``,
    the same ones each time; their weights are seeded random numbers. Stopped, it goes on: files
    that are there are kept, and the list is written last. Returns its path.

    Raises `UsageError` for a list that is there already, for an unknown space, resolution, format
    or precision and for no networks, and `ResultError` where a file cannot be written.

    >>> write_networks("ofa-mbv3-w1.0", "farm", count=2).name
    'networks.csv'
    """
    space, folder = get_space(space), Path(folder)
    space.check_resolutions(resolutions)
    emission, path = Emission(format, precision), folder / LIST_NAME
    if count < 1:
        raise UsageError(f"{count} networks: at least 1")
    if is_there(path):
        raise UsageError(f"{path} is there already, perhaps with latencies: name another folder")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from error
    networks = sample_networks(space, resolutions, count, _SEED)
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["file", ARCHITECTURE, LATENCY])
    for number, network in enumerate(networks, 1):
        file = folder / f"{number:04}.{emission.format}"
        if not is_there(file):
            write_model(network, file, emission)
        writer.writerow([file.name, json.dumps(network.to_ofa()), ""])
        on_step(number, len(networks))
    write_atomically(path, lines.getvalue().encode())
    return path
