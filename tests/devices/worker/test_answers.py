"""What a worker answers is looked at: a real child process that says what it is told to."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.devices.base import Outcome, RequestFailure, RuntimeConfig, Sample, TimingRequest
from lutra.devices.sessions.local_process import LocalProcess
from lutra.devices.sessions.worker_answers import outcome_of
from lutra.devices.sessions.worker_client import WorkerClient, WorkerDied
from lutra.devices.sessions.worker_session import WorkerSession
from lutra.emitters.emission import Emission
from lutra.errors import PermanentDeviceError
from lutra.profiler.protocols import TimingProtocol
from lutra.profiler.run import ProfilingRun
from lutra.profiler.statistics import visit_from_sample
from lutra.profiler.workload import ModelStore, Workload, reference_workloads
from lutra.tables import LatencyTable
from tests.tables.test_table import TARGET

OPENED = {"ok": True, "pid": 1, "version": "1.0", "delegate": "CPU"}
TIMED = {
    "ok": True,
    "block_ms": [1.0, 1.5],
    "runs_per_block": 3,
    "load_seconds": 0.1,
    "busy_seconds": 0.2,
    "timed_seconds": 0.1,
    "nodes": [5, 4],
    "system": {
        "waited_share": 0.0,
        "stolen_share": 0.0,
        "preemptions": 0,
        "page_faults": 3,
        "others_cores": -0.1,
    },
}

_WORKER = """
import json, sys
opened, odd, usual = json.loads(sys.argv[1])
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "open":
        print(opened, flush=True)
    else:
        print(odd if request["model"].endswith("odd.onnx") else usual, flush=True)
"""


def session(odd: str, opened: str = json.dumps(OPENED)) -> WorkerSession:
    """A session whose worker answers ``odd`` for models of that name."""

    def start() -> WorkerClient:
        answers = json.dumps([opened, odd, json.dumps(TIMED)])
        command = [sys.executable, "-c", _WORKER, answers]
        return WorkerClient(LocalProcess(command, dict(os.environ)))

    return WorkerSession(start, RuntimeConfig("onnxruntime"), (0,))


def timed(**changes: Any) -> str:
    return json.dumps({**TIMED, **changes})


NO_ANSWERS = [
    "{}",
    "[]",
    "null",
    "[" * 100_000,
    '{"ok":' * 900 + "1" + "}" * 900,
    '{"ok": true}',
    '{"ok": false}',
    '{"ok": false, "kind": "run"}',
    '{"ok": false, "kind": "odd", "message": ""}',
    '{"ok": false, "kind": ["run"], "message": ""}',
    timed(ok=1),
    timed(block_ms=None),
    timed(block_ms="1.0"),
    timed(block_ms=["1.0"]),
    timed(block_ms=[True]),
    timed(block_ms=[[1.0]]),
    timed(runs_per_block=1.5),
    timed(nodes=[1]),
    timed(nodes=[1, 2, 3]),
    timed(nodes={"a": 1}),
    timed(flags="shared"),
    timed(flags=["a,b"]),
    timed(system=[]),
    timed(system={}),
    timed(device_ms="1"),
    timed(memory=[]),
    timed(memory={}),
    timed(memory={"peak_bytes": 1.5, "running_bytes": 1}),
]
IMPOSSIBLE = [
    timed(block_ms=[]),
    timed(block_ms=[0]),
    timed(block_ms=[1.0, 0.0]),
    timed(block_ms=[-1.0]),
    timed(block_ms=[float("nan")]),
    timed(block_ms=[float("inf")]),
    timed(block_ms=[10**400]),
    timed(runs_per_block=0),
    timed(memory={"peak_bytes": -4096, "running_bytes": 0}),
    timed(runs_per_block=2**70),
    timed(timed_seconds=float("nan")),
    timed(nodes=[-1, 0]),
    timed(nodes=[2**70, 0]),
    timed(device_ms=0),
    timed(clock_mhz=0.0),
    timed(clock_mhz=float("inf")),
    timed(system={**TIMED["system"], "preemptions": 2**70}),  # type: ignore[dict-item]
    timed(system={**TIMED["system"], "waited_share": float("nan")}),  # type: ignore[dict-item]
]


@pytest.mark.parametrize(
    ("answer", "kind", "transient"),
    [(answer, "crash", True) for answer in NO_ANSWERS]
    + [(answer, "run", False) for answer in IMPOSSIBLE],
    ids=lambda value: str(value)[:60],
)
def test_what_is_no_measurement_is_a_failure_of_that_model(
    answer: str, kind: str, transient: bool
) -> None:
    with session(answer) as opened:
        names = ["a.onnx", "odd.onnx", "b.onnx"]
        requests = [TimingRequest(place, Path(name)) for place, name in enumerate(names)]
        first, odd, last = opened.measure(requests)
    assert isinstance(first, Sample)
    assert isinstance(odd, RequestFailure)
    assert (odd.id, odd.kind, odd.transient) == (1, kind, transient)
    assert odd.message.isprintable()
    assert isinstance(last, Sample)
    assert last.block_ms == (1.0, 1.5)


def test_a_failure_is_told_in_one_printable_line() -> None:
    message = "\x1b[2Jgone\n" + "x" * 10_000
    answer = json.dumps({"ok": False, "kind": "load", "message": message})
    with session(answer) as opened:
        (odd,) = opened.measure([TimingRequest(0, Path("odd.onnx"))])
    assert isinstance(odd, RequestFailure)
    assert odd.message.startswith("?[2Jgone x")
    assert len(odd.message) <= 500


@pytest.mark.parametrize(
    "opened",
    ["{}", '{"ok": true}', '{"ok": false, "message": 5}', '{"ok": true, "version": [], "pid": 1}'],
)
def test_a_worker_that_does_not_open_is_one_line(opened: str) -> None:
    with session("", opened) as begun, pytest.raises(PermanentDeviceError) as raised:
        begun.describe()
    assert str(raised.value).isprintable()


def test_a_run_goes_on_behind_it(tmp_path: Path) -> None:
    models = []
    for name in ("a", "odd", "b"):
        path = tmp_path / f"{name}.onnx"
        path.touch()
        models.append(Workload("network", name, path))
    with (
        session(timed(block_ms=[float("nan")])) as opened,
        LatencyTable.create(tmp_path / "x.lut", TARGET) as table,
    ):
        store, references = ModelStore(tmp_path), reference_workloads(Emission())
        protocol = TimingProtocol().suited_to(opened)
        run = ProfilingRun(opened, table, store, protocol, references=references)
        summary = run.measure(models)
        rows = {row.key: row for row in table.rows("network")}
    assert (summary.stable, summary.failed) == (2, 1)
    assert rows["odd"].measurement is None
    assert rows["odd"].failure is not None
    assert "nan" in rows["odd"].failure.message
    assert rows["a"].measurement is not None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
fields = st.sampled_from([*TIMED, "device_ms", "clock_mhz", "flags", "kind", "message", "fatal"])


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(fields, anything, max_size=3))
def test_any_answer_is_an_outcome_or_none(changes: dict[str, Any]) -> None:
    outcome: Outcome | None = None
    refused = ""
    try:
        outcome = outcome_of(7, {**TIMED, **changes}, 1)
    except WorkerDied as error:
        refused = str(error)
    assert refused.isprintable()
    if isinstance(outcome, Sample):
        visit = visit_from_sample(outcome, 1, 1)
        assert 0 < visit.low_ms <= visit.median_ms
