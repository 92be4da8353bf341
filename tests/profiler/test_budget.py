"""A budget is kept: by visits that would last longer, by batches, and by the progress told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lutra.devices.base import Outcome, RequestFailure, RuntimeConfig, TimingRequest
from lutra.devices.fake import FakeDevice, FakeScript, FakeSession
from lutra.emitters.emission import Emission
from lutra.errors import TransientDeviceError
from lutra.ops import Conv, Shape
from lutra.profiler.bench import open_bench
from lutra.profiler.protocols import TimingProtocol
from lutra.profiler.record import RunSummary
from lutra.profiler.run import ProfilingRun
from lutra.profiler.watch import Progress, Watch
from lutra.profiler.workload import Workload, op_workload, reference_workloads
from lutra.tables import LatencyTable

BUDGET_SECONDS = 30.0


@dataclass
class Slow:
    """A device on which each visit takes so many seconds, on a clock of its own."""

    visit_seconds: float
    batch: int = 1
    now: float = 0.0
    asked: list[int] = field(default_factory=list)
    told: list[Progress] = field(default_factory=list)

    def measure(self, path: Path, budget_seconds: float = BUDGET_SECONDS) -> RunSummary:
        slow = self

        class Session(FakeSession):
            batch = slow.batch

            def measure(self, requests: Iterable[TimingRequest]) -> Iterator[Outcome]:
                asked = list(requests)
                slow.asked.append(len(asked))
                for request in asked:
                    limit = request.limit_seconds
                    slow.now += min(limit, slow.visit_seconds)
                    if limit < slow.visit_seconds:
                        yield RequestFailure(request.id, "timeout", "too slow", transient=True)
                    else:
                        yield from super().measure([request])

        with open_bench(FakeDevice(FakeScript()), RuntimeConfig("onnxruntime")) as bench:
            session = Session(FakeScript(), RuntimeConfig("onnxruntime"))
            with LatencyTable.create(path, bench.target) as table:
                run = ProfilingRun(
                    session,
                    table,
                    bench.store,
                    TimingProtocol(),
                    references=reference_workloads(Emission()),
                    watch=Watch(budget_seconds=budget_seconds, on_progress=self.told.append),
                    clock=lambda: self.now,
                )
                return run.measure(workloads())


def workloads() -> list[Workload]:
    return [op_workload(Conv(Shape(8, 8, 8), 8 * n), Emission()) for n in range(1, 21)]


@pytest.mark.parametrize("visit_seconds", [0.5, 7.0, 29.0, 45.0])
def test_a_visit_that_is_under_way_is_ended(visit_seconds: float, tmp_path: Path) -> None:
    slow = Slow(visit_seconds)
    path = tmp_path / "slow.lut"
    summary = slow.measure(path)
    assert slow.now <= BUDGET_SECONDS + 1.0
    assert summary.failed == 0  # that the budget ended it is no failure of the model's
    with LatencyTable.open(path) as table:
        assert not [row for row in table.rows() if row.failure]


def test_a_model_that_takes_longer_than_its_limit_still_fails(tmp_path: Path) -> None:
    with pytest.raises(TransientDeviceError, match="failed, last with: too slow"):
        Slow(61.0).measure(tmp_path / "slow.lut", budget_seconds=1e9)


@pytest.mark.parametrize(("visit_seconds", "late_seconds"), [(0.2, 8.0), (2.0, 32.0)])
def test_batches_become_smaller_towards_the_end(
    visit_seconds: float, late_seconds: float, tmp_path: Path
) -> None:
    slow = Slow(visit_seconds, batch=16)
    slow.measure(tmp_path / "slow.lut")
    assert max(slow.asked) <= 16
    assert slow.now <= BUDGET_SECONDS + late_seconds


def test_progress_counts_to_the_end_of_the_budget(tmp_path: Path) -> None:
    slow = Slow(0.5)
    slow.measure(tmp_path / "slow.lut")
    last = slow.told[-1]
    assert last.done < 20 * 6
    assert last.expected == last.done
    middle = slow.told[len(slow.told) // 2]
    assert middle.done / middle.expected == pytest.approx(0.5, abs=0.1)
    assert middle.eta_seconds == pytest.approx(BUDGET_SECONDS / 2, rel=0.2)
