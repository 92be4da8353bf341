"""SIGKILL at random moments: nothing that was reported is lost, and what goes on ends the same.

Some kills of each job run with all tests; a thousand by ``pytest -m long``.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import random
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lutra.profiler.profile import profile
from lutra.search.find import find_networks
from lutra.search.result import SearchResult
from lutra.supernets.checkpoints.checkpoint import load_supernet, read_checkpoint
from lutra.tables import LatencyTable
from lutra.tables.connection import TableWarning
from lutra.tables.documents import CALIBRATION, read_document
from tests import kill_jobs
from tests.supernets.images import write_idx
from tests.supernets.training import tiny
from tests.tables.test_table import TARGET

FEW, THOUSAND = 4, 200  # of each of five jobs
LONGEST_SECONDS = 1.0
_PROCESSES = multiprocessing.get_context("forkserver")
# An optimizer loads the second, which takes seconds.
_PROCESSES.set_forkserver_preload(["tests.kill_jobs", "torch._dynamo"])
Outcome = tuple[dict[str, str], dict[str, float]]
"""What things came to, and their milliseconds, by name."""
_OF_SQLITE = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Killing:
    """A job, what it begins with, and what must hold when it was killed and when it has ended."""

    job: Callable[[Path], None]
    begin: Callable[[Path, Path], None]
    killed: Callable[[Path], None]
    ended: Callable[[Path], Outcome]


@contextlib.contextmanager
def opened(table: Path) -> Iterator[LatencyTable]:
    with warnings.catch_warnings():
        # A kill while the log is folded in can leave a whole table looking like a copy without it.
        warnings.simplefilter("ignore", TableWarning)
        with LatencyTable.open(table) as found:
            yield found


def visits_in(path: Path) -> int:
    if not path.exists():
        return 0
    with opened(path) as table:
        return sum(map(len, (table.all_visits("op") | table.all_visits("network")).values()))


def no_visit_lost(folder: Path) -> None:
    """Those of before and all that were reported are there, and at most the one in flight more."""
    known, reported = folder / "known", folder / "reported"
    before = int(known.read_text()) if known.exists() else 0
    committed = before + (reported.stat().st_size if reported.exists() else 0)
    now = visits_in(folder / "out" / "fake.lut")
    assert committed <= now <= committed + 1
    known.write_text(str(now))
    reported.unlink(missing_ok=True)
    only(folder, "fake.lut")


def only(folder: Path, *names: str) -> None:
    """No file but these, and what SQLite keeps beside a table that was not closed."""
    allowed = {name + end for name in names for end in _OF_SQLITE}
    assert {item.name for item in (folder / "out").iterdir()} <= allowed


def rows_of(folder: Path) -> Outcome:
    """Every row's latency and status; the table alone is left."""
    assert [item.name for item in (folder / "out").iterdir()] == ["fake.lut"]
    with LatencyTable.open(folder / "out" / "fake.lut") as table:
        rows = [*table.rows("op"), *table.rows("network")]
        assert read_document(table, CALIBRATION, kill_jobs.SPACE) is not None
    latencies_ms = {row.key: row.measurement.latency_ms for row in rows if row.measurement}
    return {row.key: row.status for row in rows}, latencies_ms


def begin_profile(folder: Path, material: Path) -> None:
    """With nothing."""


def begin_calibrate(folder: Path, material: Path) -> None:
    shutil.copy(material / "fake.lut", folder / "out")
    (folder / "known").write_text(str(visits_in(folder / "out" / "fake.lut")))


def begin_verify(folder: Path, material: Path) -> None:
    shutil.copy(material / "result.json", folder / "out")


def result_is_whole(folder: Path) -> None:
    SearchResult.read(folder / "out" / "result.json")
    assert {item.name for item in (folder / "out").iterdir()} == {"result.json"}


def verified(folder: Path) -> Outcome:
    result_is_whole(folder)
    best = SearchResult.read(folder / "out" / "result.json").best
    assert best.verified is not None
    return {best.architecture.key: "verified"}, {"measured_ms": best.verified.measured_ms}


def begin_migrate(folder: Path, material: Path) -> None:
    kill_jobs.make_old_tables(folder / "out")


def tables(folder: Path) -> list[Path]:
    only(folder, *(f"{number}.lut" for number in range(kill_jobs.MANY)))
    return [item for item in (folder / "out").iterdir() if item.suffix == ".lut"]


def each_is_whole(folder: Path) -> None:
    found = tables(folder)
    for path in random.sample(found, min(len(found), 5)):
        with opened(path) as table:
            assert table.target == TARGET


def all_are_whole(folder: Path) -> Outcome:
    found = tables(folder)
    for path in found:
        with LatencyTable.open(path) as table:
            assert table.target == TARGET
    assert len(found) == kill_jobs.MANY == len(list((folder / "out").iterdir()))
    return {}, {}


def begin_train(folder: Path, material: Path) -> None:
    write_idx(folder / "images", 80, tiny.CLASSES, tiny.SIZE)


def checkpoints_are_whole(folder: Path) -> None:
    """At most two files, and all that is written of a supernet can be read."""
    found = {item.name for item in (folder / "out").iterdir()}
    assert found <= {"state.pth", "supernet.pth"}
    if "supernet.pth" in found:
        load_supernet(folder / "out" / "supernet.pth", tiny.SPACE)


def same_weights(folder: Path) -> Outcome:
    """Weights bit for bit, and the losses on the way to them."""
    checkpoints_are_whole(folder)
    checkpoint = read_checkpoint(folder / "out" / "supernet.pth")
    weights = load_supernet(checkpoint, tiny.SPACE).state_dict()
    digests = {
        name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        for name, tensor in weights.items()
    }
    return digests | {"history": str(checkpoint.about["history"])}, {}


KILLINGS = {
    "train": Killing(kill_jobs.train, begin_train, checkpoints_are_whole, same_weights),
    "profile": Killing(kill_jobs.profile, begin_profile, no_visit_lost, rows_of),
    "calibrate": Killing(kill_jobs.calibrate, begin_calibrate, no_visit_lost, rows_of),
    "verify": Killing(kill_jobs.verify, begin_verify, result_is_whole, verified),
    "migrate": Killing(kill_jobs.migrate, begin_migrate, each_is_whole, all_are_whole),
    "create": Killing(kill_jobs.create, begin_profile, each_is_whole, all_are_whole),
}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profiled table and a result of its search."""
    folder = tmp_path_factory.mktemp("material")
    table = folder / "fake.lut"
    resolutions = [kill_jobs.RESOLUTION]
    profile("fake", kill_jobs.SPACE, table, resolutions=resolutions, networks=kill_jobs.NETWORKS)
    result = find_networks(table, max_latency_ms=20.0, algorithm="random")
    result.write(folder / "result.json")
    return folder


def fresh(folder: Path, killing: Killing, material: Path) -> Path:
    for name in ("out", "tmp"):
        (folder / name).mkdir(parents=True)
    killing.begin(folder, material)
    return folder


def run_job(killing: Killing, folder: Path, seconds: float | None = None) -> bool:
    """Run the job, killed after so many seconds; whether it ended by itself before."""
    process = _PROCESSES.Process(target=killing.job, args=(folder,))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    ended = process.exitcode == 0
    process.close()
    return ended


def kill_again_and_again(name: str, kills: int, folder: Path, material: Path) -> None:
    killing = KILLINGS[name]
    unbroken = fresh(folder / "unbroken", killing, material)
    run_job(killing, unbroken)  # the first also warms up
    started = time.monotonic()
    again = fresh(folder / "again", killing, material)
    assert run_job(killing, again)
    longest = min(time.monotonic() - started, LONGEST_SECONDS)
    expected = killing.ended(unbroken)
    moments, done, lives = random.Random(kills), 0, 0
    while done < kills:
        life = fresh(folder / f"life {lives}", killing, material)
        ended = False
        while not ended:
            seconds = moments.uniform(0.0, longest) if done < kills else None
            ended = run_job(killing, life, seconds)
            done += not ended
            killing.killed(life)
        states, numbers = killing.ended(life)
        assert states == expected[0]
        assert numbers == pytest.approx(expected[1], rel=0.005)
        assert list((life / "tmp").iterdir()) == []
        shutil.rmtree(life)
        lives += 1


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("calibrate", "verify") else ())
        for name in KILLINGS
    ],
)
def test_a_few_kills(name: str, tmp_path: Path, material: Path) -> None:
    kill_again_and_again(name, FEW, tmp_path, material)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", KILLINGS)
def test_a_thousand_kills(name: str, tmp_path: Path, material: Path) -> None:
    kill_again_and_again(name, THOUSAND, tmp_path, material)
