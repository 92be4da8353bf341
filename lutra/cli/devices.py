"""lutra devices: what is attached, and the program that times models on Android devices."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import lutra
from lutra.cli.options import FILE, as_json
from lutra.cli.output import note, print_json, print_table
from lutra.errors import LutraError, UsageError
from lutra.text import printable_line

if TYPE_CHECKING:
    from lutra.devices.base import Attached, DeviceInfo

DEFAULT_PLATFORM = "android_arm64"
_ATTACHED_PLATFORMS = ""


@click.command("devices")
@click.option(
    "--fetch-benchmark",
    "fetched",
    metavar="[PLATFORM]",
    is_flag=False,
    flag_value=_ATTACHED_PLATFORMS,
    help="Download TFLite's benchmark_model, by default for the attached Android devices.",
)
@click.option(
    "--build",
    type=click.Choice(["compiled-model", "interpreter"]),
    help="Which of the two programs of that name; the interpreter build knows NNAPI.",
)
@click.option("--sha256", metavar="DIGEST", help="Take no other download than this.")
@click.option("--use-benchmark", "used", type=FILE, help="Use your own build of benchmark_model.")
@click.option("--platform", help=f"What your build is for, such as {DEFAULT_PLATFORM}.")
@as_json
def command(
    fetched: str | None,
    build: str | None,
    sha256: str | None,
    used: Path | None,
    platform: str | None,
    as_json: bool,
) -> None:
    """What is attached, with the spec string to use."""
    _refuse_mixtures(fetched, build or sha256, used, platform)
    if used is not None:
        from lutra.devices.benchmark_model.binary import install_benchmark

        _print_programs([install_benchmark(used, platform)], as_json)
    elif fetched is not None:
        _print_programs(_fetch(fetched, build, sha256), as_json)
    else:
        _print_devices(_look_at_all(), as_json)


def _refuse_mixtures(
    fetched: str | None, fetch_option: str | None, used: Path | None, platform: str | None
) -> None:
    if fetched is not None and used is not None:
        raise UsageError("--fetch-benchmark and --use-benchmark exclude each other")
    if fetch_option is not None and fetched is None:
        raise UsageError("--sha256 and --build go with --fetch-benchmark")
    if platform is not None and used is None:
        raise UsageError("--platform goes with --use-benchmark FILE")


# what is attached


@dataclass(frozen=True)
class _Seen:
    """A device as it is listed; ``info`` is None where it cannot be used."""

    attached: Attached
    info: DeviceInfo | None = None
    runtimes: tuple[str, ...] = ()

    @property
    def platform(self) -> str | None:
        """Which build of benchmark_model an Android device needs; None for any other device."""
        from lutra.devices.benchmark_model.binary import platform_of

        if self.info is None or self.info.kind != "android":
            return None
        try:
            return platform_of(self.info.architecture, android=True)
        except UsageError:  # there is none for its processor
            return None


def _look_at_all() -> list[_Seen]:
    """Every attached device, asked at the same time: one that hangs takes long to give up."""
    from lutra.devices.registry import attached_devices
    from lutra.devices.remote.adb_server import no_server_left

    with no_server_left(), ThreadPoolExecutor() as pool:
        return list(pool.map(_look, attached_devices()))


def _look(attached: Attached) -> _Seen:
    if attached.advice:
        return _Seen(attached)
    try:
        with lutra.open_device(attached.spec) as device:
            return _Seen(attached, device.info(), device.runtimes())
    except (LutraError, OSError) as error:
        return _Seen(replace(attached, advice=printable_line(str(error))))


def _print_devices(seen: Sequence[_Seen], as_json: bool) -> None:
    if as_json:
        print_json({"devices": [_record(item) for item in seen]})
    else:
        print_table(["spec", "what", "runtimes, or what to do"], [_row(item) for item in seen])
        note("a Linux board is named by its address: ssh:user@host")
    for problem in _lacking({item.platform for item in seen} - {None}):
        note(problem)


def _record(seen: _Seen) -> dict[str, Any]:
    record = asdict(seen.attached)
    if seen.info is None:
        return record
    return {**record, **asdict(seen.info), "runtimes": list(seen.runtimes)}


def _row(seen: _Seen) -> list[str]:
    what, spec = seen.attached.what, seen.attached.spec
    if seen.info is None:
        return [spec, what, seen.attached.advice]
    info = seen.info
    runtimes = ", ".join(seen.runtimes) or f"none; `lutra doctor {spec}` says what to do"
    return [spec, f"{info.model}, {info.os}, {info.architecture}, {info.cores} cores", runtimes]


def _lacking(platforms: set[str | None]) -> list[str]:
    """What to do where the program for a platform is missing."""
    from lutra.devices.benchmark_model.binary import find_benchmark

    problems = []
    for platform in sorted(filter(None, platforms)):
        try:
            find_benchmark(platform)
        except LutraError as error:
            problems.append(printable_line(str(error)))
    return problems


# benchmark_model


def _fetch(platform: str, build: str | None, sha256: str | None) -> list[Path]:
    from lutra.devices.benchmark_model.binary import fetch_benchmark

    platforms = [platform] if platform else _platforms_of_attached()
    if sha256 is not None and len(platforms) > 1:
        raise UsageError(f"--sha256 is of one program; name one of {', '.join(platforms)}")
    return [fetch_benchmark(name, build=build, sha256=sha256, say=note) for name in platforms]


def _platforms_of_attached() -> list[str]:
    found = {item.platform for item in _look_at_all()}
    return sorted(filter(None, found)) or [DEFAULT_PLATFORM]


def _print_programs(programs: Sequence[Path], as_json: bool) -> None:
    """Where programs are kept, and the digests by which tables name them."""
    from lutra.devices.benchmark_model.binary import digest

    columns = ["platform", "path", "digest"]
    rows = [[program.parent.name, str(program), digest(program)] for program in programs]
    if as_json:
        print_json({"programs": [dict(zip(columns, row, strict=True)) for row in rows]})
        return
    print_table(columns, rows)
