"""Asking for addresses over https, redirected only to what could have been asked for."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import IO
from urllib.parse import urlsplit

from lutra.errors import UsageError

_READ_SECONDS = 30.0  # for one read from the network

_LOOPBACK = ("127.0.0.1", "::1", "localhost")

Response = http.client.HTTPResponse


def check_address(address: str, allow_loopback: bool) -> None:
    """Raise `UsageError` unless it is https, or http to this machine where that is allowed."""
    try:
        parts = urlsplit(address)
    except ValueError:
        raise UsageError(f"{address!r} is no address") from None
    local = allow_loopback and parts.hostname in _LOOPBACK
    if not (parts.hostname and (parts.scheme == "https" or (local and parts.scheme == "http"))):
        raise UsageError(f"{address} is no https address: nothing else is fetched")


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to an address that could have been asked for."""

    def __init__(self, allow_loopback: bool) -> None:
        self.allow_loopback = allow_loopback

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        try:
            # A server elsewhere has no business with what listens on this machine.
            local = self.allow_loopback and urlsplit(req.full_url).hostname in _LOOPBACK
            check_address(newurl, local)
        except UsageError as error:
            fp.close()
            raise urllib.error.URLError(f"it redirects, and {error}") from None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_address(
    address: str, *, allow_loopback: bool, headers: Mapping[str, str] | None = None
) -> Response:
    """Ask for the address; raises urllib's errors."""
    opener = urllib.request.build_opener(_CheckedRedirects(allow_loopback))
    request = urllib.request.Request(address, headers=dict(headers or {}))  # noqa: S310 (checked)
    response = opener.open(request, timeout=_READ_SECONDS)
    assert isinstance(response, http.client.HTTPResponse)
    return response
