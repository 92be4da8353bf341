"""Where the program ``benchmark_model`` comes from: the user's file, a cache folder, a download.

No package ships it. LiteRT publishes a build per platform and TensorFlow's older nightly a few
more, under addresses whose content changes, so no digest can be pinned here. Each fetch records
the SHA-256 of what it brought beside the file and says when the next one brings another; tables
name the program by the start of that digest (`digest`).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import IO

from lutra.devices.benchmark_model.download import OpenUrl, download
from lutra.devices.benchmark_model.elf import identify
from lutra.errors import PermanentDeviceError, UsageError
from lutra.files import replacing, write_atomically
from lutra.files.https import check_address, open_address

ENVIRONMENT = "LUTRA_BENCHMARK_MODEL"

_LITERT = "https://storage.googleapis.com/litert/binaries/latest"
_NIGHTLY = (
    "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools"
    "/nightly/latest"
)
BUILDS: Mapping[str, str] = MappingProxyType({"compiled-model": _LITERT, "interpreter": _NIGHTLY})
"""The two programs named benchmark_model, and where each is published."""

PLATFORMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "android_arm64": (
            f"{_LITERT}/android_arm64/benchmark_model",
            f"{_NIGHTLY}/android_aarch64_benchmark_model",
        ),
        "linux_arm64": (
            f"{_LITERT}/linux_arm64/benchmark_model",
            f"{_NIGHTLY}/linux_aarch64_benchmark_model",
        ),
        "linux_x86_64": (
            f"{_LITERT}/linux_x86_64/benchmark_model",
            f"{_NIGHTLY}/linux_x86-64_benchmark_model",
        ),
        "android_arm": (f"{_NIGHTLY}/android_arm_benchmark_model",),
        "linux_arm": (f"{_NIGHTLY}/linux_arm_benchmark_model",),
    }
)
"""Documented downloads by platform; the first is fetched.

LiteRT's are the CompiledModel build, the nightly's the interpreter build, which knows other flags
(LiteRT's and TensorFlow's documentation of the benchmark tools).
"""

_MACHINES = {
    "arm64": ("arm64-v8a", "aarch64", "arm64"),
    "arm": ("armeabi-v7a", "armeabi", "armv7l", "armv8l", "armhf", "arm"),
    "x86_64": ("x86_64", "x86-64", "amd64"),
    "x86": ("x86", "i386", "i486", "i586", "i686"),
}
_CHUNK = 1 << 16


def platform_of(abi_or_machine: str, android: bool) -> str:
    """The platform name for an ABI (``ro.product.cpu.abi``) or a machine (``uname -m``).

    Raises `UsageError` for a processor that benchmark_model is not built for.
    """
    wanted = abi_or_machine.strip().lower()
    for machine, names in _MACHINES.items():
        if wanted in names:
            return f"{'android' if android else 'linux'}_{machine}"
    known = ", ".join(names[0] for names in _MACHINES.values())
    raise UsageError(f"no benchmark_model for the processor {abi_or_machine!r} (known: {known})")


def digest(path: Path | str) -> str:
    """The first 12 hex digits of the file's SHA-256: the runtime's version in tables.

    Raises `UsageError` when the file cannot be read.
    """
    try:
        return _sha256(Path(path))[:12]
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_benchmark(platform: str) -> Path:
    """The program for ``platform``: ``$LUTRA_BENCHMARK_MODEL``, else the one in the cache.

    Raises:
        UsageError: the variable names a file that is missing or does not fit, or there is no such
            platform.
        PermanentDeviceError: there is none; the message says how to get one.
    """
    cached = _cached(platform)
    if named := os.environ.get(ENVIRONMENT):
        if not Path(named).is_file():
            raise UsageError(f"${ENVIRONMENT} names {named}, which is no file")
        _require_fit(Path(named), platform)
        return Path(named)
    if cached.is_file():
        _require_fit(cached, platform)
        return cached
    fetch = "`lutra devices --fetch-benchmark` or " if platform in PLATFORMS else ""
    raise PermanentDeviceError(
        f"no benchmark_model for {platform}: ${ENVIRONMENT} is not set and there is no {cached}; "
        f"get one with {fetch}`lutra devices --use-benchmark FILE`"
    )


def install_benchmark(path: Path | str, platform: str | None = None) -> Path:
    """Copy the user's file into the cache; the copy's path.

    ``platform`` may be left out where the file tells (`identify`).

    Raises:
        UsageError: the file is no program, does not fit, or does not tell its platform.
        PermanentDeviceError: the cache cannot be written.
    """
    path = Path(path)
    if platform is None:
        platform = identify(path)
        if platform not in _platforms():
            raise UsageError(f"{path} does not tell which system it is for; name the platform")
    target = _cached(platform)
    _require_fit(path, platform)
    with _replacing(target) as file:
        with path.open("rb") as source:
            shutil.copyfileobj(source, file, _CHUNK)
        file.flush()
        _require_fit(Path(file.name), platform)  # the file may have changed since
    _record_digest(target)
    return target


def fetch_benchmark(
    platform: str,
    *,
    sha256: str | None = None,
    build: str | None = None,
    address: str | None = None,
    allow_loopback: bool = False,
    open_url: OpenUrl | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Download the program for ``platform`` into the cache; its path.

    What arrives must be complete, a program for the platform and, where given, have the digest
    ``sha256``; nothing half-written stays. Its digest is recorded as ``benchmark_model.sha256``
    beside it and told to ``say`` (standard error), also whether it differs from the one before.
    ``build`` names one of `BUILDS` where a platform has several, by default the first documented;
    ``address`` replaces the documented one; only ``allow_loopback`` permits plain HTTP, to this
    machine.

    Raises:
        UsageError: no such platform, or an address or digest that is none.
        TransientDeviceError: the network failed.
        PermanentDeviceError: what arrived is not the program, or the cache cannot be written.
    """
    target = _cached(platform)
    if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", sha256):
        raise UsageError(f"{sha256!r} is no SHA-256: 64 hex digits in lower case")
    address = address or _documented(platform, build)
    check_address(address, allow_loopback)
    open_url = open_url or partial(open_address, allow_loopback=allow_loopback)
    before = _recorded(target)
    with _replacing(target) as file:
        download(address, open_url, file)
        file.flush()
        arrived = _sha256(Path(file.name))
        _verify(Path(file.name), platform, address, arrived, sha256)
    _record_digest(target)
    say = say or partial(print, file=sys.stderr)
    say(f"benchmark_model for {platform}: sha256 {arrived}, from {address}")
    if before not in (None, arrived):
        say(f"it differs from the one before (sha256 {before}): tables of the two do not mix")
    return target


def _documented(platform: str, build: str | None) -> str:
    if platform not in PLATFORMS:
        raise UsageError(
            f"no benchmark_model is published for {platform} (only for {', '.join(PLATFORMS)}); "
            "build one and give it with `lutra devices --use-benchmark FILE`"
        )
    start = BUILDS[build] if build is not None else "https://"
    found = [address for address in PLATFORMS[platform] if address.startswith(start)]
    if not found:
        raise UsageError(f"no {build} build of benchmark_model is published for {platform}")
    return found[0]


def _platforms() -> tuple[str, ...]:
    return tuple(f"{system}_{name}" for system in ("android", "linux") for name in _MACHINES)


def _cached(platform: str) -> Path:
    """The program's place in the user's cache folder (XDG Base Directory Specification)."""
    if platform not in _platforms():
        raise UsageError(f"unknown platform {platform!r} (known: {', '.join(_platforms())})")
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not folder.is_absolute():  # the specification says to ignore a relative one
        folder = Path(os.path.expanduser("~")) / ".cache"  # noqa: PTH111 - Path.home() can raise
    return folder / "lutra" / "benchmark_model" / platform / "benchmark_model"


def _require_fit(path: Path, platform: str) -> None:
    found = identify(path)
    if found not in ("script", platform, platform.partition("_")[2]):
        raise UsageError(f"{path} is built for {found}, not for {platform}")


@contextmanager
def _replacing(target: Path) -> Iterator[IO[bytes]]:
    """A file that becomes the program ``target``, in a folder that is made if need be."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise PermanentDeviceError(f"cannot write {target}: {reason}") from None
    with replacing(target, PermanentDeviceError, permissions=0o755) as file:
        yield file


def _record_digest(target: Path) -> None:
    """Keep the program's digest beside it."""
    record = f"{_sha256(target)}  {target.name}\n"
    write_atomically(_record(target), record.encode(), PermanentDeviceError)


def _record(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _recorded(target: Path) -> str | None:
    """The digest recorded beside the program; None where there is none."""
    try:
        words = _record(target).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return None
    return words[0] if words else None


def _verify(path: Path, platform: str, address: str, arrived: str, sha256: str | None) -> None:
    """Raise `PermanentDeviceError` unless the file is the program asked for."""
    if sha256 not in (None, arrived):
        raise PermanentDeviceError(f"{address} has the sha256 {arrived}, not {sha256}")
    try:
        found = identify(path)
    except UsageError as error:
        reason = str(error).replace(str(path), "what it sent")
        raise PermanentDeviceError(f"{address} holds no benchmark_model: {reason}") from None
    if found not in (platform, platform.partition("_")[2]):
        raise PermanentDeviceError(f"{address} holds a program for {found}, not for {platform}")
