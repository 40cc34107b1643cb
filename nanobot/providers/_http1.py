"""The client's half of HTTP/1.1, without I/O: what a request's head looks like, and what the bytes of a response mean.

A model's answer is hundreds of small chunks, so reading them is a loop over one buffer and makes no objects but the bytes
it returns. Source: RFC 9112; `tests/providers/test_http1.py` compares it with h11, which knows both halves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from msgspec import Struct

from ._transport_errors import NotHTTP

__all__ = ["RequestError", "ResponseHead", "ResponseReader", "encode_head"]

_MAX_HEAD_BYTES: Final = 64 * 1024
"""Of status line and headers together; proxies allow 8 to 32 KiB."""

_MAX_CHUNK_LINE_BYTES: Final = 4096
_MAX_LENGTH_DIGITS: Final = 18

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_STATUS_LINE: Final = re.compile(r"HTTP/1\.([0-9]) ([0-9]{3})(?: ([^\x00]*))?")
_FIELD: Final = re.compile(rf"({_TOKEN}):([^\x00\r]*)")
_FOLD: Final = re.compile(r"\r?\n[ \t]+")
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r\n")

_METHOD_BYTES: Final = re.compile(_TOKEN.encode())
_TARGET_BYTES: Final = re.compile(rb"[\x21-\x7e]+")
_VALUE_BYTES: Final = re.compile(
    rb"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?|"
)


class RequestError(ValueError):
    """A request that cannot be written as HTTP; the text does not quote a header's value."""


class ResponseHead(Struct, frozen=True):
    """Status line and headers. Names are in lower case; a header that came several times has its values joined by commas."""

    status: int
    reason: str
    http_version: str
    headers: dict[str, str]


class _Framing(Enum):
    """How the end of a body is found."""

    LENGTH = auto()
    CHUNKS = auto()
    CLOSE = auto()


class _Expected(Enum):
    """What comes next in a chunked body."""

    LINE = auto()
    CONTENT = auto()
    CONTENT_END = auto()
    TRAILERS = auto()


def encode_head(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write request line and headers, without the empty line that ends them.

    Raises:
      RequestError: Something in it would not be read as it was meant.
    """
    if not _METHOD_BYTES.fullmatch(method):
        raise RequestError("the method is not a word")
    if not _TARGET_BYTES.fullmatch(target):
        raise RequestError("the target of the request has a blank or a control character in it")
    lines = [b"%b %b HTTP/1.1\r\n" % (method, target)]
    for name, value in headers:
        if not _METHOD_BYTES.fullmatch(name):
            raise RequestError("a header's name is not a word")
        if not _VALUE_BYTES.fullmatch(value):
            shown = name.decode("ascii")
            raise RequestError(f"the header {shown} has a line break or a control character in it")
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)


class ResponseReader:
    """Reads one response: the head, then the body, whatever pieces they come in.

    Attributes:
      complete: Whether the whole response was read.
      reusable: Once complete, whether the connection may carry another exchange: the server will not close it, and has sent
        nothing beyond the end.
    """

    __slots__ = (
        "_expected",
        "_failure",
        "_framing",
        "_keeps_open",
        "_left",
        "_rest",
        "_trailer_bytes",
        "complete",
    )

    def __init__(self) -> None:
        self.complete = False
        self._rest = b""  # received, and not understood yet
        self._framing = _Framing.CLOSE
        self._left = 0  # bytes of the body, or of this chunk
        self._expected = _Expected.LINE
        self._trailer_bytes = 0
        self._keeps_open = False
        self._failure: NotHTTP | None = None

    @property
    def reusable(self) -> bool:
        return self.complete and self._keeps_open and not self._rest

    @property
    def has_more(self) -> bool:
        """Whether bytes have come that are not read yet."""
        return bool(self._rest)

    def receive_head(self, received: bytes, *, bodyless: bool = False) -> ResponseHead | None:
        """Take bytes until the head is whole; returns it then, None before. Interim responses (1xx) are skipped.

        Args:
          received: What came next.
          bodyless: Whether no body follows, whatever the head says: it answers a HEAD request.

        Raises:
          NotHTTP: Of what has come no head can become.
        """
        looked_at = max(
            0, len(self._rest) - 3
        )  # by earlier calls, but for an end that was cut in two
        data = self._rest + received if self._rest else received
        while True:
            end = _HEAD_END.search(data, looked_at)
            if end is None:
                if len(data) > _MAX_HEAD_BYTES:
                    raise NotHTTP(
                        f"the head of the response is longer than {_MAX_HEAD_BYTES >> 10} KiB"
                    )
                if not b"HTTP/1.".startswith(data[:7]):
                    raise NotHTTP("the response does not begin with HTTP/1.")
                self._rest = data
                return None
            head = _parse_head(data[: end.start()])
            data = data[end.end() :]
            looked_at = 0
            if head.status == 101:
                raise NotHTTP("the server switched to another protocol, unasked")
            if head.status >= 200:
                self._rest = data
                self._begin_body(head, bodyless)
                return head

    def receive_body(self, received: bytes = b"") -> bytes:
        """Take what came next and return what of the body it brought; b"" if that is nothing yet, or the body is complete.

        Raises:
          NotHTTP: What came is no body. What came before it in order is returned first; the next call raises.
        """
        if self._failure is not None:
            raise self._failure
        data = self._rest + received if self._rest else received
        if self.complete:
            self._rest = data
            return b""
        if self._framing is _Framing.CHUNKS:
            return self._dechunked(data)
        if self._framing is _Framing.CLOSE:
            self._rest = b""
            return data
        body, self._rest = (
            (data, b"") if len(data) <= self._left else (data[: self._left], data[self._left :])
        )
        self._left -= len(body)
        self.complete = not self._left
        return body

    def receive_end(self) -> None:
        """Take note that the server hung up.

        Raises:
          NotHTTP: The response is not complete.
        """
        if self._failure is not None:
            raise self._failure
        if self._framing is _Framing.CLOSE:
            self.complete = True
        elif not self.complete:
            raise NotHTTP("the server closed the connection before the end of its response")

    def _begin_body(self, head: ResponseHead, bodyless: bool) -> None:
        """Source: RFC 9112, sections 6.3 and 9.3."""
        headers = head.headers
        connection = headers.get("connection", "")
        self._keeps_open = head.http_version != "1.0" and not (
            connection and "close" in _words(connection)
        )
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if bodyless or head.status in (204, 304):
            self._framing, self.complete = _Framing.LENGTH, True
        elif coding is not None:
            if coding.strip().lower() != "chunked":
                raise NotHTTP(
                    f"the response has a transfer coding that was not asked for: {coding[:50]!r}"
                )
            self._framing = _Framing.CHUNKS
            if length is not None:  # somebody on the way may have read it the other way
                self._keeps_open = False
        elif length is not None:
            self._framing, self._left = _Framing.LENGTH, _parse_length(length)
            self.complete = not self._left
        else:
            self._keeps_open = False

    def _dechunked(self, data: bytes) -> bytes:
        parts: list[bytes] = []
        at, end = 0, len(data)
        try:
            while at < end and not self.complete:
                if self._expected is _Expected.LINE:
                    line = _CHUNK_LINE.match(data, at)
                    if line is None:
                        if b"\n" in data[at:] or end - at > _MAX_CHUNK_LINE_BYTES:
                            raise NotHTTP("a chunk of the response does not begin with its size")
                        break
                    at = line.end()
                    size = int(line[1], 16)
                    if (
                        size and data[at + size : at + size + 2] == b"\r\n"
                    ):  # all of it, nearly always
                        parts.append(data[at : at + size])
                        at += size + 2
                    else:
                        self._left = size
                        self._expected = _Expected.CONTENT if size else _Expected.TRAILERS
                elif self._expected is _Expected.CONTENT:
                    part = data[at : at + self._left]
                    parts.append(part)
                    at += len(part)
                    self._left -= len(part)
                    if not self._left:
                        self._expected = _Expected.CONTENT_END
                elif self._expected is _Expected.CONTENT_END:
                    if end - at < 2 and data[at:] == b"\r":
                        break
                    if data[at : at + 2] != b"\r\n":
                        raise NotHTTP("a chunk of the response is not as long as it says")
                    at += 2
                    self._expected = _Expected.LINE
                else:
                    line_end = data.find(b"\n", at)
                    if line_end < 0:
                        if end - at > _MAX_CHUNK_LINE_BYTES:
                            raise NotHTTP("the response ends with a line that does not end")
                        break
                    self.complete = data[at : line_end + 1] in (b"\r\n", b"\n")
                    self._trailer_bytes += line_end + 1 - at
                    if self._trailer_bytes > _MAX_HEAD_BYTES:
                        raise NotHTTP(
                            f"the response has more than {_MAX_HEAD_BYTES >> 10} KiB of trailers"
                        )
                    at = line_end + 1
        except NotHTTP as failure:
            self._failure = failure
            if not parts:
                raise
        self._rest = data[at:] if at < end else b""
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _parse_head(head: bytes) -> ResponseHead:
    text = head.decode("latin-1")
    if "\n " in text or "\n\t" in text:  # a line that goes on in the next one
        first, _, rest = text.partition("\n")
        text = f"{first}\n{_FOLD.sub(' ', rest)}"
    first, *lines = text.split("\n")
    status = _STATUS_LINE.fullmatch(first.removesuffix("\r"))
    if status is None:
        raise NotHTTP(f"the response does not begin with a status line: {first[:50]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        field = _FIELD.fullmatch(line.removesuffix("\r"))
        if field is None:
            raise NotHTTP(f"the response has a line that is no header: {line[:50]!r}")
        name, value = field[1].lower(), field[2].strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return ResponseHead(int(status[2]), status[3] or "", f"1.{status[1]}", headers)


def _parse_length(text: str) -> int:
    lengths = set(_words(text))
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdigit()) or len(length) > _MAX_LENGTH_DIGITS:
        raise NotHTTP(f"the response does not say how long it is: {text[:50]!r}")
    return int(length)


def _words(text: str) -> list[str]:
    return [word.strip().lower() for word in text.split(",")]
