"""One socket that speaks HTTP/1.1 as a client.

Closing is synchronous, so that a cancelled task can close its connection on the way out without another await. Trio only.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from typing import Final

import trio
from msgspec import Struct

from ._dialer import Dialer
from ._http1 import RequestError, ResponseHead, ResponseReader, encode_head
from ._transport_errors import ConnectionBroken, NotConnected, NotHTTP, ProxyRefused
from ._wire import PlainWire, TLSWire, Wire

__all__ = ["HTTPConnection", "HTTPProxy", "open_connection"]

_READ_BYTES: Final = 64 * 1024
_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
        if hasattr(socket, name)
    ),
)
"""What we write goes at once. A reasoning model is silent for minutes: probes keep address translators from forgetting the
connection, and tell us within two minutes of a peer that is gone."""


class HTTPProxy(Struct, frozen=True):
    """An HTTP proxy: where it is, whether it wants TLS, and what it must be told with each request
    (credentials)."""

    scheme: str
    host: str
    port: int
    headers: tuple[tuple[bytes, bytes], ...] = ()


class HTTPConnection:
    """One socket and the state of the exchange on it; one exchange at a time.

    An exchange is `send`, `receive_head`, then `receive_body` until `complete`. Only then may
    `start_next_exchange` try to make the connection ready for another. After any error or cancellation the only
    thing left to do is `close`. The caller bounds the time.

    Attributes:
      answered: Whether any byte of the current response has arrived.
      expires_at: Trio time after which an idle connection is not used again; its owner's business.
      forward_headers: Set when requests go to a proxy that forwards them: what to tell it with each.
    """

    __slots__ = (
        "_reader",
        "_wire",
        "_write_failed",
        "answered",
        "expires_at",
        "forward_headers",
    )

    def __init__(
        self, wire: Wire, *, forward_headers: tuple[tuple[bytes, bytes], ...] | None = None
    ) -> None:
        self._wire = wire
        self._reader = ResponseReader()
        self._write_failed = False
        self.answered = False
        self.expires_at = 0.0
        self.forward_headers = forward_headers

    @property
    def complete(self) -> bool:
        """Whether the current response was read to its end."""
        return self._reader.complete

    async def send(self, data: bytes) -> None:
        """Send a part of the request.

        A write that the server refuses is not an error yet: servers close early when they have already answered
        (413, 401), and that answer is worth reading.
        """
        if self._write_failed:
            return
        try:
            await self._wire.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._write_failed = True

    async def receive_head(self, *, bodyless: bool = False) -> ResponseHead:
        """Wait for the status line and headers, skipping interim responses; see `ResponseReader.receive_head`.

        Raises:
          ConnectionBroken: The connection broke.
          NotHTTP: The server hung up without an answer, or what it sent is not HTTP.
        """
        while True:
            received = await self._receive()
            if not received:
                raise NotHTTP(
                    "the server closed the connection before the end of its response"
                    if self.answered
                    else "the server hung up without answering"
                )
            self.answered = True
            head = self._reader.receive_head(received, bodyless=bodyless)
            if head is not None:
                return head

    def body_at_hand(self) -> bytes:
        """Return what of the body has come already; b"" if nothing has. Call it once, after `receive_head`.

        Raises:
          NotHTTP: What the server sent is not HTTP.
        """
        return self._reader.receive_body()

    async def receive_body(self) -> bytes:
        """Return what one network read, perhaps the second or third, brought of the body; b"" if it is `complete`.

        Raises:
          ConnectionBroken: The connection broke.
          NotHTTP: The server hung up halfway, or what it sent is not HTTP.
        """
        reader = self._reader
        while not reader.complete:
            received = await self._receive()
            if not received:
                reader.receive_end()
            elif body := reader.receive_body(received):
                return body
        return b""

    def start_next_exchange(self) -> bool:
        """Make ready for another request; False if this connection cannot carry one.

        Bytes beyond the end of the response would be taken for the beginning of the next one, so they
        disqualify too.
        """
        if self._write_failed or not self._reader.reusable:
            return False
        self._reader = ResponseReader()
        self.answered = False
        return True

    def is_quiet(self) -> bool:
        """Whether an idle connection is still usable as far as the socket knows.

        A readable idle socket means that the server hung up, or that it sends what nobody asked for.
        """
        return self._wire.is_quiet()

    def close(self) -> None:
        """Close the socket now. Idempotent; wakes a task that is reading or writing."""
        self._wire.close()

    async def _receive(self) -> bytes:
        try:
            return await self._wire.receive()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise ConnectionBroken(_reason(exc)) from exc


async def open_connection(
    host: str,
    port: int,
    *,
    dialer: Dialer,
    tls: ssl.SSLContext | None,
    proxy: HTTPProxy | None,
    proxy_tls: ssl.SSLContext | None,
) -> HTTPConnection:
    """Connect to `host`, through `proxy` if there is one, and speak TLS with `host` if a context is given.

    `dialer` opens the socket. The caller bounds the time. Cancelled or failed, it leaves no socket behind.

    Raises:
      NotConnected: The name does not resolve, nobody listens, or the certificate is not trusted.
      ProxyRefused: The proxy refuses to connect us.
    """
    if proxy is None:
        sock = await _open_tcp(dialer, host, port)
        if tls is None:
            return HTTPConnection(PlainWire(sock))
    else:
        sock = await _open_tcp(dialer, proxy.host, proxy.port)
        if proxy_tls is None and tls is None:
            return HTTPConnection(PlainWire(sock), forward_headers=proxy.headers)
    first = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    stream: trio.abc.Stream = first
    forward_headers = None
    try:
        if proxy is not None:
            if proxy_tls is not None:
                stream = await _start_tls(stream, proxy_tls, proxy.host)
            if tls is None:
                forward_headers = proxy.headers
            else:
                await _open_tunnel(stream, host, port, proxy.headers)
        if tls is not None:
            stream = await _start_tls(stream, tls, host)
    except BaseException:
        first.socket.close()
        raise
    return HTTPConnection(TLSWire(stream, first.socket), forward_headers=forward_headers)


async def _open_tcp(dialer: Dialer, host: str, port: int) -> socket.socket:
    try:
        sock = await dialer.open(host, port)
    except OSError as exc:
        raise NotConnected(f"cannot connect to {host} port {port}: {_reason(exc)}") from exc
    # A platform without one of the options still has a working connection.
    with contextlib.suppress(OSError):
        for level, option, value in _OPTIONS:
            sock.setsockopt(level, option, value)
    return sock


async def _start_tls(
    stream: trio.abc.Stream, context: ssl.SSLContext, host: str
) -> trio.abc.Stream:
    tls_stream = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    try:
        await tls_stream.do_handshake()
    except (trio.BrokenResourceError, ssl.CertificateError) as exc:
        raise NotConnected(f"no secure connection to {host}: {_reason(exc)}") from exc
    return tls_stream


async def _open_tunnel(
    stream: trio.abc.Stream, host: str, port: int, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    # Source: RFC 9110, section 9.3.6: any 2xx turns the connection into a tunnel right after the header section.
    target = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()
    reader = ResponseReader()
    head = None
    try:
        await stream.send_all(
            encode_head(b"CONNECT", target, [(b"host", target), *headers]) + b"\r\n"
        )
        while head is None:
            received = bytes(await stream.receive_some(_READ_BYTES))
            if not received:
                raise NotHTTP("it hung up instead of connecting us")
            head = reader.receive_head(received)
    except (trio.BrokenResourceError, NotHTTP, RequestError) as exc:
        raise ProxyRefused(f"the proxy did not answer as a proxy: {_reason(exc)}") from exc
    if not 200 <= head.status <= 299:
        raise ProxyRefused(
            f"the proxy refused to connect us to {host}: {head.status} {head.reason}"
        )
    if reader.has_more:  # the server does not speak first in TLS, so somebody else did
        raise ProxyRefused("the proxy sent bytes of its own into the tunnel")


def _reason(exc: BaseException) -> str:
    """What actually went wrong: Trio wraps it, sometimes several times, and groups the attempts of one connect."""
    while True:
        if isinstance(exc, ssl.SSLCertVerificationError):
            return f"certificate not trusted ({exc.verify_message})"
        if isinstance(exc, BaseExceptionGroup):
            exc = exc.exceptions[0]
        elif exc.__cause__ is not None:
            exc = exc.__cause__
        else:
            break
    if isinstance(exc, OSError) and exc.strerror:
        # Trio's own text repeats the address. Negative numbers are those of name resolution, which explain themselves.
        number = exc.errno or 0
        return os.strerror(number) if number > 0 else exc.strerror
    return str(exc) or type(exc).__name__
