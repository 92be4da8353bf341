"""Downloads of large files that go on where they were cut off.

What has come is beside the target (``NAME.partial``), with a note of which version of the file it
is (``NAME.partial.json``): the server's ETag or date, by which it says whether it still has it.
"""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lutra.errors import LutraError
from lutra.files import read_json
from lutra.files.https import Response, check_address, open_address
from lutra.text import first_words, why

_CHUNK = 1 << 18
_RANGE = re.compile(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)")
_AGAIN = "run the same command again"

Report = Callable[[int, int | None, float], None]
"""Told how many bytes are there, of how many, and how many seconds the rest takes."""


class Partial:
    """What has come of an address; nobody else may write it at the same time."""

    def __init__(self, address: str, target: Path, error: type[LutraError]) -> None:
        self.address = address
        self.path = target.with_name(f"{target.name}.partial")
        self._note = target.with_name(f"{target.name}.partial.json")
        self._error = error

    def discard(self) -> None:
        """Remove it."""
        for path in (self.path, self._note):
            path.unlink(missing_ok=True)

    def complete(self, max_bytes: int, on_progress: Report) -> int:
        """Fetch what is missing; returns how many bytes were there before.

        Raises ``error`` for whatever the network did, for a web page in the place of a file, for
        more than ``max_bytes``, and where the disk is full; what has come stays, if it can be
        gone on with. Raises `UsageError` for an address that is neither https nor this machine's.
        """
        check_address(self.address, allow_loopback=True)
        known, version = self._resumable()
        with self._ask(known, version) as response:
            start = _start(response)
            if start not in (0, known):
                raise self._failed("the server sent another part than it was asked for")
            self._require_file(response)
            if not start:
                self._empty()  # before the note: what is there is of another version than it says
            self._keep_version(response)
            self._receive(response, start, max_bytes, on_progress)
        return start

    def _resumable(self) -> tuple[int, str | None]:
        """How much is there, and of which version; nothing where that is not known."""
        try:
            note = read_json(self._note, self._error)
            size = self.path.stat().st_size
        except (LutraError, OSError):
            return 0, None
        version = note.get("version") if isinstance(note, dict) else None
        if not isinstance(version, str) or note.get("address") != self.address:
            return 0, None
        return size, version

    def _ask(self, known: int, version: str | None) -> Response:
        headers = {"Accept-Encoding": "identity"}
        if known and version is not None:
            headers |= {"Range": f"bytes={known}-", "If-Range": version}
        try:
            with self._network_errors():
                return open_address(self.address, allow_loopback=True, headers=headers)
        except _RangeRefusedError:
            if not known:  # nothing was asked for that could be refused
                raise self._failed(f"HTTP {http.client.REQUESTED_RANGE_NOT_SATISFIABLE}") from None
            self.discard()  # all of it was there, or more
            return self._ask(0, None)

    def _require_file(self, response: Response) -> None:
        if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise self._failed("a web page came, not a file: is it the address of the file itself?")

    def _empty(self) -> None:
        with self._disk_errors():
            self.path.write_bytes(b"")

    def _keep_version(self, response: Response) -> None:
        version = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if version is None or version.startswith("W/"):  # weak: the bytes may differ
            self._note.unlink(missing_ok=True)
            return
        with self._disk_errors():
            self._note.write_text(json.dumps({"address": self.address, "version": version}))

    def _receive(self, response: Response, start: int, max_bytes: int, on_progress: Report) -> None:
        rest = _length(response)
        expected = None if rest is None else start + rest
        received = start
        began = time.monotonic()
        with self._disk_errors(), self.path.open("r+b" if start else "wb") as file:
            if start:
                file.truncate(start)
                file.seek(start)
            for chunk in self._chunks(response):
                received += len(chunk)
                if received > max_bytes or (expected or 0) > max_bytes:
                    self.discard()
                    raise self._failed(f"it is larger than {max_bytes >> 20} MiB: refused")
                file.write(chunk)
                on_progress(received, expected, _eta(began, received - start, expected, received))
        if expected is not None and received != expected:
            on = " (it goes on from there)" if self._note.exists() else ""
            raise self._failed(f"cut off after {received} of {expected} bytes; {_AGAIN}{on}")

    def _chunks(self, response: IO[bytes] | Response) -> Iterator[bytes]:
        while True:
            with self._network_errors():
                chunk = response.read1(_CHUNK)  # type: ignore[union-attr]
            if not chunk:
                return
            yield chunk

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            reason = problem.strerror or problem
            raise self._error(f"cannot write {self.path}: {reason}") from problem

    @contextmanager
    def _network_errors(self) -> Iterator[None]:
        try:
            yield
        except urllib.error.HTTPError as problem:
            problem.close()
            if problem.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise _RangeRefusedError from None
            raise self._failed(f"HTTP {problem.code} {problem.reason}") from None
        except urllib.error.URLError as problem:
            raise self._failed(str(problem.reason)) from None
        except (OSError, ValueError, http.client.HTTPException) as problem:  # of é: ValueError
            raise self._failed(f"{why(problem)}; {_AGAIN}") from None

    def _failed(self, reason: str) -> LutraError:
        return self._error(f"cannot fetch {self.address}: {first_words(reason)}")


class _RangeRefusedError(Exception):
    """The server has nothing from there on."""


def _start(response: Response) -> int:
    """Where in the file the answer begins; -1 where it does not say."""
    if response.status != http.client.PARTIAL_CONTENT:
        return 0
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1


def _length(response: Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else None


def _eta(began: float, new: int, expected: int | None, received: int) -> float:
    if expected is None:
        return float("nan")
    return (time.monotonic() - began) / max(new, 1) * (expected - received)
