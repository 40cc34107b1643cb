"""Reads HTTP/1.1 requests out of the bytes of a connection, without any I/O.

Strict and small: what a client of an HTTP API sends, and a clear refusal of everything else. Not h11, because that
takes 44 us of CPU for a request and its response where this takes 5, and all the rest of the scripted server takes 20:
a server that is slower than what it measures measures itself.

Source: RFC 9112.
"""

from __future__ import annotations

import re

from msgspec import Struct

__all__ = ["BadRequest", "HttpRequest", "RequestReader"]

MAX_HEAD_BYTES = 65_536
"""Of request line and headers together; services in the field allow 8 to 64 kB."""

MAX_BODY_BYTES = 64 * 1024 * 1024
"""More than any model's window with images takes, and still bearable for a test machine."""

_REQUEST_LINE = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/([0-9])\.([0-9])")
_HEADER_LINES = re.compile(r"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\0]*\r\n)*")


class HttpRequest(Struct, frozen=True):
    """One complete request. Header names are in lower case; the values of a repeated header are joined by ", "."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


class BadRequest(Exception):
    """The client sent something that is not an HTTP/1.1 request we understand; `status` is the answer it deserves."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Head(Struct, frozen=True):
    method: str
    target: str
    headers: dict[str, str]
    body_start: int
    body_end: int


class RequestReader:
    """Collects received bytes and gives out requests. How the bytes were cut makes no difference.

    After a `BadRequest` the reader has lost its place, and the connection can only be closed.
    """

    def __init__(self) -> None:
        self._received = bytearray()
        self._head: _Head | None = None
        self._continued = False

    def feed(self, received: bytes) -> None:
        """Add what came from the network.

        Raises:
          BadRequest: The client goes on sending without waiting for an answer.
        """
        self._received += received
        if len(self._received) > MAX_HEAD_BYTES + MAX_BODY_BYTES:
            raise BadRequest(413, "too many bytes ahead of the answers to them")

    def next_request(self) -> HttpRequest | None:
        """The next complete request, or None if more bytes are needed.

        Raises:
          BadRequest: There will never be one.
        """
        head = self._head or self._next_head()
        if head is None or len(self._received) < head.body_end:
            return None
        body = bytes(self._received[head.body_start : head.body_end])
        del self._received[: head.body_end]
        self._head = None
        self._continued = False
        keep_alive = "close" not in head.headers.get("connection", "").lower()
        return HttpRequest(head.method, head.target, head.headers, body, keep_alive)

    def take_continue(self) -> bool:
        """Whether the client waits to be told "100 Continue" before it sends its body; True once per request.

        Source: RFC 9110, section 10.1.1.
        """
        head = self._head
        if (
            self._continued
            or head is None
            or head.headers.get("expect", "").lower() != "100-continue"
        ):
            return False
        self._continued = True
        return len(self._received) < head.body_end

    def _next_head(self) -> _Head | None:
        end = self._received.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
        if end >= 0:
            self._head = _head_from_text(self._received[: end + 2].decode("latin-1"))
        elif len(self._received) >= MAX_HEAD_BYTES:
            raise BadRequest(431, f"the request's head is longer than {MAX_HEAD_BYTES} bytes")
        return self._head


def _head_from_text(text: str) -> _Head:
    """Parse request line and header lines, each with its line end."""
    line, _, header_lines = text.partition("\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise BadRequest(400, f"not a request line: {line[:80]!r}")
    method, target, major, minor = match.groups()
    if (major, minor) != ("1", "1"):
        raise BadRequest(505, f"only HTTP/1.1 is spoken here, not HTTP/{major}.{minor}")
    if _HEADER_LINES.fullmatch(header_lines) is None:
        raise BadRequest(400, "a header line is malformed")
    headers: dict[str, str] = {}
    for header_line in header_lines.split("\r\n")[:-1]:
        name, _, value = header_line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if "host" not in headers:
        raise BadRequest(400, "an HTTP/1.1 request must have a Host header")
    if "transfer-encoding" in headers:
        raise BadRequest(
            411, "send the body with a Content-Length; chunked request bodies are not read here"
        )
    length = headers.get("content-length", "0")
    if not length.isdecimal():  # which in Latin-1 are 0 to 9 only
        raise BadRequest(400, f"not a Content-Length: {length[:80]!r}")
    if len(length) > 18 or int(length) > MAX_BODY_BYTES:
        raise BadRequest(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
    body_start = len(text) + 2
    return _Head(method, target, headers, body_start, body_start + int(length))
