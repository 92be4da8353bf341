"""Tables of a simulated GPU and its host: predictions and searches hold in the simulation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from lutra.cli.main import run
from lutra.errors import MissingOpError, NotATableError
from lutra.predictors.efficiency.composition import stages_of
from lutra.predictors.efficiency.fitting import Fit, Networks, fit
from lutra.predictors.efficiency.predictor import EfficiencyPredictor, Floats
from lutra.profiler.bench import Bench
from lutra.profiler.networks.calibration import calibrate_on, validate_on
from lutra.profiler.networks.validation import Validation
from lutra.search.find import find_networks, half_way_budget_ms
from lutra.spaces import get_space, parse_architecture
from lutra.tables import LatencyTable
from lutra.tables.documents import CALIBRATION, store_document
from lutra.tables.measurement import CALIBRATE, VALIDATE
from tests.search.gpu import Gpu, GpuBench, gpu_table
from tests.search.synthetic import MBV3, RESOLUTIONS, AdditiveAccuracy

space = get_space(MBV3)
BATCHES = {"launch-bound": 1, "nearly": 8, "mixed": 24, "device-bound": 128}


class Case:
    """A calibrated and validated table of one regime, with the simulation it is of."""

    def __init__(self, path: Path, batch: int, *, eager: bool = True) -> None:
        self.bench = GpuBench(Gpu(batch), space, np.random.default_rng(batch), eager)
        self.path = gpu_table(path, self.bench, RESOLUTIONS)
        with LatencyTable.open(path, write=True) as table:
            self.fit: Fit = calibrate_on(_as_bench(self.bench), table, networks=20)
            self.validation: Validation = validate_on(_as_bench(self.bench), table, networks=50)
            self.predictor = EfficiencyPredictor(table)
            self.networks = [
                parse_architecture(json.loads(row.key), space.name)
                for row in table.rows("network", VALIDATE)
            ]
        self.true_ms: Floats = np.array([self.bench.true_ms(item) for item in self.networks])
        self.rows = np.stack([space.encode(item) for item in self.networks])

    @property
    def plain_sum_ms(self) -> Floats:
        """The validating networks as the sum over the table."""
        return self.predictor.network_features(self.rows)[:, 0]


def _as_bench(bench: GpuBench) -> Bench:
    return bench  # type: ignore[return-value]


@pytest.fixture(scope="module")
def case_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """The case of each regime, made once."""
    folder = tmp_path_factory.mktemp("gpu")
    return cache(lambda name: Case(folder / f"{name}.lut", BATCHES[name]))


@pytest.fixture(scope="module", params=list(BATCHES))
def case(request: pytest.FixtureRequest, case_of: Callable[[str], Case]) -> Case:
    return case_of(request.param)


@pytest.fixture(scope="module")
def mixed(case_of: Callable[[str], Case]) -> Case:
    return case_of("mixed")


def error_percent(predicted: Floats, true: Floats) -> float:
    return 100.0 * float(np.abs(predicted / true - 1.0).mean())


def test_fresh_networks_are_predicted(case: Case) -> None:
    assert case.validation.mape_percent <= 2.0
    assert error_percent(case.predictor.predict(case.rows), case.true_ms) <= 2.0


def test_at_a_mixed_batch_the_plain_sum_misleads(mixed: Case) -> None:
    assert error_percent(mixed.plain_sum_ms, mixed.true_ms) > 20.0
    assert (mixed.plain_sum_ms > mixed.true_ms).all()
    assert mixed.fit.sum_mape_percent > 10 * mixed.validation.mape_percent
    assert mixed.fit.launch is not None
    assert mixed.fit.launch_terms
    bounds = {mixed.predictor.predict_one(item).bound for item in mixed.networks}
    assert bounds == {"device-bound", "launch-bound"}


def test_one_form_cannot_say_it(mixed: Case) -> None:
    """More networks, without noise, do not help a sum to be a maximum."""
    networks = Networks(
        mixed.true_ms,
        mixed.predictor.network_features(mixed.rows),
        stages=stages_of(mixed.predictor.space.ops),
    )
    assert fit(networks).cv_mape_percent > 2.0 * mixed.validation.mape_percent


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_what_a_search_finds_keeps_the_limit(case: Case, share: float) -> None:
    accuracy = AdditiveAccuracy(space, RESOLUTIONS)
    fastest = case.predictor.latency.cheapest(RESOLUTIONS)[0]
    slowest = case.predictor.latency.dearest(RESOLUTIONS)[0]
    limit = fastest + share * (slowest - fastest)
    accuracy.provenance, accuracy.quality = "made up", {}
    result = find_networks(
        case.path,
        accuracy=accuracy,
        max_latency_ms=limit,
        algorithm="evolution",
        hyperparameters={"generations": 60, "islands": 1},
    )
    assert result.limits == {"latency_ms": limit}
    assert case.predictor.stated is not None
    stated = case.predictor.stated.percent
    assert stated < 4.0
    for candidate in result.candidates:
        assert candidate.predicted_ms <= limit
        true_ms = case.bench.true_ms(candidate.architecture)
        assert true_ms <= limit * (1.0 + stated / 100.0)
    best_ms = case.bench.true_ms(result.best.architecture)
    assert best_ms >= 0.9 * limit  # and uses it, which a search by the plain sum does not


@pytest.mark.parametrize("batch", [8, 48])
def test_calibrating_networks_are_of_both_bounds(tmp_path: Path, batch: int) -> None:
    """Random ones are of one, and a search would find those of the other."""
    bench = GpuBench(Gpu(batch), space, np.random.default_rng(0))
    path = gpu_table(tmp_path / "t.lut", bench, RESOLUTIONS)
    with LatencyTable.open(path, write=True) as table:
        calibrate_on(_as_bench(bench), table, networks=20)
        keys = [row.key for row in table.rows("network", CALIBRATE)]
        validate_on(_as_bench(bench), table, networks=20)
        fresh = [row.key for row in table.rows("network", VALIDATE)]
    assert len(keys) == len(fresh) == 20
    assert not set(keys) & set(fresh)
    assert 0.1 <= _launch_bound_share(bench, keys) <= 0.9
    assert not 0.1 <= _launch_bound_share(bench, fresh) <= 0.9


def _launch_bound_share(bench: GpuBench, keys: list[str]) -> float:
    """How many of the networks are held up by their host."""
    networks = [space.ops_of(parse_architecture(json.loads(key))) for key in keys]
    return float(
        np.mean(
            [bench.gpu.network_ms(ops) > 1.1 * bench.gpu.network_device_ms(ops) for ops in networks]
        )
    )


def test_half_way_is_possible(case: Case) -> None:
    accuracy = AdditiveAccuracy(space, RESOLUTIONS)
    latency = case.predictor.latency
    half_way = half_way_budget_ms(case.predictor, accuracy)
    assert latency.bound(RESOLUTIONS) < half_way < latency.dearest(RESOLUTIONS)[0]


def test_a_breakdown_is_of_the_form_that_rules(case: Case) -> None:
    for architecture in case.networks[:20]:
        prediction = case.predictor.predict_one(architecture)
        total = sum(part.predicted_ms for part in case.predictor.breakdown(architecture))
        total += case.predictor.constant_ms(architecture)
        assert total == pytest.approx(prediction.latency_ms)
        assert (prediction.bound is None) == (case.fit.launch is None)


def test_replayed_tables_have_one_form(tmp_path: Path) -> None:
    case = Case(tmp_path / "graph.lut", BATCHES["mixed"], eager=False)
    assert case.fit.launch is None
    assert case.validation.mape_percent <= 2.0
    assert case.predictor.predict_one(case.networks[0]).bound is None


def test_the_fit_is_stored_with_its_forms(mixed: Case) -> None:
    with LatencyTable.open(mixed.path) as table:
        document = table.meta(CALIBRATION)[space.name]
    assert document["terms"] == list(mixed.fit.terms)
    assert document["launch_terms"] == list(mixed.fit.launch_terms)
    assert mixed.predictor.launch == mixed.fit.launch
    assert mixed.predictor.composition == mixed.fit.composition


def test_predict_says_which_form_rules(
    mixed: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launched = mixed.predictor.latency.ruling(mixed.rows)
    for index in (int(launched.argmin()), int(launched.argmax())):
        file = tmp_path / "arch.json"
        file.write_text(json.dumps(mixed.networks[index].to_json()))
        capsys.readouterr()
        assert run(["predict", str(mixed.path), "--arch", str(file), "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["bound"] == ("launch-bound" if launched[index] else "device-bound")
        total = sum(op["predicted_ms"] for op in document["ops"]) + document["constant_ms"]
        assert total == pytest.approx(document["predicted_ms"])
        assert run(["predict", str(mixed.path), "--arch", str(file)]) == 0
        assert f"{document['bound']}: " in capsys.readouterr().err


def test_a_unit_without_a_device_time_is_missing(tmp_path: Path) -> None:
    """Of a table that grew in another way than it was calibrated."""
    case = Case(tmp_path / "t.lut", BATCHES["mixed"])
    with LatencyTable.open(case.path, write=True) as table:
        replayed = GpuBench(case.bench.gpu, space, np.random.default_rng(0), eager=False)
        replayed.profile(table, (128,))
        predictor = EfficiencyPredictor(table)
        architecture = replace(case.networks[0], r=128)
        with pytest.raises(MissingOpError, match=r"holds none of \d+ needed op"):
            predictor.predict_one(architecture)
        assert predictor.predict_one(case.networks[0]).latency_ms > 0
        fitted = calibrate_on(_as_bench(case.bench), table, networks=20)
        assert fitted.launch is None


@pytest.mark.parametrize(
    "damage",
    [
        {"launch": []},
        {"launch": {}},
        {"launch": "x"},
        {"composition": None},
        {"launch": {"scale": 1}},
    ],
)
def test_damaged_calibrations_are_refused_and_can_be_made_anew(
    mixed: Case, tmp_path: Path, damage: dict[str, object]
) -> None:
    path = tmp_path / "t.lut"
    path.write_bytes(mixed.path.read_bytes())
    with LatencyTable.open(path, write=True) as table:
        document = table.meta(CALIBRATION)[space.name]
        store_document(table, CALIBRATION, space.name, {**document, **damage})
        with pytest.raises(NotATableError, match="lutra calibrate"):
            EfficiencyPredictor(table)
        calibrate_on(_as_bench(mixed.bench), table, networks=20)
        assert EfficiencyPredictor(table).launch is not None


def test_a_launch_form_needs_device_times(mixed: Case, tmp_path: Path) -> None:
    bench = GpuBench(Gpu(24), space, np.random.default_rng(0), eager=False)
    with LatencyTable.open(gpu_table(tmp_path / "t.lut", bench, [224]), write=True) as table:
        document: dict[str, object] = mixed.fit.to_json()
        store_document(table, CALIBRATION, space.name, document)
        with pytest.raises(NotATableError, match="calibrated for device times"):
            EfficiencyPredictor(table)
