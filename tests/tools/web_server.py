"""A web server on loopback that answers each request with the bytes it is given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from nanobot.tools._network import Network

LOOPBACK = ["127.0.0.0/8"]


class Request:
    """What a client sent: the first line's method and target, the headers, the body."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ")
        self.headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        self.body = body


class WebServer:
    """Requests in the order they came, and where the server is."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.port = 0

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


Answer = Callable[[Request], "bytes | Awaitable[bytes]"]


def response(
    body: bytes | str = "", status: str = "200 OK", *headers: str, kind: str = "text/html"
) -> bytes:
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + content


def redirect(location: str) -> bytes:
    return response("", "302 Found", f"Location: {location}")


@asynccontextmanager
async def web_server(answer: Answer) -> AsyncIterator[WebServer]:
    server = WebServer()

    async def serve(stream: trio.SocketStream) -> None:
        received = b""
        try:
            while b"\r\n\r\n" not in received:
                received += (piece := bytes(await stream.receive_some()))
                if not piece:
                    return
            head, _, body = received.partition(b"\r\n\r\n")
            request = Request(head, b"")
            while len(body) < int(request.headers.get("content-length", 0)):
                body += bytes(await stream.receive_some())
            request.body = body
            server.requests.append(request)
            answered = answer(request)
            await stream.send_all(answered if isinstance(answered, bytes) else await answered)
        except trio.BrokenResourceError:  # the client had enough
            pass
        finally:
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server.port = listener.socket.getsockname()[1]
        await nursery.start(trio.serve_listeners, serve, [listener])
        yield server
        nursery.cancel_scope.cancel()


def names(**addresses: list[str]) -> Callable[[str, int], Awaitable[list[str]]]:
    """A resolver that knows some names, and numbers; `_` stands for a dot."""
    known = {name.replace("_", "."): found for name, found in addresses.items()}

    async def resolve(host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        if host in known:
            return known[host]
        if host[:1].isdigit() or ":" in host:
            return [host]
        raise OSError(f"no such name: {host}")

    return resolve


def loopback_network(**options: object) -> Network:
    return Network(allowed=LOOPBACK, **options)  # type: ignore[arg-type]  # passed on as they are
