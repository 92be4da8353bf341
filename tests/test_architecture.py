"""The house rules that a reader relies on: who may import whom, what is loaded when, sizes."""

import ast
import graphlib
import json
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

import lutra

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lutra"

SHARED = {"lutra.errors", "lutra.files", "lutra.plugins", "lutra.text"}
ADAPTERS = tuple(
    f"lutra.devices.{name}" for name in ("android", "cpu", "cuda", "fake", "shell_device", "ssh")
)
BELOW_ADAPTERS = tuple(
    f"lutra.devices.{name}"
    for name in ("base", "options", "worker", "remote", "sessions", "benchmark_model", "claims")
)
MEASURED = ("lutra.ops", "lutra.spaces", "lutra.tables")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    # Each room, and what its files may import beside itself and what is shared.
    "lutra.ops": (),
    "lutra.spaces": ("lutra.ops",),
    "lutra.tables": (),
    "lutra.emitters": ("lutra.ops", "lutra.spaces"),
    "lutra.devices.base": (),
    "lutra.devices.claims": (),
    "lutra.devices.options": ("lutra.devices.base",),
    "lutra.devices.worker": (),
    "lutra.devices.remote": ("lutra.devices.base",),
    "lutra.devices.sessions": BELOW_ADAPTERS[:4],
    "lutra.devices.benchmark_model": (*BELOW_ADAPTERS[:2], "lutra.devices.remote"),
    **dict.fromkeys(ADAPTERS, BELOW_ADAPTERS + ADAPTERS),
    "lutra.devices.registry": BELOW_ADAPTERS + ADAPTERS,
    "lutra.predictors": MEASURED,
    "lutra.profiler": (*MEASURED, "lutra.emitters", "lutra.devices", "lutra.predictors"),
    "lutra.supernets": ("lutra.ops", "lutra.spaces", "lutra.emitters", "lutra.predictors"),
    "lutra.search": (
        *MEASURED,
        "lutra.emitters",
        "lutra.packing",
        "lutra.predictors",
        "lutra.profiler",
        "lutra.supernets",
    ),
    "lutra.packing": ("lutra.emitters",),
    "lutra.interchange": (*MEASURED, "lutra.emitters", "lutra.predictors"),
    "lutra.inspection": (*MEASURED, "lutra.predictors", "lutra.profiler"),
    "lutra.report": (*MEASURED, "lutra.predictors", "lutra.search"),
    "lutra.cli": ("lutra",),
    # What stands beside the rooms.
    **dict.fromkeys(SHARED, ()),
    "lutra.testing": ("lutra.ops", "lutra.emitters", "lutra.devices", "lutra.profiler"),
    "lutra.__main__": ("lutra.cli",),
    "lutra.devices.__init__": (),
    "lutra.predictors.__init__": (),
    "lutra.__init__": ("lutra",),
}
# A file, and what it imports although its room may not.
EXCEPTIONS = {
    ("lutra.emitters.torch", "lutra.devices.worker.runtimes.torch_graph"),
    # It runs files that were exported, so it reads what the worker reads.
    ("lutra.supernets.deployment.runners", "lutra.devices.worker.runtimes.torch_graph"),
}
# It is copied to boards whole, where lutra is not installed.
ALONE = "lutra.devices.worker"

# Third-party packages: the folders or files that import them.
PACKAGES = {
    "adbutils": {"devices/remote/adb_shell.py"},
    "ai_edge_litert": {
        "devices/worker/runtimes/litert.py",
        "emitters/model_file.py",
        "emitters/tflite.py",
        "emitters/tflite_file.py",
        "emitters/tflite_precision.py",
        "emitters/tflite_reader.py",
        "packing/arrays.py",
        "supernets/deployment/runners.py",
    },
    "asyncssh": {"devices/remote/ssh/channel.py", "devices/remote/ssh/shell.py"},
    "click": {"cli"},
    "flatbuffers": {"emitters/tflite_file.py"},
    "google": {"emitters/onnx_file.py"},
    "jinja2": {"report/page.py"},
    "markupsafe": {"report/page.py"},
    "matplotlib": {"report/figures/drawing.py"},
    "numpy": {
        "tables/states",
        "devices/fake.py",
        "devices/worker/runtimes",
        "emitters",
        "files/torch_file.py",
        "inspection",
        "interchange/import_networks.py",
        "interchange/networks_file.py",
        "ops",
        "packing",
        "predictors",
        "profiler",
        "report/content.py",
        "report/figures/steadiness.py",
        "search",
        "spaces",
        "supernets",
    },
    "onnx": {
        "emitters/onnx.py",
        "emitters/onnx_file.py",
        "packing/arrays.py",
        "predictors/accuracy/perceptron.py",
    },
    "onnxruntime": {
        "devices/worker/runtimes/onnxruntime.py",
        "devices/worker/runtimes/onnxruntime_cuda.py",
        "predictors/accuracy/perceptron.py",
        "supernets/deployment/runners.py",
    },
    "PIL": {"supernets/data/pictures.py"},
    "pandas": {
        "inspection/diff.py",
        "report/figures/difference.py",
        "search/result.py",
        "tables/table.py",
    },
    "psutil": {"devices/cpu.py"},
    "pyarrow": {"interchange/parquet.py"},
    "pynvml": {"devices/worker/nvml.py"},
    "pytest": {"testing.py"},
    "rich": {"cli/output.py"},
    "scipy": {
        "inspection/changes.py",
        "inspection/state_spread.py",
        "profiler/statistics.py",
        "predictors/accuracy/fitting.py",
        "predictors/accuracy/sensitivities.py",
        "predictors/filling",
        "profiler/networks/validation.py",
    },
    "yaml": {"interchange/ofa_file.py"},
    "tflite_runtime": {"devices/worker/runtimes/tflite_runtime.py"},
    "torch": {
        "devices/worker/runtimes/torch.py",
        "devices/worker/runtimes/torch_cuda.py",
        "devices/worker/runtimes/torch_graph.py",
        "emitters/quantization.py",
        "emitters/torch.py",
        "predictors/accuracy/mlp_fitting.py",
        "search/training/user_module.py",
        "supernets",
    },
}
HEAVY = set(PACKAGES) - {"click", "google", "numpy", "psutil", "pytest"}
# Files that import a heavy package at their top: they are themselves imported where a model is
# made or run, or a link opened.
AT_THE_TOP = {
    "devices/remote/adb_shell.py",
    "devices/remote/ssh/channel.py",
    "devices/remote/ssh/shell.py",
    "devices/worker/runtimes/litert.py",
    "devices/worker/runtimes/onnxruntime.py",
    "devices/worker/runtimes/onnxruntime_cuda.py",
    "devices/worker/runtimes/tflite_runtime.py",
    "devices/worker/runtimes/torch.py",
    "devices/worker/runtimes/torch_cuda.py",
    "devices/worker/runtimes/torch_graph.py",
    "emitters/onnx.py",
    "emitters/tflite.py",
    "emitters/tflite_file.py",
    "emitters/tflite_precision.py",
    "emitters/torch.py",
    "supernets/data/pictures.py",
}
# The room in which everything needs torch: whoever imports one of its files is about to use it.
TORCH_ROOM = "supernets"
MOST_LINES = 400
MOST_ENTRIES = 14
MOST_ROOMS = 15


def name_of(path: Path) -> str:
    """``lutra/ops/conv.py`` as ``lutra.ops.conv``, a package's file as ``lutra.ops.__init__``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def file_of(module: str) -> str | None:
    """The file that a dotted name stands for, None for what is no module of ours."""
    if module in FILES:
        return module
    package = f"{module}.__init__"
    return package if package in FILES else None


def modules_in(tree: ast.AST) -> set[str]:
    """Dotted names of all that is imported, at the top or later, by statement or by name.

    What `lutra` hands out by itself (``from lutra import profile``) counts where it comes from.
    """
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                found.update(alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module)):
                for alias in node.names:
                    inner = f"{module}.{alias.name}"
                    homes = lutra._MODULES if module == "lutra" else {}
                    found.add(inner if file_of(inner) else homes.get(alias.name, module))
            case ast.Constant(value=str(text)):
                named = re.fullmatch(r"(lutra(?:\.\w+)+):\w+", text)  # the registry's adapters
                found.update([named[1]] if named else [])
    return found


@cache
def imported_by(name: str) -> frozenset[str]:
    return frozenset(modules_in(ast.parse(FILES[name].read_text())))


def edges_of(name: str) -> set[str]:
    """The files of ours that a file imports."""
    ours = {file_of(module) for module in imported_by(name) if module.startswith("lutra")}
    return {file for file in ours if file is not None and file != name}


def within(name: str, rooms: tuple[str, ...] | set[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def room_of(name: str) -> str:
    """The innermost room that a file is in; raises `StopIteration` for a file in none."""
    rooms = sorted(MAY_IMPORT, key=len, reverse=True)
    return next(room for room in rooms if within(name, {room}))


# who may import whom


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_in_a_room_and_imports_what_the_room_may(name: str) -> None:
    room = room_of(name)
    allowed = {room, *MAY_IMPORT[room]} | (set() if room == ALONE else SHARED)
    for imported in edges_of(name):
        assert within(imported, allowed) or (name, imported) in EXCEPTIONS, (
            f"{name} is in {room} and may not import {imported}"
        )


def test_every_room_and_exception_is_used() -> None:
    assert {room_of(name) for name in FILES} == set(MAY_IMPORT)
    for name, imported in EXCEPTIONS:
        assert imported in edges_of(name), f"{name} does not import {imported} any more"


def test_files_import_each_other_in_no_circle() -> None:
    """``lutra/__init__.py`` aside, which names all that it hands out."""
    graph = {name: edges_of(name) for name in FILES if name != "lutra.__init__"}
    for imported in graph.values():
        imported.discard("lutra.__init__")
    list(graphlib.TopologicalSorter(graph).static_order())


def test_only_the_command_line_goes_in_by_the_front_door() -> None:
    users = {name for name in FILES if "lutra" in imported_by(name)}
    assert all(within(name, ("lutra.cli",)) for name in users)


def test_worker_and_front_door_are_python_3_8() -> None:
    for name, path in FILES.items():
        if within(name, (ALONE, "lutra.__init__")):
            ast.parse(path.read_text(), feature_version=(3, 8))


# third-party packages


def third_party_users() -> dict[str, set[str]]:
    """Package -> the files that import it."""
    users: dict[str, set[str]] = defaultdict(set)
    for name, path in FILES.items():
        for module in imported_by(name):
            package = module.partition(".")[0]
            if package not in {"lutra", "_typeshed"} | sys.stdlib_module_names:
                users[package].add(path.relative_to(PACKAGE).as_posix())
    return users


def test_third_party_packages_are_imported_where_they_belong() -> None:
    users = third_party_users()
    assert set(users) == set(PACKAGES)
    for package, places in PACKAGES.items():
        for place in places:
            assert any(is_in(user, place) for user in users[package]), (
                f"{place} does not use {package} any more"
            )
        for user in users[package]:
            assert any(is_in(user, place) for place in places), f"{user} imports {package}"


def is_in(file: str, place: str) -> bool:
    return file == place or file.startswith(f"{place}/")


def test_heavy_packages_are_imported_when_they_are_used() -> None:
    at_the_top = set()
    for path in FILES.values():
        tree = ast.Module(
            [node for node in ast.parse(path.read_text()).body if isinstance(node, IMPORTS)], []
        )
        heavy = {module.partition(".")[0] for module in modules_in(tree)} & HEAVY
        file = path.relative_to(PACKAGE).as_posix()
        if heavy - ({"torch"} if is_in(file, TORCH_ROOM) else set()):
            at_the_top.add(file)
    assert at_the_top == AT_THE_TOP


IMPORTS = (ast.Import, ast.ImportFrom)


def packages_loaded_by(code: str) -> set[str]:
    """Top-level names of what a fresh interpreter has imported after ``code``."""
    code += "; import sys, json; print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    "code", ["import lutra", "from lutra.cli.main import run; run(['--help'])"]
)
def test_nothing_heavy_is_loaded_before_it_is_used(code: str) -> None:
    assert not packages_loaded_by(code) & {*HEAVY, "numpy", "psutil", "rich"}


# what is printed

OUTPUT = "lutra.cli.output"
# Programs of their own, whose output lutra reads.
PROGRAMS = {"lutra.devices.worker.nvml"}
PRINTERS = {"print", "echo", "secho", "print_exc", "print_exception", "print_tb", "stdout"}


def test_text_has_one_way_out() -> None:
    """Where what others say is made safe for a terminal."""
    for name in set(FILES) - {OUTPUT, *PROGRAMS}:
        for node in ast.walk(ast.parse(FILES[name].read_text())):
            match node:
                case (
                    ast.Call(func=ast.Name(id=used))
                    | ast.Attribute(value=ast.Name(id="click" | "sys" | "traceback"), attr=used)
                ):
                    assert used not in PRINTERS, f"{name} prints past {OUTPUT}"


# the front door


def test_public_names_resolve() -> None:
    for name in lutra.__all__:
        assert getattr(lutra, name) is not None
    assert set(lutra.__all__) <= set(dir(lutra))
    with pytest.raises(AttributeError, match="'lutra' has no attribute 'nothing'"):
        _ = lutra.nothing


def test_type_checkers_see_the_names_that_are_there() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == lutra._MODULES


def test_every_error_is_public() -> None:
    from lutra import errors

    named = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert named <= set(lutra.__all__)


# sizes, and where tests are


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_long(name: str) -> None:
    assert len(FILES[name].read_text().splitlines()) <= MOST_LINES


def test_no_folder_is_crowded() -> None:
    """The package's own folder has rooms, and what is beside them."""
    for folder in {path.parent for path in FILES.values()} - {PACKAGE / "cli"}:
        suffixes = ("",) if folder == PACKAGE else ("", ".py")
        entries = {path.stem for path in folder.iterdir() if path.suffix in suffixes}
        entries = {entry for entry in entries if not entry.startswith("__")}
        most = MOST_ROOMS if folder == PACKAGE else MOST_ENTRIES
        assert len(entries) <= most, f"{folder}: {sorted(entries)}"


def test_tests_mirror_the_rooms() -> None:
    tests = ROOT / "tests"
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    folders -= {folder for folder in folders if folder.parts[:1] == ("peers",)}
    for folder in folders:
        assert (PACKAGE / folder).is_dir(), f"tests/{folder} is of no room"
    rooms = {path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    for room in rooms:
        assert any(folder.parts[:1] == (room.name,) for folder in folders), f"{room}: no tests"


# documents


def test_every_command_is_documented() -> None:
    from lutra.cli.main import COMMANDS

    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "guide.md").read_text()
    for name in COMMANDS:
        assert f"lutra {name}" in text, f"`lutra {name}` is in neither README.md nor docs/guide.md"


def test_ci_runs_the_readme_s_test_command() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    (command,) = [line for line in lines if line.endswith("-m pytest")]
    assert command in (ROOT / "README.md").read_text().splitlines()


def test_cited_decisions_are_written_down() -> None:
    headings = set(
        re.findall(r"^### (.+)$", (ROOT / "docs" / "decisions.md").read_text(), re.MULTILINE)
    )
    cited = {
        title
        for path in FILES.values()
        for title in re.findall(r"docs/decisions\.md: ([^.\n]+)", path.read_text())
    }
    assert cited
    assert cited <= headings


def test_version_is_in_the_changelog() -> None:
    import lutra

    assert f"## {lutra.__version__}" in (ROOT / "CHANGELOG.md").read_text()
