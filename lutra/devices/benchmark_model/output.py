"""Read what one run of TFLite's ``benchmark_model`` printed, stdout and stderr in one text.

Two programs go by that name. Both print a ``count=`` line in microseconds after the warm-up and
one after the measurement, also when they ran nothing (``count=0``):

* the interpreter build (TensorFlow's ``benchmark_model.cc``, ``stats_calculator.h``) closes with
  ``Inference timings in us: ...``, in 2018 and 2019 with ``Average inference timings in us: ...``;
* the CompiledModel build (LiteRT's ``benchmark_litert_model.h``) closes with a block in
  milliseconds, ``BENCHMARK RESULTS``, on stderr. It is rounded to 0.01 ms, so its figures are
  used only where the text holds nothing of stdout.

A text without that close is refused: the program was stopped, or its output cut off. Stdout must
come first in the text, or both in the order they were printed: then one that was cut off anywhere
is refused, or reads as it did when whole, if without its memory, which is said last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from lutra.devices.benchmark_model.log import Log, Series, read_log, shorten

Program = Literal["interpreter", "compiled-model"]

_AVERAGE_DIGITS = 1e-5  # averages are printed with six digits
_BLOCK_MS = 0.0051  # half of the last digit of the block, and a little for its binary fraction
_SUMMARY_AVERAGES = ("Inference (avg)", "Inference", "no stats")


class BenchmarkOutputError(ValueError):
    """The output holds no measurement that can be trusted; ``str(error)`` is one line."""


@dataclass(frozen=True)
class BenchmarkRun:
    """What one run of the program measured, in milliseconds.

    ``mean_ms`` has six significant digits; where only the block of the CompiledModel build was
    there, all times are rounded to 0.01 ms. ``init_ms`` is the time until the model was ready.
    ``warmup_runs`` is 0, and ``warmup_mean_ms`` None, when nothing was warmed up or the text does
    not tell. ``delegated`` counts the model's operators and those that its first delegate took;
    None when no line counts both. ``memory_bytes`` is by how much the program says that it grew at
    most, to six digits; None where it does not, as the CompiledModel build.
    """

    runs: int
    mean_ms: float
    minimum_ms: float
    maximum_ms: float
    median_ms: float | None
    init_ms: float | None
    warmup_runs: int
    warmup_mean_ms: float | None
    program: Program
    delegated: tuple[int, int] | None
    memory_bytes: int | None = None


def parse_benchmark(output: str | Iterable[str]) -> BenchmarkRun:
    """The measurement in ``output``, one text or its lines; see `read_log`.

    Raises:
        BenchmarkOutputError: flags the program ignored, no or several measurements, a dry run,
            figures that contradict each other, a failed run, or an end that is missing.
    """
    log = read_log(output)
    _refuse(log)
    stat, warmup = _series(log)
    program = _program(log)
    _check_stat(stat)
    _check_close(log, stat)
    return BenchmarkRun(
        runs=stat.runs,
        mean_ms=stat.mean,
        minimum_ms=stat.minimum,
        maximum_ms=stat.maximum,
        median_ms=stat.median,
        init_ms=_init_ms(log),
        warmup_runs=warmup.runs if warmup else 0,
        warmup_mean_ms=_positive(warmup.mean) if warmup and warmup.runs else None,
        program=program,
        delegated=log.delegated,
        memory_bytes=_memory_bytes(log),
    )


def _refuse(log: Log) -> None:
    """Raise for what makes every figure in the text worthless."""
    if log.flags is not None:
        raise BenchmarkOutputError(
            f"benchmark_model ignored unknown flags (unconsumed): {shorten(log.flags)}"
        )
    if log.failed:
        raise BenchmarkOutputError(f"benchmark_model says that it failed{log.words}")
    if log.torn is not None:
        raise BenchmarkOutputError(
            f"a line of benchmark_model's output is damaged: {shorten(log.torn)}"
        )
    closes = log.blocks + len(log.summaries)
    if log.starts > 1 or log.series > 2 or len(log.stats) > 2 or closes > 1:
        raise BenchmarkOutputError("the output holds several runs of benchmark_model, not one")
    if not (log.stats or closes):
        raise BenchmarkOutputError(f"benchmark_model measured nothing{log.words}")


def _program(log: Log) -> Program:
    """Which program it was, told by how its output closes."""
    if log.summaries:
        return "interpreter"
    if "Inference (avg)" in log.block_ms:
        return "compiled-model"
    raise BenchmarkOutputError(f"benchmark_model's output ends before its results{log.words}")


def _series(log: Log) -> tuple[Series, Series | None]:
    """The measurement and, where the text tells of it, the warm-up."""
    if log.blocks and not (log.stats or log.series or log.starts):
        return _block_series(log)
    # The program prints a line for a warm-up of no runs, too. Thus one line alone is a warm-up,
    # unless it stands behind the announcement of the second series.
    announced = log.stats[-1][0] if log.stats else 0
    measured = len(log.stats) == 2 or announced == 2
    if not measured or announced < log.series:
        raise BenchmarkOutputError(f"benchmark_model stopped before measuring{log.words}")
    return log.stats[-1][1], log.stats[0][1] if len(log.stats) == 2 else None


def _block_series(log: Log) -> tuple[Series, Series | None]:
    """The figures of the block, for want of stdout and its more precise ones."""
    times, runs = log.block_ms, log.block_runs
    count = runs.get("Inference (avg)", 0)
    if "Inference (avg)" not in times or (count and "Inference (max)" not in times):
        raise BenchmarkOutputError(f"benchmark_model's results end too early{log.words}")
    mean, minimum, maximum = (
        times.get(f"Inference ({name})", math.nan) for name in ("avg", "min", "max")
    )
    warmup = times.get("Warmup (avg)", math.nan)
    return (
        Series(count, mean, minimum, maximum, rounding_ms=2 * _BLOCK_MS),
        Series(runs.get("Warmup (avg)", 0), warmup, warmup, warmup),
    )


def _check_stat(stat: Series) -> None:
    """Raise for a series that took no time or contradicts itself."""
    if stat.runs == 0:
        raise BenchmarkOutputError("benchmark_model ran the model 0 times (a dry run?)")
    figures = {"minimum": stat.minimum, "mean": stat.mean, "maximum": stat.maximum}
    if stat.median is not None:
        figures["median"] = stat.median
    for name, figure in figures.items():
        if _positive(figure) is None:
            raise BenchmarkOutputError(
                f"benchmark_model reports a {name} of {figure:g} ms: "
                "nothing ran, or faster than the program can tell"
            )
    slack = stat.rounding_ms + stat.maximum * _AVERAGE_DIGITS
    if not all(stat.minimum - slack <= f <= stat.maximum + slack for f in figures.values()):
        listed = ", ".join(f"{name} {figure:g} ms" for name, figure in figures.items())
        raise BenchmarkOutputError(f"benchmark_model contradicts itself: {listed}")


def _check_close(log: Log, stat: Series) -> None:
    """Raise when the close speaks of another measurement than the ``count=`` line."""
    closing = log.summaries[0] if log.summaries else {}
    said = next((closing[name] for name in _SUMMARY_AVERAGES if name in closing), None)
    slack = stat.mean * _AVERAGE_DIGITS
    if log.blocks:
        said, slack = log.block_ms["Inference (avg)"], slack + _BLOCK_MS
        if log.block_runs["Inference (avg)"] != stat.runs:
            said = math.nan
    if said is not None and not abs(said - stat.mean) <= slack:
        raise BenchmarkOutputError(
            f"benchmark_model contradicts itself: {stat.runs} runs of {stat.mean:g} ms, "
            "but its results close with other figures"
        )


def _init_ms(log: Log) -> float | None:
    closing = log.summaries[0] if log.summaries else {}
    for value in (log.session_ms, closing.get("Init"), log.block_ms.get("Model initialization")):
        if value is not None and math.isfinite(value) and value >= 0:
            return value
    return None


def _memory_bytes(log: Log) -> int | None:
    grown = _positive(math.nan if log.grown_mib is None else log.grown_mib)
    return None if grown is None else round(grown * 2**20)


def _positive(value: float) -> float | None:
    return value if math.isfinite(value) and value > 0 else None
