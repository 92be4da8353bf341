"""What peers run on: root file systems and programs for them, made on first use and cached."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

Architecture = Literal["amd64", "arm64"]

HERE = Path(__file__).resolve().parent
LITERT = "ai-edge-litert==2.3.0"  # benchmark_model.c declares this version's functions
BOARD_PACKAGES = ("openssh-server", "openssh-sftp-server", "python3", "procps", "util-linux")
BOARD_WHEELS = ("numpy==1.26.4", "tflite-runtime==2.14.0")
ADBKIT = "@devicefarmer/adbkit@3.3.9"
ANDROID_LINKER = "/system/bin/linker64"  # what tells a program for Android from one for Linux
LINKERS = {"amd64": "/lib64/ld-linux-x86-64.so.2", "arm64": "/lib/ld-linux-aarch64.so.1"}
TOOLS = ("ip", "unshare", "nsenter", "mount", "chroot", "apt-get", "dpkg-deb", "tar")
DEBIAN_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
QEMU_FORMAT = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
BINFMT = Path("/proc/sys/fs/binfmt_misc")
_MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}


def available(architecture: Architecture = "amd64") -> str | None:
    """What is missing here to run peers of ``architecture``, in a line; None when nothing is."""
    if sys.platform != "linux":
        return "test peers need linux"
    if os.geteuid() != 0:
        return "test peers need root, for namespaces and mounts"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"test peers need {', '.join(missing)}"
    if not DEBIAN_KEYS.exists():
        return f"test peers need Debian's packages, and {DEBIAN_KEYS} is missing"
    if not _may_make_namespaces():
        return "test peers need namespaces, which this container does not allow"
    return None if architecture == "amd64" else _emulation_missing()


def phone_root(architecture: Architecture) -> Path:
    """A phone's root file system: adbd, toybox, mksh, and LiteRT's library. Read it only."""
    return _cached("phone", architecture, (), _make_phone)


def board_root(architecture: Architecture) -> Path:
    """A board's root file system: sshd, python3, numpy and tflite-runtime. Read it only."""
    return _cached("board", architecture, BOARD_PACKAGES, _make_board)


def benchmark_model(architecture: Architecture) -> Path:
    """A program like TFLite's benchmark_model, for a phone: LiteRT's library is in its root."""
    library = litert_library(architecture).parent
    return _compiled("benchmark_model", architecture, [f"-L{library}", "-lLiteRt"])


def sleeping_benchmark(architecture: Architecture) -> Path:
    """The same program without inference: a run sleeps as long as the "model" says."""
    return _compiled("sleeping_benchmark", architecture, [])


def adbkit() -> Path:
    """Node's package adbkit, with what it needs beside it; RuntimeError when npm cannot have it."""
    folder = cache() / f"adbkit-{_digest(ADBKIT)}"
    with _lock(folder.name):
        if not folder.exists():
            raw = folder.with_name(f"{folder.name}.raw")
            shutil.rmtree(raw, ignore_errors=True)
            raw.mkdir()
            options = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            options += ["--fetch-retries=1", "--fetch-timeout=30000"]
            _run(["npm", "install", *options, "--prefix", str(raw), ADBKIT])
            raw.rename(folder)
    return folder / "node_modules/@devicefarmer/adbkit"


def cache() -> Path:
    """The folder for what takes long to make: $LUTRA_PEERS or .peers in the checkout."""
    named = os.environ.get("LUTRA_PEERS")
    folder = Path(named).resolve() if named else HERE.parents[1] / ".peers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def emulation(architecture: Architecture = "arm64") -> Iterator[None]:
    """Have the kernel run arm64 programs under qemu; undone at the end as far as done here.

    Every process registers its own entry, so that one which ends takes nothing from another.
    """
    if architecture != "arm64":
        yield
        return
    with contextlib.ExitStack() as undo:
        if not (BINFMT / "register").exists():
            mount = ["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)]
            subprocess.run(mount, check=True, capture_output=True)
            undo.callback(_unmount_binfmt)
        _unregister_stale()
        if not _foreign_emulation():
            entry = BINFMT / f"lutra-{os.getpid()}"
            if not entry.exists():
                _, _, rest = QEMU_FORMAT.read_text().strip().lstrip(":").partition(":")
                (BINFMT / "register").write_text(f":{entry.name}:{rest}")
                undo.callback(_unregister, entry)
        yield


def _may_make_namespaces() -> bool:
    probe = ["unshare", "--mount", "--pid", "--uts", "--net", "--fork", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def _emulation_missing() -> str | None:
    if shutil.which("qemu-aarch64-static") is None or not QEMU_FORMAT.exists():
        return "arm64 peers need qemu-aarch64-static (Debian: qemu-user-static)"
    try:
        with emulation():
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"arm64 peers need binfmt_misc: {error}"


def _foreign_emulation() -> bool:
    """Whether someone else registered qemu, opened in advance (F) as a chroot needs it."""
    for entry in BINFMT.glob("qemu-aarch64*"):
        lines = entry.read_text().splitlines()
        flags = next((line for line in lines if line.startswith("flags:")), "")
        if lines[0] == "enabled" and "F" in flags.removeprefix("flags:"):
            return True
    return False


def _unmount_binfmt() -> None:
    subprocess.run(["umount", str(BINFMT)], check=False, capture_output=True)


def _unregister_stale() -> None:
    for entry in BINFMT.glob("lutra-*"):
        if not Path("/proc", entry.name.removeprefix("lutra-")).exists():
            _unregister(entry)


def _unregister(entry: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        entry.write_text("-1")


def _cached(
    kind: str,
    architecture: Architecture,
    packages: tuple[str, ...],
    add: Callable[[Path, Architecture], None],
) -> Path:
    """The root, made under a lock; its name changes with all that it is made from."""
    script = HERE / "build_root.sh"
    recipe = [script.read_text(), *packages, LITERT, *BOARD_WHEELS]
    root = cache() / f"{kind}-{architecture}-{_digest(*recipe)}"
    with _lock(root.name):
        if not root.exists():
            raw = root.with_name(f"{root.name}.raw")
            _run([str(script), architecture, str(raw), *packages])
            add(raw, architecture)
            raw.rename(root)
    return root


def _make_phone(root: Path, architecture: Architecture) -> None:
    shutil.copy(litert_library(architecture), root / "usr/lib/libLiteRt.so")


def _make_board(root: Path, architecture: Architecture) -> None:
    shell = root / "usr/bin/sh"  # Android's so far
    shell.unlink()
    shell.symlink_to("dash")
    packages = root / "usr/lib/python3/dist-packages"
    packages.mkdir(parents=True, exist_ok=True)
    for requirement in BOARD_WHEELS:
        with zipfile.ZipFile(_wheel(requirement, architecture)) as wheel:
            wheel.extractall(packages)


def litert_library(architecture: Architecture) -> Path:
    """LiteRT's libLiteRt.so for ``architecture``, from its wheel."""
    library = cache() / f"litert-{architecture}-{_digest(LITERT)}" / "libLiteRt.so"
    with _lock(library.parent.name):
        if not library.exists():
            library.parent.mkdir(exist_ok=True)
            partial = library.with_suffix(".partial")
            with zipfile.ZipFile(_wheel(LITERT, architecture)) as wheel:
                partial.write_bytes(wheel.read("ai_edge_litert/libLiteRt.so"))
            partial.rename(library)
    return library


def _compiled(name: str, architecture: Architecture, libraries: list[str]) -> Path:
    source, header = HERE / f"{name}.c", HERE / "benchmark_common.h"
    recipe = _digest(source.read_text(), header.read_text(), LITERT, ANDROID_LINKER)
    program = cache() / f"{name}-{architecture}-{recipe}" / name
    options = [f"-Wl,--dynamic-linker={ANDROID_LINKER}"]
    return _built(program, source, _MACHINE[architecture], options, [*libraries, "-lm"])


def shared_library(source: Path, soname: str, definitions: Sequence[str] = ()) -> Path:
    """A library of this machine from a C file, under the name that programs load it by; cached."""
    machine = os.uname().machine
    headers = [header.read_text() for header in sorted(source.parent.glob("*.h"))]
    recipe = _digest(source.read_text(), *headers, *definitions)
    library = cache() / f"{source.stem}-{machine}-{recipe}" / soname
    options = ["-shared", "-fPIC", f"-Wl,-soname,{soname}", *definitions]
    return _built(library, source, machine, options, [])


def _built(
    target: Path, source: Path, machine: str, options: list[str], libraries: list[str]
) -> Path:
    """``target``, compiled by zig on first use, in a folder of its own that names its recipe."""
    with _lock(target.parent.name):
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            partial = target.with_suffix(".partial")
            compiler = [
                sys.executable,
                "-m",
                "ziglang",
                "cc",
                "-target",
                f"{machine}-linux-gnu.2.31",
            ]
            warnings = ["-O2", "-Wall", "-Wextra", "-Werror", "-s"]
            files = ["-o", str(partial), str(source)]
            zig = str(cache() / "zig")
            folders = {"ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig}
            _run([*compiler, *warnings, *options, *files, *libraries], {**os.environ, **folders})
            partial.rename(target)
    return target


def _wheel(requirement: str, architecture: Architecture) -> Path:
    """The file of a package for CPython 3.11, Debian 12's, whatever runs the tests."""
    folder = cache() / "wheels" / f"{requirement}-{architecture}"
    machine = _MACHINE[architecture]
    # Debian 12's glibc is 2.36.
    kinds = ("_2_34", "_2_31", "_2_28", "_2_27", "_2_17", "2014")
    platforms = [f"manylinux{kind}_{machine}" for kind in kinds]
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
    download += ["--only-binary=:all:", "--python-version", "3.11", "--dest", str(folder)]
    for platform in platforms:
        download += ["--platform", platform]
    if not any(folder.glob("*.whl")):
        _run([*download, requirement])
    return next(folder.glob("*.whl"))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    """One process at a time makes ``name``; the others wait and find it made."""
    with (cache() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
