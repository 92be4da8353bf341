"""Targets: what devices and the programs on them say."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from adbutils import AdbConnection
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from lutra.cli.main import run
from lutra.devices import registry
from lutra.devices.android import AndroidDevice
from lutra.devices.base import (
    DeviceInfo,
    Outcome,
    RequestFailure,
    RuntimeConfig,
    Sample,
    TimingRequest,
)
from lutra.devices.benchmark_model.flags import PROGRAMS, RUNTIME, refusal
from lutra.devices.benchmark_model.output import BenchmarkOutputError, parse_benchmark
from lutra.devices.benchmark_model.session import _Stream
from lutra.devices.remote import adb_shell
from lutra.devices.remote.channel import Channel, LineReader
from lutra.devices.remote.probe import parse_facts
from lutra.devices.remote.shell import Finished, Shell
from lutra.devices.sessions.board_python import ask_python
from lutra.devices.sessions.worker_client import WorkerClient
from lutra.devices.sessions.worker_session import WorkerSession
from lutra.errors import LutraError
from lutra.profiler.statistics import summarise, visit_from_sample
from tests.devices.benchmark_model import test_output as logs
from tests.fuzz.grammar import ESCAPES, damaged, edited_json, edited_lines, json_bytes
from tests.fuzz.oracle import require, require_harmless, said
from tests.fuzz.target import Target

_CHUNKS = (1, 7, 512, 1 << 16)


class ScriptedChannel(Channel):
    """A program that says the given bytes in pieces, then ends or goes silent; none is waited for.

    The first byte says which: how large the pieces are, and how it ends.
    """

    def __init__(self, data: bytes) -> None:
        how = data[0] if data else 0
        self._data, self._at = data[1:], 0
        self._step = max(_CHUNKS[how % len(_CHUNKS)], len(self._data) >> 10)
        self._silent = bool(how & 0x80)

    def write(self, data: bytes) -> None:
        """It does not listen."""

    def read(self, seconds: float) -> bytes | None:
        chunk = self._data[self._at : self._at + self._step]
        self._at += len(chunk)
        return None if not chunk and self._silent else chunk

    def ending(self) -> str:
        return "exit status 1"

    def kill(self) -> None:
        self._data = b""

    def close(self) -> None:
        self._data = b""


class ScriptedShell(Shell):
    """A device that answers every command with the same bytes, our mark for MARK."""

    spec = "ssh:fuzzed"
    connected = True

    def __init__(self, data: bytes) -> None:
        self._data = data

    def start(self, command: str) -> Channel:
        found = re.search(r"lutra-[0-9a-f]{16}", command)
        return ScriptedChannel(self._data.replace(b"MARK", (found[0] if found else "").encode()))

    def send(self, files: Mapping[str, Path | bytes]) -> None:
        """It takes everything."""

    def connect(self) -> None:
        """It is connected."""

    def close(self) -> None:
        """Nothing is held."""


def _require_time(value: float | None, what: str) -> None:
    require(value is not None and math.isfinite(value) and value > 0, f"{what} is {value!r}")


# benchmark_model


def _read_log(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for delegate in ("gpu", "nnapi", "xnnpack"):
        for program in PROGRAMS:
            config = RuntimeConfig(RUNTIME, options={"delegate": delegate})
            _ = refusal(config, program, text, None)
    try:
        found = parse_benchmark(text)
    except BenchmarkOutputError as error:
        require_harmless(str(error))
        return
    for value in (found.mean_ms, found.minimum_ms, found.maximum_ms):
        _require_time(value, "a time")
    require(found.minimum_ms <= 1.01 * found.maximum_ms, f"{found}")
    require(found.runs > 0 and found.warmup_runs >= 0, f"{found}")
    for optional in (found.median_ms, found.warmup_mean_ms):
        if optional is not None:
            _require_time(optional, "a time")
    if found.delegated is not None:
        require(0 <= found.delegated[1] <= found.delegated[0], f"{found}")


def _read_stream(data: bytes) -> None:
    """The output of a whole batch of visits."""
    channel = ScriptedChannel(data.replace(b"MARK", b"lutra-mark"))
    stream = _Stream(LineReader(channel), "lutra-mark")
    stream.check_sizes({"000000.model": 100})
    while (ended := stream.next(0.05)) is not None:
        require(0 <= ended[0] <= 255, f"a status of {ended[0]}")


_LOGS = (
    logs.YEAR_2018,
    logs.INTERPRETER,
    logs.PROFILE,
    logs.COMPILED_STDOUT,
    logs.INTERPRETER + logs.PROFILE,
)
_STRANGE_LINES = (
    "INFO: STARTING!",
    "count=0",
    "count=1 curr=0",
    "count=20 first=1 curr=1 min=1 max=1 avg=nan std=0",
    "count=99999999999999999999",
    "count=1 curr=1e308",
    "INFO: Unconsumed cmdline flags: --use_gpu=true",
    "ERROR: Benchmarking failed.",
    "Replacing 999999999 out of 1 node(s) with delegate",
    "========== BENCHMARK RESULTS ==========",
    "Inference (avg): 1.00 ms (0 runs)",
    "GPU " * 20_000,
    "Failed to apply " * 5000,
    "I0000 00:00:00.000000 1 x.cc:1] " * 2000,
    "[" * 50_000,
    "=" * 50_000,
    ESCAPES,
)


@st.composite
def _streams(draw: DrawFn) -> bytes:
    """A batch: the sizes, then logs and statuses, some of them strange."""
    pieces = [draw(st.binary(min_size=1, max_size=1)), b"100 000000.model\nMARK 0\n"]
    for _ in range(draw(st.integers(0, 3))):
        pieces.append(draw(edited_lines(_LOGS, _STRANGE_LINES)))
        pieces.append(b"\n" + draw(st.sampled_from(_MARKS)) + b"\n")
    return b"".join(pieces)


_MARKS = (
    b"MARK 0", b"MARK 1", b"MARK 139", b"MARK", b"MARK ", b"MARK x", b"MARK 0 0", b"MARK0",
    b"MARK -1",
    b"MARK 99999999999999999999", b"MARK \xff", b"MARK 1_0", b" MARK 0", b"MARK 0\r", b"MARKMARK 0",
)  # fmt: skip


# the worker


def _ask_worker(data: bytes) -> None:
    """Open a runtime and time two models, whatever the worker answers."""
    session = WorkerSession(
        lambda: WorkerClient(ScriptedChannel(data)), RuntimeConfig("onnxruntime"), (0,)
    )
    try:
        described = session.describe()
        for text in (described.version, described.delegate):
            require(isinstance(text, str), f"the runtime describes itself as {described}")
        requests = [TimingRequest(number, Path("m.onnx")) for number in (1, 2)]
        outcomes = list(session.measure(requests))
    finally:
        session.close()
    require(len(outcomes) == len(requests), f"{len(outcomes)} outcomes")
    for outcome in outcomes:
        _require_outcome(outcome)


def _require_outcome(outcome: Outcome) -> None:
    if isinstance(outcome, RequestFailure):
        require(isinstance(outcome.message, str), f"a message of {outcome.message!r}")
        require(
            outcome.kind in ("load", "run", "crash", "timeout", "link"), f"kind {outcome.kind!r}"
        )
        return
    require(bool(outcome.block_ms), "a sample without blocks")
    for block in outcome.block_ms:
        _require_time(block, "a block")
    visit = visit_from_sample(outcome, 1, outcome.process)
    for value in (visit.low_ms, visit.median_ms, visit.minimum_ms):
        _require_time(value, "a visit")
    require(type(visit.runs_per_block) is int and visit.runs_per_block > 0, f"{visit}")
    _require_time(summarise([visit]).latency_ms, "a measurement")
    _require_rest(outcome)


def _require_rest(sample: Sample) -> None:
    """What goes into a table beside the blocks has the types of its columns."""
    require(all(isinstance(flag, str) for flag in sample.flags), f"flags {sample.flags!r}")
    for value in (sample.load_seconds, sample.busy_seconds, sample.timed_seconds):
        require(math.isfinite(value) and value >= 0, f"{value!r} seconds")
    for optional in (sample.device_ms, sample.clock_mhz):
        if optional is not None:
            _require_time(optional, "what the device needs, or its clock")
    if sample.nodes is not None:
        require([type(count) for count in sample.nodes] == [int, int], f"nodes {sample.nodes!r}")


_OPENED = {"ok": True, "version": "1.0", "delegate": "CPU", "pid": 100}
_TIMED = {
    "ok": True,
    "block_ms": [1.0, 1.1, 1.05],
    "runs_per_block": 3,
    "load_seconds": 0.1,
    "busy_seconds": 0.2,
    "timed_seconds": 0.1,
    "nodes": [2, 1],
    "device_ms": 0.5,
    "clock_mhz": 900.0,
    "flags": [],
    "system": {
        "waited_share": 0.0,
        "stolen_share": 0.0,
        "preemptions": 1,
        "page_faults": 2,
        "others_cores": 0.1,
    },
}
_FAILED = {"ok": False, "kind": "load", "message": "no", "transient": False, "fatal": False}


@st.composite
def _conversations(draw: DrawFn) -> bytes:
    """What a worker says: an answer to the opening and some to requests, one of them strange."""
    strange = draw(edited_json((_OPENED, _TIMED, _FAILED, {**_FAILED, "fatal": True}), 3))
    lines = [json_bytes(_OPENED), json_bytes(_TIMED), json_bytes(_TIMED)]
    lines[draw(st.integers(0, 2))] = strange.replace(b"\n", b" ")
    return draw(st.binary(min_size=1, max_size=1)) + b"\n".join(lines) + b"\n"


def _conversation_seeds() -> list[bytes]:
    lines = b"\n".join(json_bytes(answer) for answer in (_OPENED, _TIMED, _FAILED))
    return [b"\x02" + lines + b"\n"]


# a shell on a device


def _ask_shell(data: bytes) -> None:
    """Run commands on a device that says whatever it likes."""
    shell = ScriptedShell(data)
    for ask in (lambda: shell.run("true", 0.05), lambda: ask_python(shell)):
        try:
            found = ask()
        except LutraError as error:
            require("\n" not in str(error), f"two lines: {error}")
            continue
        if isinstance(found, Finished):
            require(0 <= found.status <= 255, f"a status of {found.status}")
        else:
            _ = (found.runtimes, found.advice)


@st.composite
def _shell_answers(draw: DrawFn) -> bytes:
    python = edited_json(({"version": [3, 11], "packages": ["numpy", "onnxruntime"]},), 2)
    words = st.sampled_from(
        (b"", b"hello", b"Welcome!\r", b"\n" * 3000, ESCAPES.encode(), b"x" * 3000)
    )
    lines = draw(st.lists(words | python | st.sampled_from(_MARKS), max_size=5))
    how = draw(st.binary(min_size=1, max_size=1))
    return how + b"\n".join([*lines, draw(st.sampled_from(_MARKS)), b""])


# the lists of devices, and what devices tell of themselves


class _ScriptedSocket:
    """The end of a connection to an adb server that says the given bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def recv(self, size: int) -> bytes:
        chunk, self._data = self._data[:size], self._data[size:]
        return chunk

    def send(self, data: bytes) -> int:
        return len(data)

    def sendall(self, data: bytes) -> None:
        """It does not listen."""

    def settimeout(self, seconds: float | None) -> None:
        """It never waits."""

    def setsockopt(self, *option: int) -> None:
        """It has no options."""

    def close(self) -> None:
        """It is no socket."""

    def __enter__(self) -> _ScriptedSocket:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _ScriptedServer:
    """An adb server every connection to which says the same."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def make_connection(self, timeout: float | None = None) -> AdbConnection:
        connection = AdbConnection.__new__(AdbConnection)
        connection._AdbConnection__conn = _ScriptedSocket(self._data)
        return connection

    def connect(self, address: str, timeout: float | None = None) -> str:
        return ""

    def disconnect(self, address: str) -> str:
        return ""


@contextmanager
def _adb_server(data: bytes) -> Iterator[None]:
    """Only adb's devices are there, as the server lists them; this machine is asked nothing."""
    cpu = mock.Mock()
    cpu.__enter__ = lambda self: self
    cpu.__exit__ = lambda self, *error: None
    cpu.info.return_value = DeviceInfo("cpu", "cpu", "A CPU", "x86_64", "Linux", 2, 1 << 30)
    cpu.runtimes.return_value = ("onnxruntime",)
    lists = {"adb": registry._LISTS["adb"]}
    opened = registry.open_device

    def open_device(spec: str) -> object:
        return cpu if spec == "cpu" else opened(spec)

    with (
        mock.patch.object(adb_shell, "AdbClient", return_value=_ScriptedServer(data)),
        mock.patch.object(registry, "_LISTS", lists),
        mock.patch.object(registry, "open_device", open_device),
        mock.patch("lutra.open_device", open_device, create=True),
        mock.patch("socket.create_connection", side_effect=lambda *_: _ScriptedSocket(data)),
    ):
        yield


def _list_devices(data: bytes) -> None:
    """`lutra devices`, twice; what the server says goes to the terminal."""
    with _adb_server(data):
        listed = said(lambda: run(["devices"]))
        require("cpu" in listed.out, f"the CPU is not listed: {listed}")
        document = said(lambda: run(["devices", "--json"])).out
        require(isinstance(json.loads(document)["devices"], list), document)


@st.composite
def _listings(draw: DrawFn) -> bytes:
    serials = st.sampled_from(
        ("R58M", "192.168.1.7:5555", ESCAPES, "a b;$(x)", "", "x" * 3000, "\u202e")
    )
    states = st.sampled_from(
        ("device", "offline", "unauthorized", "no permissions", ESCAPES, "", "x")
    )
    lines = draw(st.lists(st.builds("{}\t{}".format, serials, states), max_size=4))
    text = draw(st.sampled_from(("\n", "\r\n"))).join(lines).encode()
    length = draw(st.sampled_from((f"{len(text):04x}", "ffff", "0000", "-001", "zzzz", "", "1_0 ")))
    status = draw(st.sampled_from((b"OKAY",) * 5 + (b"FAIL", b"", b"\xff\xff\xff\xff")))
    whole = status + length.encode() + text
    return draw(damaged([whole], 2)) if draw(st.integers(0, 3)) == 0 else whole


def _read_facts(data: bytes) -> None:
    """What a system tells of itself, and what is made of it."""
    facts = parse_facts(data.decode("utf-8", "replace"))
    phone = AndroidDevice("fuzzed")
    phone.facts = facts
    info = phone.info()
    require(info.cores >= 1, f"{info.cores} cores")
    require(info.memory_bytes >= 0, f"{info.memory_bytes} bytes of memory")
    health = facts.health()
    for value in (health.load_1m, health.clock_mhz, health.temperature_c, health.battery_percent):
        require(value is None or math.isfinite(value), f"{health}")
    _ = (facts.identity, facts.cores_off, facts.speed(0), facts.tunable_cores, facts.charging)
    _ = phone.advice()


_FACTS = """\
machine=aarch64
kernel=Linux 5.10
host=phone
machine_id=0123456789abcdef
present=0-7
online=0-3,6
load=1.5 1.0 0.5 1/100 5
memory_kb=8000000
cpuinfo=Hardware:A chip
cpuinfo=CPU part:0xd05
processor=1
maximum=0 1800000
capacity=0 1024
governor=0 schedutil
clock=0 1800000
tunable=0
zone=45000
cooling=0 cpufreq-0
thermal_status=0
throttled=0x50000
sensor=41.5 CPU
tool=taskset
ro.product.manufacturer=Maker
ro.product.model=Phone
ro.product.cpu.abi=arm64-v8a
ro.serialno=R58M
battery=level:80
battery=temperature:285
battery=USB powered:true"""
_STRANGE_FACTS = (
    "present=0-9999,0-9999",
    "online=",
    "present=7-0",
    "maximum=99999999999999999999 1",
    "maximum=0 1e308",
    "capacity=0 nan",
    "memory_kb=1e308",
    "thermal_status=1e308",
    "throttled=0xffffffff",
    "battery=temperature:99999",
    "battery=level:inf",
    "zone=1e308",
    "load=nan",
    "tunable=\u0663",
    "governor=\u0663 x",
    f"ro.product.model={ESCAPES}",
    "=",
)


def _logs() -> SearchStrategy[bytes]:
    return edited_lines(_LOGS, _STRANGE_LINES)


TARGETS = (
    Target(
        "logs",
        _read_log,
        _logs,
        lambda: [text.encode() for text in _LOGS],
        examples=(b"GPU " * 250_000, b"Failed to apply " * 60_000),
    ),
    Target(
        "batches",
        _read_stream,
        _streams,
        lambda: [b"\x83100 000000.model\nMARK 0\ncount=1 curr=1\nMARK 0\n"],
        examples=(b"\x03MARK\n", b"\x03100 000000.model\nMARK 0\nx\nMARK killed\n"),
    ),
    Target("worker", _ask_worker, _conversations, _conversation_seeds, suite_inputs=100),
    Target(
        "shell",
        _ask_shell,
        _shell_answers,
        lambda: [b"\x02hello\nMARK 0\n"],
        examples=(
            b"\x03hello\nMARK\n",
            b"\x03hello\nMARK x\n",
            b"\x03" + b"\n" * 200_000,
            b'\x03{"version": ["3"], "packages": []}\nMARK 0\n',
            b'\x03{"version": 3, "packages": 5}\nMARK 0\n',
            b"\x03" + b"[" * 100_000 + b"\nMARK 0\n",
        ),
    ),
    Target(
        "listings",
        _list_devices,
        _listings,
        lambda: [b"OKAY000bR58M\tdevice"],
        examples=(b"OKAYzzzz", b"FAILzzzz", b"OKAY-001", b"OKAY"),
    ),
    Target(
        "facts",
        _read_facts,
        lambda: edited_lines((_FACTS,), _STRANGE_FACTS),
        lambda: [_FACTS.encode()],
    ),
)
