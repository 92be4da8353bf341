"""Tables of which not every op was measured."""

from dataclasses import replace
from pathlib import Path

import pytest

from lutra.devices.base import DeviceInfo
from lutra.devices.fake import FakeDevice, FakeScript
from lutra.errors import TableError, UsageError
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.predictors.filling.fill import fill_in
from lutra.predictors.filling.prior import read_prior
from lutra.predictors.filling.sample import Sample
from lutra.profiler.networks.calibration import calibrate, validate
from lutra.profiler.profile import plan, profile
from lutra.spaces import get_space
from lutra.tables import LatencyTable
from lutra.tables.documents import CALIBRATION, read_document
from lutra.tables.measurement import Failure
from tests.conftest import SPACE

pytestmark = pytest.mark.usefixtures("hollow")

OPS = len(get_space(SPACE).ops_at([224]))


def sampled(path: Path, sample: Sample | None, networks: int = 20) -> LatencyTable:
    profile(FakeDevice(FakeScript()), SPACE, path, sample=sample, networks=networks)
    return LatencyTable.open(path)


@pytest.fixture(scope="module")
def a_quarter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sampled") / "table.lut"
    sampled(path, Sample(share=0.25)).close()
    return path


def test_the_rest_is_filled_in_and_marked(a_quarter: Path) -> None:
    with LatencyTable.open(a_quarter) as table:
        status = [row.status for row in table.rows("op")]
        assert len(table.op_latencies()) == OPS // 4
        assert status.count("filled") == len(table.filled()) == OPS - OPS // 4
        frame = table.to_frame("op")
        filled = frame[frame.status == "filled"]
        assert (filled.filled_from == OPS // 4).all()
        assert (filled.ci_low_ms <= filled.latency_ms).all()
        assert (filled.ci_high_ms > filled.latency_ms).all()
        assert frame[frame.status != "filled"].filled_from.isna().all()


def test_networks_are_predicted_within_what_is_stated(a_quarter: Path) -> None:
    validation = validate(a_quarter, networks=20)
    assert validation.mape_percent < 5.0
    predictor = EfficiencyPredictor(a_quarter)
    assert predictor.calibrated
    assert not predictor.stale


def test_networks_of_filled_ops_are_less_sure(a_quarter: Path) -> None:
    predictor = EfficiencyPredictor(a_quarter)
    space = predictor.space
    with LatencyTable.open(a_quarter) as table:
        known = table.op_latencies()
        widths = {key: each.high_ms - each.latency_ms for key, each in table.filled().items()}
    prices = predictor.latency.forms[0].prices * 0.0
    for index, op in enumerate(space.ops):
        if op.key in widths or op.key in known:
            prices[index] = widths.get(op.key, 0.0) ** 2
    lattice = space.lattice(224)
    surest, least_sure = (lattice.cheapest(sign * prices)[1] for sign in (1.0, -1.0))
    wide = predictor.widening(least_sure[None, :])
    assert wide > predictor.widening(surest[None, :])


def test_a_run_without_a_sample_measures_the_rest(a_quarter: Path, tmp_path: Path) -> None:
    path = tmp_path / "table.lut"
    path.write_bytes(a_quarter.read_bytes())
    left = plan(FakeDevice(FakeScript()), SPACE, path)
    assert left.missing == OPS - OPS // 4
    with sampled(path, None) as table:
        assert table.filled() == {}
        assert len(table.op_latencies()) == OPS
    assert not EfficiencyPredictor(path).stale


def test_loaded_models_are_visited_less_for_a_sample(tmp_path: Path) -> None:
    """In a third of the rounds; a run without a sample makes up for it."""
    path, few = tmp_path / "table.lut", Sample(share=0.05)
    device = FakeDevice(FakeScript(keeps_models=True))
    planned = plan(device, SPACE, path, sample=few)
    summary = profile(device, SPACE, path, sample=few)
    assert (planned.missing, planned.networks) == (5, 20)
    assert summary.complete
    assert summary.visits == (5 + 20) * 6
    again, rest = (plan(device, SPACE, path, sample=each) for each in (few, None))
    assert (again.missing, again.networks) == (0, 0)
    assert (rest.missing, rest.networks) == (OPS, 20)
    with LatencyTable.open(path) as table:
        some = [*table.op_latencies(), *list(table.filled())[:2]]
    assert profile(device, SPACE, path, ops=some, networks=20).complete
    with LatencyTable.open(path) as table:
        ops, networks = (table.all_visits(category) for category in ("op", "network"))
        assert {len(visits) for visits in (ops | networks).values()} == {18}
        assert (len(ops), len(networks)) == (7, 20)


def test_a_sample_that_was_stopped_goes_on_with_its_own(a_quarter: Path) -> None:
    again = plan(FakeDevice(FakeScript()), SPACE, a_quarter, sample=Sample(share=0.25))
    assert (again.ops, again.missing) == (OPS // 4, 0)


def test_calibrating_again_fills_in_again(a_quarter: Path, tmp_path: Path) -> None:
    path = tmp_path / "table.lut"
    path.write_bytes(a_quarter.read_bytes())
    calibrate(path, networks=24)
    with LatencyTable.open(path) as table:
        assert len(table.filled()) == OPS - OPS // 4


def test_whole_networks_alone_make_a_table(tmp_path: Path) -> None:
    path = tmp_path / "networks.lut"
    with sampled(path, Sample(share=0.0), networks=30) as table:
        assert table.op_latencies() == {}
        assert len(table.filled()) == OPS
    assert validate(path, networks=10).mape_percent < 5.0
    calibrate(path, networks=34)
    with LatencyTable.open(path) as table:
        assert (read_document(table, CALIBRATION, SPACE) or {})["networks"] == 34
        assert {each.rows for each in table.filled().values()} == {34}


def test_too_few_networks_make_none(tmp_path: Path) -> None:
    path = tmp_path / "networks.lut"
    with sampled(path, Sample(share=0.0), networks=10) as table:
        assert table.filled() == {}
    with pytest.raises(TableError, match="20 is the least"):
        calibrate(path, networks=12)


def test_an_op_that_failed_is_not_filled_in(a_quarter: Path, tmp_path: Path) -> None:
    path = tmp_path / "table.lut"
    path.write_bytes(a_quarter.read_bytes())
    with LatencyTable.open(path, write=True) as table:
        failing = next(iter(table.filled()))
        table.record_failure("op", failing, Failure("load", "it is not taken", False, 1))
        fill_in(table, get_space(SPACE), [224])
        assert failing not in table.filled()
        assert len(table.filled()) == OPS - OPS // 4 - 1


class FakeGpu(FakeDevice):
    """The scripted device as a table of a GPU has it."""

    def info(self) -> DeviceInfo:
        return replace(super().info(), kind="cuda")


def test_gpus_are_measured_whole(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="on GPUs every op is measured"):
        profile(FakeGpu(FakeScript()), SPACE, tmp_path / "gpu.lut", sample=Sample(share=0.5))


def test_another_table_as_a_prior(profiled_once: Path, tmp_path: Path) -> None:
    """Of the same device, so that fewer ops are enough; it is kept for later runs."""
    path, sample = tmp_path / "table.lut", Sample(share=0.1)
    device = FakeDevice(FakeScript())
    assert plan(device, SPACE, path, sample=sample, prior=profiled_once).missing == 10
    profile(device, SPACE, path, sample=sample, prior=profiled_once)
    with LatencyTable.open(path) as table:
        prior = read_prior(table, SPACE)
        assert len(table.filled()) == OPS - 10
    assert prior is not None
    assert prior.use is not None
    assert prior.use.taken
    assert validate(path, networks=20).mape_percent < 5.0
    for refused in (plan, profile):
        with pytest.raises(UsageError, match="it goes with --sample"):
            refused(device, SPACE, tmp_path / "none.lut", prior=profiled_once)
    assert not (tmp_path / "none.lut").exists()
