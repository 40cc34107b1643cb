"""TCP connections to the hosts of services: by address, or by name."""

from __future__ import annotations

import contextlib
import os
import socket
from functools import lru_cache
from typing import Any, Final, NamedTuple

import trio

__all__ = ["Dialer"]

_REMEMBERED_S: Final = 5.0
"""How long the address that answered stands for its name: long enough for a burst of connections, and much shorter than what
services that move give their names in DNS."""

_PATIENCE_S: Final = 2.0
"""How long a connection to that address may take, or somebody else's way to it, before a name is looked up again."""


class _Place(NamedTuple):
    family: int
    address: Any
    """As sockets of this family take it."""


class Dialer:
    """Opens connections. An address is gone to directly.

    A name is looked up in a thread, and Trio races its addresses (RFC 8305), with a nursery and four cancel scopes. Where
    hundreds of sessions begin at once with one service, one of them goes that way; the others wait, and then go to the
    address that answered. If it does not answer them, they go the long way, too.

    Lives in one Trio run.
    """

    def __init__(self) -> None:
        self._answered: dict[tuple[str, int], tuple[_Place, float]] = {}
        self._ahead: dict[tuple[str, int], trio.Event] = {}  # of whoever looks a name up just now

    async def open(self, host: str, port: int) -> socket.socket:
        """Connect; gives a non-blocking socket. The caller bounds the time. Cancelled or failed, it leaves none behind.

        Raises:
          OSError: The name does not resolve, or nobody listens; perhaps a group of them as its cause.
        """
        place = _address(host, port)
        if place is not None:
            return await _connected(place)
        if (ahead := self._ahead.get((host, port))) is not None:
            with trio.move_on_after(_PATIENCE_S):
                await ahead.wait()
        place, until = self._answered.get((host, port), (None, 0.0))
        if place is not None and trio.current_time() < until:
            with trio.move_on_after(_PATIENCE_S), contextlib.suppress(OSError):
                return await _connected(place)
            self._answered.pop((host, port), None)
        return await self._by_name(host, port)

    async def _by_name(self, host: str, port: int) -> socket.socket:
        told = trio.Event()
        ahead = self._ahead.setdefault((host, port), told)
        try:
            stream = await trio.open_tcp_stream(host, port)
            sock = socket.socket(fileno=stream.socket.detach())
            with contextlib.suppress(OSError):  # it may be broken already
                place = _Place(sock.family, sock.getpeername())
                self._answered[host, port] = place, trio.current_time() + _REMEMBERED_S
        finally:
            if ahead is told:
                del self._ahead[host, port]
                told.set()
        sock.setblocking(False)
        return sock


@lru_cache(maxsize=1_000)
def _address(host: str, port: int) -> _Place | None:
    """Where a host is whose name is an address; None for any other name, which this does not look up."""
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=numeric)
    except (OSError, ValueError):
        return None
    family, _, _, _, address = found[0]
    return _Place(family, address)


async def _connected(place: _Place) -> socket.socket:
    sock = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):  # which says that it is under way
            sock.connect(place.address)
            return sock
        # A server on this machine has accepted by now; of others there is no peer yet, which is an error.
        with contextlib.suppress(OSError):
            sock.getpeername()
            return sock
        await trio.lowlevel.wait_writable(sock)
        if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(number, os.strerror(number))
    except BaseException:
        sock.close()
        raise
    return sock
