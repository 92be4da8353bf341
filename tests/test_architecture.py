"""The house rules that a reader relies on: arrows point down, and help is fast."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lutra"
SHARED = {"errors", "files", "plugins", "text"}
MEASURED = SHARED | {"ops", "spaces", "tables"}
FLOORS = {
    "ops": SHARED,
    "spaces": SHARED | {"ops"},
    "emitters": SHARED | {"ops", "spaces", "devices"},
    "devices": SHARED,
    "tables": SHARED,
    "predictors": MEASURED,
    "profiler": MEASURED | {"emitters", "devices", "predictors"},
    "search": MEASURED | {"emitters", "devices", "predictors", "profiler"},
    "cli": MEASURED | {"emitters", "devices", "predictors", "profiler", "search"},
}
HEAVY = (
    "adbutils",
    "ai_edge_litert",
    "asyncssh",
    "onnx",
    "onnxruntime",
    "pandas",
    "pynvml",
    "scipy",
    "sklearn",
    "tflite_runtime",
    "torch",
)
# Imported only when a model is made or run, or a device opened: emitters, runtimes, links.
USERS = {
    "devices/remote/adb_shell.py": "adbutils",
    "devices/remote/ssh/channel.py": "asyncssh",
    "devices/remote/ssh/shell.py": "asyncssh",
    "devices/worker/runtimes/litert.py": "ai_edge_litert",
    "devices/worker/runtimes/onnxruntime.py": "onnxruntime",
    "devices/worker/runtimes/onnxruntime_cuda.py": "onnxruntime",
    "devices/worker/runtimes/tflite_runtime.py": "tflite_runtime",
    "devices/worker/runtimes/torch.py": "torch",
    "devices/worker/runtimes/torch_cuda.py": "torch",
    "devices/worker/runtimes/torch_graph.py": "torch",
    "emitters/onnx.py": "onnx",
    "emitters/tflite.py": "ai_edge_litert",
    "emitters/tflite_file.py": "ai_edge_litert",
    "emitters/tflite_precision.py": "ai_edge_litert",
    "emitters/torch.py": "torch",
}


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Names of the modules that a file imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_floors_import_only_those_below(floor: str) -> None:
    files = list((PACKAGE / floor).rglob("*.py"))
    assert files
    for file in files:
        for module in imports(file):
            package, _, rest = module.partition(".")
            if package == "lutra" and rest:
                below = rest.partition(".")[0]
                assert below == floor or below in FLOORS[floor], f"{file} imports {module}"


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.name)
def test_heavy_packages_are_imported_where_they_are_used(file: Path) -> None:
    for module in imports(file, top_level_only=True):
        package = module.partition(".")[0]
        if package in HEAVY:
            assert USERS.get(str(file.relative_to(PACKAGE))) == package, (
                f"{file} imports {package} at its top"
            )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, json; from lutra.cli.main import run; run(['--help']);"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded & {*HEAVY, "numpy", "psutil", "rich", "jinja2"}


def test_every_command_is_documented() -> None:
    from lutra.cli.main import COMMANDS

    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "guide.md").read_text()
    for name in COMMANDS:
        assert f"lutra {name}" in text, f"`lutra {name}` is in neither README.md nor docs/guide.md"


def test_ci_runs_the_readme_s_test_command() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    (command,) = [line for line in lines if line.endswith("-m pytest")]
    assert command in (ROOT / "README.md").read_text().splitlines()


def test_version_is_in_the_changelog() -> None:
    import lutra

    assert f"## {lutra.__version__}" in (ROOT / "CHANGELOG.md").read_text()
