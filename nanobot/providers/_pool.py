"""A pool of HTTP/1.1 connections that costs the same per request whether it holds ten of them or ten thousand.

httpcore's pool walks all its connections and all its waiting requests at every event, so 1,000 requests that
each take one second at once need 25 s; here a request takes the connection that was given back last, or opens
one. Nor are there objects around a request or a response: a head that does not change is encoded once, one task looks after
all deadlines, and what came with the head of a response is at hand without another await.
"""

from __future__ import annotations

import math
import os
import ssl
from base64 import b64encode
from collections import deque
from typing import Final
from urllib.parse import unquote

import trio
from msgspec import Struct

from ._address import DEFAULT_PORTS, Origin, address_from_url
from ._connection import HTTPConnection, HTTPProxy, open_connection
from ._deadlines import Deadlines
from ._dialer import Dialer
from ._exchange import NO_LIMITS, Exchange, ExchangeLimits
from ._request_head import RequestHead
from ._transport_errors import (
    ConnectionBroken,
    NotHTTP,
    TransportClosed,
    TransportError,
)
from ._trust import usual_authorities

__all__ = ["ConnectionPool", "PoolStatistics"]

_DEFAULT_IDLE_TIMEOUT_S: Final = 30.0
"""Long enough for the next turn of a conversation with tools, shorter than the 60 s after which common servers
hang up."""

_STALE_WITHIN_S: Final = 1.0
"""A server that hung up before our request reached it is heard of within one round trip. Whatever breaks later
may have been working on the request, so it is not retried here."""

_SWEEP_SLACK: Final = 0.1
"""How much longer than its time an idle connection may live, as a fraction, so that one wake-up closes many."""

_CLOSE_WITHIN_S: Final = 5.0
"""How long `aclose` waits for tasks that are connecting to notice; they need one turn of the scheduler."""

_ONE_WRITE_BYTES: Final = 64 * 1024
"""Up to here a body is copied behind its head to be sent with one system call; a larger one follows without the
copy."""


class PoolStatistics(Struct, frozen=True):
    """What a pool holds at one moment: sockets `open`, those of them `idle`, all ever `created`, requests
    `waiting`."""

    open: int
    idle: int
    created: int
    waiting: int


class ConnectionPool:
    """Connections to any number of HTTP/1.1 servers, kept and reused; the last one given back is the first one
    taken.

    Trio only, and within one Trio run. A connection goes back to the pool once its response was read to the end, and is
    closed on every other path: an error, a cancellation, `Exchange.discard` halfway. Closing takes no await, so no
    cancellation can get in its way.

    Args:
      verify: What certificates to trust: a CA file or a prepared `ssl.SSLContext`. None means `usual_authorities`.
        Verification cannot be turned off with a flag.
      proxy: URL of an HTTP proxy, `http://` or `https://`, with credentials if it wants some.
      max_connections: How many requests may be in flight, and sockets open, at once; the others wait in order of arrival.
        None means no bound: a product that runs 5,000 sessions means to.
      idle_timeout_s: After how many seconds without use a connection is closed.

    Raises:
      ValueError: An argument cannot be used; the text says which and what instead.
    """

    def __init__(
        self,
        *,
        verify: ssl.SSLContext | str | os.PathLike[str] | None = None,
        proxy: str | None = None,
        max_connections: int | None = None,
        idle_timeout_s: float = _DEFAULT_IDLE_TIMEOUT_S,
    ) -> None:
        if isinstance(verify, bool):
            raise ValueError(
                "verify takes a CA file or an ssl.SSLContext; None trusts the usual authorities"
            )
        if max_connections is not None and max_connections < 1:
            raise ValueError(
                f"max_connections must be at least 1, or None for no bound; got {max_connections}"
            )
        self._verify = verify
        self._tls: ssl.SSLContext | None = None
        self._proxy = None if proxy is None else _proxy_from_url(proxy)
        self._dialer = Dialer()
        self._max_connections = max_connections
        self._slots = None if max_connections is None else trio.Semaphore(max_connections)
        self._idle_timeout_s = idle_timeout_s
        self._free: dict[Origin, deque[HTTPConnection]] = {}  # the right end was used last
        self._idle = 0
        self._in_flight: set[Exchange] = set()
        self.deadlines = Deadlines(self._in_flight)
        self._created = 0
        self.closed = False
        self._connecting = 0
        self._none_connecting = trio.Event()
        self._sweep_scope: trio.CancelScope | None = None
        self._swept = trio.Event()

    async def exchange(
        self, head: RequestHead, body: bytes, limits: ExchangeLimits = NO_LIMITS
    ) -> Exchange:
        """Send a request and return as soon as the head of the response is there.

        Raises:
          TransportClosed: `aclose` was called.
          TransportTimeout: A limit was passed.
          TransportError: Connecting, sending or receiving failed; the class says which.

        Cancelled, it closes the connection.
        """
        if self._slots is not None:
            await self._slots.acquire()
            if self.closed:  # while we waited; the next in line is to hear of it too
                self._slots.release()
        if self.closed:
            raise TransportClosed
        exchange = Exchange(self, head.origin)
        self._in_flight.add(exchange)
        try:
            await self._exchange_heads(exchange, head, body, limits)
        except TransportError as exc:
            exchange.discard()
            if self.closed and not isinstance(exc, TransportClosed):
                raise TransportClosed from exc
            if exchange.expired:
                raise exchange.timed_out() from None
            raise
        except BaseException:
            exchange.discard()
            raise
        exchange.deadline = math.inf
        return exchange

    async def aclose(self) -> None:
        """Close every connection, also those in use: their requests fail with `TransportClosed`. Idempotent.

        When it returns, also when cancelled, no socket and no task of this transport is left.
        """
        self.closed = True
        for exchange in tuple(self._in_flight):
            exchange.discard()
        self._close_idle(before=float("inf"))
        with trio.move_on_after(_CLOSE_WITHIN_S, shield=True):
            if self._connecting:
                await self._none_connecting.wait()
            if self._sweep_scope is not None:
                self._sweep_scope.cancel()
                await self._swept.wait()
            await self.deadlines.aclose()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> PoolStatistics:
        """Count what the pool holds right now. From any thread."""
        in_use = sum(exchange.connection is not None for exchange in tuple(self._in_flight))
        waiting = 0 if self._slots is None else self._slots.statistics().tasks_waiting
        return PoolStatistics(in_use + self._idle, self._idle, self._created, waiting)

    async def _exchange_heads(
        self, exchange: Exchange, head: RequestHead, body: bytes, limits: ExchangeLimits
    ) -> None:
        connection = self._take_idle(exchange.origin)
        if connection is not None:
            exchange.connection = connection
            try:
                await self._send(exchange, connection, head, body, limits)
                return
            except (ConnectionBroken, NotHTTP):
                if not self._was_stale(exchange, connection):
                    raise
                connection.close()
                exchange.connection = None
        connection = await self._connect(exchange, limits)
        await self._send(exchange, connection, head, body, limits)

    def _was_stale(self, exchange: Exchange, connection: HTTPConnection) -> bool:
        """Whether a kept connection failed only because the server had already hung up on it.

        Servers close idle connections whenever they like, and the news can cross with our request. Then the
        request was never looked at, and sending it again is not a repetition. What we see is one of two: the
        server's FIN was under way and reading finds the end of input (`NotHTTP`), or our bytes
        reached a closed socket, which answers with RST (`ConnectionBroken`; a failed write shows up here too, as the
        read that follows it). Both also happen when a server dies at work, so the rest has to rule that out:
        not one byte of an answer came, and the failure came within a round trip and not within the time of a
        model. A connection that is new was not hung up on for being idle. Timeouts never qualify.

        Source: RFC 9112, section 9.3.1.
        """
        return (
            not connection.answered
            and not exchange.expired
            and trio.current_time() - exchange.sent_at <= _STALE_WITHIN_S
            and not self.closed
        )

    async def _connect(self, exchange: Exchange, limits: ExchangeLimits) -> HTTPConnection:
        scheme, raw_host, port = exchange.origin
        if (
            self._max_connections is not None
            and len(self._in_flight) + self._idle > self._max_connections
        ):
            self._close_oldest_idle()
        proxy = self._proxy
        tls = self._tls_context() if scheme == b"https" else None
        proxy_tls = self._tls_context() if proxy is not None and proxy.scheme == "https" else None
        exchange.phase, exchange.deadline = "connect", math.inf
        connection = None
        self._connecting += 1
        try:
            # Names are looked up and handshakes made here, by others' code: only a scope ends that.
            by = limits.until(limits.connect_s, trio.current_time())
            with trio.CancelScope(deadline=by) as exchange.scope:
                connection = await open_connection(
                    raw_host.decode("ascii"),
                    port,
                    dialer=self._dialer,
                    tls=tls,
                    proxy=proxy,
                    proxy_tls=proxy_tls,
                )
        finally:
            exchange.scope = None
            self._connecting -= 1
            if self.closed and not self._connecting:
                self._none_connecting.set()
        if self.closed:
            if connection is not None:  # `aclose` could not reach it: it was just being made
                connection.close()
            raise TransportClosed
        if connection is None:
            raise exchange.timed_out()
        self._created += 1
        exchange.connection = connection
        return connection

    async def _send(
        self,
        exchange: Exchange,
        connection: HTTPConnection,
        head: RequestHead,
        body: bytes,
        limits: ExchangeLimits,
    ) -> None:
        now = exchange.sent_at = trio.current_time()
        encoded = head.encoded(body, connection.forward_headers)
        if len(body) <= _ONE_WRITE_BYTES:  # which takes no time
            exchange.enter("read", limits.until(limits.read_s, now))
            await connection.send(encoded + body)
        else:
            exchange.enter("write", limits.until(limits.write_s, now))
            await connection.send(encoded)
            await connection.send(body)
            exchange.enter("read", limits.until(limits.read_s, trio.current_time()))
        exchange.head = await connection.receive_head(bodyless=head.bodyless)

    def take_back(self, exchange: Exchange, connection: HTTPConnection | None) -> None:
        """Forget an exchange; keep its connection if one is handed over."""
        self._in_flight.discard(exchange)
        if not self._in_flight:
            self.deadlines.rest()
        if connection is not None:
            connection.expires_at = trio.current_time() + self._idle_timeout_s
            free = self._free.get(exchange.origin)
            if free is None:
                free = self._free[exchange.origin] = deque()
            free.append(connection)
            self._idle += 1
            if self._sweep_scope is None:
                self._sweep_scope = trio.CancelScope()
                self._swept = trio.Event()
                trio.lowlevel.spawn_system_task(
                    self._sweep, self._sweep_scope, name="idle connection sweep"
                )
        if self._slots is not None:
            self._slots.release()

    def _tls_context(self) -> ssl.SSLContext:
        # Made on first use: loading the authorities takes 20 ms that a local model never needs.
        if self._tls is None:
            if isinstance(self._verify, ssl.SSLContext):
                self._tls = self._verify
            else:
                if self._verify is None:
                    self._tls = usual_authorities()
                else:
                    self._tls = ssl.create_default_context(cafile=os.fspath(self._verify))
                self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def _take_idle(self, origin: Origin) -> HTTPConnection | None:
        free = self._free.get(origin)
        if free is None:
            return None
        now = trio.current_time()
        connection = None
        while free:
            candidate = free.pop()
            self._idle -= 1
            if candidate.expires_at > now and candidate.is_quiet():
                connection = candidate
                break
            candidate.close()
        if not free:
            del self._free[origin]
        return connection

    def _close_idle(self, *, before: float) -> None:
        for origin, free in tuple(self._free.items()):
            while free and free[0].expires_at <= before:
                free.popleft().close()
                self._idle -= 1
            if not free:
                del self._free[origin]

    def _close_oldest_idle(self) -> None:
        if self._free:
            self._close_idle(before=min(free[0].expires_at for free in self._free.values()))

    async def _sweep(self, scope: trio.CancelScope) -> None:
        """Close idle connections whose time is up, for as long as there are any.

        The task belongs to the transport (`aclose` ends it), and Trio ends it with the run. It holds nothing
        that needs an await to let go.
        """
        try:
            with scope:
                while self._free:
                    oldest = min(free[0].expires_at for free in self._free.values())
                    await trio.sleep_until(oldest + self._idle_timeout_s * _SWEEP_SLACK)
                    self._close_idle(before=trio.current_time())
        finally:
            self._close_idle(before=float("inf"))  # some are left if the run ends without `aclose`
            self._sweep_scope = None
            self._swept.set()


def _proxy_from_url(proxy: str) -> HTTPProxy:
    scheme, separator, _ = proxy.partition("://")
    if separator and scheme.lower() not in DEFAULT_PORTS:
        raise ValueError(
            f"proxy must be an http:// or https:// URL; {scheme}:// proxies are not supported"
        )
    try:
        address = address_from_url(proxy)
    except ValueError:
        raise ValueError("proxy is not a URL such as http://proxy.example:3128") from None
    headers = []
    if address.userinfo:
        user, _, password = address.userinfo.partition(":")
        credentials = f"{unquote(user)}:{unquote(password)}".encode()
        headers.append((b"Proxy-Authorization", b"Basic " + b64encode(credentials)))
    _, host, port = address.origin
    return HTTPProxy(address.scheme, host.decode("ascii"), port, tuple(headers))
