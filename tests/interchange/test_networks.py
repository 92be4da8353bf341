"""Tables of whole networks that were timed elsewhere, by the commands."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import lutra
from lutra.cli.main import run
from lutra.emitters.model_file import read_model_files
from lutra.errors import NotATableError, TableError, TableWriteError, UsageError
from lutra.spaces import get_space, sample_networks
from tests.conftest import SPACE
from tests.predictors.filling.pace import latency_ms

space = get_space(SPACE)
HEADER = ["architecture", "latency_ms"]
Lines = list[list[str]]


def timed(count: int, resolutions: tuple[int, ...] = (160, 224)) -> Lines:
    alone = np.array([latency_ms(op) for op in space.ops])
    networks = sample_networks(space, resolutions, count, 5)
    rows = np.stack([space.encode(each) for each in networks])
    took = space.op_counts(rows) @ alone + 0.1
    return [
        [json.dumps(each.to_ofa()), f"{value:.4f}"]
        for each, value in zip(networks, took, strict=True)
    ]


def written(path: Path, lines: Lines, header: list[str] = HEADER) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    return path


def test_a_table_of_networks_predicts_and_searches(tmp_path: Path) -> None:
    file, table = written(tmp_path / "farm.csv", timed(60)), tmp_path / "farm.lut"
    summary = lutra.table_from_networks(file, SPACE, table, device_name="an NPU")
    assert (summary.networks, summary.resolutions) == (60, (160, 224))
    assert summary.cv_mape_percent < 3.0
    predictor = lutra.EfficiencyPredictor(table)
    assert predictor.calibrated
    assert (
        predictor.origin
        == "solved from 60 whole networks of farm.csv: no op was measured by itself"
    )
    fresh = timed(90)[60:]
    rows = np.stack([space.encode(space.parse(json.loads(network))) for network, _ in fresh])
    errors = predictor.predict(rows) / np.array([float(value) for _, value in fresh]) - 1.0
    assert np.abs(errors).mean() < 0.03
    middle = float(np.median(predictor.predict(rows)))
    found = lutra.find_networks(table, max_latency_ms=middle, resolutions=[224])
    assert found.best.predicted_ms <= middle
    assert found.best.predicted_high_ms is not None
    with lutra.LatencyTable.open(table) as opened:
        assert {row.status for row in opened.rows("network")} == {"imported"}
        assert {row.status for row in opened.rows("op")} == {"filled"}


def test_several_runs_of_a_network_are_its_median(tmp_path: Path) -> None:
    lines = timed(20)
    network, value = lines[0]
    runs = [[network, str(float(value) * factor)] for factor in (1.01, 1.2)]
    table = tmp_path / "farm.lut"
    lutra.table_from_networks(written(tmp_path / "farm.csv", lines + runs), SPACE, table)
    with lutra.LatencyTable.open(table) as opened:
        imported = opened.rows("network")[0].imported
    assert imported is not None
    assert imported.runs == 3
    assert imported.latency_ms == pytest.approx(1.01 * float(value))


WRONG: list[tuple[Lines, list[str], str]] = [
    ([], HEADER, "holds no networks"),
    (timed(3), HEADER, "3 networks cannot tell"),
    (timed(1), ["network", "latency_ms"], "no column 'architecture'"),
    (timed(1), ["latency_ms", "latency_ms"], "no column 'architecture'"),
    ([["{}", "1"]], HEADER, "line 2: "),
    ([["nonsense", "1"]], HEADER, "line 2: 'nonsense' is no JSON"),
    ([[timed(1)[0][0], ""]], HEADER, "line 2: its latency is missing"),
    ([[timed(1)[0][0], "fast"]], HEADER, "line 2: 'fast' is no latency in ms"),
    ([[timed(1)[0][0], "-1"]], HEADER, "line 2: -1 ms is no latency"),
    ([[timed(1)[0][0], "nan"]], HEADER, "line 2: nan ms is no latency"),
    ([*timed(1), [timed(1)[0][0], "9999"]], HEADER, "line 3: it takes 9999 ms there"),
    ([["1"]], HEADER, "line 2: 1 cells under 2 columns"),
    ([[n, str(float(v) / 1e6)] for n, v in timed(20)], HEADER, "its latencies are not ms"),
]


@pytest.mark.parametrize(("lines", "header", "words"), WRONG)
def test_what_is_no_list_is_refused(
    lines: Lines, header: list[str], words: str, tmp_path: Path
) -> None:
    file, table = written(tmp_path / "farm.csv", lines, header), tmp_path / "farm.lut"
    with pytest.raises((NotATableError, TableError), match=words) as caught:
        lutra.table_from_networks(file, SPACE, table)
    assert "\n" not in str(caught.value)
    assert not table.exists()


def test_a_table_that_is_there_is_kept(tmp_path: Path) -> None:
    table = tmp_path / "farm.lut"
    table.write_bytes(b"mine")
    with pytest.raises(TableWriteError, match="is there already"):
        lutra.table_from_networks(written(tmp_path / "farm.csv", timed(20)), SPACE, table)
    assert table.read_bytes() == b"mine"


def test_networks_are_written_to_be_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "farm"
    asked = ["networks", "--space", SPACE, "--count", "2", "--format", "onnx", "-o", str(folder)]
    assert run(asked) == 0
    listed = folder / "networks.csv"
    assert capsys.readouterr().out == f"{listed}\n"
    with listed.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["file"] for line in lines] == ["0001.onnx", "0002.onnx"]
    assert [line["latency_ms"] for line in lines] == ["", ""]
    models = read_model_files([folder / line["file"] for line in lines])
    assert {model.precision for model in models} == {"fp32"}
    assert run(asked) == 2
    assert "is there already, perhaps with latencies" in capsys.readouterr().err
    assert run(["table", "from-networks", str(listed), "--space", SPACE, "-o", "x.lut"]) == 1
    assert "line 2: its latency is missing" in capsys.readouterr().err


def test_no_networks_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        lutra.write_networks(SPACE, tmp_path, count=0)
