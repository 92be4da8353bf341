"""Model files of the user's on devices that get nothing but the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lutra.devices.fake import FakeDevice, FakeScript, FakeSession
from lutra.errors import ModelError
from lutra.profiler.networks.model_files import plan_models, profile_models
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
