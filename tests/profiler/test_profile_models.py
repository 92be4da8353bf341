"""Model files of the user's on devices that get nothing but the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lutra.devices.fake import FakeDevice, FakeScript, FakeSession
from lutra.emitters.onnx import emit_onnx
from lutra.emitters.tflite import emit_tflite
from lutra.errors import ModelError, UsageError
from lutra.ops import Conv, Shape, seeded_weights
from lutra.profiler.networks.model_files import (
    plan_models,
    profile_models,
    require_timing,
    time_models,
)
from lutra.profiler.protocols import NETWORK_PROTOCOL
from tests.emitters.test_model_file import external, sharing


def noted(timed: list[Path]) -> Callable[[Path], float]:
    def latency_ms(model: Path) -> float:
        timed.append(model)
        return 1.0

    return latency_ms


def test_what_lies_beside_a_model_is_in_what_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = external(tmp_path, 1.0)
    here: list[Path] = []
    profile_models(FakeDevice(FakeScript(noted(here))), [path], tmp_path / "here.lut")
    assert path in here
    monkeypatch.setattr(FakeSession, "sends_models", True)
    there: list[Path] = []
    profile_models(FakeDevice(FakeScript(noted(there))), [path], tmp_path / "there.lut")
    assert there
    assert path not in there


def test_what_cannot_be_sent_is_refused_before_anything_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeSession, "sends_models", True)
    path, table = sharing(external(tmp_path, 1.0), 10, None), tmp_path / "x.lut"
    timed: list[Path] = []
    device = FakeDevice(FakeScript(noted(timed)))
    for act in (plan_models, profile_models):
        with pytest.raises(ModelError, match="save it with all weights in one file"):
            act(device, [path], table)
    assert not timed
    assert not table.exists()


def precisions(folder: Path) -> list[Path]:
    """The same network in fp32 and in 8 bits."""
    graph = Conv(Shape(8, 8, 3), 8, activation="relu").graph
    paths = []
    for precision in ("fp32", "int8"):
        paths.append(folder / f"{precision}.onnx")
        paths[-1].write_bytes(emit_onnx(graph, seeded_weights(graph), precision=precision))
    return paths


def test_files_of_two_precisions_are_timed_in_turns(tmp_path: Path) -> None:
    fp32, int8 = precisions(tmp_path)
    timed: list[Path] = []

    def latency_ms(model: Path) -> float:
        timed.append(model)
        return {fp32: 3.0, int8: 1.0}.get(model, 2.0)

    # The machine becomes slower and slower.
    device = FakeDevice(FakeScript(latency_ms, drift=lambda answered: 1.0 + 0.001 * answered))
    first, second = time_models(device, [fp32, int8])
    assert first.latency_ms / second.latency_ms == pytest.approx(3.0, rel=0.05)
    for found in (first, second):
        assert found.ci_low_ms <= found.latency_ms <= found.ci_high_ms
    visits = [model for model in timed if model in (fp32, int8)][::2]  # asked twice a visit
    least = 2 * NETWORK_PROTOCOL.rule.min_rounds
    assert len(visits) >= least
    for round_visits in zip(visits[:least:2], visits[1:least:2], strict=True):
        assert set(round_visits) == {fp32, int8}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fp32.onnx", "int8.onnx"]


def test_what_cannot_be_timed_side_by_side(tmp_path: Path) -> None:
    fp32, int8 = precisions(tmp_path)
    graph = Conv(Shape(8, 8, 3), 8).graph
    (tmp_path / "other.tflite").write_bytes(emit_tflite(graph, seeded_weights(graph)))
    with pytest.raises(UsageError, match="a table speaks of one format"):
        time_models("fake", [fp32, tmp_path / "other.tflite"])
    script = FakeScript(failures=dict.fromkeys(range(100), "load"))
    with pytest.raises(ModelError, match=r"fp32\.onnx could not be measured: "):
        time_models(FakeDevice(script), [fp32, int8])
    with pytest.raises(UsageError, match="nowhere"):
        require_timing("nowhere", "onnx")
