"""What README, guide and docstrings show in Python does what they say.

On a scripted device in the place of this machine's CPU, so that every answer is there at once.
"""

from __future__ import annotations

import csv
import doctest
import json
import os
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lutra
from lutra.cli.main import run
from lutra.devices import registry
from lutra.devices.base import DeviceInfo
from lutra.devices.fake import FakeDevice, FakeScript, latency_from_size
from lutra.interchange.ofa_keys import DIALECTS
from lutra.spaces import get_space
from lutra.supernets.checkpoints.checkpoint import save_supernet
from lutra.supernets.checkpoints.network import save_network
from lutra.supernets.elastic.supernet import Supernet
from tests.conftest import SPACE
from tests.hollow import hollow_networks
from tests.interchange.estimator import write_table
from tests.interchange.test_networks import timed
from tests.interchange.test_networks import written as write_timed
from tests.supernets.images import write_idx

SMALL = "ofa-mbv3-w0.25/classes=10/channels=1/stem=1/r=20:28:4"
ROOT = Path(__file__).parents[1]
# Public names that the examples of `LutraError` and of `Watch` show.
SHOWN_ELSEWHERE = {name for name in lutra.__all__ if name.endswith("Error")} - {"LutraError"}
SHOWN_ELSEWHERE |= {"Progress"}
SMALL = "ofa-mbv3-w0.25/classes=10/channels=1/stem=1/r=20:28:4"
# What the guide's pages measure, and what is measured of it here.
LESS = {
    "--resolutions 128:224:24": f"--space {SMALL} --resolutions 20:28:4 --networks 6",
    "lutra validate sampled.lut": "lutra validate sampled.lut --networks 6",
    "--count 100": "--count 20",
}


class ScriptedCpu(FakeDevice):
    """A machine on which the space's networks take 2 to 6 ms."""

    def __init__(self, address: str = "") -> None:
        super().__init__(FakeScript(lambda model: 0.2 * latency_from_size(model)))

    def info(self) -> DeviceInfo:
        return replace(super().info(), spec="cpu")


@pytest.fixture(scope="session")
def worked_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the examples speak of; copy it, do not write to it."""
    folder = tmp_path_factory.mktemp("examples")
    table = folder / "cpu.lut"
    with hollow_networks(), ScriptedCpu() as cpu:
        lutra.profile(cpu, SPACE, table, networks=6)
        lutra.validate(table, device=cpu, networks=6)
        lutra.profile(cpu, SMALL, folder / "small.lut", resolutions=[20], networks=0)
    result = lutra.find_networks(table, max_latency_ms=5)
    result.write(folder / "result.json")
    lutra.export(result, folder / "model.onnx")
    lutra.export(result, folder / "model.torch", format="torch")
    keys = DIALECTS[0].keys(get_space(SPACE), 224)
    rows = {key: {"count": 500, "mean": 0.01 + op.macs / 1e7} for op, key in keys.items() if key}
    write_table(folder / "224_lookup_table.yaml", rows)
    write_timed(folder / "farm.csv", timed(60))
    write_idx(folder / "images", 96)
    small = get_space(SMALL)
    lutra.export(small.decode(small.choice_counts * 0), folder / "small.onnx")
    supernet = Supernet(small)
    save_supernet(supernet, folder / "supernet.pth", {})
    smallest = supernet.smallest()
    save_network(supernet.subnet(smallest), smallest, folder / "small.pth", {})
    return folder


def placed(source: str, target: str) -> None:
    """A copy, or for models of 25 MB another name: lutra never writes into a file that is there."""
    if Path(source).stem == "model":
        os.link(source, target)
    else:
        shutil.copy(source, target)


@pytest.fixture(autouse=True)
def workplace(
    worked_once: Path, hollow: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The test's own copy of these files, as the working directory; ``cpu`` is scripted."""
    place = f"{ScriptedCpu.__module__}:{ScriptedCpu.__name__}"
    monkeypatch.setitem(registry._BUILT_IN, "cpu", place)
    folder = tmp_path / "work"
    shutil.copytree(worked_once, folder, copy_function=placed)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("document", ["README.md", "docs/guide.md"])
def test_the_python_of_a_document_runs_from_top_to_bottom(document: str) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(), re.M | re.S)
    assert blocks
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, document, "exec"), namespace)


def commands_of(heading: str) -> list[list[str]]:
    """The words of each command in the first block of a page of the guide, with `LESS` to do."""
    text = (ROOT / "docs" / "guide.md").read_text()
    page = text[text.index(f"# {heading}") :]
    block = re.search(r"^```\n(.*?)^```", page, re.M | re.S)
    assert block
    lines = block[1].replace("\\\n", " ")
    for typed, run_here in LESS.items():
        lines = lines.replace(typed, run_here)
    commands = [shlex.split(line, comments=True) for line in lines.splitlines()]
    assert all(command[0] == "lutra" for command in commands)
    return [command[1:] for command in commands]


def test_the_page_on_five_minutes_runs_as_typed(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for command in commands_of("Five minutes, not fifty"):
        assert run(command) == 0, command
        said.append(capsys.readouterr().err)
    by_share, by_time, by_prior, *_, whole = said
    assert "were not measured but filled in from the 34 that were" in by_share
    assert "filled in" in by_time
    assert "today.lut: the prior sampled.lut helps: with it" in by_prior
    assert "filled in" not in whole
    with lutra.LatencyTable.open("sampled.lut") as table:
        assert not table.filled()
    predicts_by_filled_rows(capsys)


def predicts_by_filled_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """`lutra predict` says which rows of the page's last table were not measured."""
    space = get_space(SMALL)
    network = space.decode(space.choice_counts * 0)
    Path("network.json").write_text(json.dumps(network.to_json()))
    with lutra.LatencyTable.open("today.lut") as table:
        filled = table.filled().keys()
    assert run(["predict", "today.lut", "--arch", "network.json", "--json"]) == 0
    ops = json.loads(capsys.readouterr().out)["ops"]
    assert {op["key"] for op in ops if op["filled"]} == {op["key"] for op in ops} & filled
    assert run(["predict", "today.lut", "--arch", "network.json"]) == 0
    out, err = capsys.readouterr()
    rows = [text for text in out.splitlines() if text.split()[0] in filled]
    assert rows
    assert all(" filled " in row for row in rows)
    assert "rows were not measured but filled in" in err


def test_the_page_on_device_farms_runs_as_typed() -> None:
    first, *others = commands_of("Your device farm's CSV")
    assert run(first) == 0
    time_files(Path("farm/networks.csv"))
    for command in others:
        assert run(command) == 0, command
    found = lutra.SearchResult.read("found.json").best
    assert found.predicted_ms is not None
    assert 4.0 < found.predicted_ms <= 8.0


def time_files(path: Path) -> None:
    """What a farm does: write into the file what each network takes."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    space = get_space(SPACE)
    alone = np.array([0.01 + op.macs / 3e7 for op in space.ops])
    for row in rows:
        network = space.encode(space.parse(json.loads(row["architecture"])))
        row["latency_ms"] = f"{(space.op_counts(network[None, :]) @ alone)[0]:.4f}"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("name", sorted({*lutra.__all__} - {"__version__"} - {*SHOWN_ELSEWHERE}))
def test_every_public_name_has_an_example_that_holds(name: str) -> None:
    value = getattr(lutra, name)
    globs = {public: getattr(lutra, public) for public in lutra.__all__}
    found = doctest.DocTestFinder(recurse=False).find(value, name, globs=globs)
    examples = [test for test in found if test.examples]
    assert examples, f"lutra.{name} has no example in its docstring"
    assert doctest.DocTestRunner().run(examples[0]).failed == 0


def test_the_packages_own_example_holds() -> None:
    (test,) = doctest.DocTestFinder(recurse=False).find(lutra, "lutra")
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0
