"""Target: command lines, whatever is typed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import click
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from lutra.cli.main import COMMANDS, LazyGroup, run
from lutra.errors import UsageError
from tests.fuzz.documents import _architecture_documents, _results
from tests.fuzz.grammar import ESCAPES, json_bytes
from tests.fuzz.models import _emitted
from tests.fuzz.oracle import require, said
from tests.fuzz.small_space import NAME, small_space, whole_table
from tests.fuzz.target import Target

_SEPARATOR = b"\x00"
# What takes its time, or reaches a device or the network: what is typed is understood by then.
_WORK = (
    "lutra.calibrate",
    "lutra.evaluate",
    "lutra.export",
    "lutra.find_networks",
    "lutra.fine_tune_network",
    "lutra.open_device",
    "lutra.profile",
    "lutra.profile_models",
    "lutra.validate",
    "lutra.verify",
    "lutra.write_report",
    "lutra.devices.benchmark_model.binary.fetch_benchmark",
    "lutra.devices.registry.attached_devices",
    "lutra.devices.registry.open_device",
)
_CODES = frozenset({0, 1, 2, 3, 130})
_CACHE = "cache"


class Understood(UsageError):
    """The command line was understood: what it asks for would be done now."""


def _understood(*arguments: Any, **named: Any) -> NoReturn:
    raise Understood("this would be done now")


@contextmanager
def _nothing_done() -> Iterator[None]:
    """Nothing is measured, searched or fetched; the user's own folders are in this one."""
    here = str(Path.cwd())
    home = {"HOME": here, "XDG_CACHE_HOME": f"{here}/{_CACHE}", "TMPDIR": here, "COLUMNS": "80"}
    make = Path.mkdir

    def mkdir(path: Path, *arguments: Any, **named: Any) -> None:
        if not path.resolve().is_relative_to(here):
            raise Understood(f"the folder {path} would be made now")
        make(path, *arguments, **named)

    with ExitStack() as patches:
        patches.enter_context(mock.patch.dict(os.environ, home))
        patches.enter_context(mock.patch.object(Path, "mkdir", mkdir))
        patches.enter_context(mock.patch("lutra.spaces.space_names", return_value=(NAME,)))
        patches.enter_context(mock.patch("socket.create_connection", side_effect=OSError))
        for name in _WORK:
            patches.enter_context(mock.patch(name, _understood))
        yield


def _run(data: bytes) -> None:
    """Run a command line, beside files that it may name; the words are ended by zeros."""
    words = [word.decode("utf-8", "surrogateescape") for word in data.split(_SEPARATOR)]
    for name, content in _files().items():
        Path(name).write_bytes(content)
    small_space()
    with _nothing_done():
        printed = said(lambda: run(words))
    require(printed.code in _CODES, f"exit code {printed.code}")
    verbose = any(word.startswith(("-v", "--v")) for word in words)
    require("Traceback" not in printed.err or verbose, f"a traceback: {printed.err}")
    if printed.code in (1, 2):
        require(bool(printed.err.strip() or printed.out.strip()), f"code {printed.code}, no word")
    if printed.code == 0 and "--json" in words and printed.out.startswith("{"):
        json.loads(printed.out)
    _require_only_named(words)


def _require_only_named(words: list[str]) -> None:
    """Files that were there are as they were; what is new was named, and is removed."""
    files = _files()
    for path in Path.cwd().iterdir():
        if path.name in files:
            require(path.read_bytes() == files[path.name], f"{path.name} was changed by {words}")
            continue
        named = path.name in (_CACHE, "lutra-quickstart") or any(path.name in w for w in words)
        require(named, f"{path.name} was made by {words}")
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@cache
def _files() -> dict[str, bytes]:
    """Files that a command line may name, each of its own kind."""
    contents = (
        whole_table(),
        json_bytes(_results()[0]),
        json_bytes(_architecture_documents()[0]),
        b'{"ks": [3',
        _emitted("onnx")[0],
        _emitted("tflite")[0],
        b"",
    )
    return dict(zip(_NAMES, contents, strict=True))


_NAMES = ("cpu.lut", "result.json", "arch.json", "damaged.json", "m.onnx", "m.tflite", "empty")


_WORDS = (
    "", " ", "-", "--", "-o", "-v", "-h", "--help", "--json", "--version", "0", "1", "-1", "2.5",
    "nan", "inf", "1e999", "99999999999999999999", "9" * 5000, "224", "128:224:32", "128:224:0",
    "0:99999:1", "224,224", "all", ",", "20ms", "850us", "0ms", "-5ms", "1e308s", "5", "5MS", "10m",
    "300M", "1e400M", "50%", "cpu", "fake", "cuda:0", "adb", "adb:x", "adb:" + ESCAPES, "ssh:a@b",
    "ssh:", "ssh:a@b:99999", "ssh:-oProxyCommand=x@b", "ssh:a@b/cuda:x", "fuzzed", "nothing",
    "ofa-mbv3-w1.0", "onnxruntime", "litert", "benchmark_model", "fp32", "int8", "int4",
    "op", "network", "evolution", "random", "x=1", "=", "a=b=c", "cores=ff", "cpu.lut",
    "result.json", "arch.json", "damaged.json", "m.onnx", "m.tflite", "empty", ".", "..", "/",
    "/dev/null", "out/", "new",
    "/proc/self/mem", "no/such/folder", "x" * 5000, "\udcff\udcfe", "a\nb", ESCAPES, "\u202egnp",
)  # fmt: skip


@cache
def _grammar() -> dict[tuple[str, ...], tuple[str, ...]]:
    """Every command with the names of its options."""
    found: dict[tuple[str, ...], tuple[str, ...]] = {(): ("-v", "--version", "--help")}
    group = LazyGroup()
    context = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        found[(name,)] = _options(command)
        if isinstance(command, click.Group):
            for inner, subcommand in command.commands.items():
                found[(name, inner)] = _options(subcommand)
    return found


def _options(command: click.Command) -> tuple[str, ...]:
    return tuple(
        name
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    )


@st.composite
def _command_lines(draw: DrawFn) -> bytes:
    commands = sorted(_grammar().items())
    path, options = commands[draw(st.integers(0, len(commands) - 1))]
    words = list(path)
    value = st.sampled_from(_WORDS)
    for _ in range(draw(st.integers(0, 2))):
        words.append(draw(value))
    for _ in range(draw(st.integers(0, 4))):
        words.append(draw(st.sampled_from(options)) if options else draw(value))
        match draw(st.integers(0, 3)):
            case 0:
                pass
            case 1:
                words[-1] += "=" + draw(value)
            case _:
                words.append(draw(value))
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(words)))
        words.insert(place, draw(value | st.text(max_size=10)))
    return _SEPARATOR.join(word.encode("utf-8", "surrogateescape") for word in words)


def _seeds() -> list[bytes]:
    lines = (
        "table show cpu.lut --category all",
        "table show cpu.lut --sort interval --filter * --top 3",
        "table diff cpu.lut cpu.lut --differs threads --fail-above 3%",
        "table merge cpu.lut cpu.lut -o new.lut",
        "predict cpu.lut --arch arch.json --json",
        "search cpu.lut --max-latency 20ms -o new.json",
        "profile cpu --space fuzzed --dry-run -o new.lut",
        "profile cpu --model m.onnx --dry-run -o new.lut",
        "profile fake -o out/ --resolutions 128:224:32 --budget 10m",
        "calibrate cpu.lut --error 1%",
        "verify result.json --device cpu --count 3",
        "search cpu.lut --max-latency 20ms --ofa-config new.json",
        "table import arch.json damaged.json --space fuzzed -o new.lut --device-name x",
        "export result.json -o new.onnx --precision int8",
        "export result.json --checkpoint empty --data . --fine-tune 1 -o new.tflite",
        "report cpu.lut result.json -o new.html",
        "evaluate m.onnx --data . --split test --limit 5",
        "spaces",
        "profile cpu --space ofa-mbv3-w1.0 --dry-run -o new.lut",
        "profile ssh:a@b --cuda 0 --dry-run -o new.lut",
        "doctor cpu",
        "quickstart",
        "devices --use-benchmark empty",
        "-h",
    )
    return [_SEPARATOR.join(word.encode() for word in line.split()) for line in lines]


TARGETS = (
    Target(
        "commands",
        _run,
        _command_lines,
        _seeds,
        leaves=frozenset(_NAMES),
    ),
)
