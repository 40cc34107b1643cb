"""What stands between a client and a service: a forwarding proxy, and a front that speaks TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import trio

__all__ = ["AUTHORITY", "ForwardingProxy", "forwarding_proxy", "tls_front"]

AUTHORITY: Final = Path(__file__).with_name("transport_ca.pem")
_CERTIFICATE: Final = Path(__file__).with_name("transport_server.pem")


class ForwardingProxy:
    """A proxy that goes where it is asked to go, by CONNECT or with a whole URL.

    Attributes:
      url: Where it is.
      heads: The head of each request that it was sent.
      seen: All bytes that clients sent through it.
    """

    def __init__(self) -> None:
        self.url = ""
        self.heads: list[str] = []
        self.seen = b""

    async def serve(self, client: trio.abc.Stream) -> None:
        """Take one connection."""
        received = b""
        while b"\r\n\r\n" not in received:
            more = await client.receive_some(65536)
            if not more:
                return
            received += more
        head, _, rest = received.partition(b"\r\n\r\n")
        self.heads.append(head.decode())
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        place = urlsplit(f"//{target}" if method == "CONNECT" else target)
        assert place.hostname is not None
        assert place.port is not None
        service = await trio.open_tcp_stream(place.hostname, place.port)
        if method == "CONNECT":
            await client.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            if rest:
                await service.send_all(rest)
        else:  # good for one exchange per connection, since what follows is passed on as it is
            path = target.removeprefix(f"http://{place.netloc}")
            await service.send_all(received.replace(target.encode(), path.encode(), 1))
        await _both_ways(client, service, self._note)

    def _note(self, received: bytes) -> None:
        self.seen += received


@asynccontextmanager
async def forwarding_proxy() -> AsyncIterator[ForwardingProxy]:
    """A proxy for the time of a block."""
    proxy = ForwardingProxy()
    async with _listening(proxy.serve) as port:
        proxy.url = f"http://127.0.0.1:{port}"
        yield proxy


@asynccontextmanager
async def tls_front(port: int) -> AsyncIterator[int]:
    """Speak TLS in front of what listens on `port`, with a certificate of `AUTHORITY`; yields the port for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_CERTIFICATE)

    async def serve(client: trio.abc.Stream) -> None:
        await _both_ways(client, await trio.open_tcp_stream("127.0.0.1", port))

    async with _listening(serve, context) as front:
        yield front


async def _both_ways(
    client: trio.abc.Stream,
    service: trio.abc.Stream,
    note: Callable[[bytes], None] = lambda received: None,
) -> None:
    async def copy(
        source: trio.abc.Stream, sink: trio.abc.Stream, note: Callable[[bytes], None]
    ) -> None:
        while received := bytes(await source.receive_some(65536)):
            note(received)
            await sink.send_all(received)
        nursery.cancel_scope.cancel()

    async with service, trio.open_nursery() as nursery:
        nursery.start_soon(copy, client, service, note)
        nursery.start_soon(copy, service, client, lambda received: None)


@asynccontextmanager
async def _listening(
    serve: Callable[[trio.abc.Stream], Awaitable[None]], context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    async def unless_hung_up(stream: trio.abc.Stream) -> None:
        try:
            await serve(stream)
        except* trio.BrokenResourceError:
            pass  # one side is gone, and so the other one goes

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    outer: trio.abc.Listener[trio.abc.Stream] = listener
    if context is not None:
        outer = trio.SSLListener(listener, context, https_compatible=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, unless_hung_up, [outer]))
        yield port
        nursery.cancel_scope.cancel()
