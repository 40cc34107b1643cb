"""The latest frames of one chat, numbered, to be read by any number of clients each at its own pace. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from ._server_frames import (
    ApprovalRequested,
    ChatFrame,
    Delta,
    Message,
    ReasoningDelta,
    Tool,
    UserMessage,
)

__all__ = ["Behind", "ChatLog"]

_FRAME_BYTES: Final = 200
"""What a frame weighs besides its text, about: its names in JSON, and as much again as an object."""

_PIECE_BYTES: Final = 60
"""What a delta weighs that is kept as a piece of the one before."""

_RUN_PIECES: Final = 256
"""How many deltas are kept in one entry. Whole entries are dropped, and cut when a client is in the middle of one."""


class Behind(Exception):
    """What a reader asks for has been dropped: it is too far behind."""


class _Entry:
    """One frame; or consecutive deltas of one stream, `frame` being the first of them. They are numbered `first` to `last`."""

    __slots__ = ("first", "frame", "last", "pieces", "size")

    def __init__(self, frame: ChatFrame, seq: int) -> None:
        self.frame = frame
        self.first = self.last = seq
        self.pieces = [frame.text] if isinstance(frame, (Delta, ReasoningDelta)) else None
        self.size = _FRAME_BYTES + _weight(frame)

    def take_in(self, frame: ChatFrame) -> int:
        """Add a delta of the same stream; returns what it weighs, 0 if it is none and was not added."""
        mine, pieces = self.frame, self.pieces
        if (
            pieces is None
            or type(frame) is not type(mine)
            or frame.stream_id != mine.stream_id  # type: ignore[attr-defined]  # both are deltas
            or len(pieces) >= _RUN_PIECES
        ):
            return 0
        text: str = frame.text  # type: ignore[attr-defined]  # as above
        pieces.append(text)
        self.last += 1
        weight = _PIECE_BYTES + len(text)
        self.size += weight
        return weight

    def since(self, seq: int) -> ChatFrame:
        """What of it comes after `seq`, as one frame."""
        if self.pieces is None or self.first == self.last:
            return replace(self.frame, seq=self.last)
        text = "".join(self.pieces[max(0, seq + 1 - self.first) :])
        return replace(self.frame, seq=self.last, text=text)


class ChatLog:
    """Numbers the frames of a chat from 1 and keeps the latest, about `max_bytes` of them.

    Attributes:
      last: The number of the newest frame; 0 before the first.
    """

    __slots__ = ("_entries", "_forgotten", "_max_bytes", "_size", "last")

    def __init__(self, max_bytes: int) -> None:
        self.last = 0
        self._max_bytes = max_bytes
        self._entries: deque[_Entry] = deque()
        self._forgotten = 0
        self._size = 0

    @property
    def size(self) -> int:
        """What it holds, about, in bytes."""
        return self._size

    def covers(self, seq: int) -> bool:
        """Whether all frames after `seq` are still here, and `seq` is one of ours."""
        return self._forgotten <= seq <= self.last

    @property
    def oldest(self) -> int:
        """The lowest number from behind which it can be read."""
        return self._forgotten

    def append(self, frame: ChatFrame) -> int:
        """Number a frame and keep it; returns by how many bytes the log grew or shrank. The newest entry is kept whatever
        its size.
        """
        self.last += 1
        if self._entries and (grown := self._entries[-1].take_in(frame)):
            self._size += grown
        else:
            entry = _Entry(frame, self.last)
            self._entries.append(entry)
            grown = entry.size
            self._size += grown
        while self._size > self._max_bytes and len(self._entries) > 1:
            dropped = self._entries.popleft()
            self._size -= dropped.size
            grown -= dropped.size
            self._forgotten = dropped.last
        return grown

    def after(self, seq: int, *, limit_bytes: int) -> list[ChatFrame]:
        """The frames after `seq`, oldest first, about `limit_bytes` of them and at least one if there is any.

        Consecutive deltas of one stream come as one, numbered as the last of them.

        Raises:
          Behind: Some of them have been dropped.
        """
        if not self.covers(seq):
            raise Behind
        frames: list[ChatFrame] = []
        size = 0
        for entry in self._entries_after(seq):
            if frames and size + entry.size > limit_bytes:
                break
            frames.append(entry.since(seq))
            size += entry.size
        return frames

    def shrink(self) -> int:
        """Drop all but the newest entry; returns how many bytes that freed."""
        freed = 0
        while len(self._entries) > 1:
            dropped = self._entries.popleft()
            self._size -= dropped.size
            freed += dropped.size
            self._forgotten = dropped.last
        return freed

    def _entries_after(self, seq: int) -> Iterator[_Entry]:
        # From the end: readers are mostly one entry behind, and the log may hold thousands.
        start = len(self._entries)
        while start and self._entries[start - 1].last > seq:
            start -= 1
        for index in range(start, len(self._entries)):
            yield self._entries[index]


def _weight(frame: ChatFrame) -> int:
    match frame:
        case UserMessage(text=text) | Delta(text=text) | ReasoningDelta(text=text):
            return len(text)
        case Message(text=text):
            return len(text)
        case Tool(arguments=arguments, result=result, error=error):
            return _depth_free(arguments) + len(result or "") + len(error or "")
        case ApprovalRequested(arguments=arguments, description=description):
            return _depth_free(arguments) + len(description)
        case _:
            return 0


def _depth_free(value: object) -> int:
    """About how long a JSON value is, without recursion: arguments may be nested as deep as a model likes."""
    size = 0
    left = [value]
    while left:
        match left.pop():
            case str(text):
                size += len(text) + 2
            case dict(fields):
                size += sum(len(str(name)) + 4 for name in fields)
                left.extend(fields.values())
            case list(items):
                size += 2 * len(items)
                left.extend(items)
            case _:
                size += 8
    return size
