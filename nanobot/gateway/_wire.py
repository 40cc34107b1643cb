"""The bytes of one WebSocket: our frames and those that the library sends for itself, on one stream and never mixed."""

from __future__ import annotations

import os
from typing import Final

import trio

__all__ = ["Wire", "text_frame"]

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
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._sending = trio.Lock()

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
        """Read what the client sent; b"" once it has ended."""
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close the socket."""
        await self._stream.aclose()

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
