"""The documents on adding things: their code, installed as another package is, does its job."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import pytest

import lutra
from lutra.cli.main import run
from lutra.devices.registry import device_schemes
from lutra.devices.worker.runtimes import Runtime
from lutra.emitters.emission import Emission
from lutra.ops import Conv, Shape
from lutra.profiler import bench, workload
from lutra.spaces import registry, sample_networks
from lutra.tables import LatencyTable

ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    "add-a-device.md": "lutra.devices",
    "add-a-runtime.md": "lutra.runtimes",
    "add-a-space.md": "lutra.spaces",
    "add-an-accuracy-source.md": "lutra.accuracy",
}
SPACE = "tiny-mbconv"
RUNTIME = "onnx-reference"
# The vendor's command, as the document says: milliseconds, one per line.
VENDOR_BENCH = """#!/bin/sh
test -f "$1" || { echo "no model" >&2; exit 1; }
printf '0.50\\n0.51\\n0.50\\n'
"""

Capture = pytest.CaptureFixture[str]


class Document(NamedTuple):
    """What a document holds: its files by name, and the names it registers by group."""

    files: dict[str, str]
    entries: dict[str, dict[str, str]]

    @property
    def tests(self) -> list[str]:
        return [name for name in self.files if name.startswith("test_")]


def read(name: str) -> Document:
    """A document's code; each block of Python must say in its first line which file it is."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    files = {}
    for block in blocks(text, "python"):
        named = re.match(r"# (\w+\.py)\n", block)
        assert named, f"{name}: a block of Python without a name: {block[:60]!r}"
        files[named[1]] = block
    entries: dict[str, dict[str, str]] = {}
    for block in blocks(text, "toml"):
        entries |= tomllib.loads(block)["project"]["entry-points"]
    return Document(files, entries)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder where the code of all documents is installed, for us and our child processes."""
    folder = tmp_path / "installed"
    metadata = folder / "documents-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: documents\nVersion: 1\n")
    modules: set[str] = set()
    with (metadata / "entry_points.txt").open("w") as listed:
        for document in map(read, DOCUMENTS):
            for name, code in document.files.items():
                (folder / name).write_text(code)
                modules.add(name.removesuffix(".py"))
            for group, entries in document.entries.items():
                lines = [f"{name} = {value}\n" for name, value in entries.items()]
                listed.writelines([f"[{group}]\n", *lines])
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(registry, "_SPACES", {})
    yield folder
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def vendor_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vendor's command is on the path."""
    folder = tmp_path / "vendor"
    folder.mkdir()
    program = folder / "vendor-bench"
    program.write_text(VENDOR_BENCH)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def table(package: Path, tmp_path: Path) -> Path:
    """The document's space at two of its resolutions, on the scripted device."""
    path = tmp_path / "tiny.lut"
    summary = lutra.profile("fake", SPACE, path, resolutions=[160, 224], networks=0)
    assert summary.complete
    assert summary.workloads == len(lutra.get_space(SPACE).ops_at([160, 224]))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small .onnx file."""
    path = tmp_path / "small.onnx"
    path.write_bytes(Emission("onnx").builder(lambda: Conv(Shape(8, 8, 8), 8, kernel=3).graph)())
    return path


def test_every_document_on_adding_things_is_here() -> None:
    written = {path.name for path in (ROOT / "docs").glob("add-a*.md")}
    assert written == set(DOCUMENTS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_a_document_registers_is_its_own_code(name: str, package: Path) -> None:
    document = read(name)
    (group,) = document.entries
    assert group == DOCUMENTS[name]
    assert document.entries[group]
    assert document.tests
    for entry, value in document.entries[group].items():
        assert f"{value.partition(':')[0]}.py" in document.files
        (found,) = entry_points(group=group, name=entry)
        added = found.load()
        assert isinstance(added, Runtime) or callable(added)


def test_documents_prove_themselves(package: Path, vendor_bench: None) -> None:
    """In one process, which imports for seconds what they build on."""
    files = [file for document in map(read, DOCUMENTS) for file in document.tests]
    options = ["-W", "error", "-p", "no:cacheprovider", "--rootdir", str(package)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        cwd=package,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for file in files:
        assert re.search(rf"^{file} \.+ ", done.stdout, re.MULTILINE), done.stdout  # none skipped


def test_the_space_is_searched_by_the_accuracy_source(table: Path, capsys: Capture) -> None:
    space = lutra.get_space(SPACE)
    accuracy = lutra.load_accuracy(space=SPACE)
    predictor = lutra.EfficiencyPredictor(table)
    rows = np.array(list(np.ndindex(*space.choice_counts)), dtype=np.int16)
    rows = np.unique(space.canonical(rows[rows[:, -1] != space.resolutions.index(192)]), axis=0)
    latencies = predictor.predict(rows)
    limit_ms = float(np.quantile(latencies, 0.3))
    most = accuracy.predict(rows[latencies <= limit_ms]).max()

    result = lutra.find_networks(table, max_latency_ms=limit_ms)
    assert result.best.predicted_ms <= limit_ms
    assert result.best.accuracy == pytest.approx(most)
    assert result.accuracy_source["name"] == accuracy.name
    assert result.accuracy_source["provenance"] == accuracy.provenance
    named = lutra.find_networks(table, max_latency_ms=limit_ms, accuracy=SPACE)
    assert named.candidates == result.candidates

    limit = f"{limit_ms:.9f}ms"
    assert run(["search", str(table), "--max-latency", limit, "--accuracy", SPACE, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["accuracy_source"] == result.to_json()["accuracy_source"]


def test_a_small_space_gives_no_more_networks_than_it_has(package: Path) -> None:
    space = lutra.get_space(SPACE)
    there = space.lattice(160).count()
    drawn = sample_networks(space, [160], there + 1, seed=0)
    assert len({architecture.key for architecture in drawn}) == len(drawn) == there


def test_a_space_without_224_is_listed(
    package: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(lutra.get_space(SPACE)), "resolutions", (160, 192))
    monkeypatch.setattr(registry, "_SPACES", {})
    assert run(["spaces", "--json"]) == 0
    (listed,) = (
        item for item in json.loads(capsys.readouterr().out)["spaces"] if item["space"] == SPACE
    )
    assert listed["ops_at_one_resolution"] > 0
    assert run(["spaces"]) == 0
    assert SPACE in capsys.readouterr().out
    with pytest.raises(lutra.UsageError, match="it has 160, 192"):
        lutra.get_space(SPACE).check_resolutions([224])


def test_what_is_found_in_the_space_runs(table: Path, tmp_path: Path) -> None:
    assert lutra.calibrate(table, networks=6).networks == 6
    result = lutra.verify(lutra.find_networks(table, max_macs=60e6, algorithm="random"))
    assert result.best.verified is not None
    lutra.export(result, tmp_path / "found.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "found.onnx")
    (fed,) = session.get_inputs()
    (classes,) = session.run(None, {fed.name: np.zeros(fed.shape, dtype=np.float32)})
    assert np.shape(classes) == (1, 1000)


@pytest.fixture
def _quick_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """What numpy needs less than a second for."""
    one, other = (Conv(Shape(8, 8, 8), 8 * n, kernel=3) for n in (1, 2))
    monkeypatch.setattr(workload, "REFERENCE_OPS", (one,))
    monkeypatch.setattr(
        bench,
        "reference_network",
        lambda emission: replace(workload.op_workload(other, emission), category="reference"),
    )


@pytest.mark.usefixtures("package", "_quick_references")
def test_the_runtime_times_a_model_and_a_space(model: Path, tmp_path: Path) -> None:
    with lutra.open_device("cpu") as device:
        assert RUNTIME in device.runtimes()
    path = tmp_path / "models.lut"
    options = {"inputs": "zeros"}
    lutra.profile_models("cpu", [model], path, runtime=RUNTIME, options=options)
    with LatencyTable.open(path) as stored:
        target, (row,) = stored.target, stored.rows("network")
        assert (target.runtime, target.delegate) == (RUNTIME, "numpy")
        assert target.options == "inputs=zeros"
        assert row.measurement is not None
        assert row.measurement.latency_ms > 0

    def stop(progress: lutra.Progress) -> None:
        if progress.done:  # more would take half a minute
            raise KeyboardInterrupt

    path, watch = tmp_path / "ops.lut", lutra.Watch(on_progress=stop)
    with pytest.raises(KeyboardInterrupt):
        lutra.profile("cpu", SPACE, path, runtime=RUNTIME, networks=0, watch=watch)
    with LatencyTable.open(path) as stored:
        assert len(stored.all_visits("op")) == 1
        assert {row.failure for row in stored.rows("op")} <= {None}


def test_the_runtime_refuses_what_it_cannot_do(package: Path, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "models.lut"
    with pytest.raises(lutra.UsageError, match=r"inputs=noise\|zeros"):
        lutra.profile_models("cpu", [model], path, runtime=RUNTIME, options={"inputs": "ones"})
    if len(os.sched_getaffinity(0)) > 1:
        with pytest.raises(lutra.PermanentDeviceError, match="one thread, not on 2"):
            lutra.profile_models("cpu", [model], path, runtime=RUNTIME, threads=2)


def test_the_device_is_profiled(package: Path, vendor_bench: None, tmp_path: Path) -> None:
    assert "acme" in device_schemes()
    summary = lutra.profile("acme:7", SPACE, tmp_path / "acme.lut", networks=4)
    assert summary.complete
    with LatencyTable.open(tmp_path / "acme.lut") as stored:
        assert (stored.target.device, stored.target.runtime) == ("acme", "litert")
        measured = [row.measurement for row in stored.rows("op")]
        assert {item and item.latency_ms for item in measured} == {0.5}


def test_the_parts_that_a_device_may_build_on_are_where_the_document_says() -> None:
    text = (ROOT / "docs" / "add-a-device.md").read_text(encoding="utf-8")
    parts = re.findall(r"`(\w+)` \(`([\w/]+\.py)`\)", text)
    assert len(parts) == 10
    for name, file in parts:
        code = (ROOT / "lutra" / "devices" / file).read_text(encoding="utf-8")
        assert re.search(rf"^(?:class|def) {name}\b", code, re.MULTILINE), (name, file)
