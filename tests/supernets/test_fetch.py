"""Fetching checkpoints from a server on this machine that has the faults of others."""

import errno
import hashlib
import http.client
import io
import json
import os
import pathlib
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from lutra.errors import CheckpointError, LutraError, UsageError
from lutra.files import locks
from lutra.files.https import _CheckedRedirects
from lutra.spaces import get_space
from lutra.supernets.checkpoints.checkpoint import load_supernet
from lutra.supernets.checkpoints.fetch import PUBLISHED, fetch_supernet, published
from lutra.supernets.elastic.supernet import Supernet
from tests.supernets.file_server import Served, serving
from tests.supernets.test_supernet import MBV3, PROXYLESS

Serve = Callable[..., Served]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint as the authors publish them: it names no space."""
    path = tmp_path_factory.mktemp("published") / "it"
    torch.save({"state_dict": Supernet(MBV3).state_dict()}, path)
    return path.read_bytes()


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as running:
        yield lambda content, **how: running.enter_context(serving(Served(content, **how)))


def beside(path: Path) -> set[str]:
    return {item.name for item in path.parent.iterdir()}


def refused(address: str, path: Path, space: str = MBV3, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        fetch_supernet(address, space, path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_checkpoint_is_fetched_and_its_digest_recorded(
    serve: Serve, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "s.pth"
    told: list[tuple[int, int | None]] = []
    fetched = fetch_supernet(
        serve(content).address, MBV3, path, on_progress=lambda n, of, eta: told.append((n, of))
    )
    assert path.read_bytes() == content
    assert fetched.sha256 == hashlib.sha256(content).hexdigest()
    assert (fetched.size_bytes, fetched.resumed_bytes) == (len(content), 0)
    assert told[-1] == (len(content), len(content))
    assert beside(path) == {"s.pth", "s.pth.sha256"}
    subprocess.run(["sha256sum", "-c", "s.pth.sha256"], cwd=tmp_path, check=True)
    assert load_supernet(path, MBV3).space.name == MBV3


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("tag", [True, False])
def test_what_was_cut_off_is_gone_on_with(
    serve: Serve, content: bytes, tmp_path: Path, ranges: bool, tag: bool
) -> None:
    path = tmp_path / "s.pth"
    server = serve(content, ranges=ranges, tag=tag, cut_after=100_000)
    assert "cut off after 100000 of" in refused(server.address, path)
    assert not path.exists()
    server.cut_after = None
    fetched = fetch_supernet(server.address, MBV3, path)
    assert path.read_bytes() == content
    assert server.asked == [None, "bytes=100000-" if tag else None]
    assert fetched.resumed_bytes == (100_000 if ranges and tag else 0)
    assert beside(path) == {"s.pth", "s.pth.sha256"}


def test_another_version_of_the_file_is_fetched_from_its_beginning(
    serve: Serve, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "s.pth"
    server = serve(b"another version " * 10_000, cut_after=50_000)
    refused(server.address, path)
    server.content, server.cut_after = content, None
    assert fetch_supernet(server.address, MBV3, path).resumed_bytes == 0
    assert path.read_bytes() == content


def test_of_another_address_nothing_is_gone_on_with(
    serve: Serve, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "s.pth"
    refused(serve(content, cut_after=50_000).address, path)
    fetched = fetch_supernet(serve(content).address, MBV3, path)
    assert fetched.resumed_bytes == 0
    assert path.read_bytes() == content


def test_all_had_come_when_it_was_killed(serve: Serve, content: bytes, tmp_path: Path) -> None:
    path, server = tmp_path / "s.pth", serve(content)
    (tmp_path / "s.pth.partial").write_bytes(content)
    note = {"address": server.address, "version": server.etag}
    (tmp_path / "s.pth.partial.json").write_text(json.dumps(note))
    fetch_supernet(server.address, MBV3, path)
    assert path.read_bytes() == content
    assert server.asked == [f"bytes={len(content)}-", None]


def test_a_server_that_refuses_every_range_is_asked_once_again(
    serve: Serve, content: bytes, tmp_path: Path
) -> None:
    path, server = tmp_path / "s.pth", serve(content, cut_after=50_000)
    refused(server.address, path)
    server.cut_after, server.status = None, 416
    server.asked.clear()
    server.content = content[:50_000]
    with (tmp_path / "s.pth.partial.json").open("w") as note:
        json.dump({"address": server.address, "version": server.etag}, note)
    assert "HTTP 416" in refused(server.address, path)
    assert server.asked == ["bytes=50000-", None]
    assert "HTTP 416" in refused(server.address, path)
    assert server.asked == ["bytes=50000-", None, None]


def test_no_note_of_a_new_version_stands_beside_the_old_one(
    serve: Serve, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kill between the two would leave them."""
    path, server = tmp_path / "s.pth", serve(b"another version " * 10_000, cut_after=50_000)
    refused(server.address, path)
    server.content, server.cut_after = content, None
    written = pathlib.Path.write_text

    def killed(self: Path, text: str) -> None:
        written(self, text)
        raise OSError(errno.EIO, "killed")

    monkeypatch.setattr(pathlib.Path, "write_text", killed)
    assert "killed" in refused(server.address, path)
    assert (tmp_path / "s.pth.partial").read_bytes() == b""
    monkeypatch.undo()
    fetch_supernet(server.address, MBV3, path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"address": 1, "version": 2}', "{" * 1000])
def test_a_damaged_note_is_no_harm(serve: Serve, content: bytes, tmp_path: Path, note: str) -> None:
    (tmp_path / "s.pth.partial").write_bytes(b"rubbish")
    (tmp_path / "s.pth.partial.json").write_text(note)
    fetch_supernet(serve(content).address, MBV3, tmp_path / "s.pth")
    assert (tmp_path / "s.pth").read_bytes() == content


def test_without_a_stated_length(serve: Serve, content: bytes, tmp_path: Path) -> None:
    fetch_supernet(serve(content, length=False).address, MBV3, tmp_path / "s.pth")
    assert (tmp_path / "s.pth").read_bytes() == content


def test_a_cut_without_a_stated_length_is_seen_by_what_the_file_is(
    serve: Serve, content: bytes, tmp_path: Path
) -> None:
    server = serve(content, length=False, cut_after=100_000)
    assert "damaged" in refused(server.address, tmp_path / "s.pth")
    assert beside(tmp_path / "s.pth") == set()


def test_the_digest_that_was_asked_for(serve: Serve, content: bytes, tmp_path: Path) -> None:
    path, server = tmp_path / "s.pth", serve(content)
    said = refused(server.address, path, sha256="ab" * 32)
    assert hashlib.sha256(content).hexdigest() in said
    assert beside(path) == set()
    fetch_supernet(server.address, MBV3, path, sha256=hashlib.sha256(content).hexdigest().upper())
    for wrong in ("ab", "g" * 64, ""):
        with pytest.raises(UsageError, match="no SHA-256"):
            fetch_supernet(server.address, MBV3, path, sha256=wrong)


def test_another_file_than_the_last_time_is_said(
    serve: Serve, content: bytes, tmp_path: Path
) -> None:
    path, server = tmp_path / "s.pth", serve(content)
    first = fetch_supernet(server.address, MBV3, path)
    assert first.recorded is None
    assert fetch_supernet(server.address, MBV3, path).recorded is None
    torch.save({"state_dict": Supernet(MBV3).state_dict()}, path)
    server.content = path.read_bytes()
    assert fetch_supernet(server.address, MBV3, path).recorded == first.sha256


def test_a_file_of_another_space_is_not_kept(serve: Serve, content: bytes, tmp_path: Path) -> None:
    said = refused(serve(content).address, tmp_path / "s.pth", PROXYLESS)
    assert "is no supernet of" in said
    assert beside(tmp_path / "s.pth") == set()


def test_an_older_file_stays_until_the_new_one_is_right(
    serve: Serve, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "s.pth"
    path.write_bytes(content)
    refused(serve(b"rubbish").address, path)
    assert path.read_bytes() == content
    path.write_text("my notes")
    with pytest.raises(UsageError, match="is not written over it"):
        fetch_supernet(serve(content).address, MBV3, path)
    assert path.read_text() == "my notes"


def test_web_pages_and_errors(serve: Serve, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "s.pth"
    page = serve(b"<html>", content_type="text/html; charset=utf-8")
    assert "a web page came" in refused(page.address, path)
    assert "HTTP 404" in refused(serve(b"", status=404).address, path)
    assert "is larger than 0 MiB" in refused(serve(content).address, path, max_bytes=1000)
    assert "is larger than 0 MiB" in refused(
        serve(content, length=False).address, path, max_bytes=1000
    )
    assert beside(path) == set()
    gone = serve(content).address.rsplit(":", 1)[0] + ":1/file"
    assert "cannot fetch http://127.0.0.1:1/file: [Errno 111]" in refused(gone, path)
    assert "cannot fetch https://no-such-host.invalid" in refused(
        "https://no-such-host.invalid/s", path
    )


def test_redirects_lead_only_where_could_be_asked(
    serve: Serve, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "s.pth"
    moved = serve(b"", location=serve(content).address)
    fetch_supernet(moved.address, MBV3, path)
    assert path.read_bytes() == content
    for address in ("http://example.com/s", "ftp://example.com/s", "file:///etc/passwd"):
        with pytest.raises(UsageError, match="is no https address"):
            fetch_supernet(address, MBV3, path)
        assert "edirect" in refused(serve(b"", location=address).address, path)


def test_servers_elsewhere_do_not_lead_to_this_machine() -> None:
    for first, allowed in (("https://example.com/s", False), ("http://localhost:1/s", True)):
        redirects = _CheckedRedirects(allow_loopback=True)
        request = urllib.request.Request(first)
        to, headers = "http://127.0.0.1:8000/s", http.client.HTTPMessage()
        if allowed:
            assert redirects.redirect_request(request, io.BytesIO(), 302, "", headers, to)
        else:
            with pytest.raises(urllib.error.URLError, match="is no https address"):
                redirects.redirect_request(request, io.BytesIO(), 302, "", headers, to)


@pytest.mark.parametrize("address", ["http://localhost/é", f"https://{'a' * 70}.invalid/s"])
def test_addresses_that_cannot_be_asked_for(address: str, tmp_path: Path) -> None:
    assert f"cannot fetch {address}: " in refused(address, tmp_path / "s.pth")


def test_a_read_only_file_is_kept(serve: Serve, content: bytes, tmp_path: Path) -> None:
    path, server = tmp_path / "s.pth", serve(content)
    path.write_bytes(content)
    path.chmod(0o444)
    assert "it is read-only" in refused(server.address, path)
    assert server.asked == []


def test_a_disk_that_fills(
    serve: Serve, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.pth"
    opened = pathlib.Path.open

    def full(self: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if self.name == "s.pth.partial" and mode == "wb":
            return opened(Path("/dev/full"), mode, *rest, **more)
        return opened(self, mode, *rest, **more)

    monkeypatch.setattr(pathlib.Path, "open", full)
    said = refused(serve(content).address, path)
    assert os.strerror(errno.ENOSPC) in said
    assert not path.exists()


def test_one_run_at_a_time(serve: Serve, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "s.pth"
    lock = locks.take(f"fetch {os.path.realpath(path)}")
    assert not isinstance(lock, str)
    with lock:
        assert "is being fetched by" in refused(serve(content).address, path)


def test_published_ones_have_addresses_and_spaces() -> None:
    for item in PUBLISHED:
        assert item.address.startswith("https://")
        assert published(item.name) is published(item.space) is item
        Supernet(get_space(item.space))
    with pytest.raises(UsageError, match=r"no supernet 'ofa-mbv3-w1.1'.*Did you mean 'ofa-mbv3"):
        published("ofa-mbv3-w1.1")


def test_every_fault_is_an_error_of_lutra(serve: Serve, content: bytes, tmp_path: Path) -> None:
    """Wherever the server cuts off: an error, and then the whole file."""
    for cut in (0, 1, len(content) - 1):
        path, server = tmp_path / f"{cut}.pth", serve(content, cut_after=cut)
        with pytest.raises(LutraError):
            fetch_supernet(server.address, MBV3, path)
        server.cut_after = None
        fetch_supernet(server.address, MBV3, path)
        assert path.read_bytes() == content
