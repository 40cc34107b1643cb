"""What a command writes, kept within bounds while it is read."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["Output"]

_HEAD_SHARE: Final = 2 / 3
"""Of what is kept. What an output is about stands at its beginning, what went wrong at its end."""


class Output:
    """The beginning and the end of a stream of bytes, whatever its length.

    Attributes:
      size: Bytes that came.
    """

    def __init__(self, most: int) -> None:
        """Keep at most `most` bytes, and one piece more on the way."""
        self.size = 0
        self._head = bytearray()
        self._head_most = round(most * _HEAD_SHARE)
        self._tail: deque[bytes] = deque()
        self._tail_most = most - self._head_most
        self._tail_size = 0

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        self.size += len(piece)
        if room := self._head_most - len(self._head):
            self._head += piece[:room]
            piece = piece[room:]
        if piece:
            self._tail.append(piece)
            self._tail_size += len(piece)
            while self._tail and self._tail_size - len(self._tail[0]) >= self._tail_most:
                self._tail_size -= len(self._tail.popleft())

    @property
    def text(self) -> str:
        """What was kept, as text; what is no UTF-8 is shown as \ufffd."""
        tail = b"".join(self._tail)
        kept = tail[max(len(tail) - self._tail_most, 0) :]
        left_out = self.size - len(self._head) - len(kept)
        if not left_out:
            return (bytes(self._head) + kept).decode("utf-8", "replace")
        # A character that is cut in two at an end is left out.
        head = bytes(self._head).decode("utf-8", "replace").removesuffix("\ufffd")
        end = kept.lstrip(bytes(range(0x80, 0xC0))).decode("utf-8", "replace")
        return f"{head}\n[{left_out:,} bytes are left out here.]\n{end}"
