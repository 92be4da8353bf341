"""The program is found, installed and fetched whole and fitting, or one line says why not."""

import hashlib
import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.devices.benchmark_model import binary, download
from lutra.devices.benchmark_model.binary import (
    PLATFORMS,
    digest,
    fetch_benchmark,
    find_benchmark,
    install_benchmark,
    platform_of,
)
from lutra.devices.benchmark_model.elf import identify
from lutra.errors import LutraError, PermanentDeviceError, TransientDeviceError, UsageError
from lutra.files.https import Response

ANDROID_LINKER = "/system/bin/linker64"
LINUX_LINKER = "/lib/ld-linux-aarch64.so.1"
HTML = b"<!DOCTYPE html><title>Error</title>" + b" " * 900


def elf(machine: int = 183, linker: str | None = ANDROID_LINKER, kind: int = 3) -> bytes:
    """A small whole ELF file of 64 bits: a header, its list of parts, the linker's name."""
    name = b"" if linker is None else linker.encode() + b"\0"
    count = 1 if linker is None else 2
    end = 64 + 56 * count
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    parts = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, end + len(name), end + len(name), 4096)
    if linker is not None:
        parts += struct.pack("<IIQQQQQQ", 3, 4, end, 0, 0, len(name), len(name), 1)
    return header + parts + name


def elf32(machine: int = 40, linker: str = "/system/bin/linker") -> bytes:
    name = linker.encode() + b"\0"
    header = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, 0, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return header + struct.pack("<IIIIIIII", 3, 84, 0, 0, len(name), len(name), 4, 1) + name


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and nothing set that could lead elsewhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("LUTRA_BENCHMARK_MODEL", raising=False)
    return tmp_path / "cache" / "lutra" / "benchmark_model"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def to_file(content: bytes) -> Path:
        path = tmp_path / "given"
        path.write_bytes(content)
        return path

    return to_file


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def one_line(error: pytest.ExceptionInfo[LutraError]) -> str:
    assert str(error.value).isprintable()
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "android", "platform"),
    [
        ("arm64-v8a", True, "android_arm64"),
        ("aarch64\n", False, "linux_arm64"),
        ("x86_64", False, "linux_x86_64"),
        ("AMD64", False, "linux_x86_64"),
        ("armeabi-v7a", True, "android_arm"),
        ("armv7l", False, "linux_arm"),
        ("x86", True, "android_x86"),
    ],
)
def test_platform_of(name: str, android: bool, platform: str) -> None:
    assert platform_of(name, android) == platform


@pytest.mark.parametrize("name", ["", "riscv64", "mips"])
def test_an_unknown_processor_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="known: arm64-v8a"):
        platform_of(name, android=True)


def test_downloads_are_named_for_known_platforms_and_encrypted() -> None:
    for platform, addresses in PLATFORMS.items():
        assert platform in binary._platforms()
        assert all(address.startswith("https://storage.googleapis.com/") for address in addresses)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (elf(), "android_arm64"),
        (elf(linker="/apex/com.android.runtime/bin/linker64"), "android_arm64"),
        (elf(linker=LINUX_LINKER), "linux_arm64"),
        (elf(linker=None), "arm64"),
        (elf(machine=62, linker="/lib64/ld-linux-x86-64.so.2", kind=2), "linux_x86_64"),
        (elf32(), "android_arm"),
        (elf32(machine=3, linker="/lib/ld-linux.so.2"), "linux_x86"),
        (b"#!/bin/sh\nexec true\n", "script"),
    ],
)
def test_identify(write: Callable[[bytes], Path], content: bytes, found: str) -> None:
    assert identify(write(content)) == found


def test_identify_knows_this_machine() -> None:
    program = Path(shutil.which("true") or pytest.skip("there is no `true` here")).resolve()
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout
    assert identify(program) == platform_of(machine, android=False)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no ELF file"),
        (HTML, "no ELF file"),
        (b"PK\x03\x04", "no ELF file"),
        (elf(machine=243), "does not know"),
        (elf()[:5] + b"\x02" + elf()[6:], "does not know"),  # big endian
        (elf(machine=62).replace(b"\x02", b"\x01", 1), "does not know"),  # x32
        (elf(kind=1), "object"),
        (elf(kind=4), "core"),
        (elf()[:-1], "cut off"),
        (elf()[:30], "cut off"),
        (elf()[:100], "cut off"),
        (b"\x7fELF", "cut off"),
    ],
)
def test_no_program_is_refused(write: Callable[[bytes], Path], content: bytes, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        identify(write(content))
    one_line(caught)


@given(st.binary(max_size=200), st.integers(0, 150), st.integers(0, 200))
def test_no_file_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int, end: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    for content in (noise, b"\x7fELF" + noise, (elf()[:at] + noise + elf()[at:])[:end]):
        path.write_bytes(content)
        try:
            assert identify(path) in {*binary._platforms(), "script", "arm64", "arm"}
        except UsageError:
            continue


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        identify(tmp_path / "missing")
    with pytest.raises(UsageError, match="Is a directory"):
        identify(tmp_path)
    with pytest.raises(UsageError, match="No such file"):
        digest(tmp_path / "missing")


def test_digest(write: Callable[[bytes], Path]) -> None:
    assert digest(write(b"abc")) == "ba7816bf8f01"


def test_none_found_names_the_places_and_the_remedies(cache: Path) -> None:
    with pytest.raises(PermanentDeviceError) as caught:
        find_benchmark("android_arm64")
    line = one_line(caught)
    assert str(cache / "android_arm64" / "benchmark_model") in line
    assert "$LUTRA_BENCHMARK_MODEL" in line
    assert "`lutra devices --fetch-benchmark`" in line
    assert "`lutra devices --use-benchmark FILE`" in line


def test_none_found_suggests_no_download_that_does_not_exist() -> None:
    with pytest.raises(PermanentDeviceError) as caught:
        find_benchmark("android_x86_64")
    assert "--fetch" not in one_line(caught)


def test_an_unknown_platform_is_refused() -> None:
    for use in (find_benchmark, fetch_benchmark, lambda name: install_benchmark("/bin/sh", name)):
        with pytest.raises(UsageError, match="unknown platform '../x'"):
            use("../x")


def test_the_variable_comes_first(
    write: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    install_benchmark(write(elf()))
    mine = write(elf(linker=None))
    monkeypatch.setenv("LUTRA_BENCHMARK_MODEL", str(mine))
    assert find_benchmark("android_arm64") == mine
    with pytest.raises(UsageError, match="built for arm64, not for linux_x86_64"):
        find_benchmark("linux_x86_64")
    monkeypatch.setenv("LUTRA_BENCHMARK_MODEL", "/nowhere/benchmark_model")
    with pytest.raises(UsageError, match="LUTRA_BENCHMARK_MODEL names /nowhere/benchmark_model"):
        find_benchmark("android_arm64")


def test_without_a_cache_variable_the_home_folder_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[bytes], Path]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        installed = install_benchmark(write(elf()))
        assert installed.is_relative_to(tmp_path / "home" / ".cache" / "lutra")


def test_a_file_is_installed(cache: Path, write: Callable[[bytes], Path]) -> None:
    path = install_benchmark(write(elf()))
    assert path == cache / "android_arm64" / "benchmark_model" == find_benchmark("android_arm64")
    assert path.read_bytes() == elf()
    assert path.stat().st_mode & 0o777 == 0o755
    assert files(cache) == ["benchmark_model", "benchmark_model.sha256"]
    recorded = (path.parent / "benchmark_model.sha256").read_text().split()[0]
    assert recorded == hashlib.sha256(elf()).hexdigest()
    assert recorded.startswith(digest(path))


@pytest.mark.parametrize("content", [elf(linker=None), b"#!/bin/sh\n"])
def test_a_file_that_does_not_tell_needs_the_platform(
    cache: Path, write: Callable[[bytes], Path], content: bytes
) -> None:
    with pytest.raises(UsageError, match="name the platform"):
        install_benchmark(write(content))
    assert files(cache) == []
    install_benchmark(write(content), "linux_arm64")
    assert find_benchmark("linux_arm64").read_bytes() == content


def test_a_file_that_does_not_fit_is_not_installed(
    cache: Path, write: Callable[[bytes], Path]
) -> None:
    with pytest.raises(UsageError, match="built for android_arm64, not for linux_arm64"):
        install_benchmark(write(elf()), "linux_arm64")
    assert files(cache) == []


def test_the_installed_file_may_be_installed_again(write: Callable[[bytes], Path]) -> None:
    path = install_benchmark(write(elf()))
    assert install_benchmark(path) == path
    assert path.read_bytes() == elf()


def test_a_cache_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[bytes], Path]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(PermanentDeviceError, match="cannot write .*: Not a directory") as caught:
        install_benchmark(write(elf()))
    one_line(caught)


def test_a_full_disk_leaves_the_old_program(cache: Path, write: Callable[[bytes], Path]) -> None:
    """The limit on a file's size stands for the disk: writing fails in the middle."""
    resource = pytest.importorskip("resource")
    install_benchmark(write(elf()))
    longer = write(elf() + b"\0" * 500_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(PermanentDeviceError, match="cannot write .*File too large"):
            install_benchmark(longer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert find_benchmark("android_arm64").read_bytes() == elf()
    assert files(cache) == ["benchmark_model", "benchmark_model.sha256"]


class Answers(BaseHTTPRequestHandler):
    """Serves `content`; the path asks for what goes wrong on the way."""

    content = elf()
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
        elif self.path == "/moved":
            self._head(302, 0, ("Location", "/benchmark_model"))
        elif self.path == "/astray":
            self._head(302, 0, ("Location", "http://192.0.2.1/benchmark_model"))
        elif self.path == "/unencrypted-file":
            self._head(302, 0, ("Location", "file:///etc/passwd"))
        elif self.path == "/short":
            self._head(200, len(self.content) + 100)
            self.wfile.write(self.content)
        elif self.path == "/huge":
            self._head(200, 10**9)
            self.wfile.write(self.content)
        elif self.path == "/no-length":
            self._head(200, None)
            self.wfile.write(self.content)
        else:
            self._head(200, len(self.content))
            self.wfile.write(self.content)

    def _head(self, status: int, length: int | None, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for header in headers:
            self.send_header(*header)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server on this machine."""
    monkeypatch.setattr(Answers, "content", elf())
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as answering:
        thread = threading.Thread(target=answering.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{answering.server_port}"
        answering.shutdown()
        thread.join()


def fetch(
    address: str, *, sha256: str | None = None, platform: str = "android_arm64"
) -> tuple[Path, list[str]]:
    said: list[str] = []
    path = fetch_benchmark(
        platform, sha256=sha256, address=address, allow_loopback=True, say=said.append
    )
    return path, said


@pytest.mark.parametrize("page", ["/benchmark_model", "/moved", "/no-length"])
def test_the_program_is_fetched(server: str, cache: Path, page: str) -> None:
    whole = hashlib.sha256(elf()).hexdigest()
    path, said = fetch(server + page, sha256=whole)
    assert path == find_benchmark("android_arm64")
    assert path.read_bytes() == elf()
    assert os.access(path, os.X_OK)
    assert files(cache) == ["benchmark_model", "benchmark_model.sha256"]
    assert len(said) == 1
    assert whole in said[0]


def test_standard_error_is_told_if_nobody_else(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch_benchmark("android_arm64", address=server, allow_loopback=True)
    output = capsys.readouterr()
    assert output.out == ""
    assert "sha256" in output.err


def test_another_program_than_before_is_told(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(server)
    assert len(fetch(server)[1]) == 1
    monkeypatch.setattr(Answers, "content", elf() + b"newer")
    path, said = fetch(server)
    assert path.read_bytes() == elf() + b"newer"
    assert said[1].startswith("it differs from the one before")
    assert hashlib.sha256(elf()).hexdigest() in said[1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (HTML, "holds no benchmark_model: what it sent is no program"),
        (b"#!/bin/sh\nrm -rf /\n", "holds a program for script"),
        (elf()[:-3], "cut off"),
        (elf(machine=62), "for android_x86_64, not for android_arm64"),
        (elf(linker=LINUX_LINKER), "for linux_arm64, not for android_arm64"),
        (b"", "no program"),
    ],
)
def test_what_is_not_the_program_is_not_kept(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str
) -> None:
    monkeypatch.setattr(Answers, "content", content)
    with pytest.raises(PermanentDeviceError, match=reason) as caught:
        fetch(server)
    assert server in one_line(caught)
    assert files(cache) == []


def test_a_wrong_digest_keeps_the_old_program(
    server: str, cache: Path, write: Callable[[bytes], Path]
) -> None:
    install_benchmark(write(elf() + b"old"))
    with pytest.raises(PermanentDeviceError, match=f"not {'0' * 64}"):
        fetch(server, sha256="0" * 64)
    assert find_benchmark("android_arm64").read_bytes() == elf() + b"old"
    assert files(cache) == ["benchmark_model", "benchmark_model.sha256"]


def test_a_digest_that_is_none_is_refused_before_anything_is_fetched(server: str) -> None:
    with pytest.raises(UsageError, match="64 hex digits"):
        fetch(server + "/missing", sha256="abc")


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("/missing", "HTTP 404"),
        ("/short", "cut off|IncompleteRead"),
        ("/astray", "it redirects, and http://192.0.2.1/benchmark_model is no https address"),
        ("/unencrypted-file", "Redirection to url"),
    ],
)
def test_the_networks_failures_name_the_address_and_the_remedy(
    server: str, cache: Path, page: str, reason: str
) -> None:
    with pytest.raises(TransientDeviceError, match=reason) as caught:
        fetch(server + page)
    line = one_line(caught)
    assert server + page in line
    assert "--use-benchmark FILE" in line
    assert files(cache) == []


def test_nobody_listening_is_a_failure_of_the_network(server: str) -> None:
    del server  # its port is taken; port 1 is not
    with pytest.raises(TransientDeviceError, match="refused"):
        fetch("http://127.0.0.1:1/benchmark_model")


def test_too_much_is_refused(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PermanentDeviceError, match="over 200 MB"):
        fetch(server + "/huge")
    monkeypatch.setattr(download, "_MAX_BYTES", 100)
    with pytest.raises(PermanentDeviceError, match="over 0 MB"):
        fetch(server + "/no-length")
    assert files(cache) == []


def test_a_trickle_is_given_up(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_FETCH_SECONDS", -1)
    with pytest.raises(TransientDeviceError, match="not done after"):
        fetch(server)
    assert files(cache) == []


def test_a_full_disk_is_no_failure_of_the_network(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(Answers, "content", elf() + b"\0" * 500_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(PermanentDeviceError, match="cannot write"):
            fetch(server)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(cache) == []


@pytest.mark.parametrize(
    "address",
    [
        "http://storage.googleapis.com/x",
        "ftp://127.0.0.1/x",
        "file:///bin/true",
        "http://127.0.0.1.example.org/x",
        "https://",
        "https://[::1",
        "x",
    ],
)
def test_only_https_is_fetched(address: str) -> None:
    with pytest.raises(UsageError, match="address"):
        fetch(address)


def test_plain_http_to_this_machine_must_be_allowed(server: str) -> None:
    with pytest.raises(UsageError, match="no https address"):
        fetch_benchmark("android_arm64", address=server)


def test_nothing_is_published_for_some_platforms() -> None:
    with pytest.raises(UsageError, match="--use-benchmark FILE"):
        fetch_benchmark("android_x86_64")


def test_the_documented_address_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(address: str) -> Response:
        asked.append(address)
        raise TimeoutError

    with pytest.raises(TransientDeviceError, match="TimeoutError"):
        fetch_benchmark("android_arm64", open_url=refuse)
    assert asked == [
        "https://storage.googleapis.com/litert/binaries/latest/android_arm64/benchmark_model"
    ]
