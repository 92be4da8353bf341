"""The profiling run on the scripted device, into a real table."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lutra.devices.base import Health, Outcome, RuntimeConfig, SystemShare, TimingRequest
from lutra.devices.fake import FakeDevice, FakeScript, FakeSession
from lutra.devices.worker.runtimes.torch_graph import load_module
from lutra.emitters.emission import Emission
from lutra.errors import LutraError, ModelError, TransientDeviceError
from lutra.ops import Conv, Shape
from lutra.profiler.bench import open_bench, open_or_create
from lutra.profiler.protocols import TimingProtocol
from lutra.profiler.record import RunSummary
from lutra.profiler.run import ProfilingRun
from lutra.profiler.stopping import StoppingRule
from lutra.profiler.watch import Progress, Watch
from lutra.profiler.workload import (
    ModelStore,
    Workload,
    op_workload,
    reference_network,
    reference_workloads,
)
from lutra.tables import LatencyTable, Target

PROTOCOL = TimingProtocol(rule=StoppingRule(min_rounds=6, max_rounds=12))


def workloads(count: int = 5) -> list[Workload]:
    convs = [Conv(Shape(8, 8, 8), 8 * number) for number in range(1, count + 1)]
    return [op_workload(conv, Emission()) for conv in convs]


@pytest.fixture
def measure(tmp_path: Path) -> Callable[..., tuple[RunSummary, LatencyTable]]:
    """Profile workloads with a script into the test's one table."""

    def run(
        script: FakeScript,
        chosen: list[Workload],
        protocol: TimingProtocol = PROTOCOL,
        **arguments: object,
    ) -> tuple[RunSummary, LatencyTable]:
        path = tmp_path / "fake.lut"
        with open_bench(FakeDevice(script), RuntimeConfig("onnxruntime")) as bench:
            with open_or_create(path, bench.target) as table:
                summary = bench.measure(table, chosen, protocol, **arguments)  # type: ignore[arg-type]
        return summary, LatencyTable.open(path)

    return run


Measure = Callable[..., tuple[RunSummary, LatencyTable]]


def test_a_steady_device_is_stable_after_the_least_rounds(measure: Measure) -> None:
    summary, table = measure(FakeScript(), workloads())
    assert summary.complete
    assert summary.visits == 5 * 6
    for row in table.rows("op"):
        assert row.measurement is not None
        assert row.status == "stable"
        assert row.measurement.rounds == 6
        assert row.measurement.processes >= 2
        assert row.measurement.ci_low_ms <= row.measurement.latency_ms
        assert row.measurement.latency_ms <= row.measurement.ci_high_ms


def test_values_are_the_scripted_ones(measure: Measure) -> None:
    _, table = measure(FakeScript(latency_ms=lambda path: 2.5, noise=0.0), workloads(2))
    for row in table.rows("op"):
        assert row.measurement is not None
        assert row.measurement.latency_ms == pytest.approx(2.5)


def test_a_spell_of_drift_is_flagged_measured_again_and_does_not_move_values(
    measure: Measure,
) -> None:
    script = FakeScript(
        latency_ms=lambda path: 1.0, noise=0.0, drift=lambda n: 1.3 if 12 <= n < 24 else 1.0
    )
    summary, table = measure(script, workloads())
    assert summary.flagged_visits > 0
    assert summary.visits > 5 * 6
    for row in table.rows("op"):
        assert row.measurement is not None
        assert row.measurement.latency_ms == pytest.approx(1.0)
        assert row.status == "stable"
    flagged = [
        visit
        for workload in workloads()
        for visit in table.visits("op", workload.key)
        if visit.low_ms > 1.1
    ]
    assert flagged
    assert all(visit.flags == ("drift",) for visit in flagged)


def test_a_device_that_never_settles_is_given_up_as_unstable(measure: Measure) -> None:
    random = np.random.default_rng(0)
    script = FakeScript(latency_ms=lambda path: float(random.uniform(1.0, 2.0)))
    summary, table = measure(script, workloads(3), replace(PROTOCOL, drift_limit=9.0))
    assert summary.unstable == 3
    assert summary.complete  # their values stand, with their wide intervals
    assert {row.status for row in table.rows("op")} == {"unstable"}
    assert all(len(table.visits("op", workload.key)) == 12 for workload in workloads(3))


def test_a_transient_failure_is_retried(measure: Measure) -> None:
    script = FakeScript(failures={3: "crash"})
    summary, table = measure(script, workloads())
    assert script.answered > 3
    assert summary.complete
    assert all(row.failure is None for row in table.rows("op"))


def test_a_permanent_failure_is_a_row_without_a_number(measure: Measure) -> None:
    summary, table = measure(FakeScript(failures={3: "load"}), workloads())
    assert summary.failed == 1
    (failed,) = [row for row in table.rows("op") if row.failure]
    assert failed.measurement is None
    assert failed.failure is not None
    assert failed.failure.kind == "load"
    assert len(table.op_latencies()) == 4


def test_a_workload_that_keeps_crashing_is_given_up(measure: Measure) -> None:
    bad = workloads()[0]
    assert callable(bad.model)
    bad_bytes = bad.model()

    class Session(FakeSession):
        def measure(self, requests: Iterable[TimingRequest]) -> Iterator[Outcome]:
            for request in requests:
                ordinal = self._script.answered
                if request.model.read_bytes() == bad_bytes:
                    self._script.failures = {ordinal: "crash"}
                yield from super().measure([request])

    class Device(FakeDevice):
        def open(self, config: RuntimeConfig) -> FakeSession:
            return Session(self.script, config)

    device = Device(FakeScript())
    target = Target(
        **device.info().fingerprint,
        runtime="onnxruntime",
        runtime_version="0",
        delegate="scripted",
        precision="fp32",
        threads=1,
        core_mask="1",
        batch=1,
    )
    assert target.device == "fake"
    with open_bench(device, RuntimeConfig("onnxruntime")) as bench:
        path = bench.store.path(bad).parent / "crash.lut"
        with LatencyTable.create(path, bench.target) as table:
            summary = bench.measure(table, workloads(), PROTOCOL)
            row = table.row("op", bad.key)
    assert summary.failed == 1
    assert summary.stable == 4
    assert row is not None
    assert row.failure is not None
    assert row.failure.attempts == 3
    assert row.failure.transient


def test_what_could_be_measured_before_and_fails_now_says_why(measure: Measure) -> None:
    measure(FakeScript(), workloads(2))
    notes: list[str] = []
    watch = Watch(on_note=notes.append)
    few = replace(PROTOCOL, rule=StoppingRule(min_rounds=9, max_rounds=12))
    broken = FakeScript(failures={3: "load"})
    summary, table = measure(broken, workloads(2), few, watch=watch)
    assert (summary.failed, summary.partial) == (0, 1)
    (row,) = [row for row in table.rows("op") if row.failure]
    assert row.status == "partial"
    assert row.measurement is not None
    assert row.failure is not None
    assert row.failure.kind == "load"
    assert notes == [
        f"{row.key} could be measured before and fails now (load: {row.failure.message});"
        " what was measured before stands"
    ]
    notes.clear()
    summary, table = measure(FakeScript(), workloads(2), few, watch=watch)  # it is tried again
    assert summary.complete
    assert not [row for row in table.rows("op") if row.failure]
    assert notes == []


def test_a_dead_device_stops_the_run_with_one_line(measure: Measure) -> None:
    script = FakeScript(failures={number: "link" for number in range(4, 60)})
    with pytest.raises(TransientDeviceError, match="resumes"):
        measure(script, workloads(12))


def test_a_second_run_measures_only_what_is_missing(measure: Measure) -> None:
    first, _ = measure(FakeScript(), workloads(3))
    second, table = measure(FakeScript(), workloads(5))
    assert first.visits == 18
    assert second.visits == 12 + 18  # those of before are visited along: they tell of the machine
    assert len(table.rows("op")) == 5
    third, _ = measure(FakeScript(), workloads(5))
    assert third.visits == 0
    assert third.complete


def test_a_permanent_failure_is_not_tried_again(measure: Measure) -> None:
    once, _ = measure(FakeScript(failures={3: "load"}), workloads(1))
    assert once.failed == 1
    again, _ = measure(FakeScript(), workloads(1))
    assert again.visits == 0
    assert again.failed == 1


def test_an_interrupted_round_goes_on_where_it_stopped(measure: Measure) -> None:
    def stop(progress: Progress) -> None:
        if progress.done == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(FakeScript(), workloads(), watch=Watch(on_progress=stop))
    summary, table = measure(FakeScript(), workloads())
    assert summary.complete
    assert summary.visits == 5 * 6 - 13
    assert all(len(table.visits("op", workload.key)) == 6 for workload in workloads())


def test_a_budget_ends_the_run_in_order(measure: Measure) -> None:
    summary, table = measure(FakeScript(), workloads(), watch=Watch(budget_seconds=0.0))
    assert summary.partial == 5
    assert not table.rows("op")


def test_the_order_is_the_seed_s(tmp_path: Path) -> None:
    def order(seed: int) -> list[str]:
        visited: list[str] = []
        device = FakeDevice(
            FakeScript(latency_ms=lambda path: visited.append(path.name) or 1.0)  # type: ignore[func-returns-value]
        )
        with (
            open_bench(device, RuntimeConfig("onnxruntime")) as bench,
            LatencyTable.create(tmp_path / f"{seed}-{len(visited)}.lut", bench.target) as table,
        ):
            bench.measure(table, workloads(), replace(PROTOCOL, seed=seed))
        (tmp_path / f"{seed}-0.lut").unlink()
        return visited

    assert order(1) == order(1)


def test_progress_counts_to_the_end(measure: Measure) -> None:
    seen: list[Progress] = []
    measure(FakeScript(), workloads(), watch=Watch(on_progress=seen.append))
    assert seen[-1].done == seen[-1].expected == 30
    assert [item.done for item in seen] == sorted(item.done for item in seen)


def test_a_run_leaves_its_provenance(measure: Measure) -> None:
    _, table = measure(FakeScript(), workloads(2), replace(PROTOCOL, seed=7))
    (run,) = table.runs()
    assert run["seed"] == 7
    assert run["visits"] == 12


def test_what_no_file_can_express_is_a_failure_row(measure: Measure) -> None:
    def impossible() -> bytes:
        raise ModelError("node a: 'warp' cannot be written as onnx")

    summary, table = measure(FakeScript(), [*workloads(2), Workload("op", "warp", impossible)])
    assert (summary.stable, summary.failed) == (2, 1)
    row = table.row("op", "warp")
    assert row is not None
    assert row.failure is not None
    assert "'warp' cannot be written" in row.failure.message
    assert row.failure.attempts == 3


def test_a_full_model_folder_is_one_line(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "missing")
    with pytest.raises(LutraError, match="TMPDIR"):
        store.path(workloads(1)[0])


def test_references_are_kept_in_the_table(measure: Measure) -> None:
    _, table = measure(FakeScript(), workloads())
    keys = {row.key for row in table.rows("reference")}
    references = [*reference_workloads(Emission()), reference_network(Emission())]
    assert keys == {reference.key for reference in references}


def test_run_is_usable_with_any_clock(tmp_path: Path) -> None:
    """A fake clock proves the budget's arithmetic without waiting."""
    now = iter(range(10_000))
    with open_bench(FakeDevice(FakeScript()), RuntimeConfig("onnxruntime")) as bench:
        with LatencyTable.create(tmp_path / "clock.lut", bench.target) as table:
            run = ProfilingRun(
                bench.session,
                table,
                bench.store,
                PROTOCOL,
                references=reference_workloads(Emission()),
                watch=Watch(budget_seconds=40.0),
                clock=lambda: float(next(now)),
            )
            summary = run.measure(workloads())
    assert 0 < summary.visits < 30
    assert summary.partial == 5


# devices that tell their clock

FULL_MHZ = 1980.0


def test_spell_at_a_low_clock_is_flagged_measured_again_and_does_not_move_values(
    measure: Measure,
) -> None:
    def clock(answered: int) -> float:
        return 1400.0 if 12 <= answered < 24 else FULL_MHZ

    script = FakeScript(
        latency_ms=lambda path: 1.0, noise=0.0, clock_mhz=clock, drift=lambda n: FULL_MHZ / clock(n)
    )
    summary, table = measure(script, workloads(), watch=Watch(sleep=lambda _: None))
    assert summary.flagged_visits > 0
    for row in table.rows("op"):
        assert row.measurement is not None
        assert row.measurement.latency_ms == pytest.approx(1.0)
        assert row.measurement.clock_mhz == FULL_MHZ
        assert row.status == "stable"


def test_run_that_goes_on_at_a_lower_clock_is_flagged_from_its_start(measure: Measure) -> None:
    measure(FakeScript(noise=0.0, clock_mhz=lambda _: FULL_MHZ), workloads(1))
    slow = FakeScript(noise=0.0, clock_mhz=lambda _: 1400.0)
    _, table = measure(slow, workloads(2), watch=Watch(sleep=lambda _: None))
    first, *_ = table.visits("op", workloads(2)[1].key)
    assert first.flags == ("clock",)


def test_card_that_boosts_only_while_it_is_cold_is_steady_afterwards(measure: Measure) -> None:
    script = FakeScript(noise=0.0, clock_mhz=lambda answered: FULL_MHZ if answered < 28 else 1905.0)
    slept: list[float] = []
    summary, _ = measure(script, workloads(20), watch=Watch(sleep=slept.append))
    assert summary.stable == 20
    assert summary.flagged_visits < 40
    assert len(slept) < 10


def test_card_that_others_use_all_the_time_flags_the_rows(measure: Measure) -> None:
    script = FakeScript(noise=0.0, clock_mhz=lambda _: FULL_MHZ, flags=lambda _: ("shared",))
    summary, table = measure(script, workloads(2))
    assert summary.partial == 2
    for row in table.rows("op"):
        assert row.measurement is not None
        assert row.measurement.flags == ("shared",)


def test_card_that_others_use_for_a_while_is_measured_again(measure: Measure) -> None:
    script = FakeScript(
        noise=0.0,
        clock_mhz=lambda _: FULL_MHZ,
        flags=lambda answered: ("shared",) if answered < 10 else (),
    )
    summary, table = measure(script, workloads(2))
    assert summary.complete
    flagged = [v for s in workloads(2) for v in table.visits("op", s.key) if v.flags == ("shared",)]
    assert flagged


def test_what_the_device_alone_needs_is_kept(measure: Measure) -> None:
    script = FakeScript(
        latency_ms=lambda path: 1.0, clock_mhz=lambda _: FULL_MHZ, device_ms=lambda path: 0.25
    )
    _, table = measure(script, workloads(2))
    assert table.device_latencies() == {workload.key: 0.25 for workload in workloads(2)}
    frame = table.to_frame("op")
    assert list(frame["bound"]) == ["launch", "launch"]
    assert list(frame["clock_mhz"]) == [FULL_MHZ] * 2


def test_references_of_a_large_device_are_of_the_tables_batch() -> None:
    def input_batch(script: FakeScript) -> int:
        with open_bench(FakeDevice(script), RuntimeConfig("torch", batch=8)) as bench:
            path = bench.store.path(bench.references()[0])
            return int(load_module(str(path)).input_shape[0])

    assert input_batch(FakeScript(clock_mhz=lambda _: FULL_MHZ)) == 8
    assert input_batch(FakeScript()) == 1


# a core that is shared

QUIET = SystemShare(0.001, 0.0, 1, 0, 0.02)
SHARED = SystemShare(0.5, 0.0, 20, 0, 0.98)


def disturbed(until: int) -> FakeScript:
    """Another process has half of the core for the first requests, which take twice as long."""
    return FakeScript(
        drift=lambda answered: 2.0 if answered < until else 1.0,
        system=lambda answered: SHARED if answered < until else QUIET,
    )


def test_visits_that_shared_their_core_are_repeated_and_not_averaged(
    measure: Measure,
) -> None:
    notes: list[str] = []
    pauses: list[float] = []
    watch = Watch(on_note=notes.append, sleep=pauses.append)
    summary, table = measure(disturbed(14), workloads(4), watch=watch)
    assert summary.complete
    assert 0 < summary.flags["shared"] <= 14
    assert summary.visits == 4 * 6 + summary.flags["shared"]
    for row in table.rows("op"):
        assert row.measurement is not None
        assert row.measurement.flags == ()
        steady = [visit for visit in table.visits("op", row.key) if not visit.flags]
        assert {visit.waited_share for visit in steady} == {QUIET.waited_share}
        expected = np.median([visit.low_ms for visit in steady])
        assert row.measurement.latency_ms == pytest.approx(expected, rel=0.01)
    (said,) = notes  # once, although it went on for a while
    assert "another process computes where the models run" in said


def test_a_core_that_is_always_shared_ends_the_run_and_the_next_one_repeats(
    measure: Measure,
) -> None:
    notes: list[str] = []
    forever = disturbed(10**9)
    summary, table = measure(forever, workloads(2), watch=Watch(on_note=notes.append))
    most = PROTOCOL.rule.max_rounds
    assert (summary.partial, summary.visits) == (2, 2 * most)
    assert summary.others_cores == pytest.approx(0.98)
    assert all(row.measurement and row.measurement.flags == ("shared",) for row in table.rows("op"))
    assert notes[-1].startswith("other processes kept 1.0 cores busy")
    summary, table = measure(disturbed(0), workloads(2))
    assert summary.complete
    assert all(row.measurement and row.measurement.flags == () for row in table.rows("op"))


def test_who_computes_already_is_said_before_anything_is_measured(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = Health(other_processes=("train.py (pid 7, 99 % of a core)",))
    monkeypatch.setattr(FakeDevice, "health", lambda device: busy)
    notes: list[tuple[str, int]] = []
    script = FakeScript()
    watch = Watch(on_note=lambda text: notes.append((text, script.answered)))
    measure(script, workloads(2), watch=watch)
    ((said, answered),) = notes
    assert said.startswith("train.py (pid 7, 99 % of a core) already")
    assert answered == 0
    measure(script, workloads(2), watch=watch)
    assert len(notes) == 1  # nothing is wanted: nothing to say


def test_a_shared_core_is_waited_for(measure: Measure) -> None:
    pauses: list[float] = []
    protocol = replace(PROTOCOL, cool_share=1e9)
    script = disturbed(4)  # the references, and the first op
    summary, _ = measure(script, workloads(2), protocol, watch=Watch(sleep=pauses.append))
    assert pauses == [protocol.cool_seconds]
    assert summary.cooled_seconds == protocol.cool_seconds
