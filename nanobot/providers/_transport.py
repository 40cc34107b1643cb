"""An httpx transport whose connection pool costs the same per request whether it holds ten connections or ten
thousand.

httpcore's pool walks all its connections and all its waiting requests at every event, so 1,000 requests that
each take one second at once need 25 s; here a request takes the connection that was given back last, or opens
one.
"""

from __future__ import annotations

import os
import ssl
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final, TypeAlias

import h11
import httpx
import trio
from msgspec import Struct

from ._connection import HTTPConnection, HTTPProxy, open_connection

__all__ = ["PoolStatistics", "PoolTransport", "PooledStream", "TransportClosed"]

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

_DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}

_Origin: TypeAlias = tuple[bytes, bytes, int]


class TransportClosed(httpx.TransportError):
    """The transport was closed before this request, or while it was in flight; make a new one."""

    def __init__(self) -> None:
        super().__init__("the transport is closed; make a new PoolTransport")


class PoolStatistics(Struct, frozen=True):
    """What a pool holds at one moment: sockets `open`, those of them `idle`, all ever `created`, requests
    `waiting`."""

    open: int
    idle: int
    created: int
    waiting: int


class PoolTransport(httpx.AsyncBaseTransport):
    """Connections to any number of HTTP/1.1 servers, kept and reused; the last one given back is the first one
    taken.

    Use it under `httpx.AsyncClient(transport=...)` or call `handle_async_request` directly. Trio only, and
    within one Trio run. It honours the `timeout` extension of a request (`connect`, `read`, `write`, `pool`, in
    seconds or None).

    A connection goes back to the pool once its response was read to the end, and is closed on every other path:
    an error, a cancellation, `Response.aclose()` halfway. Closing takes no await, so no cancellation can get in
    its way.

    Args:
      verify: What certificates to trust: a CA file or a prepared `ssl.SSLContext`. None means what httpx trusts, which
        includes the variable `SSL_CERT_FILE`. Verification cannot be turned off with a flag.
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
        self._max_connections = max_connections
        self._slots = None if max_connections is None else trio.Semaphore(max_connections)
        self._idle_timeout_s = idle_timeout_s
        self._free: dict[_Origin, deque[HTTPConnection]] = {}  # the right end was used last
        self._idle = 0
        self._in_flight: set[PooledStream] = set()
        self._created = 0
        self._closed = False
        self._connecting = 0
        self._none_connecting = trio.Event()
        self._sweep_scope: trio.CancelScope | None = None
        self._swept = trio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and return as soon as the head of the response is there.

        The response's `extensions["sent_at"]` is the Trio time at which its connection was there and sending began.

        Raises:
          TransportClosed: `aclose` was called.
          httpx.TransportError: Connecting, sending or receiving failed; the class says which.
          httpx.UnsupportedProtocol: The URL is neither http nor https.
        """
        url = request.url
        scheme = url.raw_scheme
        if scheme not in _DEFAULT_PORTS or not url.raw_host:
            raise httpx.UnsupportedProtocol(
                f"only http:// and https:// URLs can be requested, not {str(url)[:200]!r}"
            )
        timeouts: dict[str, float | None] = request.extensions.get("timeout") or {}
        if self._slots is not None:
            await self._wait_for_slot(self._slots, timeouts.get("pool"))
        elif self._closed:
            raise TransportClosed
        exchange = PooledStream(
            self, (scheme, url.raw_host, url.port or _DEFAULT_PORTS[scheme]), timeouts
        )
        self._in_flight.add(exchange)
        try:
            head = await self._exchange_heads(request, exchange)
        except httpx.TransportError as exc:
            exchange.discard()
            if self._closed:
                raise TransportClosed from exc
            raise
        except BaseException:
            exchange.discard()
            raise
        return httpx.Response(
            head.status_code,
            headers=head.headers.raw_items(),
            stream=exchange,
            extensions={
                "http_version": b"HTTP/" + head.http_version,
                "reason_phrase": bytes(head.reason),
                "sent_at": exchange.sent_at,
            },
        )

    async def aclose(self) -> None:
        """Close every connection, also those in use: their requests fail with `TransportClosed`. Idempotent.

        When it returns, also when cancelled, no socket and no task of this transport is left.
        """
        self._closed = True
        for exchange in tuple(self._in_flight):
            exchange.discard()
        self._close_idle(before=float("inf"))
        with trio.move_on_after(_CLOSE_WITHIN_S, shield=True):
            if self._connecting:
                await self._none_connecting.wait()
            if self._sweep_scope is not None:
                self._sweep_scope.cancel()
                await self._swept.wait()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> PoolStatistics:
        """Count what the pool holds right now. From any thread."""
        in_use = sum(exchange.connection is not None for exchange in tuple(self._in_flight))
        waiting = 0 if self._slots is None else self._slots.statistics().tasks_waiting
        return PoolStatistics(in_use + self._idle, self._idle, self._created, waiting)

    async def _exchange_heads(self, request: httpx.Request, exchange: PooledStream) -> h11.Response:
        connection = self._take_idle(exchange.origin)
        if connection is not None:
            exchange.connection = connection
            try:
                return await self._send(request, exchange, connection)
            except (httpx.ReadError, httpx.RemoteProtocolError):
                if not self._was_stale(request, exchange, connection):
                    raise
                connection.close()
                exchange.connection = None
        connection = await self._connect(exchange)
        return await self._send(request, exchange, connection)

    def _was_stale(
        self, request: httpx.Request, exchange: PooledStream, connection: HTTPConnection
    ) -> bool:
        """Whether a kept connection failed only because the server had already hung up on it.

        Servers close idle connections whenever they like, and the news can cross with our request. Then the
        request was never looked at, and sending it again is not a repetition. What we see is one of two: the
        server's FIN was under way and reading finds the end of input (`RemoteProtocolError`), or our bytes
        reached a closed socket, which answers with RST (`ReadError`; a failed write shows up here too, as the
        read that follows it). Both also happen when a server dies at work, so the rest has to rule that out:
        not one byte of an answer came, and the failure came within a round trip and not within the time of a
        model. A connection that is new was not hung up on for being idle, and a body that can be read only once
        cannot be sent twice. Timeouts never qualify.

        Source: RFC 9112, section 9.3.1.
        """
        return (
            not connection.answered
            and isinstance(request.stream, httpx.ByteStream)
            and trio.current_time() - exchange.sent_at <= _STALE_WITHIN_S
            and not self._closed
        )

    async def _connect(self, exchange: PooledStream) -> HTTPConnection:
        scheme, raw_host, port = exchange.origin
        if (
            self._max_connections is not None
            and len(self._in_flight) + self._idle > self._max_connections
        ):
            self._close_oldest_idle()
        proxy = self._proxy
        tls = self._tls_context() if scheme == b"https" else None
        proxy_tls = self._tls_context() if proxy is not None and proxy.scheme == "https" else None
        limit_s = exchange.timeouts.get("connect")
        deadline = float("inf") if limit_s is None else trio.current_time() + limit_s
        connection: HTTPConnection | None = None
        self._connecting += 1
        try:
            with trio.CancelScope(deadline=deadline) as scope:
                exchange.connecting = scope
                connection = await open_connection(
                    raw_host.decode("ascii"), port, tls=tls, proxy=proxy, proxy_tls=proxy_tls
                )
        finally:
            exchange.connecting = None
            self._connecting -= 1
            if self._closed and not self._connecting:
                self._none_connecting.set()
        if self._closed:  # `aclose` could not reach a connection that was just being made
            if connection is not None:
                connection.close()
            raise TransportClosed
        if connection is None:
            raise httpx.ConnectTimeout(
                f"no connection to {raw_host.decode('ascii')} within {limit_s:g} s"
            )
        self._created += 1
        exchange.connection = connection
        return connection

    async def _send(
        self, request: httpx.Request, exchange: PooledStream, connection: HTTPConnection
    ) -> h11.Response:
        target = request.url.raw_path
        headers = request.headers.raw
        if connection.forward_headers is not None:
            scheme, _, _ = exchange.origin
            target = b"%b://%b%b" % (scheme, request.url.netloc, target)
            headers = [*headers, *connection.forward_headers]
        stream = request.stream
        body: bytes | AsyncIterable[bytes]
        if isinstance(stream, httpx.ByteStream):
            body = b"".join(stream)
        else:
            assert isinstance(stream, httpx.AsyncByteStream)
            body = stream
        try:
            head = h11.Request(
                method=request.method.encode("ascii"), target=target, headers=headers
            )
        except h11.LocalProtocolError as exc:
            raise httpx.LocalProtocolError(str(exc)) from exc
        exchange.sent_at = trio.current_time()
        await connection.send(head, body, exchange.timeouts.get("write"))
        return await connection.receive_head(exchange.timeouts.get("read"))

    def _ended(self, exchange: PooledStream, connection: HTTPConnection | None) -> None:
        """Forget an exchange; keep its connection if one is handed over."""
        self._in_flight.discard(exchange)
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

    async def _wait_for_slot(self, slots: trio.Semaphore, limit_s: float | None) -> None:
        if self._closed:
            raise TransportClosed
        if limit_s is None:
            await slots.acquire()
        else:
            with trio.move_on_after(limit_s) as scope:
                await slots.acquire()
            if scope.cancelled_caught:
                raise httpx.PoolTimeout(
                    f"all {self._max_connections} connections stayed in use for {limit_s:g} s"
                )
        if self._closed:  # while we waited; the next in line is to hear of it too
            slots.release()
            raise TransportClosed

    def _tls_context(self) -> ssl.SSLContext:
        # Made on first use: loading the authorities takes 20 ms that a local model never needs.
        if self._tls is None:
            if isinstance(self._verify, ssl.SSLContext):
                self._tls = self._verify
            else:
                if self._verify is None:
                    self._tls = httpx.create_ssl_context()
                else:
                    self._tls = ssl.create_default_context(cafile=os.fspath(self._verify))
                self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def _take_idle(self, origin: _Origin) -> HTTPConnection | None:
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


class PooledStream(httpx.AsyncByteStream):
    """One request on its connection, then the body of its response; each item is what one network read brought.

    Ends exactly once: at the end of the body the connection goes back to the pool; `aclose`, an error or a
    cancellation before that closes it.
    """

    __slots__ = (
        "_ended",
        "_pool",
        "complete",
        "connecting",
        "connection",
        "origin",
        "sent_at",
        "timeouts",
    )

    def __init__(
        self, pool: PoolTransport, origin: _Origin, timeouts: dict[str, float | None]
    ) -> None:
        self._pool = pool
        self._ended = False
        self.complete = False
        self.origin = origin
        self.timeouts = timeouts
        self.connection: HTTPConnection | None = None
        self.connecting: trio.CancelScope | None = None
        self.sent_at = 0.0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self  # a class and not an async generator: nothing is left suspended when a reader stops early

    async def __anext__(self) -> bytes:
        connection = self.connection
        if connection is None:
            if self.complete:
                raise StopAsyncIteration
            if self._pool._closed:
                raise TransportClosed
            raise httpx.ReadError("the response was closed before its end")
        try:
            received = await connection.receive_body(self.timeouts.get("read"))
        except httpx.TransportError as exc:
            self.discard()
            if self._pool._closed:
                raise TransportClosed from exc
            raise
        except BaseException:
            self.discard()
            raise
        if connection.complete:
            self.complete = True
            self._give_back(connection)
        if not received:
            raise StopAsyncIteration
        return received

    async def aclose(self) -> None:
        """Let go of the connection: closed, unless the body was read to its end. Idempotent, never waits."""
        self.discard()

    def discard(self) -> None:
        """Close the connection, or stop connecting."""
        if self._ended:
            return
        self._ended = True
        if self.connecting is not None:
            self.connecting.cancel()
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        self._pool._ended(self, None)

    def _give_back(self, connection: HTTPConnection) -> None:
        if self._ended:
            return
        if self._pool._closed or not connection.start_next_exchange():
            self.discard()
            return
        self._ended = True
        self.connection = None
        self._pool._ended(self, connection)


def _proxy_from_url(proxy: str) -> HTTPProxy:
    try:
        parsed = httpx.Proxy(proxy)
    except (ValueError, httpx.InvalidURL) as exc:
        raise ValueError(
            "proxy is not a URL such as http://proxy.example:3128"
        ) from exc  # it may hold a password
    url = parsed.url
    if "%" in url.host or not 0 < (url.port or 1) < 65536:  # httpx escapes what no host name holds
        raise ValueError("proxy has no usable host and port")
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(
            f"proxy must be an http:// or https:// URL; {url.scheme}:// proxies are not supported"
        )
    headers = []
    if parsed.raw_auth is not None:
        credentials = httpx.BasicAuth(*parsed.raw_auth)
        request = next(credentials.auth_flow(httpx.Request("GET", url)))
        headers.append((b"Proxy-Authorization", request.headers["Authorization"].encode("ascii")))
    port = url.port or _DEFAULT_PORTS[url.raw_scheme]
    return HTTPProxy(url.scheme, url.raw_host.decode("ascii"), port, tuple(headers))
