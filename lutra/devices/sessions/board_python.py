"""The Python of a board, which runs the worker there: what it offers, and what to install."""

from __future__ import annotations

from dataclasses import dataclass

from lutra.devices.remote.shell import Shell, home_path, quoted
from lutra.devices.sessions.runtimes import known_runtimes
from lutra.files import parse_json
from lutra.text import last_words

DEFAULT_PYTHON = "python3"
_OLDEST_PYTHON = (3, 8)
_ANSWER_SECONDS = 60.0
_LIST_PACKAGES = """
import json, sys
try:
    from importlib.util import find_spec
except ImportError:
    find_spec = lambda name: None
print(json.dumps({"version": list(sys.version_info[:2]), "packages":
    [name for name in sys.argv[1:] if find_spec(name) is not None]}))
"""


@dataclass(frozen=True)
class BoardPython:
    """A Python on the board; ``problem`` says why it cannot run the worker, if it cannot."""

    command: str
    packages: frozenset[str] = frozenset()
    problem: str = ""

    @property
    def runtimes(self) -> tuple[str, ...]:
        """The runtimes whose packages it has."""
        if self.problem or "numpy" not in self.packages:
            return ()
        found = known_runtimes().items()
        return tuple(name for name, runtime in found if runtime.package in self.packages)

    @property
    def advice(self) -> str:
        """What to install, where it has no runtime."""
        if self.problem or self.runtimes:
            return self.problem
        missing = "numpy and a runtime" if "numpy" not in self.packages else "a runtime"
        remedy = install_line("litert", known_runtimes()["litert"].install)
        return f"its {self.command} lacks {missing}: {remedy}"


def ask_python(shell: Shell, command: str = DEFAULT_PYTHON) -> BoardPython:
    """What a Python of the board offers; raises `DeviceError` when it cannot be asked."""
    packages = ["numpy", *(runtime.package for runtime in known_runtimes().values())]
    words = " ".join(quoted(word) for word in ("-c", _LIST_PACKAGES, *packages))
    done = shell.run(f"{home_path(command)} {words}", _ANSWER_SECONDS)
    if done.status in (126, 127):
        problem = f"it has no {command}: `sudo apt install python3-venv` adds one"
        return BoardPython(command, problem=problem)
    try:
        answer = parse_json(done.output.splitlines()[-1])
        old = list(answer["version"]) < list(_OLDEST_PYTHON)
        found = frozenset(str(name) for name in answer["packages"])
    except (ValueError, KeyError, TypeError, IndexError):
        problem = f"its {command} does not work: {last_words(done.output)}"
        return BoardPython(command, problem=problem)
    if old:
        return BoardPython(command, problem=f"its {command} is older than 3.8")
    return BoardPython(command, found)


def install_line(runtime: str, package: str) -> str:
    """What to type on a board for a runtime: systems of today refuse pip outside of a venv."""
    return (
        f"there, `python3 -m venv ~/lutra && ~/lutra/bin/pip install numpy {package}`; then"
        f" --runtime {runtime} --option python=~/lutra/bin/python"
    )
