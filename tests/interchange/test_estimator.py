"""Predictions by an imported table are the sums that the authors' own code makes."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from lutra.interchange.import_table import import_table
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.search.find import find_networks
from tests.interchange.estimator import OfaEstimator
from tests.shared_data import shared_data


def assert_alike(table: Path, estimator: OfaEstimator, resolutions: list[int], count: int) -> None:
    predictor = EfficiencyPredictor(table)
    assert predictor.resolutions == tuple(resolutions)
    rows = predictor.space.sample(count, np.random.default_rng(1), resolutions)
    extremes = [
        find(resolutions)[1] for find in (predictor.latency.cheapest, predictor.latency.dearest)
    ]
    rows = np.concatenate([rows, extremes])
    theirs = [estimator.latency_ms(predictor.space.decode(row)) for row in rows]
    assert predictor.predict(rows) == pytest.approx(theirs, rel=1e-9)
    assert len({predictor.space.decode(row).r for row in rows}) == len(resolutions)
    one = predictor.predict_one(predictor.space.decode(rows[0]))
    assert one.latency_ms == pytest.approx(theirs[0])
    assert one.low_ms is one.high_ms is None
    parts = predictor.breakdown(predictor.space.decode(rows[0]))
    assert sum(part.predicted_ms for part in parts) == pytest.approx(theirs[0])


@pytest.mark.parametrize("space", ["ofa-mbv3-w1.0", "ofa-proxyless-w1.3"])
def test_made_up_tables(space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 216 and 224 the last stage is alike, and costs otherwise."""
    estimator = OfaEstimator(space, monkeypatch)
    files = estimator.made_up(tmp_path, [128, 216, 224])
    estimator.read(files)
    import_table(list(files.values()), space, tmp_path / "t.lut")
    assert_alike(tmp_path / "t.lut", estimator, [128, 216, 224], 40)


def test_the_authors_table_of_the_note10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shared_data("ofa_note10_tables")
    resolutions = [160, 176, 192, 208, 220, 224]
    files = {r: folder / f"{r}_lookup_table.yaml" for r in resolutions}
    estimator = OfaEstimator("ofa-mbv3-w1.2", monkeypatch)
    estimator.read(files)
    table = tmp_path / "note10.lut"
    summary = import_table(list(files.values()), "ofa-mbv3-w1.2", table, device_name="Note10")
    assert (summary.ops, sum(summary.left_out.values())) == (96 * len(files), 0)
    assert_alike(table, estimator, resolutions, 60)
    # What the authors' own code says of the smallest and the largest network.
    predictor = EfficiencyPredictor(table)
    assert predictor.latency.cheapest(resolutions)[0] == pytest.approx(9.890, abs=5e-4)
    assert predictor.latency.dearest([224])[0] == pytest.approx(92.4, abs=0.05)


def test_a_search_prices_what_it_finds_as_the_authors_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = OfaEstimator("ofa-mbv3-w1.0", monkeypatch)
    files = estimator.made_up(tmp_path, [224])
    estimator.read(files)
    import_table(list(files.values()), "ofa-mbv3-w1.0", tmp_path / "t.lut")
    predictor = EfficiencyPredictor(tmp_path / "t.lut")
    limit = 1.1 * predictor.latency.cheapest([224])[0]
    result = find_networks(
        tmp_path / "t.lut", max_latency_ms=limit, algorithm="random", hyperparameters={}
    )
    for candidate in result.candidates:
        assert candidate.predicted_ms <= limit
        assert candidate.predicted_ms == pytest.approx(
            estimator.latency_ms(candidate.architecture), rel=1e-9
        )
        assert candidate.predicted_low_ms is None


@pytest.mark.parametrize("width", ["w1.0", "w1.2"])
def test_one_file_of_all_resolutions(width: str, tmp_path: Path) -> None:
    """NSGANetV2's, whose estimator adds up stem, blocks, two 1x1 convolutions and classifier."""
    path = shared_data("ofa_i7_8700k_table") / "i7-8700K_lut.yaml"
    summary = import_table([path], f"ofa-mbv3-{width}", tmp_path / "t.lut")
    assert summary.resolutions == tuple(range(128, 225, 4))
    predictor = EfficiencyPredictor(tmp_path / "t.lut")
    space = predictor.space
    row = space.canonical((0 * space.choice_counts)[None, :])[0]  # r = 128, k 3, e 3, d 2
    means = {key: fields["mean"] for key, fields in yaml.safe_load(path.read_text()).items()}
    stem, *widths = {
        "w1.0": (16, 24, 40, 80, 112, 160, 960, 1280),
        "w1.2": (24, 32, 48, 96, 136, 192, 1152, 1536),
    }[width]
    *widths, last, features = widths
    keys = [
        f"first_conv-input:128x128x3-output:64x64x{stem}",
        f"MBConv-input:64x64x{stem}-output:64x64x{stem}-expand:1-kernel:3-stride:1-idskip:1-se:0",
        f"final_expand_layer-input:4x4x{widths[-1]}-output:4x4x{last}",
        f"feature_mix_layer-input:1x1x{last}-output:1x1x{features}",
        f"classifier-input:{features}-output:1000",
    ]
    size, channels = 64, stem
    for width_, stride, se in zip(widths, (2, 2, 2, 1, 2), (0, 1, 0, 1, 1), strict=True):
        for block_stride, skip in ((stride, 0), (1, 1)):
            after = size // block_stride
            keys.append(
                f"MBConv-input:{size}x{size}x{channels}-output:{after}x{after}x{width_}"
                f"-expand:3-kernel:3-stride:{block_stride}-idskip:{skip}-se:{se}"
            )
            size, channels = after, width_
    assert predictor.predict(row[None, :])[0] == pytest.approx(sum(means[key] for key in keys))
