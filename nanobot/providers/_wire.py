"""The bytes of one connection, plain or under TLS: sent, received, and closed without an await. Trio only."""

from __future__ import annotations

import socket
from typing import Final, Protocol

import trio

__all__ = ["PlainWire", "TLSWire", "Wire"]

_READ_BYTES: Final = 64 * 1024


class Wire(Protocol):
    """A connection to a server, for one task at a time; `close` and `is_quiet` are for everybody in its Trio run."""

    async def send_all(self, data: bytes) -> None:
        """Send everything. Not always a checkpoint.

        Raises:
          trio.BrokenResourceError, trio.ClosedResourceError: The connection is broken, or was closed from this side.

        Cancelled, it may have sent a part.
        """
        ...

    async def receive(self) -> bytes:
        """Wait for bytes and return what there is, at most 64 KiB; b"" if the server hung up. Always a checkpoint.

        Raises:
          trio.BrokenResourceError, trio.ClosedResourceError: As above.
        """
        ...

    def is_quiet(self) -> bool:
        """Whether there is nothing to receive: neither bytes, nor that the server hung up."""
        ...

    def close(self) -> None:
        """Close it now; whoever waits in it gets `trio.ClosedResourceError`. Idempotent."""
        ...


class PlainWire:
    """A non-blocking socket, without the objects that a Trio stream makes around each call."""

    __slots__ = ("_socket",)

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    async def send_all(self, data: bytes) -> None:
        sock = self._socket
        try:
            try:
                sent = sock.send(data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                with memoryview(data) as rest:
                    while sent < len(data):
                        await trio.lowlevel.wait_writable(sock)
                        try:
                            sent += sock.send(rest[sent:])
                        except BlockingIOError:
                            pass
        except (OSError, ValueError) as exc:
            raise self._failure(exc) from exc

    async def receive(self) -> bytes:
        sock = self._socket
        try:
            while True:
                await trio.lowlevel.wait_readable(sock)
                try:
                    return sock.recv(_READ_BYTES)
                except BlockingIOError:
                    pass  # somebody else's news
        except (OSError, ValueError) as exc:
            raise self._failure(exc) from exc

    def is_quiet(self) -> bool:
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def _failure(self, exc: Exception) -> Exception:
        if self._socket.fileno() < 0:
            return trio.ClosedResourceError("this connection was closed from this side")
        return trio.BrokenResourceError(str(exc))


class TLSWire:
    """A connection under TLS.

    Args:
      stream: After its handshake.
      sock: The socket below it.
    """

    __slots__ = ("_socket", "_stream")

    def __init__(self, stream: trio.abc.Stream, sock: trio.socket.SocketType) -> None:
        self._stream = stream
        self._socket = sock

    async def send_all(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def receive(self) -> bytes:
        return bytes(await self._stream.receive_some(_READ_BYTES))

    def is_quiet(self) -> bool:
        return not self._socket.is_readable()

    def close(self) -> None:
        # TLS is not said goodbye to: HTTP has its own framing, and the peer may never answer.
        self._socket.close()
