"""What `tests/test_kills.py` kills: each job runs in a process of its own, forked from a warm one.

A job reports how many visits it has committed by one byte each to a file, which a kill spares.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from pathlib import Path

import lutra
import lutra.emitters.onnx
import lutra.profiler.profile
import lutra.search.measuring.verification
from lutra.cli.main import run
from lutra.profiler.bench import open_or_create
from lutra.profiler.watch import Progress, Watch
from lutra.supernets.training.train import train_supernet
from lutra.tables import LatencyTable
from tests.supernets.training import tiny
from tests.tables.test_table import TARGET, old_table

SPACE = "ofa-mbv3-w1.0"
RESOLUTION = 224
NETWORKS = 4
MANY = 20

lutra.get_space(SPACE).ops_at([RESOLUTION])


def begin(folder: Path) -> None:
    """The temporary folder of the test's own."""
    tempfile.tempdir = str(folder / "tmp")


def reporting(folder: Path) -> Watch:
    """A watch that reports each visit as soon as it is committed."""
    descriptor = os.open(folder / "reported", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    reported = 0

    def report(progress: Progress) -> None:
        nonlocal reported
        os.write(descriptor, b"." * (progress.done - reported))
        reported = progress.done

    return Watch(on_progress=report)


def profile(folder: Path) -> None:
    """Ops and networks into a table, made if need be."""
    begin(folder)
    lutra.profile(
        "fake",
        SPACE,
        folder / "out" / "fake.lut",
        resolutions=[RESOLUTION],
        networks=NETWORKS,
        watch=reporting(folder),
    )


def calibrate(folder: Path) -> None:
    """Twice as many networks into a table that is profiled."""
    begin(folder)
    table = folder / "out" / "fake.lut"
    lutra.calibrate(table, networks=2 * NETWORKS, watch=reporting(folder))


def verify(folder: Path) -> None:
    """The command, which rewrites the result."""
    begin(folder)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert run(["verify", str(folder / "out" / "result.json"), "--device", "fake"]) == 0


def migrate(folder: Path) -> None:
    """Many tables of an older schema, each opened by a reader or a writer."""
    begin(folder)
    for number in range(MANY):
        LatencyTable.open(folder / "out" / f"{number}.lut", write=number % 2 == 0).close()


def create(folder: Path) -> None:
    """Many new tables."""
    begin(folder)
    for number in range(MANY):
        open_or_create(folder / "out" / f"{number}.lut", TARGET).close()


def train(folder: Path) -> None:
    """A supernet on the images in the folder, with a checkpoint after each step."""
    begin(folder)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "torch")  # torch leaves it there
    train_supernet(
        tiny.SPACE,
        folder / "images",
        folder / "out",
        threads=1,
        save_seconds=0.0,
        **tiny.OPTIONS,
    )


def make_old_tables(folder: Path) -> None:
    """What `migrate` opens."""
    old_table(folder / "0.lut")
    for number in range(1, MANY):
        shutil.copy(folder / "0.lut", folder / f"{number}.lut")
