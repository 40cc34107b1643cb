"""HTTP connections of clients: taken in, spoken to by hypercorn, and ended for certain."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any, Final

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp

__all__ = ["HttpConnections"]

_ON_ITS_WAY_S: Final = 0.5
"""How long a request may be on its way that was sent while its connection still seemed to be wanted: a trip through the
network, and what a busy machine adds to it. It is answered, so that its client is left in no doubt."""


class HttpConnections:
    """Serves an ASGI application over HTTP/1.1, with hypercorn's Trio protocol.

    Hypercorn's own `serve` is not used, for three things that it cannot do: a client that does not read is cut off after
    a while, not waited for (hypercorn shields its writes from cancellation, also while it shuts down); what one
    connection meets, be it a bug or a WebSocket's handshake with rubbish behind it, does not end all others; connections
    that are left at the end are closed, come what may.

    Args:
      app: The application.
      log: Where failures are told.
      write_within_s: Seconds that a client may take to accept the next piece of an answer.
      idle_s: Seconds that a connection may be without a complete request head.
      most: How many connections there may be: past it the oldest is closed, so that many that say nothing on purpose
        cannot keep out one that means it. None is no limit.
    """

    def __init__(
        self,
        app: ASGIApp,
        log: logging.Logger,
        *,
        write_within_s: float,
        idle_s: float,
        most: int | None = None,
    ) -> None:
        self._config = Config()
        self._config.errorlog = log
        self._config.keep_alive_timeout = idle_s
        self._config.keep_alive_max_requests = (
            1_000_000_000  # nothing grows with the number of requests
        )
        self._config.include_server_header = False
        self._app: Any = wrap_app(app, 0, "asgi")  # type: ignore[arg-type]  # Starlette's types are not hypercorn's
        self._context = WorkerContext(None)
        self._log = log
        self._write_within_s = write_within_s
        self._most = most
        self._open: dict[_ClientStream, None] = {}
        self._closed = trio.Event()

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._open)

    async def serve(self, listeners: list[trio.SocketListener], nursery: trio.Nursery) -> None:
        """Take connections until this is cancelled, then close the listeners. Connections live in `nursery`.

        Who has connected by then is let in: closing a listener resets those that wait in its queue, and such a client
        cannot know whether its request was read.
        """
        doors = [socket.socket(fileno=os.dup(each.socket.fileno())) for each in listeners]
        try:
            await trio.serve_listeners(self._speak, listeners, handler_nursery=nursery)
        finally:
            for door in doors:
                with door:
                    self._let_in(door, nursery)

    def _let_in(self, door: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            try:
                client, _ = door.accept()
            except OSError:  # nobody waits, or no file is left
                return
            client.setblocking(False)
            nursery.start_soon(
                self._speak, trio.SocketStream(trio.socket.from_stdlib_socket(client))
            )

    async def stop_idle(self) -> None:
        """Close each connection as soon as no request is on it, nor may be on its way."""
        await self._context.terminated.set()

    async def wait_closed(self) -> None:
        """Return when there are no connections."""
        while self._open:
            self._closed = trio.Event()
            await self._closed.wait()

    def close_all(self) -> None:
        """Close every connection, whatever is on it."""
        for stream in tuple(self._open):
            stream.abort()

    async def _speak(self, stream: trio.SocketStream) -> None:
        client = _ClientStream(stream, self._write_within_s)
        self._open[client] = None
        if self._most is not None and len(self._open) > self._most:
            next(iter(self._open)).abort()
        try:
            await _Server(self._app, self._config, self._context, {}, client).run()  # type: ignore[arg-type]  # as above
        except Exception as error:  # noqa: BLE001 - one client's connection, whatever went wrong with it, is not the others'
            # Bytes of anybody can do this, so it takes one line of the log. What the application raises is told before.
            self._log.warning("a connection failed: %r", error)
            self._log.debug("a connection failed", exc_info=True)
        finally:
            del self._open[client]
            self._closed.set()
            client.abort()


class _Server(TCPServer):
    """Hypercorn's, but for when a connection without a request is closed."""

    async def _idle_timeout(self) -> None:
        with trio.move_on_after(self.config.keep_alive_timeout):
            await self.context.terminated.wait()
            await trio.sleep(_ON_ITS_WAY_S)  # a request that comes ends this
        with trio.CancelScope(shield=True):
            await self._initiate_server_close()


class _ClientStream:
    """A socket stream whose writes do not wait for ever. Has what hypercorn uses of `trio.SocketStream`."""

    def __init__(self, stream: trio.SocketStream, write_within_s: float) -> None:
        self.socket = stream.socket
        self._stream = stream
        self._write_within_s = write_within_s

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes) -> None:
        with trio.move_on_after(self._write_within_s) as limit:
            await self._stream.send_all(data)
        if limit.cancelled_caught:
            self.abort()
            raise trio.BrokenResourceError("the client does not read")

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def abort(self) -> None:
        """Close the socket at once; whoever waits for it gets a `ClosedResourceError`."""
        self.socket.close()
