"""Several tables of one target become one, in the state of the first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import lutra
from lutra.cli.main import run
from lutra.devices.fake import FakeDevice, FakeScript
from lutra.profiler.profile import profile
from lutra.tables import LatencyTable
from tests.conftest import SPACE

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="session")
def slower_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another resolution, measured while the machine was 10 % slower, and seen with other noise."""
    path = tmp_path_factory.mktemp("merge") / "slower.lut"
    script = FakeScript(drift=lambda _: 1.1, seed=7)
    assert profile(FakeDevice(script), SPACE, path, resolutions=[160], networks=0).complete
    return path


def test_another_day_is_brought_to_the_first(
    table_path: Path, slower_once: Path, tmp_path: Path, capsys: Capture
) -> None:
    both = tmp_path / "both.lut"
    before = [path.read_bytes() for path in (table_path, slower_once)]
    assert (
        run(["table", "merge", str(table_path), str(slower_once), "-o", str(both), "--json"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert [path.read_bytes() for path in (table_path, slower_once)] == before
    (state,) = told["runs"]
    assert state["slower_percent"] == pytest.approx(10.0, abs=0.5)
    with LatencyTable.open(both) as merged, LatencyTable.open(slower_once) as slower:
        ops = merged.op_latencies()
        assert len(ops) == told["ops"] == 190
        assert {row.status for row in merged.rows("op")} == {"stable"}
        of_first = {row.key for row in merged.rows("op")[:96]}
        for key, latency_ms in slower.op_latencies().items():
            if key in of_first:  # a row of both
                continue
            assert ops[key] == pytest.approx(latency_ms / 1.1, rel=0.01)
        assert len(merged.all_visits("op")) == 190
        assert merged.last_run() > 1
    assert lutra.EfficiencyPredictor(both).resolutions == (160, 224)
    assert lutra.find_networks(both, max_latency_ms=25, algorithm="random").best.predicted_ms <= 25


def test_the_same_visits_are_not_counted_twice(table_path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(table_path, tmp_path / "copy.lut"))
    with pytest.raises(lutra.TableError, match="would count them twice"):
        lutra.merge_tables([table_path, copy], tmp_path / "both.lut")
    assert not (tmp_path / "both.lut").exists()


def test_without_anything_in_common_there_is_no_one_state(
    table_path: Path, slower_once: Path, tmp_path: Path
) -> None:
    alone = Path(shutil.copy(slower_once, tmp_path / "alone.lut"))
    with LatencyTable.open(table_path) as first, LatencyTable.open(alone, write=True) as table:
        for row in first.rows():
            table._connection.execute(
                "UPDATE visits SET flags = 'shared' WHERE subject ="
                " (SELECT id FROM subjects WHERE category = ? AND key = ?)",
                (row.category, row.key),
            )
    with pytest.raises(lutra.TableError, match=r"share no op or reference.*lutra profile DEVICE"):
        lutra.merge_tables([table_path, alone], tmp_path / "both.lut")
    assert not (tmp_path / "both.lut").exists()


def test_other_targets_and_files_that_are_there_are_refused(
    table_path: Path, slower_once: Path, tmp_path: Path, capsys: Capture
) -> None:
    with pytest.raises(lutra.TableWriteError, match="is there already"):
        lutra.merge_tables([table_path, slower_once], table_path)
    with pytest.raises(lutra.UsageError, match="at least two"):
        lutra.merge_tables([table_path], tmp_path / "both.lut")
    with LatencyTable.open(table_path, write=True) as table:
        table.put_meta("target", {**table.target.to_json(), "threads": 2})
    command = ["table", "merge", str(table_path), str(slower_once)]
    assert run([*command, "-o", str(tmp_path / "both.lut")]) == 1
    assert "threads is '2' and '1'" in capsys.readouterr().err
    assert not (tmp_path / "both.lut").exists()
