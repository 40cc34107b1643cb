"""What comes back from the web, and how names are found there."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from msgspec import Struct

from ._threads import in_tool_thread

__all__ = ["Fetched", "Resolve", "resolve"]

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""Finds the addresses of a host, as text. Raises `OSError`."""


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system, in a thread. A cancelled look-up is left alone in it until the system gives up."""
    found = await in_tool_thread(
        lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    )
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Fetched(Struct, frozen=True):
    """A response.

    Attributes:
      url: Where it came from in the end.
      status: The HTTP status.
      headers: Names in lower case; of several equal ones, the first.
      body: Unpacked, at most as much as was asked for.
      is_cut: Whether there was more.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    is_cut: bool

    @property
    def media_type(self) -> str:
        """As in `text/html`, in lower case; "" if the server did not say."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def text(self) -> str:
        """The body as text, in the encoding that the server names, or else UTF-8."""
        parameters = self.headers.get("content-type", "").split(";")[1:]
        names = [
            p.partition("=")[2] for p in parameters if p.strip().lower().startswith("charset=")
        ]
        try:
            return self.body.decode(names[0].strip("\"' ") if names else "utf-8", "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")
