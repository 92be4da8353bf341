"""Fetch a program over https, bounded in size and time."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from lutra.errors import PermanentDeviceError, TransientDeviceError
from lutra.files.https import Response
from lutra.text import one_line, why

_MAX_BYTES = 200_000_000
_CHUNK = 1 << 16
_FETCH_SECONDS = 1800.0  # for all of it: 200 MB at 1 Mbit/s

OpenUrl = Callable[[str], Response]


def download(address: str, open_url: OpenUrl, file: IO[bytes]) -> None:
    """Stream what the address holds into the file.

    Raises `TransientDeviceError` for whatever the network did, `PermanentDeviceError` for too
    much; errors of the local disk pass.
    """
    deadline = time.monotonic() + _FETCH_SECONDS
    with _network_errors(address):
        response = open_url(address)
    with response:
        expected = _length(response)
        received = 0
        while True:
            with _network_errors(address):
                chunk = response.read1(_CHUNK)
            received += len(chunk)
            if received > _MAX_BYTES or (expected or 0) > _MAX_BYTES:
                raise PermanentDeviceError(f"{address} is over {_MAX_BYTES // 10**6} MB: refused")
            if not chunk:
                break
            if time.monotonic() > deadline:
                raise _unfetched(address, f"not done after {_FETCH_SECONDS:g} s")
            file.write(chunk)
    if expected is not None and received != expected:
        raise _unfetched(address, f"cut off after {received} of {expected} bytes")


def _length(response: Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


@contextmanager
def _network_errors(address: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise _unfetched(address, f"HTTP {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _unfetched(address, str(error.reason)) from None
    except (OSError, http.client.HTTPException) as error:
        raise _unfetched(address, why(error)) from None


def _unfetched(address: str, reason: str) -> TransientDeviceError:
    return TransientDeviceError(
        f"cannot fetch {address}: {one_line(reason)}; fetch it on a machine that can and "
        "give it with `lutra devices --use-benchmark FILE`"
    )
