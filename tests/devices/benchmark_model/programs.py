"""Programs that behave like benchmark_model, and like broken ones: shell scripts for any device.

Their inference takes, by their own account, a microsecond per byte of the model, so that a test
knows each row's value: `latency_ms`.
"""

from __future__ import annotations

from pathlib import Path

_PROLOGUE = """#!/bin/sh
for word in "$@"; do case "$word" in --graph=*) graph=${word#--graph=};; esac; done
us=$(($(wc -c < "$graph")))
head=$(head -c 5 "$graph")
"""
RESULT = """
low=$((us * 9 / 10))
echo "INFO: STARTING!"
echo "INFO: Running benchmark for at least 1 iterations and at least 0.02 seconds"
echo "INFO: count=2 first=$us curr=$us min=$low max=$us avg=$us std=0"
echo
echo "INFO: Running benchmark for at least 3 iterations and at least 0.08 seconds"
echo "INFO: count=9 first=$us curr=$us min=$low max=$us avg=$us std=0"
echo
echo "INFO: Inference timings in us: Init: 9, First inference: $us, Warmup (avg): $us,\
 Inference (avg): $us"
"""
_COMPILED_MODEL = """
low=$((us * 9 / 10))
echo "INFO: STARTING!"
echo "INFO: count=2 first=$us curr=$us min=$low max=$us avg=$us std=0"
echo "INFO: count=9 first=$us curr=$us min=$low max=$us avg=$us std=0"
rounded=$(((us + 5) / 10))
ms=$((rounded / 100)).$(printf %02d $((rounded % 100)))
{
echo "INFO: [benchmark_litert_model.h:62]"
echo "========== BENCHMARK RESULTS =========="
echo "INFO: [benchmark_litert_model.h:63] Model initialization: 1.00 ms"
echo "INFO: [benchmark_litert_model.h:64] Warmup (first):       $ms ms"
echo "INFO: [benchmark_litert_model.h:65] Warmup (avg):         $ms ms (2 runs)"
echo "INFO: [benchmark_litert_model.h:66] Inference (avg):      $ms ms (9 runs)"
echo "INFO: [benchmark_litert_model.h:67] Inference (min):      $ms ms"
echo "INFO: [benchmark_litert_model.h:68] Inference (max):      $ms ms"
echo "INFO: [benchmark_litert_model.h:69] Inference (std):      0.00"
} >&2
"""


def latency_ms(model: Path) -> float:
    """What the programs say that a model takes."""
    return model.stat().st_size / 1000


def minimum_ms(model: Path) -> float:
    """What they say that its fastest run took."""
    return model.stat().st_size * 9 // 10 / 1000


def write_program(folder: Path, before: str = "", result: str = RESULT) -> Path:
    """A program; the commands ``before`` know ``$us`` and ``$head``, the model's first bytes."""
    path = folder / "benchmark_model"
    path.write_text(_PROLOGUE + before + result)
    path.chmod(0o755)
    return path


def write_compiled_model_program(folder: Path) -> Path:
    """A program like the CompiledModel build: it knows no --use_xnnpack."""
    refuse = """
for word in "$@"; do case "$word" in
--use_xnnpack=*) echo "WARN: Unconsumed cmdline flags: $word" >&2;;
esac; done
"""
    return write_program(folder, refuse, _COMPILED_MODEL)


def write_models(folder: Path, count: int, head: str = "") -> list[Path]:
    """Files that stand for models; the first starts with ``head``, each has a size of its own."""
    paths = []
    for number in range(count):
        path = folder / f"model-{number}"
        path.write_text((head if number == 0 else "").ljust(1000 + 100 * number, "."))
        paths.append(path)
    return paths
