"""Measuring again what is done: new visits take over when they are enough, old ones stay."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from lutra.devices.fake import FakeDevice, FakeScript
from lutra.errors import UsageError
from lutra.profiler.profile import plan, profile
from lutra.profiler.record import RunSummary, VisitRecord
from lutra.profiler.stopping import Again, StoppingRule
from lutra.profiler.watch import Progress, Watch
from lutra.tables import LatencyTable
from lutra.tables.measurement import REPLACED
from tests.conftest import SPACE

pytestmark = pytest.mark.usefixtures("hollow")

OPS, ROUNDS = 96, 6


def again(
    path: Path, which: Again | None, script: FakeScript | None = None, **arguments: object
) -> RunSummary:
    device = FakeDevice(script or FakeScript())
    return profile(device, SPACE, path, networks=0, again=which, **arguments)  # type: ignore[arg-type]


def visits(path: Path) -> int:
    with LatencyTable.open(path) as table:
        return sum(len(found) for found in table.all_visits("op").values())


def chosen_keys(path: Path, pattern: str) -> list[str]:
    with LatencyTable.open(path) as table:
        return [row.key for row in table.rows("op") if fnmatchcase(row.key, pattern)]


def test_everything_is_measured_again_and_nothing_is_lost(table_path: Path) -> None:
    assert visits(table_path) == OPS * ROUNDS
    assert plan("fake", SPACE, table_path, networks=0, again=Again()).missing == OPS
    summary = again(table_path, Again())
    assert (summary.stable, summary.visits) == (OPS, OPS * ROUNDS)
    assert not summary.flags
    assert visits(table_path) == 2 * OPS * ROUNDS
    assert plan("fake", SPACE, table_path, networks=0).missing == 0
    with LatencyTable.open(table_path) as table:
        for row in table.rows("op"):
            assert row.measurement is not None
            assert row.measurement.rounds == ROUNDS
            assert not row.measurement.flags
    assert again(table_path, None).visits == 0


def test_a_row_speaks_of_its_new_visits(table_path: Path) -> None:
    """Which are brought to the table's state by what both runs measured."""
    key = chosen_keys(table_path, "mbconv/*")[0]
    with LatencyTable.open(table_path, write=True) as table:
        before = table.op_latencies()
        table._connection.execute(  # it was spoilt when the table was made
            "UPDATE visits SET low_ms = 3 * low_ms WHERE subject ="
            " (SELECT id FROM subjects WHERE key = ?)",
            (key,),
        )
    summary = again(table_path, Again(key))
    assert summary.visits >= ROUNDS
    with LatencyTable.open(table_path) as table:
        after = table.op_latencies()
        assert after[key] == pytest.approx(before[key], rel=0.01)
        assert after == pytest.approx(before, rel=0.01)
        old, new = table.visits("op", key)[:ROUNDS], table.visits("op", key)[ROUNDS:]
    assert all(visit.flags == (REPLACED,) for visit in old)
    assert len(new) == ROUNDS
    assert not any(visit.flags for visit in new)


def test_a_pattern_and_an_age_say_what(table_path: Path) -> None:
    large = Again("mbconv/*/k=7/*")
    some = chosen_keys(table_path, large.pattern)
    assert 0 < len(some) < OPS
    assert plan("fake", SPACE, table_path, networks=0, again=large).missing == len(some)
    old = Again(older_than_seconds=3600.0)
    assert plan("fake", SPACE, table_path, networks=0, again=old).missing == 0
    with LatencyTable.open(table_path, write=True) as table:
        table._connection.execute("UPDATE visits SET at = '2020-01-01T00:00:00.000+00:00'")
    assert plan("fake", SPACE, table_path, networks=0, again=old).missing == OPS
    assert plan("fake", SPACE, table_path, networks=0, again=Again(older_than_seconds=1e300)).ops
    with pytest.raises(UsageError, match=r"'mbcnv/\*' matches no key; one is "):
        again(table_path, Again("mbcnv/*"))


def test_what_is_interrupted_goes_on_and_rows_keep_what_they_had(table_path: Path) -> None:
    with LatencyTable.open(table_path) as table:
        before = table.op_latencies()

    def stop(progress: Progress) -> None:
        if progress.done == 2 * OPS:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        again(table_path, Again(), watch=Watch(on_progress=stop))
    with LatencyTable.open(table_path) as table:
        assert {row.status for row in table.rows("op")} == {"partial"}
        assert table.op_latencies() == pytest.approx(before, rel=0.01)
    for which in (Again(), None):  # the same command, and the one without --again
        kept = visits(table_path)
        summary = again(table_path, which)
        assert summary.stable == OPS
        if which is not None:
            assert visits(table_path) == kept + (ROUNDS - 2) * OPS


def test_what_was_done_again_stays_done_without_again_alone(table_path: Path) -> None:
    """As the guide and the lines at the end of a command say."""
    key = chosen_keys(table_path, "mbconv/*")[0]
    again(table_path, Again(key))
    assert plan("fake", SPACE, table_path, networks=0).missing == 0
    assert plan("fake", SPACE, table_path, networks=0, again=Again(key)).missing == 1


def test_a_failure_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "fake.lut"
    assert again(path, None, FakeScript(failures={3: "load"})).failed == 1
    assert again(path, None).failed == 1
    assert again(path, Again(older_than_seconds=3600.0)).stable == OPS


def test_networks_are_measured_again_too(tmp_path: Path) -> None:
    path = tmp_path / "fake.lut"
    profile("fake", SPACE, path, networks=4)
    summary = profile("fake", SPACE, path, networks=4, again=Again())
    assert summary.visits == (OPS + 4) * ROUNDS
    assert summary.stable == OPS + 4


def test_visits_that_gave_way_once_do_not_come_back(tmp_path: Path) -> None:
    """Measured again a second time, a row rests on the second's visits until the third's do."""
    path = tmp_path / "fake.lut"
    quick = Again("pool/*")
    for factor in (2.0, 1.0):
        script = FakeScript(drift=lambda _, factor=factor: factor)  # type: ignore[misc]
        again = quick if path.exists() else None
        profile(FakeDevice(script), SPACE, path, networks=0, resolutions=[128], again=again)
    with LatencyTable.open(path, write=True) as table:
        pools = [row.key for row in table.rows("op") if row.key.startswith("pool/")]
        rule = StoppingRule()
        known = {key: rule.judge(table.visits("op", key)) for key in pools}
        table.replace_visits([("op", key) for key in pools])
        for key in pools:
            measurement = rule.judge(table.visits("op", key))
            assert measurement.latency_ms == known[key].latency_ms
            assert measurement.status == "partial"


def test_another_run_with_stricter_rules_leaves_what_is_done(tmp_path: Path) -> None:
    path = tmp_path / "fake.lut"
    for factor in (2.0, 1.0):
        script = FakeScript(drift=lambda _, factor=factor: factor)  # type: ignore[misc]
        again = Again("pool/*") if path.exists() else None
        profile(FakeDevice(script), SPACE, path, networks=0, resolutions=[128], again=again)
    with LatencyTable.open(path, write=True) as table:
        before = table.op_latencies()
        rules = {"op": StoppingRule(min_rounds=12, max_rounds=20)}
        VisitRecord(table, rules).bring_everything([])  # type: ignore[arg-type]
        assert table.op_latencies() == before
