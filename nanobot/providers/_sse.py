"""Server-sent events, from bytes to events, without any I/O.

The decoder works line by line on bytes: an event's payload is JSON that its reader parses from bytes anyway, so
the text of a stream is never decoded twice, and a character split between two network reads needs no care.

Source: WHATWG HTML, section 9.2.6, "Interpreting an event stream".
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

__all__ = ["MAX_EVENT_BYTES", "EventStreamDecoder", "ServerSentEvent"]

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
"""How much one event may hold before we refuse to keep more of it in memory, in bytes.

A delta is a few hundred bytes. The largest honest event is a server that sends its whole answer as one: 128,000
tokens of 4 bytes each with every byte written as a `\\u00XX` escape are 3 MiB. A thousand streams that all
misbehave at once cost 4 GiB and not the machine.
"""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class ServerSentEvent(Struct, frozen=True, gc=False):
    """One event: its payload as sent, the event's name, and the last id the stream set."""

    data: bytes
    event: str = "message"
    id: str = ""


class EventStreamDecoder:
    """Turns the bytes of an event stream into events; how the bytes are cut makes no difference.

    Lines end with LF, CR or CRLF. Comments and unknown fields are skipped. An event that outgrows
    `max_event_bytes` sets `overflowed`; what came before it was delivered, and everything after it is ignored.

    Attributes:
      overflowed: Whether an event was larger than the bound. The stream cannot be trusted from there on.
      retry_ms: How long the server asks to wait before reconnecting, if it did, in milliseconds.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data",
        "_data_size",
        "_event",
        "_last_id",
        "_max_event_bytes",
        "_partial",
        "_partial_size",
        "overflowed",
        "retry_ms",
    )

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._partial: list[bytes] = []  # pieces of a line whose end has not arrived
        self._partial_size = 0
        self._data: list[bytes] = []  # payload lines of the open event
        self._data_size = 0  # counted with the field name, so that empty lines are bounded too
        self._event = ""
        self._last_id = ""
        self._at_start = True
        self._after_cr = False
        self.overflowed = False
        self.retry_ms: int | None = None

    def feed(self, received: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and return the events they complete, in order."""
        if self._after_cr or b"\r" in received:
            received = self._with_plain_newlines(received)
        if self.overflowed or not received:
            return []
        if b"\n" not in received:  # kept in pieces, so that a line that drips in costs linear time
            self._hold(received)
            return []
        lines = received.split(b"\n")
        rest = lines.pop()
        if self._partial:
            self._partial.append(lines[0])
            lines[0] = b"".join(self._partial)
            self._partial.clear()
            self._partial_size = 0
        if self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)

        events: list[ServerSentEvent] = []
        limit = self._max_event_bytes
        for line in lines:
            if not line:
                if self._data:
                    payload = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                    events.append(ServerSentEvent(payload, self._event or "message", self._last_id))
                    self._data.clear()
                    self._data_size = 0
                self._event = ""
                continue
            if len(line) + self._data_size > limit:
                self._overflow()
                return events
            if line.startswith(b"data: "):  # nearly every line of every stream
                self._data.append(line[6:])
                self._data_size += len(line)
            else:
                self._field(line)
        if rest:
            self._hold(rest)
        return events

    def end(self) -> ServerSentEvent | None:
        """Take the end of input: return the event it cut short, or None if the stream ended between two events.

        The standard says to drop such an event. A service that hangs up without the last blank line still said
        something, so whoever reads the payload decides: it is whole if it parses.
        """
        if self.overflowed:
            return None
        line = b"".join(self._partial)
        self._partial.clear()
        if self._at_start:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if line.startswith(b":"):  # half a comment is not half an event
            line = b""
        if line:
            self._field(line)
        if not (line or self._data):
            return None
        payload = b"\n".join(self._data)
        self._data.clear()
        return ServerSentEvent(payload, self._event or "message", self._last_id)

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_size += len(line)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._last_id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < 19:
            self.retry_ms = int(value)

    def _with_plain_newlines(self, received: bytes) -> bytes:
        if not received:
            return received
        if self._after_cr and received.startswith(b"\n"):  # the second half of a CRLF
            received = received[1:]
            if not received:
                self._after_cr = False
                return received
        self._after_cr = received.endswith(b"\r")
        return received.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _hold(self, piece: bytes) -> None:
        self._partial.append(piece)
        self._partial_size += len(piece)
        if self._partial_size + self._data_size > self._max_event_bytes:
            self._overflow()

    def _overflow(self) -> None:
        self.overflowed = True
        self._partial.clear()
        self._data.clear()
