"""The server's side of one connection: requests in, bytes out, and an eye on whether the client is still there."""

from __future__ import annotations

import socket
import struct

import trio

from ._http import BadRequest, HttpRequest, RequestReader

__all__ = ["Connection", "HungUp"]

READ_SIZE = 65_536
"""Bytes per read: a usual request in one."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HungUp(Exception):
    """The client closed or reset the connection."""


class Connection:
    """An accepted, non-blocking socket, spoken to without layers in between: a read and a write per request.

    Being cancelled at any await leaves nothing behind but the socket, which `close` closes.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._requests = RequestReader()

    async def next_request(self) -> HttpRequest:
        """Wait for a complete request.

        Raises:
          HungUp: There will be no more.
          BadRequest: The client sent something else.
        """
        request = self._requests.next_request()
        if request is not None:
            await (
                trio.lowlevel.checkpoint()
            )  # a client that sends requests ahead must not starve the others
            return request
        while request is None:
            if self._requests.take_continue():
                await self.send(_CONTINUE)
            await trio.lowlevel.wait_readable(self._sock)
            self._receive()
            request = self._requests.next_request()
        return request

    async def send(self, payload: bytes) -> None:
        """Hand bytes to the network, as fast as the client takes them.

        Raises:
          HungUp: The client is gone.
        """
        sent = self._send(payload)
        if sent == len(payload):
            return
        with memoryview(payload) as rest:
            while sent < len(payload):
                await trio.lowlevel.wait_writable(self._sock)
                sent += self._send(rest[sent:])

    async def pause(self, seconds: float) -> None:
        """Wait, but not for longer than the client does. What it sends meanwhile is kept.

        Raises:
          HungUp: The client closed its side. One that only half-closes, as no HTTP client does, counts as gone.
        """
        with trio.move_on_after(seconds):
            while True:
                await trio.lowlevel.wait_readable(self._sock)
                try:
                    self._receive()
                except BadRequest as error:  # in the middle of an answer there is no way to say so
                    raise HungUp from error

    def close(self, *, reset: bool = False) -> None:
        """Close the socket by FIN, or by RST; idempotent."""
        if reset:
            # A linger time of zero makes close() drop the connection instead of ending it (RFC 9293, section 3.10.5).
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def _receive(self) -> None:
        try:
            received = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            raise HungUp from error
        if not received:
            raise HungUp
        self._requests.feed(received)

    def _send(self, payload: bytes | memoryview) -> int:
        try:
            return self._sock.send(payload)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise HungUp from error
