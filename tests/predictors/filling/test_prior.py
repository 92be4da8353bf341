"""Another table of the same ops as a prior."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lutra.errors import NotATableError, TableError, TargetMismatchError, UsageError
from lutra.ops import OpConfig
from lutra.predictors.filling.design import most_informative
from lutra.predictors.filling.fill import FilledOps, fill_in, filled_from_ops
from lutra.predictors.filling.prior import Prior, prior_of, read_prior, store_prior
from lutra.predictors.filling.sample import Sample, prior_for
from lutra.spaces import get_space
from lutra.tables import LatencyTable, Target
from lutra.tables.documents import PRIOR
from lutra.tables.measurement import Filled, Imported
from tests.conftest import SPACE
from tests.predictors.filling.pace import latency_ms
from tests.tables.test_table import TARGET, VISIT, record

space = get_space(SPACE)
RESOLUTIONS = (160, 224)
OPS = space.ops_at(RESOLUTIONS)
MEASURED = most_informative(space, RESOLUTIONS, len(OPS) // 10)
TRUTH = {op.key: latency_ms(op) for op in OPS}


def similar(op: OpConfig) -> float:
    """The same processor at half the pace, where a kernel costs something more."""
    return 1.9 * float(latency_ms(op) ** 1.02) + 0.001


def filled(prior: Prior | None) -> FilledOps:
    return filled_from_ops(OPS, {op.key: TRUTH[op.key] for op in MEASURED}, prior)


def median_error(filled: Mapping[str, Filled]) -> float:
    return float(np.median([abs(each.latency_ms / TRUTH[key] - 1) for key, each in filled.items()]))


def prior(latencies_ms: dict[str, float]) -> Prior:
    return Prior("other.lut", "a device", latencies_ms)


ALONE = filled(None)


def test_a_similar_device_halves_the_error_and_the_intervals() -> None:
    found, use = filled(prior({op.key: similar(op) for op in OPS}))
    assert use is not None
    assert use.taken
    assert use.with_percent < use.without_percent
    assert median_error(found) < 0.5 * median_error(ALONE.filled)
    within = [each.low_ms <= TRUTH[key] <= each.high_ms for key, each in found.items()]
    assert np.mean(within) > 0.93
    narrower = [each.high_ms - each.low_ms < _width(ALONE, key) for key, each in found.items()]
    assert np.mean(narrower) > 0.8


def _width(filled: FilledOps, key: str) -> float:
    return filled.filled[key].high_ms - filled.filled[key].low_ms


def test_a_prior_that_knows_nothing_does_no_harm() -> None:
    drawn = np.exp(np.random.default_rng(3).normal(size=len(OPS)))
    found, use = filled(prior(dict(zip(TRUTH, drawn.tolist(), strict=True))))
    assert use is not None
    assert not use.taken
    assert found == ALONE.filled


def test_what_the_prior_guessed_makes_wider_intervals() -> None:
    latencies = {op.key: similar(op) for op in OPS}
    guessed = {op.key: 0.02 for op in OPS if op not in MEASURED}
    sure = filled(prior(latencies))
    unsure = filled(Prior("other.lut", "a device", latencies, guessed))
    assert unsure.use is not None
    assert unsure.use.taken
    assert all(_width(unsure, key) > _width(sure, key) for key in guessed)
    assert all(each.deviation_ms > 0.02 * each.latency_ms for each in unsure.filled.values())


def made(path: Path, latencies_ms: Mapping[str, float]) -> Path:
    with LatencyTable.create(path, TARGET) as table:
        for key, each in latencies_ms.items():
            record(table, key, replace(VISIT, low_ms=each))
    return path


def test_a_table_keeps_its_prior_and_fills_in_by_it(tmp_path: Path) -> None:
    """Of a prior that was measured at the other resolution alone."""
    known = {op.key: similar(op) for op in space.ops_at([224])}
    other = prior_of(made(tmp_path / "other.lut", known), space, "fp32")
    assert (other.file, other.latencies_ms) == ("other.lut", known)
    path = made(tmp_path / "some.lut", {op.key: TRUTH[op.key] for op in MEASURED})
    with LatencyTable.open(path, write=True) as table:
        assert read_prior(table, SPACE) is None
        store_prior(table, SPACE, other)
        fill_in(table, space, RESOLUTIONS)
        found, kept = table.filled(), read_prior(table, SPACE)
    assert kept is not None
    assert kept.latencies_ms == known
    assert kept.use is not None
    assert kept.use.taken
    at_224 = {key: each for key, each in found.items() if key in known}
    assert median_error(at_224) < 0.5 * median_error(
        {key: each for key, each in ALONE.filled.items() if key in known}
    )
    assert len(found) == len(OPS) - len(MEASURED)


def test_imports_are_averaged_over_resolutions(tmp_path: Path) -> None:
    key = OPS[0].key
    with LatencyTable.create(tmp_path / "imported.lut", Target.of_import()) as table:
        rows = [(key, Imported(r, ms, "entry", "file", "digest")) for r, ms in ((160, 2), (224, 4))]
        table.record_imports(rows)
    assert prior_of(tmp_path / "imported.lut", space, "int8").latencies_ms == {key: 3.0}


def test_what_was_filled_in_there_counts_for_less(tmp_path: Path) -> None:
    first, second = OPS[0].key, OPS[1].key
    path = made(tmp_path / "other.lut", {first: 1.0})
    with LatencyTable.open(path, write=True) as table:
        table.fill({second: Filled(2.0, 1.0, 2.0 + 1.96, 9)})
    other = prior_of(path, space, "fp32")
    assert other.latencies_ms == {first: 1.0, second: 2.0}
    assert other.deviations == {second: pytest.approx(0.5)}


def test_tables_that_cannot_be_priors_are_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "other.lut", {"linear/1x1x8-1x1x10": 1.0})
    with pytest.raises(TableError, match=r"other\.lut knows no op of ofa-mbv3"):
        prior_of(path, space, "fp32")
    with pytest.raises(TargetMismatchError, match=r"is of fp32 and tells little of int8"):
        prior_of(path, space, "int8")
    for sample in (None, Sample(share=0.0)):
        with pytest.raises(UsageError, match="it goes with --sample"):
            prior_for(sample, path, tmp_path / "table.lut", space, "fp32")
    with pytest.raises(UsageError, match="is the table to be filled in"):
        prior_for(Sample(share=0.1), path, path, space, "fp32")


GOOD: dict[str, Any] = {
    "file": "other.lut",
    "target": "",
    "latencies_ms": {"op": 1.0},
    "deviations": {},
    "use": None,
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"latencies_ms": {"op": 0.0}},
        {"latencies_ms": {"op": "a while"}},
        {"latencies_ms": [1.0]},
        {"deviations": {"op": -1.0}},
        {"use": {"with_percent": 1.0}},
        {"use": 3},
    ],
)
def test_a_damaged_prior_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with LatencyTable.create(tmp_path / "table.lut", TARGET) as table:
        table.put_meta(PRIOR, {SPACE: GOOD})
        assert read_prior(table, SPACE) is not None
        table.put_meta(PRIOR, {SPACE: {**GOOD, **wrong}})
        with pytest.raises(NotATableError, match="its prior is not as lutra writes it"):
            read_prior(table, SPACE)
