"""What a diff tells of two tables, and what it says that it cannot tell."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lutra
from lutra.cli.main import run
from lutra.emitters.emission import Emission
from lutra.inspection.changes import _discoveries, state_range, verdicts
from lutra.ops import Conv, Shape
from lutra.tables import LatencyTable

pytestmark = pytest.mark.usefixtures("hollow")

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def two(table_path: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two tables of one device and space, each its own file."""
    return table_path, Path(shutil.copy(table_path, tmp_path / "b.lut"))


def scaled(path: Path, factor: Callable[[str], float], at: str | None = None) -> None:
    """Make what a table holds of each op so many times as much; its visits are of a day, if any."""
    with LatencyTable.open(path, write=True) as table:
        connection = table._connection
        connection.create_function("factor", 1, factor)
        for name, columns in {
            "measurements": ("latency_ms", "ci_low_ms", "ci_high_ms", "median_ms", "minimum_ms"),
            "visits": ("low_ms", "median_ms", "minimum_ms"),
        }.items():
            values = ", ".join(
                f"{column} = {column} * factor((SELECT key FROM subjects WHERE id = subject))"
                for column in columns
            )
            connection.execute(f"UPDATE {name} SET {values}")
        if at is not None:
            connection.execute("UPDATE visits SET at = ?", (at,))


def run_of_another_day(path: Path, factor: float, at: str) -> None:
    """A later run that visited all again, so many times as slow."""
    with LatencyTable.open(path, write=True) as table:
        connection = table._connection
        names = [
            row[1] for row in connection.execute("PRAGMA table_info(visits)") if row[1] != "id"
        ]
        values = {name: name for name in names}
        values |= {"run": "2", "at": f"'{at}'", "low_ms": f"low_ms * {factor}"}
        connection.execute(
            f"INSERT INTO visits ({', '.join(names)}) SELECT {', '.join(values.values())}"
            f" FROM visits WHERE run = 1"
        )


def test_one_op_that_changed_is_found_and_explains_it(two: tuple[Path, Path]) -> None:
    a, b = two
    with LatencyTable.open(a) as table:
        slower = next(key for key in table.op_latencies() if key.startswith("linear/"))
    scaled(b, lambda key: 1.25 if key == slower else 1.0)
    found = lutra.diff_tables(a, b)
    verdict_of = {row.key: row.change.verdict for row in found.rows}
    assert verdict_of.pop(slower) == "slower"
    assert set(verdict_of.values()) == {"unchanged"}
    (explains,) = found.explaining(5)
    assert explains.key == slower
    assert explains.change.percent == pytest.approx(25.0)
    assert found.ops is not None
    assert found.ops.percent == pytest.approx(explains.share)
    assert sum(kind.share for kind in found.kinds) == pytest.approx(found.ops.percent)
    assert found.kinds[0].kind == "linear"
    frame = found.to_frame()
    assert frame.share.sum() == pytest.approx(found.ops.percent)


def test_the_overall_change_is_of_what_networks_take(two: tuple[Path, Path]) -> None:
    a, b = two
    scaled(b, lambda key: 1.1 if key.startswith("mbconv") else 1.0)
    found = lutra.diff_tables(a, b)
    rows = lutra.get_space("ofa-mbv3-w1.0").sample(500, np.random.default_rng(1), [224])
    before, after = (lutra.EfficiencyPredictor(path).predict(rows) for path in (a, b))
    assert found.overall.percent == pytest.approx(100 * (after.sum() / before.sum() - 1), abs=0.2)


def test_what_all_have_in_common_is_not_told_from_the_machine_s_state(
    two: tuple[Path, Path],
) -> None:
    a, b = two
    scaled(b, lambda key: 1.04)
    found = lutra.diff_tables(a, b)
    assert not found.separated
    assert found.overall.percent == pytest.approx(4.0)
    assert found.overall.verdict == "not separated"
    assert {row.change.verdict for row in found.rows} == {"unchanged"}
    assert found.common_percent == pytest.approx(4.0)


@pytest.mark.parametrize(("day", "separated"), [("2030-01-09", True), ("2030-01-02", False)])
def test_runs_of_other_days_tell_what_the_state_does(
    two: tuple[Path, Path], day: str, separated: bool
) -> None:
    a, b = two
    scaled(a, lambda key: 1.0, "2030-01-01T00:00:00.000+00:00")
    scaled(b, lambda key: 1.5, "2030-01-05T00:00:00.000+00:00")
    run_of_another_day(a, 1.01, f"{day}T00:00:00.000+00:00")
    found = lutra.diff_tables(a, b)
    assert found.separated == separated
    assert found.state.apart_hours == 96.0
    if separated:  # by one difference of 1 %: 12.7 times as much
        assert found.overall.low_percent < 50.0 / 1.1 < 50.0 * 1.1 < found.overall.high_percent
        assert found.overall.verdict == "slower"
        assert {row.change.verdict for row in found.rows} == {"slower"}
    else:
        assert found.overall.verdict == "not separated"


def test_of_many_that_did_not_change_hardly_any_is_called_changed() -> None:
    random = np.random.default_rng(0)
    called = 0
    for _ in range(20):
        errors = random.uniform(0.002, 0.02, 1257)
        logs = 0.03 + errors * random.standard_normal(1257)
        common = np.full(1257, np.median(logs))
        called += sum(
            word != "unchanged" for word in verdicts(logs, errors, state_range(common, None))
        )
    assert called <= 4  # of 25,140; at 95 % each it would be 1,257


def test_discoveries_are_those_of_scipy() -> None:
    from scipy.stats import false_discovery_control

    random = np.random.default_rng(1)
    for _ in range(20):
        chances = random.uniform(0.0, 1.0, 60) ** random.integers(1, 6)
        assert (_discoveries(chances) == (false_discovery_control(chances) <= 0.05)).all()


def test_few_rows_tell_no_state() -> None:
    logs, errors = np.array([0.1, 0.0]), np.array([0.01, 0.01])
    assert state_range(np.zeros(2), None) is None
    assert verdicts(logs, errors, None) == ["not separated", "unchanged"]
    assert verdicts(logs, errors, state_range(np.zeros(2), 0.02)) == ["slower", "unchanged"]
    assert verdicts(logs, errors, state_range(np.zeros(2), 0.2)) == ["unchanged", "unchanged"]


def test_targets_may_differ_only_on_purpose(two: tuple[Path, Path], capsys: Capture) -> None:
    a, b = two
    with LatencyTable.open(b, write=True) as table:
        table.put_meta("target", {**table.target.to_json(), "runtime_version": "9.9"})
    command = ["table", "diff", str(a), str(b)]
    assert run(command) == 1
    error = capsys.readouterr().err
    assert "runtime_version is '0' and '9.9'" in error
    assert "--differs runtime_version" in error
    assert len(error.splitlines()) == 1
    assert run([*command, "--differs", "runtime_verson"]) == 2
    assert "Did you mean 'runtime_version'" in capsys.readouterr().err
    assert run([*command, "--differs", "runtime_version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differing"] == {"runtime_version": ["0", "9.9"]}


def test_ci_fails_where_it_is_slower_by_more(two: tuple[Path, Path], capsys: Capture) -> None:
    a, b = two
    scaled(b, lambda key: 1.05)
    command = ["table", "diff", str(a), str(b), "--fail-above"]
    assert run([*command, "3%"]) == 3
    out, err = capsys.readouterr()
    assert "all ops of a network" in out
    assert "+5.00 % is above 3 %, by its middle, with the machine's state in it" in err
    assert "not separated" in err
    assert run([*command, "6"]) == 0
    assert "is not above 6 %" in capsys.readouterr().err
    assert run([*command, "much"]) == 2
    assert "write a percentage" in capsys.readouterr().err


def test_tables_that_share_nothing_are_not_compared(table_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "empty.lut"
    with LatencyTable.open(table_path) as table:
        LatencyTable.create(other, table.target).close()
    with pytest.raises(lutra.TableError, match="share no row"):
        lutra.diff_tables(table_path, other)


def test_one_model_is_compared_too(tmp_path: Path, capsys: Capture) -> None:
    model, paths = tmp_path / "conv.onnx", [tmp_path / "a.lut", tmp_path / "b.lut"]
    model.write_bytes(Emission("onnx").builder(lambda: Conv(Shape(8, 8, 4), 8).graph)())
    for path in paths:
        lutra.profile_models("fake", [model], path)
    scaled(paths[1], lambda key: 2.0)
    picture = tmp_path / "diff.svg"
    assert run(["table", "diff", *map(str, paths), "--plot", str(picture)]) == 0
    assert "slower by, %" in picture.read_text()
    out, err = capsys.readouterr()
    assert "conv.onnx" in out
    assert "not separated, +100.00 %" in err


def test_ops_of_no_whole_network_have_no_overall_change(
    two: tuple[Path, Path], capsys: Capture
) -> None:
    a, b = two
    with LatencyTable.open(b, write=True) as table:
        table._connection.execute(
            "DELETE FROM measurements WHERE subject IN"
            " (SELECT id FROM subjects WHERE key LIKE 'linear%')"
        )
    assert run(["table", "diff", str(a), str(b)]) == 0
    assert "95 ops: 95 unchanged" in capsys.readouterr().err
    assert run(["table", "diff", str(a), str(b), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["overall"] is None
    assert run(["table", "diff", str(a), str(b), "--fail-above", "3%"]) == 1
    assert "no overall change can be stated" in capsys.readouterr().err


def test_the_guide_s_commands_do_what_it_says(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    old, new = two
    monkeypatch.chdir(old.parent)
    old.rename("old.lut")
    new.rename("new.lut")
    with LatencyTable.open("new.lut", write=True) as table:
        table.put_meta("target", {**table.target.to_json(), "runtime_version": "9.9"})
    scaled(Path("new.lut"), lambda key: 1.05)
    guide = (Path(lutra.__file__).parents[1] / "docs" / "guide.md").read_text()
    commands = re.findall(r"^lutra (table diff [^#\n]*)", guide, re.M)
    assert [run(shlex.split(command)) for command in commands] == [0, 3]
    assert "not separated" in capsys.readouterr().out


def test_device_times_stand_beside_where_both_tell(two: tuple[Path, Path], capsys: Capture) -> None:
    """As tables of GPUs have them: the op is slower, its device is not."""
    a, b = two
    with LatencyTable.open(a) as table:
        slower, *others = [key for key in table.op_latencies() if key.startswith("mbconv/")]
    scaled(b, lambda key: 1.25 if key == slower else 1.0)
    assert run(["table", "diff", str(a), str(b)]) == 0
    assert "device_a_ms" not in capsys.readouterr().out
    for path, device_ms in ((a, 0.2), (b, 0.21)):
        with LatencyTable.open(path, write=True) as table:
            measured = {row.key: row.measurement for row in table.rows("op") if row.measurement}
            known = (slower, others[0]) if path == a else (slower, others[1])
            table.record_measurements(
                {("op", key): replace(measured[key], device_ms=device_ms) for key in known}
            )
    frame = lutra.diff_tables(a, b).to_frame().set_index("key")
    assert tuple(frame.loc[slower, ["a_device_ms", "b_device_ms"]]) == (0.2, 0.21)
    assert frame.drop(index=slower).a_device_ms.isna().all()
    assert run(["table", "diff", str(a), str(b), "--top", "1"]) == 0
    row = next(text for text in capsys.readouterr().out.splitlines() if slower in text)
    assert row.split()[-3:] == ["0.2", "0.21", "+5.00"]
