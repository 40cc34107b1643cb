"""Unpack the body of an HTTP response, never further than asked."""

from __future__ import annotations

import zlib

__all__ = ["Inflater"]


class Inflater:
    """Unpacks `gzip` and `deflate` piece by piece; holds no more than it was asked for.

    A kilobyte can unpack to a megabyte, so a limit on what comes from the network bounds nothing.
    """

    def __init__(self, encoding: str) -> None:
        """Take the `Content-Encoding` of a response.

        Raises:
          ValueError: It is one that was not asked for.
        """
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise ValueError(encoding)
        self._plain = encoding in ("", "identity")
        self._raw_allowed = encoding == "deflate"
        self._begun = False
        self._unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # recognizes zlib and gzip

    @property
    def is_whole(self) -> bool:
        """Whether the packed data has come to its end; that of nothing at all has."""
        return self._plain or not self._begun or self._unpacker.eof

    def feed(self, piece: bytes, room: int) -> bytes:
        """Unpack the next bytes, up to `room` of them; what is beyond is lost.

        Raises:
          zlib.error: They are no packed data.
        """
        if self._plain:
            return piece[:room]
        if not piece or not room:
            return b""
        self._begun = True
        try:
            unpacked = self._unpacker.decompress(piece, room)
        except zlib.error:
            if not self._raw_allowed:
                raise
            # Some servers send `deflate` without the header that RFC 9110, section 8.4.1.2, asks for.
            self._unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
            unpacked = self._unpacker.decompress(piece, room)
        self._raw_allowed = False
        return unpacked
