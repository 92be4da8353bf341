"""A session over TFLite's benchmark_model on a device that has a shell: a phone, a bare board.

Each visit is a process of the program. The models of a batch are sent together and timed by one
script of one connection; what each came to is read from the stream as it arrives. When the link
breaks, what was not answered is measured again on a new connection.
"""

from __future__ import annotations

import base64
import contextlib
import re
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lutra.devices.base import (
    FailureKind,
    Outcome,
    ProcessMemory,
    RequestFailure,
    RuntimeConfig,
    RuntimeInfo,
    Sample,
    Session,
    TimingRequest,
)
from lutra.devices.benchmark_model.binary import digest
from lutra.devices.benchmark_model.flags import (
    OPTIONS,
    PROGRAMS,
    RUNTIME,
    delegate_of,
    flags,
    refusal,
)
from lutra.devices.benchmark_model.output import BenchmarkOutputError, BenchmarkRun, parse_benchmark
from lutra.devices.options import options_text
from lutra.devices.remote.channel import LineReader, LinkLost, ProgramEnded
from lutra.devices.remote.cores import core_mask
from lutra.devices.remote.folder import RemoteFolder
from lutra.devices.remote.link_retry import measure_despite_losses
from lutra.devices.remote.shell import Shell, quoted, status_behind
from lutra.devices.remote.workspace import Workspace, WorkspaceSpec
from lutra.errors import PermanentDeviceError, TransientDeviceError, UsageError
from lutra.files.scratch import scratch_folder
from lutra.text import last_words

_PROGRAM = "benchmark_model"
_GRACE_SECONDS = 15.0
_PROBE_SECONDS = 30.0
_MOST_OUTPUT = 1 << 20
_NOT_RUNNABLE = (126, 127)
_ABOUT_FLAGS = re.compile("unconsumed|other flags|has no delegate")
_PROBE_MODEL = (  # one RELU over 256x256x16 floats, as the TFLite emitter writes it, deflated
    "eNptUUGKwkAQrLjRDdmgQoLswYMv8OIHPMkePHjwLgHjEohRYsbX+IA9+g4/la2e6QQROxST6a6qnp6ZAtiu1osEM0zx"
    "jQRjRMwF8PkP5oCb4o+4CzzggysXsiVCqxJNyF2kuiUxIi5Zdc3L390+O6SmqK3O9XCaQL18YkCcTH02NTqeZIU3UE6f"
    "yEtLseFZL6n5Xb0wdZVqLbGsYTedeA01L+f8IdbERv2PaV7iZb72TkLtFWm9Bd7se3K36vlomkZKgfYN2xnmVVYYx/Ge"
    "TFzfib6G6+nik1nXLtDzPd/HO592jojfl5X61jV2PvE/JaMjGQ=="
)


class BenchmarkSession(Session):
    """Times models with the program at ``binary``, a file of this machine.

    ``cores`` is what runs are pinned to, none for no pinning; ``claim`` is what the session holds
    until it is closed (`lutra.devices.claims`).
    """

    batch = 32  # docs/decisions.md: Requests in batches
    sends_models = True

    def __init__(
        self,
        shell: Shell,
        workspace: WorkspaceSpec,
        binary: Path,
        config: RuntimeConfig,
        *,
        cores: tuple[int, ...],
        claim: contextlib.ExitStack | None = None,
    ) -> None:
        self._shell = shell
        self._claim = claim or contextlib.ExitStack()
        self._workspace = Workspace(shell, replace(workspace, files={_PROGRAM: binary}))
        self._binary = binary
        self._config = config
        self._cores = cores
        self._program: str | None = None
        self._processes = 0

    def describe(self) -> RuntimeInfo:
        program = self._known_program()
        return RuntimeInfo(
            name=RUNTIME,
            version=f"{program} {digest(self._binary)}",
            delegate=delegate_of(self._config),
            core_mask=core_mask(self._cores),
            options=options_text(self._config, OPTIONS),
        )

    def throttled(self) -> bool:
        return self._workspace.throttled()

    def measure(self, requests: Iterable[TimingRequest]) -> Iterator[Outcome]:
        program = self._known_program()
        return measure_despite_losses(
            requests, lambda pending: self._batch(pending, program), self._workspace.lose
        )

    def restart(self) -> None:
        """Every visit is a process of its own: there is nothing to draw anew."""

    def close(self) -> None:
        self._workspace.close()
        self._claim.close()

    # one batch

    def _batch(self, requests: Sequence[TimingRequest], program: str) -> Iterator[Outcome]:
        folder = self._workspace.folder()
        placed = folder.place(request.model for request in requests)
        mark = f"lutra-{secrets.token_hex(8)}"
        commands = [
            self._command(request, placed[request.model], program)
            for request in requests
            if request.model in placed
        ]
        sizes = {name: path.stat().st_size for path, name in placed.items()}
        folder.send({"batch.sh": _script(folder.path, mark, sorted(sizes), commands)})
        channel = self._shell.start(f"sh {quoted(folder.path)}/batch.sh 2>&1")
        try:
            stream = _Stream(LineReader(channel), mark)
            stream.check_sizes(sizes)
            for request in requests:
                if request.model not in placed:
                    message = f"there is no model {request.model}"
                    yield RequestFailure(request.id, "load", message, transient=False)
                    continue
                ended = stream.next(request.limit_seconds)
                if ended is None:
                    yield self._killed(request, folder)
                    return  # the others in a batch of their own: it may have left what prints on
                self._processes += 1
                yield self._outcome(request, program, *ended)
        finally:
            channel.kill()
            channel.close()

    def _killed(self, request: TimingRequest, folder: RemoteFolder) -> RequestFailure:
        """End a program that takes too long; Android's own `timeout` loses exit statuses."""
        if not folder.end_program():  # it had ended, so that it is the link that is silent
            raise LinkLost(f"{self._shell.spec}: no answer while models were timed")
        message = f"no end within {request.limit_seconds:g} s; it was killed"
        return RequestFailure(request.id, "timeout", message, transient=True)

    def _command(self, request: TimingRequest, model: str, program: str) -> str:
        pin = f"taskset {core_mask(self._cores)} " if self._cores else ""
        words = " ".join(quoted(flag) for flag in flags(self._config, program, request))
        return f"visit {pin}./{_PROGRAM} --graph={quoted(model)} {words}"

    def _outcome(
        self, request: TimingRequest, program: str, status: int, output: str
    ) -> Sample | RequestFailure:
        if status in _NOT_RUNNABLE:
            reason = last_words(output)
            if self._program is not None:  # it ran before: its file is gone
                raise LinkLost(f"{self._shell.spec}: {_PROGRAM} cannot be run any more: {reason}")
            return RequestFailure(request.id, "load", f"it does not run: {reason}", transient=False)
        if status == 0:
            return self._measured(request, program, output)
        kind, message = _ending(status)
        said = _last_words(output)
        core_is_off = output.lstrip().startswith("taskset:")  # phones switch cores off when hot
        return RequestFailure(
            request.id,
            kind,
            f"{message}: {said}" if said else message,
            transient=kind != "run" or core_is_off,
        )

    def _measured(
        self, request: TimingRequest, program: str, output: str
    ) -> Sample | RequestFailure:
        try:
            run = parse_benchmark(output)
        except BenchmarkOutputError as error:
            return RequestFailure(request.id, "run", str(error), transient=False)
        taken = run.delegated[1] if run.delegated else None
        refused = refusal(self._config, run.program, output, taken)
        if run.program != program:
            refused = f"it is the {run.program} build, which has other flags"
        if refused is not None:
            return RequestFailure(request.id, "run", refused, transient=False)
        try:
            return _sample(request, run, self._processes)
        except ValueError as error:
            message = f"{_PROGRAM} says what cannot have been measured: {error}"
            return RequestFailure(request.id, "run", message, transient=False)

    # which program it is

    def _known_program(self) -> str:
        """Which of the two programs this is, found by timing a model once.

        Raises `PermanentDeviceError` if it does not run here or its output cannot be used.
        """
        if self._program is None:
            with scratch_folder() as folder:
                model = folder / "probe.tflite"
                model.write_bytes(probe_model())
                self._program = self._find_program(
                    TimingRequest(0, model, 0.001, 0.0, limit_seconds=_PROBE_SECONDS)
                )
        return self._program

    def _find_program(self, request: TimingRequest) -> str:
        """Which of `PROGRAMS` it is: the first one whose flags it takes.

        Raises `PermanentDeviceError` with its complaint where it takes neither's or does not work.
        """
        complaints = []
        for program in PROGRAMS:
            complaint = self._complaint(request, program)
            if complaint is None:
                return program
            complaints.append(complaint)
            if not _ABOUT_FLAGS.search(complaint):
                break
        decisive = complaints[0] if _ABOUT_FLAGS.search(complaints[-1]) else complaints[-1]
        raise PermanentDeviceError(f"{self._shell.spec}: {self._binary} cannot be used: {decisive}")

    def _complaint(self, request: TimingRequest, program: str) -> str | None:
        """Why this is not ``program``, or does not work at all; None if it is and does."""
        try:
            (outcome,) = measure_despite_losses(
                [request], lambda pending: self._batch(pending, program), self._workspace.lose
            )
        except UsageError as error:
            return str(error)
        if isinstance(outcome, Sample):
            return None
        if outcome.kind == "link":
            raise TransientDeviceError(f"{self._shell.spec}: {outcome.message}")
        return outcome.message


def probe_model() -> bytes:
    """A TFLite file that takes any device many microseconds: it moves 8 MB.

    The program prints whole microseconds, and says 0 of a model that takes less than one.
    """
    return zlib.decompress(base64.b64decode(_PROBE_MODEL))


class _Stream:
    """What the script of a batch prints: for each model a begin, the program's output, an end."""

    def __init__(self, reader: LineReader, mark: str) -> None:
        self._reader = reader
        self._mark = mark.encode()

    def check_sizes(self, sizes: Mapping[str, int]) -> None:
        """Raise `LinkLost` unless the models on the device are as large as those that were sent."""
        listed = self.next(_GRACE_SECONDS)
        words = (line.split(None, 1) for line in (listed[1] if listed else "").splitlines())
        found = {pair[1]: pair[0] for pair in words if len(pair) == 2}
        if any(found.get(name) != str(size) for name, size in sizes.items()):
            raise LinkLost("a model on the device is not the one that was sent")

    def next(self, limit_seconds: float) -> tuple[int, str] | None:
        """The exit status and the output of the next command; None if it takes too long.

        Raises `LinkLost`.
        """
        kept: list[bytes] = []
        size = 0
        try:
            for line in self._reader.lines(limit_seconds):
                if line.startswith(self._mark):
                    output = b"\n".join(kept) + b"\n"
                    return status_behind(self._mark, line), output.decode(errors="replace")
                size += len(line) + 1
                if size <= _MOST_OUTPUT:
                    kept.append(line.rstrip(b"\r"))
        except ProgramEnded:
            raise LinkLost("the connection ended while models were timed") from None
        return None


def _script(folder: str, mark: str, models: Sequence[str], commands: Sequence[str]) -> bytes:
    """The script of a batch: the sizes of the models, then ``visit COMMAND...`` for each visit.

    It starts as few programs as it can: on a phone each costs milliseconds. The files ``script``
    and ``pid`` hold the processes to end when it must end early.
    """
    head = f"""cd {quoted(folder)} || exit 1
echo $$ > script
wc -c {" ".join(quoted(model) for model in models)} /dev/null
echo "{mark} 0"
visit() {{
 "$@" </dev/null 2>&1 &
 echo $! > pid
 wait $!
 s=$?
 echo; echo "{mark} $s"
}}
"""
    return (head + "\n".join(commands) + "\nrm -f pid script\n").encode()


def _sample(request: TimingRequest, run: BenchmarkRun, process: int) -> Sample:
    """Of single runs only the fastest is told: the median, or else the mean, stands for all."""
    timed = run.runs * run.mean_ms / 1e3
    return Sample(
        request.id,
        block_ms=(run.median_ms or run.mean_ms,),
        runs_per_block=run.runs,
        process=process,
        load_seconds=(run.init_ms or 0.0) / 1e3,
        busy_seconds=timed + run.warmup_runs * (run.warmup_mean_ms or 0.0) / 1e3,
        timed_seconds=timed,
        nodes=run.delegated,
        minimum_ms=run.minimum_ms,
        memory=_memory(run) if request.memory else None,
    )


def _memory(run: BenchmarkRun) -> ProcessMemory | None:
    return None if run.memory_bytes is None else ProcessMemory(run.memory_bytes)


def _ending(status: int) -> tuple[FailureKind, str]:
    """What a program's exit status above 0 means."""
    if status > 128:
        return "crash", f"{_PROGRAM} was ended by signal {status - 128}"
    return "run", f"{_PROGRAM} ended with status {status}"


def _last_words(output: str) -> str:
    """What the program said of its failure, in one line."""
    try:
        parse_benchmark(output)
    except BenchmarkOutputError as error:
        return str(error)
    return ""
