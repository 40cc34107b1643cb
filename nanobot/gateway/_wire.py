"""The bytes of one WebSocket: our frames and those that the library sends for itself, on one stream and never mixed; what
comes is counted, so that few clients at once can make the gateway hold much.
"""

from __future__ import annotations

import math
import os
from typing import Final

import trio

__all__ = ["LONG_MESSAGES", "Wire", "text_frame"]

LONG_MESSAGES: Final = 8
"""Clients that may send a long message at once, of 36 MB at most; the others wait, unread."""

_LONG_BYTES: Final = 256 * 1024
"""From where on a message is long: only those with files are."""

_LONG_WITHIN_S: Final = 300.0
"""How long one may take: 36 MB at 1 Mbit/s. Past it the client is cut off, for others may wait."""

_TEXT: Final = 0x81
"""A text message in one frame."""

_SHORT: Final = 126
_MEDIUM: Final = 1 << 16


def text_frame(payload: bytes) -> bytes:
    """One text message as a server sends it: whole, and not masked.

    Source: RFC 6455, section 5.2.
    """
    size = len(payload)
    if size < _SHORT:
        return bytes((_TEXT, size)) + payload
    if size < _MEDIUM:
        return bytes((_TEXT, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_TEXT, 127)) + size.to_bytes(8, "big") + payload


class Wire(trio.abc.Stream):
    """A socket with two writers: the WebSocket library, which answers pings and closes, and `send_frames`.

    The library's way to send a message costs more than all the rest that a token needs here: events, a lock and two
    checkpoints for each. So what a client gets is framed by us, many frames at a time, and handed to the kernel at once.

    Args:
      stream: The socket.
      places: For those who send a long message. A client that finds none free is not read until one is, which makes it wait.

    Attributes:
      received: Bytes that came so far.
      waiting: Whether the client waits for a place.
    """

    def __init__(self, stream: trio.SocketStream, places: trio.CapacityLimiter) -> None:
        self._stream = stream
        self._sending = trio.Lock()
        self._places = places
        self._unfinished = 0  # bytes since a message was done with
        self._long_until: float | None = None  # its deadline, while it has a place
        self.received = 0
        self.waiting = False

    async def send_frames(self, frames: bytes | bytearray, *, timeout_s: float) -> bool:
        """Send whole frames; returns whether they went within that time. A checkpoint only if it has to wait.

        If it returns False, or is cancelled, a frame may have been cut: nothing can follow it.

        Raises:
          trio.BrokenResourceError: The client is gone.
          trio.ClosedResourceError: The stream was closed.
        """
        if self._sending.locked():
            with trio.move_on_after(timeout_s) as waiting:
                await self.send_all(frames)
            return not waiting.cancelled_caught
        sent = self._write(frames)
        if sent == len(frames):  # nearly always: the kernel keeps megabytes for a client
            return True
        self._sending.acquire_nowait()  # nobody has run since we looked
        try:
            with trio.move_on_after(timeout_s) as waiting:
                await self._stream.send_all(memoryview(frames)[sent:])
        finally:
            self._sending.release()
        return not waiting.cancelled_caught

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send what the library has to say."""
        async with self._sending:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As every stream has it."""
        async with self._sending:
            await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Read what the client sent; b"" once it has ended.

        Raises:
          trio.BrokenResourceError: The client is gone, or took too long for one message.
          trio.ClosedResourceError: The stream was closed.
        """
        if self._unfinished >= _LONG_BYTES and self._long_until is None:
            await self._take_place()
        with trio.CancelScope(deadline=self._long_until or math.inf) as scope:
            data = await self._stream.receive_some(max_bytes)
        if scope.cancelled_caught:
            raise trio.BrokenResourceError(f"a message took longer than {_LONG_WITHIN_S:g} s")
        self.received += len(data)
        self._unfinished += len(data)
        return data

    def message_done(self) -> None:
        """The client's message was followed, and is held no more. What of the next one has come by now goes uncounted."""
        self._unfinished = 0
        self._leave_place()

    async def aclose(self) -> None:
        """Close the socket."""
        self._leave_place()
        await self._stream.aclose()

    async def _take_place(self) -> None:
        self.waiting = True
        try:
            await self._places.acquire_on_behalf_of(self)
        finally:
            self.waiting = False
        self._long_until = trio.current_time() + _LONG_WITHIN_S

    def _leave_place(self) -> None:
        if self._long_until is not None:
            self._long_until = None
            self._places.release_on_behalf_of(self)

    def _write(self, data: bytes | bytearray) -> int:
        """Give the kernel what it takes now; returns how many bytes that was."""
        descriptor = self._stream.socket.fileno()  # asked anew: a closed one's number is another's
        if descriptor < 0:
            raise trio.ClosedResourceError("the stream was closed")
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error
