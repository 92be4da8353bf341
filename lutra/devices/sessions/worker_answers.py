"""What a worker answers, as the outcomes that a session hands on.

A worker is a process full of others' code, maybe on another machine: its answers are JSON, and
nothing else is taken for granted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from lutra.devices.base import (
    FailureKind,
    Outcome,
    ProcessMemory,
    RequestFailure,
    Sample,
    SystemShare,
)
from lutra.devices.sessions.worker_client import WorkerDied
from lutra.errors import PermanentDeviceError
from lutra.text import printable_line

_FLAG = re.compile(r"[a-z_]{1,20}")
_LONGEST_MESSAGE = 500
_KINDS = get_args(FailureKind)


class Described(NamedTuple):
    """What a runtime says of itself when it is opened, and its process."""

    version: str
    delegate: str
    pid: int


def described(answer: Mapping[str, Any]) -> Described:
    """The answer to ``open``; raises `PermanentDeviceError`, with the worker's reason."""
    try:
        if answer.get("ok") is not True:
            raise PermanentDeviceError(_text(answer, "message"))
        version, delegate = _text(answer, "version"), _text(answer, "delegate")
        return Described(version, delegate, _whole(answer["pid"], "pid"))
    except (KeyError, TypeError) as error:
        raise PermanentDeviceError(f"the worker does not say what it opened: {error}") from error


def outcome_of(request_id: int, answer: Mapping[str, Any], process: int) -> Outcome:
    """The answer to ``time``: a sample, or a failure, also where its numbers cannot be.

    Raises `WorkerDied` for what is no answer: that worker is of no use any more.
    """
    try:
        if answer["ok"] is True:
            return _sample(request_id, answer, process)
        return _failure(request_id, answer)
    except ValueError as error:
        message = f"the worker says what cannot have been measured: {error}"
        return RequestFailure(request_id, "run", message, transient=False)
    except (KeyError, TypeError) as error:
        raise WorkerDied(
            f"the worker's answer cannot be read: {printable_line(str(error))}"
        ) from None


def is_fatal(answer: Mapping[str, Any]) -> bool:
    """Whether the worker says that its process can do no more."""
    return answer.get("ok") is not True and answer.get("fatal") is True


def _failure(request_id: int, answer: Mapping[str, Any]) -> RequestFailure:
    message = _text(answer, "message")
    if is_fatal(answer):
        return RequestFailure(request_id, "crash", message, transient=True)
    kind = answer["kind"]
    if kind not in _KINDS:
        raise TypeError("kind is not known")
    return RequestFailure(request_id, kind, message, transient=answer.get("transient") is True)


def _sample(request_id: int, answer: Mapping[str, Any], process: int) -> Sample:
    return Sample(
        request_id,
        tuple(_number(value, "block_ms") for value in _list(answer, "block_ms")),
        _whole(answer["runs_per_block"], "runs_per_block"),
        process,
        _number(answer["load_seconds"], "load_seconds"),
        _number(answer["busy_seconds"], "busy_seconds"),
        _number(answer["timed_seconds"], "timed_seconds"),
        _nodes(answer),
        device_ms=_number_if_any(answer, "device_ms"),
        clock_mhz=_number_if_any(answer, "clock_mhz"),
        flags=_flags(answer),
        system=_system(answer.get("system")),
        memory=_memory(answer.get("memory")),
    )


def _system(answer: Any) -> SystemShare | None:
    if answer is None:
        return None
    if not isinstance(answer, dict):
        raise TypeError("system is no object")
    return SystemShare(
        _number(answer["waited_share"], "waited_share"),
        _number(answer["stolen_share"], "stolen_share"),
        _whole(answer["preemptions"], "preemptions"),
        _whole(answer["page_faults"], "page_faults"),
        _number(answer["others_cores"], "others_cores"),
    )


def _memory(answer: Any) -> ProcessMemory | None:
    if answer is None:
        return None
    if not isinstance(answer, dict):
        raise TypeError("memory is no object")
    return ProcessMemory(
        _whole(answer["peak_bytes"], "peak_bytes"),
        _whole(answer["running_bytes"], "running_bytes"),
    )


def _nodes(answer: Mapping[str, Any]) -> tuple[int, int] | None:
    if answer.get("nodes") is None:
        return None
    counts = [_whole(value, "nodes") for value in _list(answer, "nodes")]
    if len(counts) != 2:
        raise TypeError("nodes are not two")
    return counts[0], counts[1]


def _flags(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of their own: a table keeps them with commas in between."""
    values = _list(answer, "flags") if "flags" in answer else []
    if not all(isinstance(flag, str) and _FLAG.fullmatch(flag) for flag in values):
        raise TypeError("flags are not known")
    return tuple(values)


def _text(answer: Mapping[str, Any], name: str) -> str:
    value = answer[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return printable_line(value)[:_LONGEST_MESSAGE]


def _list(answer: Mapping[str, Any], name: str) -> list[Any]:
    value = answer[name]
    if not isinstance(value, list):
        raise TypeError(f"{name} is no list")
    return value


def _number(value: Any, name: str) -> float:
    """A number of any size: whether it can be is for what it becomes to say."""
    if type(value) not in (int, float):
        raise TypeError(f"{name} is no number")
    return value  # type: ignore[no-any-return]


def _number_if_any(answer: Mapping[str, Any], name: str) -> float | None:
    return None if answer.get(name) is None else _number(answer[name], name)


def _whole(value: Any, name: str) -> int:
    if type(value) is not int:
        raise TypeError(f"{name} is no whole number")
    return value
