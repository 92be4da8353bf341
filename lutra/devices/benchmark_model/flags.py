"""What TFLite's benchmark_model is told, and how it shows that it did not listen.

Two programs have that name. The interpreter build (classic) has delegates behind flags of their
own; the CompiledModel build (today's documented downloads) has accelerators. Neither refuses a
flag it does not know: it warns, times the CPU and exits with 0. So does a delegate that cannot be
created. Both must end in an error, never in a row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from lutra.devices.base import RuntimeConfig, TimingRequest
from lutra.errors import UsageError
from lutra.text import first_words

RUNTIME = "benchmark_model"
FORMAT = "tflite"  # of its model files
OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"delegate": ("xnnpack", "none", "gpu", "nnapi", "npu"), "gpu_fp16": ("on", "off")}
)
_LEAST_RUNS = 3
# Without the second flag the CPU takes what the accelerator does not, unsaid.
_FULLY = ("--use_cpu=false", "--require_full_delegation=true")
_PROGRAM_FLAGS: dict[str, dict[str, tuple[str, ...]]] = {
    "interpreter": {
        "xnnpack": ("--use_xnnpack=true",),
        "none": ("--use_xnnpack=false",),
        "gpu": ("--use_gpu=true", "--gpu_precision_loss_allowed={fp16}"),
        "nnapi": ("--use_nnapi=true",),
    },
    "compiled-model": {
        "xnnpack": ("--use_cpu=true",),
        "gpu": ("--use_gpu=true", *_FULLY, "--allow_fp16={fp16}"),
        "npu": ("--use_npu=true", *_FULLY),
    },
}
PROGRAMS = tuple(_PROGRAM_FLAGS)  # docs/decisions.md: Which benchmark_model
_Sentences = Sequence[tuple[re.Pattern[str], re.Pattern[str]]]

# What a line says of a delegate: a beginning and what comes behind it. As one expression they would
# be tried from each beginning of a line of a megabyte.
_APPLIED = (
    (
        re.compile(r"Explicitly applied "),
        re.compile(r" delegate, and the model graph will be (?:completely|partially) executed"),
    ),
)
_NOT_APPLIED = tuple(
    (re.compile(beginning), re.compile(behind))
    for beginning, behind in (
        (r"graph will not be executed by the delegate", r""),
        (r"(?:GPU|NNAPI|NPU)\b", r"\b(?:is|are) (?:not supported|unsupported)"),
        (
            r"(?:[Ff]ailed to|[Cc]ould ?n[o']t|[Uu]nable to) (?:apply|create)\b",
            r"\b(?:delegate|accelerator)",
        ),
    )
)


def delegate_of(config: RuntimeConfig) -> str:
    """The delegate that a config asks for."""
    return config.options.get("delegate", OPTIONS["delegate"][0])


def flags(config: RuntimeConfig, program: str, request: TimingRequest) -> list[str]:
    """The flags of one run, but ``--graph``; raises `UsageError` for a delegate it lacks."""
    offered = _PROGRAM_FLAGS[program]
    delegate = delegate_of(config)
    if delegate not in offered:
        raise UsageError(
            f"this {RUNTIME} (the {program} build) has no delegate '{delegate}';"
            f" it has: {', '.join(offered)}"
        )
    fp16 = "false" if config.options.get("gpu_fp16") == "off" else "true"
    return [
        f"--num_threads={config.threads}",
        f"--num_runs={_LEAST_RUNS}",
        f"--min_secs={request.seconds:g}",
        f"--max_secs={math.ceil(request.limit_seconds)}",
        "--warmup_runs=1",
        f"--warmup_min_secs={request.warmup_seconds:g}",
        *(flag.format(fp16=fp16) for flag in offered[delegate]),
    ]


def refusal(config: RuntimeConfig, program: str, output: str, taken: int | None) -> str | None:
    """Why a run does not count, as it went on without the delegate asked for; None if it counts.

    ``taken`` is how many operators the delegate took, where the output tells.
    """
    delegate = delegate_of(config)
    if delegate in ("xnnpack", "none"):
        return None
    for line in output.splitlines():
        if _says(_NOT_APPLIED, line):
            return first_words(line)
    applied = any(_says(_APPLIED, line) for line in output.splitlines())
    if program == "interpreter" and not taken and not applied:
        return f"it does not say that the delegate '{delegate}' took any of the model"
    return None


def _says(sentences: _Sentences, line: str) -> bool:
    return any(
        (found := beginning.search(line)) is not None and behind.search(line, found.end())
        for beginning, behind in sentences
    )
