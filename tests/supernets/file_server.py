"""A web server on this machine that holds one file, and the faults that servers have."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What is served, and how; ``asked`` are the Range headers that came."""

    content: bytes
    ranges: bool = True
    tag: bool = True
    cut_after: int | None = None
    length: bool = True
    content_type: str = "application/octet-stream"
    status: int = 200
    location: str | None = None
    asked: list[str | None] = field(default_factory=list)
    address: str = ""

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    """The server, at ``served.address``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            _answer(self, served)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.address = f"http://127.0.0.1:{server.server_port}/file"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(handler: BaseHTTPRequestHandler, served: Served) -> None:
    wanted = handler.headers.get("Range")
    served.asked.append(wanted)
    handler.close_connection = True
    start = _start(handler, served)
    if served.location is not None:
        handler.send_response(302)
        handler.send_header("Location", served.location)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    if start > 0 and start >= len(served.content):
        handler.send_response(416)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    body = served.content[start:]
    handler.send_response(206 if start else served.status)
    if start:
        total = len(served.content)
        handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
    handler.send_header("Content-Type", served.content_type)
    if served.tag:
        handler.send_header("ETag", served.etag)
    if served.length:
        handler.send_header("Content-Length", str(len(body)))
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(body if served.cut_after is None else body[: served.cut_after])


def _start(handler: BaseHTTPRequestHandler, served: Served) -> int:
    match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    fresh = handler.headers.get("If-Range") in (None, served.etag)
    return int(match[1]) if match and served.ranges and fresh else 0
