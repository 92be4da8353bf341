"""Every output of benchmark_model gives the figures it holds, or one line that says why not."""

import dataclasses
import itertools
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lutra.devices.benchmark_model.output import BenchmarkOutputError, BenchmarkRun, parse_benchmark
from tests.shared_data import shared_data

# The logs are complete ones, in the words of TensorFlow's benchmark_model.cc of the year and of
# LiteRT's benchmark_litert_model.h.
YEAR_2018 = """\
STARTING!
Num runs: [50]
Inter-run delay (seconds): [-1]
Num threads: [1]
Warmup runs: [1]
Graph: [mobilenet_v1_1.0_224_quant.tflite]
Input layers: []
Use nnapi : [0]
Loaded model mobilenet_v1_1.0_224_quant.tflite
resolved reporter
Initialized session in 4.452ms
Running benchmark for 1 iterations
count=1 curr=146161

Running benchmark for 50 iterations
count=50 first=137789 curr=137254 min=137079 max=143416 avg=137722 std=896

Average inference timings in us: Warmup: 146161, Init: 4452, no stats: 137722
"""

INTERPRETER = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Num threads: [4]
INFO: Graph: [/data/local/tmp/m.tflite]
INFO: #threads used for CPU inference: [4]
INFO: Loaded model /data/local/tmp/m.tflite
INFO: Initialized TensorFlow Lite runtime.
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 12 out of 14 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 3 \
partitions for the main graph.
INFO: The input model file size (MB): 13.9785
INFO: Initialized session in 18.352ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if \
exceeding 150 seconds.
INFO: count=7 first=114713 curr=71901 min=71200 max=114713 avg=80291.1 std=14100

INFO: Running benchmark for at least 20 iterations and at least 1 seconds but terminate if \
exceeding 150 seconds.
INFO: count=20 first=71051 curr=81420 min=65134 max=83514 avg=73593.3 std=4658

INFO: Inference timings in us: Init: 18352, First inference: 114713, Warmup (avg): 80291.1, \
Inference (avg): 73593.3
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only \
APPROXIMATE to the actual memory footprint of the model at runtime.
INFO: Memory footprint delta from the start of the tool (MB): init=7.62891 overall=17.1914
"""

PROFILE = """\
INFO: Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t\
[times called]\t[Name]
\t         AllocateTensors\t    0.291\t    0.291\t100.000%\t100.000%\t   452.000\t        1\t\
AllocateTensors/0

Number of nodes executed: 1
============================== Summary by node type ==============================
\t             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t\
[times called]
\t         AllocateTensors\t        1\t     0.291\t   100.000%\t   100.000%\t   452.000\t        1

Timings (microseconds): count=1 curr=291
Memory (bytes): count=0
1 nodes observed



Timings (microseconds): count=20 first=70051 curr=80420 min=64134 max=82514 avg=72593.3 std=4658
Memory (bytes): count=0
5 nodes observed
"""

COMPILED_STDOUT = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Num threads: [1]
INFO: The input model file size (MB): 3.27774
INFO: Initialized session in 4.478ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if \
exceeding 150 seconds.
INFO: count=1055 first=1033 curr=473 min=443 max=1033 avg=465.319 std=18 p5=459 median=463 p95=478

INFO: Running benchmark for at least 1000 iterations and at least 1 seconds but terminate if \
exceeding 150 seconds.
INFO: count=2112 first=463 curr=459 min=442 max=979 avg=464.545 std=13 p5=460 median=462 p95=478

"""

COMPILED_EARLY_STDERR = """\
INFO: [litert/tools/benchmark_litert_model.cc:137] Loading model from: fc_fp32.tflite
WARNING: [litert/runtime/accelerators/auto_registration.cc:46] NPU accelerator could not be \
loaded and registered: kLiteRtStatusErrorInvalidArgument.
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1758455104.504065   62590 accelerator_registry.cc:51] RegisterAccelerator: \
ptr=0x559f093a7dd0, name=CpuAccelerator
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 1 out of 1 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 \
partitions for subgraph 0.
"""

COMPILED_BLOCK = """\
INFO: [./litert/tools/benchmark_litert_model.h:81] 
========== BENCHMARK RESULTS ==========
INFO: [./litert/tools/benchmark_litert_model.h:82] Model initialization: 4.48 ms
INFO: [./litert/tools/benchmark_litert_model.h:84] Warmup (first):       1.03 ms
INFO: [./litert/tools/benchmark_litert_model.h:86] Warmup (avg):         0.47 ms (1055 runs)
INFO: [./litert/tools/benchmark_litert_model.h:88] Inference (avg):      0.46 ms (2112 runs)
INFO: [./litert/tools/benchmark_litert_model.h:92] Inference (min):      0.44 ms
INFO: [./litert/tools/benchmark_litert_model.h:94] Inference (max):      0.98 ms
INFO: [./litert/tools/benchmark_litert_model.h:96] Inference (std):      0.01
INFO: [./litert/tools/benchmark_litert_model.h:103] Throughput:           525.55 MB/s
INFO: [./litert/tools/benchmark_litert_model.h:112] 
Memory Usage:
INFO: [./litert/tools/benchmark_litert_model.h:114] Init footprint:       8.94 MB
INFO: [./litert/tools/benchmark_litert_model.h:123] Peak memory usage not available.
INFO: [./litert/tools/benchmark_litert_model.h:126] ======================================

"""  # noqa: W291

COMPILED = COMPILED_EARLY_STDERR + COMPILED_STDOUT + COMPILED_BLOCK
COMPILED_STDOUT_FIRST = COMPILED_STDOUT + COMPILED_EARLY_STDERR + COMPILED_BLOCK

COMPILED_RUN = BenchmarkRun(
    runs=2112,
    mean_ms=464.545 / 1000,
    minimum_ms=0.442,
    maximum_ms=0.979,
    median_ms=0.462,
    init_ms=4.478,
    warmup_runs=1055,
    warmup_mean_ms=465.319 / 1000,
    program="compiled-model",
    delegated=(1, 1),
)


def refusal(output: str | list[str]) -> str:
    with pytest.raises(BenchmarkOutputError) as caught:
        parse_benchmark(output)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 300
    return message


def test_the_log_of_2018() -> None:
    assert parse_benchmark(YEAR_2018) == BenchmarkRun(
        runs=50,
        mean_ms=137.722,
        minimum_ms=137.079,
        maximum_ms=143.416,
        median_ms=None,
        init_ms=4.452,
        warmup_runs=1,
        warmup_mean_ms=146.161,
        program="interpreter",
        delegated=None,
    )


def test_the_real_log() -> None:
    log = shared_data("benchmark_model_logs") / "proxyless_mobile_10_latency.txt"
    run = parse_benchmark(log.read_text(encoding="utf-8"))
    assert (run.runs, run.mean_ms, run.init_ms) == (100, 80.6702, 47.967)
    assert (run.minimum_ms, run.maximum_ms) == (79.589, 83.607)
    assert (run.warmup_runs, run.warmup_mean_ms) == (10, 83.4966)
    assert run.program == "interpreter"


def test_the_interpreter_build() -> None:
    assert parse_benchmark(INTERPRETER) == BenchmarkRun(
        runs=20,
        mean_ms=73.5933,
        minimum_ms=65.134,
        maximum_ms=83.514,
        median_ms=None,
        init_ms=18.352,
        warmup_runs=7,
        warmup_mean_ms=80.2911,
        program="interpreter",
        delegated=(14, 12),
        memory_bytes=round(17.1914 * 2**20),
    )


@pytest.mark.parametrize("log", [INTERPRETER + PROFILE, PROFILE + INTERPRETER])
def test_a_profile_is_no_measurement(log: str) -> None:
    assert parse_benchmark(log) == parse_benchmark(INTERPRETER)


@pytest.mark.parametrize("log", [COMPILED, COMPILED_STDOUT_FIRST])
def test_the_compiled_model_build_is_read_from_its_precise_lines(log: str) -> None:
    assert parse_benchmark(log) == COMPILED_RUN


def test_the_block_alone_gives_rounded_figures() -> None:
    run = parse_benchmark(COMPILED_EARLY_STDERR + COMPILED_BLOCK)
    assert (run.runs, run.mean_ms, run.minimum_ms, run.maximum_ms) == (2112, 0.46, 0.44, 0.98)
    assert (run.warmup_runs, run.warmup_mean_ms, run.init_ms) == (1055, 0.47, 4.48)
    assert (run.program, run.median_ms) == ("compiled-model", None)


def test_a_text_may_come_as_lines() -> None:
    assert parse_benchmark(COMPILED.splitlines()) == COMPILED_RUN
    assert parse_benchmark(COMPILED.splitlines(keepends=True)) == COMPILED_RUN


@pytest.mark.parametrize(
    "disguise",
    [
        lambda line: f"{line}\r",
        lambda line: f"{line}\r\r",
        lambda line: f"\x1b[1;31m{line}\x1b[0m",
        lambda line: f"I/tflite  ( 4711): {line}",
        lambda line: f"11-22 12:15:00.123  4711  4712 I tflite  : {line}",
        lambda line: f"I0000 00:00:1758455104.504065   62590 benchmark_model.cc:123] {line}",
        lambda line: f"  {line}\t",
    ],
)
def test_what_a_terminal_or_a_logger_adds_is_taken_off(disguise: Callable[[str], str]) -> None:
    log = "".join(f"{disguise(line)}\n" for line in INTERPRETER.splitlines())
    assert parse_benchmark(log) == parse_benchmark(INTERPRETER)


def interpreter_log(warmup: str, measured: str, average: str) -> str:
    """A log whose two series print ``warmup`` and ``measured``."""
    return (
        "INFO: STARTING!\nINFO: Initialized session in 0.352ms.\n"
        "INFO: Running benchmark for at least 1 iterations\n"
        f"INFO: {warmup}\n\n"
        "INFO: Running benchmark for at least 50 iterations\n"
        f"INFO: {measured}\n\n"
        "INFO: Inference timings in us: Init: 352, First inference: 3, Warmup (avg): 3, "
        f"Inference (avg): {average}\n"
    )


@pytest.mark.parametrize(
    ("line", "median"),
    [
        ("count=1 curr=42985", None),
        ("count=1 curr=42985 p5=42985 median=42985 p95=42985", 42.985),
        ("count=9 curr=42985(all same)", None),
        ("count=9 curr=42985(all same) p5=42985 median=42985 p95=42985", 42.985),
    ],
)
def test_runs_of_one_time(line: str, median: float | None) -> None:
    run = parse_benchmark(interpreter_log("count=3 curr=7(all same)", line, "42985"))
    assert run.mean_ms == run.minimum_ms == run.maximum_ms == 42.985
    assert run.median_ms == median
    assert (run.warmup_runs, run.warmup_mean_ms) == (3, 0.007)


@pytest.mark.parametrize("line", ["count=0", "count=0 p5=0 median=0 p95=0"])
def test_a_warm_up_may_be_switched_off(line: str) -> None:
    run = parse_benchmark(interpreter_log(line, "count=1 curr=5", "5"))
    assert (run.warmup_runs, run.warmup_mean_ms) == (0, None)


def test_an_average_of_a_second_is_printed_with_an_exponent() -> None:
    line = "count=3 first=1234560 curr=1234570 min=1234560 max=1234580 avg=1.23457e+06 std=8"
    assert parse_benchmark(interpreter_log("count=0", line, "1.23457e+06")).mean_ms == 1234.57


def test_the_first_delegate_counts() -> None:
    """XNNPACK takes what the GPU left and counts the GPU's share as one node."""
    gpu = "INFO: Replacing 10 out of 14 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding"
    assert parse_benchmark(f"{gpu} 2 partitions.\n{INTERPRETER}").delegated == (14, 10)


def test_some_words_on_delegates_tell_no_total() -> None:
    log = INTERPRETER.replace("12 out of 14 node(s)", "12 node(s)") + (
        "INFO: Explicitly applied XNNPACK delegate, and the model graph will be completely "
        "executed by the delegate.\n"
    )
    assert parse_benchmark(log).delegated is None


def test_ignored_flags_are_named() -> None:
    log = INTERPRETER.replace(
        "INFO: Num threads", "WARN: Unconsumed cmdline flags: --use_gpu=true --x=1\nINFO: Num", 1
    )
    assert "--use_gpu=true --x=1" in refusal(log)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", "empty"),
        ("\n\r\n \x1b[0m", "empty"),
        ("sh: benchmark_model: Permission denied", "Permission denied"),
        ("INFO: STARTING!\nSegmentation fault \n", "Segmentation fault"),
        (
            "INFO: STARTING!\nERROR: Model provided has model identifier 'abcd'\n"
            "ERROR: Failed to load model x.tflite\nERROR: Benchmarking failed.\nINFO: bye\n",
            "Failed to load model x.tflite",
        ),
    ],
)
def test_what_the_program_said_instead_is_repeated(log: str, words: str) -> None:
    assert words in refusal(log)


def test_a_long_complaint_is_shortened() -> None:
    assert refusal("x" * 5000).endswith("xxx...")


def test_a_run_that_failed_while_measuring_is_refused() -> None:
    """The program counts the runs that failed, too, and prints their times."""
    log = f"{INTERPRETER}ERROR: Failed to invoke!\nERROR: Benchmarking failed.\n"
    assert "Failed to invoke!" in refusal(log)


def test_a_dry_run_is_refused() -> None:
    assert "0 times" in refusal(interpreter_log("count=0", "count=0", "0"))
    block = COMPILED_BLOCK.replace("0.46 ms (2112", "0.00 ms (0").replace("Inference (m", "(")
    assert "0 times" in refusal(block)


@pytest.mark.parametrize(
    "line",
    [
        "count=2 curr=0(all same)",
        "count=2 first=1 curr=2 min=0 max=2 avg=1 std=0",
        "count=2 first=1 curr=2 min=1 max=2 avg=nan std=0",
        "count=2 first=1 curr=2 min=1 max=inf avg=1.5 std=0",
        "count=2 first=1 curr=2 min=-4 max=2 avg=1.5 std=0",
        "count=2 first=1 curr=2 min=1 max=2 avg=1e+999 std=0",
    ],
)
def test_a_time_that_is_none_is_refused(line: str) -> None:
    assert "benchmark_model reports a" in refusal(interpreter_log("count=0", line, "1"))


@pytest.mark.parametrize(
    "line",
    [
        "count=2 first=1 curr=2 min=3 max=9 avg=2 std=0",
        "count=2 first=1 curr=2 min=1 max=3 avg=3.1 std=0",
        "count=2 first=1 curr=2 min=1 max=3 avg=2 std=0 p5=1 median=4 p95=4",
    ],
)
def test_figures_that_contradict_each_other_are_refused(line: str) -> None:
    assert "contradicts" in refusal(interpreter_log("count=0", line, "2"))


def test_a_close_of_another_run_is_refused() -> None:
    assert "contradicts" in refusal(interpreter_log("count=0", "count=1 curr=5", "6"))
    assert "contradicts" in refusal(COMPILED.replace("0.46 ms (2112", "0.48 ms (2112"))
    assert "contradicts" in refusal(COMPILED.replace("0.46 ms (2112", "0.46 ms (2111"))


@pytest.mark.parametrize("log", [INTERPRETER + INTERPRETER, YEAR_2018 + COMPILED])
def test_several_runs_are_refused(log: str) -> None:
    assert "several runs" in refusal(log)


def test_a_run_that_died_and_one_that_did_not_are_several() -> None:
    died = INTERPRETER[: INTERPRETER.index("INFO: count=20")]
    assert "several runs" in refusal(died + INTERPRETER)


def test_a_warm_up_alone_is_no_measurement() -> None:
    died = INTERPRETER[: INTERPRETER.index("INFO: count=20")]
    assert "before measuring" in refusal(f"{died}Killed\n")
    close = INTERPRETER[INTERPRETER.index("INFO: Inference timings") :]
    assert "before measuring" in refusal(died + close)


def test_the_measurement_counts_without_its_warm_up() -> None:
    lines = [line for line in INTERPRETER.splitlines() if "count=7" not in line]
    run = parse_benchmark(lines)
    assert (run.mean_ms, run.warmup_runs) == (73.5933, 0)


@pytest.mark.parametrize(
    "line", ["count=7", "count=7 curr=3", "count=7 first=3 INFO: x", "count=seven", "count="]
)
def test_a_damaged_line_is_refused(line: str) -> None:
    assert "damaged" in refusal(interpreter_log(line, "count=1 curr=5", "5"))


def test_only_the_first_million_characters_count() -> None:
    noise = "noise " * 100
    assert "measured nothing" in refusal(f"{noise}\n" * 2000 + INTERPRETER)
    assert parse_benchmark(INTERPRETER + f"{noise}\n" * 2000) == parse_benchmark(INTERPRETER)
    endless = itertools.chain(INTERPRETER.splitlines(), itertools.repeat(noise))
    assert parse_benchmark(endless) == parse_benchmark(INTERPRETER)


@pytest.mark.parametrize(
    "unit",
    ["a", "INFO: ", "\x1b[", "\x1b[0", "count=1 ", "\n", "[a", "a:1] ", "A (", "I/a (", "Aa: 1"],
)
@pytest.mark.parametrize("start", ["", "Inference timings in us: ", "count=", "===", "Replacing 1"])
def test_long_lines_take_no_long_time(start: str, unit: str) -> None:
    began = time.perf_counter()
    refusal(start + unit * (1_000_000 // len(unit)) + "\n")
    assert time.perf_counter() - began < 10


TIMES = st.integers(min_value=1, max_value=10**8)


@st.composite
def series(draw: st.DrawFn, percentiles: bool) -> tuple[list[int], str, str]:
    """Times in us, the line that the program prints of them, and their average as it prints it."""
    times = draw(st.lists(TIMES, min_size=1, max_size=30))
    average = f"{sum(times) / len(times):.6g}"
    count, least, most = len(times), min(times), max(times)
    line = f"count={count} first={times[0]} curr={times[-1]} min={least} max={most} "
    line += f"avg={average} std={draw(st.integers(-(2**63), 2**63 - 1))}"
    if least == most:
        line = f"count={count} curr={times[-1]}{'(all same)' if count > 1 else ''}"
    if percentiles:
        low, middle, high = (sorted(times)[count * part // 100] for part in (5, 50, 95))
        line += f" p5={low} median={middle} p95={high}"
    return times, line, average


def check_figures(run: BenchmarkRun, times: list[int], *, off_ms: float = 0) -> None:
    assert run.runs == len(times)
    assert run.mean_ms == pytest.approx(sum(times) / len(times) / 1000, rel=1e-5, abs=off_ms)
    assert run.minimum_ms == pytest.approx(min(times) / 1000, abs=off_ms)
    assert run.maximum_ms == pytest.approx(max(times) / 1000, abs=off_ms)


@given(series(percentiles=False), series(percentiles=False), st.sampled_from(["INFO: ", ""]))
def test_any_interpreter_log_gives_its_figures(
    warmup: tuple[list[int], str, str], measured: tuple[list[int], str, str], prefix: str
) -> None:
    log = interpreter_log(warmup[1], measured[1], measured[2]).replace("INFO: ", prefix)
    run = parse_benchmark(log)
    check_figures(run, measured[0])
    assert (run.warmup_runs, run.median_ms) == (len(warmup[0]), None)


def compiled_logs(warmup: list[int], times: list[int], lines: tuple[str, str]) -> tuple[str, str]:
    """Stdout and stderr of the CompiledModel build."""
    stdout = interpreter_log(*lines, "0")
    mark = "INFO: [./litert/tools/benchmark_litert_model.h:81] "
    stderr = (
        f"{mark}\n========== BENCHMARK RESULTS ==========\n"
        f"{mark}Model initialization: 0.35 ms\n"
        f"{mark}Warmup (first):       {warmup[0] / 1000:.2f} ms\n"
        f"{mark}Warmup (avg):         {sum(warmup) / len(warmup) / 1000:.2f} ms "
        f"({len(warmup)} runs)\n"
        f"{mark}Inference (avg):      {sum(times) / len(times) / 1000:.2f} ms ({len(times)} runs)\n"
        f"{mark}Inference (min):      {min(times) / 1000:.2f} ms\n"
        f"{mark}Inference (max):      {max(times) / 1000:.2f} ms\n"
        f"{mark}Inference (std):      0.01\n"
    )
    return stdout[: stdout.index("INFO: Inference timings")], stderr


@given(series(percentiles=True), series(percentiles=True))
def test_any_compiled_model_log_gives_its_figures(
    warmup: tuple[list[int], str, str], measured: tuple[list[int], str, str]
) -> None:
    stdout, stderr = compiled_logs(warmup[0], measured[0], (warmup[1], measured[1]))
    for log in (stdout + stderr, stderr + stdout):
        run = parse_benchmark(log)
        check_figures(run, measured[0])
        assert run.median_ms == sorted(measured[0])[len(measured[0]) // 2] / 1000
        assert (run.program, run.init_ms) == ("compiled-model", 0.352)
    if min(measured[0]) >= 10:
        check_figures(parse_benchmark(stderr), measured[0], off_ms=0.00501)


def parsed(output: str | list[str]) -> BenchmarkRun | None:
    """What is read of the output; anything raised but a refusal fails the test."""
    try:
        return parse_benchmark(output)
    except BenchmarkOutputError as error:
        message = str(error)
    assert message.isprintable()
    return None


WORDS = st.sampled_from(
    [
        *INTERPRETER.splitlines(keepends=True),
        *COMPILED.splitlines(keepends=True),
        *["count=", "INFO: ", "\n", "\r", "\x1b[31m", "=", "nan", "9" * 400, "e+999", "-1", "\0"],
    ]
)


@given(st.one_of(st.text(), st.lists(WORDS | st.text(max_size=3)).map("".join)))
@example("count=²\n")
@example("\ud800 count=1 curr=1\n")
def test_no_text_raises_anything_else(text: str) -> None:
    parsed(text)
    parsed(text.split("\n"))


@pytest.mark.parametrize("log", [YEAR_2018, INTERPRETER, INTERPRETER + PROFILE, COMPILED])
def test_a_log_cut_off_anywhere_gives_the_same_or_nothing(log: str) -> None:
    whole = parse_benchmark(log)
    results = {parsed(log[:end]) for end in range(len(log))}
    less = dataclasses.replace(whole, memory_bytes=None)  # said behind the close
    assert results <= {whole, less, None}
    assert (less in results) == (log != YEAR_2018)  # which closes with its last line


def test_a_log_with_stdout_first_may_only_lose_its_delegate() -> None:
    stdout = "".join(f"{line}\n" for line in INTERPRETER.splitlines() if "Replacing" not in line)
    stderr = "".join(f"{line}\n" for line in INTERPRETER.splitlines() if "Replacing" in line)
    whole = parse_benchmark(stdout + stderr)
    results = {parsed((stdout + stderr)[:end]) for end in range(len(stdout + stderr))}
    less = dataclasses.replace(whole, delegated=None)
    assert results == {less, dataclasses.replace(less, memory_bytes=None), None}
    whole = parse_benchmark(COMPILED_STDOUT_FIRST)
    results = {parsed(COMPILED_STDOUT_FIRST[:end]) for end in range(len(COMPILED_STDOUT_FIRST))}
    assert results == {whole, None}
