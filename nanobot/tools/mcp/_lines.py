"""Bytes into lines, bounded. No I/O."""

from __future__ import annotations

__all__ = ["LineTooLong", "Lines"]


class LineTooLong(Exception):
    """A line has more bytes than may be kept."""


class Lines:
    """Splits what it is fed at line feeds. Each byte is copied once, however long a line grows.

    Args:
      longest: Bytes that a line may have.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._begun: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take some bytes and return the lines that end in them, without their line feeds.

        Raises:
          LineTooLong: A line is longer than allowed; what was fed is lost.
        """
        *whole, rest = data.split(b"\n")
        lines = []
        for piece in whole:
            self._keep(piece)
            lines.append(b"".join(self._begun))
            self._begun.clear()
            self._size = 0
        self._keep(rest)
        return lines

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._longest:
            raise LineTooLong
        if piece:
            self._begun.append(piece)
