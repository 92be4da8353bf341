"""`lutra --help` against an empty Python and against importing torch, interleaved.

python benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "lutra --help": ["-m", "lutra", "--help"],
    "import torch": ["-c", "import torch"],
}
ROUNDS = 9


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, arguments in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: median(values) for name, values in seconds.items()}
    for name, value in medians.items():
        print(f"{name:16} {value:.3f} s")
    print(f"lutra / python   {medians['lutra --help'] / medians['python -c pass']:.1f}")
    print(f"torch / lutra    {medians['import torch'] / medians['lutra --help']:.1f}")


if __name__ == "__main__":
    main()
